"""`medsweep new` finds out what it can, makes a project under Git and DVC, and overwrites nothing."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from medsweep import params
from medsweep.cli import app
from medsweep.errors import DataError, MedsweepError, ParamsError
from medsweep.project import template
from medsweep.project.create import create
from medsweep.project.discover import Place, discover

SHIPPED = params.parse(params.load_yaml(Path(__file__).resolve().parents[2] / "params.yaml"), where="params.yaml")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Samples are read in this process: starting another for each test would take a second and more."""
    from medsweep.project import sample

    monkeypatch.setattr("medsweep.project.discover.look_at", sample._look)


def image(path, number, size=(40, 50), colour=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 255, (*size, 3)).astype(np.uint8)
    Image.fromarray(pixels if colour else pixels[:, :, 0]).save(path)


def found(data, labels=None, **given):
    place = Place(data, "data/raw/images", labels, "data/raw/labels.csv" if labels else None)
    return discover(place, SHIPPED, given)


def table(path, header, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as out:
        csv.writer(out).writerows([header, *rows])


# What is found out ----------------------------------------------------------------------------------------------------


def test_class_folders(tmp_path):
    for number in range(12):
        image(tmp_path / ("ill", "well")[number % 2] / f"{number}.png", number, colour=True)
    seen = found(tmp_path)
    assert seen.source == {"kind": "folder", "path": "data/raw/images"}
    assert (seen.classes, seen.images, seen.patients, seen.splits) == ({"ill": 6, "well": 6}, 12, None, None)
    assert seen.image == {"height": 32, "width": 32, "channels": 3}
    assert any("patient_pattern" in line for line in seen.lines())


def test_folders_below_the_classes_are_patients_and_given_splits_are_kept(tmp_path):
    for number in range(24):
        split = ("train", "val", "test")[number % 3]
        image(tmp_path / split / ("ill", "well")[number % 2] / f"P{number % 12}" / f"{number}.png", number)
    seen = found(tmp_path)
    assert seen.source["patient_pattern"] == "^([^/]+)/" and seen.patients == 12
    assert seen.splits == {"train": 8, "val": 8, "test": 8} and seen.image["channels"] == 1


def test_a_table_with_other_columns_and_images_in_a_subfolder(tmp_path):
    for number in range(12):
        image(tmp_path / "pictures" / f"{number}.png", number, size=(100, 90))
    rows = [[f"{n}.png", ("ill", "well")[n % 2], f"S{n // 2}", n] for n in range(12)]
    table(tmp_path / "list.csv", ["filename", "dx", "subject", "age"], rows)
    seen = found(tmp_path)
    assert seen.source == {
        "kind": "table",
        "path": "data/raw/images",
        "file": "list.csv",
        "image_column": "filename",
        "images": "data/raw/images/pictures",
        "label_column": "dx",
        "patient_column": "subject",
    }
    assert seen.patients == 6 and seen.image == {"height": 64, "width": 64, "channels": 1}


def test_the_label_is_told_by_its_values_or_asked_for(tmp_path):
    for number in range(12):
        image(tmp_path / f"{number}.png", number)
    rows = [[f"{n}.png", ("a", "b", "c")[n % 3], ("x", "y")[n % 2]] for n in range(12)]
    table(tmp_path / "manifest.csv", ["path", "what", "ward"], rows)
    with pytest.raises(DataError, match="-S label_column=…; its columns are: path, what, ward"):
        found(tmp_path)
    assert found(tmp_path, label_column="ward").classes == {"x": 6, "y": 6}
    table(tmp_path / "manifest.csv", ["path", "what"], [row[:2] for row in rows])
    seen = found(tmp_path)
    assert seen.source["label_column"] == "what" and seen.task == "multiclass"
    assert "The column 'what' is taken for the label." in seen.notes


def test_a_csv_apart_from_the_images(tmp_path):
    for number in range(8):
        image(tmp_path / "images" / f"{number}.png", number)
    rows = [[f"{n}.png", n % 2, ("train", "test")[n // 4]] for n in range(8)]
    table(tmp_path / "labels.csv", ["path", "label", "split"], rows)
    seen = found(tmp_path / "images", tmp_path / "labels.csv")
    assert seen.source == {"kind": "table", "path": "data/raw/labels.csv", "images": "data/raw/images"}
    assert seen.splits == {"train": 4, "test": 4}


def test_medmnist_in_a_folder(tmp_path):
    arrays = {f"{split}_images": np.zeros((6, 28, 28), np.uint8) for split in ("train", "val", "test")}
    arrays |= {f"{split}_labels": np.arange(6)[:, None] % 2 for split in ("train", "val", "test")}
    np.savez(tmp_path / "mine.npz", **arrays)
    seen = found(tmp_path)
    assert seen.source == {"kind": "medmnist", "path": "data/raw/images"} and seen.images == 18


@pytest.mark.parametrize("ending", [".dcm", ""])
def test_dicom_by_content_with_labels_in_a_csv(tmp_path, make_dicom, ending):
    for number in range(8):
        pixels = np.random.default_rng(number).integers(0, 4000, (30, 30)).astype(np.uint16)
        elements = {"PatientID": f"P{number // 2}", "Modality": "CT", "StudyInstanceUID": f"1.2.{number}"}
        make_dicom(tmp_path / "IMAGES" / f"IM{number}{ending}", pixels, **elements)
    table(tmp_path / "truth.csv", ["patient_id", "Diagnosis"], [[f"P{n}", n % 2] for n in range(4)])
    seen = found(tmp_path)
    assert seen.source == {
        "kind": "dicom",
        "path": "data/raw/images",
        "labels": "data/raw/images/truth.csv",
        "match": "PatientID",
        "match_column": "patient_id",
        "label_column": "Diagnosis",
    }
    assert (seen.patients, seen.modalities, seen.classes) == (4, {"CT": 8}, {"0": 4, "1": 4})


def test_one_patient_id_for_all_makes_studies_the_patients(tmp_path, make_dicom):
    for number in range(8):
        pixels = np.full((30, 30), number, np.uint16)
        path = tmp_path / ("ill", "well")[number % 2] / f"{number}.dcm"
        make_dicom(path, pixels, PatientID="anonymous", StudyInstanceUID=f"1.2.{number // 2}")
    seen = found(tmp_path)
    assert seen.source["patient"] == "StudyInstanceUID" and seen.patients == 4
    assert any("same PatientID" in note for note in seen.notes)


def test_nothing_that_is_read(tmp_path):
    (tmp_path / "a.doc").touch()
    with pytest.raises(DataError, match=r"no images that medsweep reads \(found: 1 \.doc\)"):
        found(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        found(tmp_path / "none")


# What is made ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "A. Tester")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "a@example.org")
    monkeypatch.chdir(tmp_path)
    data = tmp_path / "scans of Mustermann"
    for number in range(40):
        image(data / ("ill", "well")[number % 2] / f"P{number // 2}" / f"{number}.png", number, size=(20, 20))
    return data


def make(root, data=None, *, labels=None, in_place=False, **given):
    return create(root, data, labels=labels, in_place=in_place, given=given)


def test_the_command_makes_a_project_that_git_and_dvc_know(pictures, tmp_path):
    done = CliRunner().invoke(app, ["new", "study", "--from", str(pictures)])
    assert done.exit_code == 0, done.output
    for said in (
        "study is a project now.",
        "ill 20, well 20",
        "Patients: 20.",
        "DVC keeps data/raw/images.",
        "dvc repro",
    ):
        assert said in done.output
    root = tmp_path / "study"
    assert {"params.yaml", "dvc.yaml", "code.yaml", ".gitignore", ".dvcignore", ".dvc", ".git"} <= {
        path.name for path in root.iterdir()
    }
    assert params.load(root / "params.yaml").experiment == "study"
    status = subprocess.run(["git", "status", "--porcelain"], cwd=root, capture_output=True, text=True, check=True)
    assert status.stdout == "", "all is committed, and the images are ignored"
    tracked = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, text=True, check=True).stdout.split()
    assert "data/raw/images.dvc" in tracked and not [name for name in tracked if name.endswith(".png")]
    stages = subprocess.run(
        [sys.executable, "-m", "dvc", "stage", "list", "--all"], cwd=root, capture_output=True, text=True, check=True
    ).stdout
    assert "data/raw/images.dvc" in stages, "DVC sees the images: dvc push and dvc exp run --temp take them along"
    # The data's own name, which may be a person's, is in no file of the project.
    for path in (root / name for name in tracked):
        assert b"Mustermann" not in path.read_bytes(), path
    again = CliRunner().invoke(app, ["new", "study", "--from", str(pictures)])
    assert isinstance(again.exception, MedsweepError) and "nothing is overwritten" in str(again.exception)


def test_in_place_and_json(pictures, tmp_path):
    done = CliRunner().invoke(app, ["new", "study", "--from", str(pictures), "--in-place", "--json"])
    told = json.loads(done.stdout)
    assert told["found"]["source"]["path"] == str(pictures) and told["added"] == [] and told["committed"] is True
    assert not list((tmp_path / "study" / "data" / "raw").glob("*.dvc"))


def test_data_that_lie_in_the_project_stay_there_and_an_outer_repository_is_used(pictures, tmp_path):
    root = tmp_path / "study"
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    (root / "data" / "raw").mkdir(parents=True)
    pictures.rename(root / "data" / "raw" / "mine")
    made = make(root)
    assert made.found.source["path"] == "data/raw/mine" and made.added == ("data/raw/mine",)
    assert not (root / ".git").exists() and made.committed is False
    assert any("git commit" in each for each in made.next)


def test_a_table_gets_a_name_that_tells_of_nobody(pictures, tmp_path):
    rows = [[path.relative_to(pictures).as_posix(), path.parts[-3]] for path in sorted(pictures.rglob("*.png"))]
    table(pictures / "list of Mustermann.csv", ["path", "label"], rows)
    made = make(tmp_path / "study", pictures / "list of Mustermann.csv")
    assert made.found.source == {"kind": "table", "path": "data/raw/images"}
    inside = tmp_path / "study" / "data" / "raw" / "images"
    assert (inside / "manifest.csv").is_file() and not (inside / "list of Mustermann.csv").exists()
    assert (pictures / "list of Mustermann.csv").is_file()


def test_without_data_it_starts_with_phantoms(pictures, tmp_path):
    made = make(tmp_path / "study")
    assert made.found is None and params.load(tmp_path / "study" / "params.yaml").prepare.source.kind == "phantom"
    assert (tmp_path / "study" / "data" / "raw").is_dir() and made.committed


def test_what_cannot_be_is_refused_before_anything_is_written(pictures, tmp_path):
    with pytest.raises(MedsweepError, match="inside the data"):
        make(pictures / "study", pictures)
    with pytest.raises(MedsweepError, match="inside the data"):
        make(pictures, pictures)
    with pytest.raises(MedsweepError, match="does not exist"):
        make(tmp_path / "study", tmp_path / "nothing")
    with pytest.raises(MedsweepError, match="labels need images"):
        make(tmp_path / "study", labels=tmp_path / "a.csv")
    with pytest.raises(ParamsError, match="positive"):
        make(tmp_path / "study", pictures, positive="neither")
    for name in ("params.yaml", "dvc.yaml", "code.yaml", ".gitignore"):
        (tmp_path / "other").mkdir(exist_ok=True)
        (tmp_path / "other" / name).write_text("mine")
        with pytest.raises(MedsweepError, match="nothing is overwritten"):
            make(tmp_path / "other", pictures)
        (tmp_path / "other" / name).unlink()
    assert not (tmp_path / "study").exists() and not (pictures / "study").exists()


def test_wrong_settings_are_explained(pictures):
    done = CliRunner().invoke(app, ["new", "study", "--from", str(pictures), "-S", "nonsense"])
    assert isinstance(done.exception, ParamsError) and "KEY=VALUE" in str(done.exception)
    assert template.CODE == "code.yaml"
