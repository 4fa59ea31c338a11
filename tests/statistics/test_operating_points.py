from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as reference
from scipy.special import expit, logit
from scipy.stats import iqr, norm

from medsweep.errors import DataError, ParamsError
from medsweep.statistics.operating_points import (
    THRESHOLD_RULES,
    best_cut,
    decide,
    fit_threshold,
    fit_thresholds,
    lowest_cost,
    right_decisions,
    smooth_cut,
    youden_index,
)


def youden(labels: Any, d: Any) -> float:
    return float(d[labels == 1].mean() - d[labels == 0].mean())


CRITERIA: dict[str, Any] = {
    "youden": youden,
    "accuracy": reference.accuracy_score,
    "f1": lambda labels, d: reference.f1_score(labels, d, zero_division=0.0),
}


@pytest.mark.parametrize("rule", CRITERIA)
@pytest.mark.parametrize("seed", range(6))
def test_no_threshold_does_better(rule: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = (rng.random(60) < 0.3).astype(np.int64)
    scores = np.round(np.clip(0.3 * labels + rng.random(60) * 0.7, 0, 0.99), 1 if seed % 2 else 6)
    criterion = THRESHOLD_RULES[rule].criterion
    assert criterion is not None
    found = best_cut(criterion, labels, scores)
    everywhere = np.concatenate([[0.0, 1.0], np.unique(scores), np.unique(scores) + 1e-9])
    best = max(CRITERIA[rule](labels, (scores >= t).astype(int)) for t in everywhere)
    assert CRITERIA[rule](labels, (scores >= found).astype(int)) == pytest.approx(best, abs=1e-12)
    assert 0.0 <= found <= 1.0


def test_every_rule_is_checked_above() -> None:
    assert set(THRESHOLD_RULES) == set(CRITERIA) | {"half"}


@pytest.mark.parametrize("rule", ["youden", "accuracy", "f1"])
def test_threshold_lies_midway_between_the_classes(rule: str) -> None:
    assert fit_threshold(rule, np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.8, 0.9])) == 0.5
    assert fit_threshold(rule, np.array([0, 0, 1, 1]), np.array([0.0, 0.1, 0.3, 1.0])) == pytest.approx(0.2)


@pytest.mark.parametrize("criterion", [youden_index, right_decisions, lowest_cost(5.0)])
@pytest.mark.parametrize("seed", range(4))
def test_the_smooth_cut_is_the_best_of_the_smoothed_classes(criterion: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    odds = [rng.normal(-2, 1, 30 + 20 * seed), rng.normal(1, 2, 50)]
    labels = np.repeat([0, 1], [len(each) for each in odds])
    found = smooth_cut(criterion, labels, expit(np.concatenate(odds)))

    def above(values: Any, cut: float) -> float:
        width = 0.9 * min(values.std(ddof=1), iqr(values) / 1.34) * len(values) ** -0.2
        return float(norm.sf((cut - values) / width).sum())

    def worth(cut: float) -> float:
        hits, alarms = above(odds[1], cut), above(odds[0], cut)
        return float(criterion(np.array(hits), np.array(alarms), len(odds[1]), len(odds[0])))

    everywhere = np.linspace(-12, 12, 4001)
    values = np.array([worth(cut) for cut in everywhere])
    assert worth(float(logit(found))) == pytest.approx(values.max(), rel=1e-4)
    assert logit(found) == pytest.approx(everywhere[values.argmax()], abs=0.05)


def test_a_smooth_cut_serves_other_images_better() -> None:
    rng = np.random.default_rng(11)
    lost: dict[str, list[float]] = {"smooth": [], "best": []}
    best = 2 * norm.cdf(0.9) - 1
    for _ in range(200):
        labels = np.repeat([0, 1], [40, 80])
        odds = rng.normal(np.where(labels == 1, 0.9, -0.9), 1)
        for name, fit in (("smooth", smooth_cut), ("best", best_cut)):
            cut = logit(fit(youden_index, labels, expit(odds)))
            lost[name].append(best - (norm.sf(cut - 0.9) - norm.sf(cut + 0.9)))
    assert np.mean(lost["smooth"]) < 0.7 * np.mean(lost["best"])


def test_what_cannot_be_smoothed_is_cut_between_the_images() -> None:
    few = np.array([0] * 40 + [1] * 4), np.concatenate([np.linspace(0.05, 0.6, 40), [0.4, 0.5, 0.7, 0.8]])
    equal = np.array([0] * 10 + [1] * 10), np.concatenate([np.full(10, 0.2), np.linspace(0.1, 0.9, 10)])
    for labels, scores in (few, equal):
        assert smooth_cut(youden_index, labels, scores) == best_cut(youden_index, labels, scores)


def test_saturated_scores_are_cut_too() -> None:
    labels = np.repeat([0, 1], 50)
    scores = np.where(labels == 1, 1.0 - 1e-9, 1e-9) + np.where(np.arange(100) % 10 == 3, 0.3 * (1 - 2 * labels), 0.0)
    assert 0.3 < smooth_cut(youden_index, labels, scores) < 0.7


def test_equal_cuts_take_the_one_nearest_to_half_then_the_lower() -> None:
    labels = np.array([1, 0, 1, 0])
    # 0.15 (all but one below) and 0.6: both three right decisions of four.
    scores = np.array([0.9, 0.3, 0.25, 0.1])
    assert best_cut(right_decisions, labels, scores) == pytest.approx(0.6)
    symmetric = np.array([0.8, 0.6, 0.4, 0.2])
    assert best_cut(right_decisions, labels, symmetric) == pytest.approx(0.3)


def test_order_of_images_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 2, 50), np.round(rng.random(50), 1)
    expected = {rule: fit_threshold(rule, labels, scores) for rule in THRESHOLD_RULES}
    for _ in range(5):
        order = rng.permutation(50)
        assert {rule: fit_threshold(rule, labels[order], scores[order]) for rule in THRESHOLD_RULES} == expected


