"""The evaluation's pictures: ROC, precision-recall, calibration, confusion as SVG, worst mistakes as PNG."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medsweep.artifacts.evaluation import Estimate
from medsweep.drawing.figure import COLOURS, DOTTED, GREY, LINES, Signature, bare, figure, shortened
from medsweep.evaluate.plot_data import ClassCurves, ReliabilityOf

_NAMED = len(COLOURS) * len(LINES)
_INSIDE = 3
_NAMED_IN_ALT = 12


@dataclass(frozen=True)
class Caption:
    """What every figure says of itself.

    Args:
        split: the split's size, in words.
        confidence: of the intervals, 0 to 1.
        synthetic: True where the images are made, not acquired.
    """

    split: str
    confidence: float
    synthetic: bool

    def interval(self, name: str, each: Estimate) -> str:
        """'AUROC 0.912 (95 % interval 0.871 to 0.948)'."""
        if each.value is None:
            return f"{name} undefined"
        shown = f"{name} {each.value:.3f}"
        if each.low is None or each.high is None:
            return shown
        return f"{shown} ({self.confidence * 100:g} % interval {each.low:.3f} to {each.high:.3f})"


@dataclass(frozen=True)
class Mistake:
    """One wrong decision: the (H, W, C) pixels, and the words below them."""

    pixels: NDArray[Any]
    label: str
    decision: str
    probability: float
    record_id: str


def roc(path: Path, curves: list[ClassCurves], caption: Caption) -> None:
    """ROC curves, one against the rest, with the operating point of the decisions and each AUROC's interval."""
    alt = _areas_alt("ROC curve", "AUROC", [(each.name, each.auroc) for each in curves], caption)
    with _figure(path, caption, alt, wide=len(curves) > _INSIDE) as drawn:
        axes = drawn.add_subplot()
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=DOTTED, label="guessing: 0.5")
        for index, each in enumerate(curves):
            label = caption.interval(f"{shortened(each.name, 30)}: AUROC", each.auroc)
            axes.plot(each.roc.x, each.roc.y, label=label, **_style(index))
            sensitivity, specificity, _ = each.operating_point
            if sensitivity is not None and specificity is not None and len(each.roc.x):
                point = f"as decided: sensitivity {sensitivity:.3f}, specificity {specificity:.3f}"
                _mark(axes, 1 - specificity, sensitivity, index, point if len(curves) == 1 else None)
        _square(axes, "false-positive rate (1 - specificity)", "true-positive rate (sensitivity)", "ROC, test split")
        _legend(axes, curves, "lower right")


def precision_recall(path: Path, curves: list[ClassCurves], caption: Caption) -> None:
    """Precision-recall curves with the prevalence, which is the precision of guessing."""
    areas = [(each.name, each.average_precision) for each in curves]
    alt = _areas_alt("Precision-recall curve", "average precision", areas, caption)
    with _figure(path, caption, alt, wide=len(curves) > _INSIDE) as drawn:
        axes = drawn.add_subplot()
        for index, each in enumerate(curves):
            label = caption.interval(f"{shortened(each.name, 30)}: average precision", each.average_precision)
            curve = each.precision_recall
            # Between two points of the curve precision does not run along a straight line: draw the steps.
            axes.step(curve.x, curve.y, where="post", label=label, **_style(index))
            guess = f"guessing: {each.prevalence:.3f}" if len(curves) == 1 else None
            axes.axhline(each.prevalence, color=_colour(index), linewidth=1, alpha=0.6, linestyle=DOTTED, label=guess)
            sensitivity, _, ppv = each.operating_point
            if sensitivity is not None and ppv is not None and len(curve.x):
                point = f"as decided: recall {sensitivity:.3f}, precision {ppv:.3f}"
                _mark(axes, sensitivity, ppv, index, point if len(curves) == 1 else None)
        note = "dotted: guessing" if len(curves) > 1 else None
        _square(axes, "recall (sensitivity)", "precision (PPV)", "Precision-recall, test split")
        _legend(axes, curves, "lower left", note)


