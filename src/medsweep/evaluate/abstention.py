"""Part: how much more often the model is right where it may leave the unsure images to a person."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medsweep.artifacts.section import Cell, Figure, Section, Table
from medsweep.drawing.figure import COLOURS, GREY, bare, figure, title
from medsweep.evaluate import shown
from medsweep.statistics.intervals import Interval, independent, resample
from medsweep.statistics.operating_points import decide
from medsweep.statistics.proportions import Proportion, proportion
from medsweep.statistics.selective import Selective, best_area, confidence_of

if TYPE_CHECKING:
    from medsweep.evaluate.parts import Evaluated

NAME = "abstention"


@dataclass(frozen=True)
class _Row:
    """What answering only above one confidence gives.

    Args:
        wanted: the share of validation images that the cut leaves.
        cut: the least confidence that is answered.
        answered: of the test split's answers.
        right: among the answered.
        validation: the accuracy on validation; NaN where nothing is left.
    """

    wanted: float
    cut: float
    answered: Proportion
    right: Proportion
    validation: float


@dataclass(frozen=True)
class _Answers:
    """Answers, one an image (multi-label: one an image and label), with who they are of."""

    wrong: NDArray[np.bool_]
    confidence: NDArray[np.float64]
    groups: NDArray[Any]


def abstention(at: Evaluated) -> Section:
    """Accuracy against coverage, the area under the risk-coverage curve, and cuts that validation chose."""
    manifest, split, validation = at.manifest, at.split, at.validation
    own = _answers(at, split.labels, at.probabilities, at.decisions, split.groups)
    decided = decide(split.task, validation.probabilities, manifest.threshold)
    patients = np.where(validation.patient_ids == "", validation.record_ids, validation.patient_ids)
    past = _answers(at, validation.labels, validation.probabilities, decided, patients)
    selective = Selective(own.wrong, own.confidence)
    area = _area(at, selective, own)
    rows = [_row(at, wanted, past, own) for wanted in at.params.evaluate.abstention.coverages]
    best = best_area(int(own.wrong.sum()), len(own.wrong))
    curve = selective.curve()
    return Section(
        name=NAME,
        title="Abstention",
        words=_words(at, rows, area, best, own),
        warnings=_warnings(at, own),
        tables=(_table(rows, at.report.confidence),),
        figures=(_figure(at, selective, own, rows, area),),
        values={
            "aurc": shown.values(area),
            "best_aurc": shown.value(best),
            "error": shown.value(float(own.wrong.mean())),
            "curve": {
                "coverage": [shown.value(each) for each in _thinned(curve.coverage)],
                "accuracy": [shown.value(1 - each) for each in _thinned(curve.risk)],
            },
            "cuts": [
                {
                    "coverage_on_validation": row.wanted,
                    "coverage": shown.values(row.answered.interval),
                    "accuracy": shown.values(row.right.interval),
                }
                for row in rows
            ],
        },
    )


def _answers(
    at: Evaluated, labels: NDArray[Any], probabilities: NDArray[Any], decisions: NDArray[Any], groups: NDArray[Any]
) -> _Answers:
    confidence = confidence_of(at.split.task, probabilities, at.manifest.threshold)
    wrong = np.asarray(decisions != labels)
    if wrong.ndim == 2:
        groups = np.repeat(groups, wrong.shape[1])
    return _Answers(wrong.ravel(), confidence.ravel(), groups)


def _area(at: Evaluated, selective: Selective, own: _Answers) -> Interval:
    value = float(selective.area(np.ones((len(own.wrong), 1)))[0])
    if len(np.unique(own.groups)) < 2:
        return Interval(value, float("nan"), float("nan"), 0)
    known = at.params.evaluate.bootstrap
    drawn = resample(
        lambda weights: {"aurc": selective.area(weights)},
        own.groups,
        samples=known.samples,
        seed=known.seed,
        method=known.method,
        patients=independent(own.groups),
    )
    return drawn["aurc"].interval(known.confidence)


def _row(at: Evaluated, wanted: float, past: _Answers, own: _Answers) -> _Row:
    """The cut that leaves the share `wanted` of the validation images, on the test split."""
    cut = -math.inf
    if wanted < 1.0 and len(past.confidence):
        falling = np.sort(past.confidence)[::-1]
        cut = float(falling[max(0, math.ceil(wanted * len(falling) - 1e-9) - 1)])
    kept, left = own.confidence >= cut, past.confidence >= cut
    confidence = at.report.confidence
    return _Row(
        wanted=wanted,
        cut=cut,
        answered=proportion(kept, own.groups, confidence),
        right=proportion(~own.wrong[kept], own.groups[kept], confidence),
        validation=float((~past.wrong[left]).mean()) if left.any() else float("nan"),
    )


def _words(at: Evaluated, rows: list[_Row], area: Interval, best: float, own: _Answers) -> tuple[str, ...]:
    what = "answers" if at.split.task == "multilabel" else "images"
    everything = 1.0 - float(own.wrong.mean())
    found = []
    if not own.wrong.any():
        found.append(f"The model makes no mistake on these {what}, so there is nothing to be won by abstaining.")
    elif np.ptp(own.confidence) == 0:
        found.append("The model is equally sure of everything, so it cannot choose what to leave to a person.")
    else:
        known = [row for row in rows if row.wanted < 1.0 and row.right.n]
        if known:
            row = min(known, key=lambda each: abs(each.wanted - 0.8))
            found.append(
                f"Answering all {what}, the model is right in {shown.percent(everything)}. Where it may leave the "
                f"{shown.percent(1 - row.wanted, 0)} that it is least sure of (a cut from validation) to a person, it "
                f"answers {shown.percent(row.answered.successes / row.answered.n)} of the test split's and is right in "
                f"{shown.percent(row.right.successes / row.right.n)} of those "
                f"({100 * at.report.confidence:g} % interval {shown.percent(row.right.interval.low)} to "
                f"{shown.percent(row.right.interval.high)})."
            )
        guess = float(own.wrong.mean())
        found.append(
            f"The area under the risk-coverage curve (AURC) is {shown.interval(area)}: {best:.3f} is the best that the "
            f"same mistakes allow, {guess:.3f} what choosing at random would give."
        )
        if area.value >= guess:
            found.append("Its confidence tells right from wrong no better than chance: abstaining by it does not help.")
    found.append(
        "The cuts are fitted on validation; the curve shows all that would be possible on the test split, and no cut "
        "may be chosen from it."
    )
    return tuple(found)


def _warnings(at: Evaluated, own: _Answers) -> tuple[str, ...]:
    found = shown.few_patients(at.split)
    n_wrong = int(own.wrong.sum())
    if 0 < n_wrong < shown.FEW:
        found.append(f"There are only {shown.counted(n_wrong, 'mistake')}: how they are ranked is largely chance.")
    return tuple(found)


def _table(rows: list[_Row], confidence: float) -> Table:
    heads = ("left by the cut on validation", "accuracy there", "answered in the test split", "accuracy among them")
    body: list[tuple[Cell, ...]] = [
        (
            shown.percent(row.wanted, 0),
            round(row.validation, 3) if math.isfinite(row.validation) else None,
            shown.interval(row.answered.interval),
            shown.interval(row.right.interval) if row.right.n else "nothing is answered",
        )
        for row in rows
    ]
    caption = f"Answering only where the model is sure enough; in brackets {100 * confidence:g} % intervals"
    return Table(caption, heads, tuple(body))


def _thinned(values: NDArray[np.float64], points: int = 200) -> NDArray[np.float64]:
    kept = np.unique(np.round(np.linspace(0, len(values) - 1, min(points, len(values)))).astype(int))
    return np.asarray(values[kept])


def _figure(at: Evaluated, selective: Selective, own: _Answers, rows: list[_Row], area: Interval) -> Figure:
    curve = selective.curve()
    base = 1.0 - float(own.wrong.mean())
    alt = (
        f"Accuracy against coverage: {base:.3f} when everything is answered. "
        + " ".join(
            f"At {shown.percent(row.wanted, 0)} left on validation, {row.answered.interval.value:.3f} answered with "
            f"accuracy {shown.interval(row.right.interval)}."
            for row in rows
            if row.right.n
        )
        + f" AURC {shown.interval(area)}."
    )
    with figure(at.plots / f"{NAME}.svg", at.signature, alt=alt, size=(6.4, 4.4)) as drawn:
        axes = drawn.add_subplot()
        axes.axhline(base, color=GREY, linewidth=1.2, linestyle=":", label="chosen at random")
        # The surest few make the curve jump: drawn, but faint where fewer than ten answers are left.
        few = curve.coverage * len(own.wrong) < shown.FEW
        axes.plot(curve.coverage, 1 - curve.risk, color=COLOURS[0], linewidth=1.0, alpha=0.35)
        axes.plot(curve.coverage[~few], 1 - curve.risk[~few], color=COLOURS[0], linewidth=1.8, label="the model")
        known = [row for row in rows if row.right.n]
        for index, row in enumerate(known):
            x, each = row.answered.interval.value, row.right.interval
            axes.plot([x, x], [each.low, each.high], color=COLOURS[1], linewidth=1.6)
            axes.plot([x], [each.value], "o", color=COLOURS[1], label="cuts from validation" if index == 0 else None)
        lowest = min([base, *(row.right.interval.low for row in known), *(1 - curve.risk[~few])])
        axes.set(xlim=(0, 1.02), ylim=(max(0.0, lowest - 0.05), 1.01))
        axes.set_xlabel("coverage: share that is answered")
        axes.set_ylabel("accuracy among them")
        axes.grid(color="#E6E6E6")
        axes.set_axisbelow(True)
        title(axes, "Abstention")
        axes.legend(fontsize=8, frameon=False, loc="lower left")
        bare(axes)
    return Figure(
        f"plots/{NAME}.svg",
        alt,
        f"Accuracy among answered images against their share; bars: {100 * at.report.confidence:g} % intervals",
    )
