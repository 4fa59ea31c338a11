"""The search: generations of trials, compared at rungs, each fact logged before it is acted on.

Successive halving (Jamieson & Talwalkar, 2016) inside generations: all trials of a generation train to the first rung;
a trial goes on if its value is among the best 1/reduction_factor of all that ever reached the rung (or, where cost is
searched for, if none of them was as good and cheaper). Everything is decided in the order of trial numbers, so the
outcome does not depend on how many workers there are or which is faster, and a resumed search equals an uninterrupted
one.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, Protocol

from medsweep.artifacts.run_log import RunLog
from medsweep.artifacts.trial import Epoch, Status, TrialConfig, TrialOutcome
from medsweep.errors import SearchError
from medsweep.params import Train
from medsweep.statistics.objective import OBJECTIVES
from medsweep.train.examples import HOLDOUT, Part, TrainingData
from medsweep.train.executor import WorkerDied, Workers
from medsweep.train.fit import FitAnswer, FitTask, fit
from medsweep.train.past import Past, RunningTrial
from medsweep.train.ranking import on_front, ranking, searched_cost
from medsweep.train.space import derived_seed
from medsweep.train.stopping import stop_after
from medsweep.train.study import ask_generation


class Progress(Protocol):
    """Who is told how far the search is."""

    def segment(self, trial: int, epochs: int) -> None:
        """A trial trained some epochs."""

    def finished(self, outcome: TrialOutcome, best: TrialOutcome | None) -> None:
        """A trial is done, and which is the best so far."""


@dataclass
class _Reached:
    """All that ever reached a rung: their values there, and their costs where they are searched for."""

    values: list[float] = field(default_factory=list)
    costs: list[float | None] = field(default_factory=list)


@dataclass(frozen=True)
class Search:
    """One search.

    Args:
        train: the stage's parameters.
        data: the arrays.
        log: the run log; what it already holds of this search is replayed, not repeated.
        events: what the log held when the search was taken up.
        checkpoints: the folder for checkpoints in use.
        workers: where trials are fitted.
        progress: who is told.
        parts: what each network of a trial is trained and looked at with: one, or in a cross-validation one a fold.
        predictions: the folder for what they say of what they are looked at with; None: it is not kept.
    """

    train: Train
    data: TrainingData
    log: RunLog
    events: Sequence[dict[str, Any]]
    checkpoints: Path
    workers: Workers
    progress: Progress
    parts: tuple[Part, ...] = (HOLDOUT,)
    predictions: Path | None = None

    def run(self) -> list[TrialOutcome]:
        """Every trial's outcome, in the order of their numbers.

        Raises:
            SearchError: no trial was completed; the message has the most frequent reason.
        """
        search = self.train.search
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        past = Past(self.events)
        outcomes: list[TrialOutcome] = []
        reached: dict[int, _Reached] = defaultdict(_Reached)
        generation = 0
        while len(outcomes) < search.trials and not self._ends(past, outcomes, generation):
            configs = past.generation(generation)
            if configs is None:
                count = min(search.generation, search.trials - len(outcomes))
                configs = ask_generation(self.train, outcomes, generation, count)
                asked = [{"number": each.number, "seed": each.seed, "values": each.dotted()} for each in configs]
                self.log.append("generation", number=generation, trials=asked)
            outcomes += self._run_generation(configs, past, reached)
            best = ranking(self.train, outcomes)
            for outcome in outcomes[-len(configs) :]:
                self.progress.finished(outcome, best[0] if best else None)
            self._drop_checkpoints(outcomes)
            generation += 1
        if not any(each.status == "complete" for each in outcomes):
            raise _nothing_complete(outcomes)
        return outcomes

    def _ends(self, past: Past, outcomes: Sequence[TrialOutcome], generation: int) -> bool:
        """Whether the search ends before this generation; a fact of the log is not asked for again."""
        if past.stop is not None:
            return len(outcomes) >= past.stop.trials
        if past.generation(generation) is not None:
            return False
        stop = stop_after(self.train, outcomes)
        if stop is None:
            return False
        self.log.append("stopped", trials=stop.trials, kind=stop.kind, reason=stop.reason)
        return True

    def _run_generation(
        self, configs: list[TrialConfig], past: Past, reached: dict[int, _Reached]
    ) -> list[TrialOutcome]:
        trials = [past.take_up(config, len(self.parts)) for config in configs]
        for trial in trials:
            self.progress.segment(trial.config.number, len(trial.history))
        status: dict[int, Status] = {}
        alive = list(trials)
        for rung in self.train.search.rungs:
            self._train_to(rung, alive)
            values: dict[int, float] = {}
            for trial in alive:
                # One that failed on its way to a later rung had a value here, which others were compared with.
                had_value = trial.error is None or past.has_rung(trial.config.number, rung)
                if not had_value or len(trial.history) < rung:
                    status[trial.config.number] = "failed"
                else:
                    values[trial.config.number] = self._value(trial, rung)
            last = rung == self.train.search.max_epochs
            here = reached[rung]
            places = {number: len(here.values) + index for index, number in enumerate(values)}
            costs = {each.config.number: searched_cost(self.train, each.facts) for each in alive if each.facts}
            here.values += values.values()
            here.costs += [costs[number] for number in values]
            bar = self._bar(here.values)
            survivors = []
            for trial in alive:
                number = trial.config.number
                if number not in values:
                    continue
                stays = last or not self._better(bar, values[number]) or self._is_cheap(here, places[number])
                if not past.has_rung(number, rung):
                    decision = "promoted" if stays else "pruned"
                    self.log.append("rung", trial=number, epoch=rung, value=values[number], decision=decision)
                if last:
                    status[number] = "complete"
                elif stays:
                    survivors.append(trial)
                else:
                    status[number] = "pruned"
            for trial in alive:
                if trial not in survivors and not past.has_outcome(trial.config.number):
                    self._log_outcome(trial, status[trial.config.number])
            for trial in alive:
                if trial not in survivors:
                    self._drop_all_checkpoints(trial, but=rung if status[trial.config.number] == "complete" else None)
            alive = survivors
        return [self._outcome(trial, status[trial.config.number]) for trial in trials]

    def _train_to(self, rung: int, trials: Iterable[RunningTrial]) -> None:
        waiting = []
        for trial in trials:
            self._gather(trial)  # an interruption may have come between the last network and their means
            if trial.error is not None or len(trial.history) >= rung:
                continue
            for index, part in enumerate(self.parts):
                if trial.errors[index] is not None or len(trial.networks[index]) >= rung:
                    continue
                start = self._newest_checkpoint(trial, index)
                # What was trained after the checkpoint is trained again, to the same figures.
                done = start[0] if start is not None else 0
                trial.networks[index] = trial.networks[index][:done]
                waiting.append((trial, index, part, start))
        # The slowest first (as far as is known), so that no worker waits long for the last one. Order changes nothing.
        waiting.sort(key=lambda each: -each[0].seconds)
        tasks = [
            self.task(trial.config, index, until=rung, start=start[1] if start else None, measure=not trial.facts)
            for trial, index, _, start in waiting
        ]
        for place, answer in self.workers.map_unordered(fit, tasks):
            trial, index, _, start = waiting[place]
            self._take(trial, index, answer)
            if start is not None and start[0] < rung:
                start[1].unlink(missing_ok=True)

    def task(
        self, config: TrialConfig, index: int, *, until: int, start: Path | None, measure: bool = False
    ) -> FitTask:
        """Training the network `index` of a trial up to an epoch."""
        part = self.parts[index]
        # Folds differ in their seeds as well, so that the spread over them is that over seeds too.
        seed = config.seed if part == HOLDOUT else derived_seed("fold", config.seed, part.repeat, part.fold)
        return FitTask(
            config=replace(config, seed=seed),
            data=self.data,
            max_epochs=self.train.search.max_epochs,
            until=until,
            start=start,
            save_to=self._checkpoint(config.number, until, index),
            measure=measure and index == 0,
            part=part,
            predictions=self.predictions_at(config.number, until, index),
        )

    def _take(self, trial: RunningTrial, index: int, answer: FitAnswer | WorkerDied) -> None:
        number = trial.config.number
        if isinstance(answer, WorkerDied):
            answer = FitAnswer((), answer.reason, 0.0, 0, {})
        trial.networks[index] += answer.epochs
        trial.seconds += answer.seconds
        trial.peak_rss = max(trial.peak_rss, answer.peak_rss)
        trial.facts |= answer.facts
        error = answer.error
        objective = self.train.search.objective
        if error is None and objective not in trial.networks[index][-1].validation:
            error = f"{objective} is undefined on the validation split"
        trial.errors[index] = error
        if len(self.parts) > 1:
            used = _used(trial)
            self.log.append("fold", trial=number, fold=index, epochs=_lines(answer.epochs), used=used, error=error)
        self._gather(trial)
        self.progress.segment(number, len(answer.epochs))

    def _gather(self, trial: RunningTrial) -> None:
        """Tell the epochs that all networks of a trial have come to, as their means, and why the trial failed."""
        if trial.error is not None:
            return
        lengths = [len(each) for each in trial.networks]
        ahead = [n for n, error in zip(lengths, trial.errors, strict=True) if error is None]
        if len(set(ahead)) > 1 or (ahead and min(ahead) <= len(trial.history)):
            return  # some are still on their way, or nothing is new
        done = len(trial.history)
        new = [self._mean([each[epoch] for each in trial.networks]) for epoch in range(done, min(lengths))]
        failed = [index for index, error in enumerate(trial.errors) if error is not None]
        if failed:
            trial.error = trial.errors[failed[0]]
            if len(self.parts) > 1:
                part = self.parts[failed[0]]
                trial.error = f"fold {part.fold + 1} of repeat {part.repeat + 1}: {trial.error}"
        elif not new:
            return
        trial.history += new
        self.log.append("epochs", trial=trial.config.number, epochs=_lines(new), used=_used(trial), error=trial.error)

    def _mean(self, epochs: Sequence[Epoch]) -> Epoch:
        """One epoch of several networks: means, and beside the objective its standard deviation over them."""
        if len(epochs) == 1:
            return epochs[0]
        names = [name for name in epochs[0].validation if all(name in each.validation for each in epochs)]
        values = {name: [each.validation[name] for each in epochs] for name in names}
        found = {name: statistics.fmean(each) for name, each in values.items()}
        objective = self.train.search.objective
        if objective in values:
            found[f"{objective}_sd"] = statistics.stdev(values[objective])
        loss, accuracy = (statistics.fmean(getattr(each, name) for each in epochs) for name in ("loss", "accuracy"))
        return Epoch(epochs[0].number, loss, accuracy, found)

    def predictions_of(self, outcomes: Sequence[TrialOutcome]) -> list[list[list[Path]]]:
        """By trial, and by rung that it came to, the files with what its networks said there; what was lost is trained
        again.

        Raises:
            SearchError: it could not be trained again.
        """
        places = [
            [(outcome.config, index, rung) for index in range(len(self.parts))]
            for outcome in outcomes
            for rung in self._reached(outcome)
        ]
        found = [[self._told_at(*place) for place in rung] for rung in places]
        lost = [
            self.task(config, index, until=rung, start=None)
            for (config, index, rung), path in zip(chain(*places), chain(*found), strict=True)
            if not path.is_file()
        ]
        for place, answer in self.workers.map_unordered(fit, lost):
            if isinstance(answer, WorkerDied) or answer.error is not None:
                raise SearchError(f"the predictions of {lost[place].config.title} were lost, and so is the trial.")
        rungs = iter(found)
        return [list(islice(rungs, len(self._reached(outcome)))) for outcome in outcomes]

    def _reached(self, outcome: TrialOutcome) -> list[int]:
        return [rung for rung in self.train.search.rungs if rung <= len(outcome.history)]

    def _told_at(self, config: TrialConfig, index: int, rung: int) -> Path:
        path = self.predictions_at(config.number, rung, index)
        assert path is not None  # whoever asks for predictions has them kept
        return path

    # -- comparing -----------------------------------------------------------------------------------------------------

    def _value(self, trial: RunningTrial, rung: int) -> float:
        return float(trial.history[rung - 1].validation[self.train.search.objective])

    def _better(self, first: float, second: float) -> bool:
        return first > second if self._maximize else first < second

    def _is_cheap(self, here: _Reached, place: int) -> bool:
        """Whether a trial goes on because it is on the front of value and cost, where cost is searched for."""
        costs = [each for each in here.costs if each is not None]
        return bool(costs) and on_front(place, here.values, costs, maximize=self._maximize)

    @property
    def _maximize(self) -> bool:
        return OBJECTIVES[self.train.search.objective].direction == "maximize"

    def _bar(self, values: list[float]) -> float:
        """The value that a trial must reach to go on: the last of the best 1/reduction_factor so far."""
        if not values:
            return math.nan
        keep = math.ceil(len(values) / self.train.search.reduction_factor)
        return sorted(values, reverse=self._maximize)[keep - 1]

    # -- checkpoints ---------------------------------------------------------------------------------------------------

    def _checkpoint(self, number: int, epoch: int, index: int = 0) -> Path:
        return self.checkpoints / f"{self._name(number, epoch, index)}.npz"

    def _name(self, number: int, epoch: int, index: int) -> str:
        fold = f"-fold-{index:03d}" if len(self.parts) > 1 else ""
        return f"trial-{number:05d}{fold}-epoch-{epoch:04d}"

    def predictions_at(self, number: int, epoch: int, index: int) -> Path | None:
        """Where what a trial's network said after an epoch lies."""
        return self.predictions / f"{self._name(number, epoch, index)}.npy" if self.predictions is not None else None

    def checkpoint_of(self, outcome: TrialOutcome) -> Path:
        """Where a completed trial's last checkpoint lies while it is kept."""
        return self._checkpoint(outcome.config.number, self.train.search.max_epochs)

    def _newest_checkpoint(self, trial: RunningTrial, index: int) -> tuple[int, Path] | None:
        for rung in reversed(self.train.search.rungs):
            path = self._checkpoint(trial.config.number, rung, index)
            if rung <= len(trial.networks[index]) and path.is_file():
                return rung, path
        return None

    def _drop_all_checkpoints(self, trial: RunningTrial, *, but: int | None) -> None:
        """Of all rungs, for an interruption may have left one beside its successor."""
        keeps = but if self.parts == (HOLDOUT,) else None  # no model is made of the networks of folds
        for rung in self.train.search.rungs:
            for index in range(len(self.parts)):
                if rung != keeps:
                    self._checkpoint(trial.config.number, rung, index).unlink(missing_ok=True)

    def _drop_checkpoints(self, outcomes: Sequence[TrialOutcome]) -> None:
        kept = {each.config.number for each in ranking(self.train, outcomes)[: self.train.search.keep_checkpoints]}
        for outcome in outcomes:
            if outcome.config.number not in kept:
                self.checkpoint_of(outcome).unlink(missing_ok=True)

    # -- outcomes ------------------------------------------------------------------------------------------------------

    def _outcome(self, trial: RunningTrial, status: Status) -> TrialOutcome:
        objective = None
        if status != "failed":
            objective = float(trial.history[-1].validation[self.train.search.objective])
        return TrialOutcome(
            config=trial.config,
            status=status,
            objective=objective,
            history=tuple(trial.history),
            seconds=trial.seconds,
            peak_rss=trial.peak_rss,
            checkpoint=None,
            error=trial.error,
            facts=trial.facts,
        )

    def _log_outcome(self, trial: RunningTrial, status: Status) -> None:
        outcome = self._outcome(trial, status)
        self.log.append(
            "trial",
            trial=outcome.config.number,
            title=outcome.config.title,
            status=outcome.status,
            objective=outcome.objective,
            error=outcome.error,
            epochs=len(outcome.history),
            seconds=round(outcome.seconds, 3),
            peak_rss=outcome.peak_rss,
            facts=dict(outcome.facts),
        )


def _lines(epochs: Iterable[Epoch]) -> list[dict[str, Any]]:
    return [
        {"number": each.number, "loss": each.loss, "accuracy": each.accuracy, "validation": dict(each.validation)}
        for each in epochs
    ]


def _used(trial: RunningTrial) -> dict[str, Any]:
    return {"seconds": round(trial.seconds, 3), "peak_rss": trial.peak_rss, "facts": dict(trial.facts)}


def _nothing_complete(outcomes: Sequence[TrialOutcome]) -> SearchError:
    reasons: dict[str, int] = defaultdict(int)
    for each in outcomes:
        if each.error is not None:
            reasons[each.error] += 1
    most = max(reasons, key=lambda reason: reasons[reason]) if reasons else "none was trained to the last epoch"
    return SearchError(
        f"none of {len(outcomes)} trials was completed; most often: {most}.",
        where="train.search",
        fix="Change train.space so that this cannot happen, or ask for more trials.",
    )