def calibration(path: Path, those: list[ReliabilityOf], caption: Caption, ece: Estimate, brier: Estimate) -> None:
    """Reliability: how often what was claimed came true, above how often each claim was made."""
    alt = (
        "Reliability diagram: the observed share against the claimed probability; "
        f"{caption.interval('ECE', ece)}, {caption.interval('Brier score', brier)}."
    )
    with _figure(path, caption, alt, wide=len(those) > _INSIDE) as drawn:
        above, below = drawn.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        above.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=DOTTED, label="perfectly calibrated")
        for index, each in enumerate(those):
            known = each.diagram
            filled = known.count > 0
            style = _style(index) | {"marker": "o", "markersize": 4}
            above.plot(known.confidence[filled], known.observed[filled], label=shortened(each.name, 40), **style)
            if len(those) == 1:
                below.bar(known.centre, known.count, width=0.9 / len(known.count), color=_colour(index))
            else:
                below.step(known.centre, known.count, where="mid", **_style(index))
        _square(above, "", "observed share", "Calibration, test split")
        _legend(above, those, "upper left", caption.interval("ECE (15 bins)", ece), caption.interval("Brier", brier))
        below.set_xlabel("claimed probability")
        below.set_ylabel("labels" if len(those) > 1 else "images")
        below.set_ylim(bottom=0)
        bare(below)


def confusion(path: Path, counts: NDArray[np.int64], class_names: tuple[str, ...], caption: Caption) -> None:
    """The confusion matrix, true classes in rows, coloured by each row's shares; a small one a label if (L, 2, 2)."""
    if counts.ndim == 2:
        size = min(14.0, max(5.6, 0.75 * len(class_names) + 2.5))
        right, total = int(np.trace(counts)), int(counts.sum())
        alt = f"Confusion matrix of {len(class_names)} classes: {right} of {total} images are decided right."
        with _figure(path, caption, alt, size=(size, size)) as drawn:
            axes = drawn.add_subplot()
            axes.set_title("Confusion matrix, test split", loc="left", fontweight="bold")
            _matrix(axes, counts, class_names)
            axes.set_xlabel("decided")
            axes.set_ylabel("true")
        return
    columns = min(4, len(counts))
    rows = ceil(len(counts) / columns)
    alt = f"A confusion matrix of each of {len(counts)} labels: present or not, decided or not."
    with _figure(path, caption, alt, size=(2.6 * columns + 1, 2.8 * rows + 0.9)) as drawn:
        drawn.suptitle("Confusion matrix of each label, test split", x=0.01, ha="left", fontweight="bold")
        for index, (name, table) in enumerate(zip(class_names, counts, strict=True)):
            axes = drawn.add_subplot(rows, columns, index + 1)
            axes.set_title(shortened(name, 24), fontsize=10)
            _matrix(axes, table, ("no", "yes"))
            if index % columns == 0:
                axes.set_ylabel("true")
            if index + columns >= len(counts):
                axes.set_xlabel("decided")


