"""The bias-corrected and accelerated interval against SciPy's, and where it is not given."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

from medsweep.statistics import intervals
from medsweep.statistics.intervals import (
    Method,
    Resampled,
    bootstrap_intervals,
    independent,
    jackknife_weights,
    resample,
)
from medsweep.statistics.operating_points import decide

# Of so many patients Student's t is the normal distribution.
MANY = 10**9


def mean_of(values: np.ndarray) -> Any:
    return lambda weights: {"mean": (values[:, None] * weights).sum(axis=0) / weights.sum(axis=0)}


@pytest.mark.parametrize("discrete", [False, True])
def test_equals_scipys_on_the_same_draws(discrete: bool) -> None:
    from scipy import stats

    values = np.random.default_rng(0).lognormal(size=40)
    if discrete:
        values = np.round(values)
    ours = resample(mean_of(values), np.arange(40), samples=999, seed=3, method="bca", patients=MANY)["mean"]
    theirs = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=0,
        method="BCa",
        bootstrap_result=type("", (), {"bootstrap_distribution": ours.draws})(),
    ).confidence_interval
    found = ours.interval(0.95)
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=1e-6)
    plain = Resampled(ours.value, ours.draws, 0.0, "percentile", MANY).interval(0.95)
    # The sample leans to the right, and so does the better interval.
    assert found.low > plain.low and found.high > plain.high


def test_few_patients_reach_further_out_as_students_t_does() -> None:
    # Of normal draws without bias the ends are the value and so many deviations: of Student's t, times √(n / (n - 1)).
    draws = np.asarray([NormalDist().inv_cdf((k + 0.5) / 99_999) for k in range(99_999)])
    for patients, reach in ((10, 2.2622 * (10 / 9) ** 0.5), (60, 2.0010 * (60 / 59) ** 0.5), (MANY, 1.9600)):
        for method in ("bca", "percentile"):
            found = Resampled(0.0, draws, 0.0, method, patients).interval(0.95)  # type: ignore[arg-type]
            assert (-found.low, found.high) == pytest.approx((reach, reach), abs=1e-3)


def test_patients_of_the_rarer_side_are_what_a_comparison_rests_on() -> None:
    groups = np.array(["a", "a", "a", "b", "c", "d"])
    assert independent(groups) == 4
    assert independent(groups, np.array([0, 0, 1, 1, 1, 0], dtype=bool)) == 2
    assert independent(groups, np.array([1, 1, 1, 0, 0, 0], dtype=bool)) == 2, "one patient is no number to divide by"
    assert independent(groups, np.array([0, 1, 0, 1, 1, 0], dtype=bool)) == 2


def test_acceleration_over_groups_is_the_jackknife_over_groups() -> None:
    rng = np.random.default_rng(1)
    groups, values = np.arange(60) // 4, rng.exponential(size=60)
    left_out = [values[groups != g].mean() for g in range(15)]
    off = np.mean(left_out) - np.array(left_out)
    found = resample(mean_of(values), groups, samples=10, seed=0, method="bca", patients=MANY)["mean"]
    assert found.acceleration == pytest.approx((off**3).sum() / (6 * (off**2).sum() ** 1.5), abs=1e-12)


def test_many_groups_are_left_out_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "_JACKKNIFE_BLOCKS", 6)
    groups = np.repeat(np.arange(14), 2)
    whole = np.concatenate(list(jackknife_weights(groups, seed=0)), axis=1)
    assert whole.shape == (28, 6) and set(np.unique(whole)) == {0.0, 1.0}
    np.testing.assert_array_equal((whole == 0).sum(axis=1), 1)
    np.testing.assert_array_equal(whole[::2], whole[1::2])
    assert set((whole == 0).sum(axis=0)) == {4, 6}
    monkeypatch.setattr(intervals, "_CELLS_AT_ONCE", 56)
    np.testing.assert_array_equal(np.concatenate(list(jackknife_weights(groups, seed=0)), axis=1), whole)


def test_blocks_tell_nearly_the_same_acceleration(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(2).exponential(size=2000)
    blocks = resample(mean_of(values), np.arange(2000), samples=2, seed=0, method="bca", patients=MANY)[
        "mean"
    ].acceleration
    monkeypatch.setattr(intervals, "_JACKKNIFE_BLOCKS", 10_000)
    each = resample(mean_of(values), np.arange(2000), samples=2, seed=0, method="bca", patients=MANY)[
        "mean"
    ].acceleration
    assert blocks == pytest.approx(each, abs=0.005)


def test_p_value_is_the_level_whose_interval_ends_at_0() -> None:
    values = np.random.default_rng(4).exponential(size=50) - 0.9
    methods: list[tuple[Method, int]] = [("bca", MANY), ("percentile", MANY), ("bca", 50)]
    for method, patients in methods:
        made = resample(mean_of(values), np.arange(50), samples=4000, seed=3, method=method, patients=patients)
        found = made["mean"]
        p = found.p_value()
        assert 0.01 < p < 0.5
        ends = found.interval(1 - p)
        assert min(abs(ends.low), abs(ends.high)) < 0.005
    sure = Resampled(1.0, np.linspace(0.5, 1.5, 999), 0.0, "bca", MANY)
    assert sure.p_value() == pytest.approx(2 / 1000)
    assert Resampled(0.0, np.zeros(99), 0.0, "bca", MANY).p_value() == 1.0
    assert math.isnan(Resampled(1.0, np.array([1.0, np.nan, np.nan]), 0.0, "bca", MANY).p_value())


def test_nothing_to_tell_is_no_interval_and_no_spread_is_a_point() -> None:
    mostly = Resampled(0.5, np.array([0.4, np.nan, np.nan]), 0.0, "bca", MANY).interval(0.95)
    assert mostly.undefined == 2 and math.isnan(mostly.low)
    point = Resampled(0.5, np.full(200, 0.5), 0.0, "bca", MANY).interval(0.95)
    assert (point.low, point.high) == (0.5, 0.5)
    assert math.isnan(Resampled(float("nan"), np.ones(9), 0.0, "bca", MANY).interval(0.95).low)


def test_metrics_with_a_class_of_one_patient_have_no_acceleration_but_an_interval() -> None:
    labels = np.array([1, 1] + [0] * 18)
    p = np.stack([1 - np.linspace(1, 0, 20), np.linspace(1, 0, 20)], axis=1)
    groups = np.arange(20) // 2
    found = bootstrap_intervals(
        "binary", labels, p, decide("binary", p, 0.5), groups, samples=300, confidence=0.95, seed=1, method="bca"
    )
    assert found["accuracy"].low < found["accuracy"].value < found["accuracy"].high
    # The one patient with the class is missing from 35 % of the resamples.
    assert found["auroc"].undefined == pytest.approx(105, abs=40)
