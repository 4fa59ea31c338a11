"""A run log's events folded into what MLflow shall show: runs with their parameters, metrics, tags and files.

This is pure: the same events always give the same runs, however many at a time they arrive. The publisher makes a
store agree with it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from medsweep.artifacts.trial import TrialConfig
from medsweep.errors import ArtifactError

RUNNING, FINISHED, FAILED, KILLED = "RUNNING", "FINISHED", "FAILED", "KILLED"
KEY = "medsweep.key"
KIND = "medsweep.kind"
_KINDS = {"search": "search", "evaluation": "final"}
_SOURCES = {"search": "medsweep train", "final": "medsweep evaluate"}
_STATUS = {"complete": FINISHED, "pruned": FINISHED, "failed": FAILED}
# MLflow's limits on one value.
_PARAM_LENGTH = 6000
_TAG_LENGTH = 8000


class Point(NamedTuple):
    """One value of a metric; time in ms since 1970."""

    name: str
    value: float
    time: int
    step: int


@dataclass
class ProjectedRun:
    """One MLflow run as the log has it so far.

    Args:
        key: the tag that names it in every store.
        kind: search, trial or final.
        name: what the UI calls it.
        start, end: ms since 1970; end None while it runs.
        parent: the key of the run that it is nested in.
    """

    key: str
    kind: str
    name: str
    start: int
    parent: str | None = None
    end: int | None = None
    status: str = RUNNING
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    metrics: list[Point] = field(default_factory=list)
    datasets: list[Mapping[str, Any]] = field(default_factory=list)
    pictures: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    # How often each metric was told: its next step, for metrics that have no epoch.
    told: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, value: Any, time: int, step: int | None = None) -> None:
        """Add one value, unless it is none; without `step` it counts how often this metric was told."""
        if value is None:
            return
        if step is None:
            step = self.told.get(name, 0)
            self.told[name] = step + 1
        self.metrics.append(Point(name, float(value), time, step))

    def tag(self, name: str, value: Any) -> None:
        text = str(value)
        self.tags[name] = text if len(text) <= _TAG_LENGTH else f"{text[: _TAG_LENGTH - 1]}…"

    def latest(self) -> dict[str, float]:
        """The last value of each metric."""
        return {point.name: point.value for point in self.metrics}


class Projection:
    """The runs of one log.

    Attributes:
        runs: by key, the log's own run first.
        version: the `version` event, if there was one.
        ended: whether the log's last line has been seen.
    """

    def __init__(self) -> None:
        self.runs: dict[str, ProjectedRun] = {}
        self.version: Mapping[str, Any] | None = None
        self.ended = False
        self._epochs: set[tuple[int, int]] = set()
        self._rungs: set[tuple[int, int]] = set()
        self._resumed = 0

    @property
    def main(self) -> ProjectedRun | None:
        """The log's own run, which trials are nested in."""
        return next(iter(self.runs.values()), None)

    def feed(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Take in further events.

        Raises:
            ArtifactError: the first event is not `begin`, or an event is not in the table.
        """
        for event in events:
            self._take(event)

    def _take(self, event: Mapping[str, Any]) -> None:
        time = round(event["time"] * 1000)
        if event["event"] == "begin":
            if self.main is None:
                self._begin(event, time)
            return
        main = self.main
        if main is None:
            raise ArtifactError("does not start with 'begin'.", where="run log")
        match event["event"]:
            case "resumed":
                self._resumed += 1
                main.tag("medsweep.resumed", self._resumed)
            case "extended":
                main.tag("medsweep.extends", event["from_key"])
            case "stopped":
                main.tag("medsweep.stopped", event["reason"])
            case "generation":
                for trial in event["trials"]:
                    self._asked(main, trial, event["number"], time)
            case "epochs":
                self._trained(self._trial(main, event["trial"], time), event)
            case "fold":
                pass  # their means follow as `epochs`
            case "rung":
                place = (event["trial"], event["epoch"])
                if place not in self._rungs:
                    self._rungs.add(place)
                    self._trial(main, event["trial"], time).add("rung_value", event["value"], time, event["epoch"])
            case "trial":
                self._finished(self._trial(main, event["trial"], time), event, time)
            case "system":
                for name, value in event["values"].items():
                    main.add(f"system/{name}", value, time)
            case "picture":
                main.pictures[event["path"]] = event
            case "metrics":
                prefix = "test_" if main.kind == "final" else ""
                for name, value in event["values"].items():
                    main.add(_prefixed(name, prefix), value, time)
            case "note":
                main.tag("mlflow.note.content", event["text"])
            case "version":
                self.version = event
                main.tag("medsweep.search_key", event["source_key"])
            case "end":
                self._end(main, time)
            case other:
                raise ArtifactError(f"holds an event '{other}', which this version does not know.", where="run log")

    def _begin(self, event: Mapping[str, Any], time: int) -> None:
        kind = _KINDS.get(event["kind"])
        if kind is None:
            raise ArtifactError(f"is of the unknown kind '{event['kind']}'.", where="run log")
        run = ProjectedRun(key=event["key"], kind=kind, name=event["title"], start=time)
        run.params = {name: _text(value) for name, value in event["params"].items()}
        for name, value in event["tags"].items():
            run.tag(name, value)
        run.datasets = list(event["datasets"])
        sha = run.tags.get("medsweep.git_sha")
        if sha is not None:
            run.tag("mlflow.source.git.commit", sha)
        # MLflow's "source" column: which command made the run.
        run.tag("mlflow.source.name", _SOURCES[kind])
        run.tag("mlflow.source.type", "LOCAL")
        self._enter(run)

    def _asked(self, main: ProjectedRun, trial: Mapping[str, Any], generation: int, time: int) -> None:
        run = self._trial(main, trial["number"], time)
        run.params.update({name: _text(value) for name, value in trial["values"].items()})
        run.params["seed"] = str(trial["seed"])
        run.tag("medsweep.generation", generation)
        try:
            run.name = TrialConfig.from_dotted(trial["number"], trial["seed"], trial["values"]).title
        except ArtifactError:
            return  # a plainer name until the trial is finished and tells its title

    def _trial(self, main: ProjectedRun, number: int, time: int) -> ProjectedRun:
        key = f"{main.key}/trial/{number}"
        if key not in self.runs:
            run = ProjectedRun(key=key, kind="trial", name=f"trial {number:03d}", start=time, parent=main.key)
            run.tag("medsweep.trial", number)
            self._enter(run)
        return self.runs[key]

    def _enter(self, run: ProjectedRun) -> None:
        run.tag(KEY, run.key)
        run.tag(KIND, run.kind)
        self.runs[run.key] = run

    def _trained(self, run: ProjectedRun, event: Mapping[str, Any]) -> None:
        for epoch in event["epochs"]:
            # A trial that was cut off is trained again after a resumption, to the same values: the first telling stays.
            place = (event["trial"], epoch["number"])
            if place in self._epochs:
                continue
            self._epochs.add(place)
            time = round(event["time"] * 1000)
            values = {"train_loss": epoch["loss"], "train_accuracy": epoch["accuracy"]}
            values |= {_prefixed(name, "val_"): value for name, value in epoch["validation"].items()}
            for name, value in values.items():
                run.add(name, value, time, epoch["number"])

    def _finished(self, run: ProjectedRun, event: Mapping[str, Any], time: int) -> None:
        if run.status != RUNNING:
            return
        run.name = event["title"]
        run.status = _STATUS.get(event["status"], FAILED)
        run.end = time
        run.tag("medsweep.status", event["status"])
        if event["error"] is not None:
            run.tag("medsweep.error", event["error"])
        figures = {
            "objective": event["objective"],
            "epochs": event["epochs"],
            "cpu_seconds": event["seconds"],
            "peak_rss_bytes": event["peak_rss"],
        }
        for name, value in {**figures, **event["facts"]}.items():
            run.add(name, value, time)

    def _end(self, main: ProjectedRun, time: int) -> None:
        self.ended = True
        for run in self.runs.values():
            if run.status == RUNNING:
                # A search that was ended early leaves trials that were asked and never finished.
                run.status = FINISHED if run is main else KILLED
                run.end = time


def _prefixed(name: str, prefix: str) -> str:
    return name if name.startswith(prefix) else f"{prefix}{name}"


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _PARAM_LENGTH else f"{text[: _PARAM_LENGTH - 1]}…"
