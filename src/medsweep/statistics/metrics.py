"""The metrics, one function each, and the table that names them.

What holds for all of them:

- `METRICS` has no loss: the stage evaluate adds the training loss itself.
- Binary: of the positive class, class 1. Multi-class and ordinal: the unweighted (macro) mean of one class against the
  rest. Multi-label: the unweighted mean over labels. Nothing is skipped in a mean: a class for which a metric is
  undefined makes the mean undefined.
- Undefined is NaN: a class without images, a class that was never decided for (PPV), a division by 0.
- Each function gives one value for each weighting of the images (see `weighted`), so that the bootstrap and the plain
  value come from the same lines.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medsweep.artifacts.record import TASKS, Task
from medsweep.errors import DataError
from medsweep.statistics import calibration
from medsweep.statistics.weighted import Floats, Ranking, ratio, sum_by_code, weighted_mean

PROBABILITY_FLOOR = 1e-7
"""Log-loss clips probabilities to this and to one minus this."""


@dataclass(frozen=True)
class Predictions:
    """What a model said about N images, beside the truth.

    Args:
        task: binary, multiclass, multilabel or ordinal.
        labels: (N,) int64 class indices, or (N, L) uint8 zeros and ones (multi-label).
        probabilities: (N, K), 0 to 1; binary K = 2, multi-label K = L.
        decisions: (N,) or (N, L) int, as `operating_points.decide` makes them.

    Raises:
        DataError: the arrays disagree in shape, a label or decision is outside the classes, or a probability is NaN or
            outside 0 to 1.
    """

    task: Task
    labels: NDArray[Any]
    probabilities: NDArray[Any]
    decisions: NDArray[Any]

    def __post_init__(self) -> None:
        check_probabilities(self.task, self.labels, self.probabilities)
        _check_classes("decisions", self.task, self.decisions, self.probabilities.shape)

    @property
    def n_classes(self) -> int:
        return int(self.probabilities.shape[1])

    @cached_property
    def scores(self) -> Floats:
        """(N, K) probabilities in double precision."""
        return np.asarray(self.probabilities, dtype=np.float64)

    @cached_property
    def targets(self) -> NDArray[np.bool_]:
        """(N, K) True where the image has the class."""
        if self.task == "multilabel":
            return np.asarray(self.labels == 1)
        return np.asarray(self.labels[:, None] == np.arange(self.n_classes))

    @cached_property
    def rankings(self) -> tuple[Ranking, ...]:
        """For each class, the images sorted by its probability."""
        return tuple(Ranking(self.targets[:, k], self.scores[:, k]) for k in range(self.n_classes))

    @cached_property
    def squared_errors(self) -> Floats:
        """(N,) an image's Brier score: (p₁ - y)² for binary, its mean over labels for multi-label, else Σ_k."""
        squares = (self.scores - self.targets) ** 2
        if self.task == "binary":
            return squares[:, 1]
        return np.asarray(squares.mean(axis=1) if self.task == "multilabel" else squares.sum(axis=1))

    @cached_property
    def log_losses(self) -> Floats:
        """(N,) an image's negative log-likelihood in nats; the mean over labels for multi-label."""
        clipped = np.clip(self.scores, PROBABILITY_FLOOR, 1.0 - PROBABILITY_FLOOR)
        if self.task == "binary":
            return np.asarray(-np.log(np.where(self.labels == 1, clipped[:, 1], 1.0 - clipped[:, 1])))
        if self.task == "multilabel":
            return np.asarray(-np.log(np.where(self.targets, clipped, 1.0 - clipped)).mean(axis=1))
        return np.asarray(-np.log(clipped[np.arange(len(clipped)), self.labels]))

    @cached_property
    def hits_at_half(self) -> Floats:
        """(N,) whether p > 0.5 is right; for multi-label, for which fraction of the labels."""
        right = (self.scores > 0.5) == self.targets
        return np.asarray(right[:, 1] if self.task == "binary" else right.mean(axis=1), dtype=np.float64)


