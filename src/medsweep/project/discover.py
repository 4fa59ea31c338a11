"""What can be found out about somebody's data, so that it need not be asked: kind, columns, classes, sizes, colours.

What is guessed is said, and anything can be set by hand; what cannot be found out is an error that names the choices.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from medsweep.artifacts.record import ImageRecord
from medsweep.errors import DataError, ParamsError
from medsweep.imaging.dicom_header import looks_like_dicom
from medsweep.params import Params, Source
from medsweep.project import columns
from medsweep.project.sample import Sample, look_at
from medsweep.sources import dicom, folder, rows
from medsweep.sources.catalog import open_source
from medsweep.sources.protocol import ImageSource
from medsweep.sources.tree import SPLIT_FOLDERS

# Sides that the backbones are known to do well with; larger ones take long on a CPU and are the user's to ask for.
_SIDES = (28, 32, 48, 64)
_SNIFFED = 40
_SAMPLED = 48
_FEWEST_PATIENTS = 3
# A CSV's column, as it is often written, and what of DICOM it names.
_DICOM_COLUMNS = {
    "path": "file",
    "file": "file",
    "filename": "file",
    "sopinstanceuid": "SOPInstanceUID",
    "seriesinstanceuid": "SeriesInstanceUID",
    "studyinstanceuid": "StudyInstanceUID",
    "patientid": "PatientID",
}


@dataclass(frozen=True)
class Place:
    """Where the data are while they are looked at, and where the project will have them.

    Args:
        data: the folder or file, and `labels` a CSV outside it, or None.
        data_name, labels_name: the same from the project's root.
    """

    data: Path
    data_name: str
    labels: Path | None = None
    labels_name: str | None = None


@dataclass(frozen=True)
class Found:
    """What was found out.

    Args:
        source: the keys of `prepare.source`, for the project.
        image: height, width and channels to prepare at.
        task: binary, multiclass, ordinal or multilabel.
        images, unknown: records, and files whose label is no class.
        classes: images of each class.
        patients: None where the source names none.
        splits: images of each split that the data bring; None where they bring none.
        modalities: DICOM's Modality; empty for other kinds.
        sample: what some of the images look like.
        notes: what was guessed, in plain words.
    """

    source: Mapping[str, Any]
    image: Mapping[str, int]
    task: str
    images: int
    unknown: int
    classes: Mapping[str, int]
    patients: int | None
    splits: Mapping[str, int] | None
    modalities: Mapping[str, int]
    sample: Sample
    notes: tuple[str, ...]

    def lines(self) -> list[str]:
        """What a person reads."""
        said = [f"Source: {self.source['kind']}, {self.images} images, {len(self.classes)} classes ({self.task})."]
        said.append("Classes: " + ", ".join(f"{name} {n}" for name, n in self.classes.items()) + ".")
        if self.unknown:
            said.append(f"Without a known label: {self.unknown} images.")
        said.append(f"Patients: {self.patients}." if self.patients is not None else "Patients: the data name none.")
        if self.splits:
            said.append("Splits (given): " + ", ".join(f"{name} {n}" for name, n in self.splits.items()) + ".")
        else:
            said.append("Splits: none are given; they will be carved out.")
        if self.modalities:
            told = ", ".join(f"{name or 'not stated'} {n}" for name, n in self.modalities.items())
            said.append(f"Modality: {told} (of {sum(self.modalities.values())} files that were looked at).")
        if self.sample.images:
            height, width = self.sample.height, self.sample.width
            colour = "colour" if self.image["channels"] == 3 else "grey"
            said.append(
                f"Images: {height}×{width} pixels (median of {self.sample.images}), {colour}; prepared at "
                f"{self.image['height']}×{self.image['width']}."
            )
        return [*said, *self.notes]


@dataclass
class _Guess:
    """Settings in the making, with what to say of them."""

    kind: str
    settings: dict[str, Any]
    notes: list[str] = field(default_factory=list)


def discover(place: Place, template: Params, given: Mapping[str, Any]) -> Found:
    """Look at the data, without writing anything.

    Args:
        place: where they are.
        template: whose limits hold for the images that are looked at.
        given: keys of `prepare.source` that are not to be guessed.

    Raises:
        DataError, ParamsError: the data are none that medsweep reads, or need a key that was not given.
    """
    guess = _guess(place, given)
    source = _open(place, guess)
    if guess.kind == "dicom" and "patient" not in given:
        source = _other_patients(place, guess, source)
    if guess.kind == "folder" and "patient_pattern" not in given:
        source = _patients_of_folders(place, guess, source)
    classes = dict.fromkeys(source.class_names, 0)
    splits: Counter[str] = Counter()
    patients: set[str] = set()
    chosen: list[ImageRecord] = []
    step = max(1, len(source) // _SAMPLED)
    n = 0
    for n, record in enumerate(source.records(), start=1):
        for index in _classes_of(record):
            classes[source.class_names[index]] += 1
        if record.split is not None:
            splits[record.split] += 1
        if record.patient_id is not None:
            patients.add(record.patient_id)
        if (n - 1) % step == 0 and len(chosen) < _SAMPLED:
            chosen.append(record)
    sample = look_at(source, chosen, template.prepare.limits)
    if not sample.images:
        guess.notes.append("No image of a sample could be read: medsweep check says why.")
    if guess.kind != "medmnist" and not patients:
        guess.notes.append(
            "Images of one person may lie in two splits: say whose they are "
            f"({'prepare.source.patient_pattern' if guess.kind == 'folder' else 'prepare.source.patient_column'})."
        )
    return Found(
        source={"kind": guess.kind, "path": _path_name(place, guess), **_for_project(place, guess.settings)},
        image=_image_size(sample),
        task=source.task,
        images=n,
        unknown=len(source.unknown_labels),
        classes=classes,
        patients=len(patients) if patients else None,
        splits={name: splits[name] for name in ("train", "val", "test") if splits[name]} or None,
        modalities=_modalities(guess, chosen),
        sample=sample,
        notes=tuple(guess.notes),
    )


def _classes_of(record: ImageRecord) -> list[int]:
    if isinstance(record.label, tuple):
        return [index for index, on in enumerate(record.label) if on]
    return [record.label]


# What kind of data these are ------------------------------------------------------------------------------------------


def _guess(place: Place, given: Mapping[str, Any]) -> _Guess:
    settings = {key: value for key, value in given.items() if key not in ("kind", "path")}
    kind = given.get("kind") or _kind(place)
    guess = _Guess(str(kind), dict(settings))
    if guess.kind == "table":
        _table(place, guess)
    elif guess.kind == "dicom":
        _dicom(place, guess)
    return guess


def _kind(place: Place) -> str:
    data = place.data
    if not data.exists():
        raise DataError("does not exist.", where=str(data))
    if data.is_file():
        if data.suffix.lower() == ".npz":
            return "medmnist"
        if data.suffix.lower() == ".csv":
            return "table"
        if data.name.upper() == dicom.DICOMDIR:
            return "dicom"
        raise DataError("is no CSV, npz or DICOMDIR.", where=str(data), fix="Name the folder of your images.")
    names = list(_names(data))
    ends = Counter(PurePosixPath(name).suffix.lower() for name in names)
    pictures = sum(ends[each] for each in folder.SUFFIXES)
    others = [name for name in names if PurePosixPath(name).suffix.lower() not in folder.SUFFIXES]
    scans = sum(ends[each] for each in dicom.SUFFIXES if each)
    step = max(1, len(others) // _SNIFFED)
    if scans == 0 and any(_is_dicom(data / name) for name in others[::step][: 2 * _SNIFFED]):
        scans = len(others)
    if scans > pictures:
        return "dicom"
    if pictures:
        if place.labels is not None:
            return "table"
        found = columns.csv_inside(data)
        return "table" if found is not None and _usable(place, found) else "folder"
    if ends[".npz"] == 1:
        return "medmnist"
    told = ", ".join(f"{n} {name or 'without an ending'}" for name, n in ends.most_common(5)) or "no files"
    raise DataError(
        f"holds no images that medsweep reads (found: {told}).",
        where=str(data),
        fix="It reads PNG, JPEG, BMP, TIFF, npy, DICOM, and MedMNIST's npz.",
    )


def _names(data: Path) -> Iterator[str]:
    for parent, folders, names in os.walk(data):
        folders[:] = sorted(each for each in folders if not each.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                yield (Path(parent) / name).relative_to(data).as_posix()


def _is_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return looks_like_dicom(stream.read(132))
    except OSError:
        return False


def _usable(place: Place, table: Path) -> bool:
    """Whether a CSV beside images names them: if not, the folders' names are the labels."""
    try:
        return columns.image_column(table, rows.header(table), place.data) is not None
    except DataError:
        return False


