"""The numbers behind the figures, and their files for DVC's plots."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medsweep.artifacts.evaluation import Estimate
from medsweep.artifacts.prepared import PreparedSplit
from medsweep.statistics.calibration import Reliability, reliability
from medsweep.statistics.curves import Curve, precision_recall_curve, roc_curve

_POINTS = 400
"""Points of a curve: more than a figure can show."""


@dataclass(frozen=True)
class ClassCurves:
    """One class against the rest, or one label by itself.

    Args:
        name: of the class.
        slug: the name as a file name, with the class's index before it.
        roc, precision_recall: empty where the split does not have both kinds of image.
        auroc, average_precision: the areas with their intervals.
        prevalence: the share of images that have the class: the precision of guessing.
        operating_point: (sensitivity, specificity, positive predictive value) of the decisions; None where undefined.
    """

    name: str
    slug: str
    roc: Curve
    precision_recall: Curve
    auroc: Estimate
    average_precision: Estimate
    prevalence: float
    operating_point: tuple[float | None, float | None, float | None]


@dataclass(frozen=True)
class ReliabilityOf:
    """A reliability diagram and whose it is: a class's, or the most probable class's for several classes."""

    name: str
    slug: str
    diagram: Reliability


def curves_of(
    split: PreparedSplit,
    probabilities: NDArray[np.float64],
    per_class: Mapping[str, Mapping[str, float | None]],
    areas: Mapping[int, Mapping[str, Estimate]],
) -> list[ClassCurves]:
    """The curves of every class in `areas`: the positive one for a binary task, else all.

    Args:
        split: N images.
        probabilities: (N, K).
        per_class: by class name, then metric.
        areas: by class index, `auroc` and `average_precision`.
    """
    found = []
    for k, estimates in areas.items():
        name = split.class_names[k]
        positive = split.labels[:, k] == 1 if split.task == "multilabel" else split.labels == k
        scores, own = probabilities[:, k], per_class[name]
        found.append(
            ClassCurves(
                name=name,
                slug=_slug(k, name),
                roc=roc_curve(positive, scores, points=_POINTS),
                precision_recall=precision_recall_curve(positive, scores, points=_POINTS),
                auroc=estimates["auroc"],
                average_precision=estimates["average_precision"],
                prevalence=float(positive.mean()),
                operating_point=(own["sensitivity"], own["specificity"], own["ppv"]),
            )
        )
    return found


def reliabilities_of(split: PreparedSplit, probabilities: NDArray[np.float64], bins: int) -> list[ReliabilityOf]:
    """The positive class's reliability for a binary task, the most probable class's for several, else each label's."""
    names = split.class_names
    if split.task == "multilabel":
        found = []
        for k, name in enumerate(names):
            own = np.stack([1.0 - probabilities[:, k], probabilities[:, k]], axis=1)
            diagram = reliability(split.labels[:, k].astype(np.int64), own, "binary", bins)
            found.append(ReliabilityOf(name, _slug(k, name), diagram))
        return found
    diagram = reliability(split.labels, probabilities, split.task, bins)
    if split.task == "binary":
        return [ReliabilityOf(names[1], _slug(1, names[1]), diagram)]
    return [ReliabilityOf("most probable class", "most_probable_class", diagram)]


def write_plot_data(
    folder: Path,
    split: PreparedSplit,
    decisions: NDArray[np.int64],
    curves: list[ClassCurves],
    reliabilities: list[ReliabilityOf],
) -> list[Path]:
    """Write the files that `dvc plots` reads, and return their paths.

    `roc/CLASS.csv` (fpr, tpr, threshold), `precision_recall/CLASS.csv` (recall, precision, threshold),
    `calibration/CLASS.csv` (confidence, observed, count: bins without an image left out) and `confusion.csv` (actual
    and predicted, one row an image; one an image and label, named `LABEL: yes` or `no`, for multi-label).
    """
    written = []
    for each in curves:
        for kind, columns, curve in (
            ("roc", ("fpr", "tpr", "threshold"), each.roc),
            ("precision_recall", ("recall", "precision", "threshold"), each.precision_recall),
        ):
            rows = zip(curve.x.tolist(), curve.y.tolist(), curve.threshold.tolist(), strict=True)
            written.append(_write(folder / kind / f"{each.slug}.csv", columns, (map(_number, row) for row in rows)))
    for those in reliabilities:
        known = those.diagram
        bins = zip(known.confidence.tolist(), known.observed.tolist(), known.count.tolist(), strict=True)
        path = folder / "calibration" / f"{those.slug}.csv"
        columns = ("confidence", "observed", "count")
        written.append(_write(path, columns, ((_number(c), _number(o), str(n)) for c, o, n in bins if n)))
    written.append(_write(folder / "confusion.csv", ("actual", "predicted"), _pairs(split, decisions)))
    return written


def write_intervals(path: Path, estimates: Mapping[str, Estimate]) -> None:
    """Write the metrics that have an interval (metric, value, low, high): `dvc plots diff` draws them revision by
    revision with the template `forest`."""
    rows = (
        (name, *map(_number, (each.value, each.low, each.high)))
        for name, each in estimates.items()
        if each.value is not None and each.low is not None and each.high is not None
    )
    _write(path, ("metric", "value", "low", "high"), rows)


def _pairs(split: PreparedSplit, decisions: NDArray[np.int64]) -> Iterable[tuple[str, str]]:
    names = split.class_names
    if split.task != "multilabel":
        return ((names[true], names[decided]) for true, decided in zip(split.labels, decisions, strict=True))
    words = ("no", "yes")
    return (
        (f"{name}: {words[true]}", f"{name}: {words[decided]}")
        for k, name in enumerate(names)
        for true, decided in zip(split.labels[:, k], decisions[:, k], strict=True)
    )


def _write(path: Path, columns: tuple[str, ...], rows: Iterable[Iterable[str]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
    return path


def _number(value: float) -> str:
    return f"{value:.9g}"


def _slug(k: int, name: str) -> str:
    return f"{k}_{re.sub(r'[^A-Za-z0-9]+', '_', name).strip('_').lower() or 'class'}"
