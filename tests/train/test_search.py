"""The search, with workers that answer from the configuration alone: neither order nor interruptions change it."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medsweep.artifacts.files import digest_of
from medsweep.artifacts.run_log import RunLog, read_log, write_log
from medsweep.artifacts.trial import Epoch, TrialOutcome
from medsweep.errors import SearchError
from medsweep.params import Params, Train
from medsweep.train.examples import HOLDOUT, Part, TrainingData
from medsweep.train.executor import WorkerDied
from medsweep.train.fit import FitAnswer, FitTask
from medsweep.train.past import outcomes_of, taken_over
from medsweep.train.ranking import on_front, ranking
from medsweep.train.search import Search
from medsweep.train.stage import trials_csv
from medsweep.train.study import ask_generation

DATA = TrainingData(Path("train"), Path("val"), Path("augmented"), "digest")
# What becomes of some trials, by number: the epoch in which they fail, or die with their worker.
FAILS = {1: 1, 4: 3, 5: 2, 8: 4}
DIES = {2: 1, 6: 4}
FAILS_IN_EVERY_FOLD = {1, 4, 5, 8}
FOLDS = tuple(Part("fold", repeat, fold) for repeat in range(2) for fold in range(2))


class KilledError(BaseException):
    """Stands for SIGKILL: no `except Exception` sees it."""


class Moments:
    """Counts the moments at which a process can be killed, and kills it at one of them."""

    def __init__(self, last: int | None = None) -> None:
        self.count = 0
        self.last = last

    def __call__(self) -> None:
        if self.count == self.last:
            raise KilledError
        self.count += 1


def epoch_of(task: FitTask, number: int) -> Epoch:
    """Figures that depend on the trial's values and the epoch alone, with all the digits that a float has."""
    fold = [] if task.part == HOLDOUT else [task.part.repeat, task.part.fold]
    draw = int(digest_of([task.config.dotted(), number, *fold])[:12], 16) / 16**12
    value = 0.1 + draw / (3 + number)
    return Epoch(number, value * 2, draw, {"val_log_loss": value, "val_auroc": draw, "val_accuracy": draw})


def fake_fit(task: FitTask, moment: Callable[[], None]) -> FitAnswer | WorkerDied:
    number = task.config.number
    done = 0
    if task.start is not None:
        state = json.loads(task.start.read_text())
        assert state["number"] == number
        done = state["epochs"]
    epochs = []
    for epoch in range(done + 1, task.until + 1):
        if DIES.get(number) == epoch:
            return WorkerDied()
        if FAILS.get(number) == epoch and (number in FAILS_IN_EVERY_FOLD or task.part not in FOLDS[::2]):
            return FitAnswer(tuple(epochs), f"the loss is not finite in epoch {epoch}", 1.0, 100, {})
        epochs.append(epoch_of(task, epoch))
    moment()
    task.save_to.write_text(json.dumps({"number": number, "epochs": task.until}))
    facts = {"parameters": 10.0 + number, "multiply_adds": 20.0, "file_bytes": 30.0, "latency_ms": random.random()}
    return FitAnswer(tuple(epochs), None, 1.0, 100, facts if task.measure else {})


class FakeWorkers:
    """Answers in an order of its own."""

    def __init__(self, order: Any, moment: Callable[[], None]) -> None:
        self.order = random.Random(order)
        self.moment = moment
        self.tasks: list[FitTask] = []

    def map_unordered(self, _: Any, tasks: Sequence[FitTask]) -> Iterator[tuple[int, Any]]:
        indices = list(range(len(tasks)))
        self.order.shuffle(indices)
        for index in indices:
            self.tasks.append(tasks[index])
            yield index, fake_fit(tasks[index], self.moment)


class Silent:
    def segment(self, trial: int, epochs: int) -> None: ...
    def finished(self, outcome: TrialOutcome, best: TrialOutcome | None) -> None: ...


