"""ImageTable: what is remembered of every image while the stage runs, as compact arrays of one length."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medsweep.layout import SPLITS

NO_SPLIT = -1


@dataclass(frozen=True)
class ImageTable:
    """N images without their pixels and names: less than a kilobyte each.

    Args:
        rows: (N,) where the image's pixels and names lie in the spools.
        contents: (N,) SHA-256 (hex, bytes) of what was read.
        pixels: (N,) BLAKE2b-128 (hex, bytes) of the prepared pixels.
        labels: (N,) int64 class indices, or (N, L) uint8 zeros and ones.
        patients: (N,) BLAKE2b-128 (hex, bytes) of the patient's name, empty where the source names none; kept in
            memory only, because a digest of a name can be guessed.
        splits: (N,) int8 index in `layout.SPLITS`, or NO_SPLIT.
        sizes: (N, 2) int32 height and width as they were stored.
        sums, squares: (N, C) int64 sums of the prepared values and of their squares.
        constant: (N,) bool, True where every pixel has the same value.
        audits: (N,) int32 which of the distinct audits (`Collected.audits`) is the image's.
        hashes: (N, 7, 2) uint64 perceptual hashes, or (N, 0, 2): see `imaging.fingerprint`.
        traits: (N, 11) float32 numbers that describe the prepared image, or (N, 0): see `imaging.traits`.
        columns: kept subgroup columns, each (N,) str.
        learnt: which of them were learnt with the pixels and not told by the source (a phantom's oracle score).
        record_ids, patient_ids: (N,) str, once `identity.named` has given them.
    """

    rows: NDArray[np.int64]
    contents: NDArray[np.bytes_]
    pixels: NDArray[np.bytes_]
    labels: NDArray[Any]
    patients: NDArray[np.bytes_]
    splits: NDArray[np.int8]
    sizes: NDArray[np.int32]
    sums: NDArray[np.int64]
    squares: NDArray[np.int64]
    constant: NDArray[np.bool_]
    hashes: NDArray[np.uint64]
    traits: NDArray[np.float32]
    columns: Mapping[str, NDArray[np.str_]] = field(default_factory=dict)
    audits: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, dtype=np.int32))
    learnt: frozenset[str] = frozenset()
    record_ids: NDArray[np.str_] = field(default_factory=lambda: np.empty(0, dtype="U1"))
    patient_ids: NDArray[np.str_] = field(default_factory=lambda: np.empty(0, dtype="U1"))

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, order: NDArray[Any]) -> ImageTable:
        """The images at `order` (indices or a mask)."""
        changed: dict[str, Any] = {"columns": {name: values[order] for name, values in self.columns.items()}}
        for each in fields(self):
            values = self.__dict__[each.name]
            if each.name not in ("columns", "learnt") and len(values):
                changed[each.name] = values[order]
        return replace(self, **changed)

    def members(self, n_classes: int) -> NDArray[np.int64]:
        """(3, K) the images of each split and class; an image with several labels counts for each."""
        return np.array([class_counts(self.labels[self.splits == code], n_classes) for code in range(len(SPLITS))])


def class_counts(labels: NDArray[Any], n_classes: int) -> NDArray[np.int64]:
    """(K,) how many images carry each label."""
    if labels.ndim == 2:
        return np.asarray(labels.sum(axis=0), dtype=np.int64)
    return np.bincount(labels, minlength=n_classes).astype(np.int64)


def has_class(labels: NDArray[Any], index: int) -> NDArray[np.bool_]:
    """(N,) which images carry the class `index`."""
    found: NDArray[np.bool_] = labels[:, index] == 1 if labels.ndim == 2 else labels == index
    return found


def label_codes(labels: NDArray[Any]) -> NDArray[np.int64]:
    """(N,) one number for each distinct label or set of labels, ordered as the labels are."""
    if labels.ndim == 1:
        return labels.astype(np.int64)
    _, codes = np.unique(labels, axis=0, return_inverse=True)
    return codes.reshape(-1).astype(np.int64)
