"""What the parts of an evaluation and its report look at, without a model and without running the stages before."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medsweep.artifacts import files
from medsweep.artifacts.evaluation import Estimate, EvaluationReport
from medsweep.artifacts.prepared import PreparedSplit
from medsweep.artifacts.trained import TrainedModel
from medsweep.drawing.figure import Signature, figure
from medsweep.evaluate.cautions import cautions
from medsweep.evaluate.figures import Mistake
from medsweep.evaluate.parts import Evaluated
from medsweep.evaluate.report.inputs import Before, ReportInputs
from medsweep.layout import SPLITS, Layout
from medsweep.params import load_yaml, parse
from medsweep.statistics.intervals import bootstrap_intervals
from medsweep.statistics.operating_points import decide

TRIALS = [
    {
        "number": n,
        "status": ("complete", "pruned", "failed")[n % 3],
        "objective": None if n % 3 == 2 else 0.8 + n / 100,
        "epochs": 4 - n % 3,
        "val_accuracy": None if n % 3 == 2 else 0.7,
        "parameters": 1000 + n,
        "error": "the loss was NaN" if n % 3 == 2 else "",
        "seed": n,
        "train.space.optimizer": ("adam", "sgd")[n % 2],
        "train.space.optimizer.adam.learning_rate": None if n % 2 else 0.001 * (n + 1),
        "train.space.optimizer.sgd.learning_rate": 0.1 if n % 2 else None,
        "train.space.loss": "focal",
        "train.space.backbone": "plain",
        "train.space.policy": ("none", "geometric")[n % 2],
        "train.space.views": None if n % 2 == 0 else 2,
    }
    for n in range(7)
]


def quality_of(class_names: tuple[str, ...], task: str, *, synthetic: bool, patients: bool) -> dict[str, Any]:
    """What prepare would tell of 40 images a class and split."""
    each = {"images": 40, "patients": 20 if patients else None}
    total = 3 * 40 * len(class_names)
    split = {
        "images": 40 * len(class_names),
        "patients": 20 * len(class_names) if patients else None,
        "share": 1 / 3,
        "classes": dict.fromkeys(class_names, each),
    }
    return {
        "synthetic": synthetic,
        "task": task,
        "class_names": list(class_names),
        "images": {
            "listed": total + 3,
            "prepared": total,
            "unreadable": 2,
            "unreadable_by_reason": {"damaged": 2},
            "unknown_label": 1,
        },
        "patients": {
            "known": patients,
            "count": 60 * len(class_names) if patients else None,
            "images_without_patient": 0,
            "statement": None if patients else "The source names no patients.",
        },
        "splits": {"given": [], "carved": list(SPLITS), **dict.fromkeys(SPLITS, split)},
        "findings": [
            {"check": "unreadable", "severity": "warn", "message": "2 files are damaged.", "count": 2, "record_ids": []}
        ],
        "checks": {"patient_overlap": "passed", "unreadable": "found", "few_images": "off"},
        "original_sizes": {
            "height": {"low": 16, "median": 16.0, "high": 20},
            "width": {"low": 16, "median": 16.0, "high": 24},
        },
        "parameters": {
            "source": {"kind": "folder", "path": "data/raw"},
            "image": {"height": 16, "width": 16, "channels": 1, "fit": "pad"},
            "intensity": {"bits": 8, "method": "full_range"},
            "split": {"val": 0.2, "test": 0.2, "seed": 7},
        },
    }


@pytest.fixture(scope="session")
def write_before() -> Callable[..., None]:
    """Writes what evaluate reads of prepare and of the search, beside the model."""

    def write(
        layout: Layout, class_names: tuple[str, ...], task: str, *, synthetic: bool = False, patients: bool = True
    ) -> None:
        files.write_json(layout.data_quality, quality_of(class_names, task, synthetic=synthetic, patients=patients))
        layout.search_plots.mkdir(parents=True, exist_ok=True)
        with layout.trials.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, list(TRIALS[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(TRIALS)
        (layout.search_plots / "importance.csv").write_text(
            "hyperparameter,share\ntrain.space.optimizer,0.75\ntrain.space.optimizer.adam.learning_rate,0.25\n"
        )
        # Two lines of an SVG stand for what Matplotlib draws.
        drawn = '<svg viewBox="0 0 504 302.4" width="504pt" height="302.4pt" xmlns="http://www.w3.org/2000/svg">'
        for name in ("history", "learning_curves", "importance"):
            text = f"{drawn}\n<title>What {name} shows &amp; tells.</title></svg>\n"
            (layout.search_plots / f"{name}.svg").write_text(text)

    return write


NAMES: Mapping[str, tuple[str, ...]] = {
    "binary": ("benign", "malignant"),
    "multiclass": ("normal", "benign", "malignant"),
    "ordinal": ("none", "mild", "severe"),
    "multilabel": ("effusion", "mass"),
}
METRICS = (
    "loss",
    "accuracy",
    "accuracy_at_half",
    "balanced_accuracy",
    "auroc",
    "average_precision",
    "sensitivity",
    "specificity",
    "ppv",
    "npv",
    "f1",
    "mcc",
    "cohen_kappa",
    "brier",
    "log_loss",
    "ece",
)


@pytest.fixture
def make_inputs(tmp_path: Path, write_before: Callable[..., None]) -> Callable[..., ReportInputs]:
    """What the report is made from; keyword arguments change the evaluation."""

    def make(
        task: str = "binary",
        *,
        folder: str = "project",
        class_names: tuple[str, ...] | None = None,
        n_mistakes: int = 5,
        patients: bool = True,
        synthetic: bool = False,
        undefined: Mapping[str, str] | None = None,
        parts: tuple[str, ...] = (),
        size: int = 16,
        **report: Any,
    ) -> ReportInputs:
        names = class_names or NAMES[task]
        layout = Layout(tmp_path / folder, tmp_path / folder)
        write_before(layout, names, task, synthetic=synthetic, patients=patients)
        layout.model.write_bytes(b"a model")
        plots = layout.evaluation_plots
        plots.mkdir(parents=True)
        with figure(plots / "roc.svg", Signature("test", synthetic), alt="ROC curve <of> the test.", size=(3, 3)) as it:
            it.add_subplot().plot([0, 1], [0, 1])
        k = len(names)
        known: dict[str, Any] = {
            "metrics": {name: Estimate(0.8, 0.7, 0.9) for name in METRICS},
            "per_class": {name: dict.fromkeys(("auroc", "sensitivity"), 0.8) | {"support": 40.0} for name in names},
            "confusion": [[[30, 10], [5, 35]]] * k if task == "multilabel" else (35 * np.eye(k, dtype=int)).tolist(),
            "class_names": names,
            "task": task,
            "n_images": 40 * k,
            "n_patients": 20 * k if patients else None,
            "confidence": 0.95,
            "resampled": "patients" if patients else "images",
            "threshold": {"binary": (0.4,), "multilabel": (0.4,) * k}.get(task, ()),
            "oracle_auroc": None,
            "digests": {"model": "1" * 64, "test": "2" * 64, "params": "3" * 64, "code": "4" * 64},
            "key": "e" * 64,
            "synthetic": synthetic,
        }
        rng = np.random.default_rng(1)
        mistakes = [
            Mistake(rng.integers(0, 256, (size, size, 1)).astype(np.uint8), names[0], names[-1], 0.9, f"{n:064d}")
            for n in range(n_mistakes)
        ]
        manifest = TrainedModel(
            model_digest="1" * 64,
            members=(0,),
            class_names=names,
            task=task,  # type: ignore[arg-type]
            input_shape=(size, size, 1),
            value_range=255,
            objective="val_auroc",
            objective_value=0.86,
            threshold=known["threshold"],
            threshold_rule="youden",
            temperature=1.0,
            trial={
                "train.space.optimizer": "adam",
                "train.space.optimizer.adam.learning_rate": 0.001,
                "train.space.loss": "focal",
                "train.space.backbone": "plain",
                "train.space.backbone.plain.depth": 2,
                "train.space.policy": "none",
                "train.space.standardize": "image",
            },
            facts={"parameters": 1234.0, "multiply_adds": 5678.0, "file_bytes": 9.0},
            n_trials={"complete": 3, "pruned": 2, "failed": 2},
            digests={"prepared_train": "5" * 64},
            search_key="6" * 64,
            synthetic=synthetic,
        )
        return ReportInputs(
            report=EvaluationReport(**(known | report)),
            manifest=manifest,
            before=Before.read(layout),
            settings={"evaluate.bootstrap.samples": 2000, "evaluate.bootstrap.method": "bca"},
            undefined=undefined or {},
            mistakes=mistakes,
            n_mistakes=n_mistakes,
            decided="threshold 0.4 (youden, fitted on validation)",
            parts=parts,
            folder=layout.reports,
        )

    return make


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
