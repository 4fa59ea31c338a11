"""The training split's intensity statistics."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from medsweep.artifacts.prepared import Standardization


def standardization(
    sums: NDArray[np.int64], squares: NDArray[np.int64], *, pixels_per_image: int, value_range: int
) -> Standardization:
    """Mean and (population) standard deviation a channel, on the scale 0 to 1.

    Exact until the last step, because the sums are whole numbers: no order of the images changes a bit.

    Args:
        sums, squares: (N, C) sums of each image's values, and of their squares.
        pixels_per_image: H · W.
        value_range: the value that stands for 1.
    """
    count = len(sums) * pixels_per_image
    means, deviations = [], []
    for channel in range(sums.shape[1]):
        mean = Fraction(sum(sums[:, channel].tolist()), count)
        variance = Fraction(sum(squares[:, channel].tolist()), count) - mean * mean
        means.append(float(mean / value_range))
        deviations.append(math.sqrt(variance / value_range**2))
    return Standardization(tuple(means), tuple(deviations))
