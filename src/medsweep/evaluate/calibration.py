"""Part: whether probabilities mean what they say, before and after the temperature that train fitted."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medsweep.artifacts.section import Cell, Figure, Section, Table
from medsweep.drawing.figure import COLOURS, DOTTED, GREY, bare, figure, shortened, title
from medsweep.evaluate import shown
from medsweep.statistics import metrics
from medsweep.statistics.calibration import (
    BINS,
    BrierParts,
    Reliability,
    brier_parts,
    chance_ece,
    confidence_and_outcome,
    recalibration,
    reliability,
)
from medsweep.statistics.temperature import untempered

if TYPE_CHECKING:
    from medsweep.evaluate.parts import Evaluated

NAME = "calibration"
_DRAWS = 500
_PANELS = 9


@dataclass(frozen=True)
class _View:
    """One reliability diagram: whose, and what was claimed of which outcome."""

    name: str
    diagram: Reliability
    parts: BrierParts


@dataclass(frozen=True)
class _State:
    """Calibration with or without the temperature."""

    name: str
    figures: dict[str, float]
    views: list[_View]


def calibration(at: Evaluated) -> Section:
    """ECE, the Brier score's decomposition and reliability diagrams, before and after the temperature."""
    task, labels, temperature = at.split.task, at.split.labels, at.manifest.temperature
    states = [_state(at, "with the temperature" if temperature != 1.0 else "as the model says", at.probabilities)]
    if temperature != 1.0:
        before = untempered(task, at.probabilities, temperature)
        states.insert(0, _state(at, "without the temperature", before))
    confidence, _ = confidence_and_outcome(labels, at.probabilities, task)
    by_chance = chance_ece(confidence, BINS, draws=_DRAWS, seed=at.params.evaluate.bootstrap.seed)
    return Section(
        name=NAME,
        title="Calibration",
        words=_words(at, states, by_chance),
        warnings=_warnings(at, states),
        tables=(_table(states), *_validation_table(at), _bins_table(states[-1])),
        figures=(_figure(at, states),),
        values={
            "temperature": temperature,
            **{
                name: {
                    **{key: shown.value(number) for key, number in state.figures.items()},
                    "brier_parts": {
                        view.name: {key: shown.value(number) for key, number in view.parts.__dict__.items()}
                        for view in state.views
                    },
                }
                for name, state in zip(("before", "after") if len(states) > 1 else ("after",), states, strict=True)
            },
            "chance_ece": {"mean": shown.value(by_chance.mean()), "high": shown.value(np.quantile(by_chance, 0.95))},
            "validation": dict(at.manifest.calibration),
        },
    )


def _state(at: Evaluated, name: str, probabilities: NDArray[np.float64]) -> _State:
    found = metrics.evaluate_all(at.split.task, at.split.labels, probabilities, at.decisions)
    figures = {key: found[key] for key in ("ece", "brier", "log_loss", "auroc")}
    bins = at.params.evaluate.calibration_bins
    return _State(name, figures | _logistic(at, probabilities), _views(at, probabilities, bins))


def _logistic(at: Evaluated, probabilities: NDArray[np.float64]) -> dict[str, float]:
    """Cox's intercept and slope where the task is one question; several classes would need one each."""
    if at.split.task != "binary":
        return {}
    intercept, slope = recalibration(at.split.labels == 1, probabilities[:, 1])
    return {"intercept": intercept, "slope": slope}


def _views(at: Evaluated, probabilities: NDArray[np.float64], bins: int) -> list[_View]:
    """One of the positive class, one of the most probable class of several, or one a label."""
    task, labels, names = at.split.task, at.split.labels, at.split.class_names
    confidence, outcome = confidence_and_outcome(labels, probabilities, task)
    if task == "multilabel":
        views = []
        for k, name in enumerate(names):
            own = np.stack([1.0 - probabilities[:, k], probabilities[:, k]], axis=1)
            diagram = reliability(labels[:, k].astype(np.int64), own, "binary", bins)
            views.append(_View(name, diagram, brier_parts(confidence[:, k], outcome[:, k], bins)))
        return views
    name = names[1] if task == "binary" else "most probable class"
    return [_View(name, reliability(labels, probabilities, task, bins), brier_parts(confidence, outcome, bins))]


