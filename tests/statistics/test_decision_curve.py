"""Net benefit against the formula of the paper, image by image, and against a worked example."""

from __future__ import annotations

import numpy as np
import pytest

from medsweep.statistics.decision_curve import DecisionCurve

THRESHOLDS = np.round(np.arange(0.01, 1.0, 0.01), 4)


@pytest.mark.parametrize("seed", range(4))
def test_net_benefit_is_the_papers_formula(seed: int) -> None:
    rng = np.random.default_rng(seed)
    positive = rng.random(70) < 0.3
    scores = np.round(np.clip(0.4 * positive + rng.random(70) * 0.6, 0, 1), 2)  # ties, also with thresholds
    model, everybody = DecisionCurve(positive, scores, THRESHOLDS).net_benefit(np.ones((70, 1)))
    for t, p in enumerate(THRESHOLDS):
        called = scores >= p
        expected = (called & positive).mean() - (called & ~positive).mean() * p / (1 - p)
        assert model[t, 0] == pytest.approx(expected, abs=1e-12)
        assert everybody[t, 0] == pytest.approx(positive.mean() - (1 - positive.mean()) * p / (1 - p), abs=1e-12)


def test_a_weight_of_two_is_an_image_twice() -> None:
    rng = np.random.default_rng(5)
    positive, scores = rng.random(40) < 0.5, rng.random(40)
    drawn = rng.integers(0, 40, 40)
    weights = np.bincount(drawn, minlength=40).astype(float)[:, None]
    found = DecisionCurve(positive, scores, THRESHOLDS).net_benefit(weights)
    repeated = DecisionCurve(positive[drawn], scores[drawn], THRESHOLDS).net_benefit(np.ones((40, 1)))
    np.testing.assert_allclose(found, repeated, atol=1e-12)


def test_a_worked_example() -> None:
    # 1000 people, prevalence 0.2; at the threshold 0.1 a test with 180 true and 240 false positives:
    # 0.18 - 0.24 / 9 = 0.1533…, and treating everybody 0.2 - 0.8 / 9 = 0.1111…
    positive = np.repeat([True, True, False, False], [180, 20, 240, 560])
    scores = np.repeat([0.5, 0.05, 0.5, 0.05], [180, 20, 240, 560])
    model, everybody = DecisionCurve(positive, scores, np.array([0.1])).net_benefit(np.ones((1000, 1)))
    assert model[0, 0] == pytest.approx(0.18 - 0.24 / 9) and everybody[0, 0] == pytest.approx(0.2 - 0.8 / 9)
    assert np.isnan(DecisionCurve(positive, scores, np.array([0.1])).net_benefit(np.zeros((1000, 1)))[0]).all()
