"""Regions of an image that look like lines of text: a hint where to look, not a proof, and nothing is cleaned.

Burned-in text is drawn: its strokes are thin, have one brightness, stand out from what is around them, and its glyphs
stand in a row. So thin bright and thin dark strokes are found by top-hats, and those of the size of glyphs that are
alike in height, stand on one line and follow each other closely are counted. docs/dicom.md has how often it is right.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

# Smaller images cannot hold glyphs that anybody can read.
SMALLEST_SIDE = 96
_LARGEST_SIDE = 1024
_GLYPHS_A_LINE = 4
_LOWEST, _HIGHEST = 5, 64
# How far strokes stand out, as a share of the image's range of values.
_CONTRAST = 0.3
_STROKE = 7
# Between neighbours: their gap as a share of their height, and how much their brightness may differ (of 255).
_GAP, _EVEN = 0.9, 40
# More than this is texture.
_MOST_GLYPHS = 3000


def has_text(pixels: NDArray[Any]) -> bool:
    """Whether a region looks like a line of text: four or more glyphs in a row.

    Args:
        pixels: (h, w) or (h, w, 3), upright, as a viewer shows them.
    """
    height, width = pixels.shape[:2]
    if min(height, width) < SMALLEST_SIDE:
        return False
    grey = pixels if pixels.ndim == 2 else pixels.max(axis=2)
    if max(height, width) > _LARGEST_SIDE:
        scale = _LARGEST_SIDE / max(height, width)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    low, high = int(grey.min()), int(grey.max())
    if high == low:
        return False
    eight = cv2.convertScaleAbs(grey, alpha=255.0 / (high - low), beta=-255.0 * low / (high - low))
    kernel = np.ones((_STROKE, _STROKE), np.uint8)
    return any(_has_line(cv2.morphologyEx(eight, how, kernel)) for how in (cv2.MORPH_TOPHAT, cv2.MORPH_BLACKHAT))


def _has_line(strokes: NDArray[Any]) -> bool:
    _, bold = cv2.threshold(strokes, round(255 * _CONTRAST), 1, cv2.THRESH_BINARY)
    if int(np.count_nonzero(bold)) < _GLYPHS_A_LINE * _LOWEST:
        return False
    # By sides, not by corners: neighbouring glyphs often touch at one.
    count, _, stats, _ = cv2.connectedComponentsWithStats(bold, connectivity=4)
    left, top, width, height, area = stats[:count].T.astype(np.int64)
    fill = area / (height * width)
    glyph = (height >= _LOWEST) & (height <= _HIGHEST) & (width <= 1.6 * height) & (fill >= 0.15) & (fill <= 0.95)
    glyph[0] = False  # what is no stroke
    chosen = np.flatnonzero(glyph)
    if not _GLYPHS_A_LINE <= len(chosen) <= _MOST_GLYPHS:
        return False
    chosen = chosen[np.lexsort((top[chosen], left[chosen]))]
    boxes = np.stack([left, top, left + width, top + height], axis=1)[chosen].tolist()
    return _has_chain(
        [[x, right, bottom, bottom - y, int(strokes[y:bottom, x:right].max())] for x, y, right, bottom in boxes]
    )


def _has_chain(glyphs: list[list[int]]) -> bool:
    """Whether enough glyphs (left, right, bottom, height, brightness), given from left to right, follow each other."""
    open_: list[tuple[list[int], int]] = []  # the last glyph of each chain, and its length
    for glyph in glyphs:
        open_ = [each for each in open_ if glyph[0] - each[0][1] <= _GAP * _HIGHEST]
        fitting = [number for number, (last, _) in enumerate(open_) if _follows(last, glyph)]
        if not fitting:
            open_.append((glyph, 1))
            continue
        nearest = max(fitting, key=lambda number: open_[number][0][1])
        length = open_[nearest][1] + 1
        if length == _GLYPHS_A_LINE:
            return True
        open_[nearest] = (glyph, length)
    return False


def _follows(last: list[int], glyph: list[int]) -> bool:
    small, tall = sorted((last[3], glyph[3]))
    return (
        -0.3 * tall <= glyph[0] - last[1] <= _GAP * tall
        and tall <= 1.7 * small
        and abs(glyph[2] - last[2]) <= 0.3 * tall
        and abs(glyph[4] - last[4]) <= _EVEN
    )
