"""The search's pictures: history, importance, slices, parallel coordinates, optimizers × losses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medsweep.artifacts import files
from medsweep.artifacts.trial import TrialOutcome
from medsweep.drawing.figure import Signature, bare, figure
from medsweep.params import Train
from medsweep.statistics.objective import OBJECTIVES
from medsweep.train.ranking import cost_name, on_front
from medsweep.train.space import PREFIX

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = {"complete": "#1b6ca8", "pruned": "#b8c4ce", "failed": "#c0392b"}
_ACCENT = "#d9822b"
# Below so many trials with a value, importances are noise.
_ENOUGH_FOR_IMPORTANCE = 8
_MOST_SLICES = 16
_MOST_IMPORTANT = 15


def draw_all(folder: Path, train: Train, outcomes: Sequence[TrialOutcome], *, synthetic: bool) -> None:
    """Draw every picture of the search into `folder` as SVG, and write the importances: the same bytes each time."""
    known = Signature(f"validation split: {len(outcomes)} trial{'' if len(outcomes) == 1 else 's'}", synthetic)
    shares = importances(train, outcomes)
    _history(folder / "history.svg", known, train, outcomes)
    _curves(folder / "learning_curves.svg", known, train, outcomes)
    _optimizers_by_losses(folder / "optimizers_losses.svg", known, train, outcomes)
    _slices(folder / "slices.svg", known, outcomes, train.search.objective)
    _parallel(folder / "parallel_coordinates.svg", known, train, outcomes)
    _importance(folder / "importance.svg", known, train, shares)
    _pareto(folder / "pareto.svg", known, train, outcomes)
    lines = [f"{name},{share!r}" for name, share in shares.items()]
    files.write_text(folder / "importance.csv", "\n".join(["hyperparameter,share", *lines]) + "\n")


@contextmanager
def _drawing(path: Path, known: Signature, alt: str, width: float, height: float) -> Iterator[tuple[Figure, Axes]]:
    with figure(path, known, alt=alt, size=(width, height)) as drawn:
        axes = drawn.subplots()
        bare(axes)
        yield drawn, axes


def _valued(outcomes: Sequence[TrialOutcome]) -> list[TrialOutcome]:
    return [each for each in outcomes if each.objective is not None]


def _history(path: Path, known: Signature, train: Train, outcomes: Sequence[TrialOutcome]) -> None:
    best = np.maximum.accumulate if _maximize(train) else np.minimum.accumulate
    complete = [each for each in outcomes if each.status == "complete"]
    values: list[float] = best([_value(each) for each in complete]).tolist() if complete else []
    ends = f"the best completed one has {values[-1]:.4f}" if values else "none was completed"
    alt = f"{train.search.objective} of each of {len(outcomes)} trials in the order they were tried; {ends}."
    with _drawing(path, known, alt, 7.0, 4.2) as (_, axes):
        for status, colour in _COLOURS.items():
            chosen = [each for each in _valued(outcomes) if each.status == status]
            if chosen:
                axes.scatter(
                    [each.config.number for each in chosen],
                    [_value(each) for each in chosen],
                    s=26,
                    color=colour,
                    label=f"{status} ({len(chosen)})",
                    zorder=3,
                )
        failed = [each.config.number for each in outcomes if each.status == "failed"]
        if failed:
            axes.plot(
                failed,
                [0.02] * len(failed),
                "x",
                color=_COLOURS["failed"],
                transform=axes.get_xaxis_transform(),
                label=f"failed ({len(failed)})",
            )
        if complete:
            numbers = [each.config.number for each in complete]
            axes.step(numbers, values, where="post", color=_ACCENT, label="best so far")
        axes.set(xlabel="trial", ylabel=train.search.objective, title="Search history")
        axes.legend(frameon=False, loc="best")


def _curves(path: Path, known: Signature, train: Train, outcomes: Sequence[TrialOutcome]) -> None:
    objective = train.search.objective
    rungs = ", ".join(map(str, train.search.rungs))
    alt = f"{objective} after each epoch, a line a trial; trials may stop after the epochs {rungs}."
    with _drawing(path, known, alt, 7.0, 4.2) as (_, axes):
        for each in _valued(outcomes):
            epochs = [epoch.number for epoch in each.history]
            values = [epoch.validation.get(objective, np.nan) for epoch in each.history]
            axes.plot(
                epochs,
                values,
                color=_COLOURS[each.status],
                linewidth=1.1,
                alpha=0.9,
                zorder=3 if each.status == "complete" else 2,
            )
        for rung in train.search.rungs:
            axes.axvline(rung, color="#dddddd", linewidth=0.8, zorder=1)
        axes.set(xlabel="epoch", ylabel=objective, title="Learning curves (blue: completed, grey: stopped at a rung)")


_COSTS = {"parameters": "parameters", "multiply_adds": "multiply-adds for one image"}


def _pareto(path: Path, known: Signature, train: Train, outcomes: Sequence[TrialOutcome]) -> None:
    """The objective against what a trial costs, and the front: of these none was as good and cheaper.

    Multiply-adds stand for a latency: measured again it would be another picture.
    """
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    cost = "multiply_adds" if train.search.cost == "latency_ms" else cost_name(train)
    objective = train.search.objective
    there = [each for each in _valued(outcomes) if cost in each.facts]
    complete = [each for each in there if each.status == "complete"]
    values, costs = [_value(each) for each in complete], [each.facts[cost] for each in complete]
    places = [n for n in range(len(complete)) if on_front(n, values, costs, maximize=_maximize(train))]
    front = sorted((complete[n] for n in places), key=lambda each: each.facts[cost])
    steps = "; ".join(f"trial {each.config.number}: {each.facts[cost]:,.0f}, {_value(each):.4f}" for each in front)
    alt = f"{objective} against {_COSTS[cost]}. On the front, from cheap to dear: {steps or 'nothing was completed'}."
    with _drawing(path, known, alt, 7.0, 4.2) as (_, axes):
        for status in ("pruned", "complete"):
            chosen = [each for each in there if each.status == status]
            if chosen:
                axes.scatter(
                    [each.facts[cost] for each in chosen],
                    [_value(each) for each in chosen],
                    s=26,
                    color=_COLOURS[status],
                    label=f"{status} ({len(chosen)})",
                    zorder=3,
                )
        if front:
            xs, ys = [each.facts[cost] for each in front], [_value(each) for each in front]
            axes.step(xs, ys, where="post", color=_ACCENT, label="front (completed)", zorder=2)
            for each, x, y in zip(front, xs, ys, strict=True):
                number = str(each.config.number)
                axes.annotate(number, (x, y), fontsize=8, xytext=(4, 5), textcoords="offset points")
        if there:
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))  # the drawing has no mathematical text
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.legend(frameon=False, loc="best")
        axes.set(xlabel=_COSTS[cost], ylabel=objective, title=f"What {objective} costs (numbers are trials)")


def _optimizers_by_losses(path: Path, known: Signature, train: Train, outcomes: Sequence[TrialOutcome]) -> None:
    """Each pair's median, range and number of trials: an empty field was never tried."""
    optimizers, losses = sorted(train.space.optimizer), sorted(train.space.loss)
    found: dict[tuple[int, int], list[float]] = {}
    for each in _valued(outcomes):
        place = optimizers.index(each.config.optimizer.name), losses.index(each.config.loss.name)
        found.setdefault(place, []).append(_value(each))
    medians = np.full((len(optimizers), len(losses)), np.nan)
    for place, values in found.items():
        medians[place] = np.median(values)
    objective = train.search.objective
    alt = (
        f"Heat map: median, range and number of trials of {objective} for {len(found)} tried pairs of "
        f"{len(optimizers)} optimizers and {len(losses)} losses."
    )
    size = max(6.2, 1.4 + 1.15 * len(losses)), max(3.2, 1.6 + 0.44 * len(optimizers))
    with _drawing(path, known, alt, *size) as (drawn, axes):
        image = axes.imshow(medians, aspect="auto", cmap="viridis" if _maximize(train) else "viridis_r")
        for (row, column), values in found.items():
            red, green, blue, _ = image.cmap(image.norm(medians[row, column]))
            dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
            spread = f"\n{min(values):.3f}–{max(values):.3f}" if len(values) > 1 else ""
            axes.text(
                column,
                row,
                f"{medians[row, column]:.3f} ({len(values)}){spread}",
                ha="center",
                va="center",
                fontsize=7,
                linespacing=1.25,
                color="white" if dark else "black",
            )
        axes.set_xticks(range(len(losses)), [each.replace("_", "\n", 1) for each in losses], fontsize=8)
        axes.set_yticks(range(len(optimizers)), optimizers)
        axes.set_title(f"{objective} by optimizer and loss: median (trials), range")
        drawn.colorbar(image, ax=axes, label=f"median {objective}")