# Tables ---------------------------------------------------------------------------------------------------------------


def _table(place: Place, guess: _Guess) -> None:
    table = _table_of(place, guess)
    header = rows.header(table)
    settings = guess.settings
    base = place.data if place.data.is_dir() else place.data.parent
    found = None if "image_column" in settings else columns.image_column(table, header, base)
    if found is None and "image_column" not in settings:
        raise DataError(
            "has no column that names images which exist.",
            where=str(table),
            fix=f"Say which: -S image_column=…; its columns are: {', '.join(header)}.",
        )
    if found is not None:
        column, below = found
        _set(settings, "image_column", column, usual="path")
        if "images" not in settings and (below is not None or place.labels is not None):
            settings["images"] = below or "."
    _columns(table, header, guess, patient=True)


def _table_of(place: Place, guess: _Guess) -> Path:
    if place.labels is not None:
        return place.labels
    if place.data.is_file():
        return place.data
    named = guess.settings.get("file")
    table = place.data / named if named else columns.csv_inside(place.data)
    if table is None:
        raise DataError("holds no CSV.", where=str(place.data), fix="Say which has the labels: --labels FILE.")
    _set(guess.settings, "file", table.relative_to(place.data).as_posix(), usual="manifest.csv")
    return table


def _columns(table: Path, header: Sequence[str], guess: _Guess, *, patient: bool) -> None:
    """The columns with label, split and patient, where they are not given."""
    settings = guess.settings
    several = settings.get("label_columns") or settings.get("label_separator")
    if "label_column" not in settings and not several:
        taken = [settings.get(key) for key in ("image_column", "match_column", "patient_column", "split_column")]
        column, guessed = columns.label_column(table, header, taken)
        if guessed:
            guess.notes.append(f"The column '{column}' is taken for the label.")
        _set(settings, "label_column", column, usual="label")
    if patient and "patient_column" not in settings:
        patients = columns.named(header, columns.PATIENT_COLUMNS)
        if patients is not None and patients not in ("patient_id", "patient"):
            settings["patient_column"] = patients
    if "split_column" not in settings:
        splits = columns.named(header, columns.SPLIT_COLUMNS)
        words = {row[splits].strip().lower() for row in rows.rows(table)} if splits else set()
        if splits is not None and not words <= set(rows.SPLIT_WORDS):
            if splits in rows.SPLIT_COLUMNS:
                settings["split_column"] = ""
            guess.notes.append(f"The column '{splits}' holds no splits, so it is not used as one.")
        elif splits is not None and splits not in rows.SPLIT_COLUMNS:
            settings["split_column"] = splits


