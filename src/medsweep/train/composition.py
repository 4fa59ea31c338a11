"""What single network or ensemble becomes the model, and what that choice is worth.

All of it looks at what the trials said of the validation images, never at the test split.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from medsweep.artifacts.record import Task
from medsweep.params import Train
from medsweep.statistics.intervals import resample_weights
from medsweep.statistics.objective import OBJECTIVES
from medsweep.statistics.selection import Scores, grown, scores_of
from medsweep.statistics.temperature import fit_temperature, logits_of, tempered
from medsweep.statistics.weighted import Floats
from medsweep.train.ranking import ranking
from medsweep.train.selection import Halving, Selection, Told
from medsweep.train.space import derived_seed
from medsweep.train.validation import Validation


@dataclass(frozen=True)
class Composition:
    """Which trials the model is made of.

    Args:
        kind: single or ensemble.
        why: the reason, for a person.
        members: trial numbers, one as often as it weighs.
        temperatures: of each of them that its logits are divided by before they are averaged, by number.
        value: of the objective, of a model made of several, on the images that it was composed by; None for one.
        single, ensemble: what either choice is worth on images that it did not see; None where not compared.
    """

    kind: str
    why: str
    members: tuple[int, ...]
    temperatures: dict[int, float] = field(default_factory=dict)
    value: float | None = None
    single: float | None = None
    ensemble: float | None = None

    @property
    def weights(self) -> dict[int, float]:
        """Each member's share."""
        return {number: count / len(self.members) for number, count in sorted(Counter(self.members).items())}


class Pool:
    """The trials that an ensemble may be made of, their predictions as calibrated logits.

    Args:
        told: what all trials said; a trial's place is its index there.
        task: binary, multiclass, multilabel or ordinal.
        validation: what they said it of.
        objective: what is compared.
        remaining: (T,) of trials that were stopped, as `Halving` has it.
    """

    def __init__(self, told: Told, task: Task, validation: Validation, objective: str, remaining: Floats) -> None:
        self._told, self._task, self._validation, self.objective = told, task, validation, objective
        self._remaining = remaining
        self.place = {each.config.number: index for index, each in enumerate(told.outcomes)}
        self._calibrated: dict[int, tuple[float, Floats]] = {}
        self._scores: dict[tuple[int, ...], Scores] = {}

    def number(self, place: int) -> int:
        """A trial's number."""
        return self._told.outcomes[place].config.number

    def temperature(self, place: int) -> float:
        """What a trial's logits are divided by.

        Losses differ in how sure they make a network: averaged as they are, the loudest would decide.
        """
        return self._logits(place)[0]

    def _logits(self, place: int) -> tuple[float, Floats]:
        if place not in self._calibrated:
            logits = logits_of(self._task, self._told.probabilities[place])
            temperature = fit_temperature(self._task, self._validation.labels, logits[0])
            self._calibrated[place] = temperature, logits / temperature
        return self._calibrated[place]

    def probabilities(self, members: Sequence[int]) -> Floats:
        """(R, N, K) of the ensemble of these trials, given by their places and as often as they weigh."""
        mean = np.mean([self._logits(each)[1] for each in members], axis=0)
        return np.stack([tempered(self._task, each, 1.0) for each in mean])

    def scores(self, members: Sequence[int]) -> Scores:
        key = tuple(sorted(members))
        if key not in self._scores:
            found = self.probabilities(key)
            self._scores[key] = scores_of(self.objective, self._task, self._validation.labels, found)
        return self._scores[key]

    def values(self, members: Sequence[int], weights: Floats) -> Floats:
        """(B,) what an ensemble is worth, weights (N, B) telling how often each image counts.

        Of members that were stopped on the way, what it would have been worth at the end.
        """
        remaining = np.asarray(np.mean(self._remaining[list(members)]))
        return grown(self.scores(members)(weights), remaining, maximize=self.sign > 0)

    def alone(self, weights: Floats) -> Floats:
        """(T, B) what each trial is worth by itself."""
        return np.stack([self.values((place,), weights) for place in range(len(self._told.outcomes))])

    def best(self, values: Floats, most: int) -> list[int]:
        """The places of the best by these values (T,), best first; those without a value are left out."""
        upward = self.sign * values
        order = sorted(np.flatnonzero(np.isfinite(upward)), key=lambda place: (-upward[place], place))
        return [int(place) for place in order[:most]]

    def alike(self, values: Mapping[int, float], standard_error: float | None) -> list[int]:
        """The places of the candidates whose value is within one standard error of the best, best first.

        Args:
            values: of the objective, by place, in the order that decides between equals.
            standard_error: None where it cannot be told: then the best alone.
        """
        upward = {place: self.sign * value if np.isfinite(value) else -np.inf for place, value in values.items()}
        order = sorted(upward, key=lambda place: -upward[place])
        within = upward[order[0]] - (standard_error or 0.0)
        return [place for place in order if upward[place] >= within and np.isfinite(upward[place])] or order[:1]

    def members(
        self, weights: Floats, candidates: Sequence[int], most: int, standard_error: float | None
    ) -> tuple[int, ...]:
        """Caruana et al. (2004), with their sorted initialization: the mean of the best, then greedily one by one.

        It begins with all whose values cannot be told apart from the best one's: to choose among them is to draw lots,
        while their mean is rarely worse than the luckiest of them. From there on whatever helps most is added, with
        replacement, while it helps.

        Args:
            weights: (N, 1) how often each image counts.
            candidates: places, best first.
            most: members in all, repetitions counted.
            standard_error: of the best one's value.
        """

        def value(members: tuple[int, ...]) -> float:
            found = self.sign * float(self.values(members, weights)[0])
            return found if np.isfinite(found) else -np.inf

        alone = {place: float(self.values((place,), weights)[0]) for place in candidates}
        members = tuple(self.alike(alone, standard_error)[:most])
        reached = value(members)
        while len(members) < most:
            tried = [(value((*members, place)), -rank) for rank, place in enumerate(candidates)]
            best, rank = max(tried)
            if best <= reached:
                break
            members, reached = (*members, candidates[-rank]), best
        return members

    @property
    def sign(self) -> float:
        """1 where more of the objective is better, else -1."""
        return 1.0 if OBJECTIVES[self.objective].direction == "maximize" else -1.0