class WatchedLog(RunLog):
    """A log that can be cut off before and after each line."""

    moment: Callable[[], None]

    def append(self, event: str, **fields: Any) -> None:
        self.moment()
        super().append(event, **fields)
        self.moment()


def run(
    train: Train,
    work: Path,
    *,
    order: Any = 0,
    moment: Callable[[], None] = lambda: None,
    parts: tuple[Part, ...] = (HOLDOUT,),
) -> tuple[list[TrialOutcome], FakeWorkers]:
    past = list(read_log(work / "log.jsonl"))
    with WatchedLog(work / "log.jsonl") as log:
        log.moment = moment
        workers = FakeWorkers(order, moment)
        search = Search(train, DATA, log, past, work / "checkpoints", workers, Silent(), parts)  # type: ignore[arg-type]
        return search.run(), workers


def told(outcomes: Sequence[TrialOutcome]) -> list[Any]:
    """All of the outcomes but what a clock measured."""
    return [
        (
            each.config,
            each.status,
            each.objective,
            each.history,
            each.error,
            {name: value for name, value in each.facts.items() if name != "latency_ms"},
        )
        for each in outcomes
    ]


def kept(work: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (work / "checkpoints").iterdir()}


@pytest.fixture(autouse=True)
def _no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture
def train(small_params: Callable[..., Params]) -> Train:
    return small_params(search={"trials": 10, "generation": 4, "startup_trials": 3}).train


def test_the_order_of_answers_changes_nothing(train: Train, tmp_path: Path) -> None:
    found = []
    for order in range(5):
        outcomes, _ = run(train, tmp_path / str(order), order=order)
        found.append((told(outcomes), trials_csv(outcomes), kept(tmp_path / str(order))))
    assert all(each == found[0] for each in found[1:])


