"""PredictedSplit: what a model said about every image of the test split, reports/predictions.csv."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medsweep.artifacts import files
from medsweep.artifacts.prepared import PreparedSplit
from medsweep.artifacts.record import TASKS, Task
from medsweep.errors import ArtifactError

_MADE_BY = "evaluate"
_LABEL, _PROBABILITY, _DECISION = "label", "probability", "decision"


@dataclass(frozen=True)
class PredictedSplit:
    """One model's answers.

    Args:
        record_ids: (N,) str.
        patient_ids: (N,) str pseudonyms, empty where unknown.
        labels: (N,) int64 class indices, or (N, L) uint8 (multi-label).
        probabilities: (N, K) with the nine digits that tell float32 values apart.
        decisions: (N,) or (N, L) int64.
        class_names: (K,).
        task: binary, multiclass, multilabel or ordinal.
        columns: kept columns, each (N,) str.

    Raises:
        ArtifactError: the arrays disagree in length, or a record id occurs twice.
    """

    record_ids: NDArray[np.str_]
    patient_ids: NDArray[np.str_]
    labels: NDArray[Any]
    probabilities: NDArray[np.float64]
    decisions: NDArray[Any]
    class_names: tuple[str, ...]
    task: Task
    columns: Mapping[str, NDArray[np.str_]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n, k = len(self.record_ids), len(self.class_names)
        several = (n, k) if self.task == "multilabel" else (n,)
        rules = [
            (self.task in TASKS, f"the task must be one of {', '.join(TASKS)}"),
            (len(self.patient_ids) == n and self.probabilities.shape == (n, k), "lengths differ"),
            (self.labels.shape == several and self.decisions.shape == several, "labels and decisions do not fit"),
            (len(set(self.record_ids.tolist())) == n, "a record id occurs twice"),
        ]
        for holds, why in rules:
            if not holds:
                raise ArtifactError(f"{why}.", where="predictions")

    def __len__(self) -> int:
        return len(self.record_ids)

    @property
    def has_patients(self) -> bool:
        return bool((self.patient_ids != "").any())

    @property
    def groups(self) -> NDArray[np.str_]:
        """(N,) what belongs together: the patient, or the image itself where no patient is known."""
        return np.where(self.patient_ids == "", self.record_ids, self.patient_ids)

    @classmethod
    def of(cls, split: PreparedSplit, probabilities: NDArray[np.float64], decisions: NDArray[Any]) -> PredictedSplit:
        """A model's answers to a split's images."""
        return cls(
            split.record_ids,
            split.patient_ids,
            split.labels,
            probabilities,
            decisions,
            split.class_names,
            split.task,
            split.columns,
        )

    def save(self, path: Path) -> None:
        """Write one row an image.

        Columns: `record_id`, `patient` (a pseudonym, empty where unknown), `label` (class names; for multi-label
        `label_NAME`, 0 or 1), `probability_NAME` for each class, `decision` (or `decision_NAME`), then the kept columns
        (with `_kept` behind a name that is taken).
        """
        names = self.class_names
        if self.task == "multilabel":
            labels = {f"{_LABEL}_{name}": self.labels[:, k].astype(str) for k, name in enumerate(names)}
            decided = {f"{_DECISION}_{name}": self.decisions[:, k].astype(str) for k, name in enumerate(names)}
        else:
            words = np.asarray(names, dtype=np.str_)
            labels, decided = {_LABEL: words[self.labels]}, {_DECISION: words[self.decisions]}
        table: dict[str, Iterable[str]] = {"record_id": self.record_ids, "patient": self.patient_ids, **labels}
        table |= {
            f"{_PROBABILITY}_{name}": [f"{p:.9g}" for p in self.probabilities[:, k]] for k, name in enumerate(names)
        }
        table |= decided
        for name, values in self.columns.items():
            table[f"{name}_kept" if name in table else name] = values
        with path.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(table)
            writer.writerows(zip(*table.values(), strict=True))

    @classmethod
    def load(cls, path: Path) -> PredictedSplit:
        """Read what `save` wrote. The task is that of `evaluation.json` beside it; without that file it follows from
        the columns (several classes are then not taken for ordinal).

        Raises:
            ArtifactError: the file is missing, or no table of predictions.
        """
        try:
            with path.open(encoding="utf-8", newline="") as stream:
                rows = list(csv.reader(stream))
        except FileNotFoundError:
            raise files.missing(path, made_by=_MADE_BY) from None
        except (UnicodeDecodeError, csv.Error, OSError) as error:
            raise _damaged(path, f"is damaged ({error})") from None
        head, body = (rows[0], rows[1:]) if rows else ([], [])
        places = {kind: _places(head, kind) for kind in (_LABEL, _PROBABILITY, _DECISION)}
        names = tuple(head[k].removeprefix(f"{_PROBABILITY}_") for k in places[_PROBABILITY])
        if head[:2] != ["record_id", "patient"] or not names or not all(places.values()):
            raise _damaged(path, "is no table of predictions")
        if any(len(row) != len(head) for row in body):
            raise _damaged(path, "has rows of another length than its head")
        table = np.asarray(body, dtype=np.str_).reshape(len(body), len(head))
        try:
            probabilities = table[:, places[_PROBABILITY]].astype(np.float64)
            several = head[places[_LABEL][0]] != _LABEL
            labels, decisions = (
                table[:, places[kind]].astype(np.int64) if several else _indices(table[:, places[kind][0]], names)
                for kind in (_LABEL, _DECISION)
            )
        except (ValueError, KeyError) as error:
            raise _damaged(path, f"holds a value that does not fit ({error})") from None
        task: Task = "multilabel" if several else "binary" if len(names) == 2 else "multiclass"
        first_kept = max(places[_DECISION]) + 1
        return cls(
            table[:, 0],
            table[:, 1],
            labels.astype(np.uint8) if several else labels,
            probabilities,
            decisions,
            names,
            _told_task(path.with_name("evaluation.json")) or task,
            {name: table[:, k] for k, name in enumerate(head) if k >= first_kept},
        )


def _places(head: Sequence[str], kind: str) -> list[int]:
    """Where the columns of a kind stand: together, and before kept columns of a like name."""
    found: list[int] = []
    for k, name in enumerate(head):
        if (name == kind and kind != _PROBABILITY) or name.startswith(f"{kind}_"):
            if found and k != found[-1] + 1:
                break
            found.append(k)
            if name == kind:
                break
    return found


def _indices(words: NDArray[np.str_], names: Sequence[str]) -> NDArray[np.int64]:
    place = {name: k for k, name in enumerate(names)}
    return np.asarray([place[word] for word in words.tolist()], dtype=np.int64)


def _told_task(path: Path) -> Task | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["task"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if found in TASKS else None


def _damaged(path: Path, why: str) -> ArtifactError:
    return ArtifactError(f"{why}.", where=str(path), fix="Give a predictions.csv that the stage 'evaluate' wrote.")
