"""The stage as a whole, on small folders, tables and phantoms."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from medsweep.artifacts.prepared import PreparedSplit
from medsweep.errors import DataError
from medsweep.layout import SPLITS
from medsweep.prepare import stage

SHARED = Path(__file__).parents[2].parent / "shared" / "data"


def run(project):
    return stage.run(project.params, project.layout, project.console)


def load(project, split):
    return PreparedSplit.load(project.layout.prepared_split(split))


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def table_source(project, rows):
    """A table source with the given rows; images are noise with the seed in the row."""
    fields = [name for name in rows[0] if name != "seed"]
    for row in rows:
        project.image(row["path"], row["seed"])
    with (project.root / "data" / "raw" / "manifest.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fields, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    project.prepare["source"] = {"kind": "table", "path": "data/raw"}


def patient_rows(n=20):
    return [
        {
            "path": f"hidden{n}-{i}.png",
            "label": "sick" if i // 2 % 2 else "well",
            "patient_id": f"Mustermann-{i // 2}",
            "seed": i,
        }
        for i in range(2 * n)
    ]


def test_a_folder_becomes_three_splits(project):
    project.classes(30)
    summary = run(project)
    splits = {name: load(project, name) for name in SPLITS}
    assert summary.listed == summary.prepared == sum(map(len, splits.values())) == 60
    assert [each.images for each in summary.splits] == [36, 12, 12]
    every = np.concatenate([each.record_ids for each in splits.values()])
    assert len(set(every.tolist())) == 60
    train = splits["train"]
    scaled = train.images[:] / 255
    np.testing.assert_allclose(train.standardization.mean, [scaled.mean()], rtol=1e-12)
    np.testing.assert_allclose(train.standardization.deviation, [scaled.std()], rtol=1e-12)
    assert splits["test"].standardization is None and train.n_patients is None
    assert any("names no patients" in line for line in summary.lines())
    report = json.loads(project.layout.data_quality.read_text())
    counts = report["intensity"]["pixels"]["train"]["benign"]
    assert sum(counts) == 18 * 256 and report["images"]["prepared"] == 60
    assert counts == np.bincount(train.images[:][train.labels == 0].ravel().astype(int) // 4, minlength=64).tolist()


def test_pixels_belong_to_their_labels_and_names(project):
    project.prepare["image"]["fit"] = "stretch"
    for index in range(20):
        project.image(f"{'ab'[index % 2]}/{index}.png", index)
    run(project)
    file_of = {row["record_id"]: row["file"] for row in rows_of(project.layout.private / "records.csv")}
    import cv2

    for name in SPLITS:
        split = load(project, name)
        for image, label, record in zip(split.images, split.labels, split.record_ids, strict=True):
            path = project.root / file_of[str(record)]
            assert path.parent.name == "ab"[label]
            stored = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
            shrunk = cv2.resize(stored, (16, 16), interpolation=cv2.INTER_AREA)
            assert np.corrcoef(image[:, :, 0].ravel(), shrunk.ravel())[0, 1] > 0.8


def test_workers_change_no_byte(project, check_page):
    phantoms = {"patients": 80, "images_per_patient": 2, "size": 32}
    project.prepare["source"] = {"kind": "phantom", "path": "data/raw", **phantoms}
    run(project)
    one = project.outputs()
    project.raw["runtime"]["workers"] = 2
    run(project)
    assert one == project.outputs() and len(one) > 10
    page = one["reports/data_quality.html"].decode()
    assert "Synthetic images" in page and check_page(page).tags["img"] > 6 and len(page) < 3e6
    train = load(project, "train")
    assert train.synthetic and train.masks is not None and train.masks.max() == 1 and "oracle_score" in train.columns
    assert not list(project.layout.state.glob("work/prepare/*"))


def test_renamed_files_and_patients_change_no_output(project):
    table_source(project, patient_rows())
    run(project)
    before = project.outputs()
    shutil.rmtree(project.root / "data")
    rows = [
        row | {"path": f"zz{39 - i}.png", "patient_id": row["patient_id"][::-1]} for i, row in enumerate(patient_rows())
    ]
    table_source(project, rows[::-1])
    run(project)
    assert before == project.outputs()


def test_no_name_of_a_file_or_patient_is_in_any_output(project):
    table_source(project, patient_rows())
    run(project)
    for name, content in project.outputs().items():
        assert b"hidden" not in content and b"Mustermann" not in content, name
        assert "hidden".encode("utf-32-le") not in content and "Muster".encode("utf-32-le") not in content, name
        assert str(project.root).encode() not in content, name
    private = rows_of(project.layout.private / "records.csv")
    assert {row["patient"] for row in private} == {f"Mustermann-{i}" for i in range(20)}
    assert len({row["patient_pseudonym"] for row in private}) == 20


def test_given_splits_stay_and_val_is_carved_from_train(project):
    project.classes(20, below="train/", seed=1)
    project.classes(5, below="test/", seed=2)
    summary = run(project)
    assert summary.given == ("train", "test") and summary.carved == ("val",)
    for row in rows_of(project.layout.private / "records.csv"):
        assert (row["split"] == "test") == ("/test/" in row["file"])
    assert len(load(project, "val")) == 8


def test_a_mixture_of_given_and_missing_splits_is_refused(project):
    rows = [row | {"split": "train" if i % 3 else ""} for i, row in enumerate(patient_rows())]
    table_source(project, rows)
    with pytest.raises(DataError, match="has no split, while"):
        run(project)
    assert project.outputs() == {}


def test_all_errors_are_told_at_once_and_nothing_is_written(project):
    rows = [row | {"split": ("train", "train", "val", "test")[i // 4 % 4]} for i, row in enumerate(patient_rows())]
    rows[12]["patient_id"] = rows[0]["patient_id"]
    rows[13]["seed"], rows[13]["label"] = rows[1]["seed"], "sick"
    table_source(project, rows)
    (project.root / "data" / "raw" / rows[4]["path"]).write_bytes(b"\x89PNG\r\n\x1a\ntorn")
    with pytest.raises(DataError) as error:
        run(project)
    text = str(error.value)
    assert "4 checks" in text and "\n" not in text
    for check in ("patient_overlap", "exact_duplicates", "label_conflicts", "unreadable"):
        assert f"{check}: " in text and f"prepare.checks.{check}" in text
    assert rows[4]["path"] in text and ".medsweep/private/findings.csv" in text
    page = (project.layout.private / "data_quality.html").read_text()
    assert "Pictures: .medsweep/private/data_quality.html" in text
    assert (
        page.count("<img") > 6 and "of identical images has labels that differ" in page and rows[4]["path"] not in page
    )
    assert project.outputs() == {}
    listed = rows_of(project.layout.private / "findings.csv")
    overlap = [row for row in listed if row["check"] == "patient_overlap"]
    assert {row["file"] for row in overlap} >= {f"data/raw/{rows[0]['path']}", f"data/raw/{rows[12]['path']}"}
    assert not list(project.layout.state.glob("work/prepare/*"))


@pytest.mark.parametrize("severity", ["warn", "off"])
def test_unreadable_files_are_left_out_and_add_up(project, severity):
    project.classes(15)
    (project.root / "data/raw/benign/secret-torn.png").write_bytes(b"no image")
    project.prepare["checks"]["unreadable"] = severity
    summary = run(project)
    assert (summary.listed, summary.prepared, summary.unreadable) == (31, 30, 1)
    report = json.loads(project.layout.data_quality.read_text())
    reasons = report["images"].pop("unreadable_by_reason")
    assert report["images"] == {"listed": 31, "prepared": 30, "unreadable": 1, "unknown_label": 0}
    assert list(reasons.values()) == [1]
    assert ("secret-torn.png" in project.output.getvalue()) == (severity == "warn")
    assert not any(b"secret" in content for content in project.outputs().values())
    assert [each["check"] for each in report["findings"]] == (["unreadable"] if severity == "warn" else [])
    if severity == "warn":
        assert len(report["findings"][0]["record_ids"]) == 1


def test_unreadable_file_stops_by_default(project):
    project.classes(15)
    (project.root / "data/raw/benign/secret-torn.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"1 file cannot be read as an image: .* E\.g\. data/raw/benign/secret-torn"):
        run(project)


def test_nothing_that_can_be_read(project):
    for name in ("benign/a.png", "malignant/b.png"):
        project.image(name, 1).write_bytes(b"torn")
    with pytest.raises(DataError, match="none of the 2 images can be read"):
        run(project)


def test_duplicates_are_carved_into_one_split(project):
    project.classes(20)
    for index in range(10):
        project.image(f"benign/again-{index}.png", 2 * index)
    run(project)
    report = json.loads(project.layout.data_quality.read_text())
    assert report["findings"] == [] and report["duplicates"]["identical_files"] == 10


def test_a_constant_image_is_a_warning_on_console_and_page(project, check_page):
    project.classes(15)
    project.image("benign/secret-blank.png", None)
    summary = run(project)
    assert summary.warnings == ("1 image is constant: every pixel has the same value.",)
    assert "benign/secret-blank.png" in project.output.getvalue()
    page = project.layout.data_quality_page.read_text()
    assert "1 image is constant" in page and "secret" not in page
    check_page(page)


def test_inspect_says_the_same_and_writes_no_output(project):
    project.classes(15)
    project.image("benign/blank.png", None)
    found = stage.inspect(project.params, project.layout, project.console)
    assert project.outputs() == {} and found.page is None
    made = run(project)
    assert found.splits == made.splits and found.warnings == made.warnings
    for index in range(2):
        project.image(f"{('benign', 'malignant')[index]}/twin.png", 5000)
    with pytest.raises(DataError, match="label_conflicts"):
        stage.inspect(project.params, project.layout, project.console)


def test_rgb_at_16_bits(project):
    project.classes(10)
    project.prepare["image"] = {"height": 16, "width": 18, "channels": 3, "fit": "stretch"}
    project.prepare["intensity"]["bits"] = 16
    run(project)
    train = load(project, "train")
    assert train.images.shape == (12, 16, 18, 3) and train.images.dtype == np.uint16 and train.value_range == 65535
    np.testing.assert_allclose(train.standardization.mean, (train.images[:] / 65535).mean(axis=(0, 1, 2)), rtol=1e-12)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data")
def test_pneumoniamnist_keeps_its_counts_and_names_its_repeats(project):
    project.prepare["source"] = {"kind": "medmnist", "path": str(SHARED / "pneumoniamnist" / "pneumoniamnist.npz")}
    project.prepare["checks"]["validation_duplicates"] = "error"
    with pytest.raises(DataError, match="8 groups of identical images lie both in training and in validation"):
        run(project)
    project.prepare["checks"]["validation_duplicates"] = "warn"
    summary = run(project)
    counts = {each.name: tuple(each.classes.values()) for each in summary.splits}
    assert counts == {"train": (1214, 3494), "val": (135, 389), "test": (234, 390)}
