"""The part `intervals`: each main figure's interval by two methods, and the price of several images a patient."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medsweep.artifacts.evaluation import Estimate
from medsweep.artifacts.section import Cell, Section, Table
from medsweep.evaluate.note import HEADLINES, intervals_by, shown
from medsweep.statistics.areas import area_interval, areas, class_curves, mean_and_each, patients_of
from medsweep.statistics.intervals import Interval
from medsweep.statistics.proportions import proportion

if TYPE_CHECKING:
    from medsweep.evaluate.parts import Evaluated

_LITTLE = 1.1  # a design effect that changes an interval's width by no more than a twentieth


@dataclass(frozen=True)
class Certainty:
    """How sure one figure is.

    Args:
        name: a metric's, with `: CLASS` behind it for one class.
        title: what a person reads.
        analytic: with DeLong's, Obuchowski's or Wilson's interval.
        naive: the same as if images were independent.
        error: the standard error over patients; None where it can't be told.
        design_effect: how many times larger the variance is for it that patients have several images.
        method: of `analytic`, in words.
    """

    name: str
    title: str
    analytic: Estimate
    naive: Estimate
    error: float | None
    design_effect: float | None
    method: str

    @property
    def shown(self) -> str:
        """The value in words."""
        return "undefined" if self.analytic.value is None else f"{self.analytic.value:.3f}"


def intervals(evaluated: Evaluated) -> Section:
    """The section: bootstrap and analytic intervals side by side, and the image-level ones that would be too narrow."""
    report, known = evaluated.report, evaluated.params.evaluate.bootstrap
    found = certainties(evaluated)
    rows: list[tuple[Cell, ...]] = []
    for each in found:
        drawn = report.drawn_auroc if each.name == "auroc" and report.drawn_auroc else report.metrics.get(each.name)
        effect = None if each.design_effect is None else round(each.design_effect, 2)
        cells = ("–" if drawn is None else shown(drawn), shown(each.analytic), each.method, shown(each.naive), effect)
        rows.append((each.title, *cells))
    worst = max((each.design_effect for each in found if each.design_effect is not None), default=None)
    if not evaluated.split.has_patients:
        clustered = (
            "The source names no patients, so each image counts as a patient of its own. If a patient has several "
            "images, all intervals are too narrow."
        )
    elif len(np.unique(evaluated.split.groups)) == len(evaluated.split):
        clustered = "Every patient has one image, so images are independent and nothing has to be corrected."
    elif worst is not None and worst <= _LITTLE:
        clustered = (
            f"Images of a patient hardly resemble each other here: the design effect is {worst:.2f} at most, so "
            "intervals as if images were independent would be nearly the same."
        )
    else:
        clustered = (
            "Images of a patient resemble each other: taking them for independent would give the intervals of the "
            "column before the last, which are too narrow. The design effect is the factor between the variances"
            + (f", up to {worst:.2f} here." if worst is not None else ".")
        )
    auroc = report.metrics["auroc"]
    method = "BCa" if known.method == "bca" else "percentile"
    first = (
        f"The AUROC is {shown(auroc)}. {100 * report.confidence:g} % intervals are "
        f"{intervals_by(report, f'{known.samples} resamples of the {report.resampled} ({method})')}."
        if auroc.value is not None
        else "The AUROC is undefined on this test split."
    )
    table = Table(
        f"{100 * report.confidence:g} % intervals",
        ("figure", "bootstrap", "without resampling", "method", "if images were independent", "design effect"),
        tuple(rows),
    )
    values = {
        each.name: {
            "value": each.analytic.value,
            "low": each.analytic.low,
            "high": each.analytic.high,
            "standard_error": each.error,
            "naive_low": each.naive.low,
            "naive_high": each.naive.high,
            "design_effect": each.design_effect,
            "method": each.method,
        }
        for each in found
    }
    return Section(
        "intervals", "How sure the figures are", (first, clustered), report.cautions, (table,), values=values
    )


def certainties(evaluated: Evaluated) -> list[Certainty]:
    """The AUROC, and for several classes each one's; accuracy, and for a binary task the four rates of its table."""
    return [*_areas(evaluated), *_proportions(evaluated)]


def _areas(evaluated: Evaluated) -> Iterator[Certainty]:
    split, confidence = evaluated.split, evaluated.report.confidence
    positive, scores = class_curves(split.task, split.labels, evaluated.probabilities)
    clustered = len(np.unique(split.groups)) < len(split)
    curves = positive.shape[1]
    images = np.arange(len(split))
    by_patient, by_image = (
        areas(positive, scores, groups).combined(mean_and_each(curves)) for groups in (split.groups, images)
    )
    patients, each_image = patients_of(positive, split.groups), patients_of(positive, images)
    names = ["auroc", *(f"auroc: {name}" for name in split.class_names)] if curves > 1 else ["auroc"]
    method = "Obuchowski" if clustered else "DeLong"
    for k, name in enumerate(names):
        value, error, naive = (float(each[k]) for each in (by_patient.values, by_patient.errors, by_image.errors))
        title = HEADLINES["auroc"] + (f": {split.class_names[k - 1]}" if k else "")
        effect = (error / naive) ** 2 if naive > 0.0 and math.isfinite(error) else None
        yield Certainty(
            name,
            title,
            _estimate(area_interval(value, error, confidence, patients[k])),
            _estimate(area_interval(value, naive, confidence, each_image[k])),
            error if math.isfinite(error) else None,
            effect if clustered else None,
            method,
        )


def _proportions(evaluated: Evaluated) -> Iterator[Certainty]:
    split, labels, decided = evaluated.split, evaluated.split.labels, evaluated.decisions
    # Of several labels each is a decision, and those of an image belong together.
    right = (labels == decided).ravel()
    groups = np.repeat(split.groups, len(right) // len(split))
    of: dict[str, NDArray[np.bool_]] = {"accuracy": np.ones(len(right), dtype=bool)}
    if split.task == "binary":
        of |= {
            "sensitivity": labels == 1,
            "specificity": labels == 0,
            "ppv": decided == 1,
            "npv": decided == 0,
        }
    clustered = len(np.unique(groups)) < len(right)
    for name, chosen in of.items():
        found = proportion(right[chosen], groups[chosen], evaluated.report.confidence)
        share = found.interval.value
        error = math.sqrt(share * (1.0 - share) * found.design_effect / found.n) if found.n else None
        yield Certainty(
            name,
            HEADLINES[name],
            _estimate(found.interval),
            _estimate(found.naive),
            error,
            found.design_effect if clustered and found.n else None,
            "Wilson, effective number" if clustered else "Wilson",
        )


def _estimate(each: Interval) -> Estimate:
    value, low, high = (float(end) if math.isfinite(end) else None for end in (each.value, each.low, each.high))
    return Estimate(value, low, high)
