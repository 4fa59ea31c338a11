"""HiResCAM (Draelos & Carin, Use HiResCAM instead of Grad-CAM for faithful explanations, 2020, arXiv:2011.08891)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medsweep.explain.grad_cam import enlarged
from medsweep.explain.method import Settings
from medsweep.explain.network import Member

Floats = NDArray[np.float32]


def hires_cam(member: Member, z: Floats, classes: NDArray[np.int64], settings: Settings) -> Floats:
    """ReLU of the feature maps' sum, each place weighted by its own gradient instead of the map's mean gradient.

    Where only pooling and one dense layer follow the last convolution, these are the places' true shares of the
    log-odds, but for a constant: after global average pooling the same as Grad-CAM's, after global max pooling those of
    the places that the network used.
    """
    found = [np.maximum(np.einsum("bhwf,bhwf->bhw", maps, slopes), 0.0) for maps, slopes in member.features(z, classes)]
    return enlarged(np.concatenate(found), member.shape)
