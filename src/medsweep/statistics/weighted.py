"""Sums over images under many weightings at once.

A resample of the images, with replacement, is a whole number for each image: how often it was drawn. So every statistic
here is written once, for a weight matrix (N, B): N images, B weightings. All ones gives the plain value; a bootstrap
gives as many columns as it has resamples. Whole-number weights add without rounding, so a weighted count equals the
count over the repeated images exactly.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def ratio(numerator: Floats, denominator: Floats) -> Floats:
    """`numerator / denominator`, NaN where the denominator is 0."""
    numerator, denominator = np.broadcast_arrays(numerator, denominator)
    quotient: Floats = np.full(denominator.shape, np.nan)
    np.divide(numerator, denominator, out=quotient, where=denominator != 0)
    return quotient


def weighted_mean(values: Floats, weights: Floats) -> Floats:
    """The mean of `values` (N,) under each column of `weights` (N, B): (B,); NaN where a column's sum is 0."""
    # Not a matrix product: a BLAS adds in an order that depends on its threads, and these sums do round.
    return ratio((values[:, None] * weights).sum(axis=0), weights.sum(axis=0))


def sum_by_code(codes: NDArray[np.int64], values: Floats, size: int) -> Floats:
    """The sums of the rows of `values` (N, B) that share a code in 0 … size-1: (size, B)."""
    sums = np.zeros((size, values.shape[1]))
    if len(codes):
        order = np.argsort(codes, kind="stable")
        starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
        sums[codes[order][starts]] = np.add.reduceat(values[order], starts, axis=0)
    return sums


class Ranking:
    """Scores sorted once, from which areas under curves follow for any weighting.

    Args:
        positive: (N,) True for the positive class.
        scores: (N,) higher means more likely positive.
    """

    def __init__(self, positive: NDArray[np.bool_], scores: NDArray[Any]) -> None:
        self._order = np.argsort(-scores, kind="stable")
        descending = scores[self._order]
        last_of_tie = np.append(descending[1:] != descending[:-1], True) if len(scores) else np.empty(0, dtype=bool)
        # Equal scores make one step of the curve: only the last of them is a point. None where nothing is tied.
        self._ends = None if last_of_tie.all() else np.flatnonzero(last_of_tie)
        self._positive = positive[self._order].astype(np.float64)[:, None]

    def areas(self, weights: Floats) -> tuple[Floats, Floats]:
        """AUROC and average precision under each column of `weights` (N, B): two arrays (B,).

        AUROC is the Mann-Whitney probability that a positive outranks a negative, ties counting one half (the
        trapezoid rule); NaN without positives or without negatives. Average precision is Σ (Rₙ - Rₙ₋₁)·Pₙ without
        interpolation; NaN without positives.
        """
        drawn = weights[self._order]
        seen = np.cumsum(drawn, axis=0)
        found = np.cumsum(np.multiply(drawn, self._positive, out=drawn), axis=0)
        if self._ends is not None:
            seen, found = seen[self._ends], found[self._ends]
        if not len(seen):
            nothing = np.full(weights.shape[1], np.nan)
            return nothing, nothing
        positives, negatives = found[-1], seen[-1] - found[-1]
        step = np.diff(found, axis=0, prepend=0.0)
        # Pairs won: each positive of a step beats the negatives below it, and half of those in the step with it.
        alarms = seen - found
        missed = 2.0 * negatives - alarms
        missed[1:] -= alarms[:-1]
        won = (step * missed).sum(axis=0)
        auroc = ratio(won, 2.0 * positives * negatives)
        # Before the first drawn image nothing was seen, and the step is 0.
        precision = np.divide(found, seen, out=np.zeros_like(found), where=seen > 0)
        precision *= step
        return auroc, ratio(precision.sum(axis=0), positives)
