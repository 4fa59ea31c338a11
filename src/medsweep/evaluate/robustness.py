"""Part: how far the model holds where images are worse than those it was trained on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medsweep.artifacts.section import Cell, Figure, Section, Table
from medsweep.drawing.figure import COLOURS, GREY, bare, figure, title
from medsweep.evaluate import shown
from medsweep.evaluate.drawn_images import drawn, ids_of, images_of, told
from medsweep.evaluate.predict import Predictor, batch_for
from medsweep.imaging.corruptions import CORRUPTIONS, SEVERITIES, corrupted
from medsweep.statistics.areas import areas, class_curves, plain_interval
from medsweep.statistics.intervals import Interval
from medsweep.statistics.operating_points import decide

if TYPE_CHECKING:
    from medsweep.evaluate.parts import Evaluated

NAME = "robustness"
_COLUMNS = 4
_EXAMPLE_SIDE = 96


@dataclass(frozen=True)
class _Row:
    """One corruption.

    Args:
        auroc: at each severity; NaN where it is undefined.
        change: of AUROC, the mean over severities less that of the images as they are.
        accuracy: at each severity.
        flipped: the share of decisions that differ from those on the images as they are, at each severity.
        broken: images with a NaN probability at any severity.
    """

    name: str
    auroc: list[float]
    change: Interval
    accuracy: list[float]
    flipped: list[float]
    broken: int


def robustness(at: Evaluated) -> Section:
    """AUROC and accuracy under each corruption at five severities, on drawn test images."""
    known = at.params.evaluate.robustness
    rows = drawn(at.split, known.images, known.seed)
    _, height, width, _ = at.split.images.shape
    predictor = Predictor(
        at.layout.model,
        at.split.images.shape[1:],
        n_classes=len(at.split.class_names),
        workers=at.params.runtime.workers,
    )
    ids, batch, total = ids_of(at.split, rows), batch_for(height, width), len(CORRUPTIONS) * len(SEVERITIES)
    found = []
    for index, name in enumerate(CORRUPTIONS):
        answers = []
        for severity in SEVERITIES:

            def block(start: int, stop: int, name: str = name, severity: int = severity) -> NDArray[Any]:
                return corrupted(
                    images_of(at.split, rows, start, stop),
                    ids[start:stop],
                    name,
                    severity,
                    value_range=at.split.value_range,
                    seed=known.seed,
                )

            answers.append(predictor.probabilities(len(rows), batch, block, lambda _: None))
            at.advance((index * len(SEVERITIES) + severity) / total)
        found.append(_row(at, name, rows, answers))
    clean = _clean(at, rows)
    return Section(
        name=NAME,
        title="Robustness",
        words=_words(at, rows, found, clean),
        warnings=_warnings(at, rows, found),
        tables=(_table(at, found, clean),),
        figures=(_curves(at, rows, found, clean), _examples(at, rows)),
        values={
            "images": len(rows),
            "clean": {name: shown.value(each) for name, each in clean.items()},
            "corruptions": {
                each.name: {
                    "auroc": [shown.value(one) for one in each.auroc],
                    "accuracy": [shown.value(one) for one in each.accuracy],
                    "flipped": [shown.value(one) for one in each.flipped],
                    "change": shown.values(each.change),
                }
                for each in found
            },
        },
    )


def _accuracy(at: Evaluated, rows: NDArray[np.int64], decisions: NDArray[Any]) -> float:
    return float(np.mean(decisions == at.split.labels[rows]))


def _clean(at: Evaluated, rows: NDArray[np.int64]) -> dict[str, float]:
    positive, scores = class_curves(at.split.task, at.split.labels[rows], at.probabilities[rows])
    own = areas(positive, scores, at.split.groups[rows]).values
    return {"auroc": float(own.mean()), "accuracy": _accuracy(at, rows, at.decisions[rows])}


def _row(at: Evaluated, name: str, rows: NDArray[np.int64], answers: list[NDArray[np.float64]]) -> _Row:
    finite = np.all([np.isfinite(each).all(axis=1) for each in answers], axis=0)
    labels, clean = at.split.labels[rows], at.decisions[rows]
    nothing = float("nan")
    if not finite.all():
        lost = [nothing] * len(SEVERITIES)
        return _Row(name, lost, Interval(nothing, nothing, nothing, 0), lost, lost, int((~finite).sum()))
    decisions = [decide(at.split.task, each, at.manifest.threshold) for each in answers]
    curves = [class_curves(at.split.task, labels, each) for each in (at.probabilities[rows], *answers)]
    known = areas(
        np.concatenate([each for each, _ in curves], axis=1),
        np.concatenate([each for _, each in curves], axis=1),
        at.split.groups[rows],
    )
    k = curves[0][0].shape[1]
    # One row a state: the mean over its classes; then how much lower the corrupted ones are on average.
    means = np.kron(np.eye(1 + len(SEVERITIES)), np.full((1, k), 1.0 / k))
    change = means[1:].mean(axis=0) - means[0]
    combined = known.combined(np.concatenate([means, change[None]]))
    return _Row(
        name=name,
        auroc=[float(each) for each in combined.values[1:-1]],
        change=_change(float(combined.values[-1]), float(combined.errors[-1]), at.report.confidence),
        accuracy=[_accuracy(at, rows, each) for each in decisions],
        flipped=[float(np.mean(each != clean)) for each in decisions],
        broken=0,
    )


def _change(value: float, error: float, confidence: float) -> Interval:
    """The interval of a difference of AUROCs: DeLong's, from -1 to 1."""
    found = plain_interval(value, error, confidence)
    if not math.isfinite(found.low):
        return found
    return Interval(value, max(-1.0, found.low), min(1.0, found.high), 0)