def _short(name: str) -> str:
    return name.removeprefix(f"{PREFIX}.")


def _varied(outcomes: Sequence[TrialOutcome]) -> dict[str, list[tuple[Any, TrialOutcome]]]:
    """The values that differ between trials, by dotted name, each with its trial."""
    found: dict[str, list[tuple[Any, TrialOutcome]]] = {}
    for each in _valued(outcomes):
        for name, value in each.config.dotted().items():
            found.setdefault(name, []).append((value, each))
    return {name: pairs for name, pairs in found.items() if len({value for value, _ in pairs}) > 1}


def _slices(path: Path, known: Signature, outcomes: Sequence[TrialOutcome], label: str) -> None:
    varied = _varied(outcomes)
    # Those that most trials have, in the order of the space.
    chosen = sorted(varied, key=lambda name: -len(varied[name]))[:_MOST_SLICES]
    columns = min(4, max(1, len(chosen)))
    rows = max(1, -(-len(chosen) // columns))
    alt = f"{label} against each of {len(chosen)} hyperparameters that differ between trials, a dot a trial."
    with figure(path, known, alt=alt, size=(3.0 * columns, 2.5 * rows + 0.3)) as drawn:
        grid = drawn.subplots(rows, columns, squeeze=False)
        for axes, name in zip(grid.flat, chosen, strict=False):
            _slice(axes, name, varied[name])
        for axes in grid.flat[len(chosen) :]:
            axes.axis("off")
        for axes in grid[:, 0]:
            axes.set_ylabel(label)


def _slice(axes: Axes, name: str, pairs: list[tuple[Any, TrialOutcome]]) -> None:
    from matplotlib.ticker import NullFormatter, StrMethodFormatter

    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value, _ in pairs)
    colours = [_COLOURS[each.status] for _, each in pairs]
    objectives = [_value(each) for _, each in pairs]
    if numeric:
        values = [float(value) for value, _ in pairs]
        axes.scatter(values, objectives, c=colours, s=14)
        if min(values) > 0 and max(values) / min(values) > 20:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))  # the drawing has no mathematical text
            axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        names = sorted({str(value) for value, _ in pairs})
        axes.scatter([names.index(str(value)) for value, _ in pairs], objectives, c=colours, s=14)
        axes.set_xticks(
            range(len(names)),
            names,
            rotation=45 if len(names) > 2 else 0,
            ha="right" if len(names) > 2 else "center",
            fontsize=7,
        )
    axes.set_title(_short(name), fontsize=8)
    axes.tick_params(labelsize=7)
    bare(axes)


