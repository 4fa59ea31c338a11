"""A folder of DICOM through the whole stage: what cannot be read adds up, patients stay together, nobody is named."""

from __future__ import annotations

import json

import numpy as np
import pytest

from medsweep.artifacts.prepared import PreparedSplit
from medsweep.errors import DataError
from medsweep.layout import SPLITS
from medsweep.prepare import stage

SECRETS = ("Mustermann", "PAT-", "19431224", "ACC-77", "1.2.826.0.1.999", "St Elsewhere", "secret-")


@pytest.fixture
def folder(project, make_dicom):
    """Thirty patients with two series of two slices each, a file with frames, and three that cannot be read."""
    rng = np.random.default_rng(3)
    raw = project.root / "data" / "raw"
    for patient in range(30):
        for slice_ in range(4):
            make_dicom(
                raw / ("ill", "well")[patient % 2] / f"secret-{patient}" / f"{slice_}.dcm",
                rng.integers(0, 4096, (20, 24)).astype(np.uint16),
                PatientName=f"Mustermann^{patient}",
                PatientID=f"PAT-{patient}",
                PatientBirthDate="19431224",
                PatientSex="MF"[patient % 2],
                AccessionNumber="ACC-77",
                InstitutionName="St Elsewhere",
                StudyInstanceUID=f"1.2.826.0.1.999.{patient}",
                SeriesInstanceUID=f"1.2.826.0.1.999.{patient}.{slice_ // 2}",
                SOPInstanceUID=f"1.2.826.0.1.999.{patient}.{slice_}.1",
                BitsStored=12,
                WindowCenter=2000,
                WindowWidth=3000,
            )
    frames = rng.integers(0, 256, (5, 20, 24)).astype(np.uint8)
    make_dicom(raw / "ill" / "secret-many.dcm", frames, NumberOfFrames=5, PatientID="PAT-many")
    (raw / "ill" / "secret-text.dcm").write_text("no image")
    (raw / "well" / "secret-none.dcm").write_text("no image either")
    whole = (raw / "ill" / "secret-0" / "0.dcm").read_bytes()
    (raw / "well" / "secret-torn.dcm").write_bytes(whole[:-100])
    project.prepare["source"] = {"kind": "dicom", "path": "data/raw", "columns": ["PatientSex", "Site"]}
    return project


def test_files_that_cannot_be_read_stop_the_stage(folder):
    with pytest.raises(DataError, match="3 files cannot be read as an image: 2 × is not a DICOM file; 1 × is"):
        stage.run(folder.params, folder.layout, folder.console)
    assert not folder.outputs()


def test_what_is_left_out_is_listed_also_where_nobody_asked(folder):
    folder.prepare["checks"]["unreadable"] = "off"
    assert stage.inspect(folder.params, folder.layout, folder.console).unreadable == 3
    private = (folder.layout.private / "findings.csv").read_text()
    assert "secret-torn.dcm (is truncated" in private and "secret-text.dcm (is not a DICOM file)" in private


def test_or_are_left_out_and_listed_and_everything_adds_up(folder):
    folder.prepare["checks"]["unreadable"] = "warn"
    summary = stage.run(folder.params, folder.layout, folder.console)
    assert (summary.listed, summary.prepared, summary.unreadable) == (128, 125, 3)
    images = json.loads(folder.layout.data_quality.read_text())["images"]
    assert images["listed"] == images["prepared"] + images["unreadable"] + images["unknown_label"]
    assert sum(images["unreadable_by_reason"].values()) == images["unreadable"] == 3
    assert images["unreadable_by_reason"]["is not a DICOM file"] == 2
    patients = [set(PreparedSplit.load(folder.layout.prepared_split(name)).patient_ids.tolist()) for name in SPLITS]
    assert sum(map(len, patients)) == len(set().union(*patients)) == 31
    train = PreparedSplit.load(folder.layout.prepared_split("train"))
    assert set(train.columns) == {"PatientSex", "Site"}
    for name, content in folder.outputs().items():
        for secret in SECRETS:
            assert secret.encode() not in content, name
            assert secret.encode("utf-32-le") not in content, name
    private = (folder.layout.private / "findings.csv").read_text()
    assert "secret-torn.dcm" in private
