"""Stored values → intensities from 0 to 1."""

from __future__ import annotations

from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from medsweep import params
from medsweep.artifacts.record import RawImage

Floats = NDArray[np.float32]
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601
_DEEP = np.float32(65535)


def to_intensity(raw: RawImage, intensity: params.Intensity, channels: Literal[1, 3]) -> Floats:
    """Intensities of one image.

    Colour becomes grey by ITU-R BT.601 luma, grey becomes colour by repetition; then, by `intensity.method`:
    `full_range` divides by the true bit depth's largest value; `percentile_clip` spreads the given percentiles of
    this image (over all its channels) to 0 and 1 and clips; `clahe` equalises the luma at 16 bits after full_range
    (Zuiderveld, Graphics Gems IV, 1994). A constant image is only divided, by whatever method.

    Args:
        raw: pixels as stored, (h, w) or (h, w, 3).
        intensity: the section of params.yaml.
        channels: 1 or 3.

    Returns:
        (h, w, channels) float32 in [0, 1].
    """
    # In place: of a large image, each copy would take as much as a limit on memory leaves for all of them.
    highest = int(raw.pixels.max())
    if raw.pixels.ndim == 2:
        scaled = _with_channels(np.divide(raw.pixels, np.float32(raw.largest), dtype=np.float32), channels)
    else:
        scaled = _with_channels(raw.pixels.astype(np.float32), channels)
        scaled /= np.float32(raw.largest)
    if highest > raw.largest or raw.pixels.ndim == 3:
        np.clip(scaled, 0.0, 1.0, out=scaled)
    if intensity.method == "full_range" or highest == int(raw.pixels.min()) or scaled.min() == scaled.max():
        return scaled
    if intensity.method == "percentile_clip":
        low, high = np.percentile(scaled, intensity.percentiles)
        if low == high:
            return scaled
        return _unit((scaled - np.float32(low)) / np.float32(high - low))
    if intensity.method == "clahe":
        return _equalised(scaled, intensity.clahe)
    return scaled


def _unit(values: NDArray[Any]) -> Floats:
    return np.asarray(np.clip(values, 0.0, 1.0), dtype=np.float32)


def _with_channels(pixels: Floats, channels: int) -> Floats:
    if pixels.ndim == 2:
        return pixels[:, :, None] if channels == 1 else np.repeat(pixels[:, :, None], channels, axis=2)
    if channels == 3:
        return pixels
    return np.asarray((pixels @ _LUMA)[:, :, None], dtype=np.float32)


def _equalised(image: Floats, settings: params.Clahe) -> Floats:
    clahe = cv2.createCLAHE(settings.clip_limit, (settings.tiles, settings.tiles))
    if image.shape[2] == 1:
        return _apply(clahe, image[:, :, 0])[:, :, None]
    luma = cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb)
    luma[:, :, 0] = _apply(clahe, luma[:, :, 0])
    return _unit(np.asarray(cv2.cvtColor(luma, cv2.COLOR_YCrCb2RGB)))


def _apply(clahe: cv2.CLAHE, plane: Floats) -> Floats:
    equalised = clahe.apply(np.rint(plane * _DEEP).astype(np.uint16))
    return np.asarray(equalised / _DEEP, dtype=np.float32)
