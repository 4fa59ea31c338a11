"""Validation predictions and feature statistics come back as they were, byte for byte, or in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medsweep.artifacts.features import FeatureStatistics
from medsweep.artifacts.record import Task
from medsweep.artifacts.validation import ValidationPredictions
from medsweep.errors import ArtifactError

NAMES = ('with "quotes", commas', "label", "probability_label")


def make(task: Task, n: int = 7) -> ValidationPredictions:
    rng = np.random.default_rng(0)
    labels: Any = rng.integers(0, 2, (n, 3)).astype(np.uint8) if task == "multilabel" else rng.integers(0, 3, n)
    return ValidationPredictions(
        record_ids=np.array([f"r{i}" for i in range(n)], dtype=np.str_),
        patient_ids=np.array(["" if i else "p" for i in range(n)], dtype=np.str_),
        labels=labels,
        probabilities=rng.random((n, 3)).astype(np.float32).astype(np.float64),
        distances=np.arange(n, dtype=np.float64),
        energies=-np.arange(n, dtype=np.float64),
    )


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
@pytest.mark.parametrize("n", [7, 0])
def test_predictions_come_back(task: Task, n: int, tmp_path: Path) -> None:
    path, made = tmp_path / "validation.csv", make(task, n)
    made.save(path, class_names=NAMES)
    content = path.read_bytes()
    found = ValidationPredictions.load(path, class_names=NAMES, task=task)
    for name, values in made.__dict__.items():
        own = getattr(found, name)
        assert own.shape == values.shape
        if name == "probabilities":
            np.testing.assert_array_equal(own.astype(np.float32), values.astype(np.float32))
        else:
            np.testing.assert_array_equal(own, values)
    found.save(path, class_names=NAMES)
    assert path.read_bytes() == content


def test_predictions_of_other_classes_or_cut_off_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "validation.csv"
    with pytest.raises(ArtifactError, match=r"does not exist.*dvc repro train"):
        ValidationPredictions.load(path, class_names=NAMES, task="multiclass")
    make("multiclass").save(path, class_names=NAMES)
    with pytest.raises(ArtifactError, match="of other classes"):
        ValidationPredictions.load(path, class_names=("a", "b", "c"), task="multiclass")
    for cut in (0, 10, -20):
        path.write_bytes(path.read_bytes()[:cut])
        with pytest.raises(ArtifactError, match="is damaged"):
            ValidationPredictions.load(path, class_names=NAMES, task="multiclass")
        make("multiclass").save(path, class_names=NAMES)


def test_feature_statistics_come_back_with_the_same_bytes(tmp_path: Path) -> None:
    made = FeatureStatistics(np.arange(6.0).reshape(2, 3), np.eye(3))
    for name in ("a.npz", "b.npz"):
        made.save(tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    found = FeatureStatistics.load(tmp_path / "a.npz")
    np.testing.assert_array_equal(found.means, made.means)
    np.testing.assert_array_equal(found.covariance, made.covariance)


def test_damaged_feature_statistics_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "features.npz"
    with pytest.raises(ArtifactError, match="does not exist"):
        FeatureStatistics.load(path)
    path.write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(ArtifactError, match="is damaged"):
        FeatureStatistics.load(path)
    with pytest.raises(ArtifactError, match=r"covariance must be \(F, F\)"):
        FeatureStatistics(np.ones((1, 2)), np.eye(3))
    with pytest.raises(ArtifactError, match="not finite"):
        FeatureStatistics(np.ones((1, 2)), np.eye(2) * np.nan)
