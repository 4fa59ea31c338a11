"""What is fitted on validation: a temperature is kept only where it does no harm, and points do what they promise."""

from __future__ import annotations

import numpy as np
import pytest

from medsweep.artifacts.record import Task
from medsweep.params import OperatingPoints
from medsweep.statistics.metrics import evaluate_all
from medsweep.statistics.operating_points import decide
from medsweep.statistics.temperature import fit_temperature, tempered
from medsweep.train.decisions import DecisionRules, fit_decisions, judge, wanted_temperature

POINTS = OperatingPoints(youden=True, sensitivity=[0.9, 1.0], specificity=[0.9, 1.0], cost_ratio=[0.2, 5.0])


def simulated(task: Task, n: int, seed: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    k = 2 if task == "binary" else 3
    if task == "multilabel":
        labels = rng.integers(0, 2, (n, k)).astype(np.uint8)
        return labels, scale * (rng.normal(0, 1, (n, k)) + 1.5 * labels - 0.7)
    labels = rng.integers(0, k, n)
    return labels, scale * (rng.normal(0, 1, (n, k)) + 1.5 * np.eye(k)[labels])


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
@pytest.mark.parametrize("n", [12, 60, 400])
def test_calibration_never_raises_ece_or_log_loss_nor_lowers_auroc_on_validation(task: Task, n: int) -> None:
    refused = 0
    for seed in range(25):
        labels, logits = simulated(task, n, seed, scale=[0.3, 1.0, 4.0][seed % 3])
        before = tempered(task, logits, 1.0).astype(np.float32).astype(np.float64)
        temperature = fit_temperature(task, labels, logits)
        after = tempered(task, logits, temperature).astype(np.float32).astype(np.float64)
        found = judge(task, labels, before, after, temperature)
        assert found.temperature in (temperature, 1.0)
        refused += found.temperature != temperature
        kept = after if found.temperature == temperature else before
        half = [0.5] * (3 if task == "multilabel" else 1)
        values = [evaluate_all(task, labels, each, decide(task, each, half)) for each in (before, kept)]
        for name in ("ece", "log_loss"):
            assert values[1][name] <= values[0][name] + 1e-9
            assert found.facts[f"{name}_before"] == pytest.approx(values[0][name], nan_ok=True)
            assert found.facts[f"{name}_after"] == pytest.approx(values[1][name], nan_ok=True)
        if task != "multiclass":
            # In float32 a few images at nearly 1 may become equal, or be told apart; in exact numbers none.
            assert values[1]["auroc"] == pytest.approx(values[0]["auroc"], abs=1e-4, nan_ok=True)
            exact = [tempered(task, logits, each) for each in (1.0, temperature)]
            ranked = [evaluate_all(task, labels, each, decide(task, each, half))["auroc"] for each in exact]
            assert ranked[0] == pytest.approx(ranked[1], abs=1e-12, nan_ok=True)
    if n == 400:
        assert refused < 12, "on many images a fitted temperature seldom does harm"


def test_calibration_can_be_switched_off() -> None:
    labels, logits = simulated("binary", 50, 0, 4.0)
    assert wanted_temperature(DecisionRules("none", "youden", POINTS), "binary", labels, logits) == 1.0
    assert wanted_temperature(DecisionRules("temperature", "youden", POINTS), "binary", labels, logits) > 1.5


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
@pytest.mark.parametrize("seed", range(5))
def test_points_keep_their_promise_and_no_cut_does_better(task: Task, seed: int) -> None:
    labels, logits = simulated(task, 80, seed, 1.0)
    p = np.round(tempered(task, logits, 1.0), 3 if seed else 1)
    found = fit_decisions(DecisionRules("none", "youden", POINTS), task, labels, p)
    classes = [1] if task == "binary" else range(3)
    for point in found.operating_points:
        assert len(point.thresholds) == len(classes) and point.title
        for index, k in enumerate(classes):
            there = labels[:, k] == 1 if task == "multilabel" else labels == k
            cuts = np.unique(np.concatenate([[0.0, 1.0], p[:, k], p[:, k] + 1e-9]))
            sens = np.array([(p[there, k] >= cut).mean() for cut in cuts])
            spec = np.array([(p[~there, k] < cut).mean() for cut in cuts])
            own = (float(point.sensitivity[index] or 0), float(point.specificity[index] or 0))
            called = p[:, k] >= point.thresholds[index]
            assert own == (pytest.approx(called[there].mean()), pytest.approx((~called[~there]).mean()))
            if point.rule == "youden":  # smoothed: near the best of these very images
                assert (sens + spec).max() - 0.15 <= sum(own) <= (sens + spec).max() + 1e-9
            elif point.rule == "sensitivity":
                assert own[0] >= float(point.target or 0) and own[1] == pytest.approx(spec[sens >= point.target].max())
            elif point.rule == "specificity":
                assert own[1] >= float(point.target or 0) and own[0] == pytest.approx(sens[spec >= point.target].max())
            else:
                n1, n0 = there.sum(), (~there).sum()
                cost = point.target * (1 - sens) * n1 + (1 - spec) * n0
                found_cost = float(point.target or 0) * (1 - own[0]) * n1 + (1 - own[1]) * n0
                assert cost.min() - 1e-9 <= found_cost <= cost.min() + 0.2 * max(cost[0], cost[-1])


def test_what_no_cut_reaches_comes_as_near_as_can_be() -> None:
    # A negative image at probability 1: only 0.5 of the negatives can be spared.
    labels, p = np.array([0, 0, 1, 1]), np.array([[0.9, 0.1], [0.0, 1.0], [0.0, 1.0], [0.4, 0.6]])
    rules = DecisionRules(
        "none", "youden", OperatingPoints(youden=False, sensitivity=[], specificity=[0.9], cost_ratio=[])
    )
    (point,) = fit_decisions(rules, "binary", labels, p).operating_points
    assert point.specificity == (0.5,)


def test_one_class_only_decides_at_half_and_says_nothing_of_the_other() -> None:
    p = np.array([[0.9, 0.1], [0.2, 0.8]])
    found = fit_decisions(DecisionRules("none", "youden", POINTS), "binary", np.array([0, 0]), p)
    assert found.threshold == (0.5,)
    assert all(each.thresholds == (0.5,) and each.sensitivity == (None,) for each in found.operating_points)
