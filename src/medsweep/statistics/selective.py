"""Answering only where a model is sure: accuracy against coverage, and the area under that curve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medsweep.artifacts.record import Task
from medsweep.statistics.weighted import Floats, ratio

_EDGE = 1e-12


def confidence_of(task: Task, probabilities: NDArray[Any], threshold: Any) -> Floats:
    """How sure a decision is, the higher the surer: (N,), for multi-label (N, L).

    Binary and multi-label: how far the probability lies from its threshold, on the scale of log-odds (at a threshold of
    0.5 that is the order of the larger probability). Else the largest probability.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    if task in ("multiclass", "ordinal"):
        return np.asarray(p.max(axis=1))
    claimed = p[:, 1] if task == "binary" else p
    cuts = np.asarray(threshold, dtype=np.float64)
    return np.asarray(np.abs(_log_odds(claimed) - _log_odds(cuts[0] if task == "binary" else cuts)))


def _log_odds(p: Any) -> Any:
    clipped = np.clip(p, _EDGE, 1.0 - _EDGE)
    return np.log(clipped) - np.log1p(-clipped)


@dataclass(frozen=True)
class RiskCoverage:
    """A risk-coverage curve's points, from the surest images to all: each array (P,).

    Args:
        coverage: the share of images answered, above 0 to 1.
        risk: the share of wrong answers among them.
        confidence: the least confidence answered.
    """

    coverage: Floats
    risk: Floats
    confidence: Floats


class Selective:
    """Answers sorted by confidence once, from which the curve's area follows for any weighting.

    Images of equal confidence are answered together.

    Args:
        wrong: (N,) True where the answer is wrong.
        confidence: (N,).
    """

    def __init__(self, wrong: NDArray[np.bool_], confidence: Floats) -> None:
        self._order = np.argsort(-confidence, kind="stable")
        falling = confidence[self._order]
        self._ends = np.flatnonzero(np.append(falling[1:] != falling[:-1], True)) if len(falling) else np.empty(0, int)
        self._wrong = wrong[self._order].astype(np.float64)[:, None]
        self._confidence = falling[self._ends]

    def curve(self) -> RiskCoverage:
        """The curve of the images as they are; no points without images."""
        seen, wrong = self._sums(np.ones((len(self._order), 1)))
        if not len(seen):
            return RiskCoverage(np.empty(0), np.empty(0), np.empty(0))
        return RiskCoverage(seen[:, 0] / seen[-1, 0], ratio(wrong, seen)[:, 0], self._confidence)

    def area(self, weights: Floats) -> Floats:
        """AURC: the mean over coverages of the risk (Geifman & El-Yaniv, 2017), under each column of `weights` (N, B).

        0 to 1, the lower the better; NaN where a column's weights are all 0.
        """
        seen, wrong = self._sums(weights)
        if not len(seen):
            return np.full(weights.shape[1], np.nan)
        step = np.diff(seen, axis=0, prepend=0.0)
        risk = np.divide(wrong, seen, out=np.zeros_like(wrong), where=seen > 0)
        return ratio((step * risk).sum(axis=0), seen[-1])

    def _sums(self, weights: Floats) -> tuple[Floats, Floats]:
        drawn = weights[self._order]
        return np.cumsum(drawn, axis=0)[self._ends], np.cumsum(drawn * self._wrong, axis=0)[self._ends]


def best_area(n_wrong: int, n: int) -> float:
    """AURC of a confidence that puts every wrong answer last: what is left is not to be had by abstaining."""
    if not n:
        return float("nan")
    answered = np.arange(1, n + 1)
    return float((np.maximum(0, answered - (n - n_wrong)) / answered).mean())
