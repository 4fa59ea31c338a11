"""The temperature: what simulated logits were scaled by is found again, order is kept, and nothing runs away."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.optimize import brute

from medsweep.artifacts.record import Task
from medsweep.errors import DataError
from medsweep.statistics.calibration import ece
from medsweep.statistics.temperature import HIGHEST, LOWEST, fit_temperature, tempered, untempered


def honest(task: Task, n: int, k: int, seed: int) -> tuple[Any, Any]:
    """Labels drawn from the very probabilities that the logits stand for: the temperature 1 is right."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (n, k))
    p = tempered(task, logits, 1.0)
    if task == "multilabel":
        return (rng.random((n, k)) < p).astype(np.uint8), logits
    return np.array([rng.choice(k, p=row) for row in p]), logits


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel", "ordinal"])
@pytest.mark.parametrize("overconfidence", [0.4, 1.0, 3.0])
def test_the_scale_of_simulated_logits_is_found_again(task: Task, overconfidence: float) -> None:
    labels, logits = honest(task, 4000, 2 if task == "binary" else 3, 1)
    found = fit_temperature(task, labels, logits * overconfidence)
    assert found == pytest.approx(overconfidence, rel=0.08)
    before, after = (ece(labels, tempered(task, logits * overconfidence, t), task, 15) for t in (1.0, found))
    assert after <= before + 0.005


def test_no_temperature_on_a_grid_has_a_lower_loss() -> None:
    labels, logits = honest("multiclass", 300, 4, 2)
    counts = np.bincount(labels, minlength=4)
    targets = np.where(labels[:, None] == np.arange(4), counts[labels][:, None] + 1, 1) / (counts[labels][:, None] + 4)

    def loss(t: Any) -> float:
        return -float((targets * np.log(tempered("multiclass", logits * 2.5, float(np.squeeze(t))))).sum())

    best = brute(loss, [slice(LOWEST, HIGHEST, 0.01)], finish=None)
    assert fit_temperature("multiclass", labels, logits * 2.5) == pytest.approx(float(best), abs=0.01)


@pytest.mark.parametrize("task", ["binary", "multilabel"])
def test_classes_told_apart_without_a_mistake_do_not_make_it_infinitely_sure(task: Task) -> None:
    labels = np.array([0, 1] * 20)
    logits = np.where(labels[:, None] == np.arange(2), 4.0, -4.0)
    truth = np.eye(2, dtype=np.uint8)[labels] if task == "multilabel" else labels
    found = fit_temperature(task, truth, logits)
    # Platt's target for 20 images of a class is 21/22.
    assert tempered(task, logits, found).max() == pytest.approx(21 / 22, abs=1e-3)


def test_where_nothing_can_be_fitted_it_is_one() -> None:
    assert fit_temperature("binary", np.empty(0, np.int64), np.empty((0, 2))) == 1.0
    assert fit_temperature("binary", np.array([0, 1]), np.full((2, 2), 3.0)) == 1.0
    assert fit_temperature("multilabel", np.array([[0], [1]], np.uint8), np.zeros((2, 1))) == 1.0
    # One class only, or guesses that are mostly wrong: the end of the range, not beyond.
    assert LOWEST <= fit_temperature("binary", np.zeros(9, np.int64), np.tile([1.0, 0.0], (9, 1))) <= HIGHEST
    assert fit_temperature("binary", np.array([0, 1] * 5), np.array([[0.0, 9.0], [9.0, 0.0]] * 5)) == HIGHEST


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_no_numbers_are_refused(bad: float) -> None:
    with pytest.raises(DataError, match="NaN or infinite logits"):
        fit_temperature("binary", np.array([0, 1]), np.array([[0.0, bad], [0.0, 1.0]]))


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_the_way_back_from_float32_probabilities(task: Task, temperature: float) -> None:
    _, logits = honest(task, 200, 2 if task == "binary" else 4, 3)
    after = tempered(task, logits, temperature).astype(np.float32)
    np.testing.assert_allclose(untempered(task, after, temperature), tempered(task, logits, 1.0), atol=1e-4)
    ends = np.array([[0.0, 1.0], [1.0, 0.0]], np.float32)
    assert np.isfinite(untempered(task, ends, temperature)).all()
