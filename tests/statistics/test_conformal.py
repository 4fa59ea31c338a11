"""Prediction sets keep their promise on exchangeable images, in simulation, and are known by their definition."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from medsweep.statistics.conformal import expected_coverage, nonconformity, prediction_sets


def simulated(n: int, rng: np.random.Generator, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and probabilities of a model that is good where `shift` is 0."""
    labels = rng.integers(0, 3, n)
    logits = rng.normal(0, 1, (n, 3)) + (1.5 - shift) * np.eye(3)[labels]
    p = np.exp(1.5 * logits)
    return labels, p / p.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("confidence", [0.8, 0.9, 0.95])
def test_sets_are_what_the_quantile_says(confidence: float) -> None:
    rng = np.random.default_rng(0)
    known, candidates = nonconformity(rng.random(57)), nonconformity(rng.random((40, 3)))
    rank = int(np.ceil((57 + 1) * confidence - 1e-9))
    cut = np.sort(known)[rank - 1]
    np.testing.assert_array_equal(prediction_sets(known, candidates, confidence), candidates <= cut)


def test_too_few_calibration_images_leave_no_class_out() -> None:
    candidates = nonconformity(np.random.default_rng(1).random((5, 2)))
    assert prediction_sets(np.zeros(8), candidates, 0.9).all()
    np.testing.assert_array_equal(prediction_sets(np.zeros(9), candidates, 0.9), candidates <= 0)
    assert expected_coverage(8, 100, 0.9, level=0.95) == (1.0, 1.0)


def test_coverage_on_exchangeable_images_is_what_was_promised_and_fails_under_a_shift() -> None:
    rng = np.random.default_rng(2)
    rounds, n_calibration, n = 150, 120, 120
    covered, inside, shifted_below = 0, 0, 0
    for _ in range(rounds):
        past, past_p = simulated(n_calibration, rng)
        known = nonconformity(past_p)[np.arange(n_calibration), past]
        low, high = expected_coverage(n_calibration, n, 0.9, level=0.95)
        for shift in (0.0, 1.2):
            labels, p = simulated(n, rng, shift)
            held = prediction_sets(known, nonconformity(p), 0.9)[np.arange(n), labels]
            if shift:
                shifted_below += held.mean() < low
            else:
                covered += int(held.sum())
                inside += low <= held.mean() <= high
    # Sets without smoothing are at most 1/(121) too generous; over all rounds chance is small.
    low_count, high_count = binom.ppf([1e-4, 1 - 1e-4], rounds * n, 0.9 + 0.5 / (n_calibration + 1))
    assert low_count - 0.01 * rounds * n <= covered <= high_count + 0.01 * rounds * n
    assert binom.ppf(1e-3, rounds, 0.95) <= inside
    assert shifted_below > 0.9 * rounds


def test_expected_coverage_narrows_with_both_splits() -> None:
    wide, narrow = expected_coverage(50, 50, 0.9, level=0.95), expected_coverage(5000, 5000, 0.9, level=0.95)
    assert wide[0] < narrow[0] < 0.9 < narrow[1] < wide[1]
