"""The private map, .medsweep/private/records.csv: which file and patient a record id and a pseudonym stand for.

It is made by `prepare`, where the images are; Git, DVC and MLflow never get it.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from medsweep.artifacts import files
from medsweep.artifacts.prepared import PreparedSplit
from medsweep.errors import DataError, MedsweepError
from medsweep.layout import Layout

_COLUMNS = ("record_id", "split", "file", "patient_pseudonym", "patient")
_FRAME = re.compile(r"\[(\d+)\]$")
_FEWEST_DIGITS = 4
_NAMED_AT_MOST = 3


@dataclass(frozen=True)
class PrivateRecord:
    """One row of the map.

    Args:
        record_id: the record's id.
        split: train, val or test.
        file: from the project's root, or absolute.
        frame: the image inside the file, from 0, where it holds several.
        patient_pseudonym: '' where the source names no patient.
        patient: as the source names the patient, or ''.
    """

    record_id: str
    split: str
    file: str
    frame: int | None
    patient_pseudonym: str
    patient: str


def map_path(layout: Layout) -> Path:
    return layout.private / "records.csv"


def write_map(layout: Layout, rows: Iterable[tuple[str, str, str, str, str]]) -> None:
    """Write the map, whole or not at all; a row has a record's id, split, file (with `[frame]`), pseudonym, patient."""
    with files.replacing(map_path(layout)) as temporary, temporary.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(_COLUMNS)
        writer.writerows(rows)


def find_records(layout: Layout, name: str, *, patient: bool = False) -> list[PrivateRecord]:
    """The record with this id, or the records of the patient with this pseudonym.

    A pseudonym is the id of one of the patient's records: it means the record, unless `patient` is set. The beginning
    of an id is enough where it is the only one.

    Raises:
        DataError: the map is not there, is damaged, or does not know the name or knows several.
    """
    path = map_path(layout)
    if not path.is_file():
        raise DataError(
            "there is no private map here: record ids cannot be told to files.",
            where=layout.relative(path),
            fix="It never leaves the clone that prepared the images; where they are, dvc repro -f prepare makes it.",
        )
    exact: list[PrivateRecord] = []
    begins: list[PrivateRecord] = []
    theirs: list[PrivateRecord] = []
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            for row in csv.DictReader(stream, strict=True):
                if row["patient_pseudonym"] == name:
                    theirs.append(_record(layout, row))
                if row["record_id"] == name:
                    exact.append(_record(layout, row))
                elif row["record_id"].startswith(name):
                    begins.append(_record(layout, row))
    except (KeyError, UnicodeDecodeError, csv.Error):
        raise DataError("is damaged.", where=layout.relative(path), fix="dvc repro -f prepare makes it anew.") from None
    if patient:
        begins = [each for each in begins if each.record_id == each.patient_pseudonym]
    found = theirs if patient else exact or theirs
    if found:
        return found
    if len(name) < _FEWEST_DIGITS or not begins:
        raise DataError(
            f"no {'patient' if patient else 'record'} '{name}' in the private map.",
            where=layout.relative(path),
            fix="It is of the last prepare in this clone. reports/predictions.csv and the reports have ids.",
        )
    if len(begins) > 1:
        some = ", ".join(each.record_id for each in begins[:_NAMED_AT_MOST])
        raise MedsweepError(f"'{name}' is the beginning of {len(begins)} ids: {some} …", fix="Give more of it.")
    return find_records(layout, begins[0].record_id, patient=patient)


def count_of_patient(layout: Layout, pseudonym: str) -> int:
    """How many records the patient with this pseudonym has."""
    with map_path(layout).open(encoding="utf-8", newline="") as stream:
        return sum(row["patient_pseudonym"] == pseudonym for row in csv.DictReader(stream))


def file_of(layout: Layout, record: PrivateRecord) -> Path:
    """The file of a record; of images that were made, the folder that they are named after.

    Raises:
        DataError: it is not there any more.
    """
    # An experiment in a throw-away copy names files from that copy's root, which is laid out like the project's.
    for root in (layout.root, layout.home):
        if (root / record.file).exists():
            return root / record.file
    raise DataError(
        "is not there any more.", where=record.file, fix="dvc checkout and dvc pull bring back what DVC keeps."
    )


def picture_of(layout: Layout, record: PrivateRecord) -> Path:
    """A PNG of a record's prepared pixels below .medsweep/private: for images of a pack, which no viewer opens.

    Raises:
        ArtifactError: the prepared split is missing or damaged.
        DataError: it does not hold the record.
    """
    import numpy as np
    from PIL import Image

    split = PreparedSplit.load(layout.prepared_split(record.split))
    [places] = np.nonzero(split.record_ids == record.record_id)
    if not len(places):
        raise DataError(
            f"holds no record '{record.record_id}'.",
            where=layout.relative(layout.prepared_split(record.split)),
            fix="The private map is of another run: dvc repro -f prepare makes both anew.",
        )
    pixels = np.asarray(split.images[places[0]])
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    path = layout.private / "shown.png"
    with files.replacing(path) as temporary:
        Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(temporary, format="PNG")
    return path


def _record(layout: Layout, row: dict[str, str]) -> PrivateRecord:
    # A file's own name may end like a frame's number.
    match = None if (layout.root / row["file"]).is_file() else _FRAME.search(row["file"])
    frame = int(match.group(1)) if match else None
    file = row["file"][: match.start()] if match else row["file"]
    return PrivateRecord(row["record_id"], row["split"], file, frame, row["patient_pseudonym"], row["patient"])
