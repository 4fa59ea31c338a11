"""The variance of AUROCs without resampling: DeLong's, and Obuchowski's where a patient has several images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medsweep.errors import DataError
from medsweep.statistics.intervals import Interval, independent
from medsweep.statistics.weighted import Floats

_SMALLEST = 1e-12


@dataclass(frozen=True)
class Areas:
    """AUROCs of C curves over the same images, with their covariance.

    Args:
        values: (C,); NaN where a curve has no positive or no negative image.
        covariance: (C, C); NaN also where a curve's positives or negatives belong to one group.
    """

    values: Floats
    covariance: Floats

    def combined(self, weights: Floats) -> Areas:
        """Linear combinations of the curves (means over classes, differences of models): `weights` (R, C)."""
        return Areas(weights @ self.values, weights @ self.covariance @ weights.T)

    @property
    def errors(self) -> Floats:
        """(C,) standard errors."""
        # Rounding may leave a variance of 0 a little below it.
        return np.sqrt(np.maximum(np.diag(self.covariance), 0.0))


def areas(positive: NDArray[Any], scores: NDArray[Any], groups: NDArray[Any]) -> Areas:
    """AUROCs and their covariance from each image's placement among the images of the other kind.

    Where every image is a group of its own this is DeLong, DeLong & Clarke-Pearson, 1988 (Biometrics 44:837), by
    midranks (Sun & Xu, 2014). Else placements are summed by group (Obuchowski, 1997, Biometrics 53:567), which lets
    images of a patient depend on each other and a patient have images of both kinds. Curves may differ in what is
    positive (one class against the rest) as well as in the scores (several models).

    Args:
        positive: (N, C) True where the image is positive for the curve.
        scores: (N, C) higher means more likely positive.
        groups: (N,) what belongs together: the patient, or the image itself.

    Raises:
        DataError: the shapes disagree, or a score is NaN.
    """
    truth, ranked = np.asarray(positive, dtype=bool), np.asarray(scores, dtype=np.float64)
    if truth.ndim != 2 or truth.shape != ranked.shape or len(groups) != len(truth):
        raise DataError(
            f"{truth.shape} labels, {ranked.shape} scores and {len(groups)} groups do not belong together.",
            where="scores",
        )
    if not np.isfinite(ranked).all():
        raise DataError("there are NaN or infinite scores.", where="scores")
    names, member = np.unique(groups, return_inverse=True)
    size, curves = len(names), ranked.shape[1]
    values, positives, negatives = np.empty(curves), np.empty((size, curves)), np.empty((size, curves))
    corrections = np.empty((2, curves))
    for c in range(curves):
        own = truth[:, c]
        values[c], placements = _placements(own, ranked[:, c])
        for index, (kind, sums) in enumerate(((own, positives), (~own, negatives))):
            off = np.where(kind, placements - values[c], 0.0) / max(1, int(kind.sum()))
            sums[:, c] = np.bincount(member, weights=off, minlength=size)
            corrections[index, c] = _correction(len(np.unique(member[kind])))
    between = _correction(size) ** 2
    same = (positives * corrections[0]).T @ (positives * corrections[0])
    same += (negatives * corrections[1]).T @ (negatives * corrections[1])
    across = positives.T @ negatives
    # A group with images of both kinds ties the two sides together; without such groups `across` is 0.
    return Areas(values, same + between * (across + across.T))


def area_interval(value: float, error: float, confidence: float, patients: int) -> Interval:
    """The interval of an AUROC from its standard error, on the scale on which binormal AUROCs vary alike.

    The interval holds every A that lies no further from the value than Student's t (of `patients` - 1) times the
    standard error that A would have. Near 1 an AUROC varies less, by the binormal model's
    exp(-a^2 / 4) sqrt(3 a^2 + 8) with a = sqrt(2) times the normal quantile of A (Obuchowski, 1998, Statistical Methods
    in Medical Research 7:371, equal numbers on both sides).
    docs/statistics.md has its coverage.

    Args:
        value: the AUROC.
        error: its standard error.
        confidence: 0.95, say.
        patients: how many independent ones it rests on, at least 2 (see `independent`).

    Returns:
        ends within 0 to 1; none where the error is undefined, or where it is 0: images that are parted without a
        mistake tell a variance nothing.
    """
    if not 0.0 < value < 1.0 or not math.isfinite(error) or error <= 0.0:
        return Interval(value, float("nan"), float("nan"), 0)
    from scipy.optimize import brentq
    from scipy.stats import t

    reach = float(t.ppf(0.5 + confidence / 2.0, patients - 1)) * error / _spread(value)

    def beyond(area: float) -> float:
        return abs(area - value) - reach * _spread(area)

    least, most = min(_SMALLEST, value / 2.0), 1.0 - min(_SMALLEST, (1.0 - value) / 2.0)
    low = brentq(beyond, least, value) if beyond(least) > 0.0 else 0.0
    high = brentq(beyond, value, most) if beyond(most) > 0.0 else 1.0
    return Interval(value, float(low), float(high), 0)


def plain_interval(value: float, error: float, confidence: float) -> Interval:
    """DeLong's own interval of an AUROC or of a difference of two, by the normal distribution and not cut off.

    Returns:
        no ends where the error is undefined or 0.
    """
    if not math.isfinite(value) or not math.isfinite(error) or error <= 0.0:
        return Interval(value, float("nan"), float("nan"), 0)
    half = NormalDist().inv_cdf(0.5 + confidence / 2.0) * error
    return Interval(value, value - half, value + half, 0)


def _spread(area: float) -> float:
    """What the standard error of a binormal AUROC is proportional to."""
    a = math.sqrt(2.0) * NormalDist().inv_cdf(area)
    return math.exp(-a * a / 4.0) * math.sqrt(3.0 * a * a + 8.0)


def auroc_intervals(
    task: str, labels: NDArray[Any], probabilities: NDArray[Any], groups: NDArray[Any], confidence: float
) -> list[Interval]:
    """A model's headline AUROC with its interval, and where there are several classes each one's behind it.

    Args:
        task: binary, multiclass, ordinal or multilabel.
        labels: (N,) class indices, or (N, L) zeros and ones.
        probabilities: (N, K).
        groups: (N,) what belongs together.
        confidence: 0.95, say.
    """
    positive, scores = class_curves(task, labels, probabilities)
    found = areas(positive, scores, groups).combined(mean_and_each(positive.shape[1]))
    return [
        area_interval(float(value), float(error), confidence, rest)
        for value, error, rest in zip(found.values, found.errors, patients_of(positive, groups), strict=True)
    ]


def mean_and_each(curves: int) -> Floats:
    """(R, C) weights: the mean of the curves, and where there are several each one."""
    if curves == 1:
        return np.eye(1)
    return np.vstack([np.full((1, curves), 1.0 / curves), np.eye(curves)])


def patients_of(positive: NDArray[np.bool_], groups: NDArray[Any]) -> list[int]:
    """How many independent patients each row of `mean_and_each` rests on."""
    each = [independent(groups, own) for own in positive.T]
    return each if len(each) == 1 else [independent(groups), *each]


def class_curves(task: str, labels: NDArray[Any], probabilities: NDArray[Any]) -> tuple[NDArray[np.bool_], Floats]:
    """What `areas` takes for a model's headline AUROC, the unweighted mean of its curves.

    Args:
        task: binary (one curve, of the positive class), multiclass, ordinal or multilabel (a curve a class).
        labels: (N,) class indices, or (N, L) zeros and ones.
        probabilities: (N, K).

    Returns:
        (N, C) positives and (N, C) scores.
    """
    scores = np.asarray(probabilities, dtype=np.float64)
    if task == "binary":
        return (labels == 1)[:, None], scores[:, 1:2]
    if task == "multilabel":
        return np.asarray(labels == 1), scores
    return np.asarray(labels[:, None] == np.arange(scores.shape[1])), scores


def _placements(positive: NDArray[np.bool_], scores: Floats) -> tuple[float, Floats]:
    """The AUROC, and for each image the share of the other kind's images that it is on the right side of: (N,)."""
    m, n = int(positive.sum()), int((~positive).sum())
    if not m or not n:
        return float("nan"), np.full(len(scores), np.nan)
    among_all = _midranks(scores)
    found = np.empty(len(scores))
    found[positive] = (among_all[positive] - _midranks(scores[positive])) / n
    found[~positive] = 1.0 - (among_all[~positive] - _midranks(scores[~positive])) / m
    return float(found[positive].mean()), found


def _midranks(values: Floats) -> Floats:
    """Ranks from 1, equal values sharing their mean rank."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(count) - (count - 1) / 2.0)[place])


def _correction(count: int) -> float:
    """The root of n / (n - 1), which makes a sum of squared deviations unbiased; NaN for a single one."""
    return math.sqrt(count / (count - 1.0)) if count > 1 else float("nan")
