"""From probabilities to decisions: thresholds fitted on validation, and how they are applied."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medsweep.artifacts.record import Task
from medsweep.errors import DataError, unknown_name
from medsweep.statistics.weighted import Floats

HALF = 0.5
"""The threshold where nothing can be fitted."""
_ROUNDING = 1e-9  # 0.95 × 20 must be reached by 19


Criterion = Callable[[Floats, Floats, int, int], Floats]
"""What a threshold is chosen by: true and false positives at each cut and the class sizes, to what is to be highest."""


def youden_index(hits: Floats, alarms: Floats, positives: int, negatives: int) -> Floats:
    """Sensitivity + specificity - 1, times both class sizes: whole numbers, so that equal cuts compare equal."""
    return hits * negatives - alarms * positives


def right_decisions(hits: Floats, alarms: Floats, positives: int, negatives: int) -> Floats:
    return hits + negatives - alarms


def f1_score(hits: Floats, alarms: Floats, positives: int, negatives: int) -> Floats:
    return 2.0 * hits / (hits + alarms + positives)


def at_least_sensitivity(least: float) -> Criterion:
    """The most true negatives among cuts with this sensitivity; where none has it, the highest sensitivity."""

    def worth(hits: Floats, alarms: Floats, positives: int, negatives: int) -> Floats:
        enough = hits >= least * positives - _ROUNDING
        return np.where(enough, positives + negatives - alarms, hits)

    return worth


def at_least_specificity(least: float) -> Criterion:
    """The most true positives among cuts with this specificity; where none has it, the highest specificity."""

    def worth(hits: Floats, alarms: Floats, positives: int, negatives: int) -> Floats:
        spared = negatives - alarms
        return np.where(spared >= least * negatives - _ROUNDING, negatives + hits, spared)

    return worth


def lowest_cost(ratio: float) -> Criterion:
    """The lowest cost where a missed positive costs as much as `ratio` false alarms."""

    def worth(hits: Floats, alarms: Floats, positives: int, negatives: int) -> Floats:
        return ratio * hits - alarms

    return worth


POINT_RULES: dict[str, Callable[[float], Criterion]] = {
    "sensitivity": at_least_sensitivity,
    "specificity": at_least_specificity,
    "cost_ratio": lowest_cost,
}
"""The rules of `train.operating_points` that take a number; `youden` takes none."""


@dataclass(frozen=True)
class ThresholdRule:
    """One way to choose a threshold.

    Args:
        criterion: what is made as high as can be, from true and false positives at each cut and the class sizes;
            None for a fixed threshold of 0.5.
        description: what it does, in plain words.
    """

    criterion: Criterion | None
    description: str


THRESHOLD_RULES: dict[str, ThresholdRule] = {
    "youden": ThresholdRule(
        youden_index, "The highest sensitivity + specificity - 1 (Youden, 1950): both errors weigh the same."
    ),
    "accuracy": ThresholdRule(right_decisions, "The most right decisions; leans towards the more frequent class."),
    "f1": ThresholdRule(f1_score, "The highest F1 score; ignores true negatives."),
    "half": ThresholdRule(None, "0.5, fitted to nothing."),
}


def fit_threshold(rule: str, labels: NDArray[Any], scores: NDArray[Any]) -> float:
    """The threshold t for which `scores >= t` serves the rule best on these images.

    Candidates are the midpoints between neighbouring distinct scores, as far as can be from any image, and beside them
    one that calls everything positive and (while the highest score is below 1) one that calls nothing positive. Of
    candidates that are equally good the one nearest to 0.5 is taken, of two as near the lower.

    Args:
        rule: a name from `THRESHOLD_RULES`.
        labels: (N,) 0 or 1.
        scores: (N,) probabilities of the positive class, 0 to 1.

    Returns:
        a threshold from 0 to 1; 0.5 where only one class is there, since nothing can then be weighed up.

    Raises:
        ParamsError: there is no such rule.
        DataError: a score is NaN or the lengths differ.
    """
    if rule not in THRESHOLD_RULES:
        raise unknown_name("threshold rule", rule, list(THRESHOLD_RULES), where="train.threshold")
    return best_cut(THRESHOLD_RULES[rule].criterion, labels, scores)


def best_cut(criterion: Criterion | None, labels: NDArray[Any], scores: NDArray[Any]) -> float:
    """The threshold at which `criterion` is highest, chosen as `fit_threshold` says; takes and raises what it does."""
    scores = np.asarray(scores, dtype=np.float64)
    if scores.shape != labels.shape or scores.ndim != 1:
        raise DataError(f"labels {labels.shape} and scores {scores.shape} do not belong together.", where="scores")
    if not np.isfinite(scores).all():
        raise DataError("a threshold can't be fitted to NaN or infinite probabilities.", where="scores")
    positives = int((labels == 1).sum())
    negatives = len(labels) - positives
    if criterion is None or not positives or not negatives:
        return HALF

    distinct, place = np.unique(scores, return_inverse=True)
    below, above = np.concatenate([[0.0], distinct]), np.concatenate([distinct, [1.0]])
    cuts = (below + above) / 2.0
    cuts = np.where(cuts > below, cuts, above)  # neighbours without a number between them: the upper one parts them too
    # At cut i everything from distinct score i upwards is called positive.
    hits = _called_positive(place[labels == 1], len(distinct))
    alarms = _called_positive(place[labels != 1], len(distinct))
    if distinct[-1] >= 1.0:
        cuts, hits, alarms = cuts[:-1], hits[:-1], alarms[:-1]
    worth = criterion(hits, alarms, positives, negatives)
    best = cuts[worth == worth.max()]
    return float(best[np.argmin(np.abs(best - HALF))])


def fit_thresholds(rule: str, task: Task, labels: NDArray[Any], probabilities: NDArray[Any]) -> tuple[float, ...]:
    """What `decide` needs for a task: one threshold for binary, one a label for multi-label, else none.

    Args:
        rule: a name from `THRESHOLD_RULES`.
        task: binary, multiclass, multilabel or ordinal.
        labels: (N,) class indices, or (N, L) zeros and ones.
        probabilities: (N, K).

    Raises:
        ParamsError: there is no such rule.
        DataError: a probability is NaN or the shapes disagree.
    """
    if task == "binary":
        return (fit_threshold(rule, labels, probabilities[:, 1]),)
    if task == "multilabel":
        return tuple(fit_threshold(rule, labels[:, k], probabilities[:, k]) for k in range(labels.shape[1]))
    return ()


def decide(task: Task, probabilities: NDArray[Any], threshold: float | Sequence[float]) -> NDArray[np.int64]:
    """Decisions from probabilities.

    Args:
        task: binary, multiclass, multilabel or ordinal.
        probabilities: (N, K).
        threshold: binary, one number: class 1 where its probability is at least this. Multi-label, one number a label.
            Multi-class and ordinal decide for the most probable class (the first of equal ones) and look at none.

    Returns:
        (N,) class indices, or (N, L) zeros and ones (multi-label).

    Raises:
        DataError: there are more or fewer thresholds than the task needs.
    """
    scores = np.asarray(probabilities, dtype=np.float64)
    if task in ("multiclass", "ordinal"):
        return np.asarray(scores.argmax(axis=1), dtype=np.int64)
    cuts = np.atleast_1d(np.asarray(threshold, dtype=np.float64))
    needed = 1 if task == "binary" else scores.shape[1]
    if cuts.shape != (needed,):
        raise DataError(f"{cuts.size} given where the task {task} needs {needed}.", where="threshold")
    return ((scores[:, 1] >= cuts[0]) if task == "binary" else (scores >= cuts)).astype(np.int64)


def _called_positive(places: NDArray[np.int64], size: int) -> Floats:
    """(size + 1,) how many lie at place i or above."""
    counts = np.bincount(places, minlength=size + 1)
    return np.cumsum(counts[::-1])[::-1].astype(np.float64)