def _words(at: Evaluated, rows: NDArray[np.int64], found: list[_Row], clean: dict[str, float]) -> tuple[str, ...]:
    on = f"On {told(at.split, rows)}"
    there = [each for each in found if math.isfinite(each.change.value)]
    if not there:
        return (
            f"{on} accuracy is {clean['accuracy']:.3f}; AUROC is undefined there, so only accuracies can be compared.",
            _AIM,
        )
    falling = sorted(there, key=lambda each: each.change.value)
    overall = float(np.mean([np.mean(each.auroc) for each in there]))
    worst = [f"{_title(each.name)} ({each.change.value:+.3f})" for each in falling[:3]]
    words = [
        f"{on} AUROC is {clean['auroc']:.3f} as they are and {overall:.3f} on average over {len(there)} corruptions at "
        f"five severities. It falls most under {shown.listed(worst)}."
    ]
    sure = [_title(each.name) for each in falling if each.change.high < 0]
    held = [_title(each.name) for each in falling if not each.change.high < 0]
    words.append(
        f"The fall is beyond chance under {shown.listed(sure)}." if sure else "No fall is beyond what chance allows."
    )
    if held and sure:
        words.append(f"No fall beyond chance under {shown.listed(held)}.")
    flips = max(there, key=lambda each: each.flipped[-1])
    words.append(
        f"At the highest severity up to {shown.percent(flips.flipped[-1])} of decisions change (under "
        f"{_title(flips.name)})."
    )
    return (*words, _AIM)


_AIM = (
    "The corruptions are simulated, and the threshold stays as it was: they show where a model is fragile, not how it "
    "does at another hospital. Shadow, speckle and gain are ultrasound's, grid lines and collimation X-ray's: read the "
    "rows that your images can meet."
)


def _warnings(at: Evaluated, rows: NDArray[np.int64], found: list[_Row]) -> tuple[str, ...]:
    asked = shown.questions(at.split, at.probabilities)
    warnings = [f"In the test split {each.lacks}." for each in asked if each.lacks]
    warnings += [
        f"Among the drawn images one kind is missing for '{each.name}': raise evaluate.robustness.images."
        for each in asked
        if not each.lacks and len(np.unique(each.positive[rows])) < 2
    ]
    warnings += shown.few_patients(at.split)
    warnings += [
        f"Under {_title(each.name)} the model gave no number (NaN) for {shown.counted(each.broken, 'image')}: it would "
        "fail there."
        for each in found
        if each.broken
    ]
    return tuple(warnings)


def _title(name: str) -> str:
    return name.replace("_", " ")


