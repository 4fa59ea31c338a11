"""Integrated gradients (Sundararajan et al., Axiomatic Attribution for Deep Networks, 2017)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medsweep.explain.method import Settings
from medsweep.explain.network import Member

Floats = NDArray[np.float32]


def integrated_gradients(member: Member, z: Floats, classes: NDArray[np.int64], settings: Settings) -> Floats:
    """z times the mean gradient on the straight way from z = 0 (mean grey) to z, summed over the channels.

    By the midpoint rule with `settings.steps` steps. A map's sum is the image's log-odds less those of mean grey, up to
    the steps' error.
    """
    total = np.zeros(z.shape, dtype=np.float64)
    for step in range(settings.steps):
        total += member.gradients(z * np.float32((step + 0.5) / settings.steps), classes)
    return np.asarray((z * total / settings.steps).sum(axis=3), dtype=np.float32)
