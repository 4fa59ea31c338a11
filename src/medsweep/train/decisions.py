"""What is fitted on validation once a network is trained: its temperature, its threshold and its operating points."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medsweep.artifacts.record import Task
from medsweep.artifacts.trained import OperatingPoint
from medsweep.params import OperatingPoints, Train
from medsweep.statistics.metrics import evaluate_all
from medsweep.statistics.operating_points import (
    POINT_RULES,
    PROMISES,
    best_cut,
    decide,
    fit_thresholds,
    smooth_cut,
    youden_index,
)
from medsweep.statistics.temperature import fit_temperature

_COMPARED = ("ece", "log_loss", "auroc")
_ROUNDING = 1e-9
# float32 probabilities near 1 may fall together when they are scaled: so much AUROC may fall by that.
_TIES = 1e-4


@dataclass(frozen=True)
class DecisionRules:
    """What to fit: `train.calibration`, `train.threshold` and `train.operating_points`."""

    calibration: str
    threshold: str
    points: OperatingPoints

    @classmethod
    def of(cls, train: Train) -> DecisionRules:
        return cls(train.calibration, train.threshold, train.operating_points)


@dataclass(frozen=True)
class Decisions:
    """What was fitted, as `TrainedModel` keeps it."""

    threshold: tuple[float, ...]
    operating_points: tuple[OperatingPoint, ...]


@dataclass(frozen=True)
class Calibration:
    """A temperature, and what it does on validation; see `TrainedModel.calibration`."""

    temperature: float
    facts: dict[str, float | None]


def wanted_temperature(rules: DecisionRules, task: Task, labels: NDArray[Any], logits: NDArray[Any]) -> float:
    """The temperature to try: fitted, or 1 where calibration is off."""
    return fit_temperature(task, labels, logits) if rules.calibration == "temperature" else 1.0


def judge(
    task: Task, labels: NDArray[Any], before: NDArray[np.float64], after: NDArray[np.float64], temperature: float
) -> Calibration:
    """Keep a temperature only where it does no harm on validation.

    It is refused (1 is kept) where ECE or log-loss would rise, which few images allow, and for binary and multi-label
    tasks where AUROC would fall: it keeps the order of images there, unless probabilities round to 1 and become equal.
    For one label out of several classes a temperature keeps the order of an image's classes, not that of images, so
    that the one-vs-rest AUROC may move a little either way.

    Args:
        task: binary, multiclass, multilabel or ordinal.
        labels: of the validation images.
        before, after: (N, K) the network's probabilities without and with the temperature.
        temperature: the one that `after` has.
    """
    values = [_values(task, labels, each) for each in (before, after)]
    worse = any(_or(values[1][name]) > _or(values[0][name]) + _ROUNDING for name in ("ece", "log_loss"))
    tied = task in ("binary", "multilabel") and _or(values[1]["auroc"]) < _or(values[0]["auroc"]) - _TIES
    kept = temperature if not (worse or tied) else 1.0
    last = values[1] if kept == temperature else values[0]
    facts: dict[str, float | None] = {"temperature_fitted": temperature}
    for name in _COMPARED:
        facts |= {f"{name}_before": values[0][name], f"{name}_after": last[name]}
    return Calibration(kept, facts)


def fit_decisions(
    rules: DecisionRules, task: Task, labels: NDArray[Any], probabilities: NDArray[np.float64]
) -> Decisions:
    """Fit thresholds on the probabilities (N, K) that the finished model gives, its temperature included."""
    return Decisions(
        threshold=fit_thresholds(rules.threshold, task, labels, probabilities),
        operating_points=tuple(
            _point(rule, target, task, labels, probabilities) for rule, target in _wanted(rules.points)
        ),
    )


def _wanted(points: OperatingPoints) -> list[tuple[str, float | None]]:
    found: list[tuple[str, float | None]] = [("youden", None)] if points.youden else []
    targets = points.model_dump()
    return found + [(rule, float(target)) for rule in POINT_RULES for target in targets[rule]]


def _point(
    rule: str, target: float | None, task: Task, labels: NDArray[Any], probabilities: NDArray[np.float64]
) -> OperatingPoint:
    """One operating point: of the positive class for a binary task, else of each class or label against the rest."""
    criterion = youden_index if target is None else POINT_RULES[rule](target)
    cut = best_cut if rule in PROMISES else smooth_cut
    classes = [1] if task == "binary" else range(probabilities.shape[1])
    thresholds, sensitivity, specificity = [], [], []
    for k in classes:
        there = labels[:, k] == 1 if task == "multilabel" else labels == k
        threshold = cut(criterion, there.astype(np.int64), probabilities[:, k])
        called = decide("binary", np.stack([1 - probabilities[:, k], probabilities[:, k]], axis=1), threshold) == 1
        thresholds.append(threshold)
        sensitivity.append(_share(called[there]))
        specificity.append(_share(~called[~there]))
    return OperatingPoint(rule, target, tuple(thresholds), tuple(sensitivity), tuple(specificity))


def _share(those: NDArray[np.bool_]) -> float | None:
    return float(those.mean()) if len(those) else None


def _values(task: Task, labels: NDArray[Any], probabilities: NDArray[np.float64]) -> dict[str, float | None]:
    half = [0.5] * (probabilities.shape[1] if task == "multilabel" else 1)
    found = evaluate_all(task, labels, probabilities, decide(task, probabilities, half))
    return {name: float(found[name]) if math.isfinite(found[name]) else None for name in _COMPARED}


def _or(value: float | None) -> float:
    """A comparable number where a class is missing: nothing is worse there."""
    return 0.0 if value is None else value
