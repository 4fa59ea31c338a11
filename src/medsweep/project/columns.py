"""Which column of somebody's CSV is which: by usual names, and by what the values are."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from medsweep.errors import DataError
from medsweep.sources import rows

_ROWS_TRIED = 50
_MOST_CLASSES = 30
_IMAGE_COLUMNS = ("path", "file", "filename", "file_name", "filepath", "image", "image_path", "image_file", "img")
_LABEL_COLUMNS = ("label", "class", "diagnosis", "target", "category", "finding", "pathology", "dx", "y")
PATIENT_COLUMNS = ("patient_id", "patient", "patientid", "subject_id", "subject", "subjectid", "case_id", "case")
SPLIT_COLUMNS = ("split", "original_split", "subset", "partition", "fold", "set")


def csv_inside(data: Path) -> Path | None:
    """The CSV at the top of a folder; of several, one with a usual name."""
    found = sorted(each for each in data.iterdir() if each.suffix.lower() == ".csv")
    usual = [each for each in found if each.stem.lower() in ("manifest", "labels", "metadata", "index", "data")]
    if len(found) > 1 and not usual:
        raise DataError(
            f"holds {len(found)} CSV files.", where=str(data), fix="Say which has the labels: --labels FILE."
        )
    return next(iter(usual or found), None)


def image_column(table: Path, header: Sequence[str], base: Path) -> tuple[str, str | None] | None:
    """The column whose values are image files, and the folder that they start from where that is not the CSV's.

    Prefers usual names; else any column will do whose values all exist.
    """
    some = _first_rows(table)
    beside = [each for each in (sorted(base.iterdir()) if base.is_dir() else []) if each.is_dir()]
    for column in sorted(header, key=lambda name: (_rank(name, _IMAGE_COLUMNS), header.index(name))):
        values = [row[column] for row in some if row[column]]
        if not values:
            continue
        for place in (table.parent, base, *beside):
            if _most_exist(place, values):
                same = place.resolve() == table.parent.resolve()
                return column, None if same else place.relative_to(base).as_posix()
    return None


def label_column(table: Path, header: Sequence[str], taken: Collection[object]) -> tuple[str, bool]:
    """The column with the labels, and whether it was guessed by its values; `taken` are columns with another meaning.

    Raises:
        DataError: it cannot be told.
    """
    usual = named(header, _LABEL_COLUMNS)
    if usual is not None:
        return usual, False
    values: dict[str, set[str]] = {name: set() for name in header if name not in taken}
    count = 0
    for row in rows.rows(table):
        count += 1
        for name in list(values):
            values[name].add(row[name])
            if len(values[name]) > _MOST_CLASSES:
                del values[name]
    likely = [name for name, each in values.items() if 2 <= len(each - {""}) <= count / 2 and "" not in each]
    likely = [name for name in likely if _rank(name, (*PATIENT_COLUMNS, *SPLIT_COLUMNS)) == 100]
    if len(likely) == 1:
        return likely[0], True
    raise DataError(
        "has no column 'label', and which one has the labels cannot be told.",
        where=str(table),
        fix=f"Say which: -S label_column=…; its columns are: {', '.join(header)}.",
    )


def named(header: Sequence[str], usual: Sequence[str]) -> str | None:
    """The column with the most usual of some names, in any case."""
    found = [name for name in header if _rank(name, usual) < 100]
    return min(found, key=lambda name: _rank(name, usual), default=None)


def _most_exist(place: Path, values: Sequence[str]) -> bool:
    # Single files may be missing: opening the source says which.
    there = sum((place / value).is_file() for value in values)
    return there > 0 and 2 * there >= len(values)


def _first_rows(table: Path) -> list[dict[str, str]]:
    return [row for row, _ in zip(rows.rows(table), range(_ROWS_TRIED), strict=False)]


def _rank(name: str, usual: Sequence[str]) -> int:
    plain = name.strip().lower().replace(" ", "_").replace("-", "_")
    return usual.index(plain) if plain in usual else 100
