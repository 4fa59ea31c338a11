"""What trials are compared by: a metric of the validation split, never the loss that a trial minimised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Direction = Literal["maximize", "minimize"]


@dataclass(frozen=True)
class Objective:
    """One objective: which way is better, and what to know about it."""

    direction: Direction
    description: str


# Each is named `val_` and a row of `metrics.METRICS`, by which an epoch's validation figures are known.
OBJECTIVES: dict[str, Objective] = {
    "val_auroc": Objective("maximize", "How well images are ranked; knows no threshold, and saturates on easy data."),
    "val_average_precision": Objective("maximize", "How well the rare class is ranked; for few positives."),
    "val_log_loss": Objective(
        "minimize", "How good the probabilities are; still tells models apart when AUROC is near 1."
    ),
}
