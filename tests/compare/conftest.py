"""Two models of known quality on the same images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from medsweep.artifacts.predicted import PredictedSplit
from medsweep.statistics.operating_points import decide


@pytest.fixture
def predict() -> Callable[..., PredictedSplit]:
    """Makes one model's answers: `strength` says how good it is, `seed` which mistakes it makes."""

    def make(
        strength: float = 1.5,
        seed: int = 1,
        *,
        task: Any = "binary",
        n: int = 200,
        patients: bool = True,
        **changes: Any,
    ) -> PredictedSplit:
        rng = np.random.default_rng(seed)
        k = 3 if task in ("multiclass", "ordinal") else 2
        owner = np.arange(n) // 2
        if task == "multilabel":
            labels: Any = np.stack([owner % 2, owner // 2 % 2], axis=1).astype(np.uint8)
            p = 1 / (1 + np.exp(-strength * (labels - 0.5) * 2 - rng.normal(0, 1, (n, k))))
        else:
            labels = (owner % k).astype(np.int64)
            logits = strength * np.eye(k)[labels] + rng.normal(0, 1, (n, k))
            p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        known: dict[str, Any] = {
            "record_ids": np.array([f"{index:04d}" for index in range(n)]),
            "patient_ids": np.array([f"p{each:03d}" if patients else "" for each in owner]),
            "labels": labels,
            "probabilities": p.astype(np.float32).astype(np.float64),
            "decisions": decide(task, p, [0.5] * k if task == "multilabel" else 0.5),
            "class_names": ("benign", "malignant", "normal")[:k],
            "task": task,
        }
        return PredictedSplit(**(known | changes))

    return make