def compose(train: Train, task: Task, selection: Selection, told: Told, validation: Validation) -> Composition:
    """The single network or the ensemble, by `train.final.kind`.

    What either is worth is told by choosing both anew in each resample of the patients, among all trials, and looking
    at them on those that were not drawn. `auto` takes the ensemble where it is worth more than the single network.
    """
    final, search = train.final, train.search
    single = selection.winner.config.number
    if final.kind == "single" or final.members == 1:
        return Composition("single", "train.final asks for a single network", (single,))
    if final.kind == "auto" and search.choose == "one_standard_error":
        return Composition("single", "the smallest model is asked for (train.search.choose)", (single,))
    halving = Halving(train, task, told, validation)
    pool = Pool(told, task, validation, search.objective, halving.remaining)
    candidates = [pool.place[each.config.number] for each in ranking(train, told.outcomes)[: final.members]]
    everyone = np.ones((len(validation.labels), 1))
    members = pool.members(everyone, candidates, final.members, selection.standard_error)
    if len(set(members)) == 1:
        why = "no other trial is within one standard error of the best, and no mean with others was better"
        return Composition("single", why, (single,))
    seed = derived_seed("ensemble", train.seed)
    one, many = _worth(
        pool, halving, validation, final.members, selection.standard_error, samples=final.resamples, seed=seed
    )
    worth = tuple(x if np.isfinite(x) else None for x in (one, many))
    if final.kind == "auto":
        why = f"{search.objective} on images that the choice did not see: ensemble {many:.4f}, single {one:.4f}"
        if not (np.isfinite(many) and pool.sign * many > pool.sign * one):
            return Composition("single", why, (single,), {}, None, *worth)
    else:
        why = f"of the best trials {len(set(members))} together (train.final.kind: ensemble)"
    value = float(pool.scores(members)(everyone)[0])
    numbers = tuple(pool.number(each) for each in members)
    temperatures = {pool.number(each): pool.temperature(each) for each in candidates}
    return Composition("ensemble", why, numbers, temperatures, value, *worth)


def _worth(
    pool: Pool,
    halving: Halving,
    validation: Validation,
    most: int,
    standard_error: float | None,
    *,
    samples: int,
    seed: int,
) -> tuple[float, float]:
    """What choosing the best trial, and what choosing an ensemble, is worth on images that were not drawn.

    Who is there to choose among is found anew too: who was still there at the end was chosen by these images.
    """
    values: list[tuple[float, float]] = []
    for block in resample_weights(validation.groups, samples=samples, seed=seed):
        alone = np.where(halving.survivors(block), pool.alone(block), np.nan)
        for column in range(block.shape[1]):
            drawn = block[:, column : column + 1]
            left = (drawn == 0).astype(np.float64)
            candidates = pool.best(alone[:, column], most)
            if not candidates:
                continue
            chosen = pool.members(drawn, candidates, most, standard_error)
            pair = (pool.values(candidates[:1], left)[0], pool.values(chosen, left)[0])
            if np.isfinite(pair).all():
                values.append((float(pair[0]), float(pair[1])))
    if not values:
        return float("nan"), float("nan")
    one, many = np.mean(values, axis=0)
    return float(one), float(many)
