"""A test split with known probabilities as the parts of an evaluation see it, without a model."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medsweep.artifacts.evaluation import Estimate, EvaluationReport
from medsweep.artifacts.prepared import PreparedSplit
from medsweep.evaluate.cautions import cautions
from medsweep.evaluate.parts import Evaluated
from medsweep.layout import Layout
from medsweep.params import load_yaml, parse
from medsweep.statistics.intervals import bootstrap_intervals
from medsweep.statistics.operating_points import decide


@pytest.fixture
def make_evaluated(tmp_path: Path) -> Callable[..., Evaluated]:
    """Makes what a part may look at: labels and probabilities given, two images a patient unless told otherwise."""

    def make(
        labels: Any,
        probabilities: Any,
        *,
        task: Any = "binary",
        patients: Any = None,
        columns: dict[str, Any] | None = None,
        threshold: Any = 0.5,
        **evaluate: Any,
    ) -> Evaluated:
        raw = load_yaml(Path(__file__).parents[2] / "params.yaml")
        raw["evaluate"]["bootstrap"]["samples"] = 300
        raw["evaluate"] |= evaluate
        params = parse(raw, where="params.yaml")
        n, k = probabilities.shape
        patients = np.arange(n) // 2 if patients is None else np.asarray(patients)
        split = PreparedSplit(
            name="test",
            images=np.zeros((n, 16, 16, 1), np.uint8),
            labels=np.asarray(labels),
            record_ids=np.array([f"{index:064d}" for index in range(n)]),
            patient_ids=np.array([f"p{each}" if each != "" else "" for each in patients.tolist()]),
            class_names=("benign", "malignant", "normal", "other")[:k],
            task=task,
            value_range=255,
            columns={name: np.asarray(values, dtype=np.str_) for name, values in (columns or {}).items()},
            synthetic=True,
        )
        decisions = decide(task, probabilities, threshold)
        known = params.evaluate.bootstrap
        found = bootstrap_intervals(task, split.labels, probabilities, decisions, split.groups, **known.model_dump())
        metrics = {
            name: Estimate(*(end if math.isfinite(end) else None for end in (each.value, each.low, each.high)))
            for name, each in found.items()
        }
        report = EvaluationReport(
            metrics=metrics,
            per_class={},
            confusion=[],
            class_names=split.class_names,
            task=task,
            n_images=n,
            n_patients=split.n_patients,
            confidence=known.confidence,
            resampled="patients" if split.has_patients else "images",
            threshold=(),
            oracle_auroc=None,
            digests={},
            key="k",
            synthetic=True,
            cautions=cautions(split, probabilities, decisions, metrics["auroc"]),
        )
        plots = tmp_path / "reports" / "plots"
        plots.mkdir(parents=True, exist_ok=True)
        return Evaluated(
            params,
            Layout(tmp_path, tmp_path),
            split,
            None,  # type: ignore[arg-type]
            np.asarray(probabilities, dtype=np.float64),
            decisions,
            report,
            plots,
            lambda _: None,
        )

    return make


@pytest.fixture
def example() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """Makes labels (two alike images a patient) and probabilities that go with them by `strength`."""

    def make(task: Any = "binary", n: int = 160, strength: Any = 2.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        patients = np.arange(n) // 2
        strength = np.broadcast_to(strength, n)[:, None]
        if task == "multilabel":
            labels: Any = rng.integers(0, 2, (n // 2 + 1, 3)).astype(np.uint8)[patients]
            logits = strength * (labels - 0.5) + rng.normal(0, 1, (n // 2 + 1, 3))[patients]
            return labels, 1 / (1 + np.exp(-logits))
        k = 2 if task == "binary" else 3
        labels = (patients % k).astype(np.int64)
        logits = strength * np.eye(k)[labels] + rng.normal(0, 1, (n // 2 + 1, k))[patients] + rng.normal(0, 0.3, (n, k))
        return labels, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)

    return make
