"""Stored pixels → one prepared array. Prepare and the deployed predictor both call this, so they cannot differ."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medsweep import params
from medsweep.artifacts.record import RawImage
from medsweep.imaging.intensity import to_intensity
from medsweep.imaging.resize import resize, resize_mask


def to_array(
    raw: RawImage, image: params.Image, intensity: params.Intensity
) -> tuple[NDArray[Any], NDArray[np.uint8] | None]:
    """Intensity, then size, then whole numbers.

    Args:
        raw: pixels as stored.
        image: the prepared size, channels and fit.
        intensity: the method, and the bits a value is stored in.

    Returns:
        (H, W, C) uint8 (0 to 255) or uint16 (0 to 65535), rounded; and the mask (H, W) of 0 and 1, or
        None where the source knows none.
    """
    resized = resize(to_intensity(raw, intensity, image.channels), image)
    dtype = np.uint8 if intensity.bits == 8 else np.uint16
    largest = np.float32(np.iinfo(dtype).max)
    array = np.clip(np.rint(resized * largest), 0, largest).astype(dtype)
    return array, None if raw.mask is None else resize_mask(raw.mask, image)
