"""Which class is explained, and which images are shown."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from medsweep.artifacts.prepared import PreparedSplit
from medsweep.artifacts.trained import TrainedModel
from medsweep.evaluate.explained import cases, decided, sample

MANIFEST = TrainedModel(
    model_digest="",
    members=(0,),
    class_names=("benign", "malignant"),
    task="binary",
    input_shape=(16, 16, 1),
    value_range=255,
    objective="val_auroc",
    objective_value=0.9,
    threshold=(0.4,),
    threshold_rule="youden",
    temperature=1.0,
    trial={},
    facts={},
    n_trials={},
    digests={},
    search_key="",
    synthetic=False,
)


def split_of(labels: Any, **changes: Any) -> PreparedSplit:
    n = len(labels)
    known: dict[str, Any] = {
        "name": "test",
        "images": np.zeros((n, 16, 16, 1), dtype=np.uint8),
        "labels": np.asarray(labels),
        "record_ids": np.array([f"r{n - index:02d}" for index in range(n)]),
        "patient_ids": np.array([""] * n),
        "class_names": ("benign", "malignant"),
        "task": "binary",
        "value_range": 255,
    }
    return PreparedSplit(**(known | changes))


def test_binary_decisions_are_explained_by_the_threshold() -> None:
    positive = np.array([0.05, 0.39, 0.41, 0.95])
    found = decided(MANIFEST, np.stack([1 - positive, positive], axis=1), np.array([0, 1, 1, 0]))
    assert found.classes.tolist() == [0, 0, 1, 1]
    assert found.right.tolist() == [True, False, True, False]
    np.testing.assert_allclose(found.probability, [0.95, 0.61, 0.41, 0.95])
    np.testing.assert_allclose(found.margin[3], np.log(0.95 / 0.05) - np.log(0.4 / 0.6))


def test_the_most_probable_class_is_explained_by_its_lead() -> None:
    manifest = replace(MANIFEST, task="multiclass", class_names=("a", "b", "c"), threshold=())
    found = decided(manifest, np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]]), np.array([1, 2]))
    assert found.classes.tolist() == [0, 2] and found.right.tolist() == [False, True]
    np.testing.assert_allclose(found.margin, [0.2, 0.7])


def test_of_several_labels_the_one_highest_above_its_threshold_is_explained() -> None:
    manifest = replace(MANIFEST, task="multilabel", threshold=(0.9, 0.2))
    found = decided(manifest, np.array([[0.8, 0.5], [0.85, 0.1], [0.99, 0.3]]), np.array([[0, 1], [1, 1], [0, 0]]))
    assert found.classes.tolist() == [1, 0, 0]
    # In the second image neither label is there by its threshold, which is wrong for the first label.
    assert found.right.tolist() == [True, False, False]


def test_cases_are_the_surest_and_the_nearest_and_none_twice() -> None:
    positive = np.array([0.99, 0.9, 0.6, 0.41, 0.39, 0.01, 0.02, 0.45])
    split = split_of(np.array([1, 0, 1, 1, 0, 1, 0, 1]))
    found = decided(MANIFEST, np.stack([1 - positive, positive], axis=1), split.labels)
    chosen = cases(found, split, 2)
    assert [(each.kind, each.row) for each in chosen] == [
        ("right", 0),
        ("right", 6),
        ("wrong", 5),
        ("wrong", 1),
        ("near", 3),
        ("near", 4),
    ]
    assert len({each.row for each in cases(found, split, 20)}) == len(split)


def test_equal_margins_are_told_apart_by_record_id() -> None:
    split = split_of(np.array([1, 1, 1]))
    found = decided(MANIFEST, np.array([[0.1, 0.9]] * 3), split.labels)
    assert [each.row for each in cases(found, split, 1)] == [2, 1]
    reversed_split = split_of(np.array([1, 1, 1]), record_ids=split.record_ids[::-1])
    assert [each.row for each in cases(found, reversed_split, 1)] == [0, 1]


@pytest.mark.parametrize("extra", [0.0, 1.0])
def test_certain_probabilities_have_a_finite_margin(extra: float) -> None:
    found = decided(MANIFEST, np.array([[1 - extra, extra]]), np.array([0]))
    assert np.isfinite(found.margin).all()


def test_the_sample_is_the_same_images_in_any_order() -> None:
    split = split_of(np.zeros(30, dtype=np.int64))
    rows = sample(split, 10, seed=3)
    order = np.random.default_rng(1).permutation(30)
    other = split_of(np.zeros(30, dtype=np.int64), record_ids=split.record_ids[order])
    assert len(set(rows.tolist())) == 10
    assert set(split.record_ids[rows]) == set(other.record_ids[sample(other, 10, seed=3)])
    assert len(sample(split, 100, seed=3)) == 30
