"""Part: sets of classes that hold the true one as often as was promised, and whether they do on the test split."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medsweep.artifacts.section import Cell, Figure, Section, Table
from medsweep.drawing.figure import COLOURS, GREY, bare, figure, shortened, title
from medsweep.evaluate import shown
from medsweep.statistics.conformal import expected_coverage, nonconformity, prediction_sets
from medsweep.statistics.proportions import Proportion, proportion

if TYPE_CHECKING:
    from medsweep.artifacts.validation import ValidationPredictions
    from medsweep.evaluate.parts import Evaluated

NAME = "conformal"
_WHOLE = "all images"
MARGINAL, BY_CLASS = "one quantile for all", "one quantile a class"


@dataclass(frozen=True)
class _Group:
    """Coverage among some images.

    Args:
        kind: how the sets were made.
        name: which images.
        calibration: how many validation images the promise rests on.
        found: the share of images whose set holds the true class.
        expected: between what shares it would lie by chance if test and validation images were alike.
        sizes: (n,) of the sets.
    """

    kind: str
    name: str
    calibration: int
    found: Proportion
    expected: tuple[float, float]
    sizes: NDArray[np.int64]

    @property
    def fails(self) -> bool:
        return self.found.n > 0 and self.found.successes / self.found.n < self.expected[0] - 1e-9


def conformal(at: Evaluated) -> Section:
    """Prediction sets from the validation images' scores, and their coverage on the test split: in all, and by class.

    Multi-label: each label is a question of its own, whose set may hold yes, no, or both.
    """
    wanted = at.params.evaluate.conformal.confidence
    validation = at.validation
    groups = _multilabel(at, validation, wanted) if at.split.task == "multilabel" else _single(at, validation, wanted)
    return Section(
        name=NAME,
        title="Prediction sets",
        words=_words(at, groups, wanted, len(validation)),
        warnings=_warnings(at, groups, wanted),
        tables=(_table(groups, at.report.confidence, wanted),),
        figures=(_figure(at, groups, wanted),),
        values={"confidence": wanted, "groups": [_values(each) for each in groups]},
    )


def _single(at: Evaluated, validation: ValidationPredictions, wanted: float) -> list[_Group]:
    names, labels = at.split.class_names, at.split.labels
    known = nonconformity(validation.probabilities)[np.arange(len(validation)), validation.labels]
    candidates = nonconformity(at.probabilities)
    whole = prediction_sets(known, candidates, wanted)
    by_class = np.ones_like(whole)
    for k in range(len(names)):
        own = known[validation.labels == k]
        if len(own):
            by_class[:, [k]] = prediction_sets(own, candidates[:, [k]], wanted)
    found = []
    for kind, sets in ((MARGINAL, whole), (BY_CLASS, by_class)):
        found.append(_group(at, kind, _WHOLE, sets, labels, np.ones(len(labels), bool), known, validation, wanted))
        for k, name in enumerate(names):
            # With one quantile for all nothing is promised of a class by itself: it is shown, and not judged.
            there = labels == k
            scores, of = known, validation
            if kind == BY_CLASS:
                scores = known[validation.labels == k]
            found.append(_group(at, kind, name, sets, labels, there, scores, of, wanted, validation.labels == k))
    return found


def _group(
    at: Evaluated,
    kind: str,
    name: str,
    sets: NDArray[np.bool_],
    truth: NDArray[Any],
    there: NDArray[np.bool_],
    scores: NDArray[np.float64],
    validation: ValidationPredictions,
    wanted: float,
    own: NDArray[np.bool_] | None = None,
) -> _Group:
    """Coverage among the images `there`, their sets made from the calibration images' `scores`."""
    held = sets[np.arange(len(sets)), truth.astype(np.int64)][there]
    found = proportion(held, at.split.groups[there], at.report.confidence)
    patients = np.where(validation.patient_ids == "", validation.record_ids, validation.patient_ids)
    if own is not None and len(scores) != len(validation):
        patients = patients[own]
    # Images of one patient tell less than as many patients, in the calibration as in the test split.
    rank = np.quantile(scores, wanted) if len(scores) else 0.0
    effect = proportion(scores <= rank, patients, at.report.confidence).design_effect if len(scores) else 1.0
    n = found.n / found.design_effect
    expected = expected_coverage(len(scores) / effect, n, wanted, level=at.report.confidence)
    if kind == MARGINAL and name != _WHOLE:
        expected = (float("nan"), float("nan"))
    return _Group(kind, name, len(scores), found, expected, sets[there].sum(axis=1))


