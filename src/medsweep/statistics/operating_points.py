"""From probabilities to decisions: thresholds fitted on validation, and how they are applied."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, ndtr

from medsweep.artifacts.record import Task
from medsweep.errors import DataError, unknown_name
from medsweep.statistics.weighted import Floats

HALF = 0.5
"""The threshold where nothing can be fitted."""
_ROUNDING = 1e-9  # 0.95 × 20 must be reached by 19
# Fewer images of a class say nothing of how its scores are spread.
_LEAST_SMOOTHED = 5
_STEPS = 1000
# Of a kernel, what lies farther out than this does not matter.
_TAIL = 4.0
# Probabilities nearer to 0 or 1 than float32 can tell apart.
_NEAREST = 1e-7


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

PROMISES = frozenset({"sensitivity", "specificity"})
"""Those that promise something of these very images, so that no smoothing may come between."""


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
    """The threshold t for which `scores >= t` serves the rule best, as far as these images can tell (`smooth_cut`).

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
    return smooth_cut(THRESHOLD_RULES[rule].criterion, labels, scores)


def smooth_cut(criterion: Criterion | None, labels: NDArray[Any], scores: NDArray[Any]) -> float:
    """The threshold at which `criterion` is highest when each class is smoothed; takes and raises what
    `fit_threshold` does.

    Where the criterion peaks among a few hundred images is mostly chance: a single image moves the peak from one gap to
    another. So both classes are smoothed by Gaussian kernels on the scale of log-odds (Fluss, Faraggi & Reiser, 2005,
    for the Youden index), whose widths are Silverman's (1986): 0.9 · min(s, IQR / 1.34) · n^(-1/5) of each class. Of
    cuts that are equally good the one nearest to 0.5 is taken. Where a class has fewer than five images, or all of its
    scores are equal, the best cut between the images themselves is taken.
    """
    positive = _checked(labels, scores)
    if criterion is None or not positive.any() or positive.all():
        return HALF
    order = np.argsort(scores, kind="stable")  # whatever order the images come in, sums are the same
    positive = positive[order]
    odds = logit(np.clip(np.asarray(scores, dtype=np.float64)[order], _NEAREST, 1.0 - _NEAREST))
    widths = [_width(odds[each]) for each in (positive, ~positive)]
    if not all(widths):
        return best_cut(criterion, labels, scores)
    beyond = _TAIL * max(widths)
    cuts = np.linspace(odds.min() - beyond, odds.max() + beyond, _STEPS + 1)
    hits, alarms = (
        _smoothly_above(odds[each], cuts, width) for each, width in zip((positive, ~positive), widths, strict=True)
    )
    worth = criterion(hits, alarms, int(positive.sum()), int((~positive).sum()))
    best = expit(cuts[worth >= worth.max() - _ROUNDING * np.abs(worth).max()])
    return float(best[np.argmin(np.abs(best - HALF))])


def _width(values: Floats) -> float:
    """Of the kernel; 0 where there can be none."""
    if len(values) < _LEAST_SMOOTHED:
        return 0.0
    spread = float(values.std(ddof=1))
    quartiles = float(np.subtract(*np.percentile(values, [75, 25]))) / 1.34
    return float(0.9 * (min(spread, quartiles) or spread) * len(values) ** -0.2)


def _smoothly_above(values: Floats, cuts: Floats, width: float) -> Floats:
    """How many of the values lie above each of the evenly spaced cuts, each value spread by a Gaussian kernel."""
    step = cuts[1] - cuts[0]
    # Each value is shared out between the two cuts beside it, so that any number of values takes the same time.
    place = (values - cuts[0]) / step
    below = np.clip(np.floor(place).astype(np.int64), 0, len(cuts) - 2)
    counts = np.bincount(below, weights=1.0 - (place - below), minlength=len(cuts))
    counts += np.bincount(below + 1, weights=place - below, minlength=len(cuts))
    offsets = step * np.arange(1 - len(cuts), len(cuts))
    # At the cut c the sum over the values v of Φ((v - c) / width), by the distances that there are.
    return np.convolve(counts, ndtr(-offsets / width), mode="valid")


def _checked(labels: NDArray[Any], scores: NDArray[Any]) -> NDArray[np.bool_]:
    """Which images are positive."""
    scores = np.asarray(scores, dtype=np.float64)
    if scores.shape != labels.shape or scores.ndim != 1:
        raise DataError(f"labels {labels.shape} and scores {scores.shape} do not belong together.", where="scores")
    if not np.isfinite(scores).all():
        raise DataError("a threshold can't be fitted to NaN or infinite probabilities.", where="scores")
    return np.asarray(labels == 1)


def best_cut(criterion: Criterion, labels: NDArray[Any], scores: NDArray[Any]) -> float:
    """The threshold at which `criterion` is highest on these very images; takes and raises what `fit_threshold` does.

    Candidates are the midpoints between neighbouring distinct scores, as far as can be from any image, and beside them
    one that calls everything positive and (while the highest score is below 1) one that calls nothing positive. Of
    candidates that are equally good the one nearest to 0.5 is taken, of two as near the lower.
    """
    positive = _checked(labels, scores)
    scores = np.asarray(scores, dtype=np.float64)
    positives = int(positive.sum())
    negatives = len(labels) - positives
    if not positives or not negatives:
        return HALF

    distinct, place = np.unique(scores, return_inverse=True)
    below, above = np.concatenate([[0.0], distinct]), np.concatenate([distinct, [1.0]])
    cuts = (below + above) / 2.0
    cuts = np.where(cuts > below, cuts, above)  # neighbours without a number between them: the upper one parts them too
    # At cut i everything from distinct score i upwards is called positive.
    hits = _called_positive(place[positive], len(distinct))
    alarms = _called_positive(place[~positive], len(distinct))
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
