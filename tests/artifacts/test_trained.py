from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medsweep.artifacts.files import digest_file
from medsweep.artifacts.trained import OperatingPoint, TrainedModel
from medsweep.errors import ArtifactError

POINT = OperatingPoint("sensitivity", 0.95, (0.3,), (0.96,), (None,))


def make(**changes: Any) -> TrainedModel:
    known: dict[str, Any] = {
        "model_digest": "d" * 64,
        "members": (3,),
        "class_names": ("benign", "malignant"),
        "task": "binary",
        "input_shape": (28, 28, 1),
        "value_range": 255,
        "objective": "val_auroc",
        "objective_value": 0.9,
        "threshold": (0.4,),
        "threshold_rule": "youden",
        "temperature": 1.0,
        "trial": {"train.space.optimizer": "adam"},
        "facts": {"parameters": 9.0},
        "n_trials": {"complete": 2},
        "digests": {"code": "c"},
        "search_key": "k",
        "synthetic": True,
    }
    return TrainedModel(**(known | changes))


def test_a_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    for name, manifest in {
        "binary": make(),
        "multiclass": make(task="multiclass", class_names=("a", "b", "c"), threshold=()),
        "multilabel": make(task="multilabel", class_names=("a", "b", "c"), threshold=(0.1, 0.2, 0.3)),
        "ensemble": make(members=(1, 5, 9), synthetic=False),
        "points": make(operating_points=(POINT,), calibration={"ece_before": 0.1, "auroc_after": None}),
    }.items():
        path = tmp_path / f"{name}.json"
        manifest.save(path)
        assert TrainedModel.load(path) == manifest
        content = path.read_bytes()
        manifest.save(path)
        assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"task": "regression"}, "task must be one of"),
        ({"threshold": ()}, "a binary model has 1 threshold"),
        ({"task": "multiclass"}, "a multiclass model has 0 threshold"),
        ({"task": "multilabel"}, "a multilabel model has 2 threshold"),
        ({"members": ()}, "at least one member"),
        ({"operating_points": (POINT, replace(POINT, thresholds=(0.1, 0.2)))}, "operating point .* has 1 threshold"),
        ({"temperature": 0.0}, "temperature must be positive"),
        ({"input_shape": (28, 28)}, r"\(H, W, C\)"),
    ],
)
def test_a_manifest_that_breaks_a_rule_cannot_be_made(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ArtifactError, match=said):
        make(**changes)


def test_a_model_that_is_not_the_manifests_is_found(tmp_path: Path) -> None:
    model, path = tmp_path / "model.keras", tmp_path / "trained.json"
    model.write_bytes(b"weights")
    make(model_digest=digest_file(model)).save(path)
    assert TrainedModel.load(path, model=model).members == (3,)
    model.write_bytes(b"Weights")
    with pytest.raises(ArtifactError, match=r"model\.keras: is not what the stage wrote.*dvc repro -f train"):
        TrainedModel.load(path, model=model)
    model.unlink()
    with pytest.raises(ArtifactError, match=r"model\.keras: does not exist"):
        TrainedModel.load(path, model=model)
    assert TrainedModel.load(path).members == (3,)


@pytest.mark.parametrize("change", [{"task": None}, {"surprise": 1}, {"members": 7}])
def test_a_manifest_of_another_version_is_one_line(change: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "trained.json"
    make().save(path)
    found = json.loads(path.read_text()) | change
    if found["task"] is None:
        del found["task"]
    path.write_text(json.dumps(found))
    with pytest.raises(ArtifactError, match="is not a manifest of this version"):
        TrainedModel.load(path)


def test_a_manifest_that_cannot_be_told_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "trained.json"
    make().save(path)
    with pytest.raises(ValueError, match="JSON compliant"):
        make(objective_value=float("nan")).save(path)
    assert TrainedModel.load(path) == make()
