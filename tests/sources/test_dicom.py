"""DICOM folders and DICOMDIRs: which files, whose, with which label, and what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from medsweep import params
from medsweep.artifacts.record import ImageRecord
from medsweep.errors import DataError, MedsweepError, ParamsError
from medsweep.imaging import dicom_identity
from medsweep.imaging.dicom_header import looks_like_dicom, metadata_of
from medsweep.imaging.dicom_identity import identify
from medsweep.sources.catalog import open_source
from medsweep.sources.dicom import DERIVED_TAGS, KEPT_TAGS, DicomSource, age_band

SHIPPED = Path(pydicom.__file__).parent / "data"
DICOMDIRS = SHIPPED / "test_files" / "dicomdirtests"
PIXELS = np.arange(64, dtype=np.uint8).reshape(8, 8)


def opened(root: Path, path: str = "raw", **settings: Any) -> DicomSource:
    source = open_source(params.Source(kind="dicom", path=path, **settings), root)
    assert isinstance(source, DicomSource)
    return source


@pytest.fixture
def fill(tmp_path: Path, make_dicom: Callable[..., Path]) -> Callable[..., None]:
    """Writes files by name; a patient 'p', study 's', series 'q' and instance 'i' follow each name with a comma."""

    def write(*names: str, **elements: Any) -> None:
        for number, each in enumerate(names):
            name, *rest = each.split(",")
            known: dict[str, Any] = {"SOPInstanceUID": f"1.9.{number}"}
            for part in rest:
                key = {"p": "PatientID", "s": "StudyInstanceUID", "q": "SeriesInstanceUID", "i": "SOPInstanceUID"}
                known[key[part[0]]] = part[1:]
            make_dicom(tmp_path / "raw" / name, PIXELS, **known, **elements)

    return write


def told(source: DicomSource) -> dict[str, tuple[str, str | None, str | None]]:
    """Label, patient and split by file."""
    return {
        record.path.as_posix().partition("/raw/")[2]: (
            source.class_names[record.label],  # type: ignore[index]
            record.patient_id,
            record.split,
        )
        for record in source.records()
    }


def refused(source: DicomSource) -> dict[str, str]:
    found = {}
    for record in source.records():
        try:
            source.read(record)
        except DataError as error:
            found[record.path.name] = error.message
    return found


def test_folders_are_labels_and_headers_name_patients(tmp_path: Path, fill: Callable[..., None]) -> None:
    fill("ill/x/1.dcm,pA", "ill/2,pA", "well/3.IMA,pB", "well/1.2.840.5,pC")
    (tmp_path / "raw" / "well" / "notes.txt").write_text("no image")
    source = opened(tmp_path)
    assert (source.class_names, source.task) == (("ill", "well"), "binary")
    assert told(source) == {
        "ill/2": ("ill", "A", None),
        "ill/x/1.dcm": ("ill", "A", None),
        "well/1.2.840.5": ("well", "C", None),
        "well/3.IMA": ("well", "B", None),
    }
    assert refused(source) == {}


def test_split_folders_are_kept(tmp_path: Path, fill: Callable[..., None]) -> None:
    fill("train/a/1.dcm", "train/b/2.dcm", "test/a/3.dcm", "test/b/4.dcm")
    assert {name: split for name, (_, _, split) in told(opened(tmp_path)).items()} == {
        "train/a/1.dcm": "train",
        "train/b/2.dcm": "train",
        "test/a/3.dcm": "test",
        "test/b/4.dcm": "test",
    }


def test_without_a_patient_the_study_and_then_the_series_stays_together(
    tmp_path: Path, fill: Callable[..., None]
) -> None:
    fill("a/1.dcm,p,s1.1,q1.2", "a/2.dcm,s1.1,q1.3", "b/3.dcm,q1.4", "b/4.dcm,q1.4", "b/5.dcm")
    patients = {name: patient for name, (_, patient, _) in told(opened(tmp_path)).items()}
    assert patients["a/1.dcm"] == patients["a/2.dcm"] == "StudyInstanceUID 1.1"
    assert patients["b/3.dcm"] == patients["b/4.dcm"] == "SeriesInstanceUID 1.4"
    assert patients["b/5.dcm"] is None


def test_a_series_and_the_studies_of_a_patient_stay_together_whatever_single_headers_lack(
    tmp_path: Path, fill: Callable[..., None]
) -> None:
    fill(
        # One slice of a series lacks its patient; so does a whole series of another study of theirs.
        "a/1.dcm,pP,s1.1,q1.2",
        "a/2.dcm,p,s1.1,q1.2",
        "a/3.dcm,pP,s2.1,q2.2",
        "b/4.dcm,p,s2.1,q2.3",
        # A series under two names of a patient, one of whom has another study.
        "a/5.dcm,pR,s3.1,q3.2",
        "b/6.dcm,pQ,s3.1,q3.2",
        "b/7.dcm,pR,s4.1,q4.2",
        # UIDs that an anonymiser made all the same tie nobody together.
        "a/8.dcm,pT,s5.1,q9",
        "b/9.dcm,pU,s6.1,q9",
        "b/10.dcm,pV,s6.1,q8",
    )
    patients = {name: patient for name, (_, patient, _) in told(opened(tmp_path)).items()}
    assert {patients[name] for name in ("a/1.dcm", "a/2.dcm", "a/3.dcm", "b/4.dcm")} == {"P"}
    assert {patients[name] for name in ("a/5.dcm", "b/6.dcm", "b/7.dcm")} == {"Q"}
    assert [patients[name] for name in ("a/8.dcm", "b/9.dcm", "b/10.dcm")] == ["T", "U", "V"]
    studies = {name: patient for name, (_, patient, _) in told(opened(tmp_path, patient="StudyInstanceUID")).items()}
    assert studies["a/1.dcm"] == studies["a/2.dcm"] == "StudyInstanceUID 1.1"
    assert studies["a/3.dcm"] == studies["b/4.dcm"] == "StudyInstanceUID 2.1"


@pytest.mark.parametrize(
    ("patient", "expected"),
    [("PatientID", "P"), ("StudyInstanceUID", "StudyInstanceUID 1.1"), ("SeriesInstanceUID", "SeriesInstanceUID 1.2")],
)
def test_what_stays_together_can_be_chosen(
    tmp_path: Path, fill: Callable[..., None], patient: str, expected: str
) -> None:
    fill("a/1.dcm,pP,s1.1,q1.2", "b/2.dcm,pQ")
    assert told(opened(tmp_path, patient=patient))["a/1.dcm"][1] == expected


FILES = ("x/1.dcm,pA,s1.1,q1.2,i1.3", "x/2.dcm,pA,s1.1,q1.2,i1.4", "3.dcm,pB,s2.1,q2.2,i2.3")


@pytest.mark.parametrize(
    ("column", "keys"),
    [
        ("path", ["x/1.dcm", "x/2.dcm", "3.dcm"]),
        ("SOPInstanceUID", ["1.3", "1.4", "2.3"]),
        ("SeriesInstanceUID", ["1.2", "1.2", "2.2"]),
        ("StudyInstanceUID", ["1.1", "2.1"]),
        ("PatientID", ["A", "B"]),
    ],
)
def test_a_csv_names_images_in_five_ways(
    tmp_path: Path, fill: Callable[..., None], column: str, keys: list[str]
) -> None:
    fill(*FILES)
    lines = [f"{key},{'well' if key in ('3.dcm', '2.3', '2.2', '2.1', 'B') else 'ill'},test" for key in keys]
    (tmp_path / "labels.csv").write_text("\n".join([f"{column},label,split", *lines]))
    source = opened(tmp_path, labels="labels.csv")
    assert told(source) == {
        "3.dcm": ("well", "B", "test"),
        "x/1.dcm": ("ill", "A", "test"),
        "x/2.dcm": ("ill", "A", "test"),
    }
    assert source.settings["match"] == ("file" if column == "path" else column)
    renamed = "\n".join(["who,finding", *(line.rpartition(",")[0] for line in lines)])
    (tmp_path / "raw" / "labels.csv").write_text(renamed)  # beside the images
    (tmp_path / "labels.csv").unlink()
    match = source.settings["match"]
    again = opened(tmp_path, labels="labels.csv", match=match, match_column="who", label_column="finding")
    assert {name: label for name, (label, *_) in told(again).items()} == {
        "3.dcm": "well",
        "x/1.dcm": "ill",
        "x/2.dcm": "ill",
    }


def test_files_without_a_row_or_with_another_label_are_listed(tmp_path: Path, fill: Callable[..., None]) -> None:
    fill("1.dcm", "2.dcm", "3.dcm", "4.dcm")
    (tmp_path / "labels.csv").write_text("path,label\n1.dcm,a\n2.dcm,b\n3.dcm,c\n")
    source = opened(tmp_path, labels="labels.csv", classes=["a", "b"])
    assert set(told(source)) == {"1.dcm", "2.dcm"}
    listed = {Path(each.name).name: each.label for each in source.unknown_labels}
    assert listed == {"3.dcm": "c", "4.dcm": "(no row in the CSV)"}


@pytest.mark.parametrize(
    ("content", "settings", "said"),
    [
        ("path,label\n1.dcm,a\n2.dcm,b\n9.dcm,a\n", {}, r"column 'path': names images that raw does not hold: 9\.dcm"),
        ("path,label\n1.dcm,a\n1.dcm,b\n", {}, r"says two things of '1\.dcm'"),
        ("path,label\n,a\n", {}, "data row 1 names no image"),
        ("name,label\n1.dcm,a\n", {}, "has no column that names images"),
        ("name,label\n1.dcm,a\n", {"match_column": "name"}, r"prepare\.source\.match: the column 'name' may name any"),
        ("path,finding\n1.dcm,a\n", {}, r"has no column 'label', which prepare\.source\.label_column names"),
        ("path,label,split\n1.dcm,a,later\n", {}, "'later' in the column 'split', which is not a split"),
        ("path,label\n", {}, "has no rows"),
    ],
)
def test_a_csv_that_cannot_be_used_is_said(
    tmp_path: Path, fill: Callable[..., None], content: str, settings: dict[str, Any], said: str
) -> None:
    fill("1.dcm", "2.dcm")
    (tmp_path / "labels.csv").write_text(content)
    with pytest.raises(MedsweepError, match=said):
        opened(tmp_path, labels="labels.csv", **settings)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"match": "PatientID"}, "about the CSV that labels names"),
        ({"stride": 2}, r"stride is for frames: stride"),
        ({"columns": ["PatientName"]}, r"'PatientName' cannot be kept; choose from: AgeBand, Site"),
        ({"columns": ["PatientAge"]}, r"'PatientAge' cannot be kept"),
        ({"frames": "first"}, r"prepare\.source\.frames"),
    ],
)
def test_wrong_settings_are_named(
    tmp_path: Path, fill: Callable[..., None], settings: dict[str, Any], said: str
) -> None:
    fill("a/1.dcm", "b/2.dcm")
    with pytest.raises(ParamsError, match=said):
        opened(tmp_path, **settings)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [0, 1, 2, 3, 4, 5, 6]),
        ({"frames": "middle"}, [3]),
        ({"frames": "stride", "stride": 3}, [0, 3, 6]),
    ],
)
def test_frames_are_chosen(
    tmp_path: Path, make_dicom: Callable[..., Path], settings: dict[str, Any], expected: list[int]
) -> None:
    make_dicom(tmp_path / "raw" / "a" / "many.dcm", np.zeros((7, 4, 4), np.uint8), NumberOfFrames=7, PatientID="A")
    make_dicom(tmp_path / "raw" / "b" / "one.dcm", PIXELS, PatientID="B")
    source = opened(tmp_path, **settings)
    records = list(source.records())
    assert [record.frame for record in records] == [*expected, None]
    assert {record.patient_id for record in records[:-1]} == {"A"}
    assert len(source) == len(records)


def test_kept_columns_say_nothing_that_identifies(tmp_path: Path, fill: Callable[..., None]) -> None:
    fill(
        "a/1.dcm",
        "b/2.dcm",
        PatientSex="F",
        PatientAge="045Y",
        Manufacturer="Acme",
        InstitutionName="St Elsewhere",
        PatientName="Doe^Jane",
    )
    source = opened(tmp_path, columns=["PatientSex", "AgeBand", "Manufacturer", "Site", "Modality"])
    first = next(source.records()).columns
    assert {name: value for name, value in first.items() if name != "Site"} == {
        "PatientSex": "F",
        "AgeBand": "40-49",
        "Manufacturer": "Acme",
        "Modality": "",
    }
    assert first["Site"].startswith("site-")
    assert "elsewhere" not in first["Site"].lower()
    assert opened(tmp_path, columns=[*KEPT_TAGS, *DERIVED_TAGS])


@pytest.mark.parametrize(
    ("age", "band"),
    [("045Y", "40-49"), ("010M", "0-9"), ("100Y", "90+"), ("089Y", "80-89"), ("", ""), ("old", ""), ("003W", "0-9")],
)
def test_ages_become_decades(age: str, band: str) -> None:
    assert age_band(age) == band


def test_what_cannot_be_read_is_counted_with_its_reason(tmp_path: Path, fill: Callable[..., None]) -> None:
    fill("a/1.dcm", "b/2.dcm")
    raw = tmp_path / "raw"
    (raw / "a" / "empty.dcm").touch()
    (raw / "a" / "text.dcm").write_text("not an image, whatever its name says" * 10)
    shutil.copy(SHIPPED / "test_files" / "test-SR.dcm", raw / "b" / "report.dcm")
    outside = tmp_path / "outside.dcm"
    shutil.copy(raw / "a" / "1.dcm", outside)
    (raw / "b" / "link.dcm").symlink_to(outside)
    source = opened(tmp_path)
    assert len(source) == 6
    assert refused(source) == {
        "empty.dcm": "is not a DICOM file.",
        "text.dcm": "is not a DICOM file.",
        "report.dcm": "holds no pixels.",
        "link.dcm": "is a link that leads out of the source's folder.",
    }


def write_dicomdir(path: Path, *references: list[str]) -> None:
    dataset = pydicom.dcmread(DICOMDIRS / "DICOMDIR")
    records = []
    for reference in references:
        item = Dataset()
        item.DirectoryRecordType = "IMAGE"
        item.ReferencedFileID = reference
        records.append(item)
    dataset.DirectoryRecordSequence = Sequence(records)
    dataset.save_as(path)


@pytest.mark.filterwarnings("ignore")
def test_a_dicomdir_names_the_files_and_leads_nowhere_else(tmp_path: Path, fill: Callable[..., None]) -> None:
    fill("X/A,pA", "X/B,pB", "X/UNNAMED,pC")
    raw = tmp_path / "raw"
    outside = tmp_path / "SECRET"
    outside.mkdir()
    shutil.copy(raw / "X" / "A", outside / "S")
    (raw / "OUT").symlink_to(outside)
    escapes = [["..", "SECRET", "S"], ["/etc/passwd"], ["X", "../../SECRET/S"], ["OUT", "S"]]
    write_dicomdir(raw / "DICOMDIR", ["X", "A"], ["X", "B"], ["X", "GONE"], *escapes)
    names = ["X/A,a", "X/B,b", "X/GONE,a", *("/".join(each) + ",b" for each in escapes)]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label", *names]))
    source = opened(tmp_path, path="raw/DICOMDIR", labels="labels.csv")
    assert {record.patient_id for record in source.records()} == {"A", "B", None}
    found = refused(source)
    assert set(found) == {"GONE", "S", "passwd"}
    assert "cannot be read" in found["GONE"]
    assert {reason for name, reason in found.items() if name != "GONE"} == {
        "is a reference that leads out of the DICOMDIR's folder.",
        "lies outside the source's folder.",
    }
    assert len(source) == 7


def test_a_dicomdir_needs_a_csv(tmp_path: Path) -> None:
    shutil.copytree(DICOMDIRS, tmp_path / "raw")
    with pytest.raises(ParamsError, match=r"prepare\.source\.labels: a DICOMDIR needs a CSV"):
        opened(tmp_path, path="raw/DICOMDIR")


def test_pydicoms_dicomdir_is_read_by_patients(tmp_path: Path) -> None:
    shutil.copytree(DICOMDIRS, tmp_path / "raw")
    (tmp_path / "labels.csv").write_text("PatientID,label\n77654033,a\n98890234,b\n")
    source = opened(tmp_path, path="raw/DICOMDIR", labels="labels.csv")
    records = list(source.records())
    assert len(records) == 31
    assert {record.patient_id for record in records} == {"77654033", "98890234"}
    assert not refused(source)


@pytest.mark.parametrize(
    "path",
    [
        each
        for each in sorted(SHIPPED.rglob("*"))
        if each.is_file() and looks_like_dicom(each.open("rb").read(132)) and "TINY_ALPHA" not in str(each)
    ],
    ids=lambda path: path.name,
)
@pytest.mark.filterwarnings("ignore")
def test_stepping_through_a_header_finds_what_pydicom_finds(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tags = tuple(KEPT_TAGS.values())

    def answer() -> object:
        try:
            return identify(path, tags)
        except DataError as error:
            return error.message

    quick = answer()
    monkeypatch.setattr(dicom_identity, "_stepped", lambda data, wanted: None)
    assert quick == answer()


def test_metadata_names_nobody(tmp_path: Path, make_dicom: Callable[..., Path]) -> None:
    path = make_dicom(
        tmp_path / "a.dcm",
        PIXELS,
        PatientName="Doe^Jane",
        PatientID="P-123",
        PatientBirthDate="19700101",
        AccessionNumber="ACC9",
        InstitutionName="St Elsewhere",
        StudyDescription="Doe, follow-up",
        Modality="CT",
        ContrastBolusAgent="Iodine",
        PatientSex="F",
        BodyPartExamined="",
        KVP=120,
    )
    found = metadata_of(path)
    assert found["Modality"] == "CT"
    assert found["ContrastBolusAgent"] == "Iodine"
    assert found["Rows"] == "8"
    assert found["BodyPartExamined"] == ""
    assert found["PatientName"] == found["PatientID"] == found["PatientBirthDate"] == "present"
    assert found["StudyDescription"].startswith("#")
    assert "StudyDate" not in found
    assert "PixelData" not in found
    said = " ".join(found.values())
    assert not [word for word in ("Doe", "Jane", "P-123", "1970", "ACC9", "Elsewhere", "1.826") if word in said]
    (tmp_path / "a.txt").write_text("no image")
    assert metadata_of(tmp_path / "a.txt") == {}


def test_records_are_named_by_file_and_frame(tmp_path: Path, fill: Callable[..., None]) -> None:
    fill("a/1.dcm", "b/2.dcm")
    record = next(opened(tmp_path).records())
    assert isinstance(record, ImageRecord)
    assert record.name.endswith("a/1.dcm")
