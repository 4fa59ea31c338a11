"""Where a search's work lies, and how one with another budget goes on from it.

A search is known by its family: the digest of all that decides what its trials are and become, without the budget
(how many, how long). Stage outputs are deleted before a stage runs, so what a finished search knew is kept below
.medsweep, in the home project: its log, what its trials said of the validation
images, and the checkpoints of the best.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medsweep.artifacts.run_log import read_log, write_log
from medsweep.layout import Layout
from medsweep.params import Search, Train
from medsweep.train.past import taken_over

# What says how much is searched and how the winner is chosen: with other values the same trials are asked and trained.
BUDGET = frozenset({"trials", "max_minutes", "patience", "min_improvement", "keep_checkpoints", "choose", "resamples"})
# Finished searches that can be gone on from; older ones are removed.
_KEPT = 5


def family_of(train: Train) -> Mapping[str, Any]:
    """The parameters that decide what trial number n is and becomes."""
    search = {name: value for name, value in train.search.model_dump().items() if name not in BUDGET}
    return {"seed": train.seed, "search": search, "space": train.space.model_dump()}


@dataclass(frozen=True)
class Workplace:
    """The folders of one family.

    Args:
        work: the search that is under way: log, checkpoints, outputs before they are moved in.
        finished: the last finished one: log and checkpoints.
    """

    work: Path
    finished: Path

    @classmethod
    def of(cls, layout: Layout, family: str) -> Workplace:
        return cls(layout.work("train", family), layout.finished_searches / family)

    @property
    def log(self) -> Path:
        return self.work / "run_log.jsonl"

    @property
    def predictions(self) -> Path:
        return self.work / "predictions"

    @property
    def checkpoints(self) -> Path:
        return self.work / "checkpoints"

    def take_up(self, key: str, beginning: Mapping[str, Any], search: Search) -> tuple[list[dict[str, Any]], bool]:
        """The events that the search `key` starts from, which its log then holds, and whether it was interrupted.

        Its own, where it was interrupted; else those that still hold of the same search with another budget,
        interrupted or finished. The same finished search again is run anew, but ends where its time ended.
        """
        past = list(read_log(self.log))
        if past and past[0]["key"] == key:
            return past, True
        finished = list(read_log(self.finished / self.log.name))
        if not past and not finished:
            return [], False
        events: list[dict[str, Any]] = []
        if not past and finished[0]["key"] == key:
            events = [each for each in finished if each["event"] == "stopped" and each["kind"] == "time"]
        else:
            if not past:
                shutil.rmtree(self.work, ignore_errors=True)
                self.work.mkdir(parents=True)
                for folder in (self.checkpoints, self.predictions):
                    if (self.finished / folder.name).is_dir():
                        shutil.copytree(self.finished / folder.name, folder)
            source = past or finished
            events = taken_over(source, search)
            trials = sum(each["event"] == "trial" for each in events)
            events = [_now("extended", from_key=source[0]["key"], trials=trials), *events]
        if events:
            events = [_now("begin", **beginning), *events]
            write_log(self.log, events)
        return events, False

    def finish(self) -> None:
        """Keep the finished search's log and checkpoints, and end its work. Of all families the newest are kept."""
        for path in self.work.iterdir():
            if path not in (self.log, self.checkpoints, self.predictions):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        self.finished.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self.finished, ignore_errors=True)
        self.work.replace(self.finished)
        known = sorted(self.finished.parent.iterdir(), key=lambda path: (path / self.log.name).stat().st_mtime)
        for path in known[:-_KEPT]:
            shutil.rmtree(path, ignore_errors=True)


def _now(event: str, **fields: Any) -> dict[str, Any]:
    return {"event": event, "time": round(time.time(), 3), **fields}
