"""SmoothGrad (Smilkov et al., SmoothGrad: removing noise by adding noise, 2017)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medsweep.explain.method import Settings
from medsweep.explain.network import Member

Floats = NDArray[np.float32]


def smooth_grad(member: Member, z: Floats, classes: NDArray[np.int64], settings: Settings) -> Floats:
    """The absolute value of the mean gradient over `settings.samples` noisy copies, summed over the channels.

    The noise is Gaussian with a deviation of `settings.noise` times the image's range; its pattern is the same for
    every image, so an image's map does not depend on those beside it.
    """
    spread = settings.noise * (z.max(axis=(1, 2, 3), keepdims=True) - z.min(axis=(1, 2, 3), keepdims=True))
    total = np.zeros(z.shape, dtype=np.float64)
    for sample in range(settings.samples):
        noise = np.random.default_rng([settings.seed, sample]).standard_normal(member.shape, dtype=np.float32)
        total += member.gradients(z + spread * noise, classes)
    return np.asarray(np.abs(total / settings.samples).sum(axis=3), dtype=np.float32)
