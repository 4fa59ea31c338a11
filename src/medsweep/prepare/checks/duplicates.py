"""Images that are there more than once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medsweep.layout import SPLITS
from medsweep.prepare.checks.finding import Examined, Finding, counted, spread_groups
from medsweep.prepare.table import ImageTable

_TEST = SPLITS.index("test")


def exact_duplicates(examined: Examined) -> list[Finding]:
    """Byte-identical images, and images with identical prepared pixels, in the test split and in another."""
    return _spread("exact_duplicates", examined.table, with_test=True, where="in the test split and in another")


def validation_duplicates(examined: Examined) -> list[Finding]:
    """The same in training and validation: they flatter the search's choice, never the reported result."""
    return _spread("validation_duplicates", examined.table, with_test=False, where="both in training and in validation")


def _spread(check: str, table: ImageTable, *, with_test: bool, where: str) -> list[Finding]:
    _, pixels = np.unique(table.pixels, return_inverse=True)
    rows, groups = _chosen(pixels, table, with_test)
    if not len(rows):
        return []
    count = len(np.unique(groups))
    _, contents = np.unique(table.contents, return_inverse=True)
    n_bytes = len(np.unique(_chosen(contents, table, with_test)[1]))
    verb = "lies" if count == 1 else "lie"
    kind = "byte for byte" if n_bytes == count else f"{n_bytes} byte for byte, the others in their prepared pixels"
    message = f"{counted(count, 'group')} of identical images {verb} {where} ({counted(len(rows), 'image')}; {kind})."
    return [Finding(check, message, count, rows, groups)]


def _chosen(
    codes: NDArray[np.int64], table: ImageTable, with_test: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The groups that are in more than one split, with or without the test split among them."""
    rows, groups = spread_groups(codes, table.splits)
    tested = np.isin(groups, groups[table.splits[rows] == _TEST])
    keep = tested if with_test else ~tested
    return rows[keep], groups[keep]


@dataclass(frozen=True)
class Repeats:
    """How often images are repeated: groups of two or more, and the images in them beyond the first."""

    identical_files: int
    identical_pixels: int
    surplus_images: int


def repeats(table: ImageTable) -> Repeats:
    """Repeated images within and between splits; `identical_files` are counted among `identical_pixels` too."""
    _, files = np.unique(table.contents, return_counts=True)
    _, pixels = np.unique(table.pixels, return_counts=True)
    return Repeats(int((files > 1).sum()), int((pixels > 1).sum()), len(table) - len(pixels))
