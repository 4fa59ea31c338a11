from __future__ import annotations

import numpy as np
import pytest

from medsweep.statistics.weighted import Ranking, ratio, sum_by_code, weighted_mean


def test_sums_by_code() -> None:
    values = np.array([[1.0, 10.0], [2.0, 20.0], [4.0, 40.0]])
    assert sum_by_code(np.array([3, 1, 3]), values, 5).tolist() == [[0, 0], [2, 20], [0, 0], [5, 50], [0, 0]]
    assert sum_by_code(np.empty(0, np.int64), np.empty((0, 2)), 3).tolist() == [[0, 0]] * 3


@pytest.mark.filterwarnings("error")
def test_nothing_divided_by_nothing_is_nan() -> None:
    np.testing.assert_array_equal(ratio(np.array([1.0, 0.0]), np.array([2.0, 0.0])), [0.5, np.nan])
    np.testing.assert_array_equal(weighted_mean(np.array([1.0, 3.0]), np.array([[1.0, 0.0], [1.0, 0.0]])), [2, np.nan])


def test_area_equals_the_count_over_all_pairs() -> None:
    rng = np.random.default_rng(0)
    for distinct in (3, 10, 1000):
        positive = rng.random(70) < 0.3
        scores = rng.integers(0, distinct, 70) / distinct
        weights = rng.integers(0, 3, (70, 4)).astype(float)
        above, below = scores[positive][:, None], scores[~positive]
        higher = (above > below) + 0.5 * (above == below)
        found, _ = Ranking(positive, scores).areas(weights)
        for column in range(4):
            p, q = weights[positive, column], weights[~positive, column]
            assert found[column] == pytest.approx(p @ higher @ q / (p.sum() * q.sum()), abs=1e-12)
