"""From what trials said to the winner and the model: the rules on predictions whose worth is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from medsweep.artifacts.trial import Epoch, TrialOutcome
from medsweep.params import Params, Train
from medsweep.train.composition import compose
from medsweep.train.examples import HOLDOUT
from medsweep.train.selection import Told, select
from medsweep.train.study import ask_generation
from medsweep.train.validation import Validation

N = 400
LABELS = (np.arange(N) % 2).astype(np.int64)


def settings(small_params: Callable[..., Params], search: dict[str, Any], final: dict[str, Any]) -> Train:
    return small_params(search={"objective": "val_auroc", "resamples": 60} | search, final=final).train


def validation() -> Validation:
    names = np.array([f"r{index}" for index in range(N)])
    return Validation("holdout", "", (HOLDOUT,), None, LABELS, names, names)


def said(train: Train, scores: list[np.ndarray], *, parameters: list[float] | None = None) -> Told:
    """Trials that are complete, with these logits for the positive class."""
    from medsweep.statistics.metrics import evaluate_all

    outcomes, each = [], []
    for config, score in zip(ask_generation(train, [], 0, len(scores)), scores, strict=True):
        p = 1 / (1 + np.exp(-score))
        probabilities = np.stack([1 - p, p], axis=1).astype(np.float32)
        values = evaluate_all("binary", LABELS, probabilities, (p > 0.5).astype(np.int64))
        last = {f"val_{name}": float(values[name]) for name in ("auroc", "log_loss")}
        facts = {"parameters": (parameters or [1.0] * len(scores))[config.number], "multiply_adds": 1.0}
        history = (Epoch(1, 1.0, 0.5, last),)
        outcomes.append(TrialOutcome(config, "complete", last["val_auroc"], history, 1.0, 1, None, None, facts))
        each.append(probabilities[np.newaxis])
    return Told(tuple(outcomes), (np.stack(each),), (1,) * len(each))


def noisy(signal: float, seed: int, scale: float = 1.0) -> np.ndarray:
    return scale * (signal * (2 * LABELS - 1) + np.random.default_rng(seed).normal(0, 1, N))


def test_the_smallest_within_one_standard_error(small_params: Callable[..., Params]) -> None:
    base = noisy(1.0, 0)
    scores = [base, base + 0.05 * noisy(0.0, 1), noisy(0.2, 2)]
    for cost in ("none", "parameters"):
        best, smallest = (
            settings(small_params, {"choose": rule, "cost": cost}, {}) for rule in ("best", "one_standard_error")
        )
        told = said(best, scores, parameters=[900.0, 30.0, 1.0])
        first, second = (select(train, "binary", told, validation()) for train in (best, smallest))
        assert first.winner is first.best is second.best
        assert second.winner.config.number == 1, "the third is smaller still, and worse by many standard errors"
        assert first.standard_error == second.standard_error and 0.005 < (first.standard_error or 0) < 0.05
        assert first.bias is not None and first.bias.value == pytest.approx(first.winner.objective)
        assert second.bias is not None and second.bias.value == pytest.approx(second.winner.objective)


def test_an_ensemble_of_what_errs_differently_is_worth_more(small_params: Callable[..., Params]) -> None:
    # One of them is far too sure of itself: its temperature keeps it from drowning the others.
    scores = [noisy(0.7, 0), noisy(0.7, 1, scale=30.0), noisy(0.7, 2), noisy(0.0, 3)]
    for kind in ("auto", "ensemble"):
        train = settings(small_params, {}, {"kind": kind, "members": 3, "resamples": 40})
        told = said(train, scores)
        found = compose(train, "binary", select(train, "binary", told, validation()), told, validation())
        assert found.kind == "ensemble" and set(found.members) == {0, 1, 2}
        assert sum(found.weights.values()) == pytest.approx(1.0)
        assert found.temperatures[1] > 3 * found.temperatures[0]
        if kind == "auto":
            assert found.single is not None and found.ensemble is not None and found.ensemble > found.single + 0.02
    # In whatever order the trials stand, and again.
    assert compose(train, "binary", select(train, "binary", told, validation()), told, validation()) == found


def test_an_ensemble_begins_with_all_that_cannot_be_told_from_the_best(small_params: Callable[..., Params]) -> None:
    base = noisy(1.5, 0)
    # The best; two that are nearly it, and so add nothing to it; one that is worse by many standard errors.
    scores = [base, base - 0.02 * noisy(0.3, 1), base - 0.02 * noisy(0.3, 2), -noisy(0.2, 3)]
    for most, wanted in ((4, {0, 1, 2}), (2, {0, 1})):
        train = settings(small_params, {}, {"kind": "ensemble", "members": most, "resamples": 40})
        told = said(train, scores)
        selection = select(train, "binary", told, validation())
        values = [each.objective or 0.0 for each in told.outcomes]
        assert values[0] > max(values[1:]) and values[3] < values[0] - 3 * (selection.standard_error or 1)
        found = compose(train, "binary", selection, told, validation())
        assert set(found.members) == (wanted if most == 4 else {0, 1 if values[1] > values[2] else 2})
        # Told of the ensemble itself, and of what such a choice is worth to others.
        assert found.value is not None and found.value == pytest.approx(values[0], abs=selection.standard_error)
        assert found.ensemble is not None and found.single is not None


def test_what_an_ensemble_is_worth_counts_that_its_members_were_the_lucky_ones(
    small_params: Callable[..., Params],
) -> None:
    train = settings(small_params, {}, {"kind": "ensemble", "members": 3, "resamples": 40})
    # 24 trials that are equally good, of which those three came to the end that looked best on these images.
    signal, promised, worth = 0.1, [], []
    for seed in range(4):
        told = said(train, [noisy(signal, 100 * seed + each) for each in range(24)])
        values = [each.objective or 0.0 for each in told.outcomes]
        bar = sorted(values)[-3]
        outcomes = [
            replace(o, status="complete" if v >= bar else "pruned") for o, v in zip(told.outcomes, values, strict=True)
        ]
        told = replace(told, outcomes=tuple(outcomes))
        found = compose(train, "binary", select(train, "binary", told, validation()), told, validation())
        assert found.value is not None and found.ensemble is not None
        promised.append(found.value)
        worth.append(found.ensemble)
    # The mean of three independent scores, whose noise is a third of one's variance.
    truth = norm.cdf(signal * np.sqrt(6))
    assert np.mean(promised) - truth > 0.04
    assert abs(np.mean(worth) - truth) < 0.02


def test_alone_where_others_do_not_help(small_params: Callable[..., Params]) -> None:
    scores = [noisy(2.0, 0), noisy(0.0, 1), noisy(0.0, 2)]
    train = settings(small_params, {}, {"kind": "auto", "members": 3, "resamples": 40})
    told = said(train, scores)
    selection = select(train, "binary", told, validation())
    found = compose(train, "binary", selection, told, validation())
    assert (found.kind, found.members) == ("single", (0,))
    plain = train.model_copy(update={"final": train.final.model_copy(update={"kind": "single"})})
    assert compose(plain, "binary", selection, told, validation()).members == (0,)
    ensemble = train.model_copy(update={"final": train.final.model_copy(update={"kind": "ensemble"})})
    assert compose(ensemble, "binary", selection, told, validation()).kind == "single", (
        "no trial is as good, and none helps"
    )


def test_auto_keeps_the_smallest_model_where_that_is_asked_for(small_params: Callable[..., Params]) -> None:
    train = settings(small_params, {"choose": "one_standard_error"}, {"kind": "auto", "members": 3})
    told = said(train, [noisy(0.7, 0), noisy(0.7, 1)])
    found = compose(train, "binary", select(train, "binary", told, validation()), told, validation())
    assert found.kind == "single" and "smallest" in found.why


def test_what_was_said_is_kept_with_the_images_it_was_said_of(
    small_params: Callable[..., Params], tmp_path: Path
) -> None:
    train = settings(small_params, {}, {})
    told = said(train, [noisy(0.7, 0), noisy(0.7, 1)])
    for name in "ab":
        told.save(tmp_path / name, validation())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with np.load(tmp_path / "a") as kept:
        assert (kept["probabilities"] == told.probabilities).all() and kept["trials"].tolist() == [0, 1]
        assert kept["record_ids"].tolist()[:2] == ["r0", "r1"] and (kept["labels"] == LABELS).all()
