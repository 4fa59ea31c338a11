"""The variance of AUROCs without resampling: DeLong's, and Obuchowski's where a patient has several images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medsweep.errors import DataError
from medsweep.statistics.intervals import Interval
from medsweep.statistics.weighted import Floats

Scale = Literal["logit", "plain"]


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


def area_interval(value: float, error: float, confidence: float, scale: Scale) -> Interval:
    """The interval of an AUROC from its standard error.

    Args:
        value: the AUROC.
        error: its standard error.
        confidence: 0.95, say.
        scale: 'plain' is DeLong's own, cut off at 0 and 1; 'logit' is symmetric in ln(A / (1 - A)) and so never leaves
            0 to 1, and covers better near 1 (Pepe, 2003, section 5.2).

    Returns:
        no ends where the error is undefined, or where it is 0: images that are parted without a mistake tell a
        variance nothing.
    """
    z = NormalDist().inv_cdf(0.5 + confidence / 2.0)
    if not math.isfinite(value) or not math.isfinite(error) or error <= 0.0 or (scale == "logit" and value in (0, 1)):
        return Interval(value, float("nan"), float("nan"), 0)
    if scale == "plain":
        return Interval(value, max(0.0, value - z * error), min(1.0, value + z * error), 0)
    centre, half = math.log(value / (1.0 - value)), z * error / (value * (1.0 - value))
    low, high = (1.0 / (1.0 + math.exp(-each)) for each in (centre - half, centre + half))
    return Interval(value, low, high, 0)


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
