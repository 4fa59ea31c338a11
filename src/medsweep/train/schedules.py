"""TABLE: learning-rate schedules, each a multiplier of the base learning rate a step."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from medsweep.errors import unknown_name
from medsweep.train.hyperparameters import Scalar, check_hyperparameters

WHERE = "train.space.schedule"


@dataclass(frozen=True)
class ScheduleRow:
    """One schedule: `shape(progress, hyper)` is the multiplier at `progress`, the share of steps done (0 ≤ x < 1)."""

    shape: Callable[[float, Mapping[str, Scalar]], float]
    hyperparameters: tuple[str, ...]
    what: str


def _constant(progress: float, hyper: Mapping[str, Scalar]) -> float:
    return 1.0


def _cosine(progress: float, hyper: Mapping[str, Scalar]) -> float:
    floor = float(hyper["floor"])
    return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * progress))


def _step(progress: float, hyper: Mapping[str, Scalar]) -> float:
    drops = int(hyper["drops"])
    # The small shift keeps a drop that falls exactly on a step there, whatever the rounding of the quotient.
    done = math.floor(progress * (drops + 1) + 1e-9)
    return float(hyper["factor"]) ** min(done, drops)


SCHEDULES: dict[str, ScheduleRow] = {
    "constant": ScheduleRow(_constant, (), "The base learning rate throughout."),
    "cosine": ScheduleRow(
        _cosine,
        ("floor",),
        "Half a cosine from the base learning rate down to `floor` times it (Loshchilov & Hutter, 2017; no restarts).",
    ),
    "step": ScheduleRow(
        _step, ("drops", "factor"), "Times `factor` at each of `drops` equally spaced moments of the training."
    ),
}


def multiplier(name: str, hyper: Mapping[str, Scalar], step: int, total_steps: int) -> float:
    """What the base learning rate is multiplied by at one step.

    Args:
        name: a row of `SCHEDULES`.
        hyper: exactly the row's hyperparameters.
        step: steps done before this one, 0 ≤ step < total_steps.
        total_steps: the steps of the whole training (of max_epochs, whether or not the trial is pruned before).

    Returns:
        The multiplier, 0 to 1.

    Raises:
        ParamsError: an unknown name, or hyperparameters that are not the row's.
        ValueError: `step` is not a step of the training.
    """
    if name not in SCHEDULES:
        raise unknown_name("schedule", name, list(SCHEDULES), where=WHERE)
    check_hyperparameters(SCHEDULES[name].hyperparameters, hyper, where=f"{WHERE}.{name}")
    if not 0 <= step < total_steps:
        raise ValueError(f"step {step} is outside a training of {total_steps} steps")
    return SCHEDULES[name].shape(step / total_steps, hyper)
