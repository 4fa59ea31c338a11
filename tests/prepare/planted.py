"""Real chest X-rays (phantoms where they are absent), and the copies of them that near-duplicates are planted with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from medsweep import params
from medsweep.sources.phantom import PhantomSource

XRAYS = Path(__file__).parents[2].parent / "shared" / "data" / "cxr_kermany_224"
Pixels = np.ndarray[Any, np.dtype[np.uint8]]


def originals(n: int) -> list[Pixels]:
    """n different grey images, of both classes in turn."""
    if XRAYS.is_dir():
        folders = [sorted((XRAYS / "train" / name).iterdir()) for name in ("NORMAL", "PNEUMONIA")]
        # The first of each patient, and never the same file: both lists are sorted by patient.
        paths = [folders[index % 2][9 * (index // 2)] for index in range(n)]
        return [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in paths]  # type: ignore[misc]
    source = PhantomSource(
        params.Source.model_validate({"kind": "phantom", "path": "", "size": 160, "patients": n + n % 2}), Path()
    )
    return [source.read(record).pixels for record in list(source.records())[: 2 * n : 2]]


def resized(image: Pixels, rng: np.random.Generator) -> Pixels:
    factor = rng.uniform(0.5, 2.0)
    kind = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, None, fx=factor, fy=factor, interpolation=kind), dtype=np.uint8)


def compressed(image: Pixels, rng: np.random.Generator) -> Pixels:
    _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(60, 96))])
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE), dtype=np.uint8)


def cropped(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Without 3 % of the rows and of the columns, from anywhere."""
    rows, columns = (round(0.03 * side) for side in image.shape)
    top, left = rng.integers(0, rows + 1), rng.integers(0, columns + 1)
    return np.ascontiguousarray(image[top : image.shape[0] - rows + top, left : image.shape[1] - columns + left])


def margins_cut(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Without 3 % at every side."""
    rows, columns = (round(0.03 * side) for side in image.shape)
    return np.ascontiguousarray(image[rows:-rows, columns:-columns])


def mirrored(image: Pixels, rng: np.random.Generator) -> Pixels:
    return np.ascontiguousarray([image[:, ::-1], image[::-1], image[::-1, ::-1]][rng.integers(3)])


def brighter_or_darker(image: Pixels, rng: np.random.Generator) -> Pixels:
    factor = 1.1 if rng.random() < 0.5 else 0.9
    return np.clip(np.rint(image * factor), 0, 255).astype(np.uint8)


def everything(image: Pixels, rng: np.random.Generator) -> Pixels:
    for change in (cropped, brighter_or_darker, mirrored, resized, compressed):
        image = change(image, rng)
    return image


CHANGES: dict[str, Callable[[Pixels, np.random.Generator], Pixels]] = {
    "resized": resized,
    "compressed": compressed,
    "cropped": cropped,
    "margins cut": margins_cut,
    "mirrored": mirrored,
    "brighter or darker": brighter_or_darker,
    "everything": everything,
}
