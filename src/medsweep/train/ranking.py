"""Which completed trial is the best, and what a trial costs."""

from __future__ import annotations

from collections.abc import Sequence

from medsweep.artifacts.trial import TrialOutcome
from medsweep.params import Train
from medsweep.statistics.objective import OBJECTIVES


def ranking(train: Train, outcomes: Sequence[TrialOutcome]) -> list[TrialOutcome]:
    """The completed trials, best first: by the objective, then by validation log-loss, then by number."""
    sign = -1.0 if OBJECTIVES[train.search.objective].direction == "maximize" else 1.0
    complete = [each for each in outcomes if each.status == "complete" and each.objective is not None]
    return sorted(
        complete,
        key=lambda each: (
            sign * (each.objective or 0.0),
            each.history[-1].validation["val_log_loss"],
            each.config.number,
        ),
    )


def cost_of(train: Train, outcome: TrialOutcome) -> float:
    """What the smaller of two trials is told by: `train.search.cost`, or the number of parameters."""
    name = "parameters" if train.search.cost == "none" else train.search.cost
    return float(outcome.facts[name])
