"""How trials are validated: on the validation split, or by repeated cross-validation over training and validation."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medsweep.artifacts.prepared import PreparedSplit
from medsweep.errors import DataError
from medsweep.params import Train
from medsweep.train.examples import HOLDOUT, Part
from medsweep.train.space import derived_seed

ENOUGH = 30
"""Patients of the rarest class in the validation split from which `auto` leaves it at that: see docs/search.md."""


@dataclass(frozen=True)
class Validation:
    """What the networks of a trial are trained and looked at with.

    Args:
        kind: holdout or cross_validation.
        why: the reason, for a person.
        parts: one for each network of a trial.
        folds: (R, N) int64 the fold of each image of both splits, training first; None for holdout.
        labels, groups, record_ids: of the images that are looked at, in the order of the stored predictions: the
            validation split, or both splits.
    """

    kind: str
    why: str
    parts: tuple[Part, ...]
    folds: NDArray[np.int64] | None
    labels: NDArray[Any]
    groups: NDArray[np.str_]
    record_ids: NDArray[np.str_]

    def predictions(self, files: list[Path]) -> NDArray[np.float32]:
        """The stored predictions of a trial's networks as (R, N, K): a row an image, for each repeat."""
        each = [np.load(path, allow_pickle=False) for path in files]
        if self.folds is None:
            return np.asarray(each[0][np.newaxis])
        found = np.empty((*self.folds.shape, each[0].shape[1]), np.float32)
        for part, values in zip(self.parts, each, strict=True):
            found[part.repeat, self.folds[part.repeat] == part.fold] = values
        return found


def validation_of(train: Train, training: PreparedSplit, held_out: PreparedSplit) -> Validation:
    """How `train.search.validation` is to be understood for these splits.

    Raises:
        DataError: a class has images of fewer patients than there are to be folds.
    """
    search = train.search
    rarest = int(min(_patients_of_classes(held_out.labels, held_out.groups, len(held_out.class_names))))
    kind, why = search.validation, f"train.search.validation: {search.validation}"
    if kind == "auto":
        few = rarest < ENOUGH
        kind = "cross_validation" if few else "holdout"
        why = f"the rarest class has {rarest} patients in validation, {'fewer than' if few else 'at least'} {ENOUGH}"
        if not held_out.has_patients:
            why = why.replace("patients", "images")
    wanted, repeats = search.cross_validation.folds, search.cross_validation.repeats
    labels, groups, record_ids = (
        np.concatenate([getattr(each, name) for each in (training, held_out)])
        for name in ("labels", "groups", "record_ids")
    )
    there = _patients_of_classes(labels, groups, len(training.class_names))
    if search.validation == "auto" and min(there) < wanted:
        kind, why = "holdout", f"the rarest class has too few patients for {wanted} folds"
    if kind == "holdout":
        return Validation(kind, why, (HOLDOUT,), None, held_out.labels, held_out.groups, held_out.record_ids)
    if min(there) < wanted:
        scarce = training.class_names[int(np.argmin(there))]
        raise DataError(
            f"{wanted} folds need {wanted} patients (images, where none are known) of each class; '{scarce}' has "
            f"{int(min(there))} in training and validation.",
            where="train.search.cross_validation.folds",
            fix="Ask for fewer folds, or for validation: holdout.",
        )
    folds = np.stack(
        [_folds(labels, groups, wanted, derived_seed("folds", train.seed, repeat)) for repeat in range(repeats)]
    )
    parts = tuple(Part("fold", repeat, fold) for repeat in range(repeats) for fold in range(wanted))
    return Validation(kind, why, parts, folds, labels, groups, record_ids)


def _patients_of_classes(labels: NDArray[Any], groups: NDArray[np.str_], k: int) -> list[int]:
    masks = [labels[:, each] == 1 if labels.ndim == 2 else labels == each for each in range(k)]
    return [len(np.unique(groups[mask])) for mask in masks]


def _folds(labels: NDArray[Any], groups: NDArray[np.str_], n_folds: int, seed: int) -> NDArray[np.int64]:
    """(N,) each image's fold: patients stay together, classes are spread evenly."""
    from sklearn.model_selection import StratifiedGroupKFold

    strata = labels
    if labels.ndim == 2:
        _, strata, counts = np.unique(labels, axis=0, return_inverse=True, return_counts=True)
        strata = np.where(counts[strata] < n_folds, len(counts), strata)
    found = np.empty(len(groups), np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a rare combination of labels cannot be in every fold
        splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
        for fold, (_, members) in enumerate(splitter.split(strata, strata, groups)):
            found[members] = fold
    return found
