"""Proportions of grouped images against statsmodels, a linearised variance written out, and their ends."""

from __future__ import annotations

import math

import numpy as np
import pytest

from medsweep.statistics.intervals import wilson
from medsweep.statistics.proportions import proportion


def test_independent_images_give_wilsons_own_interval() -> None:
    from statsmodels.stats.proportion import proportion_confint

    hits = np.array([1] * 81 + [0] * 182)
    found = proportion(hits, np.arange(263), 0.95)
    assert proportion_confint(81, 263, method="wilson") == pytest.approx((found.naive.low, found.naive.high), abs=1e-6)
    assert found.design_effect == 1.0 and found.interval == found.naive


def test_design_effect_is_the_ratio_of_the_cluster_robust_variance_to_the_binomial_one() -> None:
    import statsmodels.api as sm

    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), rng.integers(1, 7, 40))
    hits = (rng.random(len(groups)) < rng.beta(2, 1, 40)[groups]).astype(float)
    fit = sm.OLS(hits, np.ones(len(hits))).fit(cov_type="cluster", cov_kwds={"groups": groups, "use_correction": False})
    share, n = hits.mean(), len(hits)
    expected = float(fit.cov_params()[0, 0]) * 40 / 39 / (share * (1 - share) / n)
    found = proportion(hits, groups, 0.95)
    assert found.design_effect == pytest.approx(expected, abs=1e-6) and expected > 1.3
    assert (found.successes, found.n, found.n_groups) == (int(hits.sum()), n, 40)
    # Student's t of 39 against the normal quantile (Korn & Graubard).
    smaller = expected * (2.0226909 / 1.959964) ** 2
    corrected = wilson(hits.sum() / smaller, n / smaller, 0.95)
    assert (found.interval.low, found.interval.high) == pytest.approx((corrected.low, corrected.high), abs=1e-6)
    assert found.interval.high - found.interval.low > found.naive.high - found.naive.low


def test_images_that_say_the_same_count_as_one() -> None:
    groups = np.repeat(np.arange(20), 5)
    hits = np.repeat(np.arange(20) < 15, 5)
    found = proportion(hits, groups, 0.95)
    assert found.design_effect == pytest.approx(5.0)
    fewer = (2.0930241 / 1.959964) ** 2  # t of 19
    patients = wilson(15 / fewer, 20 / fewer, 0.95)
    assert (found.interval.low, found.interval.high) == pytest.approx((patients.low, patients.high))


def test_all_right_tells_no_variance_so_each_patient_counts_once() -> None:
    found = proportion(np.ones(30), np.arange(30) // 3, 0.95)
    assert found.design_effect == 3.0
    fewer = (2.2621572 / 1.959964) ** 2  # t of 9
    assert found.interval.low == pytest.approx(wilson(10 / fewer, 10 / fewer, 0.95).low) and found.interval.high == 1.0
    assert proportion(np.ones(5), np.zeros(5), 0.95).design_effect == 5.0


def test_nothing_is_no_proportion() -> None:
    found = proportion(np.empty(0), np.empty(0), 0.95)
    assert found.n == 0 and math.isnan(found.interval.value) and math.isnan(found.naive.low)


def test_never_narrower_than_independent_images() -> None:
    # One right and one wrong image of every patient: as even as it can be.
    found = proportion(np.tile([1, 0], 20), np.repeat(np.arange(20), 2), 0.95)
    assert found.design_effect == 1.0