def _parallel(path: Path, known: Signature, train: Train, outcomes: Sequence[TrialOutcome]) -> None:
    every = [each.config.dotted() for each in _valued(outcomes)]
    names = [name for name in _varied(outcomes) if all(name in values for values in every)]
    objectives = np.array([_value(each) for each in _valued(outcomes)])
    objective = train.search.objective
    alt = f"Parallel coordinates: a line a trial through its {len(names)} hyperparameters to its {objective}."
    with _drawing(path, known, alt, max(6.2, 2.0 + 1.3 * (len(names) + 1)), 4.8) as (drawn, axes):
        axes.set_title(f"Parallel coordinates, coloured by {train.search.objective}")
        if not names:
            axes.axis("off")
            axes.text(0.5, 0.5, "nothing differs between the trials", ha="center", transform=axes.transAxes)
            return
        places = [*(_places([values[name] for values in every]) for name in names), _places(list(objectives))]
        from matplotlib import colormaps
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize

        norm = Normalize(objectives.min(), max(objectives.max(), objectives.min() + 1e-9))
        colours = colormaps["viridis" if _maximize(train) else "viridis_r"](norm(objectives))
        for index in np.argsort(objectives if _maximize(train) else -objectives, kind="stable"):
            axes.plot(range(len(places)), [column[0][index] for column in places], color=colours[index], linewidth=1.1)
        for x, (_, ticks) in enumerate(places):
            axes.axvline(x, color="#999999", linewidth=0.7)
            for y, text in ticks.items():
                axes.text(
                    x + 0.03,
                    y,
                    text,
                    fontsize=6.5,
                    va="center",
                    bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.6},
                )
        labels = [*map(_short, names), train.search.objective]
        axes.set_xticks(range(len(places)), labels, rotation=25, ha="right", fontsize=8)
        axes.set_yticks([])
        axes.set_xlim(-0.1, len(places) - 0.4)
        for side in ("left", "bottom"):
            axes.spines[side].set_visible(False)
        drawn.colorbar(
            ScalarMappable(norm, "viridis" if _maximize(train) else "viridis_r"), ax=axes, label=train.search.objective
        )


