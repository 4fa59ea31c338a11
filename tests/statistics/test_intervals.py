from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from medsweep.artifacts.record import TASKS
from medsweep.errors import DataError
from medsweep.statistics import intervals
from medsweep.statistics.intervals import (
    bootstrap,
    bootstrap_intervals,
    independent,
    per_class_intervals,
    percentile_interval,
    resample_weights,
    wilson,
)
from medsweep.statistics.metrics import METRICS, evaluate_all, per_class
from medsweep.statistics.operating_points import decide

SETTINGS: dict[str, Any] = {"samples": 200, "confidence": 0.95, "seed": 7, "method": "percentile"}
BCA = SETTINGS | {"method": "bca"}


def example(task: Any, n: int = 90) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(2)
    if task == "multilabel":
        labels = rng.integers(0, 2, size=(n, 3)).astype(np.uint8)
        p = np.round(0.7 * rng.random((n, 3)) + 0.3 * labels, 1)
        return labels, p, decide(task, p, [0.5] * 3)
    k = 2 if task == "binary" else 3
    labels = rng.integers(0, k, size=n)
    raw = rng.random((n, k)) + 0.5 * np.eye(k)[labels]
    p = raw / raw.sum(axis=1, keepdims=True)
    return labels, p, decide(task, p, 0.5)


@pytest.mark.parametrize("task", TASKS)
def test_every_resample_equals_the_plain_metrics_of_the_drawn_images(task: Any) -> None:
    labels, p, d = example(task)
    groups = np.arange(len(labels)) // 4
    found = bootstrap_intervals(task, labels, p, d, groups, samples=25, confidence=0.9, seed=3, method="percentile")
    weights = np.concatenate(list(resample_weights(groups, samples=25, seed=3)), axis=1)
    each = []
    for column in weights.T:
        rows = np.repeat(np.arange(len(labels)), column.astype(int))
        each.append(evaluate_all(task, labels[rows], p[rows], d[rows]))
    assert set(found) == {name for name, row in METRICS.items() if task in row.tasks}
    patients = independent(groups, labels == 1 if task == "binary" else None)
    tail = stats.norm.cdf(stats.t.ppf(0.05, patients - 1) * math.sqrt(patients / (patients - 1)))
    assert 0.03 < tail < 0.05
    for name, interval in found.items():
        low, high = np.quantile([one[name] for one in each], [tail, 1 - tail])
        assert interval.low == pytest.approx(low, abs=1e-12), name
        assert interval.high == pytest.approx(high, abs=1e-12), name
        assert interval.value == evaluate_all(task, labels, p, d)[name]


def test_groups_are_drawn_whole_and_as_many_as_there_are() -> None:
    groups = np.array(["b", "a", "b", "c", "a", "b"])
    weights = np.concatenate(list(resample_weights(groups, samples=50, seed=1)), axis=1)
    assert weights.shape == (6, 50)
    np.testing.assert_array_equal(weights[0], weights[2])
    np.testing.assert_array_equal(weights[1], weights[4])
    np.testing.assert_array_equal(weights[[0, 1, 3]].sum(axis=0), np.full(50, 3.0))
    assert (weights == 0).any() and (weights > 1).any()


def test_draws_do_not_depend_on_how_many_are_held_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = np.arange(40) // 2
    whole = np.concatenate(list(resample_weights(groups, samples=30, seed=1)), axis=1)
    monkeypatch.setattr(intervals, "_CELLS_AT_ONCE", 160)
    parts = list(resample_weights(groups, samples=30, seed=1))
    assert [part.shape[1] for part in parts] == [4] * 7 + [2]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)


def test_deterministic_from_the_seed() -> None:
    labels, p, d = example("binary")
    groups = np.arange(len(labels)) // 2
    first = bootstrap_intervals("binary", labels, p, d, groups, **SETTINGS)
    assert first == bootstrap_intervals("binary", labels, p, d, groups, **SETTINGS)
    other = bootstrap_intervals("binary", labels, p, d, groups, **(SETTINGS | {"seed": 8}))
    assert first["auroc"].value == other["auroc"].value
    assert first["auroc"] != other["auroc"]


def test_clustering_widens_the_interval() -> None:
    # All ten images of a patient are right or wrong together: ten images say no more than one.
    patients = np.repeat(np.arange(60), 10)
    right = np.random.default_rng(0).random(60) < 0.8
    labels = patients % 2
    d = np.where(right[patients], labels, 1 - labels)
    p = np.stack([0.9 - 0.8 * d, 0.1 + 0.8 * d], axis=1)
    settings: dict[str, Any] = {"samples": 1000, "confidence": 0.95, "seed": 0, "method": "percentile"}
    clustered = bootstrap_intervals("binary", labels, p, d, patients, **settings)["accuracy"]
    naive = bootstrap_intervals("binary", labels, p, d, np.arange(600), **settings)["accuracy"]
    ratio = (clustered.high - clustered.low) / (naive.high - naive.low)
    assert ratio == pytest.approx(math.sqrt(10), rel=0.15)
    expected = 2 * 1.96 * math.sqrt(clustered.value * (1 - clustered.value) / 60)
    assert clustered.high - clustered.low == pytest.approx(expected, rel=0.15)