def test_statuses_and_epochs_follow_successive_halving(train: Train, tmp_path: Path) -> None:
    outcomes, workers = run(train, tmp_path)
    assert [each.config.number for each in outcomes] == list(range(10))
    assert {each.config.number for each in outcomes if each.status == "failed"} <= set(FAILS) | set(DIES)
    rungs = train.search.rungs
    assert rungs == (1, 2, 4)
    reached: dict[int, list[float]] = {rung: [] for rung in rungs}
    for start in range(0, 10, 4):  # by hand, from the histories alone
        alive = outcomes[start : start + 4]
        for rung in rungs:
            alive = [each for each in alive if len(each.history) >= rung]
            reached[rung] += [each.history[rung - 1].validation["val_log_loss"] for each in alive]
            bar = sorted(reached[rung])[-(-len(reached[rung]) // 2) - 1] if reached[rung] else 0.0
            for each in alive:
                stays = rung == 4 or each.history[rung - 1].validation["val_log_loss"] <= bar
                assert stays or (each.status == "pruned" and len(each.history) == rung)
            alive = [each for each in alive if rung == 4 or each.history[rung - 1].validation["val_log_loss"] <= bar]
        assert all(each.status in ("complete", "failed") for each in alive)
    # Each epoch is trained once, by whoever goes on from the checkpoint before it.
    segments = Counter((task.config.number, task.until) for task in workers.tasks)
    assert set(segments.values()) == {1}


def test_only_the_best_checkpoints_are_kept(train: Train, tmp_path: Path) -> None:
    outcomes, _ = run(train, tmp_path)
    best = ranking(train, outcomes)[: train.search.keep_checkpoints]
    assert set(kept(tmp_path)) == {f"trial-{each.config.number:05d}-epoch-0004.npz" for each in best}


def test_a_trial_that_fails_or_dies_later_still_counted_at_its_earlier_rungs(train: Train, tmp_path: Path) -> None:
    outcomes, _ = run(train, tmp_path)
    later = [each for each in outcomes if each.status == "failed" and len(each.history) >= 2]
    assert later, "choose other trials to fail: none of these came so far"
    at_rung = [event["trial"] for event in read_log(tmp_path / "log.jsonl") if event["event"] == "rung"]
    assert all(each.config.number in at_rung for each in later)


@pytest.fixture
def _asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spares Optuna the same question over and over: test_study shows that the same question has the same answer."""
    answers: dict[str, Any] = {}

    def ask(train: Train, outcomes: Sequence[TrialOutcome], generation: int, count: int) -> Any:
        key = repr((train, told(outcomes), generation, count))
        if key not in answers:
            answers[key] = ask_generation(train, outcomes, generation, count)
        return answers[key]

    monkeypatch.setattr("medsweep.train.search.ask_generation", ask)


@pytest.mark.usefixtures("_asked_once")
def test_killed_at_every_moment_and_run_again(train: Train, tmp_path: Path) -> None:
    whole = Moments()
    expected, _ = run(train, tmp_path / "whole", moment=whole)
    want = (told(expected), trials_csv(expected), kept(tmp_path / "whole"))
    assert whole.count > 80
    for last in range(whole.count):
        work = tmp_path / "killed"
        with pytest.raises(KilledError):
            run(train, work, order=last, moment=Moments(last))
        before = list(read_log(work / "log.jsonl"))
        if last % 5 == 0:  # a second death soon after
            with suppress(KilledError):
                run(train, work, order=-last, moment=Moments(1))
        outcomes, workers = run(train, work, order=last + 1)
        assert (told(outcomes), trials_csv(outcomes), kept(work)) == want, f"killed at moment {last}"
        _nothing_logged_is_repeated(before, workers.tasks)
        assert told(outcomes_of(list(read_log(work / "log.jsonl")))) == want[0]
        shutil.rmtree(work)


@pytest.mark.usefixtures("_asked_once")
def test_a_cross_validation_killed_at_any_moment_and_run_again(
    small_params: Callable[..., Params], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = small_params(search={"trials": 6, "generation": 3, "startup_trials": 3}).train
    monkeypatch.setitem(globals(), "FAILS_IN_EVERY_FOLD", {1})
    whole = Moments()
    expected, workers = run(train, tmp_path / "whole", moment=whole, parts=FOLDS)
    want = (told(expected), trials_csv(expected), kept(tmp_path / "whole"))
    assert want[2] == {}, "no model is made of the networks of folds"
    assert {task.part for task in workers.tasks} == set(FOLDS)
    assert len({task.config.seed for task in workers.tasks if task.config.number == 0}) == len(FOLDS)
    failed = [each for each in expected if each.status == "failed"]
    assert {each.config.number for each in failed} >= {1, 2} and len({each.error for each in failed}) > 1
    for last in range(0, whole.count, 2):
        work = tmp_path / "killed"
        with pytest.raises(KilledError):
            run(train, work, order=last, moment=Moments(last), parts=FOLDS)
        outcomes, _ = run(train, work, order=last + 1, parts=FOLDS)
        assert (told(outcomes), trials_csv(outcomes), kept(work)) == want, f"killed at moment {last}"
        assert told(outcomes_of(list(read_log(work / "log.jsonl")))) == want[0]
        shutil.rmtree(work)


def test_a_cross_validation_compares_means_and_tells_the_spread(train: Train, tmp_path: Path) -> None:
    outcomes, workers = run(train, tmp_path, parts=FOLDS)
    complete = next(each for each in outcomes if each.status == "complete")
    each = [
        epoch_of(task, 4).validation["val_log_loss"]
        for task in workers.tasks
        if task.config.number == complete.config.number and task.until == 4
    ]
    assert len(each) == len(FOLDS)
    assert complete.objective == pytest.approx(sum(each) / len(each))
    assert complete.history[-1].validation["val_log_loss_sd"] == pytest.approx(float(np.std(each, ddof=1)))
    assert "val_log_loss_sd" in trials_csv(outcomes).splitlines()[0]
    mixed = [each for each in outcomes if each.status == "failed" and each.error and "fold 1 of repeat 1" in each.error]
    assert mixed, "a trial says in which fold it failed"


def _nothing_logged_is_repeated(events: list[dict[str, Any]], tasks: Sequence[FitTask]) -> None:
    finished = {event["trial"] for event in events if event["event"] == "trial"}
    assert not finished & {task.config.number for task in tasks}
    failed = {event["trial"] for event in events if event["event"] == "epochs" and event["error"] is not None}
    assert not failed & {task.config.number for task in tasks}
    trained = {
        (event["trial"], each["number"]) for event in events if event["event"] == "epochs" for each in event["epochs"]
    }
    for task in tasks:
        assert (task.config.number, task.until) not in trained


def test_a_later_failure_still_raises_the_bar_of_its_earlier_rung_after_a_restart(
    small_params: Callable[..., Params], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best of four at the first rung fails on its way to the second: without it, the third would be promoted."""
    train = small_params(search={"trials": 4, "generation": 4}).train

    def by_number(task: FitTask, number: int) -> Epoch:
        value = 0.1 * (1 + task.config.number)
        return Epoch(number, value, 0.5, {"val_log_loss": value, "val_auroc": 0.5, "val_accuracy": 0.5})

    monkeypatch.setitem(globals(), "epoch_of", by_number)
    monkeypatch.setitem(globals(), "DIES", {})
    for failure in ({"FAILS": {0: 2}}, {"FAILS": {}, "DIES": {0: 2}}):
        for name, value in failure.items():
            monkeypatch.setitem(globals(), name, value)
        work = tmp_path / "-".join(failure)
        whole = Moments()
        expected, _ = run(train, work / "whole", moment=whole)
        assert [each.status for each in expected] == ["failed", "complete", "pruned", "pruned"]
        for last in range(whole.count):
            with pytest.raises(KilledError):
                run(train, work / str(last), moment=Moments(last))
            outcomes, _ = run(train, work / str(last))
            assert told(outcomes) == told(expected), f"killed at moment {last}"


def test_a_lost_checkpoint_is_trained_again_from_the_start(train: Train, tmp_path: Path) -> None:
    whole = Moments()
    expected, _ = run(train, tmp_path / "whole", moment=whole)
    for last in (whole.count // 3, whole.count // 2, 3 * whole.count // 4):
        work = tmp_path / str(last)
        with pytest.raises(KilledError):
            run(train, work, moment=Moments(last))
        shutil.rmtree(work / "checkpoints")
        outcomes, _ = run(train, work, order=3)
        assert told(outcomes) == told(expected)


def test_a_torn_last_line_is_no_fact(train: Train, tmp_path: Path) -> None:
    expected, _ = run(train, tmp_path / "whole")
    with pytest.raises(KilledError):
        run(train, tmp_path / "torn", moment=Moments(40))
    log = tmp_path / "torn" / "log.jsonl"
    log.write_bytes(log.read_bytes()[:-7])
    outcomes, _ = run(train, tmp_path / "torn")
    assert told(outcomes) == told(expected)


def test_a_finished_search_is_read_from_its_log_alone(train: Train, tmp_path: Path) -> None:
    expected, _ = run(train, tmp_path)
    size = (tmp_path / "log.jsonl").stat().st_size
    outcomes, workers = run(train, tmp_path)
    assert told(outcomes) == told(expected)
    assert not workers.tasks
    assert (tmp_path / "log.jsonl").stat().st_size == size


def test_no_completed_trial_is_an_error_with_the_most_frequent_reason(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "FAILS", dict.fromkeys(range(10), 1))
    monkeypatch.setitem(globals(), "DIES", {})
    with pytest.raises(
        SearchError, match=r"none of 10 trials was completed.*the loss is not finite in epoch 1"
    ) as error:
        run(train, tmp_path)
    assert error.value.exit_code == 3


def test_an_objective_that_validation_cannot_tell_fails_the_trial_not_the_search(
    small_params: Callable[..., Params], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = small_params(search={"objective": "val_auroc", "startup_trials": 1}).train
    plain = epoch_of

    def undefined(task: FitTask, number: int) -> Epoch:
        found = plain(task, number)
        lacks = task.config.number == 0
        return Epoch(
            number,
            found.loss,
            found.accuracy,
            {k: v for k, v in found.validation.items() if not (lacks and k == "val_auroc")},
        )

    monkeypatch.setitem(globals(), "epoch_of", undefined)
    outcomes, _ = run(train, tmp_path)
    assert outcomes[0].status == "failed"
    assert outcomes[0].error == "val_auroc is undefined on the validation split"
    assert any(each.status == "complete" for each in outcomes)


def test_ranking_breaks_ties_by_log_loss_then_number(train: Train, tmp_path: Path) -> None:
    outcomes, _ = run(train, tmp_path)
    ranked = ranking(train, outcomes)
    keys = [(each.objective, each.config.number) for each in ranked]
    assert keys == sorted(keys)
    assert {each.status for each in ranked} == {"complete"}


# -- budgets -----------------------------------------------------------------------------------------------------------


def go_on(train: Train, source: Path, work: Path) -> tuple[list[TrialOutcome], FakeWorkers]:
    """The search of `train`, from what another budget's search left in `source`."""
    shutil.copytree(source, work)
    write_log(work / "log.jsonl", taken_over(list(read_log(source / "log.jsonl")), train.search))
    return run(train, work)


@pytest.mark.usefixtures("_asked_once")
@pytest.mark.parametrize(("before", "after"), [(4, 10), (10, 16), (6, 11), (5, 8), (10, 6), (9, 2)])
def test_another_budget_equals_the_search_that_had_it_from_the_start(
    before: int, after: int, small_params: Callable[..., Params], tmp_path: Path
) -> None:
    first, second = (
        small_params(search={"trials": trials, "generation": 4, "startup_trials": 3}).train
        for trials in (before, after)
    )
    run(first, tmp_path / "first")
    expected, _ = run(second, tmp_path / "whole")
    outcomes, workers = go_on(second, tmp_path / "first", tmp_path / "second")
    assert told(outcomes) == told(expected) and trials_csv(outcomes) == trials_csv(expected)
    # Generations that both have whole are the same trials, and not one of them is trained again.
    same = min(before, after) // 4 * 4
    assert all(same <= task.config.number < after for task in workers.tasks)


@pytest.mark.usefixtures("_asked_once")
def test_an_interrupted_search_can_be_given_another_budget(small_params: Callable[..., Params], tmp_path: Path) -> None:
    first, second = (
        small_params(search={"trials": trials, "generation": 4, "startup_trials": 3}).train for trials in (10, 13)
    )
    whole = Moments()
    run(first, tmp_path / "first", moment=whole)
    expected, _ = run(second, tmp_path / "whole")
    for last in range(0, whole.count, 3):
        with pytest.raises(KilledError):
            run(first, tmp_path / f"killed-{last}", moment=Moments(last))
        outcomes, _ = go_on(second, tmp_path / f"killed-{last}", tmp_path / f"second-{last}")
        assert told(outcomes) == told(expected), f"killed at moment {last}"


def stops(work: Path) -> list[dict[str, Any]]:
    return [event for event in read_log(work / "log.jsonl") if event["event"] == "stopped"]


def test_a_time_budget_ends_the_search_between_generations_and_is_replayed_from_the_log(
    small_params: Callable[..., Params], tmp_path: Path
) -> None:
    def limited(minutes: float | None) -> Train:
        settings = {"trials": 16, "generation": 4, "startup_trials": 3, "max_minutes": minutes}
        return small_params(search=settings).train

    expected, _ = run(limited(None), tmp_path / "whole")
    seconds = sum(each.seconds for each in expected[:8])
    outcomes, _ = run(limited(seconds / 60), tmp_path / "limited")
    assert told(outcomes) == told(expected[:8])
    [stop] = stops(tmp_path / "limited")
    assert stop["trials"] == 8 and stop["kind"] == "time" and "max_minutes" in stop["reason"]
    # The fact counts, not the clock of whoever reads it.
    again, workers = run(limited(seconds / 60 / 100), tmp_path / "limited")
    assert told(again) == told(outcomes) and not workers.tasks and len(stops(tmp_path / "limited")) == 1
    (tmp_path / "anew").mkdir()
    write_log(tmp_path / "anew" / "log.jsonl", stops(tmp_path / "limited"))
    anew, workers = run(limited(seconds / 60 / 100), tmp_path / "anew")
    assert told(anew) == told(outcomes) and workers.tasks
    # A larger budget goes on.
    more, _ = go_on(limited(None), tmp_path / "limited", tmp_path / "more")
    assert told(more) == told(expected)


def test_a_search_that_no_longer_improves_ends_with_its_reason(
    small_params: Callable[..., Params], tmp_path: Path
) -> None:
    def patient(patience: int | None, improvement: float) -> Train:
        settings = {"trials": 24, "generation": 4, "startup_trials": 3}
        return small_params(search=settings | {"patience": patience, "min_improvement": improvement}).train

    expected, _ = run(patient(None, 0.0), tmp_path / "whole")

    def best(outcomes: Sequence[TrialOutcome]) -> float:
        return min((each.objective or 0.0 for each in outcomes if each.status == "complete"), default=9.0)

    for patience, improvement in ((4, 0.0), (8, 0.0), (4, 0.02)):
        work = tmp_path / f"{patience}-{improvement}"
        outcomes, _ = run(patient(patience, improvement), work)
        before = {n: best(expected[: n - patience]) for n in range(4, 24, 4) if n > patience}
        ended = [n for n, value in before.items() if value < 9 and best(expected[:n]) >= value - improvement]
        ends = min(ended, default=24)
        assert told(outcomes) == told(expected[:ends])
        assert [each["kind"] for each in stops(work)] == (["patience"] if ends < 24 else [])
    assert len(run(patient(4, 0.0), tmp_path / "4-0.0")[0]) < 24, "choose others: none of these ends early"


def test_where_cost_is_searched_for_a_cheaper_trial_goes_on(
    small_params: Callable[..., Params], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values fall and costs rise with the number: without cost half is pruned, with it each is on the front but none
    is when costs fall too."""
    monkeypatch.setitem(globals(), "FAILS", {})
    monkeypatch.setitem(globals(), "DIES", {})

    def by_number(task: FitTask, number: int) -> Epoch:
        value = 0.9 - 0.1 * task.config.number
        return Epoch(number, value, 0.5, {"val_log_loss": value, "val_auroc": 0.5, "val_accuracy": 0.5})

    monkeypatch.setitem(globals(), "epoch_of", by_number)
    statuses = {}
    for cost in ("none", "parameters", "multiply_adds"):
        train = small_params(search={"trials": 4, "generation": 4, "cost": cost}).train
        outcomes, _ = run(train, tmp_path / cost)
        statuses[cost] = [each.status for each in outcomes]
    assert statuses["none"] == ["pruned", "pruned", "pruned", "complete"]
    assert statuses["parameters"] == ["complete"] * 4, "10 + number: better and dearer"
    assert statuses["multiply_adds"] == statuses["none"], "all cost the same"


def test_the_front() -> None:
    values, costs = [0.9, 0.8, 0.8, 0.95, 0.9], [2.0, 1.0, 3.0, 9.0, 2.0]
    front = [on_front(each, values, costs, maximize=True) for each in range(5)]
    assert front == [True, True, False, True, True], "equals do not part each other"
    assert [on_front(each, values, costs, maximize=False) for each in range(5)] == [False, True, False, False, False]
