"""Paired comparisons against statsmodels, published examples, and formulas written out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from medsweep.statistics.metrics import Predictions, evaluate_all
from medsweep.statistics.multiplicity import holm
from medsweep.statistics.paired import bootstrap_differences, exact_p_values, mcnemar
from medsweep.statistics.power import minimum_detectable, paired_error, size_needed

SETTINGS: dict[str, Any] = {"samples": 500, "confidence": 0.95, "seed": 7, "method": "percentile"}


def rights(both: int, only_first: int, only_second: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    first = np.repeat([1, 1, 0, 0], [both, only_first, only_second, neither])
    second = np.repeat([1, 0, 1, 0], [both, only_first, only_second, neither])
    return first, second


@pytest.mark.parametrize("counts", [(794, 86, 150, 570), (5, 1, 7, 8), (10, 0, 6, 3), (4, 5, 5, 2), (9, 0, 0, 1)])
def test_mcnemar_equals_statsmodels(counts: tuple[int, int, int, int]) -> None:
    from statsmodels.stats.contingency_tables import mcnemar as theirs

    found = mcnemar(*rights(*counts), np.arange(sum(counts)))
    both, only_first, only_second, neither = counts
    assert (found.only_first, found.only_second, found.n) == (only_first, only_second, sum(counts))
    expected = theirs([[both, only_first], [only_second, neither]], exact=True).pvalue
    assert found.exact == pytest.approx(expected, abs=1e-6) and found.clustered is None


def test_mcnemar_as_published() -> None:
    # Fagerland, Lydersen & Laake (2013), airway hyper-responsiveness before and after transplantation: 1 and 7
    # discordant pairs of 21; exact p = .070, mid-p = .039.
    found = mcnemar(*rights(1, 1, 7, 12), np.arange(21))
    assert (round(found.exact or 0, 3), round(found.mid_p or 0, 3)) == (0.070, 0.039)
    assert found.p_value == found.mid_p
    # Equal counts: half the point probability is left out of 1 (the same paper, equation 3).
    assert exact_p_values(5, 5) == pytest.approx((1.0, 1 - 0.5 * 252 / 1024))
    assert exact_p_values(0, 0) == (1.0, 1.0)


def test_approval_ratings_as_published_without_groups_and_as_groups_of_one_and_two() -> None:
    # Agresti (1990), p. 350: z² = (86 - 150)² / (86 + 150) = 17.356.
    first, second = rights(794, 86, 150, 570)
    # A second image of one person, on which nothing differs, makes the images grouped.
    first, second = np.append(first, 1), np.append(second, 1)
    found = mcnemar(first, second, np.append(np.arange(1600), 0))
    assert found.exact is None and found.mid_p is None
    chi_square = 17.3559322 * 1599 / 1600
    assert found.p_value == pytest.approx(math.erfc(math.sqrt(chi_square / 2)), abs=1e-9)


def test_clustered_mcnemar_is_obuchowskis_before_it_was_simplified() -> None:
    rng = np.random.default_rng(5)
    groups = np.repeat(np.arange(30), rng.integers(1, 6, 30))
    base = rng.random(30)[groups]
    first, second = rng.random(len(groups)) < 0.6 + 0.2 * base, rng.random(len(groups)) < 0.8 + 0.2 * base
    # Obuchowski (1998): the variance of each model's rate and their covariance over clusters, under equal rates.
    n, k = len(groups), 30
    size, x1, x2 = (np.bincount(groups, weights=each, minlength=k) for each in (np.ones(n), first, second))
    middle = (x1.sum() + x2.sum()) / (2 * n)
    off1, off2 = x1 - size * middle, x2 - size * middle
    variance = k / (k - 1) / n**2 * ((off1**2).sum() + (off2**2).sum() - 2 * (off1 * off2).sum())
    chi_square = ((x1.sum() - x2.sum()) / n) ** 2 / variance
    assert mcnemar(first, second, groups).clustered == pytest.approx(math.erfc(math.sqrt(chi_square / 2)), abs=1e-12)


def test_labels_of_an_image_belong_together() -> None:
    first, second = np.array([[1, 1], [0, 0], [1, 0]]), np.array([[1, 0], [1, 1], [1, 0]])
    found = mcnemar(first, second, np.arange(3))
    assert (found.only_first, found.only_second, found.n) == (1, 2, 6)
    assert found.exact is None and 0 < (found.clustered or 0) < 1
    assert mcnemar(first, first, np.arange(3)).clustered == 1.0


@pytest.mark.parametrize("p", [[0.01, 0.04, 0.03, 0.005], [0.5, 0.5], [0.9], [0.02, 0.02, 0.02]])
def test_holm_equals_statsmodels(p: list[float]) -> None:
    from statsmodels.stats.multitest import multipletests

    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1].tolist(), abs=1e-6)


def test_holm_leaves_out_what_was_not_tested() -> None:
    nan = float("nan")
    found = holm([0.01, nan, 0.04])
    assert found[0] == pytest.approx(0.02) and math.isnan(found[1]) and found[2] == pytest.approx(0.04)
    assert holm([]) == []


def predictions(task: Any, shift: float, seed: int = 0, n: int = 120) -> Predictions:
    from medsweep.statistics.operating_points import decide

    labels = np.arange(n) % 3 if task in ("multiclass", "ordinal") else np.arange(n) % 2
    rng = np.random.default_rng(seed)
    if task == "multilabel":
        labels = np.stack([labels, labels[::-1]], axis=1).astype(np.uint8)
        p = np.clip(0.5 + shift * (labels - 0.5) + 0.2 * rng.normal(size=(n, 2)), 0, 1)
        return Predictions(task, labels, p, decide(task, p, [0.5, 0.5]))
    k = int(labels.max()) + 1
    raw = rng.random((n, k)) + shift * np.eye(k)[labels]
    p = raw / raw.sum(axis=1, keepdims=True)
    return Predictions(task, labels, p, decide(task, p, 0.5))


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel", "ordinal"])
def test_differences_of_every_kind_of_task(task: Any) -> None:
    worse, better = predictions(task, 0.2), predictions(task, 0.9, seed=1)
    groups = np.arange(120) // 2
    names = ["auroc", "accuracy", "cohen_kappa", "brier"]
    found = bootstrap_differences(worse, better, groups, names, **SETTINGS)
    assert list(found) == names
    for name in names:
        one, two = (evaluate_all(task, each.labels, each.probabilities, each.decisions) for each in (worse, better))
        own = found[name]
        assert (own.first.value, own.second.value) == (one[name], two[name])
        assert own.difference.value == pytest.approx(two[name] - one[name])
        assert own.difference.low < own.difference.value < own.difference.high
    assert found["auroc"].p_value < 0.01 and found["auroc"].difference.low > 0 and found["brier"].difference.high < 0
    same = bootstrap_differences(worse, worse, groups, ["auroc"], **SETTINGS)["auroc"]
    assert (same.difference.low, same.difference.high, same.p_value) == (0.0, 0.0, 1.0)


def test_pairing_makes_the_difference_surer_than_the_two_values() -> None:
    first = predictions("binary", 0.5)
    noise = np.random.default_rng(9).normal(0, 0.02, 120)
    p1 = np.clip(first.probabilities[:, 1] + noise, 0, 1)
    second = Predictions("binary", first.labels, np.stack([1 - p1, p1], axis=1), first.decisions)
    found = bootstrap_differences(first, second, np.arange(120), ["auroc"], **SETTINGS)["auroc"]
    width = found.difference.high - found.difference.low
    assert width < 0.5 * (found.first.high - found.first.low)


def test_one_patient_gives_values_alone() -> None:
    found = bootstrap_differences(
        predictions("binary", 0.2), predictions("binary", 0.9), np.zeros(120), ["auroc"], **SETTINGS
    )["auroc"]
    assert found.difference.value > 0 and math.isnan(found.difference.low) and math.isnan(found.p_value)


def test_minimum_detectable_difference_is_found_with_the_power_that_it_promises() -> None:
    from statsmodels.stats.power import NormalIndPower

    error = 0.03
    found = minimum_detectable(error, confidence=0.95, power=0.8)
    # NormalIndPower's effect size is in units of the deviation of one of two groups of n: error = √(2 / n).
    n = 2 / error**2
    assert NormalIndPower().power(found, n, 0.05) == pytest.approx(0.8, abs=1e-4)
    assert paired_error(0.03, 0.5) == pytest.approx(0.03) and paired_error(0.03, 0.0) == pytest.approx(0.03 * 2**0.5)
    assert size_needed(60, 0.08, 0.04) == 240 and size_needed(60, 0.05, 0.05) == 60