def test_coverage_with_clustered_patients_and_its_failure_without() -> None:
    # 80 patients of 5 images; a patient's own accuracy is drawn from Beta(1.6, 0.4), whose mean is 0.8.
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(80), 5)
    experiments = [(rng.random(400) < np.repeat(rng.beta(1.6, 0.4, 80), 5)).astype(float) for _ in range(1000)]

    def coverage(groups: Any) -> float:
        weights = np.concatenate(list(resample_weights(groups, samples=1000, seed=5)), axis=1)
        covered = 0
        for right in experiments:
            draws = right @ weights / weights.sum(axis=0)
            interval = percentile_interval(right.mean(), draws, confidence=0.95)
            covered += interval.low <= 0.8 <= interval.high
        return covered / len(experiments)

    assert 0.93 <= coverage(patients) <= 0.97
    assert coverage(np.arange(400)) < 0.85


def test_undefined_resamples_are_counted_and_left_out() -> None:
    labels = np.array([1] + [0] * 9)
    p = np.stack([np.linspace(0, 1, 10), 1 - np.linspace(0, 1, 10)], axis=1)
    found = bootstrap_intervals("binary", labels, p, decide("binary", p, 0.5), np.arange(10), **SETTINGS)
    # The one positive image is missing from (9/10)^10 = 35 % of the resamples.
    assert found["auroc"].undefined == pytest.approx(70, abs=25)
    assert math.isfinite(found["auroc"].low)
    assert found["brier"].undefined == 0


def test_no_interval_from_mostly_undefined_or_from_one_group() -> None:
    mostly = percentile_interval(0.5, np.array([0.4, np.nan, np.nan]), confidence=0.95)
    assert mostly.undefined == 2 and math.isnan(mostly.low) and math.isnan(mostly.high)
    labels, p, d = example("binary")
    single = bootstrap_intervals("binary", labels, p, d, np.zeros(len(labels)), **SETTINGS)
    assert all(math.isnan(interval.low) for interval in single.values())
    assert single["accuracy"].value == evaluate_all("binary", labels, p, d)["accuracy"]


def test_one_class_only_has_no_interval_and_no_error() -> None:
    p = np.full((6, 2), 0.5)
    found = bootstrap_intervals("binary", np.zeros(6, np.int64), p, np.zeros(6, np.int64), np.arange(6), **SETTINGS)
    assert math.isnan(found["auroc"].value) and math.isnan(found["auroc"].high)
    assert found["auroc"].undefined == SETTINGS["samples"]
    assert found["accuracy"].low == 1.0


def test_per_class_intervals_surround_per_class_values() -> None:
    labels, p, d = example("multiclass")
    found = per_class_intervals("multiclass", labels, p, d, np.arange(len(labels)), **SETTINGS)
    for k, values in per_class("multiclass", labels, p, d).items():
        for name, value in values.items():
            interval = found[k][name]
            assert interval.value == value
            assert interval.low <= value <= interval.high, (k, name)


def test_bootstrap_pairs_two_models_over_the_same_draws() -> None:
    groups = np.arange(30)
    values = np.random.default_rng(0).random(30)

    def two(weights: Any) -> dict[str, Any]:
        mean = (values[:, None] * weights).sum(axis=0) / weights.sum(axis=0)
        return {"a": mean, "b": mean + 0.1}

    draws = bootstrap(two, groups, samples=100, seed=0)
    np.testing.assert_allclose(draws["b"] - draws["a"], 0.1)
    assert draws["a"].shape == (100,) and draws["a"].std() > 0


def test_groups_of_another_length_are_refused() -> None:
    labels, p, d = example("binary")
    with pytest.raises(DataError, match="images"):
        bootstrap_intervals("binary", labels, p, d, np.arange(3), **SETTINGS)


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (10, 10), (3, 10), (81, 263), (7, 9000)])
def test_wilson_equals_scipys(successes: int, n: int) -> None:
    from scipy.stats import binomtest

    theirs = binomtest(successes, n).proportion_ci(0.95, method="wilson")
    ours = wilson(successes, n, 0.95)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert ours.value == successes / n


def test_wilson_as_published() -> None:
    # Newcombe, 1998 (Statistics in Medicine 17:857), table I: 81/263 gives .2553 to .3662.
    ours = wilson(81, 263, 0.95)
    assert (round(ours.low, 4), round(ours.high, 4)) == (0.2553, 0.3662)
    assert math.isnan(wilson(0, 0, 0.95).low)