class Weighted:
    """Predictions under B weightings of the images at once: what the metrics below are functions of.

    Args:
        predictions: of N images.
        weights: (N, B), at least 0: how often each image counts.
    """

    def __init__(self, predictions: Predictions, weights: Floats) -> None:
        self.predictions = predictions
        self.weights = weights
        self._areas: dict[int, tuple[Floats, Floats]] = {}

    @property
    def reported(self) -> tuple[int, ...]:
        """The classes that a headline number is the mean of."""
        return (1,) if self.predictions.task == "binary" else tuple(range(self.predictions.n_classes))

    @cached_property
    def confusion(self) -> Floats:
        """(K, K, B), rows true; multi-label (L, 2, 2, B)."""
        known, k = self.predictions, self.predictions.n_classes
        if known.task == "multilabel":
            codes = 2 * known.labels.astype(np.int64) + known.decisions.astype(np.int64)
            tables = [sum_by_code(codes[:, label], self.weights, 4).reshape(2, 2, -1) for label in range(k)]
            return np.stack(tables)
        codes = k * known.labels.astype(np.int64) + known.decisions.astype(np.int64)
        return sum_by_code(codes, self.weights, k * k).reshape(k, k, -1)

    @cached_property
    def counts(self) -> tuple[Floats, Floats, Floats, Floats]:
        """True positives, false positives, false negatives, true negatives: each (K, B), each class by itself."""
        table = self.confusion
        if self.predictions.task == "multilabel":
            return table[:, 1, 1], table[:, 0, 1], table[:, 1, 0], table[:, 0, 0]
        hits = np.einsum("kkb->kb", table)
        false_positive, false_negative = table.sum(axis=0) - hits, table.sum(axis=1) - hits
        return hits, false_positive, false_negative, table.sum(axis=(0, 1)) - hits - false_positive - false_negative

    def areas(self, k: int) -> tuple[Floats, Floats]:
        """AUROC and average precision of class `k` against the rest: two arrays (B,)."""
        if k not in self._areas:
            self._areas[k] = self.predictions.rankings[k].areas(self.weights)
        return self._areas[k]

    def mean_of(self, each: Callable[[Weighted, int], Floats]) -> Floats:
        """The mean of `each(self, class)` over the reported classes: (B,)."""
        return np.asarray(np.mean([each(self, k) for k in self.reported], axis=0))

    @property
    def over_tables(self) -> Floats:
        """(T, C, C, B) the confusion matrices that a headline number is the mean of: one, or one a label."""
        return self.confusion if self.predictions.task == "multilabel" else self.confusion[None]


def class_auroc(at: Weighted, k: int) -> Floats:
    return at.areas(k)[0]


def class_average_precision(at: Weighted, k: int) -> Floats:
    return at.areas(k)[1]


def class_sensitivity(at: Weighted, k: int) -> Floats:
    hit, _, missed, _ = at.counts
    return ratio(hit[k], hit[k] + missed[k])


def class_specificity(at: Weighted, k: int) -> Floats:
    _, alarm, _, quiet = at.counts
    return ratio(quiet[k], quiet[k] + alarm[k])


def class_ppv(at: Weighted, k: int) -> Floats:
    hit, alarm, _, _ = at.counts
    return ratio(hit[k], hit[k] + alarm[k])


def class_npv(at: Weighted, k: int) -> Floats:
    _, _, missed, quiet = at.counts
    return ratio(quiet[k], quiet[k] + missed[k])


def class_f1(at: Weighted, k: int) -> Floats:
    hit, alarm, missed, _ = at.counts
    return ratio(2.0 * hit[k], 2.0 * hit[k] + alarm[k] + missed[k])


def class_support(at: Weighted, k: int) -> Floats:
    hit, _, missed, _ = at.counts
    return np.asarray(hit[k] + missed[k])


