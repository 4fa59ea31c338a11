"""Proportions of images that come in groups: how much less they tell than independent ones, and Wilson's interval."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medsweep.statistics.intervals import Interval, wilson


@dataclass(frozen=True)
class Proportion:
    """A proportion of images.

    Args:
        successes, n: how many of how many images.
        n_groups: the patients they belong to.
        design_effect: how many times larger the variance is than that of as many independent images, at least 1.
        interval: Wilson's, at the effective number of images.
        naive: Wilson's, as if images were independent.
    """

    successes: int
    n: int
    n_groups: int
    design_effect: float
    interval: Interval
    naive: Interval


def proportion(success: NDArray[Any], groups: NDArray[Any], confidence: float) -> Proportion:
    """A proportion with Wilson's interval at the effective number of images.

    That number is n / design_effect (Rao & Scott, 1992, Biometrics 48:577), and where patients have several images, as
    much smaller again as Student's t of n_groups - 1 lies further out than the normal distribution, for the design
    effect is known from these patients alone (Korn & Graubard, 1998, Survey Methodology 24:193).

    Args:
        success: (n,) 0 or 1, one for each image that the proportion is of.
        groups: (n,) what belongs together.
        confidence: 0.95, say.
    """
    hits = np.asarray(success, dtype=np.float64)
    names, member = np.unique(groups, return_inverse=True)
    n, successes = len(hits), int(hits.sum())
    effect = design_effect(hits, member, len(names))
    smaller = effect * (_further_out(len(names), confidence) if len(names) < n else 1.0)
    corrected = wilson(successes / smaller, n / smaller, confidence)
    return Proportion(successes, n, len(names), effect, corrected, wilson(successes, n, confidence))


def _further_out(n_groups: int, confidence: float) -> float:
    """The square of Student's quantile over the normal one."""
    from scipy.stats import t

    end = 0.5 + confidence / 2.0
    return float(t.ppf(end, max(1, n_groups - 1)) / NormalDist().inv_cdf(end)) ** 2


def design_effect(success: NDArray[Any], member: NDArray[np.int64], n_groups: int) -> float:
    """The variance of a proportion of grouped images over that of independent ones, from 1 to the largest possible.

    The variance is that of a ratio of group totals, linearised (Cochran, 1977, section 9A). Where all images succeed or
    all fail, it says nothing, and the largest possible effect is taken: all images of a group agreeing.

    Args:
        success: (n,) 0 or 1.
        member: (n,) the group's index.
        n_groups: how many there are.
    """
    n = len(success)
    if n == 0:
        return 1.0
    sizes = np.bincount(member, minlength=n_groups).astype(np.float64)
    largest = float((sizes**2).sum() / n)
    share = float(np.mean(success))
    if share in (0.0, 1.0) or n_groups < 2:
        return max(1.0, largest)
    off = np.bincount(member, weights=success, minlength=n_groups) - share * sizes
    variance = n_groups / (n_groups - 1.0) * float((off**2).sum()) / n**2
    return float(np.clip(variance / (share * (1.0 - share) / n), 1.0, max(1.0, largest)))
