"""What was planted in headers, sizes, scanners, labels and splits is named; what is clean gives no alarm."""

from __future__ import annotations

import csv
import json

import cv2
import numpy as np
import pytest

from medsweep.prepare import stage
from medsweep.prepare.checks import label_noise, prediction
from medsweep.prepare.observed import name_pattern

N = 160


@pytest.fixture
def table(project):
    """Writes images of two classes that look alike, two a patient, and the CSV that names them, and runs the stage."""

    def write(*, scanner=lambda label, rng: "A", size=lambda label: 24, brighter=lambda split, label: 0, signal=0.0):
        rng = np.random.default_rng(11)
        rows = []
        for index in range(2 * N):
            label = index // 2 % 2
            split = ("train", "train", "val", "test")[index // 4 % 4]
            side = size(label)
            pixels = rng.normal(110, 30, (side, side))
            pixels += brighter(split, label) + rng.normal(0, 10)
            pixels[: side // 2] += signal * label
            name = f"secret-{index:04d}.png"
            path = project.root / "data/raw" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), np.clip(pixels, 0, 255).astype(np.uint8))
            rows.append(
                {
                    "path": name,
                    "label": ("well", "ill")[label],
                    "patient_id": f"Mustermann-{index // 2}",
                    "split": split,
                    "scanner": scanner(label, rng),
                }
            )
        with (project.root / "data/raw/manifest.csv").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        project.prepare["source"] = {"kind": "table", "path": "data/raw", "columns": ["scanner"]}
        return look(project)

    return write


def look(project):
    """The findings and notes of a run, by check; no name is in any output."""
    stage.run(project.params, project.layout, project.console)
    for name, content in project.outputs().items():
        assert b"secret" not in content and b"Mustermann" not in content, name
    report = json.loads(project.layout.data_quality.read_text())
    return {
        kind: {each["check"]: each for each in report[kind] if each["check"] in ("shortcuts", "label_noise", "shift")}
        for kind in ("findings", "notes")
    }


def guilty(found):
    return {
        each["field"]: each["auroc"] for each in found["findings"]["shortcuts"]["figures"]["fields"] if each["guilty"]
    }


def test_clean_data_give_no_alarm_and_the_figures_are_told(table):
    found = table()
    assert found["findings"] == {}
    assert set(found["notes"]) == {"shortcuts", "label_noise", "shift"}
    assert all(each["auroc"] < 0.7 for each in found["notes"]["shortcuts"]["figures"]["fields"])


def test_a_class_from_one_scanner_is_named_with_its_auroc(table, project):
    found = table(scanner=lambda label, rng: "AB"[label if rng.random() < 0.9 else 1 - label])
    assert set(guilty(found)) == {"column scanner"}
    assert 0.8 < guilty(found)["column scanner"] < 1.0
    page = project.layout.data_quality_page.read_text()
    assert "AUROC of the field alone" in page and page.count("<img") == page.count("alt=")
    message = found["findings"]["shortcuts"]["message"]
    assert message.startswith("1 field of metadata predicts the label: column scanner (AUROC 0.")


def test_a_class_with_another_image_size_is_named_with_its_auroc(table):
    found = table(size=lambda label: (24, 40)[label])
    assert guilty(found).items() >= {("image height", 1.0), ("image width", 1.0)}
    assert found["findings"]["shortcuts"]["figures"]["auroc_of_all_metadata"] == 1.0


def test_a_field_that_was_accepted_is_not_named(table, project):
    project.prepare["checks"]["shortcuts_accepted"] = ["column scanner"]
    found = table(scanner=lambda label, rng: "AB"[label])
    assert "shortcuts" in found["notes"]


def test_a_dicom_element_that_only_one_class_has_is_named_and_no_value_is_told(project, make_dicom):
    rng = np.random.default_rng(3)
    for index in range(120):
        label = index % 2
        leak = {"ContrastBolusAgent": "Mustermann agent"} if label else {}
        make_dicom(
            project.root / "data/raw" / ("ill", "well")[label] / f"secret-{index}.dcm",
            rng.integers(0, 4096, (20, 24)).astype(np.uint16),
            PatientID=f"Mustermann-{index}",
            StationName="ST-secret",
            BitsStored=12,
            **leak,
        )
    project.prepare["source"] = {"kind": "dicom", "path": "data/raw"}
    for check in ("identifying_tags", "burned_in_text"):
        project.prepare["checks"][check] = "off"
    found = look(project)
    # The element makes its file longer, too.
    assert guilty(found) == {"DICOM ContrastBolusAgent": 1.0, "file size": 1.0}


def test_wrong_labels_come_first_and_nothing_is_deleted(table, project):
    project.prepare["checks"]["label_noise_certainty"] = 0.8
    found = table(signal=60.0)
    assert "label_noise" in found["notes"]
    rows = list(csv.DictReader((project.root / "data/raw/manifest.csv").open()))
    wrong = [rows[index]["path"] for index in (8, 9, 100, 101, 204, 205)]
    for row in rows:
        if row["path"] in wrong:
            row["label"] = {"well": "ill", "ill": "well"}[row["label"]]
    with (project.root / "data/raw/manifest.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    noise = look(project)["findings"]["label_noise"]
    assert noise["figures"]["auroc_of_the_model"] > 0.9
    private = list(csv.DictReader((project.layout.private / "findings.csv").open()))
    listed = [row["file"].rsplit("/", 1)[1] for row in private if row["check"] == "label_noise"]
    assert len(set(listed[: len(wrong)]) & set(wrong)) >= 4  # of the six
    assert json.loads(project.layout.data_quality.read_text())["images"]["prepared"] == 2 * N


def test_a_split_and_a_site_that_look_different_are_named_in_plain_words(table, project):
    found = table(brighter=lambda split, label: 40 if split == "test" else 0)
    message = found["findings"]["shift"]["message"]
    assert "train and test (AUROC 0.9" in message and "higher in test" in message
    pairs = found["findings"]["shift"]["figures"]["comparisons"]
    assert [each["different"] for each in pairs if each["second"] == "val"] == [False]


def test_trees_and_rates_are_cross_validated():
    rng = np.random.default_rng(0)
    positive, folds = rng.random(400) < 0.5, np.arange(400) % 5
    noise = rng.random((400, 3)).astype(np.float32)
    assert (
        abs(prediction.auroc(prediction.out_of_fold(noise, positive, folds, categorical=False), positive) - 0.5) < 0.1
    )
    codes = np.arange(400) % 40
    assert prediction.auroc(prediction.rates_out_of_fold(codes, positive, folds), positive) < 0.6
    told = prediction.rates_out_of_fold(positive.astype(np.int64), positive, folds)
    assert prediction.auroc(told, positive) == 1.0


def test_confident_learning_ranks_by_margin():
    given = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], dtype=bool)
    probabilities = np.array([[0.9, 0.1], [0.05, 0.95], [0.2, 0.8], [0.3, 0.7]])
    certainty, suspicious, order = label_noise._ranked(given, probabilities, several=False)
    assert order[0] == 1 and suspicious.tolist() == [False, True, False, False]
    assert certainty[1] == pytest.approx(0.95)


@pytest.mark.parametrize(
    ("name", "pattern"),
    [("IM-0001-0001.jpeg", "a-0-0.a"), ("benign_12.png", "a_0.a"), ("malignant_345.png", "a_0.a")],
)
def test_name_patterns_tell_no_name(name, pattern):
    assert name_pattern(name) == pattern
