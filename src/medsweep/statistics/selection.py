"""Choosing one of many by the same images: how sure the best value is, and by how much it flatters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medsweep.artifacts.record import Task
from medsweep.statistics.intervals import resample_weights
from medsweep.statistics.metrics import METRICS, Predictions, Weighted
from medsweep.statistics.objective import OBJECTIVES
from medsweep.statistics.weighted import Floats

Scores = Callable[[Floats], Floats]
"""Weights (N, B) to the values (B,) of an objective."""


@dataclass(frozen=True)
class Resampled:
    """The objective of T candidates in resamples of the images that they were all compared on.

    Args:
        values: (T,) on the images as they are.
        drawn: (T, B) on the images of each resample, as often as they were drawn.
        left: (T, B) on the images that were not drawn.
    """

    values: Floats
    drawn: Floats
    left: Floats


@dataclass(frozen=True)
class SelectionBias:
    """What a choice promises, and what it can be expected to keep.

    Args:
        value: the chosen one's value on the images that it was chosen by.
        corrected: what such a choice is worth on images that it did not see.
        low, high: its 95 % interval over the resamples.
        samples: resamples in which it could be told.
    """

    value: float
    corrected: float
    low: float
    high: float
    samples: int

    @property
    def inflation(self) -> float:
        """By how much the value is better than it ought to be; above 0 for scores, below 0 for losses."""
        return self.value - self.corrected


def scores_of(objective: str, task: Task, labels: NDArray[Any], probabilities: NDArray[Any]) -> Scores:
    """An objective of `OBJECTIVES` as a function of weights.

    Args:
        objective: its name.
        task: binary, multiclass, multilabel or ordinal.
        labels: (N,) or (N, L).
        probabilities: (N, K), or (R, N, K): of R repeats, whose values are averaged.
    """
    repeats = probabilities if probabilities.ndim == 3 else probabilities[np.newaxis]
    row = METRICS[objective.removeprefix("val_")]
    nothing = np.zeros(labels.shape, np.int64)  # objectives look at no decisions
    known = [Predictions(task, labels, np.asarray(each, np.float64), nothing) for each in repeats]

    def scores(weights: Floats) -> Floats:
        return np.asarray(np.mean([row.function(Weighted(each, weights)) for each in known], axis=0))

    return scores


def resampled(candidates: Sequence[Scores], groups: NDArray[Any], *, samples: int, seed: int) -> Resampled:
    """Every candidate's objective in the same resamples of whole groups (patients)."""
    plain = np.ones((len(groups), 1))
    values = np.array([scores(plain)[0] for scores in candidates])
    drawn, left = [], []
    for weights in resample_weights(groups, samples=samples, seed=seed):
        drawn.append(np.stack([scores(weights) for scores in candidates]))
        out = (weights == 0).astype(np.float64)
        left.append(np.stack([scores(out) for scores in candidates]))
    return Resampled(values, np.concatenate(drawn, axis=1), np.concatenate(left, axis=1))


def standard_error(values: Floats) -> float:
    """The bootstrap's standard error of a value, from its values in resamples; NaN where none could be told."""
    there = values[np.isfinite(values)]
    return float(there.std(ddof=1)) if len(there) > 1 else float("nan")


def choose(values: Floats, objective: str, *, cost: Floats | None = None, standard_error: float | None = None) -> int:
    """The chosen candidate's index; -1 where no value is finite.

    Args:
        values: (T,) of the objective.
        objective: says which way is better.
        cost: (T,) what the cheapest one is sought by; None: the best value is chosen. Of equals the first.
        standard_error: with `cost`, how much worse than the best one a value may be.
    """
    maximize = OBJECTIVES[objective].direction == "maximize"
    upward = np.where(np.isfinite(values), values if maximize else -values, -np.inf)
    best = int(np.argmax(upward))
    if not np.isfinite(upward[best]):
        return -1
    if cost is None or standard_error is None or not np.isfinite(standard_error):
        return best
    near = np.flatnonzero(upward >= upward[best] - standard_error)
    return int(min(near, key=lambda each: (cost[each], -upward[each], each)))


