"""Images and masks to the prepared size."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from medsweep import params

Floats = NDArray[np.float32]


def resize(image: Floats, target: params.Image) -> Floats:
    """Resize, antialiased: an axis that shrinks is averaged over areas, one that grows is interpolated linearly.

    `target.fit`: `pad` keeps the aspect ratio and fills up with 0 on both sides; `crop` keeps it and cuts the centre
    out; `stretch` does not keep it.

    Args:
        image: (h, w, c) float32.
        target: height, width and fit.

    Returns:
        (height, width, c) float32, within the range of `image` and 0.
    """
    height, width = image.shape[:2]
    if target.fit == "crop":
        rows = min(height, max(1, round(width * target.height / target.width)))
        columns = min(width, max(1, round(height * target.width / target.height)))
        top, left = (height - rows) // 2, (width - columns) // 2
        return _stretched(image[top : top + rows, left : left + columns], target.height, target.width)
    if target.fit == "pad":
        scale = min(target.height / height, target.width / width)
        rows = min(target.height, max(1, round(height * scale)))
        columns = min(target.width, max(1, round(width * scale)))
        padded = np.zeros((target.height, target.width, image.shape[2]), dtype=np.float32)
        top, left = (target.height - rows) // 2, (target.width - columns) // 2
        padded[top : top + rows, left : left + columns] = _stretched(image, rows, columns)
        return padded
    return _stretched(image, target.height, target.width)


def resize_mask(mask: NDArray[np.uint8], target: params.Image) -> NDArray[np.uint8]:
    """A mask (h, w) of 0 and 1 by the same geometry: a pixel is inside where half of its area is."""
    return (resize(mask.astype(np.float32)[:, :, None], target)[:, :, 0] >= 0.5).astype(np.uint8)


def _stretched(image: Floats, height: int, width: int) -> Floats:
    shrunk = (min(height, image.shape[0]), min(width, image.shape[1]))
    result: Any = np.ascontiguousarray(image, dtype=np.float32)
    if shrunk != result.shape[:2]:
        result = cv2.resize(result, shrunk[::-1], interpolation=cv2.INTER_AREA)
    if (height, width) != shrunk:
        result = cv2.resize(result, (width, height), interpolation=cv2.INTER_LINEAR)
    # OpenCV drops a single channel's axis.
    return np.asarray(result, dtype=np.float32).reshape(height, width, image.shape[2])
