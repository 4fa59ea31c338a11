"""Simple numbers that describe a prepared image: what splits, sites or classes may differ in besides the disease."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

# In this order in every row; plain words, for they are shown.
TRAITS = (
    "mean intensity",
    "contrast",
    "dark end (5th percentile)",
    "median intensity",
    "bright end (95th percentile)",
    "black share",
    "white share",
    "fine detail",
    "border intensity",
    "left-right balance",
    "top-bottom balance",
)
_BINS = 256


def traits(image: NDArray[Any]) -> NDArray[np.float32]:
    """(11,) the numbers that `TRAITS` names, intensities on the scale 0 to 1.

    Contrast is the standard deviation; black and white are the lowest and highest hundredth of the scale; fine detail
    is the mean difference between neighbours, relative to the contrast; the border is the outermost twentieth; a
    balance is the difference of the two halves' means.

    Args:
        image: (H, W, C) uint8 or uint16, as prepared.
    """
    grey: Any = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.shape[2] == 3 else image[:, :, 0]
    largest = float(np.iinfo(grey.dtype).max)
    counts = cv2.calcHist([grey], [0], None, [_BINS], [0, largest + 1]).ravel()
    shares = np.cumsum(counts) / grey.size
    low, middle, high = (float(np.searchsorted(shares, at)) / (_BINS - 1) for at in (0.05, 0.5, 0.95))
    values = grey.astype(np.float32) / np.float32(largest)
    mean, contrast = float(values.mean()), float(values.std())
    detail = (np.abs(np.diff(values, axis=0)).mean() + np.abs(np.diff(values, axis=1)).mean()) / 2
    rows, columns = max(1, values.shape[0] // 20), max(1, values.shape[1] // 20)
    inner = values[rows:-rows, columns:-columns]
    border = (values.sum() - inner.sum()) / (values.size - inner.size)
    half_down, half_across = values.shape[0] // 2, values.shape[1] // 2
    return np.array(
        [
            mean,
            contrast,
            low,
            middle,
            high,
            shares[_BINS // 100],
            1 - shares[_BINS - 1 - _BINS // 100 - 1],
            detail / (contrast + 1e-6),
            border,
            values[:, :half_across].mean() - values[:, -half_across:].mean(),
            values[:half_down].mean() - values[-half_down:].mean(),
        ],
        dtype=np.float32,
    )
