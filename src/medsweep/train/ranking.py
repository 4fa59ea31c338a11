"""Which completed trial is the best, and what a trial costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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


def cost_name(train: Train) -> str:
    """What the smaller of two trials is told by: `train.search.cost`, or the number of parameters."""
    return "parameters" if train.search.cost == "none" else train.search.cost


def cost_of(train: Train, outcome: TrialOutcome) -> float:
    """A trial's cost."""
    return float(outcome.facts[cost_name(train)])


def searched_cost(train: Train, facts: Mapping[str, float]) -> float | None:
    """What a search for cheap trials goes by; None where it is not searched for.

    A latency is another one each time that it is measured, and no trial may depend on that: multiply-adds stand for it.
    """
    cost = train.search.cost
    return None if cost == "none" else float(facts["multiply_adds" if cost == "latency_ms" else cost])


def on_front(place: int, values: Sequence[float], costs: Sequence[float], *, maximize: bool) -> bool:
    """Whether no other is as good and cheaper, or better and as cheap (Pareto)."""
    sign = 1.0 if maximize else -1.0
    value, cost = sign * values[place], costs[place]
    return not any(
        sign * other >= value and price <= cost and (sign * other > value or price < cost)
        for other, price in zip(values, costs, strict=True)
    )