def _set(settings: dict[str, Any], key: str, value: str, *, usual: str) -> None:
    """A key that says what the source would do anyway is left out."""
    if value != usual and key not in settings:
        settings[key] = value


# DICOM and folders ----------------------------------------------------------------------------------------------------


def _dicom(place: Place, guess: _Guess) -> None:
    settings = guess.settings
    if place.labels is not None:
        table: Path | None = place.labels
    elif isinstance(settings.get("labels"), str):
        table = place.data / settings["labels"]
    else:
        table = columns.csv_inside(place.data) if place.data.is_dir() else None
    if table is None:
        if place.data.is_file():
            raise DataError("needs a CSV with the labels.", where=str(place.data), fix="Name one: --labels FILE.")
        return
    settings["labels"] = str(table)
    header = rows.header(table)
    if "match_column" not in settings and "match" not in settings:
        plain = {name: name.strip().lower().replace("_", "").replace(" ", "") for name in header}
        found = [(list(_DICOM_COLUMNS).index(each), name) for name, each in plain.items() if each in _DICOM_COLUMNS]
        if not found:
            raise DataError(
                "has no column that names DICOM images.",
                where=str(table),
                fix=f"Say which and what it names: -S match_column=… -S match=…; its columns are: {', '.join(header)}.",
            )
        column = min(found)[1]
        match = _DICOM_COLUMNS[plain[column]]
        if column not in (match, "path", "file"):
            settings |= {"match": match, "match_column": column}
    _columns(table, header, guess, patient=False)


