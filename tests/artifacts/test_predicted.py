"""Predictions come back from their file as they were, whatever classes and kept columns are called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medsweep.artifacts import files
from medsweep.artifacts.predicted import PredictedSplit
from medsweep.errors import ArtifactError


def predicted(task: Any = "binary", names: tuple[str, ...] = ("a", "b"), **changes: Any) -> PredictedSplit:
    n, k = 6, len(names)
    rng = np.random.default_rng(0)
    several = task == "multilabel"
    known: dict[str, Any] = {
        "record_ids": np.array([f"r{index}" for index in range(n)]),
        "patient_ids": np.array(["p1", "p1", "", "p2", "p2", ""]),
        "labels": rng.integers(0, 2, (n, k)).astype(np.uint8) if several else np.arange(n) % k,
        "probabilities": rng.random((n, k)).astype(np.float32).astype(np.float64),
        "decisions": rng.integers(0, 2, (n, k)) if several else np.arange(n)[::-1] % k,
        "class_names": names,
        "task": task,
        "columns": {"site": np.array(["x", "y, z", "", "x", '"', "x"])},
    }
    return PredictedSplit(**(known | changes))


def same(one: PredictedSplit, two: PredictedSplit) -> None:
    for name in ("record_ids", "patient_ids", "labels", "decisions"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    np.testing.assert_array_equal(one.probabilities.astype(np.float32), two.probabilities.astype(np.float32))
    assert (one.class_names, list(one.columns)) == (two.class_names, list(two.columns))


@pytest.mark.parametrize(
    ("task", "names"),
    [
        ("binary", ("benign", "malignant")),
        ("binary", ("decision_a", "probability_b")),
        ("multiclass", ("label", "x, y", "z")),
        ("multilabel", ("effusion", "mass/nodule", "label_x")),
        ("multilabel", ("only",)),
    ],
)
def test_comes_back_as_it_was(tmp_path: Path, task: str, names: tuple[str, ...]) -> None:
    given = predicted(task, names)
    given.save(tmp_path / "predictions.csv")
    found = PredictedSplit.load(tmp_path / "predictions.csv")
    same(found, given)
    assert found.task == task
    assert found.groups.tolist() == ["p1", "p1", "r2", "p2", "p2", "r5"]


def test_kept_columns_of_like_names_are_not_taken_for_answers(tmp_path: Path) -> None:
    columns = {name: np.array(["7"] * 6) for name in ("probability_c", "decision", "label_b", "decision_x")}
    given = predicted("multilabel", columns=columns)
    given.save(tmp_path / "predictions.csv")
    with pytest.raises(ArtifactError, match="do not fit"):
        # A kept `decision_x` right after `decision_b` can't be told from a label's.
        predicted(columns={}, decisions=np.zeros((6, 2)))
    found = PredictedSplit.load(tmp_path / "predictions.csv")
    assert found.class_names == ("a", "b") and found.labels.shape == (6, 2)
    assert set(found.columns) == {"probability_c", "decision", "label_b_kept", "decision_x"}


def test_the_task_is_that_of_the_evaluation_beside_it(tmp_path: Path) -> None:
    predicted("ordinal", ("a", "b", "c")).save(tmp_path / "predictions.csv")
    assert PredictedSplit.load(tmp_path / "predictions.csv").task == "multiclass"
    files.write_json(tmp_path / "evaluation.json", {"task": "ordinal"})
    assert PredictedSplit.load(tmp_path / "predictions.csv").task == "ordinal"
    (tmp_path / "evaluation.json").write_text("{")
    assert PredictedSplit.load(tmp_path / "predictions.csv").task == "multiclass"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "no table of predictions"),
        ("a,b\n1,2\n", "no table of predictions"),
        ("record_id,patient,label,probability_a,probability_b,decision\nr,p,a,0.1\n", "another length"),
        ("record_id,patient,label,probability_a,probability_b,decision\nr,p,c,0.1,0.9,a\n", "does not fit"),
        ("record_id,patient,label,probability_a,probability_b,decision\nr,p,a,x,0.9,a\n", "does not fit"),
        (2 * "record_id,patient,label,probability_a,probability_b,decision\n", "does not fit"),
    ],
)
def test_what_is_no_such_table_is_refused(tmp_path: Path, content: str, why: str) -> None:
    (tmp_path / "predictions.csv").write_text(content)
    with pytest.raises(ArtifactError, match=why):
        PredictedSplit.load(tmp_path / "predictions.csv")


def test_a_missing_file_and_a_repeated_image_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="dvc repro evaluate"):
        PredictedSplit.load(tmp_path / "predictions.csv")
    with pytest.raises(ArtifactError, match="occurs twice"):
        predicted(record_ids=np.array(["r"] * 6))
