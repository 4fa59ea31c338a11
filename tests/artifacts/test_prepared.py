from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medsweep.artifacts.files import digest_folder, write_head
from medsweep.artifacts.prepared import PreparedSplit, Standardization, write_split
from medsweep.errors import ArtifactError


def make(**changes: Any) -> PreparedSplit:
    rng = np.random.default_rng(3)
    known: dict[str, Any] = {
        "name": "train",
        "images": rng.integers(0, 256, (5, 8, 6, 1), dtype=np.uint8),
        "labels": np.array([0, 1, 1, 0, 1], np.int64),
        "record_ids": np.array(["a", "b", "c", "d", "e"]),
        "patient_ids": np.array(["p", "p", "", "q", ""]),
        "class_names": ("benign", "malignant"),
        "task": "binary",
        "value_range": 255,
        "columns": {"site": np.array(["x", "y", "x", "y", "ü"]), "sex": np.array(["f"] * 5)},
        "masks": rng.integers(0, 2, (5, 8, 6), dtype=np.uint8),
        "standardization": Standardization((0.25,), (0.1,)),
        "synthetic": True,
    }
    return PreparedSplit(**(known | changes))


MULTILABEL = {"task": "multilabel", "labels": np.array([[0, 1], [1, 1], [0, 0], [1, 0], [0, 1]], np.uint8)}
WIDE = {"images": np.full((5, 8, 6, 3), 40_000, np.uint16), "value_range": 65535, "masks": None}
BARE = {"columns": {}, "masks": None, "standardization": None, "synthetic": False, "name": "test"}


@pytest.mark.parametrize("changes", [{}, MULTILABEL, WIDE, BARE], ids=["binary", "multilabel", "16 bit", "bare"])
def test_a_split_is_read_as_it_was_written(changes: dict[str, Any], tmp_path: Path) -> None:
    split = make(**changes)
    written = split.save(tmp_path / "train")
    found = PreparedSplit.load(tmp_path / "train")
    assert found.digest == written.digest and len(found.digest) == 64 and split.digest == ""
    assert isinstance(found.images, np.memmap)
    for field in fields(PreparedSplit):
        before, after = getattr(split, field.name), getattr(found, field.name)
        if field.name == "columns":
            assert {name: values.tolist() for name, values in before.items()} == {
                name: values.tolist() for name, values in after.items()
            }
        elif isinstance(before, np.ndarray):
            assert np.array_equal(before, after) and before.dtype == after.dtype
        elif field.name != "digest":
            assert before == after, field.name


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"images": np.zeros((5, 8, 6), np.uint8)}, "shape"),
        ({"images": np.zeros((5, 8, 6, 1), np.float32)}, "uint8 or uint16"),
        ({"task": "regression"}, "task must be one of"),
        ({"labels": np.zeros(4, np.int64)}, "lengths differ"),
        ({"record_ids": np.array(["a", "b", "c", "d"])}, "lengths differ"),
        ({"patient_ids": np.array(["p"])}, "lengths differ"),
        ({"columns": {"site": np.array(["x"])}}, "column has another length"),
        ({"masks": np.zeros((5, 8, 8), np.uint8)}, "masks"),
        ({"record_ids": np.array(["a", "a", "c", "d", "e"])}, "unique"),
        ({"class_names": ("one",), "labels": np.zeros(5, np.int64), "task": "multiclass"}, "too few classes"),
        ({"class_names": ("a", "b", "c")}, "a binary task has two classes"),
        ({"labels": np.array([0, 1, 2, 0, 1], np.int64)}, "outside the classes"),
        ({"labels": np.array([0, 1, -1, 0, 1], np.int64)}, "outside the classes"),
        ({"labels": np.array([0, 1, 1, 0, 1], np.int32)}, "int64"),
        ({"task": "multilabel"}, r"\(N, L\) uint8"),
        (MULTILABEL | {"labels": np.full((5, 2), 2, np.uint8)}, "0 or 1"),
    ],
)
def test_a_split_that_breaks_a_rule_cannot_be_made(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ArtifactError, match=rf"prepared split 'train': .*{said}"):
        make(**changes)


def test_patients_are_counted_and_grouped() -> None:
    split = make()
    assert (split.has_patients, split.n_patients) == (True, 2)
    assert split.groups.tolist() == ["p", "p", "c", "q", "e"]
    nameless = make(patient_ids=np.array([""] * 5))
    assert (nameless.has_patients, nameless.n_patients) == (False, None)
    assert nameless.groups.tolist() == nameless.record_ids.tolist()


def test_the_same_split_has_the_same_bytes(tmp_path: Path) -> None:
    first, second = make().save(tmp_path / "a"), make().save(tmp_path / "b")
    assert digest_folder(tmp_path / "a") == digest_folder(tmp_path / "b") and first.digest == second.digest
    other = make(labels=np.array([1, 1, 1, 0, 1], np.int64)).save(tmp_path / "c")
    assert other.digest != first.digest
    assert make(class_names=("malignant", "benign")).save(tmp_path / "d").digest != first.digest


def test_pixels_in_blocks_give_the_same_split(tmp_path: Path) -> None:
    split = make()
    whole = split.save(tmp_path / "whole")
    assert split.masks is not None
    masks = split.masks
    pieces = write_split(
        tmp_path / "pieces",
        split,
        image_blocks=(split.images[i : i + 2] for i in (0, 2, 4)),
        mask_blocks=(masks[i : i + 3] for i in (0, 3)),
    )
    assert pieces.digest == whole.digest


@pytest.mark.parametrize("name", ["images.npy", "labels.npy", "record_ids.npy", "column_0.npy", "masks.npy"])
def test_a_file_that_was_changed_is_found(name: str, tmp_path: Path) -> None:
    make().save(tmp_path / "train")
    path = tmp_path / "train" / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=rf"{name}: is not what the stage wrote.*dvc repro -f prepare"):
        PreparedSplit.load(tmp_path / "train")
    path.unlink()
    with pytest.raises(ArtifactError, match=rf"{name}: does not exist"):
        PreparedSplit.load(tmp_path / "train")


def test_rules_hold_at_load_too(tmp_path: Path) -> None:
    make().save(tmp_path / "train")
    head = tmp_path / "train" / "split.json"
    found = json.loads(head.read_text())
    del found["digest"]
    write_head(head, found | {"task": "multilabel"})
    with pytest.raises(ArtifactError, match="uint8"):
        PreparedSplit.load(tmp_path / "train")


@pytest.mark.parametrize(
    "change",
    [{"class_names": ["malignant", "benign"]}, {"synthetic": False}, {"files": {}}, {"digest": "0" * 64}, {"more": 1}],
)
@pytest.mark.parametrize("verify", [True, False])
def test_a_head_that_was_changed_is_found(change: dict[str, Any], verify: bool, tmp_path: Path) -> None:
    make().save(tmp_path / "train")
    head = tmp_path / "train" / "split.json"
    head.write_text(json.dumps(json.loads(head.read_text()) | change))
    with pytest.raises(ArtifactError, match=r"split\.json: is not what the stage wrote"):
        PreparedSplit.load(tmp_path / "train", verify=verify)


def test_an_interrupted_save_leaves_the_split_that_was_there(tmp_path: Path) -> None:
    split = make()
    before = split.save(tmp_path / "train").digest

    def blocks() -> Any:
        yield split.images[:2]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_split(tmp_path / "train", replace(split, name="val"), image_blocks=blocks(), mask_blocks=None)
    assert PreparedSplit.load(tmp_path / "train").digest == before
    assert [each.name for each in tmp_path.iterdir()] == ["train"]
