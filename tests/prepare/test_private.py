"""The private map leads from a record id back to the file, in the clone that has it."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from medsweep.cli import app
from medsweep.errors import DataError, MedsweepError
from medsweep.prepare import private, stage


@pytest.fixture
def prepared(project, monkeypatch):
    """A map of six patients with two files each and one with a file of two frames, and these files."""
    ids = [hashlib.sha256(str(number).encode()).hexdigest()[:16] for number in range(14)]
    told = []
    for number, record in enumerate(ids):
        name = "data/raw/ill/many.dcm" if number >= 12 else f"data/raw/ill/image {number}.dcm"
        path = project.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        frame = f"[{number - 12}]" if number >= 12 else ""
        patient = "PAT-many" if number >= 12 else f"PAT-{number // 2}"
        pseudonym = min(ids[number // 2 * 2 : number // 2 * 2 + 2])
        told.append((record, ("train", "val", "test")[number % 3], name + frame, pseudonym, patient))
    private.write_map(project.layout, told)
    (project.root / "dvc.yaml").touch()
    (project.root / "params.yaml").touch()
    monkeypatch.chdir(path.parent)
    return project


@pytest.fixture
def opened(monkeypatch):
    """What the system's viewer was asked to open."""
    found: list[str] = []
    monkeypatch.setattr("typer.launch", lambda path, wait: found.append(path) or 0)
    return found


def rows(project):
    with private.map_path(project.layout).open() as stream:
        return list(csv.DictReader(stream))


def run(*arguments):
    return CliRunner().invoke(app, ["show", *arguments])


def test_a_record_is_found_and_opened(prepared, opened):
    row = next(each for each in rows(prepared) if each["patient"] == "PAT-3")
    done = run(row["record_id"])
    assert done.exit_code == 0, done.output
    assert row["file"] in done.output and row["split"] in done.output and "PAT-3" in done.output
    assert opened == [str(prepared.root / row["file"])] and Path(opened[0]).is_file()


def test_print_opens_nothing_and_the_beginning_of_an_id_is_enough(prepared, opened):
    row = rows(prepared)[0]
    done = run(row["record_id"][:8], "--print")
    assert row["file"].split("[")[0] in done.output and opened == []


def test_json_has_file_frame_split_and_patient(prepared, opened):
    row = next(each for each in rows(prepared) if each["file"].endswith("[1]"))
    [found] = json.loads(run(row["record_id"], "--json").output)
    assert found["frame"] == 1 and found["file"] == "data/raw/ill/many.dcm" and found["patient"] == "PAT-many"
    assert found["split"] == row["split"] and opened == []


def test_a_pseudonym_lists_the_patients_images_and_opens_none(prepared, opened):
    pseudonym = next(each["patient_pseudonym"] for each in rows(prepared) if each["patient"] == "PAT-2")
    done = run(pseudonym, "--patient")
    assert done.output.count("PAT-2") == 2 and "medsweep show RECORD" in done.output and opened == []
    # The pseudonym is the id of one of them, too: that one is opened.
    assert "pseudonym of a patient with 2 images" in run(pseudonym).output and len(opened) == 1


def test_where_no_viewer_starts_the_file_is_named(prepared, monkeypatch):
    monkeypatch.setattr("typer.launch", lambda path, wait: 4)
    done = run(rows(prepared)[0]["record_id"])
    assert isinstance(done.exception, MedsweepError) and "no viewer" in str(done.exception)


def test_another_clone_has_no_map_and_says_so(prepared):
    private.map_path(prepared.layout).unlink()
    done = run("0123456789abcdef")
    assert isinstance(done.exception, DataError) and "no private map here" in str(done.exception)
    assert "dvc repro -f prepare" in str(done.exception)


@pytest.mark.parametrize("name", ["nothing-like-it", "0", ""])
def test_unknown_names_are_refused(prepared, name):
    with pytest.raises(MedsweepError, match=r"no record|beginning of"):
        private.find_records(prepared.layout, name)


def test_a_file_that_is_gone_is_said_to_be_gone(prepared, opened):
    row = next(each for each in rows(prepared) if not each["file"].endswith("]"))
    (prepared.root / row["file"]).unlink()
    done = run(row["record_id"])
    assert isinstance(done.exception, DataError) and "not there any more" in str(done.exception) and opened == []


def test_a_damaged_map_is_refused(prepared):
    private.map_path(prepared.layout).write_bytes(b"record_id\n\xff\xfe\n")
    with pytest.raises(DataError, match="is damaged"):
        private.find_records(prepared.layout, "abcd")


def test_what_prepare_wrote_leads_to_an_image_of_a_pack_and_its_prepared_pixels(project, opened, monkeypatch):
    rng = np.random.default_rng(3)
    arrays = {}
    for split in ("train", "val", "test"):
        arrays[f"{split}_images"] = rng.integers(0, 255, (8, 16, 16)).astype(np.uint8)
        arrays[f"{split}_labels"] = np.arange(8)[:, None] % 2
    (project.root / "data" / "raw").mkdir(parents=True, exist_ok=True)
    np.savez(project.root / "data" / "raw" / "pack.npz", **arrays)
    project.prepare["source"] = {"kind": "medmnist", "path": "data/raw/pack.npz"}
    stage.run(project.params, project.layout, project.console)
    (project.root / "dvc.yaml").touch()
    (project.root / "params.yaml").touch()
    monkeypatch.chdir(project.root)
    row = rows(project)[0]
    done = run(row["record_id"])
    assert "pack.npz, image" in done.output and "prepared pixels are shown" in done.output
    assert opened == [str(project.layout.private / "shown.png")]
    [place] = [int(part.rstrip("]")) for part in row["file"].split("[")[1:]]
    with Image.open(opened[0]) as picture:
        found = np.asarray(picture)
    every = np.concatenate([arrays[f"{split}_images"] for split in ("train", "val", "test")])
    assert any((found == each).all() for each in every) and place < 24


def test_a_file_whose_own_name_ends_like_a_frame(prepared, opened):
    (prepared.root / "data" / "raw" / "scan[2]").touch()
    private.write_map(prepared.layout, [("0123456789abcdef", "train", "data/raw/scan[2]", "", "")])
    assert run("01234567").exit_code == 0
    assert opened == [str(prepared.root / "data" / "raw" / "scan[2]")]
