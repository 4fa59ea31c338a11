"""A CSV that names image files and their labels, and optionally patients, splits, sites and subgroups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from medsweep.artifacts.record import ImageRecord, RawImage, Task
from medsweep.errors import DataError
from medsweep.params import Section, Source
from medsweep.sources import rows
from medsweep.sources.labels import choose_classes, choose_task, in_order, shortened
from medsweep.sources.protocol import UnknownLabel
from medsweep.sources.tree import outside

# Looked for, in this order, where params.yaml names no column.
_PATIENT_COLUMNS = ("patient_id", "patient")
_ZERO_OR_ONE = {"0": 0, "1": 1, "0.0": 0, "1.0": 1}
_NAMED_AT_MOST = 3


class TableSettings(Section):
    """The table's keys below `prepare.source`; any may be left out.

    Args:
        file: the CSV's name where `path` is a folder.
        images: the folder that the image column is relative to, from the project's root. Default: the CSV's.
        image_column, label_column: the columns with the file and the class.
        patient_column: default patient_id or patient where there is one; '' for none.
        split_column: default split or original_split where there is one; '' for none.
        site_column: kept as a subgroup column. Default: none.
        columns: further subgroup columns to keep.
        classes: label values in label order; others count as unknown labels. Default: all, sorted.
        positive: of two classes, the positive one (it is then the second). Default: the second.
        task: binary, multiclass, ordinal or multilabel. Default: by the number of classes, or multilabel where one
            of the next two keys is given.
        label_separator: several labels in the label column, with this between them.
        label_columns: one column a label, each 0 or 1; the label column is then not read.
    """

    file: str = "manifest.csv"
    images: str | None = None
    image_column: str = "path"
    label_column: str = "label"
    patient_column: str | None = None
    split_column: str | None = None
    site_column: str | None = None
    columns: list[str] = Field(default_factory=list)
    classes: list[str] | None = None
    positive: str | None = None
    task: Literal["binary", "multiclass", "ordinal", "multilabel"] | None = None
    label_separator: str | None = None
    label_columns: list[str] | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> TableSettings:
        several = self.label_separator is not None or self.label_columns is not None
        if self.label_separator is not None and self.label_columns is not None:
            raise ValueError("label_separator and label_columns exclude each other")
        if self.label_separator == "":
            raise ValueError("label_separator must not be empty")
        if self.label_columns is not None and (
            len(self.label_columns) < 2 or len(set(self.label_columns)) < len(self.label_columns)
        ):
            raise ValueError("label_columns must name two different columns at least")
        if self.label_columns is not None and self.classes is not None:
            raise ValueError("label_columns are the classes: leave classes out")
        if several and self.task not in (None, "multilabel"):
            raise ValueError("several labels an image make a multilabel task")
        if self.task == "multilabel" and not several:
            raise ValueError("a multilabel task needs label_separator or label_columns")
        if several and self.positive is not None:
            raise ValueError("positive is for two classes, not for several labels")
        return self


class TableSource:
    """Images that a CSV names; the CSV is read row by row.

    Raises:
        DataError: the CSV, a column or an image file is missing, or a row is damaged.
    """

    synthetic = False

    def __init__(self, source: Source, root: Path) -> None:
        settings = TableSettings.model_validate(source.settings)
        place = root / source.path
        self._csv = place / settings.file if place.is_dir() else place
        if not self._csv.is_file():
            raise DataError(
                "does not exist.",
                where=f"{source.path}/{settings.file}" if place.is_dir() else source.path,
                fix="prepare.source.path names a CSV file, or a folder that holds prepare.source.file.",
            )
        self._images = root / settings.images if settings.images is not None else self._csv.parent
        self._inside = self._images.resolve()
        header = rows.header(self._csv)
        self._patient = rows.column(settings.patient_column, _PATIENT_COLUMNS, header)
        self._split = rows.column(settings.split_column, rows.SPLIT_COLUMNS, header)
        self._kept = tuple(dict.fromkeys([*filter(None, [settings.site_column]), *settings.columns]))
        self._settings = settings
        for key, names in {
            "image_column": [settings.image_column],
            "label_columns": settings.label_columns or [],
            "label_column": [] if settings.label_columns else [settings.label_column],
            "patient_column": [self._patient] if self._patient else [],
            "split_column": [self._split] if self._split else [],
            "site_column": [settings.site_column] if settings.site_column else [],
            "columns": settings.columns,
        }.items():
            for name in names:
                if name not in header:
                    raise DataError(
                        f"has no column '{name}', which prepare.source.{key} names.",
                        where=str(self._csv),
                        fix=f"Its columns are: {shortened(header)}.",
                    )
        self.class_names = self._classes()
        self.task: Task = (
            "multilabel"
            if self._several
            else choose_task(
                None if settings.task == "multilabel" else settings.task,
                self.class_names,
                ordered=settings.classes is not None,
            )
        )
        self._index = {name: index for index, name in enumerate(self.class_names)}
        self.settings: Mapping[str, Any] = {
            "kind": source.kind,
            "path": source.path,
            **settings.model_dump(),
            "patient_column": self._patient,
            "split_column": self._split,
            "classes": list(self.class_names),
            "task": self.task,
        }
        self.unknown_labels, self._length = self._check_rows()

    def __len__(self) -> int:
        return self._length

    def records(self) -> Iterator[ImageRecord]:
        """In the CSV's order, without the rows whose label is unknown."""
        for row in rows.rows(self._csv):
            label = self._label(row)
            if isinstance(label, str):
                continue
            yield ImageRecord(
                path=self._images / row[self._settings.image_column],
                label=label,
                patient_id=(row[self._patient] or None) if self._patient else None,
                split=rows.SPLIT_WORDS[row[self._split].strip().lower()] if self._split else None,
                source="table",
                columns={name: row[name] for name in self._kept},
            )

    def read(self, record: ImageRecord) -> RawImage | None:
        """None: the pixels are in the file.

        Raises:
            DataError: the file lies outside the folder of the images, by its path or through a link.
        """
        reason = outside(record.path, self._inside)
        if reason is not None:
            fix = "prepare.source.images names the folder that holds all images."
            raise DataError(reason, where=str(record.path), fix=fix)
        return None

    @property
    def _several(self) -> bool:
        return self._settings.label_separator is not None or self._settings.label_columns is not None

    def _classes(self) -> tuple[str, ...]:
        settings = self._settings
        if settings.label_columns is not None:
            return tuple(settings.label_columns)
        found: set[str] = set()
        for row in rows.rows(self._csv):
            found.update(self._parts(row) if settings.label_separator else [row[settings.label_column]])
        found.discard("")
        where = f"{self._csv}, column '{settings.label_column}'"
        return choose_classes(in_order(found), settings.classes, settings.positive, where=where)

    def _parts(self, row: Mapping[str, str]) -> list[str]:
        assert self._settings.label_separator is not None
        parts = row[self._settings.label_column].split(self._settings.label_separator)
        return [part.strip() for part in parts if part.strip()]

    def _label(self, row: Mapping[str, str]) -> int | tuple[int, ...] | str:
        """The label of a row, or as text what is not one."""
        settings = self._settings
        if settings.label_columns is not None:
            for name in settings.label_columns:
                if row[name] not in _ZERO_OR_ONE:
                    return f"{name}={row[name]}"
            return tuple(_ZERO_OR_ONE[row[name]] for name in settings.label_columns)
        if settings.label_separator is not None:
            parts = self._parts(row)
            unknown = [part for part in parts if part not in self._index]
            return unknown[0] if unknown else tuple(int(name in parts) for name in self.class_names)
        label = row[settings.label_column]
        return self._index.get(label, label)

    def _check_rows(self) -> tuple[tuple[UnknownLabel, ...], int]:
        """What carries unknown labels, and the number of records; every row's split and file are checked."""
        unknown: list[UnknownLabel] = []
        missing: list[str] = []
        count = n_missing = 0
        for number, row in enumerate(rows.rows(self._csv), start=1):
            name = row[self._settings.image_column]
            if self._split:
                rows.split_of(row[self._split], self._split, number, self._csv)
            if not name or not (self._images / name).is_file():
                n_missing += 1
                if len(missing) < _NAMED_AT_MOST:
                    missing.append(name or f"(empty, data row {number})")
            label = self._label(row)
            if isinstance(label, str):
                unknown.append(UnknownLabel(name, label))
            else:
                count += 1
        # Single missing files are refused when they are read; where none is there, the folder is the wrong one.
        if n_missing and n_missing == count + len(unknown):
            more = f" and {n_missing - len(missing)} more" if n_missing > len(missing) else ""
            raise DataError(
                f"names image files that do not exist below {self._images}: {', '.join(missing)}{more}.",
                where=str(self._csv),
                fix="prepare.source.images names the folder that the paths start from.",
            )
        if not count:
            raise DataError("has no rows with a known label.", where=str(self._csv))
        return tuple(unknown), count