def _multilabel(at: Evaluated, validation: ValidationPredictions, wanted: float) -> list[_Group]:
    found = []
    for k, name in enumerate(at.split.class_names):
        pairs = []
        for p, labels in ((validation.probabilities, validation.labels), (at.probabilities, at.split.labels)):
            both = nonconformity(np.stack([1.0 - p[:, k], p[:, k]], axis=1))
            pairs.append((both, labels[:, k].astype(np.int64)))
        (known, truth), (candidates, labels) = pairs
        scores = known[np.arange(len(known)), truth]
        sets = prediction_sets(scores, candidates, wanted)
        found.append(_group(at, MARGINAL, name, sets, labels, np.ones(len(labels), bool), scores, validation, wanted))
    # Here each label's promise is of all images, so it is judged.
    return [
        _Group(each.kind, each.name, each.calibration, each.found, _judged(at, each, wanted), each.sizes)
        for each in found
    ]


def _judged(at: Evaluated, each: _Group, wanted: float) -> tuple[float, float]:
    n = each.found.n / each.found.design_effect
    return expected_coverage(each.calibration, n, wanted, level=at.report.confidence)


def _words(at: Evaluated, groups: list[_Group], wanted: float, n_validation: int) -> tuple[str, ...]:
    promised = shown.percent(wanted, 0)
    found = []
    if at.split.task == "multilabel":
        failing = [each.name for each in groups if each.fails]
        found.append(
            f"For each label a set of yes, no or both is given that should hold the truth in {promised} of images. "
            + (
                f"It does not for {shown.listed(failing)}: coverage fails there."
                if failing
                else "It does for every label, as far as chance allows."
            )
        )
    else:
        whole = groups[0]
        low, high = (shown.percent(each) for each in whole.expected)
        said = (
            f"the sets were made to hold the true class in {promised} of images; on the test split they do in "
            f"{shown.percent(whole.found.successes / whole.found.n)} ({whole.found.successes} of {whole.found.n}; "
            f"{100 * at.report.confidence:g} % interval {shown.percent(whole.found.interval.low)} to "
            f"{shown.percent(whole.found.interval.high)})"
        )
        begun = f"{said[0].upper()}{said[1:]}"
        chance = f"between {low} and {high}, if test images were like the {n_validation} validation images"
        over = whole.found.successes / whole.found.n > whole.expected[1] + 1e-9
        if whole.fails:
            found.append(f"Coverage fails: {said}. Chance would leave it {chance}; so they are not like them.")
        elif over:
            found.append(f"{begun}: more than promised. Chance would leave it {chance}; the test images are easier.")
        else:
            found.append(f"{begun}: the promise is kept. Chance would leave it {chance}.")
        found += _by_class_words(groups, promised)
        sizes = whole.sizes
        found.append(
            f"{shown.percent(float((sizes == 1).mean()))} of images get one class, "
            f"{shown.percent(float((sizes > 1).mean()))} several (the model cannot tell), and "
            f"{shown.percent(float((sizes == 0).mean()))} none (like no class at that confidence)."
        )
    found.append(
        "The promise holds for images that are exchangeable with the validation images (the same hospitals, scanners "
        "and patients), and for no others. The validation images also chose the model among its trials, so that their "
        "scores are a little too good, and coverage a little too low."
    )
    return tuple(found)


def _by_class_words(groups: list[_Group], promised: str) -> list[str]:
    found = []
    for kind in (MARGINAL, BY_CLASS):
        each = [group for group in groups if group.kind == kind and group.name != _WHOLE and group.found.n]
        rates = [f"{shown.percent(group.found.successes / group.found.n)} of '{group.name}'" for group in each]
        if kind == MARGINAL:
            found.append(
                f"By class that is {shown.listed(rates)}: with one quantile for all images nothing is promised of a "
                "class by itself."
            )
        else:
            failing = [group.name for group in each if group.fails]
            verdict = (
                f"coverage fails for {shown.listed(failing)}" if failing else "no class falls below by more than chance"
            )
            found.append(
                f"With a quantile for each class, {promised} is promised of each: {shown.listed(rates)}; {verdict}."
            )
    return found