def _other_patients(place: Place, guess: _Guess, source: ImageSource) -> ImageSource:
    """Some anonymisers leave one PatientID for all: then studies are the next best."""
    patients = {record.patient_id for record in source.records()}
    if len(patients) > 1 or patients == {None}:
        return source
    guess.settings["patient"] = "StudyInstanceUID"
    other = _open(place, guess)
    if len({record.patient_id for record in other.records()}) < _FEWEST_PATIENTS:
        del guess.settings["patient"]
        guess.notes.append("All images name one and the same patient, so they cannot be split.")
        return source
    guess.notes.append("All images have the same PatientID: what belongs to one study is taken for one patient's.")
    return other


def _patients_of_folders(place: Place, guess: _Guess, source: ImageSource) -> ImageSource:
    """Folders below the class folders are mostly patients."""
    below: set[str] = set()
    for record in source.records():
        parts = record.path.relative_to(place.data).parts[:-1]
        if parts and parts[0].lower() in SPLIT_FOLDERS:
            parts = parts[1:]
        if len(parts) < 2:
            return source
        below.add(parts[1])
    if len(below) < _FEWEST_PATIENTS:
        return source
    guess.settings["patient_pattern"] = "^([^/]+)/"
    guess.notes.append("The folders below the classes are taken for patients (prepare.source.patient_pattern).")
    return _open(place, guess)


def _modalities(guess: _Guess, records: Iterable[ImageRecord]) -> dict[str, int]:
    if guess.kind != "dicom":
        return {}
    from medsweep.imaging.dicom_identity import identify

    tag = dicom.KEPT_TAGS["Modality"]
    found: Counter[str] = Counter()
    for path in dict.fromkeys(record.path for record in records):
        try:
            found[identify(path, [tag]).values[tag]] += 1
        except DataError:
            continue
    return dict(found.most_common())


# Opening --------------------------------------------------------------------------------------------------------------


def _open(place: Place, guess: _Guess) -> ImageSource:
    settings = dict(guess.settings)
    path = place.data
    if guess.kind == "table":
        if place.labels is not None:
            path = place.labels
        if isinstance(settings.get("images"), str):
            base = place.data if place.data.is_dir() else place.data.parent
            settings["images"] = str(base / settings["images"])
    try:
        return open_source(Source.model_validate({"kind": guess.kind, "path": str(path), **settings}), path.parent)
    except ParamsError as error:
        raise ParamsError(error.message, where=error.where, fix=error.fix) from None


def _path_name(place: Place, guess: _Guess) -> str:
    if guess.kind == "table" and place.labels_name is not None:
        return place.labels_name
    return place.data_name


def _for_project(place: Place, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with places as the project names them."""
    found = dict(settings)
    if isinstance(found.get("images"), str):
        below = PurePosixPath(place.data_name)
        base = below if place.data.is_dir() else below.parent
        found["images"] = (base / found["images"]).as_posix()
    if isinstance(found.get("labels"), str):
        if place.labels_name is not None:
            found["labels"] = place.labels_name
        else:
            inside = Path(found["labels"]).relative_to(place.data).as_posix()
            found["labels"] = f"{place.data_name}/{inside}"
    return found


def _image_size(sample: Sample) -> dict[str, int]:
    shorter = min(sample.height, sample.width) if sample.images else _SIDES[0]
    side = max((each for each in _SIDES if each <= shorter), default=_SIDES[0])
    return {"height": side, "width": side, "channels": 3 if sample.coloured else 1}
