"""Which trial is chosen, how sure its value is, and by how much it flatters.

All of it looks at what the trials said of the validation images (in a cross-validation: of the images of each fold when
it was held out), never at the test split.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medsweep.artifacts import files
from medsweep.artifacts.record import Task
from medsweep.artifacts.trial import TrialOutcome
from medsweep.params import Train
from medsweep.statistics.intervals import resample_weights
from medsweep.statistics.objective import OBJECTIVES
from medsweep.statistics.selection import (
    Resampled,
    SelectionBias,
    choose,
    grown,
    remaining_distance,
    resampled,
    scores_of,
    selection_bias,
    standard_error,
    survivors,
)
from medsweep.statistics.weighted import Floats
from medsweep.train.ranking import cost_of, ranking
from medsweep.train.space import derived_seed
from medsweep.train.validation import Validation


@dataclass(frozen=True)
class Told:
    """What every trial that did not fail said in its last epoch, and at the rungs on the way.

    Args:
        outcomes: those T trials.
        rungs: at each rung (T, R, N, K) float32; where a trial did not come to it, what it said last. R is 1 but for
            repeated cross-validation.
        reached: (T,) how many rungs it came to.
    """

    outcomes: tuple[TrialOutcome, ...]
    rungs: tuple[NDArray[np.float32], ...]
    reached: tuple[int, ...]

    @property
    def probabilities(self) -> NDArray[np.float32]:
        """(T, R, N, K) what each said last."""
        return self.rungs[-1]

    def save(self, path: Path, validation: Validation) -> None:
        """Write it with the images' record ids; numpy dates the members of its archives 1980."""
        arrays = {
            "record_ids": validation.record_ids,
            "labels": validation.labels,
            "trials": np.array([each.config.number for each in self.outcomes]),
            "epochs": np.array([len(each.history) for each in self.outcomes]),
            "probabilities": self.probabilities,
        }
        if validation.folds is not None:
            arrays["folds"] = validation.folds
        with files.replacing(path) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(stream, allow_pickle=False, **arrays)


class Halving:
    """The search's pruning at rungs, done again where images count otherwise.

    Args:
        train: the stage's parameters.
        task: binary, multiclass, multilabel or ordinal.
        told: what the trials said.
        validation: what they said it of.
    """

    def __init__(self, train: Train, task: Task, told: Told, validation: Validation) -> None:
        search = train.search
        self._reduction = search.reduction_factor
        self._generations = [each.config.number // search.generation for each in told.outcomes]
        self._reached = told.reached
        self._maximize = OBJECTIVES[search.objective].direction == "maximize"
        self._scores = [
            [scores_of(search.objective, task, validation.labels, each) for each in rung] for rung in told.rungs
        ]
        # Searches for cheap trials keep others too, by a front; there no trial is left out again.
        self._by_value = search.cost == "none"
        complete = [index for index, each in enumerate(told.outcomes) if each.status == "complete"]
        everyone = self._values(np.ones((len(validation.labels), 1)))
        remaining = remaining_distance([each[complete, 0] for each in everyone], maximize=self._maximize)
        self.remaining = remaining[np.asarray(told.reached) - 1]
        """(T,) how much of its distance from a perfect value a trial would have kept to the end (see `grown`)."""

    def survivors(self, weights: Floats) -> NDArray[np.bool_]:
        """(T, B) whether a trial would have come as far as is known of it, had each image counted so often.

        Args:
            weights: (N, B).
        """
        if not self._by_value:
            return np.ones((len(self._reached), weights.shape[1]), np.bool_)
        return survivors(
            self._values(weights),
            self._reached,
            self._generations,
            reduction=self._reduction,
            maximize=self._maximize,
        )

    def grown(self, values: Floats) -> Floats:
        """Values (T, B) of what trials said last, as they would have been at the end."""
        return grown(values, self.remaining[:, np.newaxis], maximize=self._maximize)

    def _values(self, weights: Floats) -> list[Floats]:
        return [np.stack([scores(weights) for scores in rung]) for rung in self._scores]


@dataclass(frozen=True)
class Selection:
    """The chosen trial.

    Args:
        winner: by `train.search.choose`.
        best: the one with the best value.
        standard_error: of the best one's value, by resampling patients; None where it cannot be told.
        bias: how much such a choice flatters; None where it cannot be told.
        compared: trials that the choice was made among.
    """

    winner: TrialOutcome
    best: TrialOutcome
    standard_error: float | None
    bias: SelectionBias | None
    compared: int


def select(train: Train, task: Task, told: Told, validation: Validation) -> Selection:
    """Choose among the completed trials."""
    search = train.search
    best = ranking(train, told.outcomes)[0]
    scores = [scores_of(search.objective, task, validation.labels, each) for each in told.probabilities]
    seed = derived_seed("selection", train.seed)
    found = resampled(scores, validation.groups, samples=search.resamples, seed=seed)
    place = {each.config.number: index for index, each in enumerate(told.outcomes)}
    error = standard_error(found.drawn[place[best.config.number]])
    winner, cost, allowed = best, None, None
    if search.choose == "one_standard_error" and np.isfinite(error):
        allowed = error
        cost = np.array([cost_of(train, each) for each in told.outcomes])
        complete = ranking(train, told.outcomes)
        values = np.array([each.objective for each in complete], np.float64)
        chosen = choose(
            values,
            search.objective,
            cost=np.array([cost_of(train, each) for each in complete]),
            standard_error=allowed,
        )
        winner = complete[chosen]
    halving = Halving(train, task, told, validation)
    blocks = resample_weights(validation.groups, samples=search.resamples, seed=seed)
    bias = selection_bias(
        Resampled(found.values, halving.grown(found.drawn), halving.grown(found.left)),
        search.objective,
        chosen=place[winner.config.number],
        among=np.concatenate([halving.survivors(weights) for weights in blocks], axis=1),
        cost=cost,
        standard_error=allowed,
    )
    return Selection(winner, best, float(error) if np.isfinite(error) else None, bias, len(told.outcomes))
