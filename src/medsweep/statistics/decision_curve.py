"""Net benefit of deciding by a model, by treating everybody and by treating nobody (Vickers & Elkin, 2006)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medsweep.statistics.weighted import Floats, ratio, sum_by_code


class DecisionCurve:
    """Net benefit over threshold probabilities, for any weighting of the images.

    At the threshold p a person is treated whose probability is at least p; choosing p says that one needless treatment
    is worth p/(1 - p) of one that was needed. Net benefit is the share of images that are true positives, less the
    share of false positives times p/(1 - p): from -∞ to the prevalence, in true positives an image.

    Args:
        positive: (N,) True where treatment is needed.
        scores: (N,) probabilities.
        thresholds: (T,) rising, above 0 and below 1.
    """

    def __init__(self, positive: NDArray[np.bool_], scores: NDArray[Any], thresholds: Floats) -> None:
        self._positive = positive.astype(np.float64)[:, None]
        # How many thresholds a score reaches.
        self._reached = np.asarray(np.searchsorted(thresholds, scores, side="right"), dtype=np.int64)
        self._odds = (thresholds / (1.0 - thresholds))[:, None]
        self._size = len(thresholds)

    def net_benefit(self, weights: Floats) -> tuple[Floats, Floats]:
        """The model's, and that of treating everybody, under each column of `weights` (N, B): two arrays (T, B).

        Treating nobody has 0. NaN where a column's weights are all 0.
        """
        hits = self._called(self._positive * weights)
        alarms = self._called((1.0 - self._positive) * weights)
        n = weights.sum(axis=0)
        # Index 0 has reached no threshold: everybody, as far as `_called` goes.
        model = ratio(hits[1:] - alarms[1:] * self._odds, n)
        everybody = ratio(hits[:1] - alarms[:1] * self._odds, n)
        return model, everybody

    def _called(self, weights: Floats) -> Floats:
        """(T + 1, B) the weight of images that reach at least so many thresholds."""
        sums = sum_by_code(self._reached, weights, self._size + 1)
        return np.cumsum(sums[::-1], axis=0)[::-1]
