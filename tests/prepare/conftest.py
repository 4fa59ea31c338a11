"""Small projects and tables that the tests of prepare share."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from rich.console import Console

from medsweep import params
from medsweep.layout import Layout
from medsweep.prepare.identity import named
from medsweep.prepare.table import NO_SPLIT, ImageTable

ROOT = Path(__file__).parents[2]


def digest(value, length: int) -> bytes:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:length].encode()


@pytest.fixture
def make_table():
    """Makes a named table from a list of (content, label, patient, split)."""

    def make(images, *, constant=None, columns=None):
        n = len(images)
        labels = [label for _, label, _, _ in images]
        several = isinstance(labels[0], tuple)
        # Every picture is another one, but for those with the same pixels.
        hashes = np.array([list(hashlib.sha256(str(c).split("/")[0].encode()).digest()[:16]) for c, *_ in images])
        return named(
            ImageTable(
                rows=np.arange(n),
                contents=np.array([digest(content, 64) for content, *_ in images], dtype="S64"),
                pixels=np.array([digest(str(content).split("/")[0], 32) for content, *_ in images], dtype="S32"),
                labels=np.array(labels, dtype=np.uint8 if several else np.int64),
                patients=np.array([b"" if p is None else digest(p, 32) for _, _, p, _ in images], dtype="S32"),
                splits=np.array(
                    [NO_SPLIT if s is None else ("train", "val", "test").index(s) for *_, s in images], dtype=np.int8
                ),
                sizes=np.full((n, 2), 16, dtype=np.int32),
                sums=np.zeros((n, 1), dtype=np.int64),
                squares=np.zeros((n, 1), dtype=np.int64),
                constant=np.zeros(n, dtype=bool) if constant is None else np.array(constant),
                hashes=np.repeat(hashes.astype(np.uint8).view(np.uint64)[:, None], 7, axis=1),
                traits=np.zeros((n, 11), dtype=np.float32),
                columns=columns or {},
            )
        )

    return make


class Project:
    """A project folder whose source is made by a test."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.layout = Layout(root, root)
        self.output = io.StringIO()
        self.console = Console(file=self.output, width=200)
        self.raw = params.load_yaml(ROOT / "params.yaml")
        self.raw["runtime"]["workers"] = 1
        self.raw["prepare"]["image"] = {"height": 16, "width": 16, "channels": 1, "fit": "pad"}
        self.raw["prepare"]["source"] = {"kind": "folder", "path": "data/raw"}
        self.raw["prepare"]["checks"]["min_images_per_class"] = 1
        self.raw["prepare"]["split"] = {"val": 0.2, "test": 0.2, "seed": 7}

    @property
    def prepare(self):
        return self.raw["prepare"]

    @property
    def params(self):
        return params.parse(self.raw, where="params.yaml")

    def image(self, name: str, seed: int | None, *, size=(20, 24)) -> Path:
        """A PNG of noise below data/raw; the same seed gives the same bytes, None a constant image."""
        path = self.root / "data" / "raw" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, size).astype(np.uint8)
        cv2.imwrite(str(path), np.full(size, 90, np.uint8) if seed is None else pixels)
        return path

    def classes(self, n: int = 15, *, below: str = "", seed: int = 0) -> None:
        """n noise images of each of two classes."""
        for index in range(2 * n):
            name = ("benign", "malignant")[index % 2]
            self.image(f"{below}{name}/secret-{seed}-{index:03d}.png", seed * 1000 + index)

    def outputs(self) -> dict[str, bytes]:
        """Every file that the stage wrote outside of .medsweep, by its name."""
        found = {}
        for folder in (self.layout.prepared, self.layout.reports):
            for path in sorted(folder.rglob("*")):
                if path.is_file():
                    found[path.relative_to(self.root).as_posix()] = path.read_bytes()
        return found


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)
