"""Two models on the same images: differences with intervals, and whether chance explains them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medsweep.artifacts.record import Task
from medsweep.statistics.areas import Areas, area_interval, areas, class_curves, plain_interval
from medsweep.statistics.intervals import Interval, Method, independent_of, resample
from medsweep.statistics.metrics import Predictions, evaluate_weighted
from medsweep.statistics.weighted import Floats


@dataclass(frozen=True)
class Difference:
    """One metric of two models.

    Args:
        first, second: each model's value with its interval.
        difference: second - first.
        p_value: two-sided, of no difference; NaN where it can't be told.
    """

    first: Interval
    second: Interval
    difference: Interval
    p_value: float


def model_areas(task: Task, labels: NDArray[Any], probabilities: Sequence[NDArray[Any]], groups: NDArray[Any]) -> Areas:
    """The headline AUROCs of M models on the same images (means over classes where there are several), with their
    covariance: (M,) and (M, M).

    Args:
        task: binary, multiclass, multilabel or ordinal.
        labels: (N,) class indices, or (N, L) zeros and ones.
        probabilities: M arrays (N, K).
        groups: (N,) what belongs together.
    """
    curves = [class_curves(task, labels, each) for each in probabilities]
    found = areas(np.hstack([each[0] for each in curves]), np.hstack([each[1] for each in curves]), groups)
    per_model = curves[0][0].shape[1]
    means: Floats = np.kron(np.eye(len(curves)), np.full((1, per_model), 1.0 / per_model))
    return found.combined(means)


def area_difference(found: Areas, first: int, second: int, confidence: float, patients: int) -> Difference:
    """The difference of two AUROCs by the normal approximation (DeLong et al., 1988; Obuchowski, 1997).

    Args:
        found: of `model_areas`.
        first, second: which two; the difference is second - first.
        confidence: 0.95, say.
        patients: how many independent ones the two AUROCs rest on, for their own intervals.
    """
    contrast = np.zeros((1, len(found.values)))
    contrast[0, first] -= 1.0
    contrast[0, second] += 1.0
    own = found.combined(contrast)
    difference, error = float(own.values[0]), float(own.errors[0])
    between, p_value = plain_interval(difference, error, confidence), float("nan")
    if math.isfinite(between.low):
        p_value = 2.0 * NormalDist().cdf(-abs(difference) / error)
    elif difference == 0.0:
        between, p_value = Interval(0.0, 0.0, 0.0, 0), 1.0
    one, two = (
        area_interval(float(found.values[k]), float(found.errors[k]), confidence, patients) for k in (first, second)
    )
    return Difference(one, two, between, p_value)


def bootstrap_differences(
    first: Predictions,
    second: Predictions,
    groups: NDArray[Any],
    names: Sequence[str],
    *,
    samples: int,
    confidence: float,
    seed: int,
    method: Method,
) -> dict[str, Difference]:
    """Differences of metrics, both models met by the same resamples of groups (Efron & Tibshirani, 1993).

    Args:
        first, second: what the two said about the same N images.
        groups: (N,) patients. With fewer than two there is nothing to resample.
        names: of `metrics.METRICS`.
        samples: the number of resamples.
        confidence: 0.95, say.
        seed: of the draws.
        method: 'bca' or 'percentile'.
    """

    def statistic(weights: Floats) -> dict[tuple[str, str], Floats]:
        one, two = (evaluate_weighted(each, weights, names) for each in (first, second))
        found = {("first", name): one[name] for name in names} | {("second", name): two[name] for name in names}
        return found | {("difference", name): two[name] - one[name] for name in names}

    patients = independent_of(first, groups)
    if len(np.unique(groups)) < 2:
        plain = {key: float(value[0]) for key, value in statistic(np.ones((len(groups), 1))).items()}
        ends = {key: Interval(value, float("nan"), float("nan"), 0) for key, value in plain.items()}
        p_values = dict.fromkeys(names, float("nan"))
    else:
        found = resample(statistic, groups, samples=samples, seed=seed, method=method, patients=patients)
        ends = {key: each.interval(confidence) for key, each in found.items()}
        p_values = {name: found["difference", name].p_value() for name in names}
    return {
        name: Difference(ends["first", name], ends["second", name], ends["difference", name], p_values[name])
        for name in names
    }


@dataclass(frozen=True)
class McNemar:
    """On which images one model is right and the other is not.

    Args:
        only_first, only_second: images that one alone got right.
        n: images in all.
        exact: the two-sided exact p-value, which is conservative; None where images are not independent.
        mid_p: the mid-p-value, which keeps its level nearly always (Fagerland et al., 2013, BMC Med Res Methodol
            13:91); None where images are not independent.
        clustered: the p-value for images that come in groups (Obuchowski, 1998, Stat Med 17:1495); None where each
            image is a group.
    """

    only_first: int
    only_second: int
    n: int
    exact: float | None
    mid_p: float | None
    clustered: float | None

    @property
    def p_value(self) -> float:
        """The one to report: for groups where there are any, else the mid-p."""
        found = self.clustered if self.mid_p is None else self.mid_p
        return float("nan") if found is None else found


def mcnemar(first_right: NDArray[Any], second_right: NDArray[Any], groups: NDArray[Any]) -> McNemar:
    """McNemar's test of two models' decisions (McNemar, 1947).

    Args:
        first_right, second_right: (N,) whether each model decided right; (N, L) for multi-label, where the labels of an
            image belong together as well.
        groups: (N,) what belongs together.
    """
    one, two = (np.asarray(each, dtype=bool) for each in (first_right, second_right))
    off = two.astype(np.int64) - one.astype(np.int64)
    flat = off.reshape(len(off), -1)
    names, member = np.unique(groups, return_inverse=True)
    only_first, only_second = int((flat < 0).sum()), int((flat > 0).sum())
    if len(names) == flat.size:
        exact, mid = exact_p_values(only_first, only_second)
        return McNemar(only_first, only_second, flat.size, exact, mid, None)
    totals = np.bincount(member, weights=flat.sum(axis=1), minlength=len(names))
    return McNemar(only_first, only_second, flat.size, None, None, _clustered_p(totals))


def exact_p_values(only_first: int, only_second: int) -> tuple[float, float]:
    """McNemar's exact two-sided p-value and its mid-p-value, from the two kinds of disagreement."""
    from scipy.special import bdtr

    n, fewer = only_first + only_second, min(only_first, only_second)
    if n == 0:
        return 1.0, 1.0
    at_most = float(bdtr(fewer, n, 0.5))
    point = at_most - (float(bdtr(fewer - 1, n, 0.5)) if fewer else 0.0)
    if only_first == only_second:
        return 1.0, 1.0 - point / 2.0
    return min(1.0, 2.0 * at_most), 2.0 * at_most - point


def _clustered_p(totals: NDArray[Any]) -> float:
    """From each group's surplus of images that the second model alone got right, in the form of Yang et al., 2010."""
    spread = float((totals**2).sum())
    if spread == 0.0:
        return 1.0
    chi_square = (len(totals) - 1.0) / len(totals) * float(totals.sum()) ** 2 / spread
    return 2.0 * NormalDist().cdf(-math.sqrt(chi_square))