def accuracy(at: Weighted) -> Floats:
    tables = at.over_tables
    return np.asarray(ratio(np.einsum("tccb->tb", tables), tables.sum(axis=(1, 2))).mean(axis=0))


def accuracy_at_half(at: Weighted) -> Floats:
    return weighted_mean(at.predictions.hits_at_half, at.weights)


def balanced_accuracy(at: Weighted) -> Floats:
    tables = at.over_tables
    return np.asarray(ratio(np.einsum("tccb->tcb", tables), tables.sum(axis=2)).mean(axis=(0, 1)))


def auroc(at: Weighted) -> Floats:
    return at.mean_of(class_auroc)


def average_precision(at: Weighted) -> Floats:
    return at.mean_of(class_average_precision)


def sensitivity(at: Weighted) -> Floats:
    return at.mean_of(class_sensitivity)


def specificity(at: Weighted) -> Floats:
    return at.mean_of(class_specificity)


def ppv(at: Weighted) -> Floats:
    return at.mean_of(class_ppv)


def npv(at: Weighted) -> Floats:
    return at.mean_of(class_npv)


def f1(at: Weighted) -> Floats:
    return at.mean_of(class_f1)


def mcc(at: Weighted) -> Floats:
    tables = at.over_tables
    total, hits = tables.sum(axis=(1, 2)), np.einsum("tccb->tb", tables)
    true, decided = tables.sum(axis=2), tables.sum(axis=1)
    covariance = hits * total - (true * decided).sum(axis=1)
    # Two roots, each exact for whole numbers below 2^53: one root of the product would overflow that.
    spread = np.sqrt(total**2 - (true**2).sum(axis=1)) * np.sqrt(total**2 - (decided**2).sum(axis=1))
    return np.asarray(ratio(covariance, spread).mean(axis=0))


def cohen_kappa(at: Weighted) -> Floats:
    tables = at.over_tables
    index = np.arange(tables.shape[1], dtype=np.float64)
    distance = (index[:, None] - index) ** 2
    cost = distance if at.predictions.task == "ordinal" else np.minimum(distance, 1.0)
    true, decided = tables.sum(axis=2), tables.sum(axis=1)
    observed = np.einsum("ij,tijb->tb", cost, tables) * tables.sum(axis=(1, 2))
    expected = (true * np.einsum("ij,tjb->tib", cost, decided)).sum(axis=1)
    return np.asarray((1.0 - ratio(observed, expected)).mean(axis=0))


def brier(at: Weighted) -> Floats:
    return weighted_mean(at.predictions.squared_errors, at.weights)


def log_loss(at: Weighted) -> Floats:
    return weighted_mean(at.predictions.log_losses, at.weights)


def ece(at: Weighted) -> Floats:
    known = at.predictions
    confidence, outcome = calibration.confidence_and_outcome(known.labels, known.probabilities, known.task)
    return calibration.weighted_ece(confidence, outcome, at.weights, calibration.BINS)


@dataclass(frozen=True)
class MetricRow:
    """One metric.

    Args:
        function: predictions under B weightings to (B,) values.
        tasks: the tasks that it exists for.
        needs: whether it looks at decisions (then it depends on the threshold) or at probabilities.
        higher_is_better: False for errors.
        description: what it says, in plain words.
    """

    function: Callable[[Weighted], Floats]
    tasks: tuple[Task, ...]
    needs: Literal["decisions", "probabilities"]
    higher_is_better: bool
    description: str


