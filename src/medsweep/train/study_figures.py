"""The search's pictures: history, importance, slices, parallel coordinates, optimizers × losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medsweep.artifacts.trial import TrialOutcome
from medsweep.params import Train
from medsweep.statistics.objective import OBJECTIVES
from medsweep.train.space import PREFIX

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = {"complete": "#1b6ca8", "pruned": "#b8c4ce", "failed": "#c0392b"}
_ACCENT = "#d9822b"
_DPI = 110
# Below so many trials with a value, importances are noise.
_ENOUGH_FOR_IMPORTANCE = 8
_MOST_SLICES = 16


def draw_all(folder: Path, train: Train, outcomes: Sequence[TrialOutcome], *, synthetic: bool) -> None:
    """Draw every picture of the search into `folder` as PNG; the same search gives the same bytes."""
    from matplotlib import rc_context

    label = train.search.objective
    with rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "figure.dpi": _DPI}):
        _save(_history(train, outcomes), folder / "history.png", synthetic)
        _save(_curves(train, outcomes), folder / "learning_curves.png", synthetic)
        _save(_optimizers_by_losses(train, outcomes), folder / "optimizers_losses.png", synthetic)
        _save(_slices(outcomes, label), folder / "slices.png", synthetic)
        _save(_parallel(train, outcomes), folder / "parallel_coordinates.png", synthetic)
        _save(_importance(train, outcomes), folder / "importance.png", synthetic)


def _save(figure: Figure, path: Path, synthetic: bool) -> None:
    if synthetic:
        figure.text(0.995, 0.005, "synthetic images", ha="right", va="bottom", fontsize=8, color="#8a4b08")
    # Without the metadata that names a version of the library or a date.
    figure.savefig(path, dpi=_DPI, metadata={"Software": None})


def _new(width: float, height: float) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _valued(outcomes: Sequence[TrialOutcome]) -> list[TrialOutcome]:
    return [each for each in outcomes if each.objective is not None]


def _history(train: Train, outcomes: Sequence[TrialOutcome]) -> Figure:
    figure, axes = _new(7.0, 4.0)
    best = np.maximum.accumulate if _maximize(train) else np.minimum.accumulate
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
    complete = [each for each in outcomes if each.status == "complete"]
    if complete:
        values = best([_value(each) for each in complete])
        axes.step([each.config.number for each in complete], values, where="post", color=_ACCENT, label="best so far")
    axes.set(xlabel="trial", ylabel=train.search.objective, title="Search history")
    axes.legend(frameon=False, loc="lower right")
    return figure


def _curves(train: Train, outcomes: Sequence[TrialOutcome]) -> Figure:
    figure, axes = _new(7.0, 4.0)
    objective = train.search.objective
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
    return figure


def _optimizers_by_losses(train: Train, outcomes: Sequence[TrialOutcome]) -> Figure:
    """The best value of each pair, and how many trials it had: an empty field was never tried."""
    optimizers, losses = sorted(train.space.optimizer), sorted(train.space.loss)
    values = np.full((len(optimizers), len(losses)), np.nan)
    counts = np.zeros_like(values, dtype=int)
    pick = max if _maximize(train) else min
    for each in _valued(outcomes):
        row, column = optimizers.index(each.config.optimizer.name), losses.index(each.config.loss.name)
        value = _value(each)
        counts[row, column] += 1
        values[row, column] = value if np.isnan(values[row, column]) else pick(values[row, column], value)
    figure, axes = _new(1.2 + 1.0 * len(losses), 1.4 + 0.36 * len(optimizers))
    image = axes.imshow(values, aspect="auto", cmap="viridis" if _maximize(train) else "viridis_r")
    for row in range(len(optimizers)):
        for column in range(len(losses)):
            if counts[row, column]:
                red, green, blue, _ = image.cmap(image.norm(values[row, column]))
                dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
                axes.text(
                    column,
                    row,
                    f"{values[row, column]:.3f} ({counts[row, column]})",
                    ha="center",
                    va="center",
                    fontsize=7.5,
                    color="white" if dark else "black",
                )
    axes.set_xticks(range(len(losses)), [each.replace("_", "\n", 1) for each in losses], fontsize=8)
    axes.set_yticks(range(len(optimizers)), optimizers)
    axes.set_title(f"Best {train.search.objective} by optimizer and loss (number of trials)")
    figure.colorbar(image, ax=axes, label=train.search.objective)
    return figure


def _short(name: str) -> str:
    return name.removeprefix(f"{PREFIX}.")


def _varied(outcomes: Sequence[TrialOutcome]) -> dict[str, list[tuple[Any, TrialOutcome]]]:
    """The values that differ between trials, by dotted name, each with its trial."""
    found: dict[str, list[tuple[Any, TrialOutcome]]] = {}
    for each in _valued(outcomes):
        for name, value in each.config.dotted().items():
            found.setdefault(name, []).append((value, each))
    return {name: pairs for name, pairs in found.items() if len({value for value, _ in pairs}) > 1}


def _slices(outcomes: Sequence[TrialOutcome], label: str) -> Figure:
    from matplotlib.figure import Figure

    varied = _varied(outcomes)
    # Those that most trials have, in the order of the space.
    chosen = sorted(varied, key=lambda name: -len(varied[name]))[:_MOST_SLICES]
    columns = min(4, max(1, len(chosen)))
    rows = max(1, -(-len(chosen) // columns))
    figure = Figure(figsize=(3.0 * columns, 2.5 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, name in zip(grid.flat, chosen, strict=False):
        _slice(axes, name, varied[name])
    for axes in grid.flat[len(chosen) :]:
        axes.axis("off")
    for axes in grid[:, 0]:
        axes.set_ylabel(label)
    return figure


def _slice(axes: Axes, name: str, pairs: list[tuple[Any, TrialOutcome]]) -> None:
    from matplotlib.ticker import NullFormatter

    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value, _ in pairs)
    colours = [_COLOURS[each.status] for _, each in pairs]
    objectives = [_value(each) for _, each in pairs]
    if numeric:
        values = [float(value) for value, _ in pairs]
        axes.scatter(values, objectives, c=colours, s=14)
        if min(values) > 0 and max(values) / min(values) > 20:
            axes.set_xscale("log")
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


def _parallel(train: Train, outcomes: Sequence[TrialOutcome]) -> Figure:
    every = [each.config.dotted() for each in _valued(outcomes)]
    names = [name for name in _varied(outcomes) if all(name in values for values in every)]
    objectives = np.array([_value(each) for each in _valued(outcomes)])
    figure, axes = _new(2.0 + 1.3 * (len(names) + 1), 4.6)
    axes.set_title(f"Parallel coordinates, coloured by {train.search.objective}")
    if not len(objectives):
        return figure
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
    figure.colorbar(
        ScalarMappable(norm, "viridis" if _maximize(train) else "viridis_r"), ax=axes, label=train.search.objective
    )
    return figure


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


def _importance(train: Train, outcomes: Sequence[TrialOutcome]) -> Figure:
    """Optuna's importances of what every completed or pruned trial was asked (PED-ANOVA; Watanabe et al., 2023)."""
    found = _importances(train, outcomes)
    figure, axes = _new(7.0, 1.2 + 0.3 * max(3, len(found)))
    axes.set_title(f"Importance for {train.search.objective} (PED-ANOVA)")
    if not found:
        axes.axis("off")
        axes.text(
            0.5,
            0.5,
            f"too few trials with a value (fewer than {_ENOUGH_FOR_IMPORTANCE}) to tell",
            ha="center",
            transform=axes.transAxes,
        )
        return figure
    names = list(reversed(found))
    axes.barh([_short(name) for name in names], [found[name] for name in names], color=_COLOURS["complete"])
    axes.set_xlabel("share")
    return figure


def _importances(train: Train, outcomes: Sequence[TrialOutcome]) -> dict[str, float]:
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
            return dict(optuna.importance.get_param_importances(study))
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
