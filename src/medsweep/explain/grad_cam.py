"""Grad-CAM (Selvaraju et al., Visual Explanations from Deep Networks via Gradient-Based Localization, 2017)."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from medsweep.explain.method import Settings
from medsweep.explain.network import Member

Floats = NDArray[np.float32]


def grad_cam(member: Member, z: Floats, classes: NDArray[np.int64], settings: Settings) -> Floats:
    """The feature maps' sum, each weighted by the mean of the log-odds' gradients by it; the ReLU is `explain`'s.

    The maps are those at the last convolution, (h, w), enlarged linearly to (H, W).
    """
    found = [np.einsum("bhwf,bf->bhw", maps, slopes.mean(axis=(1, 2))) for maps, slopes in member.features(z, classes)]
    return enlarged(np.concatenate(found), member.shape)


def enlarged(maps: NDArray[np.floating], shape: tuple[int, int, int]) -> Floats:
    """Maps (n, h, w) at the image's size (n, H, W), interpolated linearly.

    Divided by how many pixels a place becomes: so sums stay as they are, and members with other maps can be added up.
    """
    height, width, _ = shape
    maps = maps * (maps.shape[1] * maps.shape[2] / (height * width))
    found = [cv2.resize(each.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR) for each in maps]
    return np.asarray(np.stack(found), dtype=np.float32)
