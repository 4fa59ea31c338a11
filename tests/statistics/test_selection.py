"""Choosing among candidates: the correction on candidates whose worth is known, and the rules by hand."""

from __future__ import annotations

import numpy as np
import pytest

from medsweep.statistics.metrics import evaluate_all
from medsweep.statistics.operating_points import decide
from medsweep.statistics.selection import (
    Resampled,
    choose,
    resampled,
    scores_of,
    selection_bias,
    standard_error,
)

N = 60
GROUPS = np.array([f"p{index // 2}" for index in range(N)])
LABELS = (np.arange(N) // 2 % 2).astype(np.int64)


def guesses(rng: np.random.Generator, signal: float, n: int = N, labels: np.ndarray = LABELS) -> np.ndarray:
    scores = 1 / (1 + np.exp(-(signal * (2 * labels - 1) + rng.normal(0, 1, n))))
    return np.stack([1 - scores, scores], axis=1)


@pytest.mark.parametrize("objective", ["val_auroc", "val_log_loss", "val_average_precision"])
def test_scores_are_the_metrics(objective: str) -> None:
    rng = np.random.default_rng(3)
    repeats = np.stack([guesses(rng, 0.5) for _ in range(2)])
    plain = scores_of(objective, "binary", LABELS, repeats)(np.ones((N, 1)))
    each = [evaluate_all("binary", LABELS, p, decide("binary", p, [0.5]))[objective[4:]] for p in repeats]
    assert plain[0] == pytest.approx(np.mean(each))
    many = np.eye(3)[np.arange(N) % 3] * 0.6 + 0.4 / 3
    labels = np.arange(N, dtype=np.int64) % 3
    value = scores_of(objective, "multiclass", labels, many)(np.ones((N, 1)))[0]
    assert value == pytest.approx(evaluate_all("multiclass", labels, many, many.argmax(axis=1))[objective[4:]])


def test_the_correction_sees_through_the_best_of_many_guesses() -> None:
    """Forty candidates that know nothing: the best promises much, and is worth .5."""
    promised, corrected = [], []
    for repeat in range(8):
        rng = np.random.default_rng(repeat)
        candidates = [scores_of("val_auroc", "binary", LABELS, guesses(rng, 0.0)) for _ in range(40)]
        found = resampled(candidates, GROUPS, samples=60, seed=1)
        chosen = choose(found.values, "val_auroc")
        bias = selection_bias(found, "val_auroc", chosen=chosen)
        assert bias is not None and bias.value == found.values.max() and bias.inflation == bias.value - bias.corrected
        assert bias.low <= bias.corrected <= bias.high
        promised.append(bias.value)
        corrected.append(bias.corrected)
    assert np.mean(promised) > 0.62
    assert abs(np.mean(corrected) - 0.5) < 0.05


def test_one_candidate_flatters_nobody() -> None:
    rng = np.random.default_rng(0)
    found = resampled([scores_of("val_auroc", "binary", LABELS, guesses(rng, 1.0))], GROUPS, samples=300, seed=1)
    bias = selection_bias(found, "val_auroc", chosen=0)
    assert bias is not None and abs(bias.inflation) < 0.01


def test_resamples_are_of_whole_patients_and_share_no_image_with_what_is_left() -> None:
    met = []

    def scores(weights: np.ndarray) -> np.ndarray:
        met.append(weights)
        return np.zeros(weights.shape[1])

    resampled([scores], GROUPS, samples=20, seed=1)
    plain, drawn, left = met
    assert (plain == 1).all() and ((drawn > 0) ^ (left > 0)).all()
    assert all((each[::2] == each[1::2]).all() for each in (drawn, left))


def test_the_standard_error_is_the_bootstraps() -> None:
    """Of a mean of independent images it is known: deviation by root n."""
    rng = np.random.default_rng(5)
    values = rng.normal(0, 1, 400)
    groups = np.array([str(index) for index in range(400)])
    mean = resampled([lambda w: (values[:, None] * w).sum(axis=0) / w.sum(axis=0)], groups, samples=400, seed=2)
    assert standard_error(mean.drawn[0]) == pytest.approx(values.std() / 20, rel=0.15)
    assert np.isnan(standard_error(np.array([np.nan, 1.0])))


def test_the_rules_of_choosing() -> None:
    values, cost = np.array([0.90, 0.95, 0.94, 0.93, np.nan]), np.array([1.0, 9.0, 5.0, 5.0, 0.0])
    assert choose(values, "val_auroc") == 1
    assert choose(values, "val_log_loss") == 0
    assert choose(values, "val_auroc", cost=cost, standard_error=0.0) == 1
    assert choose(values, "val_auroc", cost=cost, standard_error=0.021) == 2, "of equal costs the better"
    assert choose(values, "val_auroc", cost=cost, standard_error=0.051) == 0
    assert choose(values, "val_log_loss", cost=-cost, standard_error=0.041) == 3
    assert choose(np.array([np.nan]), "val_auroc") == -1


def test_a_rule_that_prefers_the_small_is_corrected_as_it_chooses() -> None:
    found = Resampled(
        values=np.array([0.9, 0.89]), drawn=np.array([[0.9, 0.9], [0.89, 0.8]]), left=np.array([[0.1, 0.2], [0.7, 0.8]])
    )
    cost = np.array([2.0, 1.0])
    bias = selection_bias(found, "val_auroc", chosen=1, cost=cost, standard_error=0.02)
    assert bias is not None and bias.corrected == pytest.approx((0.7 + 0.2) / 2) and bias.value == 0.89


def test_nothing_is_told_where_no_resample_can_tell() -> None:
    labels = np.zeros(N, np.int64)
    found = resampled(
        [scores_of("val_auroc", "binary", labels, guesses(np.random.default_rng(0), 0.0))], GROUPS, samples=5, seed=1
    )
    assert selection_bias(found, "val_auroc", chosen=0) is None
