"""DICOM files in a folder tree or behind a DICOMDIR; labels from folder names or a CSV, patients from the headers."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from medsweep.artifacts.record import ImageRecord, RawImage
from medsweep.errors import DataError, ParamsError
from medsweep.imaging.dicom_header import looks_like_dicom, parse, require_pydicom
from medsweep.imaging.dicom_identity import Identity, identify
from medsweep.params import Section, Source
from medsweep.sources import rows
from medsweep.sources.dicom_patients import Level, named, patients
from medsweep.sources.labels import SingleLabelTask, choose_classes, choose_task, in_order, shortened
from medsweep.sources.protocol import UnknownLabel
from medsweep.sources.tree import class_folders, files_below, outside

SUFFIXES = frozenset({".dcm", ".dicom", ".dic", ".ima", ""})
DICOMDIR = "DICOMDIR"
_DICOMDIR_BYTES = 64 << 20
_NO_LABEL = "(no row in the CSV)"
_NAMED_AT_MOST = 3
_SHOW_PROGRESS_FROM = 2000

Match = Literal["file", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "PatientID"]
# Looked for among the CSV's columns, in this order, where params.yaml says neither match nor match_column.
_USUAL_COLUMNS: dict[str, Match] = {
    "path": "file",
    "file": "file",
    "SOPInstanceUID": "SOPInstanceUID",
    "SeriesInstanceUID": "SeriesInstanceUID",
    "StudyInstanceUID": "StudyInstanceUID",
    "PatientID": "PatientID",
}
# Subgroup columns that may be kept: keyword → tag. None of them names a person, a place or a day.
KEPT_TAGS: dict[str, int] = {
    "BodyPartExamined": 0x00180015,
    "BurnedInAnnotation": 0x00280301,
    "ContrastBolusAgent": 0x00180010,
    "ConvolutionKernel": 0x00181210,
    "ImageLaterality": 0x00200062,
    "ImageType": 0x00080008,
    "KVP": 0x00180060,
    "Laterality": 0x00200060,
    "MagneticFieldStrength": 0x00180087,
    "Manufacturer": 0x00080070,
    "ManufacturerModelName": 0x00081090,
    "Modality": 0x00080060,
    "PatientPosition": 0x00185100,
    "PatientSex": 0x00100040,
    "PhotometricInterpretation": 0x00280004,
    "ScanningSequence": 0x00180020,
    "SequenceVariant": 0x00180021,
    "SliceThickness": 0x00180050,
    "SoftwareVersions": 0x00181020,
    "ViewPosition": 0x00185101,
}
_AGE, _INSTITUTION = 0x00101010, 0x00080080
# Worked out from elements that are not kept themselves.
DERIVED_TAGS: dict[str, int] = {"AgeBand": _AGE, "Site": _INSTITUTION}


class DicomSettings(Section):
    """The DICOM source's keys below `prepare.source`; any may be left out.

    Args:
        labels: a CSV with the labels, from the project's root. Default: folder names are the labels.
        match: what the CSV names: file (relative to `path`), or the UID or PatientID of its images. Default: by its
            columns.
        match_column: the CSV's column with it. Default: path or file, or the name of what is matched.
        label_column: the column with the class.
        split_column: default split or original_split where there is one; '' for none.
        classes: in label order; other labels are unknown. Default: all, sorted.
        positive: of two classes, the positive one (it is then the second). Default: the second.
        task: binary, multiclass or ordinal. Default: by the number of classes.
        patient: what stays together in a split, as `dicom_patients.patients` says.
        frames: which frames of a multi-frame file: each, the middle one, or every stride-th from the first.
        stride: for `frames: stride`.
        columns: elements to keep as subgroups, by keyword: of `KEPT_TAGS`, or AgeBand (decades) or Site (a digest of
            the institution's name).
    """

    labels: str | None = None
    match: Match | None = None
    match_column: str | None = None
    label_column: str = "label"
    split_column: str | None = None
    classes: list[str] | None = None
    positive: str | None = None
    task: SingleLabelTask | None = None
    patient: Level = "PatientID"
    frames: Literal["each", "middle", "stride"] = "each"
    stride: Annotated[int, Field(ge=1)] = 1
    columns: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def _fits_together(self) -> DicomSettings:
        if self.labels is None and (self.match or self.match_column or self.split_column):
            raise ValueError("match, match_column and split_column are about the CSV that labels names")
        if self.stride > 1 and self.frames != "stride":
            raise ValueError("stride is for frames: stride")
        known = [*DERIVED_TAGS, *KEPT_TAGS]
        for name in self.columns:
            if name not in known:
                raise ValueError(f"columns: '{name}' cannot be kept; choose from: {', '.join(known)}")
        return self


@dataclass(frozen=True, slots=True)
class _File:
    """One file: its path below the source's folder, and what was found out about it."""

    name: str
    label: int
    split: str | None
    patient: str | None
    frames: tuple[int, ...] | None
    columns: Mapping[str, str]


@dataclass(frozen=True)
class _Labelled:
    """A row of the CSV."""

    label: str
    split: str | None


class DicomSource:
    """DICOM files, one record a frame.

    A folder's files count that end in .dcm, .dicom, .dic or .ima or have no ending, and any other that begins as
    DICOM files do. What is not DICOM after all, leads out of the folder or has a damaged header is a record that
    cannot be read, so that it is counted and listed.

    Raises:
        DataError: the folder, DICOMDIR or CSV cannot be used, or the CSV names images that do not exist.
        ParamsError: settings that do not fit together.
        MedsweepError: the extra `dicom` is not installed.
    """

    synthetic = False

    def __init__(self, source: Source, root: Path) -> None:
        settings = DicomSettings.model_validate(source.settings)
        require_pydicom()
        place = root / source.path
        if not place.exists():
            raise DataError("does not exist.", where=source.path, fix="It names a folder of DICOM files or a DICOMDIR.")
        self._folder = place if place.is_dir() else place.parent
        self._settings = settings
        self._refused: dict[str, str] = {}
        self._inside = self._folder.resolve()
        listed = self._listed(place, source.path)
        self._csv = None if settings.labels is None else _labels_file(root, self._folder, settings.labels)
        if self._csv is None and place.is_file():
            raise ParamsError(
                "a DICOMDIR needs a CSV with the labels.", where="prepare.source.labels", fix="Name one there."
            )
        tags = [DERIVED_TAGS.get(name) or KEPT_TAGS[name] for name in settings.columns]
        identities = dict(self._identities(listed, tags))
        labels, unknown, labels_of_all = self._labels(listed, identities, source.path)
        self.class_names = choose_classes(
            in_order(labels_of_all), settings.classes, settings.positive, where=str(self._csv or source.path)
        )
        self.task = choose_task(settings.task, self.class_names, ordered=settings.classes is not None)
        index = {name: number for number, name in enumerate(self.class_names)}
        whose = patients(identities, settings.patient)
        self._files: list[_File] = []
        interned: dict[tuple[str, ...], Mapping[str, str]] = {}
        for name in listed:
            found = labels.get(name)
            if found is None:
                if name not in self._refused:
                    continue  # listed among the unknown labels
                found = _Labelled(self.class_names[0], self._any_split(labels))
            elif found.label not in index:
                unknown.append(UnknownLabel(str(self._folder / name), found.label))
                self._refused.pop(name, None)
                continue
            identity = identities.get(name)
            values = tuple(_kept(column, identity) for column in settings.columns)
            columns = interned.setdefault(values, dict(zip(settings.columns, values, strict=True)))
            self._files.append(
                _File(name, index[found.label], found.split, whose.get(name), self._frames(identity), columns)
            )
        self._reasons = {self._folder / name: reason for name, reason in self._refused.items()}
        if not self._files:
            raise DataError("holds no DICOM files with a known label.", where=source.path)
        self.unknown_labels = tuple(unknown)
        self.settings: Mapping[str, Any] = {
            "kind": source.kind,
            "path": source.path,
            **settings.model_dump(),
            "match": self._match[0] if self._csv else None,
            "match_column": self._match[1] if self._csv else None,
            "split_column": self._split_column if self._csv else None,
            "classes": list(self.class_names),
            "task": self.task,
        }

    def __len__(self) -> int:
        return sum(1 if each.frames is None else len(each.frames) for each in self._files)

    def records(self) -> Iterator[ImageRecord]:
        """File by file, sorted by path (or in the order of the DICOMDIR), frame by frame."""
        for each in self._files:
            path = self._folder / each.name
            for frame in each.frames or (None,):
                yield ImageRecord(path, each.label, each.patient, each.split, "dicom", frame, each.columns)

    def read(self, record: ImageRecord) -> RawImage | None:
        """None: the pixels are in the file.

        Raises:
            DataError: the file was refused when the source was opened.
        """
        reason = self._reasons.get(record.path)
        if reason is not None:
            raise DataError(reason, where=str(record.path))
        return None

    # What there is ------------------------------------------------------------------------------------------------

    def _listed(self, place: Path, shown: str) -> list[str]:
        """The files, as paths below the folder; what is refused is noted."""
        found: list[str] = []
        pairs: Iterable[tuple[str, str | None]]
        if place.is_file():
            pairs = self._referenced(place)
        else:
            pairs = files_below(place, self._inside, lambda name: name.upper() != DICOMDIR)
        for name, problem in pairs:
            if problem is None and not place.is_file() and not self._may_be_dicom(name):
                continue
            found.append(name)
            if problem is not None:
                self._refused[name] = problem
        if not found:
            raise DataError("holds no DICOM files.", where=shown)
        return found

    def _may_be_dicom(self, name: str) -> bool:
        if PurePosixPath(name).suffix.lower() in SUFFIXES:
            return True
        # Endings are often numbers or parts of UIDs.
        try:
            path = self._folder / name
            if not path.is_file():
                return False
            with path.open("rb") as stream:
                return looks_like_dicom(stream.read(132))
        except OSError:
            return False

    def _referenced(self, dicomdir: Path) -> Iterator[tuple[str, str | None]]:
        """The files that a DICOMDIR names, each with the reason to refuse it or None."""
        if dicomdir.stat().st_size > _DICOMDIR_BYTES:
            raise DataError(f"is larger than {_DICOMDIR_BYTES >> 20} MiB.", where=str(dicomdir))
        dataset = parse(
            dicomdir.read_bytes(), name=str(dicomdir), largest=_DICOMDIR_BYTES, pixels=True, everything=True
        )
        try:
            references = [
                item.get("ReferencedFileID")
                for item in dataset.get("DirectoryRecordSequence") or []
                if item.get("ReferencedFileID")
            ]
        except Exception as error:  # pydicom raises nearly anything on damaged items
            raise DataError(f"is a damaged DICOMDIR ({type(error).__name__}).", where=str(dicomdir)) from None
        if not references:
            raise DataError("is no DICOMDIR, or names no files.", where=str(dicomdir))
        seen: set[str] = set()
        for reference in references:
            parts = [reference] if isinstance(reference, str) else [str(each) for each in reference]
            name = "/".join(parts)
            if name in seen:
                continue
            seen.add(name)
            yield name, self._outside(parts)

    def _outside(self, parts: Sequence[str]) -> str | None:
        """The reason to refuse a DICOMDIR's reference that leads out of its folder (PS3.10 8.2: plain components)."""
        if any(part in ("", ".", "..") or "/" in part or "\\" in part or ":" in part or "\0" in part for part in parts):
            return "is a reference that leads out of the DICOMDIR's folder."
        return outside(self._folder.joinpath(*parts), self._inside)

    def _identities(self, listed: Sequence[str], tags: Sequence[int]) -> Iterator[tuple[str, Identity]]:
        """What the headers say; a file whose header cannot be read, or holds no image, is refused."""
        from rich.console import Console
        from rich.progress import track

        quiet = len(listed) < _SHOW_PROGRESS_FROM or not sys.stderr.isatty()
        for name in track(listed, "reading headers", console=Console(stderr=True), transient=True, disable=quiet):
            if name in self._refused:
                continue
            try:
                identity = identify(self._folder / name, tags)
            except DataError as error:
                self._refused[name] = error.message
                continue
            if identity.frames == 0:
                self._refused[name] = "holds no pixels."
            yield name, identity

    # Whose, and what ----------------------------------------------------------------------------------------------

    def _labels(
        self, listed: Sequence[str], identities: Mapping[str, Identity], shown: str
    ) -> tuple[dict[str, _Labelled], list[UnknownLabel], set[str]]:
        """The labels by file, the files without one, and all labels that occur."""
        if self._csv is None:
            found = {}
            for (split, label), folder in class_folders(self._folder, shown=shown).items():
                start = folder.relative_to(self._folder).as_posix() + "/"
                found.update({name: _Labelled(label, split) for name in listed if f"{name}/".startswith(start)})
            unknown = [UnknownLabel(str(self._folder / name), "(no folder)") for name in listed if name not in found]
            return found, unknown, {each.label for each in found.values()}
        names = rows.header(self._csv)
        self._match = self._matching(names)
        self._split_column = rows.column(self._settings.split_column, rows.SPLIT_COLUMNS, names)
        for key, name in (("label_column", self._settings.label_column), ("split_column", self._split_column)):
            if name is not None and name not in names:
                raise DataError(
                    f"has no column '{name}', which prepare.source.{key} names.",
                    where=str(self._csv),
                    fix=f"Its columns are: {shortened(names)}.",
                )
        said = self._said()
        match = self._match[0]
        found, unknown, used = {}, [], set()
        for name in listed:
            key = name if match == "file" else named(identities.get(name), match)
            if key and key in said:
                found[name] = said[key]
                used.add(key)
            elif name not in self._refused or match == "file":
                self._refused.pop(name, None)
                unknown.append(UnknownLabel(str(self._folder / name), _NO_LABEL))
        missing = [key for key in said if key not in used]
        if missing and not (match != "file" and self._refused):
            more = f" and {len(missing) - _NAMED_AT_MOST} more" if len(missing) > _NAMED_AT_MOST else ""
            raise DataError(
                f"names images that {shown} does not hold: {', '.join(missing[:_NAMED_AT_MOST])}{more}.",
                where=f"{self._csv}, column '{self._match[1]}'",
                fix="Take these rows out, or add the files.",
            )
        return found, unknown, {each.label for each in said.values() if each.label}

    def _matching(self, names: Sequence[str]) -> tuple[Match, str]:
        """What the CSV names its images by, and in which column."""
        given, column = self._settings.match, self._settings.match_column
        if column is None:
            for usual, match in _USUAL_COLUMNS.items():
                if usual in names and given in (None, match):
                    return match, usual
        elif column in names and (given is not None or column in _USUAL_COLUMNS):
            return given or _USUAL_COLUMNS[column], column
        elif column in names:
            raise ParamsError(
                f"the column '{column}' may name anything.",
                where="prepare.source.match",
                fix=f"Choose from: {', '.join(dict.fromkeys(_USUAL_COLUMNS.values()))}.",
            )
        raise DataError(
            f"has no column {column or given or 'that names images'}.",
            where=str(self._csv),
            fix=f"prepare.source.match_column names it; the columns are: {shortened(names)}.",
        )

    def _said(self) -> dict[str, _Labelled]:
        """The CSV's rows by what they name."""
        assert self._csv is not None
        _, column = self._match
        said: dict[str, _Labelled] = {}
        for number, row in enumerate(rows.rows(self._csv), start=1):
            key = row[column].strip()
            if self._match[0] == "file":
                key = PurePosixPath(key.replace("\\", "/")).as_posix() if key else ""
            split = None
            if self._split_column:
                split = rows.split_of(row[self._split_column], self._split_column, number, self._csv)
            found = _Labelled(row[self._settings.label_column], split)
            if not key or said.setdefault(key, found) != found:
                raise DataError(
                    f"data row {number} names no image." if not key else f"says two things of '{key}'.",
                    where=f"{self._csv}, column '{column}'",
                )
        if not said:
            raise DataError("has no rows.", where=str(self._csv))
        return said

    def _any_split(self, labels: Mapping[str, _Labelled]) -> str | None:
        # A record that will be refused only has to agree with the others in having a split.
        return next((each.split for each in labels.values()), None)

    def _frames(self, identity: Identity | None) -> tuple[int, ...] | None:
        if identity is None or identity.frames <= 1:
            return None
        if self._settings.frames == "middle":
            return (identity.frames // 2,)
        return tuple(range(0, identity.frames, self._settings.stride))


def _labels_file(root: Path, folder: Path, name: str) -> Path:
    for path in (root / name, folder / name):
        if path.is_file():
            return path
    raise DataError("does not exist.", where=name, fix="prepare.source.labels names a CSV, from the project's root.")


def _kept(column: str, identity: Identity | None) -> str:
    """A subgroup column's value, '' where the header does not say."""
    if identity is None:
        return ""
    if column == "AgeBand":
        return age_band(identity.values[_AGE])
    if column == "Site":
        name = identity.values[_INSTITUTION].strip().lower()
        return "site-" + hashlib.blake2b(name.encode(), digest_size=4).hexdigest() if name else ""
    return identity.values[KEPT_TAGS[column]]


def age_band(age: str) -> str:
    """PatientAge (`045Y`, `010M`) as decades: `0-9` to `80-89`, and `90+`, since higher ages can identify a person."""
    number, unit = age[:-1], age[-1:]
    if not (number.isascii() and number.isdigit() and unit in ("D", "W", "M", "Y")):
        return ""
    years = {"D": 365.25, "W": 365.25 / 7, "M": 12.0, "Y": 1.0}[unit]
    decade = int(int(number) / years) // 10 * 10
    return "90+" if decade >= 90 else f"{decade}-{decade + 9}"
