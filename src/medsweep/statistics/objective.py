"""What trials are compared by: a metric of the validation split, never the loss that a trial minimised."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medsweep.artifacts.record import Task
from medsweep.errors import unknown_name
from medsweep.statistics import metrics
from medsweep.statistics.operating_points import HALF, decide
from medsweep.statistics.weighted import Floats

Direction = Literal["maximize", "minimize"]


@dataclass(frozen=True)
class Objective:
    """One objective: the metric that it is, which way is better, and what to know about it."""

    metric: Callable[[metrics.Weighted], Floats]
    direction: Direction
    description: str


OBJECTIVES: dict[str, Objective] = {
    "val_auroc": Objective(
        metrics.auroc, "maximize", "How well images are ranked; knows no threshold, and saturates on easy data."
    ),
    "val_average_precision": Objective(
        metrics.average_precision, "maximize", "How well the rare class is ranked; for few positives."
    ),
    "val_log_loss": Objective(
        metrics.log_loss, "minimize", "How good the probabilities are; still tells models apart when AUROC is near 1."
    ),
}


def validation_objective(
    name: str, task: Task, labels: NDArray[Any], probabilities: NDArray[Any]
) -> tuple[float, Direction]:
    """A trial's worth on the validation split, and which way is better.

    Args:
        name: from `OBJECTIVES`.
        task: binary, multiclass, multilabel or ordinal.
        labels: (N,) int64 class indices, or (N, L) uint8 (multi-label).
        probabilities: (N, K).

    Returns:
        NaN where the metric is undefined, and where a probability is NaN or infinite: a trial fails by that, no search.

    Raises:
        ParamsError: there is no such objective.
        DataError: labels and probabilities do not belong together.
    """
    if name not in OBJECTIVES:
        raise unknown_name("objective", name, list(OBJECTIVES), where="train.search.objective")
    objective = OBJECTIVES[name]
    if not np.isfinite(probabilities).all():
        return float("nan"), objective.direction
    cuts = [HALF] * probabilities.shape[1] if task == "multilabel" else [HALF]
    known = metrics.Predictions(task, labels, probabilities, decide(task, probabilities, cuts))
    return float(objective.metric(metrics.Weighted(known, np.ones((len(labels), 1))))[0]), objective.direction
