from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from medsweep.statistics.calibration import ece, reliability


def test_diagram_equals_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    positive = rng.random(500)
    labels = (rng.random(500) < positive**2).astype(np.int64)
    found = reliability(labels, np.stack([1 - positive, positive], axis=1), "binary", 10)
    observed, confidence = calibration_curve(labels, positive, n_bins=10)
    np.testing.assert_allclose(found.observed, observed, atol=1e-12)
    np.testing.assert_allclose(found.confidence, confidence, atol=1e-12)
    np.testing.assert_allclose(found.centre, np.arange(0.05, 1, 0.1))
    assert found.count.sum() == 500


def test_diagram_by_hand_with_empty_bins() -> None:
    p = np.array([[1.0, 0.0], [0.5, 0.5], [0.4, 0.6], [0.0, 1.0]])
    found = reliability(np.array([0, 1, 0, 1]), p, "binary", 4)
    assert found.count.tolist() == [1, 1, 1, 1]  # a bin is closed above: 0.5 lies in the second
    sparse = reliability(np.array([1, 1]), p[[3, 3]], "binary", 4)
    assert sparse.count.tolist() == [0, 0, 0, 2]
    assert np.isnan(sparse.observed[:3]).all() and np.isnan(sparse.confidence[:3]).all()
    assert (sparse.observed[3], sparse.confidence[3]) == (1.0, 1.0)


def test_several_classes_look_at_the_most_probable() -> None:
    p = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1]])
    found = reliability(np.array([0, 2]), p, "multiclass", 2)
    assert (found.observed[1], found.confidence[1]) == (0.5, 0.75)
    assert ece(np.array([0, 2]), p, "multiclass", 2) == pytest.approx(0.25)


def test_labels_count_together_in_the_diagram_and_by_themselves_in_the_error() -> None:
    labels = np.array([[1, 0], [1, 0]], dtype=np.uint8)
    p = np.array([[0.6, 0.6], [0.6, 0.6]])
    found = reliability(labels, p, "multilabel", 2)
    assert found.count.tolist() == [0, 4]
    assert found.observed[1] == 0.5
    assert ece(labels, p, "multilabel", 2) == pytest.approx((0.4 + 0.6) / 2)


def test_calibrated_and_overconfident() -> None:
    rng = np.random.default_rng(1)
    positive = rng.random(50_000)
    labels = (rng.random(50_000) < positive).astype(np.int64)
    sharp = positive**3 / (positive**3 + (1 - positive) ** 3)
    assert ece(labels, np.stack([1 - positive, positive], axis=1), "binary", 15) < 0.015
    assert ece(labels, np.stack([1 - sharp, sharp], axis=1), "binary", 15) > 0.1


def test_no_images_is_nan() -> None:
    assert np.isnan(ece(np.empty(0, np.int64), np.empty((0, 2)), "binary", 15))
