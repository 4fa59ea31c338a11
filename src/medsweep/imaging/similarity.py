"""How alike two thumbnails are once one is laid over the other: robust to flips, small crops, contrast and JPEG.

Two images of the same kind (two chest X-rays, say) are alike in all that is coarse. So what is compared is fine detail
of even contrast, and it has to agree in most parts of the image, not only where edges are strong.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from medsweep.imaging.fingerprint import SIDE, WINDOWS

Floats = NDArray[np.float32]

_FINE, _COARSE = 0.8, 6.0  # deviations of the Gaussians, in pixels of the thumbnail
_MARGIN, _PARTS = 4, 4
# Below this correlation before the fine alignment, no alignment makes two images the same.
_WORTH_ALIGNING = 0.85
# How far the alignment may go: a crop of a few per cent, no other picture.
_MOST_SCALE, _MOST_SHIFT = 0.12, 5.0
_STEPS = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 1e-4)
_FEWEST_PARTS = 4


def similarity(one: NDArray[np.uint8], other: NDArray[np.uint8], *, window: int, flip: tuple[bool, bool]) -> float:
    """The median correlation of fine detail over the parts of two aligned thumbnails: 1 for the same image.

    `other` is laid over the given window of `one`, mirrored as `flip` says; an affine alignment near it is then found
    by maximising the enhanced correlation coefficient (Evangelidis and Psarakis, IEEE TPAMI 30, 2008).

    Args:
        one, other: (64, 64) thumbnails.
        window: which of `fingerprint.WINDOWS`.
        flip: left to right, upside down.

    Returns:
        -1 to 1; -1 where the two cannot be aligned.
    """
    mirrored = _mirrored(one, flip)
    warp = _start(window, flip)
    detail, target = _detail(mirrored), _detail(other)
    rough = _correlation(_blurred(_warped(detail, warp)), _blurred(target))
    if rough < _WORTH_ALIGNING:
        return -1.0
    try:
        _, found = cv2.findTransformECC(target, detail, warp, cv2.MOTION_AFFINE, _STEPS, None, 1)
    except cv2.error:  # it does not converge
        return -1.0
    warp = np.asarray(found, dtype=np.float32)
    centre = np.array([(SIDE - 1) / 2, (SIDE - 1) / 2, 1.0])
    if np.abs(warp[:, :2] - np.eye(2)).max() > _MOST_SCALE or np.abs(warp @ centre - centre[:2]).max() > _MOST_SHIFT:
        return -1.0
    aligned = _detail(_warped(mirrored.astype(np.float32), warp))
    return _median_over_parts(aligned, target)


def _mirrored(image: NDArray[np.uint8], flip: tuple[bool, bool]) -> NDArray[np.uint8]:
    image = image[:, ::-1] if flip[0] else image
    return np.ascontiguousarray(image[::-1] if flip[1] else image)


def _start(window: int, flip: tuple[bool, bool]) -> Floats:
    """The map from `other` to the mirrored `one`, whose window is mirrored with it."""
    top, bottom, left, right = WINDOWS[window]
    if flip[0]:
        left, right = SIDE - right, SIDE - left
    if flip[1]:
        top, bottom = SIDE - bottom, SIDE - top
    across, down = (right - left) / SIDE, (bottom - top) / SIDE
    return np.array([[across, 0, left + across / 2 - 0.5], [0, down, top + down / 2 - 0.5]], dtype=np.float32)


def _detail(image: NDArray[Any]) -> Floats:
    """A band of fine detail, divided by its local strength."""
    values = image.astype(np.float32)
    band = _blurred(values, _FINE) - _blurred(values, _COARSE)
    strength = np.sqrt(_blurred(band * band, _COARSE))
    return np.asarray(band / (strength + np.float32(1.0)), dtype=np.float32)


def _blurred(image: Floats, deviation: float = 1.5) -> Floats:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), deviation), dtype=np.float32)


def _warped(image: Floats, warp: Floats) -> Floats:
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(image, warp, (SIDE, SIDE), flags=flags, borderMode=cv2.BORDER_REPLICATE))


def _correlation(one: Floats, other: Floats) -> float:
    inner = slice(_MARGIN, SIDE - _MARGIN)
    first, second = one[inner, inner].ravel(), other[inner, inner].ravel()
    first, second = first - first.mean(), second - second.mean()
    size = float(np.sqrt((first @ first) * (second @ second)))
    return float(first @ second) / size if size > 0 else 0.0


def _median_over_parts(one: Floats, other: Floats) -> float:
    first, second = _parts(one), _parts(other)
    sizes = (first * first).sum(axis=1), (second * second).sum(axis=1)
    # A part without detail in both (the black around an organ) says nothing.
    telling = np.maximum(*sizes) > 0.05 * first.shape[1]
    if telling.sum() < _FEWEST_PARTS:
        return -1.0
    agreement = (first * second).sum(axis=1)[telling] / np.sqrt(sizes[0] * sizes[1] + 1e-6)[telling]
    return float(np.median(agreement))


def _parts(image: Floats) -> Floats:
    """(16, n) the pixels of each part, less their mean."""
    inner = image[_MARGIN : SIDE - _MARGIN, _MARGIN : SIDE - _MARGIN]
    side = inner.shape[0] // _PARTS
    parts = inner.reshape(_PARTS, side, _PARTS, side).swapaxes(1, 2).reshape(_PARTS * _PARTS, -1)
    return np.asarray(parts - parts.mean(axis=1, keepdims=True), dtype=np.float32)
