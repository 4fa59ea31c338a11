from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from medsweep.artifacts.record import TASKS
from medsweep.errors import DataError, ParamsError
from medsweep.statistics.metrics import evaluate_all
from medsweep.statistics.objective import OBJECTIVES, validation_objective
from medsweep.statistics.operating_points import decide


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_equals_the_metric_and_prefers_the_better_model(name: str, task: Any) -> None:
    rng = np.random.default_rng(0)
    k = 2 if task == "binary" else 3
    if task == "multilabel":
        labels: Any = rng.integers(0, 2, (80, k)).astype(np.uint8)
        targets = labels
    else:
        labels = rng.integers(0, k, 80)
        targets = np.eye(k)[labels]

    def model(strength: float) -> Any:
        raw = 0.05 + rng.random((80, k)) * 0.6 + strength * targets
        return raw / 2 if task == "multilabel" else raw / raw.sum(axis=1, keepdims=True)

    good, poor = model(0.7), model(0.1)
    value, direction = validation_objective(name, task, labels, good)
    cuts = [0.5] * (k if task == "multilabel" else 1)
    expected = evaluate_all(task, labels, good, decide(task, good, cuts))[name.removeprefix("val_")]
    assert value == pytest.approx(expected, abs=1e-12)
    worse, _ = validation_objective(name, task, labels, poor)
    assert (value > worse) == (direction == "maximize")


def test_undefined_and_diverged_are_nan() -> None:
    p = np.array([[0.5, 0.5], [0.2, 0.8]])
    assert math.isnan(validation_objective("val_auroc", "binary", np.array([1, 1]), p)[0])
    p[0, 0] = math.inf
    value, direction = validation_objective("val_log_loss", "binary", np.array([0, 1]), p)
    assert math.isnan(value) and direction == "minimize"


def test_bad_input_is_refused() -> None:
    with pytest.raises(ParamsError, match="val_log_loss"):
        validation_objective("val_loss", "binary", np.array([0, 1]), np.full((2, 2), 0.5))
    with pytest.raises(DataError):
        validation_objective("val_auroc", "binary", np.array([0, 1, 1]), np.full((2, 2), 0.5))
