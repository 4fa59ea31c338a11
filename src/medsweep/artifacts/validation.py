"""ValidationPredictions: what the final model says about every validation image, models/validation.csv."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medsweep.artifacts import files
from medsweep.artifacts.record import Task
from medsweep.errors import ArtifactError

_MADE_BY = "train"


@dataclass(frozen=True)
class ValidationPredictions:
    """The images that everything which is fitted after training is fitted on, and nothing else is.

    Args:
        record_ids: (N,) str.
        patient_ids: (N,) str pseudonyms; empty where the source names no patient.
        labels: (N,) int64 class indices, or (N, L) uint8 (multi-label).
        probabilities: (N, K) of the final model, its temperature applied.
        distances: (N,) Mahalanobis distance of the features to the nearest class of the training images.
        energies: (N,) energy of the logits, before the temperature.

    Raises:
        ArtifactError: the lengths differ.
    """

    record_ids: NDArray[np.str_]
    patient_ids: NDArray[np.str_]
    labels: NDArray[Any]
    probabilities: NDArray[np.float64]
    distances: NDArray[np.float64]
    energies: NDArray[np.float64]

    def __post_init__(self) -> None:
        if len({len(each) for each in self.__dict__.values()}) != 1:
            raise ArtifactError("lengths differ.", where="validation predictions")

    def __len__(self) -> int:
        return len(self.record_ids)

    def save(self, path: Path, *, class_names: Sequence[str]) -> None:
        """Write one row an image, in the split's order.

        Columns: `record_id`, `patient`, `label` (a class's name; for multi-label `label_NAME`, 0 or 1),
        `probability_NAME` for each class with the nine digits that tell float32 values apart, `distance`, `energy`.
        """
        names = list(class_names)
        if self.labels.ndim == 2:
            heads, labels = [f"label_{name}" for name in names], self.labels.astype(str).tolist()
        else:
            heads, labels = ["label"], [[names[label]] for label in self.labels]
        with files.replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            head = ["record_id", "patient", *heads, *(f"probability_{name}" for name in names), "distance", "energy"]
            writer.writerow(head)
            for index, own in enumerate(labels):
                numbers = (*self.probabilities[index], self.distances[index], self.energies[index])
                written = (f"{value:.9g}" for value in numbers)
                writer.writerow([self.record_ids[index], self.patient_ids[index], *own, *written])

    @classmethod
    def load(cls, path: Path, *, class_names: Sequence[str], task: Task) -> ValidationPredictions:
        """Read what `save` wrote for these classes.

        Raises:
            ArtifactError: the file is missing or damaged, or belongs to other classes.
        """
        k = len(class_names)
        n_labels = k if task == "multilabel" else 1
        numbers = {name: index for index, name in enumerate(class_names)}
        try:
            with path.open(encoding="utf-8", newline="") as stream:
                head, *rows = csv.reader(stream)
            if head[2 + n_labels : -2] != [f"probability_{name}" for name in class_names]:
                raise ValueError("it is of other classes")
            given = [row[2 : 2 + n_labels] for row in rows]
            values = np.array([row[2 + n_labels :] for row in rows], dtype=np.float64).reshape(len(rows), k + 2)
            labels: NDArray[Any]
            if task == "multilabel":
                labels = np.array(given, dtype=np.uint8).reshape(len(rows), k)
            else:
                labels = np.array([numbers[own] for (own,) in given], dtype=np.int64)
        except FileNotFoundError:
            raise files.missing(path, made_by=_MADE_BY) from None
        except (ValueError, KeyError, IndexError, csv.Error) as error:
            raise files.damaged(path, f"is damaged ({error}).", made_by=_MADE_BY) from None
        return cls(
            record_ids=np.array([row[0] for row in rows], dtype=np.str_),
            patient_ids=np.array([row[1] for row in rows], dtype=np.str_),
            labels=labels,
            probabilities=values[:, :k],
            distances=values[:, k],
            energies=values[:, k + 1],
        )