def _words(at: Evaluated, states: list[_State], by_chance: NDArray[np.float64]) -> tuple[str, ...]:
    last, high = states[-1].figures["ece"], float(np.quantile(by_chance, 0.95))
    found = [
        f"Stated probabilities and observed frequencies lie {last:.3f} apart on average (ECE, {BINS} bins). With so "
        f"many images a perfectly calibrated model would show {by_chance.mean():.3f} by chance, and up to {high:.3f} "
        "in 19 of 20 such test splits: "
        + (
            "these images cannot tell the model from a calibrated one."
            if last <= high
            else "the model's probabilities are off by more than chance."
        )
    ]
    if len(states) > 1:
        before = states[0].figures["ece"]
        went = "falls" if last < before - 1e-9 else "rises" if last > before + 1e-9 else "stays"
        found.append(
            f"The temperature {at.manifest.temperature:.4g}, fitted on validation, is built into the model. Without it "
            f"ECE on the test split would be {before:.3f}: with it, it {went} at {last:.3f}; AUROC is "
            f"{_figure_of(states[0].figures['auroc'])} without and {_figure_of(states[-1].figures['auroc'])} with it."
            if went == "stays"
            else f"The temperature {at.manifest.temperature:.4g}, fitted on validation, is built into the model. With "
            f"it, ECE on the test split {went} from {before:.3f} to {last:.3f}; AUROC is "
            f"{_figure_of(states[0].figures['auroc'])} without and {_figure_of(states[-1].figures['auroc'])} with it."
        )
    else:
        fitted = at.manifest.calibration.get("temperature_fitted")
        refused = fitted is not None and fitted != 1.0
        found.append(
            f"The model has no temperature: the one that was fitted ({fitted:.4g}) would have made validation worse."
            if refused
            else "The model has no temperature."
        )
    slope, intercept = states[-1].figures.get("slope"), states[-1].figures.get("intercept")
    if slope is not None and intercept is not None and math.isfinite(slope) and math.isfinite(intercept):
        sure = (
            "too sure of itself"
            if slope < 0.95
            else "less sure than it could be"
            if slope > 1.05
            else "about as sure as it may be"
        )
        level = "too high" if intercept < -0.05 else "too low" if intercept > 0.05 else "right"
        found.append(
            f"Calibration slope {slope:.2f} (1 is ideal): the model is {sure}. Calibration in the large "
            f"{intercept:.2f} (0 is ideal): on the whole its probabilities are {level} here."
        )
    return tuple(found)


def _figure_of(number: float) -> str:
    return f"{number:.4f}" if math.isfinite(number) else "undefined"


def _warnings(at: Evaluated, states: list[_State]) -> tuple[str, ...]:
    found = [f"In the test split {each.lacks}." for each in shown.questions(at.split, at.probabilities) if each.lacks]
    found += shown.few_patients(at.split)
    filled = int((states[-1].views[0].diagram.count > 0).sum())
    if filled < 2:
        found.append("All images fall into one bin of the reliability diagram: it can say nothing about the others.")
    if len(states) > 1 and states[1].figures["ece"] > states[0].figures["ece"] + 0.01:
        found.append(
            "The temperature that helped on validation makes calibration on the test split worse: the splits differ."
        )
    return tuple(found)


