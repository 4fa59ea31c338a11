"""Part: whether deciding by the model does more good than treating everybody or nobody (Vickers & Elkin, 2006)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medsweep.artifacts.section import Cell, Figure, Section, Table
from medsweep.drawing.figure import COLOURS, GREY, bare, figure, shortened, title
from medsweep.evaluate import shown
from medsweep.evaluate.shown import Question
from medsweep.statistics.decision_curve import DecisionCurve
from medsweep.statistics.intervals import independent, resample
from medsweep.statistics.weighted import Floats

if TYPE_CHECKING:
    from medsweep.evaluate.parts import Evaluated

NAME = "decision_curve"
_STEP = 0.01
_SHOWN = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
_PANELS = 9


@dataclass(frozen=True)
class _Curve:
    """One question's net benefit: each (T,). `gain` is over the better of treating everybody and nobody."""

    question: Question
    model: Floats
    everybody: Floats
    low: Floats
    high: Floats
    gain_low: Floats


def decision_curve(at: Evaluated) -> Section:
    """Net benefit over threshold probabilities, with intervals by resampling patients."""
    known = at.params.evaluate.decision_curve
    n = round((known.high - known.low) / _STEP) + 1
    thresholds = np.round(known.low + _STEP * np.arange(n), 4)
    asked = shown.questions(at.split, at.probabilities)
    whole = [each for each in asked if each.lacks is None]
    curves = []
    for index, each in enumerate(whole):
        curves.append(_curve(at, each, thresholds))
        at.advance((index + 1) / len(whole))
    return Section(
        name=NAME,
        title="Decision curve",
        words=_words(at, curves, thresholds),
        warnings=(*(f"In the test split {each.lacks}." for each in asked if each.lacks), *shown.few_patients(at.split)),
        tables=(_table(at, curves, thresholds),) if curves else (),
        figures=(_figure(at, curves, thresholds),) if curves else (),
        values={
            "thresholds": [float(each) for each in thresholds],
            "curves": {
                curve.question.name: {
                    name: [shown.value(each) for each in getattr(curve, name)]
                    for name in ("model", "everybody", "low", "high")
                }
                for curve in curves
            },
        },
    )


def _curve(at: Evaluated, question: Question, thresholds: Floats) -> _Curve:
    curve = DecisionCurve(question.positive, question.scores, thresholds)
    model, everybody = (each[:, 0] for each in curve.net_benefit(np.ones((len(question.scores), 1))))
    if len(np.unique(at.split.groups)) < 2:
        nothing = np.full(len(thresholds), np.nan)
        return _Curve(question, model, everybody, nothing, nothing, nothing)

    def statistic(weights: Floats) -> dict[tuple[str, int], Floats]:
        benefit, treated = curve.net_benefit(weights)
        gain = benefit - np.maximum(treated, 0.0)
        found = {("model", t): benefit[t] for t in range(len(thresholds))}
        return found | {("gain", t): gain[t] for t in range(len(thresholds))}

    known = at.params.evaluate.bootstrap
    drawn = resample(
        statistic,
        at.split.groups,
        samples=known.samples,
        seed=known.seed,
        method="percentile",
        patients=independent(at.split.groups),
    )
    ends = [drawn["model", t].interval(known.confidence) for t in range(len(thresholds))]
    gains = [drawn["gain", t].interval(known.confidence).low for t in range(len(thresholds))]
    return _Curve(
        question,
        model,
        everybody,
        np.array([each.low for each in ends]),
        np.array([each.high for each in ends]),
        np.array(gains),
    )


def _words(at: Evaluated, curves: list[_Curve], thresholds: Floats) -> tuple[str, ...]:
    if not curves:
        return ("There is no decision curve: the test split lacks one kind of image for every class.",)
    found = []
    for curve in curves:
        better = curve.model > np.maximum(curve.everybody, 0.0) + 1e-12
        sure = better & (curve.gain_low > 0)
        who = f"For '{curve.question.name}' the" if len(curves) > 1 else "The"
        if not better.any():
            found.append(f"{who} model never has a higher net benefit than treating everybody or nobody.")
            continue
        said = f"{who} model has the highest net benefit at threshold probabilities of {_spans(better, thresholds)}"
        if sure.all():
            found.append(f"{said}, and surely so at all of them.")
        elif sure.any():
            found.append(f"{said}; beyond what chance allows, at {_spans(sure, thresholds)}.")
        else:
            found.append(f"{said}, but nowhere beyond what chance allows.")
    found.append(
        "A threshold probability is the risk from which one would treat: at 0.1, nine needless treatments are thought "
        "to weigh as much as one that was needed. Net benefit counts true positives an image, less false positives so "
        "weighted. It takes the probabilities at their word, so look at their calibration first, and it holds for a "
        "prevalence like this test split's."
    )
    return tuple(found)


