"""What a test set of this size could have shown."""

from __future__ import annotations

import math
from statistics import NormalDist


def minimum_detectable(error: float, *, confidence: float, power: float) -> float:
    """The smallest true difference that a two-sided test finds with the wanted power.

    Args:
        error: the standard error of the difference.
        confidence: one minus the test's level.
        power: the chance to find it, 0.8 say.
    """
    normal = NormalDist()
    return (normal.inv_cdf(0.5 + confidence / 2.0) + normal.inv_cdf(power)) * error


def paired_error(error: float, correlation: float) -> float:
    """The standard error of the difference of two equally sure values whose errors are so correlated.

    Two models on the same images are mistaken about the same ones: their values correlate, and their difference is
    known better than either (Hanley & McNeil, 1983).
    """
    return error * math.sqrt(2.0 * (1.0 - correlation))


def size_needed(size: int, detectable: float, wanted: float) -> int:
    """How many patients make `wanted` detectable where `size` of them make `detectable` so (errors fall as 1/√n)."""
    return math.ceil(size * (detectable / wanted) ** 2)