def _places(values: list[Any]) -> tuple[list[float], Mapping[float, str]]:
    """Heights 0 to 1 for a column of values, and which heights carry which label."""
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        numbers = np.array(values, dtype=np.float64)
        low, high = numbers.min(), numbers.max()
        scaled = numbers
        if low > 0 and high / low > 20:
            scaled = np.log(numbers)
        spread = scaled.max() - scaled.min() or 1.0
        return list((scaled - scaled.min()) / spread), {0.0: f"{low:.3g}", 1.0: f"{high:.3g}"}
    names = sorted({str(value) for value in values})
    steps = {name: index / max(1, len(names) - 1) for index, name in enumerate(names)}
    return [steps[str(value)] for value in values], {height: name for name, height in steps.items()}


def _importance(path: Path, known: Signature, train: Train, shares: Mapping[str, float]) -> None:
    few = f"too few trials with a value (fewer than {_ENOUGH_FOR_IMPORTANCE}) to tell"
    first = ", ".join(f"{_short(name)} {share:.2f}" for name, share in list(shares.items())[:5])
    alt = f"Importance of each hyperparameter for {train.search.objective}: {first or few}."
    shown = dict(list(shares.items())[:_MOST_IMPORTANT])
    with _drawing(path, known, alt, 7.0, 1.4 + 0.3 * max(3, len(shown))) as (_, axes):
        axes.set_title(f"Importance for {train.search.objective} (PED-ANOVA)")
        if not shares:
            axes.axis("off")
            axes.text(0.5, 0.5, few, ha="center", transform=axes.transAxes)
            return
        names = list(shown)[::-1]
        axes.barh([_short(name) for name in names], [shares[name] for name in names], color=_COLOURS["complete"])
        which = f" (the first {len(shown)} of {len(shares)})" if len(shown) < len(shares) else ""
        axes.set_xlabel(f"share{which}")


def importances(train: Train, outcomes: Sequence[TrialOutcome]) -> dict[str, float]:
    """Optuna's importances of what every completed or pruned trial was asked (PED-ANOVA; Watanabe et al., 2023).

    Returns:
        each searched hyperparameter's share of the objective's variance by dotted name, the largest first; empty where
        too few trials have a value.
    """
    import warnings

    import optuna

    from medsweep.train.study import study_of

    if len(_valued(outcomes)) < _ENOUGH_FOR_IMPORTANCE:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Stopped trials count with the value they had: few trials are ever completed.
        study = study_of(train, [*_as_complete(outcomes)])
        try:
            first = None if len(study.directions) == 1 else (lambda trial: trial.values[0])
            return dict(optuna.importance.get_param_importances(study, target=first))
        except (ValueError, RuntimeError):
            # Optuna refuses where all values are equal.
            return {}


def _as_complete(outcomes: Sequence[TrialOutcome]) -> list[TrialOutcome]:
    from dataclasses import replace

    return [replace(each, status="complete") for each in _valued(outcomes)]


def _value(outcome: TrialOutcome) -> float:
    return float(outcome.objective or 0.0)


def _maximize(train: Train) -> bool:
    return OBJECTIVES[train.search.objective].direction == "maximize"
