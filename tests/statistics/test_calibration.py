from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression

from medsweep.statistics.calibration import brier_parts, chance_ece, ece, recalibration, reliability


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


def test_the_brier_score_is_the_sum_of_its_parts() -> None:
    rng = np.random.default_rng(3)
    claimed = rng.random(400)
    outcome = (rng.random(400) < claimed**1.5).astype(np.float64)
    found = brier_parts(claimed, outcome, 10)
    assert found.brier == pytest.approx(((claimed - outcome) ** 2).mean())
    total = found.reliability - found.resolution + found.uncertainty + found.within_bins
    assert total == pytest.approx(found.brier, abs=1e-12) and abs(found.within_bins) < 0.005
    # Probabilities that are all alike within a bin hide nothing: Murphy's own case, by hand.
    steps = np.repeat([0.1, 0.9], [10, 10])
    came = np.concatenate([np.eye(1, 10)[0], np.ones(10) - np.eye(1, 10)[0] - np.eye(1, 10, 1)[0]])
    exact = brier_parts(steps, came, 10)
    assert exact.within_bins == pytest.approx(0.0, abs=1e-12)
    assert exact.reliability == pytest.approx(0.5 * (0.1 - 0.1) ** 2 + 0.5 * (0.9 - 0.8) ** 2)
    assert exact.resolution == pytest.approx(0.5 * (0.1 - 0.45) ** 2 + 0.5 * (0.8 - 0.45) ** 2)
    assert exact.uncertainty == pytest.approx(0.45 * 0.55)
    assert np.isnan(brier_parts(np.empty(0), np.empty(0), 10).brier)


def test_ece_by_chance_is_that_of_calibrated_models() -> None:
    rng = np.random.default_rng(4)
    claimed = rng.random(200)
    drawn = chance_ece(claimed, 15, draws=400, seed=1)
    both = np.stack([1 - claimed, claimed], axis=1)
    simulated = [ece((rng.random(200) < claimed).astype(np.int64), both, "binary", 15) for _ in range(400)]
    assert drawn.mean() == pytest.approx(np.mean(simulated), rel=0.05)
    assert np.quantile(drawn, 0.95) == pytest.approx(np.quantile(simulated, 0.95), rel=0.1)
    np.testing.assert_array_equal(drawn, chance_ece(claimed, 15, draws=400, seed=1))
    assert chance_ece(np.stack([claimed, claimed], axis=1), 15, draws=400, seed=1).mean() > 0.8 * drawn.mean()


def test_recalibration_is_a_logistic_regression_on_log_odds() -> None:
    rng = np.random.default_rng(5)
    claimed = np.clip(rng.random(600), 0.01, 0.99)
    x = np.log(claimed / (1 - claimed))
    positive = rng.random(600) < 1 / (1 + np.exp(-(0.4 + 0.6 * x)))
    intercept, slope = recalibration(positive, claimed)
    reference = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(x[:, None], positive)
    assert slope == pytest.approx(float(reference.coef_[0, 0]), abs=1e-4)
    # With the slope at 1, as many positives are claimed as there are.
    assert (1 / (1 + np.exp(-(intercept + x)))).sum() == pytest.approx(positive.sum(), abs=1e-6)
    assert recalibration(rng.random(2000) < claimed[rng.integers(0, 600, 2000)], np.full(2000, 0.5))[0] != 0.0


@pytest.mark.parametrize("positive", [[False] * 4, [True] * 4, [False, False, True, True]])
def test_recalibration_is_undefined_where_nothing_can_be_fitted(positive: list[bool]) -> None:
    intercept, slope = recalibration(np.array(positive), np.array([0.1, 0.2, 0.8, 0.9]))
    assert np.isnan(slope) and np.isnan(intercept) == (len(set(positive)) == 1)