METRICS: dict[str, MetricRow] = {
    "accuracy": MetricRow(
        accuracy,
        TASKS,
        "decisions",
        True,
        "The fraction of decisions that are right; for multi-label the mean over labels.",
    ),
    "accuracy_at_half": MetricRow(
        accuracy_at_half,
        ("binary", "multilabel"),
        "probabilities",
        True,
        "Accuracy when everything above a probability of 0.5 is called positive, whatever the stored threshold: "
        "what MedMNIST's tables call ACC.",
    ),
    "balanced_accuracy": MetricRow(
        balanced_accuracy,
        TASKS,
        "decisions",
        True,
        "The mean over classes of the fraction of a class's images that were recognised; .5 (1/K) is guessing.",
    ),
    "auroc": MetricRow(
        auroc,
        TASKS,
        "probabilities",
        True,
        "The chance that a random image of the class gets a higher score than a random one without it; .5 is guessing. "
        "Several classes: the unweighted mean of one against the rest (MedMNIST's AUC).",
    ),
    "average_precision": MetricRow(
        average_precision,
        TASKS,
        "probabilities",
        True,
        "The area under the precision-recall curve, without interpolation; guessing gives the class's prevalence.",
    ),
    "sensitivity": MetricRow(
        sensitivity,
        TASKS,
        "decisions",
        True,
        "Of the images with the class, the fraction called so (recall).",
    ),
    "specificity": MetricRow(
        specificity,
        TASKS,
        "decisions",
        True,
        "Of the images without the class, the fraction called so.",
    ),
    "ppv": MetricRow(
        ppv,
        TASKS,
        "decisions",
        True,
        "Of the images called positive, the fraction that is (precision); holds at this prevalence only.",
    ),
    "npv": MetricRow(
        npv,
        TASKS,
        "decisions",
        True,
        "Of the images called negative, the fraction that is; holds at this prevalence only.",
    ),
    "f1": MetricRow(f1, TASKS, "decisions", True, "The harmonic mean of sensitivity and positive predictive value."),
    "mcc": MetricRow(
        mcc,
        TASKS,
        "decisions",
        True,
        "Matthews's correlation of decision and truth, -1 to 1, 0 is guessing; Gorodkin's R_K for several classes.",
    ),
    "cohen_kappa": MetricRow(
        cohen_kappa,
        TASKS,
        "decisions",
        True,
        "Agreement beyond chance, 0 is guessing and 1 perfect; for ordinal classes with quadratic weights.",
    ),
    "brier": MetricRow(
        brier,
        TASKS,
        "probabilities",
        False,
        "The mean squared error of the probabilities: 0 to 1, or 0 to 2 (the sum over classes) for multi-class.",
    ),
    "log_loss": MetricRow(
        log_loss,
        TASKS,
        "probabilities",
        False,
        "The mean negative log-probability of the truth, in nats; probabilities are clipped at 1e-7.",
    ),
    "ece": MetricRow(
        ece,
        TASKS,
        "probabilities",
        False,
        "Expected calibration error, 15 equal-width bins: how far stated and observed frequencies lie apart. Binary: "
        "of the positive class's probability; several classes: of the most probable class's.",
    ),
}

PER_CLASS: dict[str, Callable[[Weighted, int], Floats]] = {
    "auroc": class_auroc,
    "average_precision": class_average_precision,
    "sensitivity": class_sensitivity,
    "specificity": class_specificity,
    "ppv": class_ppv,
    "npv": class_npv,
    "f1": class_f1,
    "support": class_support,
}
"""One class against the rest. Support is the number of images that truly have the class."""


def of_task(task: Task) -> dict[str, MetricRow]:
    """The metrics that exist for a task, in the table's order."""
    return {name: row for name, row in METRICS.items() if task in row.tasks}


def evaluate_all(
    task: Task, labels: NDArray[Any], probabilities: NDArray[Any], decisions: NDArray[Any]
) -> dict[str, float]:
    """Every metric that exists for the task; NaN where one is undefined.

    Args:
        task: binary, multiclass, multilabel or ordinal.
        labels: (N,) int64 class indices, or (N, L) uint8 (multi-label).
        probabilities: (N, K), 0 to 1.
        decisions: (N,) or (N, L) int.

    Raises:
        DataError: see `Predictions`.
    """
    at = _plain(Predictions(task, labels, probabilities, decisions))
    return {name: float(row.function(at)[0]) for name, row in of_task(task).items()}


