"""Part: what each way to decide, fitted on validation, does on the test split."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medsweep.artifacts.section import Cell, Figure, Section, Table
from medsweep.drawing.figure import COLOURS, GREY, bare, figure, title
from medsweep.evaluate import shown
from medsweep.evaluate.shown import Question
from medsweep.statistics.proportions import Proportion, proportion

if TYPE_CHECKING:
    from medsweep.artifacts.trained import OperatingPoint
    from medsweep.evaluate.parts import Evaluated

NAME = "operating_points"
_RATES = ("sensitivity", "specificity", "ppv", "npv")


@dataclass(frozen=True)
class _Row:
    """One way to decide one question."""

    way: str
    question: Question
    threshold: float | None
    counts: tuple[int, int, int, int]
    rates: dict[str, Proportion]
    validation: dict[str, float | None]
    promised: tuple[str, float] | None


def operating_points(at: Evaluated) -> Section:
    """Confusion, sensitivity, specificity and predictive values at each operating point, with intervals.

    The thresholds are those that train stored: nothing is fitted here.
    """
    asked = shown.questions(at.split, at.probabilities)
    confidence = at.report.confidence
    groups = at.split.groups
    rows = [_row(_decided(at, k), each, _main_threshold(at, k), groups, confidence) for k, each in enumerate(asked)]
    for point in at.manifest.operating_points:
        for k, each in enumerate(asked):
            called = each.scores >= point.thresholds[k]
            rows.append(_row(called, each, point.thresholds[k], groups, confidence, point, k))
    rows.sort(key=lambda row: [each.name for each in asked].index(row.question.name))
    several = len(asked) > 1
    return Section(
        name=NAME,
        title="Operating points",
        words=_words(at, rows, several),
        warnings=_warnings(at, asked, rows),
        tables=(_table(rows, several, confidence),),
        figures=() if several else (_figure(at, rows),),
        values={"points": [_values(row) for row in rows]},
    )


def _decided(at: Evaluated, k: int) -> NDArray[np.bool_]:
    """(N,) where the question k was decided with yes."""
    if at.split.task == "multilabel":
        return np.asarray(at.decisions[:, k] == 1)
    return np.asarray(at.decisions == (1 if at.split.task == "binary" else k))


def _main_threshold(at: Evaluated, k: int) -> float | None:
    return at.manifest.threshold[k] if at.manifest.threshold else None


def _row(
    called: NDArray[np.bool_],
    question: Question,
    threshold: float | None,
    groups: NDArray[Any],
    confidence: float,
    point: OperatingPoint | None = None,
    k: int = 0,
) -> _Row:
    there = question.positive
    counts = [int((called & there).sum()), int((called & ~there).sum())]
    counts += [int((~called & there).sum()), int((~called & ~there).sum())]
    # Each rate: whether it was right, among which images.
    asked = {"sensitivity": (called, there), "specificity": (~called, ~there), "ppv": (there, called)}
    asked["npv"] = (~there, ~called)
    promised = None
    if point is not None and point.target is not None and point.rule in ("sensitivity", "specificity"):
        promised = (point.rule, point.target)
    return _Row(
        way="as decided" if point is None else point.title,
        question=question,
        threshold=threshold,
        counts=(counts[0], counts[1], counts[2], counts[3]),
        rates={name: proportion(right[among], groups[among], confidence) for name, (right, among) in asked.items()},
        validation={
            "sensitivity": point.sensitivity[k] if point else None,
            "specificity": point.specificity[k] if point else None,
        },
        promised=promised,
    )


def _words(at: Evaluated, rows: list[_Row], several: bool) -> tuple[str, ...]:
    main = rows[0]
    sensitivity, specificity = main.rates["sensitivity"], main.rates["specificity"]
    found = []
    if several:
        found.append(
            "Each class is taken against the rest. Decisions are for the most probable class; the other rows show what "
            "a threshold on the class's own probability, fitted on validation, would do."
            if at.split.task != "multilabel"
            else "Each label has thresholds of its own, fitted on validation; the rows show what each does here."
        )
    else:
        found.append(
            f"As decided, the model finds {sensitivity.successes} of {sensitivity.n} '{main.question.name}' images "
            f"(sensitivity {shown.interval(sensitivity.interval)}) and spares {specificity.successes} of "
            f"{specificity.n} others (specificity {shown.interval(specificity.interval)})."
        )
    found += [_kept(row, several) for row in rows if row.promised is not None and row.question.lacks is None]
    if not at.manifest.operating_points:
        found.append("train.operating_points is empty, so train stored no further thresholds.")
    found.append(
        "Every threshold was fitted on validation and is only applied here. Predictive values hold for a prevalence "
        "like this test split's; where the finding is rarer, the positive one is lower."
    )
    return tuple(found)


def _kept(row: _Row, several: bool) -> str:
    """Whether what a point was fitted for is kept here, as far as the test split can tell."""
    assert row.promised is not None
    name, target = row.promised
    rate = row.rates[name].interval
    of = f" of '{row.question.name}'" if several else ""
    reached = f"The threshold for a {name} of at least {target:g}{of} reaches {shown.interval(rate)} on the test split"
    if not math.isfinite(rate.value):
        return f"{reached}."
    if rate.value >= target:
        return f"{reached}: it keeps its promise."
    if rate.high >= target:
        return f"{reached}: below its promise, by no more than chance allows."
    return f"{reached}: it does not keep its promise, and by more than chance allows."


def _warnings(at: Evaluated, asked: list[Question], rows: list[_Row]) -> tuple[str, ...]:
    found = [f"In the test split {each.lacks}." for each in asked if each.lacks]
    found += shown.few_patients(at.split)
    for each in asked:
        for kind, n in ((f"'{each.name}'", int(each.positive.sum())), ("other", int((~each.positive).sum()))):
            if 0 < n < shown.FEW:
                found.append(
                    f"There are only {shown.counted(n, f'{kind} image')}: rates among them are very uncertain."
                )
    found += [f"{each.name}: all images have the same probability, so no threshold parts them."
              for each in asked if len(each.scores) > 1 and np.ptp(each.scores) == 0]  # fmt: skip
    broken = [row for row in rows if row.promised and row.rates[row.promised[0]].interval.high < row.promised[1]]
    if broken:
        found.append(
            f"{shown.counted(len(broken), 'threshold')} fitted on validation did not keep the promise on the test "
            "split: the test images differ from the validation images in what matters here."
        )
    return tuple(found)


def _table(rows: list[_Row], several: bool, confidence: float) -> Table:
    heads = ["way to decide", "threshold", "true positives", "false positives", "false negatives", "true negatives"]
    heads += ["sensitivity", "specificity", "PPV", "NPV", "sensitivity on validation", "specificity on validation"]
    body = []
    for row in rows:
        cells: list[Cell] = [row.question.name] if several else []
        cells += [row.way, None if row.threshold is None else round(row.threshold, 4), *row.counts]
        cells += [shown.interval(row.rates[name].interval) for name in _RATES]
        cells += [None if each is None else round(each, 3) for each in row.validation.values()]
        body.append(tuple(cells))
    caption = (
        f"What each way to decide does on the test split; in brackets {100 * confidence:g} % intervals (Wilson's, "
        "widened where images of a patient agree)"
    )
    return Table(caption, (*(["class"] if several else []), *heads), tuple(body))


def _values(row: _Row) -> dict[str, Any]:
    return {
        "class": row.question.name,
        "way": row.way,
        "threshold": row.threshold,
        "counts": dict(zip(("tp", "fp", "fn", "tn"), row.counts, strict=True)),
        **{name: shown.values(each.interval) for name, each in row.rates.items()},
        "validation": row.validation,
    }


def _figure(at: Evaluated, rows: list[_Row]) -> Figure:
    alt = "Sensitivity and specificity on the test split with intervals. " + " ".join(
        f"{row.way}: {shown.interval(row.rates['sensitivity'].interval)} and "
        f"{shown.interval(row.rates['specificity'].interval)}."
        for row in rows
    )
    with figure(at.plots / f"{NAME}.svg", at.signature, alt=alt, size=(7.4, 1.6 + 0.5 * len(rows))) as drawn:
        axes = drawn.add_subplot()
        places = np.arange(len(rows))[::-1]
        for index, name in enumerate(("sensitivity", "specificity")):
            for place, row in zip(places, rows, strict=True):
                each, y = row.rates[name].interval, place + (0.14 if index == 0 else -0.14)
                if not math.isfinite(each.value):
                    continue
                axes.plot([each.low, each.high], [y, y], color=COLOURS[index], linewidth=1.8)
                axes.plot([each.value], [y], "o", color=COLOURS[index], label=name if place == places[0] else None)
                if row.validation[name] is not None:
                    axes.plot([row.validation[name]], [y], "|", color=GREY, markersize=12, markeredgewidth=2)
        axes.plot([], [], "|", color=GREY, markersize=12, markeredgewidth=2, label="on validation")
        axes.set_yticks(places, [row.way for row in rows])
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.6, len(rows) - 0.4), xlabel="rate, test split")
        axes.grid(axis="x", color="#E6E6E6")
        axes.set_axisbelow(True)
        title(axes, "Operating points")
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), fontsize=8, frameon=False)
        bare(axes)
    return Figure(
        f"plots/{NAME}.svg",
        alt,
        f"Rates at each threshold, with {100 * at.report.confidence:g} % intervals; bars: validation",
    )
