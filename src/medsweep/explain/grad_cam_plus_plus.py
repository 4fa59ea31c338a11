"""Grad-CAM++ (Chattopadhay et al., Grad-CAM++: Improved Visual Explanations for Deep Convolutional Networks, 2018)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medsweep.explain.grad_cam import enlarged
from medsweep.explain.method import Settings
from medsweep.explain.network import Member

Floats = NDArray[np.float32]


def grad_cam_plus_plus(member: Member, z: Floats, classes: NDArray[np.int64], settings: Settings) -> Floats:
    """As Grad-CAM, each map's weight being the mean of α · ReLU(g) over its places (the paper's sum, but for a constant
    that would differ between members with other maps).

    α = g² / (2 g² + ΣA · g³) with g the gradient of the log-odds S at a place and ΣA the map's sum (the paper's
    equation 19 for the score exp(S), whose factor exp(S) an image's whole map has in common and which is left out).
    """
    found = []
    for maps, slopes in member.features(z, classes):
        wide = slopes.astype(np.float64)
        below = 2 * wide**2 + maps.sum(axis=(1, 2), keepdims=True, dtype=np.float64) * wide**3
        alpha = np.divide(wide**2, below, out=np.zeros_like(wide), where=below != 0)
        weights = (alpha * np.maximum(wide, 0.0)).mean(axis=(1, 2))
        found.append(np.einsum("bhwf,bf->bhw", maps, weights))
    return enlarged(np.concatenate(found), member.shape)