def _spans(there: np.ndarray, thresholds: Floats) -> str:
    """'0.05 to 0.42 and 0.5'."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], there.astype(int), [0]])))
    spans = []
    for first, last in zip(edges[::2], edges[1::2] - 1, strict=True):
        low, high = f"{thresholds[first]:g}", f"{thresholds[last]:g}"
        spans.append(low if low == high else f"{low} to {high}")
    return shown.listed(spans if len(spans) <= 4 else [*spans[:3], f"{len(spans) - 3} more stretches"])


def _table(at: Evaluated, curves: list[_Curve], thresholds: Floats) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for curve in curves:
        for wanted in _SHOWN:
            (place,) = np.nonzero(np.isclose(thresholds, wanted))
            if not len(place):
                continue
            t = int(place[0])
            best = max(0.0, float(curve.everybody[t]))
            odds = wanted / (1 - wanted)
            # At the same number of true positives: Vickers & Elkin's "interventions avoided".
            avoided = 100 * (float(curve.model[t]) - float(curve.everybody[t])) / odds
            interval = ""
            if math.isfinite(curve.low[t]):
                interval = f" ({curve.low[t]:.3f} to {curve.high[t]:.3f})"
            rows.append(
                (
                    *((curve.question.name,) if len(curves) > 1 else ()),
                    wanted,
                    f"{curve.model[t]:.3f}{interval}",
                    round(float(curve.everybody[t]), 3),
                    round(float(curve.model[t]) - best, 3),
                    round(avoided, 1),
                )
            )
    heads = ["threshold probability", "net benefit of the model", "of treating everybody"]
    heads += ["gain over the better of everybody and nobody", "treatments avoided in 100 images, against everybody"]
    caption = (
        f"Net benefit, true positives an image; in brackets {100 * at.report.confidence:g} % intervals (nobody: 0)"
    )
    return Table(caption, (*(["class"] if len(curves) > 1 else []), *heads), tuple(rows))


def _figure(at: Evaluated, curves: list[_Curve], thresholds: Floats) -> Figure:
    drawn_curves = curves[:_PANELS]
    columns = min(3, len(drawn_curves))
    rows = math.ceil(len(drawn_curves) / columns)
    more = len(curves) - len(drawn_curves)
    alt = "Decision curve: net benefit against the threshold probability, the model beside everybody and nobody. "
    alt += " ".join(_words(at, drawn_curves, thresholds)[:-1]) + (
        f" {more} more classes are not drawn." if more else ""
    )
    size = (6.4, 4.4) if len(drawn_curves) == 1 else (3.4 * columns + 0.4, 2.9 * rows + 0.6)
    with figure(at.plots / f"{NAME}.svg", at.signature, alt=alt, size=size) as drawn:
        for index, curve in enumerate(drawn_curves):
            axes = drawn.add_subplot(rows, columns, index + 1)
            if np.isfinite(curve.low).any():
                axes.fill_between(thresholds, curve.low, curve.high, color=COLOURS[0], alpha=0.15, linewidth=0)
            axes.plot(thresholds, curve.model, color=COLOURS[0], linewidth=1.8, label="the model")
            axes.plot(thresholds, curve.everybody, color=COLOURS[1], linewidth=1.4, linestyle="--", label="everybody")
            axes.axhline(0, color=GREY, linewidth=1.2, linestyle=":", label="nobody")
            top = max(float(curve.question.positive.mean()), float(curve.model.max()))
            axes.set(xlim=(0, 1), ylim=(-0.25 * top, 1.1 * top), xlabel="threshold probability", ylabel="net benefit")
            name = "Decision curve" if len(curves) == 1 else shortened(curve.question.name, 26)
            title(axes, name)
            if index == 0:
                axes.legend(fontsize=8, frameon=False)
            bare(axes)
    return Figure(
        f"plots/{NAME}.svg",
        alt,
        "Net benefit (true positives an image) against the threshold probability; shaded: "
        f"{100 * at.report.confidence:g} % interval",
    )
