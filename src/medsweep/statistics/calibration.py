"""How far probabilities can be taken at their word: reliability diagrams and the expected calibration error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medsweep.artifacts.record import Task
from medsweep.statistics.weighted import Floats, ratio, sum_by_code

BINS = 15
"""Equal-width bins, as in Guo et al., 2017 (On Calibration of Modern Neural Networks)."""
_CELLS_AT_ONCE = 1_000_000


@dataclass(frozen=True)
class Reliability:
    """A reliability diagram: one entry a bin, each array (bins,).

    Args:
        centre: the bin's middle, 0 to 1.
        confidence: the mean probability of what fell into the bin; NaN where it is empty.
        observed: the fraction of it that came true; NaN where it is empty.
        count: how many fell into the bin.
    """

    centre: Floats
    confidence: Floats
    observed: Floats
    count: NDArray[np.int64]


def confidence_and_outcome(labels: NDArray[Any], probabilities: NDArray[Any], task: Task) -> tuple[Floats, Floats]:
    """What was claimed, and whether it came true.

    Binary: the probability of the positive class, and whether the image is positive. Multi-class and ordinal: the
    probability of the most probable class (the first of equal ones), and whether it is the true class. Multi-label:
    each label by itself as in binary.

    Returns:
        two arrays (N,), or (N, L) for multi-label.
    """
    scores = np.asarray(probabilities, dtype=np.float64)
    if task == "binary":
        return scores[:, 1], (labels == 1).astype(np.float64)
    if task == "multilabel":
        return scores, labels.astype(np.float64)
    return scores.max(axis=1), (scores.argmax(axis=1) == labels).astype(np.float64)


def reliability(labels: NDArray[Any], probabilities: NDArray[Any], task: Task, bins: int) -> Reliability:
    """The reliability diagram over `bins` equal-width bins of the confidence (see `confidence_and_outcome`).

    Multi-label: all pairs of image and label together. For one label's own diagram pass its column of labels and
    (1-p, p) as a binary task.
    """
    confidence, outcome = (values.ravel() for values in confidence_and_outcome(labels, probabilities, task))
    rows = np.stack([np.ones_like(confidence), confidence, outcome], axis=1)
    count, claimed, true = sum_by_code(_bin_of(confidence, bins), rows, bins).T
    centre = (np.arange(bins) + 0.5) / bins
    return Reliability(centre, ratio(claimed, count), ratio(true, count), count.astype(np.int64))


def ece(labels: NDArray[Any], probabilities: NDArray[Any], task: Task, bins: int) -> float:
    """The expected calibration error, 0 to 1: the mean over images of |confidence - observed| of their bin.

    Multi-label: the mean over labels. NaN without images. (Naeini et al., 2015; Guo et al., 2017.)
    """
    confidence, outcome = confidence_and_outcome(labels, probabilities, task)
    return float(weighted_ece(confidence, outcome, np.ones((len(confidence), 1)), bins)[0])


def weighted_ece(confidence: Floats, outcome: Floats, weights: Floats, bins: int) -> Floats:
    """The expected calibration error under each column of `weights` (N, B): (B,).

    Args:
        confidence: (N,) or (N, L), 0 to 1; with labels, the result is the mean over them.
        outcome: of the same shape, 0 or 1.
        weights: (N, B), at least 0.
        bins: how many equal-width bins.
    """
    if confidence.ndim == 2:
        each = [weighted_ece(confidence[:, k], outcome[:, k], weights, bins) for k in range(confidence.shape[1])]
        return np.asarray(np.mean(each, axis=0))
    gaps = sum_by_code(_bin_of(confidence, bins), (confidence - outcome)[:, None] * weights, bins)
    return ratio(np.abs(gaps).sum(axis=0), weights.sum(axis=0))


@dataclass(frozen=True)
class BrierParts:
    """Murphy's (1973) decomposition of the Brier score, over bins of the claimed probability.

    Args:
        brier: reliability - resolution + uncertainty + within_bins.
        reliability: how far claimed and observed frequencies lie apart: 0 is perfect.
        resolution: how far observed frequencies differ between bins: the higher the better.
        uncertainty: the variance of the outcome, which no model changes.
        within_bins: what bins hide, since they lump different probabilities (Stephenson et al., 2008).
    """

    brier: float
    reliability: float
    resolution: float
    uncertainty: float
    within_bins: float


def brier_parts(claimed: Floats, outcome: Floats, bins: int) -> BrierParts:
    """Decompose the Brier score of claimed probabilities (N,) of outcomes (N,) 0 or 1; NaN without images."""
    if not len(claimed):
        return BrierParts(*[float("nan")] * 5)
    rows = np.stack([np.ones_like(claimed), claimed, outcome], axis=1)
    count, sums, true = sum_by_code(_bin_of(claimed, bins), rows, bins).T
    there = count > 0
    share, mean, observed = count[there] / len(claimed), sums[there] / count[there], true[there] / count[there]
    base = float(outcome.mean())
    brier = float(((claimed - outcome) ** 2).mean())
    reliable = float((share * (mean - observed) ** 2).sum())
    resolved = float((share * (observed - base) ** 2).sum())
    uncertain = base * (1.0 - base)
    return BrierParts(brier, reliable, resolved, uncertain, brier - (reliable - resolved + uncertain))


def chance_ece(confidence: Floats, bins: int, *, draws: int, seed: int) -> Floats:
    """ECE of a perfectly calibrated model that claims these probabilities: its distribution by chance, (draws,).

    Outcomes are drawn from the claimed probabilities themselves (consistency resampling, Bröcker & Smith, 2007): with
    few images, ECE is above 0 however good the calibration.

    Args:
        confidence: (N,) or (N, L); with labels, the mean over them.
        bins: how many equal-width bins.
        draws: how many to draw.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    columns = confidence[:, None] if confidence.ndim == 1 else confidence
    found = np.zeros(draws)
    for k in range(columns.shape[1]):
        claimed = columns[:, k]
        code = _bin_of(claimed, bins)
        step = max(1, _CELLS_AT_ONCE // max(1, len(claimed)))
        for start in range(0, draws, step):
            outcome = rng.random((len(claimed), min(step, draws - start))) < claimed[:, None]
            gaps = sum_by_code(code, claimed[:, None] - outcome, bins)
            found[start : start + outcome.shape[1]] += np.abs(gaps).sum(axis=0) / max(1, len(claimed))
    return np.asarray(found / columns.shape[1])


def recalibration(positive: NDArray[np.bool_], claimed: Floats) -> tuple[float, float]:
    """Intercept and slope of the outcome's log-odds on the claimed log-odds (Cox, 1958): 0 and 1 where all is well.

    A slope below 1 means too sure, an intercept below 0 too high on the whole. The intercept is that of a slope held
    at 1 (calibration in the large). Newton's steps; NaN where they do not end: a class is missing, or the claimed
    probabilities part the classes without a mistake.
    """
    clipped = np.clip(claimed, 1e-9, 1.0 - 1e-9)
    x = np.log(clipped) - np.log1p(-clipped)
    y = positive.astype(np.float64)
    if not 0 < y.sum() < len(y):
        return float("nan"), float("nan")
    (intercept,) = _logistic(np.ones((len(x), 1)), y, x)
    _, slope = _logistic(np.stack([np.ones_like(x), x], axis=1), y, np.zeros_like(x))
    return intercept, slope


def _logistic(design: Floats, y: Floats, offset: Floats) -> list[float]:
    found = np.zeros(design.shape[1])
    for _ in range(50):
        p = 1.0 / (1.0 + np.exp(-np.clip(offset + (design * found).sum(axis=1), -500, 500)))
        slope = (design * (y - p)[:, None]).sum(axis=0)
        curvature = (design[:, :, None] * design[:, None, :] * (p * (1 - p))[:, None, None]).sum(axis=0)
        try:
            step = np.linalg.solve(curvature, slope)
        except np.linalg.LinAlgError:
            break
        found = found + step
        if not np.isfinite(found).all() or np.abs(found).max() > 100:
            break
        if np.abs(step).max() < 1e-10:
            return [float(each) for each in found]
    return [float("nan")] * design.shape[1]


def _bin_of(confidence: Floats, bins: int) -> NDArray[np.int64]:
    """Bins are closed above, (i/bins, (i+1)/bins]; 0 falls into the first."""
    inner = np.arange(1, bins) / bins
    return np.asarray(np.searchsorted(inner, confidence, side="left"), dtype=np.int64)
