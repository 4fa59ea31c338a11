"""The search as the report tells it: what was tried, what mattered, optimizers against losses, the best trials."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from medsweep.artifacts.section import Cell, Table
from medsweep.evaluate.report.inputs import SPACE, ReportInputs, TriedTrial
from medsweep.statistics.objective import OBJECTIVES

_BEST = 10
_LEVELS = 6
ALL = "all"


@dataclass(frozen=True)
class HeatCell:
    """The trials of one pair: the objective's median, its spread, how many, and how dark (0 to 5)."""

    median: str
    spread: str
    trials: int
    level: int


@dataclass(frozen=True)
class Heat:
    """Optimizers (rows) against losses (columns); a cell None where the pair was never tried. Last: all together."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[HeatCell | None, ...]], ...]


def tried(inputs: ReportInputs) -> Table:
    """Every hyperparameter that all trials share: what was tried, what the winner has, and how much it explains."""
    return _tried(inputs, "Hyperparameters", settings=False)


def tried_settings(inputs: ReportInputs) -> Table:
    """The same for the settings of single optimizers, losses, backbones and schedules."""
    return _tried(inputs, "Settings of single optimizers, losses, backbones and schedules", settings=True)


def _tried(inputs: ReportInputs, title: str, *, settings: bool) -> Table:
    trials = inputs.before.trials
    names = sorted({name for each in trials for name in each.values})
    names = [name for name in names if ("." in name.removeprefix(SPACE)) == settings]
    shares = inputs.before.importances
    rows: list[tuple[Cell, ...]] = []
    for name in sorted(names, key=lambda name: (-shares.get(name, 0.0), names.index(name))):
        values = [each.values[name] for each in trials if name in each.values]
        won = inputs.manifest.trial.get(name)
        share = shares.get(name)
        rows.append(
            (
                name.removeprefix(SPACE),
                _spread_of(values),
                "–" if won is None else _short(won),
                None if share is None else f"{100 * share:.0f} %",
            )
        )
    return Table(
        f"{title}: what was tried (how often), the winner's value, and the share of the objective's variance that each "
        "explains (PED-ANOVA; rough where trials are few)",
        ("hyperparameter", "tried", "winner", "importance"),
        tuple(rows),
    )


def heat(inputs: ReportInputs) -> Heat | None:
    """The objective by optimizer and loss, each cell with its spread; None where no trial has a value."""
    trials = [each for each in inputs.before.trials if each.objective is not None]
    if not trials:
        return None
    losses = sorted({each.values[f"{SPACE}loss"] for each in trials})
    optimizers = sorted({each.values[f"{SPACE}optimizer"] for each in trials})

    def chosen(optimizer: str, loss: str) -> list[float]:
        return [
            each.objective
            for each in trials
            if each.objective is not None
            and optimizer in (ALL, each.values[f"{SPACE}optimizer"])
            and loss in (ALL, each.values[f"{SPACE}loss"])
        ]

    columns, lines = [*losses, ALL], [*optimizers, ALL]
    medians = [median(found) for a in lines for b in columns if (found := chosen(a, b))]
    low, high = min(medians), max(medians)
    best_is_high = OBJECTIVES[inputs.manifest.objective].direction == "maximize"

    def cell(values: list[float]) -> HeatCell | None:
        if not values:
            return None
        middle = median(values)
        share = (middle - low) / (high - low) if high > low else 0.5
        level = min(_LEVELS - 1, int(_LEVELS * (share if best_is_high else 1 - share)))
        spread = f"{min(values):.3f} to {max(values):.3f}" if len(values) > 1 else ""
        return HeatCell(f"{middle:.3f}", spread, len(values), level)

    return Heat(
        f"{inputs.manifest.objective} on validation by optimizer (rows) and loss (columns): median, range and number "
        "of trials; darker is better. Trials that were stopped early count with the value they had, usually a lower "
        "one.",
        tuple(columns),
        tuple((line, tuple(cell(chosen(line, column)) for column in columns)) for line in lines),
    )


def best(inputs: ReportInputs) -> Table:
    """The trials with the best objective: completed ones first, since the model is chosen among those."""
    objective = inputs.manifest.objective
    sign = -1.0 if OBJECTIVES[objective].direction == "maximize" else 1.0
    valued = [each for each in inputs.before.trials if each.objective is not None]
    ranked = sorted(valued, key=lambda each: (each.status != "complete", sign * (each.objective or 0.0), each.number))
    rows = []
    for each in ranked[:_BEST]:
        optimizer = each.values.get(f"{SPACE}optimizer", "–")
        rate = each.values.get(f"{SPACE}optimizer.{optimizer}.learning_rate")
        policy, views = each.values.get(f"{SPACE}policy", "–"), each.values.get(f"{SPACE}views")
        rows.append(
            (
                f"{each.number}{' (in the model)' if each.number in inputs.manifest.members else ''}",
                each.status,
                each.objective,
                each.metrics.get("val_accuracy"),
                each.epochs,
                f"{_name(optimizer)}{f' {_short(rate)}' if rate else ''}",
                _name(each.values.get(f"{SPACE}loss", "–")),
                _name(each.values.get(f"{SPACE}backbone", "–")),
                f"{policy}{f' × {views}' if views and policy != 'none' else ''}",
                each.parameters,
            )
        )
    shown = f"The best {len(rows)} of {len(valued)} trials" if len(rows) < len(valued) else "All trials with a value"
    return Table(
        f"{shown} on validation, completed ones first (optimizer with its learning rate; augmentation policy × views)",
        (
            "trial",
            "status",
            objective,
            "accuracy",
            "epochs",
            "optimizer, rate",
            "loss",
            "backbone",
            "augmentation",
            "weights",
        ),
        tuple(rows),
    )


def failures(trials: Sequence[TriedTrial]) -> list[str]:
    """Why trials failed, the most frequent reason first: '2 × the loss was NaN'."""
    reasons = Counter(each.error for each in trials if each.error)
    return [f"{n} × {reason}" for reason, n in sorted(reasons.items(), key=lambda item: (-item[1], item[0]))]


def _spread_of(values: Iterable[str]) -> str:
    """'0.0005 to 0.009 (7)' for many numbers, else each value and how often it was tried."""
    counts = Counter(values)
    numbers = [_number(each) for each in counts]
    if len(counts) > 4 and all(each is not None for each in numbers):
        known = sorted(each for each in numbers if each is not None)
        return f"{_short(known[0])} to {_short(known[-1])} ({counts.total()})"
    ordered = sorted(counts, key=lambda each: (-counts[each], _number(each) or 0.0, each))
    return ", ".join(f"{_short(each)} ({counts[each]})" for each in ordered)


def _name(name: str) -> str:
    """A name that may break between its words."""
    return name.replace("_", " ")


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _short(value: object) -> str:
    """A value as a person writes it: four digits."""
    if isinstance(value, bool):
        return str(value).lower()
    number = _number(str(value))
    return str(value).lower() if str(value) in ("True", "False") else str(value) if number is None else f"{number:.4g}"