def _table(at: Evaluated, found: list[_Row], clean: dict[str, float]) -> Table:
    heads = ["corruption", "of", *(f"AUROC at {severity}" for severity in SEVERITIES)]
    heads += ["change of AUROC, mean over severities", "accuracy at 3", "accuracy at 5", "decisions changed at 5"]
    none = [_cell(clean["auroc"])] * len(SEVERITIES)
    rows: list[tuple[Cell, ...]] = [("none", "", *none, None, _cell(clean["accuracy"]), _cell(clean["accuracy"]), 0.0)]
    for each in found:
        rows.append(
            (
                _title(each.name),
                CORRUPTIONS[each.name].kind,
                *(_cell(one) for one in each.auroc),
                shown.interval(each.change),
                _cell(each.accuracy[2]),
                _cell(each.accuracy[4]),
                _cell(each.flipped[4]),
            )
        )
    caption = (
        f"AUROC and accuracy under corruption, severities 1 to 5; in brackets {100 * at.report.confidence:g} % "
        "intervals of the paired difference (DeLong's; Obuchowski's where a patient has several images)"
    )
    return Table(caption, tuple(heads), tuple(rows))


def _cell(number: float) -> float | None:
    return round(number, 3) if math.isfinite(number) else None


def _curves(at: Evaluated, rows: NDArray[np.int64], found: list[_Row], clean: dict[str, float]) -> Figure:
    lines = math.ceil(len(found) / _COLUMNS)
    alt = "AUROC and accuracy against severity, a panel a corruption. " + _words(at, rows, found, clean)[0]
    shown_values = [one for each in found for one in (*each.auroc, *each.accuracy) if math.isfinite(one)]
    lowest = min([0.5, *shown_values]) - 0.03
    with figure(at.plots / f"{NAME}.svg", at.signature, alt=alt, size=(10.0, 2.0 * lines + 0.5)) as drawn_figure:
        for index, each in enumerate(found):
            axes = drawn_figure.add_subplot(lines, _COLUMNS, index + 1)
            for colour, values, base, name in (
                (COLOURS[0], each.auroc, clean["auroc"], "AUROC"),
                (COLOURS[1], each.accuracy, clean["accuracy"], "accuracy"),
            ):
                axes.plot((0, *SEVERITIES), (base, *values), color=colour, marker="o", markersize=3, label=name)
                axes.axhline(base, color=GREY, linewidth=0.8, linestyle=":")
            axes.set(xlim=(-0.2, 5.2), ylim=(lowest, 1.02), xticks=(0, 1, 3, 5), yticks=(0.5, 0.75, 1.0))
            title(axes, _title(each.name))
            if index == 0:
                axes.legend(fontsize=8, frameon=False, loc="lower left")
            if index >= len(found) - _COLUMNS:
                axes.set_xlabel("severity")
            bare(axes)
    return Figure(f"plots/{NAME}.svg", alt, "AUROC and accuracy against severity (0: the images as they are)")


def _examples(at: Evaluated, rows: NDArray[np.int64]) -> Figure:
    """One test image under every corruption: what the severities look like."""
    split = at.split
    image, record = np.asarray(split.images[rows[:1]]), ids_of(split, rows[:1])
    height, width, channels = image.shape[1:]
    grow = max(1, _EXAMPLE_SIDE // max(height, width))
    names = list(CORRUPTIONS)
    gap = 4
    tall, wide = height * grow + gap, width * grow + gap
    sheet = np.ones((tall * len(names), wide * 6, channels), np.float32)
    for row, name in enumerate(names):
        for column in range(6):
            seed = at.params.evaluate.robustness.seed
            own = image
            if column:
                own = corrupted(image, record, name, column, value_range=split.value_range, seed=seed)
            scaled = np.repeat(np.repeat(own[0].astype(np.float32) / split.value_range, grow, axis=0), grow, axis=1)
            top, left = row * tall, column * wide
            sheet[top : top + height * grow, left : left + width * grow] = scaled
    alt = "A test image as it is and under each corruption at severities 1 to 5: " + shown.listed(
        list(map(_title, names))
    )
    path = at.plots / "corruptions.png"
    with figure(path, at.signature, size=(6.4, 6.4 * sheet.shape[0] / sheet.shape[1] + 0.6)) as drawn_figure:
        axes = drawn_figure.add_subplot()
        axes.imshow(sheet[..., 0] if channels == 1 else sheet, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set_yticks((np.arange(len(names)) + 0.5) * tall, list(map(_title, names)))
        axes.set_xticks((np.arange(6) + 0.5) * wide, ["as it is", *map(str, SEVERITIES)])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        title(axes, "Corruptions")
    return Figure("plots/corruptions.png", alt, "One test image under each corruption, by severity")
