"""What is kept of an image to find it again: a small thumbnail, and perceptual hashes of it.

The hash is the sign of the lowest frequencies of the discrete cosine transform (pHash: Zauner, Implementation and
Benchmarking of Perceptual Image Hash Functions, 2010). A mirrored image has the same frequencies, the odd ones with
the other sign: its hash is the image's with some bits turned, so that flips need no hashes of their own. Cropping
moves all frequencies: so an image is hashed in several slightly cropped windows, one of which is near to any crop.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]

SIDE = 64
_BITS = 128
_FREQUENCIES = 16
# What is cut off at the two ends of an axis, in pixels of the thumbnail: up to 3 %.
_CUTS = ((0, 0), (1, 1), (0, 2), (2, 0), (2, 2))
_WINDOWS = ((0, 0), (1, 1), (2, 2), (2, 3), (3, 2), (3, 3), (4, 4))
# Rows, columns: the windows that are hashed, as (top, bottom, left, right) of the thumbnail. The first is all of it.
WINDOWS: tuple[tuple[int, int, int, int], ...] = tuple(
    (_CUTS[down][0], SIDE - _CUTS[down][1], _CUTS[across][0], SIDE - _CUTS[across][1]) for down, across in _WINDOWS
)
# Left to right, upside down.
FLIPS = ((False, False), (True, False), (False, True), (True, True))
_DARK, _BRIGHT = 20, SIDE * SIDE - 21  # half a per cent at both ends is not what sets the thumbnail's contrast


def thumbnail(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """(64, 64) uint8: the image in grey (ITU-R BT.601), stretched to a square and to the full range of values.

    Args:
        pixels: (h, w) or (h, w, 3), uint8 or uint16.
    """
    # Averages of 8 bits are finer than 8 bits; those of 16 are fine enough.
    source: Any = pixels.astype(np.float32) if pixels.dtype == np.uint8 else pixels
    shrunk = (min(SIDE, pixels.shape[1]), min(SIDE, pixels.shape[0]))
    small: Any = cv2.resize(source, shrunk, interpolation=cv2.INTER_AREA).astype(np.float32)
    if small.ndim == 3:
        small = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    if shrunk != (SIDE, SIDE):
        small = cv2.resize(small, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
    ends = np.partition(small.ravel(), (_DARK, _BRIGHT))
    low, high = float(ends[_DARK]), float(ends[_BRIGHT])
    if high <= low:
        low, high = float(small.min()), float(small.max())
    if high <= low:
        return np.zeros((SIDE, SIDE), dtype=np.uint8)
    spread = np.clip(np.rint((small - low) * (255 / (high - low))), 0, 255)
    return np.asarray(spread, dtype=np.uint8)


def hashes(small: NDArray[np.uint8]) -> Hashes:
    """(7, 2) uint64: 128 bits of each window of a thumbnail."""
    spectrum = _BASES @ small.astype(np.float32) @ _BASES.T
    n = _FREQUENCIES
    bits = np.stack(
        [
            spectrum[down * n : (down + 1) * n, across * n : (across + 1) * n][_DOWN, _ACROSS] > 0
            for down, across in _WINDOWS
        ]
    )
    return _packed(bits)


def flipped(found: Hashes, flip: tuple[bool, bool]) -> Hashes:
    """The hashes that the mirrored image has; its windows are mirrored too."""
    turned = ((_ACROSS % 2 == 1) & flip[0]) ^ ((_DOWN % 2 == 1) & flip[1])
    return found ^ _packed(turned)


def _packed(bits: NDArray[np.bool_]) -> Hashes:
    return np.ascontiguousarray(np.packbits(bits, axis=-1, bitorder="little")).view(np.uint64)


def _bases() -> NDArray[np.float32]:
    """(5 · 16, 64) for each way to cut an axis, the cosines of the lowest frequencies of what is left."""
    place = np.arange(SIDE)
    found = []
    for before, after in _CUTS:
        length = SIDE - before - after
        inside = (place >= before) & (place < SIDE - after)
        angle = np.pi * np.arange(_FREQUENCIES)[:, None] * (place - before + 0.5) / length
        found.append(np.cos(angle) * inside)
    return np.concatenate(found).astype(np.float32)


def _frequencies() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which frequency (down, across) each bit stands for: the 128 lowest but the mean, dealt out so that every 16 bits
    in a row hold low and high ones."""
    down, across = (each.ravel() for each in np.mgrid[:_FREQUENCIES, :_FREQUENCIES])
    lowest = np.lexsort((down, np.abs(down - across), down + across))[1 : _BITS + 1]
    dealt = lowest.reshape(16, -1).T.ravel()
    return down[dealt], across[dealt]


_BASES = _bases()
_DOWN, _ACROSS = _frequencies()