def _table(states: list[_State]) -> Table:
    heads = ["of", "", "ECE", "Brier score", "reliability", "resolution", "uncertainty", "within bins", "log-loss"]
    rows: list[tuple[Cell, ...]] = []
    for state in states:
        several = len(state.views) > 1
        for view in state.views:
            parts = view.parts
            numbers = (parts.brier, parts.reliability, parts.resolution, parts.uncertainty, parts.within_bins)
            whole = (state.figures["ece"], state.figures["log_loss"])
            cells = [_cell(each) for each in numbers]
            rows.append((view.name, state.name, None if several else _cell(whole[0]), *cells,
                         None if several else _cell(whole[1])))  # fmt: skip
        if several:
            figures = state.figures
            rows.append(("all labels", state.name, _cell(figures["ece"]), _cell(figures["brier"]), None, None, None,
                         None, _cell(figures["log_loss"])))  # fmt: skip
    caption = (
        "Calibration on the test split. Brier score = reliability - resolution + uncertainty + within bins (Murphy, "
        "1973); lower is better, but for resolution"
    )
    return Table(caption, tuple(heads), tuple(rows))


def _validation_table(at: Evaluated) -> tuple[Table, ...]:
    facts = at.manifest.calibration
    if not facts:
        return ()
    rows = [
        (title_of, _cell(facts.get(f"{name}_before")), _cell(facts.get(f"{name}_after")))
        for name, title_of in (("ece", "ECE"), ("log_loss", "log-loss"), ("auroc", "AUROC"))
    ]
    caption = "What the temperature did on validation, where it was fitted"
    return (Table(caption, ("", "without", "with it, if it was kept"), tuple(rows)),)


def _bins_table(state: _State) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for view in state.views[:_PANELS]:
        known = view.diagram
        for index in np.flatnonzero(known.count):
            rows.append((view.name, f"{known.centre[index] - 0.5 / len(known.count):.2f} to "
                         f"{known.centre[index] + 0.5 / len(known.count):.2f}", int(known.count[index]),
                         _cell(known.confidence[index]), _cell(known.observed[index])))  # fmt: skip
    heads = ("of", "claimed", "images", "mean claimed probability", "observed share")
    return Table("The reliability diagram's bins, empty ones left out", heads, tuple(rows))


def _cell(number: Any) -> float | None:
    return None if number is None or not math.isfinite(number) else round(float(number), 4)


def _figure(at: Evaluated, states: list[_State]) -> Figure:
    views = len(states[-1].views[:_PANELS])
    columns = min(3, views)
    rows = math.ceil(views / columns)
    alt = "Reliability diagram: observed share against claimed probability. " + " ".join(
        f"{state.name[0].upper()}{state.name[1:]} ECE is {state.figures['ece']:.3f}." for state in states
    )
    size = (5.6, 5.6) if views == 1 else (3.3 * columns + 0.4, 3.3 * rows + 0.6)
    with figure(at.plots / "reliability.svg", at.signature, alt=alt, size=size) as drawn:
        for index in range(views):
            axes = drawn.add_subplot(rows, columns, index + 1)
            axes.plot(
                [0, 1], [0, 1], color=GREY, linewidth=1, linestyle=DOTTED, label="perfect" if index == 0 else None
            )
            for place, state in enumerate(states):
                known = state.views[index].diagram
                there = known.count > 0
                late = place == len(states) - 1
                axes.plot(
                    known.confidence[there],
                    known.observed[there],
                    color=COLOURS[0 if late else 1],
                    linestyle="-" if late else "--",
                    linewidth=1.6,
                    alpha=1.0 if late else 0.8,
                    label=f"{state.name}: ECE {state.figures['ece']:.3f}" if index == 0 else None,
                )
                # As large as there are images, so that a dot of three does not look like one of a hundred.
                sizes = 12 + 160 * known.count[there] / known.count.sum()
                axes.scatter(known.confidence[there], known.observed[there], s=sizes, color=COLOURS[0 if late else 1],
                             alpha=0.55, linewidths=0)  # fmt: skip
            axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="claimed probability", ylabel="observed share")
            title(axes, "Reliability" if views == 1 else shortened(states[-1].views[index].name, 26))
            axes.grid(color="#E6E6E6")
            axes.set_axisbelow(True)
            if index == 0:
                axes.legend(loc="upper left", fontsize=8, frameon=False)
            bare(axes)
    return Figure(
        "plots/reliability.svg", alt, "Observed share against claimed probability; the larger a dot, the more images"
    )
