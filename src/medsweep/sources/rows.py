"""CSV files in UTF-8 whose first line names the columns, read row by row."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from medsweep.errors import DataError

SPLIT_WORDS = {
    "": None,
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
# Looked for, in this order, where params.yaml names no column.
SPLIT_COLUMNS = ("split", "original_split")


def header(path: Path) -> list[str]:
    """The columns' names.

    Raises:
        DataError: the file is empty or no CSV, or names a column twice.
    """
    found = next(_lines(path), None)
    if not found:
        raise DataError("is empty.", where=str(path), fix="Its first line must name the columns.")
    repeated = [name for name in found if found.count(name) > 1]
    if repeated:
        raise DataError(f"names the column '{repeated[0]}' twice.", where=str(path))
    return found


def rows(path: Path) -> Iterator[dict[str, str]]:
    """The rows by column.

    Raises:
        DataError: a row has more or fewer fields than the header.
    """
    lines = _lines(path)
    names = next(lines)
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        if len(line) != len(names):
            raise DataError(
                f"data row {number} has {len(line)} fields where the header has {len(names)}.", where=str(path)
            )
        yield dict(zip(names, line, strict=True))


def column(given: str | None, usual: Sequence[str], names: Sequence[str]) -> str | None:
    """The column that was named ('' for none), or the first usual one that exists."""
    if given is not None:
        return given or None
    return next((name for name in usual if name in names), None)


def split_of(word: str, name: str, number: int, path: Path) -> str | None:
    """The split that the column `name` of a data row says.

    Raises:
        DataError: it is no split.
    """
    key = word.strip().lower()
    if key not in SPLIT_WORDS:
        raise DataError(
            f"data row {number} has '{word}' in the column '{name}', which is not a split.",
            where=str(path),
            fix="Use train, val or test, or leave it empty.",
        )
    return SPLIT_WORDS[key]


def _lines(path: Path) -> Iterator[list[str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            yield from csv.reader(stream, strict=True)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"is not a CSV in UTF-8 ({error}).", where=str(path)) from None
