"""RunLog: the append-only record of what happened in one run of a stage. MLflow is a projection of it."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from medsweep.artifacts import files
from medsweep.errors import ArtifactError

# Every event and the fields it must carry. `time` (seconds since 1970) is added to each.
EVENTS: Mapping[str, frozenset[str]] = {
    # The first line. kind: search | evaluation. key: the digest of all that determines the result; a run with the same
    # key has the same result. params: by dotted name. tags: lineage. datasets: [{name, digest, context, n_images, …}].
    "begin": frozenset({"kind", "key", "title", "params", "tags", "datasets"}),
    # The same run was taken up again after an interruption.
    "resumed": frozenset({"finished_trials"}),
    # The same search with another budget had finished these trials: what follows up to `trials` of them is its log.
    "extended": frozenset({"from_key", "trials"}),
    # The search ended before its last trial: trials = how many it has; kind = time | patience; reason is for a person.
    "stopped": frozenset({"trials", "kind", "reason"}),
    # A generation was asked: trials = [{number, seed, values by dotted name}].
    "generation": frozenset({"number", "trials"}),
    # Some epochs of a trial ended: epochs = [{number, loss, accuracy, validation: {val_name: value}}]; used = {seconds,
    # peak_rss, facts} of the trial so far; error where it failed in them. May repeat epochs after an interruption.
    "epochs": frozenset({"trial", "epochs", "used", "error"}),
    # In a cross-validation: the same of one of the trial's networks, fold = its place among them. When all have come as
    # far, `epochs` tells their means.
    "fold": frozenset({"trial", "fold", "epochs", "used", "error"}),
    # A trial reached a rung and goes on, or stops there: decision = promoted | pruned.
    "rung": frozenset({"trial", "epoch", "value", "decision"}),
    # A trial is finished: status, objective, error, epochs trained, seconds, peak_rss, facts, title.
    "trial": frozenset({"trial", "title", "status", "objective", "error", "epochs", "seconds", "peak_rss", "facts"}),
    # Figures of the machine: values = {name: number}.
    "system": frozenset({"values"}),
    # A file of the stage's outputs, named from the project's root. group: the artifact folder it belongs to.
    "picture": frozenset({"path", "digest", "title", "group"}),
    # Figures of the whole run: values = {name: number}.
    "metrics": frozenset({"values"}),
    # Markdown that sums up the run for a person.
    "note": frozenset({"text"}),
    # A model was evaluated and can become a registry version (evaluate's log only): model and manifest are paths from
    # the project's root, source_key names the search, description is for a person.
    "version": frozenset({"model", "model_digest", "manifest", "source_key", "description", "tags"}),
    # The last line of a run that ended well.
    "end": frozenset({"seconds"}),
}


class RunLog:
    """Appends events to one file, each line fsynced: what was logged survives a pulled plug.

    Args:
        path: the file; it is created with its folder. A last line torn by a crash is cut off.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        _cut_torn_line(path)
        self._stream = path.open("a", encoding="utf-8")
        self._lock = threading.Lock()  # figures of the machine come from a thread of their own

    def append(self, event: str, **fields: Any) -> None:
        """Append one event; it is on the disk when this returns.

        Raises:
            ArtifactError: the event is unknown, lacks a field or has one too many.
        """
        wanted = EVENTS.get(event)
        if wanted is None or wanted != set(fields):
            raise ArtifactError(f"event '{event}' with the fields {sorted(fields)} is not in the table.", where="log")
        line = {"event": event, "time": round(time.time(), 3), **fields}
        with self._lock:
            self._stream.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")
            self._stream.flush()
            os.fsync(self._stream.fileno())

    def append_file(self, path: Path, *, root: Path, title: str, group: str) -> None:
        """Append a `picture` event for a file of the stage's outputs below the project's `root`."""
        name = path.relative_to(root).as_posix()
        self.append("picture", path=name, digest=files.digest_file(path), title=title, group=group)

    def close(self) -> None:
        self._stream.close()

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def write_log(path: Path, events: Iterable[Mapping[str, Any]]) -> None:
    """Write a log that already has events, each with its own time; whole or not at all."""
    files.write_text(path, "".join(json.dumps(each, ensure_ascii=False, allow_nan=False) + "\n" for each in events))


def read_log(path: Path) -> Iterator[dict[str, Any]]:
    """The events of a log in order; a torn last line is left out, a missing file has none.

    Raises:
        ArtifactError: a line before the last is damaged.
    """
    yield from read_log_from(path, 0)[0]


def read_log_from(path: Path, offset: int) -> tuple[list[dict[str, Any]], int]:
    """The whole events from byte `offset` on, and the offset after them: how a follower reads a growing log."""
    if not path.is_file():
        return [], offset
    with path.open("rb") as stream:
        stream.seek(offset)
        chunk = stream.read()
    end = chunk.rfind(b"\n") + 1
    try:
        return [json.loads(line) for line in chunk[:end].splitlines()], offset + end
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ArtifactError(f"is damaged ({error}).", where=str(path), fix="Restore it with dvc checkout.") from None


def _cut_torn_line(path: Path) -> None:
    if not path.is_file():
        return
    with path.open("rb+") as stream:
        content = stream.read()
        stream.truncate(content.rfind(b"\n") + 1)
