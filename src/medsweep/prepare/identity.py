"""Names that tell nothing: record ids and patient pseudonyms from the content alone, and the order they give."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medsweep.prepare.table import ImageTable, label_codes

_LENGTH = 16


def named(table: ImageTable) -> ImageTable:
    """The table with record ids and pseudonyms, sorted by content: the same for any file names and reading order.

    A record's id is the first 16 hexadecimal digits of its content's SHA-256; further byte-identical images get -2,
    -3 … in the order of label, split, pseudonym and kept columns. A patient's pseudonym is the smallest id among
    their images; patients who share that image get -2, -3 … in the order of all their images' digests, labels and
    splits.
    """
    codes = label_codes(table.labels)
    patient_ids = _pseudonyms(table, codes)
    # The last key counts most; only images that agree in all of them keep the order that they were read in.
    columns = [values for _, values in sorted(table.columns.items(), reverse=True)]
    order = np.lexsort((*columns, patient_ids, table.splits, codes, table.contents))
    sorted_table = replace(table, patient_ids=patient_ids).take(order)
    return replace(sorted_table, record_ids=_numbered(_short(sorted_table.contents)))


def _pseudonyms(table: ImageTable, codes: NDArray[np.int64]) -> NDArray[np.str_]:
    """(N,) str, empty where the source names no patient."""
    named_rows = np.flatnonzero(table.patients != b"")
    if not len(named_rows):
        return np.full(len(table), "", dtype="U1")
    _, patient = np.unique(table.patients[named_rows], return_inverse=True)
    order = np.lexsort((table.splits[named_rows], codes[named_rows], table.contents[named_rows], patient))
    starts = np.flatnonzero(np.diff(patient[order], prepend=-1))
    smallest = _short(table.contents[named_rows[order[starts]]])
    _, shared, times = np.unique(smallest, return_inverse=True, return_counts=True)
    ambiguous = np.flatnonzero(times[shared] > 1)
    if len(ambiguous):
        # Patients who share their smallest image: told apart by all that they have.
        ends = np.append(starts[1:], len(order))
        rows = [named_rows[order[starts[each] : ends[each]]] for each in ambiguous.tolist()]
        whole = np.array([_digest(table, codes, each) for each in rows])
        in_order = np.lexsort((whole, smallest[ambiguous]))
        smallest = smallest.astype(f"U{_LENGTH + 8}")
        smallest[ambiguous[in_order]] = _numbered(smallest[ambiguous[in_order]])
    found = np.full(len(table), "", dtype=smallest.dtype)
    found[named_rows] = smallest[patient]
    return found


def _digest(table: ImageTable, codes: NDArray[np.int64], rows: NDArray[Any]) -> str:
    found = hashlib.sha256()
    for values in (table.contents[rows], codes[rows], table.splits[rows]):
        found.update(np.ascontiguousarray(values).tobytes())
    return found.hexdigest()


def _short(digests: NDArray[np.bytes_]) -> NDArray[np.str_]:
    return digests.astype(f"S{_LENGTH}").astype(f"U{_LENGTH}")


def _numbered(names: NDArray[np.str_]) -> NDArray[np.str_]:
    """Sorted names made unique: the second of the same name gets -2, the third -3 and so on."""
    firsts = np.flatnonzero(np.append(True, names[1:] != names[:-1]))
    rank = np.arange(len(names)) - np.repeat(firsts, np.diff(np.append(firsts, len(names))))
    again = np.flatnonzero(rank)
    if not len(again):
        return names
    unique = names.astype(f"U{_LENGTH + 8}")
    unique[again] = _with_numbers(names[again].tolist(), (rank[again] + 1).tolist())
    return unique


def _with_numbers(names: Sequence[str], numbers: Sequence[int]) -> list[str]:
    return [f"{name}-{number}" for name, number in zip(names, numbers, strict=True)]