def survivors(
    values: Sequence[Floats],
    reached: Sequence[int],
    generations: Sequence[int],
    *,
    reduction: int,
    maximize: bool,
) -> NDArray[np.bool_]:
    """Which of T trials successive halving would leave over, in each of B resamples of the images it compares them by.

    In the order of generations, and at each rung, a trial goes on if its value is among the best 1/reduction of all
    that ever reached the rung. A trial that would have gone on and did not is left over, with what is known of it; one
    that did go on and would not have is not.

    Args:
        values: for each rung (T, B) of the objective; of a trial that did not come to a rung anything.
        reached: (T,) how many rungs it came to, at least 1.
        generations: (T,) which trials were compared together, rising.
        reduction: of how many one goes on.
        maximize: whether more is better.

    Returns:
        (T, B).
    """
    n_trials, resamples = values[0].shape
    upward = [np.where(np.isfinite(each), each if maximize else -each, -np.inf) for each in values]
    far = np.asarray(reached)
    left = np.zeros((n_trials, resamples), np.bool_)
    pools = [np.empty((0, resamples)) for _ in values]
    for generation in dict.fromkeys(generations):
        alive = np.repeat((np.asarray(generations) == generation)[:, None], resamples, axis=1)
        for rung, value in enumerate(upward):
            here = alive & (far > rung)[:, None]
            # NaN stands for who is not here; it sorts behind all others.
            pools[rung] = np.concatenate([pools[rung], np.where(here, value, np.nan)[here.any(axis=1)]])
            ranked = -np.sort(-pools[rung], axis=0)
            keep = np.ceil((~np.isnan(pools[rung])).sum(axis=0) / reduction).astype(np.int64)
            if not len(ranked):
                break
            bar = np.take_along_axis(ranked, np.maximum(keep - 1, 0)[None], axis=0)[0]
            last = rung == len(values) - 1
            alive = here & (last | (value >= bar))
            left |= alive & (far == rung + 1)[:, None]
    return left


def remaining_distance(values: Sequence[Floats], *, maximize: bool) -> Floats:
    """How much of its distance from a perfect value (1 of a score, 0 of a loss) a candidate keeps from each of E rungs
    to the last one, by those that went all the way.

    Args:
        values: for each rung (C,) of the objective, of the C candidates that came to the last one.
        maximize: whether more is better.

    Returns:
        (E,), the last of them 1.
    """
    distances = np.array([np.mean(1.0 - each if maximize else each) for each in values])
    return np.where(distances > 0, distances[-1] / np.where(distances > 0, distances, 1.0), 1.0)


def grown(values: Floats, remaining: Floats, *, maximize: bool) -> Floats:
    """What stopped candidates would have come to: values with that share of their distance from a perfect value."""
    return 1.0 - (1.0 - values) * remaining if maximize else values * remaining


def selection_bias(
    found: Resampled,
    objective: str,
    *,
    chosen: int,
    among: NDArray[np.bool_] | None = None,
    cost: Floats | None = None,
    standard_error: float | None = None,
) -> SelectionBias | None:
    """The bootstrap bias correction of a choice among candidates (Tsamardinos et al., 2018, BBC-CV).

    The choice is made anew in each resample, and what it chose is looked at on the images that were not drawn. The mean
    of that is the corrected value: it has no image in common with the choice. It is a little too low, since a resample
    tells candidates apart less well than all images do.

    Args:
        found: the candidates' objectives.
        objective, cost, standard_error: how is chosen (see `choose`).
        chosen: who was, on all images.
        among: (T, B) who can be chosen in each resample; None: all.

    Returns:
        None where no resample could tell (too few images of a class).
    """
    kept = []
    drawn = found.drawn if among is None else np.where(among, found.drawn, np.nan)
    for column in range(drawn.shape[1]):
        index = choose(drawn[:, column], objective, cost=cost, standard_error=standard_error)
        if index >= 0 and np.isfinite(found.left[index, column]):
            kept.append(found.left[index, column])
    if not kept:
        return None
    values = np.array(kept)
    low, high = np.quantile(values, [0.025, 0.975])
    return SelectionBias(float(found.values[chosen]), float(values.mean()), float(low), float(high), len(kept))
