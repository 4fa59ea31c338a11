"""Which test images the parts work on that must show each one many times."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medsweep.artifacts.prepared import PreparedSplit
from medsweep.evaluate import shown


def drawn(split: PreparedSplit, wanted: int, seed: int) -> NDArray[np.int64]:
    """At most `wanted` rows of a split, rising: drawn by record id, so that the order of the images has no say."""
    if len(split) <= wanted:
        return np.arange(len(split))
    place = np.array([zlib.crc32(f"{seed}:{each}".encode()) for each in split.record_ids])
    return np.sort(np.lexsort((split.record_ids, place))[:wanted])


def ids_of(split: PreparedSplit, rows: NDArray[np.int64]) -> list[str]:
    return [str(each) for each in split.record_ids[rows]]


def images_of(split: PreparedSplit, rows: NDArray[np.int64], start: int, stop: int) -> NDArray[Any]:
    """(stop - start, H, W, C) of the drawn rows, read from the disk where they lie."""
    return np.asarray(split.images[rows[start:stop]])


def told(split: PreparedSplit, rows: NDArray[np.int64]) -> str:
    """'all 120 test images' or '500 of the 10000 test images, drawn at random,'."""
    if len(rows) == len(split):
        return f"all {shown.counted(len(split), 'test image')}"
    return f"{len(rows)} of the {len(split)} test images, drawn at random,"