def worst_mistakes(path: Path, mistakes: list[Mistake], n_mistakes: int, value_range: int, caption: Caption) -> None:
    """A contact sheet of the mistakes that the model was surest of.

    Args:
        path: the PNG to write.
        mistakes: those to show, the surest first.
        n_mistakes: how many there are.
        value_range: what is shown as white.
        caption: of the figure.
    """
    columns = min(6, max(3, len(mistakes)))
    rows = max(1, ceil(len(mistakes) / columns))
    with _figure(path, caption, "", size=(1.75 * columns + 0.3, 2.5 * rows + 0.9)) as drawn:
        shown = f"the surest {len(mistakes)} of {n_mistakes}" if len(mistakes) < n_mistakes else f"all {n_mistakes}"
        title = f"Worst mistakes, test split: {shown}" if mistakes else "Worst mistakes, test split: none"
        drawn.suptitle(title, x=0.01, ha="left", fontweight="bold")
        for index, each in enumerate(mistakes):
            axes = drawn.add_subplot(rows, columns, index + 1)
            scaled = np.asarray(each.pixels, dtype=np.float64) / value_range
            grey = scaled.shape[2] == 1
            axes.imshow(scaled[..., 0] if grey else scaled, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axes.set_axis_off()
            words = (
                f"true: {shortened(each.label, 20)}\ndecided: {shortened(each.decision, 17)}\n"
                f"at probability {each.probability:.3f}\n{each.record_id[:12]}\n"
            )
            axes.text(0, -0.04, words, transform=axes.transAxes, va="top", fontsize=7.5, linespacing=1.3)


@contextmanager
def _figure(
    path: Path, caption: Caption, alt: str, *, wide: bool = False, size: tuple[float, float] | None = None
) -> Iterator[Any]:
    """A new figure, saved when the block ends well."""
    chosen = size or ((10.5, 6.2) if wide else (6.2, 6.2))
    with figure(path, Signature(caption.split, caption.synthetic), alt=alt, size=chosen) as drawn:
        yield drawn


def _areas_alt(what: str, area: str, those: list[tuple[str, Estimate]], caption: Caption) -> str:
    """'ROC curve of malignant: AUROC 0.912 (…).' The first classes of many."""
    named = "; ".join(f"{name}: {caption.interval(area, each)}" for name, each in those[:_NAMED_IN_ALT])
    more = f"; and {len(those) - _NAMED_IN_ALT} more classes" if len(those) > _NAMED_IN_ALT else ""
    return f"{what}, test split. {named}{more}."


def _matrix(axes: Any, counts: NDArray[np.int64], names: tuple[str, ...]) -> None:
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    k = len(names)
    turned = k > 4 or max(map(len, names)) > 14
    shown = [shortened(name, 18) for name in names]
    axes.set_xticks(range(k), shown, rotation=45 if turned else 0, ha="right" if turned else "center")
    axes.set_yticks(range(k), shown)
    axes.tick_params(length=0)
    for row, column in np.ndindex(*counts.shape):
        if k > 20:
            break
        ink = "white" if shares[row, column] > 0.6 else "black"
        share = f"\n{100 * shares[row, column]:.0f} %" if totals[row, 0] and k <= 8 else ""
        size = 11 if k <= 4 else 9 if k <= 14 else 6.5
        axes.text(column, row, f"{counts[row, column]}{share}", ha="center", va="center", color=ink, fontsize=size)


def _mark(axes: Any, x: float, y: float, index: int, label: str | None) -> None:
    axes.plot([x], [y], "o", markersize=7, color=_colour(index), markeredgecolor="white", zorder=5, label=label)


def _square(axes: Any, x: str, y: str, title: str) -> None:
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel=x, ylabel=y)
    axes.set_title(title, loc="left", fontweight="bold")
    axes.grid(color="#E6E6E6", linewidth=0.8)
    axes.set_axisbelow(True)
    bare(axes)


def _legend(axes: Any, those: list[Any], inside: str, *notes: str | None) -> None:
    """The legend inside the axes for a few curves and beside them for many, with lines of text below the curves."""
    handles, labels = axes.get_legend_handles_labels()
    more = len(labels) - _NAMED
    if more > 0:
        handles, labels = handles[:_NAMED], [*labels[: _NAMED - 1], f"and {more + 1} more: see the data files"]
    for note in notes:
        if note:
            handles.append(axes.plot([], [], linestyle="none")[0])
            labels.append(note)
    where = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0)} if len(those) > _INSIDE else {"loc": inside}
    axes.legend(handles, labels, fontsize=8, frameon=True, framealpha=0.9, edgecolor="none", **where)


def _style(index: int) -> dict[str, Any]:
    return {"color": _colour(index), "linewidth": 1.8, "linestyle": LINES[index // len(COLOURS) % len(LINES)]}


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]