def _warnings(at: Evaluated, groups: list[_Group], wanted: float) -> tuple[str, ...]:
    found = [f"In the test split {each.lacks}." for each in shown.questions(at.split, at.probabilities) if each.lacks]
    found += shown.few_patients(at.split)
    for each in groups:
        if each.fails:
            rate = shown.percent(each.found.successes / each.found.n)
            of = "" if each.name == _WHOLE else f" of '{each.name}'"
            found.append(
                f"Coverage{of} is {rate} where {shown.percent(wanted, 0)} was promised ({each.kind}): the test images "
                "are not like the validation images."
            )
        least = math.ceil(1.0 / (1.0 - wanted) - 1.0 - 1e-9)
        if each.calibration < least:
            found.append(
                f"'{each.name}' has {shown.counted(each.calibration, 'validation image')}; with fewer than {least} the "
                "class can never be left out of a set."
            )
    return tuple(found)


def _table(groups: list[_Group], confidence: float, wanted: float) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for each in groups:
        n = each.found.n
        low, high = each.expected
        sizes = each.sizes
        rows.append(
            (
                each.kind,
                each.name,
                each.calibration,
                n,
                shown.interval(each.found.interval),
                None if math.isnan(low) else f"{low:.3f} to {high:.3f}",
                None if math.isnan(low) or not n else "fails" if each.fails else "kept",
                round(float(sizes.mean()), 2) if n else None,
                round(float((sizes == 1).mean()), 3) if n else None,
                round(float((sizes == 0).mean()), 3) if n else None,
            )
        )
    heads = ["sets", "images", "validation images", "test images", "coverage", "expected by chance", "promise"]
    heads += ["mean size", "share with one class", "share with none"]
    caption = (
        f"Coverage of prediction sets made for {shown.percent(wanted, 0)}; in brackets {100 * confidence:g} % binomial "
        "intervals (Wilson's, widened where images of a patient agree)"
    )
    return Table(caption, tuple(heads), tuple(rows))


def _values(each: _Group) -> dict[str, Any]:
    n = each.found.n
    return {
        "sets": each.kind,
        "images": each.name,
        "n": n,
        "covered": each.found.successes,
        "coverage": shown.values(each.found.interval),
        "expected": [shown.value(end) for end in each.expected],
        "fails": each.fails,
        "mean_size": shown.value(float(each.sizes.mean())) if n else None,
    }


def _figure(at: Evaluated, groups: list[_Group], wanted: float) -> Figure:
    drawn_groups = [each for each in groups if each.found.n][:30]
    alt = f"Coverage of prediction sets with intervals; {shown.percent(wanted, 0)} was promised. " + " ".join(
        f"{each.name} ({each.kind}): {shown.interval(each.found.interval)}." for each in drawn_groups[:8]
    )
    size = (7.0, 1.5 + 0.34 * len(drawn_groups))
    with figure(at.plots / f"{NAME}.svg", at.signature, alt=alt, size=size) as drawn:
        axes = drawn.add_subplot()
        places = np.arange(len(drawn_groups))[::-1]
        for place, each in zip(places, drawn_groups, strict=True):
            colour = COLOURS[1] if each.fails else COLOURS[0]
            if not math.isnan(each.expected[0]):
                axes.plot(each.expected, [place, place], color="#DDDDDD", linewidth=10, solid_capstyle="butt")
            known = each.found.interval
            axes.plot([known.low, known.high], [place, place], color=colour, linewidth=1.8)
            axes.plot([known.value], [place], "o", color=colour)
        axes.axvline(wanted, color=GREY, linestyle=":", linewidth=1.4)
        lowest = min(each.found.interval.low for each in drawn_groups)
        axes.set_yticks(places, [f"{shortened(each.name, 24)} · {each.kind}" for each in drawn_groups])
        axes.set(xlim=(min(lowest, wanted) - 0.03, 1.01), ylim=(-0.6, len(drawn_groups) - 0.4))
        axes.set_xlabel("share of images whose set holds the true class")
        title(axes, "Coverage of prediction sets")
        bare(axes)
    return Figure(
        f"plots/{NAME}.svg",
        alt,
        "Coverage with its interval; grey: where chance would leave it if test and validation images were alike; "
        "dotted: what was promised",
    )
