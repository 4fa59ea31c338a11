"""What the checks say of identifying elements and of text in the pixels: keywords and counts, never a value."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from medsweep.errors import DataError
from medsweep.prepare import stage

VALUES = ("Mustermann", "PAT-", "19431224", "secret")


@pytest.fixture
def folder(project, make_dicom):
    """Twelve DICOM files: six that name their patient, one of these with text in its pixels, six clean ones."""
    rng = np.random.default_rng(3)
    raw = project.root / "data" / "raw"
    for number in range(12):
        pixels = rng.integers(0, 120, (160, 200)).astype(np.uint8) // 8
        elements = {"PatientIdentityRemoved": "YES", "BurnedInAnnotation": "NO"}
        if number < 6:
            elements = {"PatientName": f"Mustermann^{number}", "PatientBirthDate": "19431224"}
        if number == 0:
            image = Image.fromarray(pixels)
            ImageDraw.Draw(image).text((5, 5), "MUSTERMANN^ERIKA", fill=255, font=ImageFont.load_default(18))
            pixels, elements["BurnedInAnnotation"] = np.asarray(image), "YES"
        label = ("ill", "well")[number % 2]
        make_dicom(raw / label / f"secret{number}.dcm", pixels, PatientID=f"PAT-{number}", **elements)
    project.prepare["source"] = {"kind": "dicom", "path": "data/raw"}
    return project


def findings(project):
    return {each["check"]: each for each in json.loads(project.layout.data_quality.read_text())["findings"]}


def test_keywords_and_counts_are_told(folder):
    summary = stage.run(folder.params, folder.layout, folder.console)
    found = findings(folder)
    tags = found["identifying_tags"]
    assert tags["count"] == 6 and len(tags["record_ids"]) == 6 and tags["severity"] == "warn"
    assert tags["counts"] == {"PatientName": 6, "PatientID": 6, "PatientBirthDate": 6}
    assert "6 of 12 DICOM images carry" in tags["message"]
    text = found["burned_in_text"]
    assert text["counts"] == {"BurnedInAnnotation YES": 1, "text-like regions": 1, "BurnedInAnnotation not stated": 5}
    assert any("PatientName" in each for each in summary.warnings)
    page = folder.layout.data_quality_page.read_text()
    assert "<code>PatientBirthDate</code> 6" in page
    for name, content in folder.outputs().items():
        assert not [each for each in VALUES if each.encode() in content], name


def test_the_private_folder_has_every_file_with_its_elements_and_no_value(folder):
    stage.run(folder.params, folder.layout, folder.console)
    with (folder.layout.private / "findings.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    tags = [row for row in rows if row["check"] == "identifying_tags"]
    assert {row["detail"] for row in tags} == {"PatientName PatientID PatientBirthDate"} and len(tags) == 6
    texts = [row for row in rows if row["check"] == "burned_in_text"]
    # Those with a sign of text first.
    assert texts[0]["detail"] == "BurnedInAnnotation YES, text-like regions"
    assert texts[0]["file"].endswith("secret0.dcm") and len(texts) == 6
    assert "Mustermann" not in (folder.layout.private / "findings.csv").read_text()


def test_either_can_stop_the_stage_or_be_off(folder):
    folder.prepare["checks"] |= {"identifying_tags": "error", "burned_in_text": "off"}
    with pytest.raises(DataError, match=r"6 of 12 DICOM images carry elements .*PatientName, PatientID") as raised:
        stage.run(folder.params, folder.layout, folder.console)
    assert "prepare.checks.identifying_tags" in str(raised.value) and "text" not in str(raised.value)
    folder.prepare["checks"]["identifying_tags"] = "off"
    stage.run(folder.params, folder.layout, folder.console)
    assert not {"identifying_tags", "burned_in_text"} & set(findings(folder))
    checks = json.loads(folder.layout.data_quality.read_text())["checks"]
    assert checks["identifying_tags"] == checks["burned_in_text"] == "off"


def test_images_of_other_formats_are_looked_at_for_text(project):
    for number in range(10):
        image = Image.new("L", (200, 160), 10 + number)
        if number == 3:
            ImageDraw.Draw(image).text((5, 5), "MUSTERMANN^ERIKA", fill=255, font=ImageFont.load_default(18))
        path = project.root / "data" / "raw" / ("ill", "well")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    stage.run(project.params, project.layout, project.console)
    found = findings(project)
    assert found["burned_in_text"]["counts"] == {"text-like regions": 1} and "identifying_tags" not in found
