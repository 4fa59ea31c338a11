"""What a search's log tells: to resume it, to go on from it with another budget, to list its outcomes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from medsweep.artifacts.trial import Epoch, TrialConfig, TrialOutcome
from medsweep.params import Search


@dataclass
class RunningTrial:
    """A trial on its way through the rungs.

    Args:
        config: what was asked.
        history: the epochs that all its networks have been trained.
        networks: the epochs of each of its networks: one, or in a cross-validation one a fold.
        errors: why each of them failed.
        error: why the trial did.
    """

    config: TrialConfig
    history: list[Epoch] = field(default_factory=list)
    networks: list[list[Epoch]] = field(default_factory=list)
    errors: list[str | None] = field(default_factory=list)
    seconds: float = 0.0
    peak_rss: int = 0
    facts: dict[str, float] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True)
class Stop:
    """A search ended after so many trials; kind: time or patience; the reason is for a person."""

    trials: int
    kind: str
    reason: str


class Past:
    """What an earlier attempt at the same search left in its log."""

    def __init__(self, events: Sequence[dict[str, Any]]) -> None:
        self._generations: dict[int, list[dict[str, Any]]] = {}
        self._epochs: dict[int, dict[int, Epoch]] = defaultdict(dict)
        self._folds: dict[tuple[int, int], dict[int, Epoch]] = defaultdict(dict)
        self._fold_errors: dict[tuple[int, int], str] = {}
        self._used: dict[int, dict[str, Any]] = {}
        self._errors: dict[int, str] = {}
        self._rungs: set[tuple[int, int]] = set()
        self._outcomes: set[int] = set()
        self.stop = stop_in(events)
        for event in events:
            if event["event"] == "generation":
                self._generations[event["number"]] = event["trials"]
            elif event["event"] == "epochs":
                number = event["trial"]
                self._used[number] = event["used"]
                for each in event["epochs"]:
                    epoch = Epoch(each["number"], each["loss"], each["accuracy"], each["validation"])
                    self._epochs[number][epoch.number] = epoch
                if event["error"] is not None:
                    self._errors[number] = event["error"]
            elif event["event"] == "fold":
                place = (event["trial"], event["fold"])
                self._used[event["trial"]] = event["used"]
                for each in event["epochs"]:
                    epoch = Epoch(each["number"], each["loss"], each["accuracy"], each["validation"])
                    self._folds[place][epoch.number] = epoch
                if event["error"] is not None:
                    self._fold_errors[place] = event["error"]
            elif event["event"] == "rung":
                self._rungs.add((event["trial"], event["epoch"]))
            elif event["event"] == "trial":
                self._outcomes.add(event["trial"])

    def generation(self, number: int) -> list[TrialConfig] | None:
        asked = self._generations.get(number)
        if asked is None:
            return None
        return [TrialConfig.from_dotted(each["number"], each["seed"], each["values"]) for each in asked]

    def all_trials(self) -> list[TrialConfig]:
        """Every trial that was asked."""
        return [config for number in sorted(self._generations) for config in self.generation(number) or []]

    def take_up(self, config: TrialConfig, networks: int = 1) -> RunningTrial:
        """A trial of so many networks as far as it came."""
        number = config.number
        used = self._used.get(number, {"seconds": 0.0, "peak_rss": 0, "facts": {}})
        known = self._epochs[number]
        history = [known[epoch] for epoch in sorted(known)]
        each = [self._folds[number, index] for index in range(networks)]
        return RunningTrial(
            config=config,
            history=history,
            networks=[[one[epoch] for epoch in sorted(one)] for one in each] if networks > 1 else [list(history)],
            errors=[self._fold_errors.get((number, index)) for index in range(networks)],
            seconds=used["seconds"],
            peak_rss=used["peak_rss"],
            facts=dict(used["facts"]),
            error=self._errors.get(number),
        )

    def has_rung(self, number: int, rung: int) -> bool:
        return (number, rung) in self._rungs

    def has_outcome(self, number: int) -> bool:
        return number in self._outcomes


def outcomes_of(events: Sequence[dict[str, Any]]) -> list[TrialOutcome]:
    """The outcomes that a finished search's log tells, in the order of their numbers."""
    past = Past(events)
    trials = {config.number: past.take_up(config) for config in past.all_trials()}
    return [
        TrialOutcome(
            config=trials[event["trial"]].config,
            status=event["status"],
            objective=event["objective"],
            history=tuple(trials[event["trial"]].history),
            seconds=event["seconds"],
            peak_rss=event["peak_rss"],
            checkpoint=None,
            error=event["error"],
            facts=event["facts"],
        )
        for event in sorted((each for each in events if each["event"] == "trial"), key=lambda each: int(each["trial"]))
    ]


def stop_in(events: Sequence[dict[str, Any]]) -> Stop | None:
    """Where and why the search of a log ended before its last trial, if it did."""
    for event in events:
        if event["event"] == "stopped":
            return Stop(event["trials"], event["kind"], event["reason"])
    return None


def taken_over(events: Sequence[dict[str, Any]], search: Search) -> list[dict[str, Any]]:
    """What the log of a search tells that holds for one which differs in its budget alone.

    A generation is the same where it has as many trials. Of the first one that has not, what was trained is the same
    (its trials are asked one after another, from the same outcomes), but not who was compared with whom.
    """
    same: set[int] = set()
    first, trained = 0, 0
    for event in (each for each in events if each["event"] == "generation"):
        count = min(search.generation, search.trials - first)
        trained = first + min(count, len(event["trials"]))
        if len(event["trials"]) != count or not count:
            break
        same.add(event["number"])
        first += count
    # What ends a trial may depend on when it was compared: such a one is trained anew.
    ended = {each["trial"] for each in events if each["event"] in ("epochs", "fold") and each["error"] is not None}
    kept = []
    for event in events:
        kind = event["event"]
        if kind == "generation" and event["number"] in same:
            kept.append(event)
        elif kind in ("epochs", "fold", "rung", "trial"):
            number = event["trial"]
            if number < first or (kind in ("epochs", "fold") and number < trained and number not in ended):
                kept.append(event)
    return kept