def per_class(
    task: Task, labels: NDArray[Any], probabilities: NDArray[Any], decisions: NDArray[Any]
) -> dict[int, dict[str, float]]:
    """Each class against the rest (each label by itself for multi-label): class index to `PER_CLASS` name to value.

    Takes and raises what `evaluate_all` does.
    """
    at = _plain(Predictions(task, labels, probabilities, decisions))
    return {
        k: {name: float(function(at, k)[0]) for name, function in PER_CLASS.items()}
        for k in range(at.predictions.n_classes)
    }


def confusion(labels: NDArray[Any], decisions: NDArray[Any], k: int) -> NDArray[np.int64]:
    """How often each class was decided for each true class.

    Args:
        labels: (N,) class indices, or (N, L) zeros and ones.
        decisions: the same shape.
        k: the number of classes or labels.

    Returns:
        (K, K), rows true; for labels (N, L), (L, 2, 2), rows true.
    """
    task: Task = "multilabel" if labels.ndim == 2 else "multiclass"
    # Only the shape of the probabilities matters to a confusion matrix.
    at = _plain(Predictions(task, labels, np.zeros((len(labels), k)), decisions))
    return at.confusion[..., 0].astype(np.int64)


def check_probabilities(task: Task, labels: NDArray[Any], probabilities: NDArray[Any]) -> None:
    """Refuse labels and probabilities that do not belong together.

    Raises:
        DataError: the shapes disagree, a label is outside the classes, or a probability is NaN or outside 0 to 1.
    """
    if probabilities.ndim != 2 or (task == "binary" and probabilities.shape[1] != 2):
        wanted = "(N, 2) for a binary task" if task == "binary" else "(N, K)"
        raise DataError(f"the shape is {probabilities.shape} where {wanted} is needed.", where="probabilities")
    _check_classes("labels", task, labels, probabilities.shape)
    bad = int((~np.isfinite(probabilities).all(axis=1)).sum())
    if bad:
        raise DataError(
            f"{bad} of {len(probabilities)} images have a NaN or infinite probability.",
            where="probabilities",
            fix="The model's weights or the images hold such values: look at the training history, or train again.",
        )
    if len(probabilities) and (probabilities.min() < 0 or probabilities.max() > 1 + 1e-6):
        raise DataError(
            "there are values outside 0 to 1.", where="probabilities", fix="Pass probabilities, not logits."
        )


def _check_classes(name: str, task: Task, values: NDArray[Any], shape: tuple[int, ...]) -> None:
    wanted, size = (shape, 2) if task == "multilabel" else (shape[:1], shape[1])
    if values.shape != wanted:
        raise DataError(f"the shape is {values.shape} where {wanted} is needed.", where=name)
    if values.size and (values.min() < 0 or values.max() >= size):
        raise DataError(f"there are values outside 0 to {size - 1}.", where=name)


def _plain(predictions: Predictions) -> Weighted:
    return Weighted(predictions, np.ones((len(predictions.probabilities), 1)))


def evaluate_weighted(
    predictions: Predictions, weights: Floats, names: Collection[str] | None = None
) -> Mapping[str, Floats]:
    """Every metric that exists for the task (of `names` alone) under each column of `weights` (N, B): name to (B,)."""
    at = Weighted(predictions, weights)
    rows = of_task(predictions.task).items()
    return {name: row.function(at) for name, row in rows if names is None or name in names}


def per_class_weighted(predictions: Predictions, weights: Floats) -> Mapping[tuple[int, str], Floats]:
    """`per_class` under each column of `weights` (N, B): (class index, name) to (B,)."""
    at = Weighted(predictions, weights)
    return {(k, name): function(at, k) for k in range(predictions.n_classes) for name, function in PER_CLASS.items()}
