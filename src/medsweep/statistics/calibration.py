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


def _bin_of(confidence: Floats, bins: int) -> NDArray[np.int64]:
    """Bins are closed above, (i/bins, (i+1)/bins]; 0 falls into the first."""
    inner = np.arange(1, bins) / bins
    return np.asarray(np.searchsorted(inner, confidence, side="left"), dtype=np.int64)
