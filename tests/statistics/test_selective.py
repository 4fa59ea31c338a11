"""Risk and coverage against their definition, image by image."""

from __future__ import annotations

import numpy as np
import pytest

from medsweep.statistics.selective import Selective, best_area, confidence_of


def test_area_is_the_mean_risk_over_coverages() -> None:
    rng = np.random.default_rng(0)
    wrong, confidence = rng.random(50) < 0.3, rng.random(50)
    order = np.argsort(-confidence)
    expected = np.mean([wrong[order][: n + 1].mean() for n in range(50)])
    selective = Selective(wrong, confidence)
    assert selective.area(np.ones((50, 1)))[0] == pytest.approx(expected, abs=1e-12)
    curve = selective.curve()
    assert curve.coverage[-1] == 1.0 and curve.risk[-1] == pytest.approx(wrong.mean())
    assert curve.risk[9] == pytest.approx(wrong[order][:10].mean()) and curve.coverage[9] == pytest.approx(0.2)


def test_equal_confidences_are_answered_together() -> None:
    wrong = np.array([True, False, False, True])
    curve = Selective(wrong, np.full(4, 0.7)).curve()
    assert curve.coverage.tolist() == [1.0] and curve.risk.tolist() == [0.5]
    assert Selective(wrong, np.full(4, 0.7)).area(np.ones((4, 1)))[0] == 0.5


def test_a_weight_of_two_is_an_image_twice_and_nothing_is_undefined() -> None:
    rng = np.random.default_rng(1)
    wrong, confidence = rng.random(30) < 0.4, np.round(rng.random(30), 1)
    drawn = rng.integers(0, 30, 30)
    weights = np.bincount(drawn, minlength=30).astype(float)[:, None]
    repeated = Selective(wrong[drawn], confidence[drawn]).area(np.ones((30, 1)))[0]
    assert Selective(wrong, confidence).area(weights)[0] == pytest.approx(repeated, abs=1e-12)
    assert np.isnan(Selective(wrong, confidence).area(np.zeros((30, 1)))[0])
    nothing = Selective(np.empty(0, bool), np.empty(0))
    assert np.isnan(nothing.area(np.ones((0, 1)))[0]) and not len(nothing.curve().risk)


def test_the_best_area_puts_mistakes_last() -> None:
    wrong = np.array([False] * 7 + [True] * 3)
    assert best_area(3, 10) == pytest.approx(Selective(wrong, -np.arange(10.0)).area(np.ones((10, 1)))[0])
    assert best_area(0, 10) == 0.0 and np.isnan(best_area(0, 0))


def test_confidence_grows_away_from_the_threshold() -> None:
    p = np.array([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8], [0.0, 1.0]])
    at_half = confidence_of("binary", p, (0.5,))
    np.testing.assert_array_equal(np.argsort(at_half), np.argsort(p.max(axis=1)))
    assert confidence_of("binary", p, (0.8,))[2] == 0.0 and np.isfinite(at_half).all()
    np.testing.assert_array_equal(confidence_of("multiclass", p, ()), [0.9, 0.5, 0.8, 1.0])
    assert confidence_of("multilabel", p, (0.9, 0.1))[0].tolist() == pytest.approx([0.0, 0.0])