@pytest.mark.parametrize("rule", THRESHOLD_RULES)
def test_one_class_only_gives_half(rule: str) -> None:
    assert fit_threshold(rule, np.array([1, 1]), np.array([0.1, 0.2])) == 0.5
    assert fit_threshold(rule, np.array([0, 0]), np.array([0.8, 0.9])) == 0.5
    assert fit_threshold(rule, np.empty(0, np.int64), np.empty(0)) == 0.5


def test_half_is_half_and_a_rare_class_may_never_be_called() -> None:
    labels, scores = np.array([0] * 9 + [1]), np.linspace(0.9, 0.1, 10)
    assert fit_threshold("half", labels, scores) == 0.5
    assert fit_threshold("accuracy", labels, scores) == pytest.approx(0.95)
    assert fit_threshold("f1", labels, scores) == pytest.approx(0.05)


def test_neighbouring_numbers_are_parted() -> None:
    low = 0.3
    high = np.nextafter(low, 1.0)
    found = fit_threshold("youden", np.array([0, 1]), np.array([low, high]))
    assert low < found <= high


def test_scores_of_exactly_zero_and_one() -> None:
    labels = np.array([1, 0, 0, 1])
    for scores in itertools.product([0.0, 1.0], repeat=4):
        for rule in THRESHOLD_RULES:
            assert 0.0 <= fit_threshold(rule, labels, np.array(scores)) <= 1.0


def test_one_threshold_a_label() -> None:
    labels = np.array([[0, 1], [1, 1], [0, 0], [1, 0]], dtype=np.uint8)
    p = np.array([[0.1, 0.4], [0.3, 0.5], [0.1, 0.2], [0.5, 0.2]], dtype=np.float32)
    found = fit_thresholds("youden", "multilabel", labels, p)
    assert found == pytest.approx((0.2, 0.3))
    np.testing.assert_array_equal(decide("multilabel", p, found), labels)
    assert fit_thresholds("youden", "binary", labels[:, 0], np.stack([1 - p[:, 0], p[:, 0]], axis=1)) == found[:1]
    assert fit_thresholds("youden", "multiclass", np.array([0, 1]), np.eye(2)) == ()


def test_decisions() -> None:
    p = np.array([[0.4, 0.6], [0.6, 0.4], [0.5, 0.5]])
    assert decide("binary", p, 0.5).tolist() == [1, 0, 1]
    assert decide("binary", p, (0.55,)).tolist() == [1, 0, 0]
    assert decide("multilabel", p, (0.5, 0.5)).tolist() == [[0, 1], [1, 0], [1, 1]]
    assert decide("multiclass", p, ()).tolist() == decide("ordinal", p, 0.9).tolist() == [1, 0, 0]
    with pytest.raises(DataError, match="needs 2"):
        decide("multilabel", p, 0.5)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ParamsError, match="youden, accuracy, f1, half"):
        fit_threshold("best", np.array([0, 1]), np.array([0.1, 0.9]))
    with pytest.raises(DataError, match="NaN"):
        fit_threshold("youden", np.array([0, 1]), np.array([0.1, np.nan]))
    with pytest.raises(DataError):
        fit_threshold("youden", np.array([0, 1, 1]), np.array([0.1, 0.9]))
