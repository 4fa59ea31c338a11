"""Two models on the same images: the comparison, and the sentence about it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from medsweep.artifacts.predicted import PredictedSplit
from medsweep.compare.address import Side
from medsweep.errors import DataError
from medsweep.params import Evaluate
from medsweep.statistics.intervals import FEW_GROUPS, independent_of
from medsweep.statistics.metrics import METRICS, Predictions
from medsweep.statistics.multiplicity import holm
from medsweep.statistics.paired import (
    Difference,
    McNemar,
    area_difference,
    bootstrap_differences,
    mcnemar,
    model_areas,
)
from medsweep.statistics.power import minimum_detectable

COMPARED: Mapping[str, str] = {
    "auroc": "AUROC",
    "average_precision": "average precision",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "cohen_kappa": "Cohen's kappa",
    "brier": "Brier score",
    "log_loss": "log-loss",
}
"""The metrics that are compared, and what they are called."""


@dataclass(frozen=True)
class Comparison:
    """What came out.

    Args:
        first, second: the models' names; every difference is second - first.
        n_images, n_groups: how many images of how many patients (of images, where none are named).
        unit: 'patients' or 'images': what is resampled.
        confidence: of the intervals.
        area: the AUROC's difference by DeLong's or Obuchowski's variance: the comparison that counts.
        metrics: each metric's difference over the same resamples.
        adjusted: their p-values, adjusted together (Holm).
        decisions: on which images they decide differently.
        detectable: the smallest difference in AUROC that these images would most likely have shown, for two models
            whose figures correlate as these do; None where it can't be told.
        power: the chance meant by 'most likely'.
        identical: whether the two gave the same probabilities for every image.
    """

    first: str
    second: str
    n_images: int
    n_groups: int
    unit: str
    confidence: float
    area: Difference
    metrics: Mapping[str, Difference]
    adjusted: Mapping[str, float]
    decisions: McNemar
    detectable: float | None
    power: float
    identical: bool

    @property
    def size(self) -> str:
        if self.unit == "images":
            return f"{self.n_images} images (the source names no patients)"
        return f"{self.n_images} images of {self.n_groups} patients"

    @property
    def sentence(self) -> str:
        """The result in plain words."""
        difference, p, level = self.area.difference, self.area.p_value, 1.0 - self.confidence
        if self.identical:
            return (
                f"On these {self.size}, {self.first} and {self.second} give the same probabilities for every image: "
                "nothing tells them apart."
            )
        if not math.isfinite(difference.value):
            return (
                f"The AUROC is undefined on these {self.size}, since not every class is there: {self.first} and "
                f"{self.second} can be compared by their decisions and probabilities only."
            )
        if not math.isfinite(p):
            return (
                f"On the same {self.size}, the AUROC of {self.second} is {_by(difference.value)} that of {self.first}; "
                "whether by chance can't be told from so few."
            )
        text = (
            f"On the same {self.size}, the AUROC of {self.second} is {_by(difference.value)} that of {self.first} "
            f"({100 * self.confidence:g} % interval of the difference {difference.low:+.3f} to {difference.high:+.3f}, "
            f"p {_p(p)}): "
        )
        if p < level:
            better = self.second if difference.value > 0 else self.first
            return f"{text}more than chance explains. {better[:1].upper()}{better[1:]} ranks these images better."
        text += "chance alone would give such a difference."
        if self.detectable is not None:
            text += (
                f" Only a difference of {self.detectable:.3f} or more would most likely (with {100 * self.power:g} % "
                "power) have shown, so this does not mean that they are equally good."
            )
        return text

    @property
    def decided(self) -> str:
        """How their decisions differ, in plain words."""
        found = self.decisions
        what = "decisions on labels" if found.n > self.n_images else "images"
        apart = found.only_first + found.only_second
        if not apart:
            return f"They are right and wrong on the same {what}."
        test = "McNemar's test for clustered images" if found.mid_p is None else "McNemar's mid-p"
        p = "" if not math.isfinite(found.p_value) else f" ({test}: p {_p(found.p_value)})"
        return (
            f"Of {found.n} {what}, {self.first} alone is right on {found.only_first} and {self.second} alone on "
            f"{found.only_second}{p}."
        )

    @property
    def caution(self) -> str | None:
        """What makes the comparison worth less than it seems; None where nothing does."""
        return caution_of(self.n_groups, self.unit)

    def as_json(self) -> dict[str, Any]:
        """All of it for programs, None where something is undefined."""
        found = asdict(self)
        found["decisions"]["p_value"] = self.decisions.p_value
        found |= {"sentence": self.sentence, "decided": self.decided, "caution": self.caution}
        return _without_nan(found)  # type: ignore[no-any-return]


def compare(one: Side, two: Side, evaluate: Evaluate) -> Comparison:
    """Compare two models on the images that both were evaluated on.

    Args:
        one, two: the models.
        evaluate: how intervals are made, and what 'most likely' means.

    Raises:
        DataError: the images, their labels or the classes differ; or a probability is NaN.
    """
    first, second = one.predicted, aligned(one, two)
    groups = (first if first.has_patients else second).groups
    known = evaluate.bootstrap
    sides = [Predictions(each.task, each.labels, each.probabilities, each.decisions) for each in (first, second)]
    names = [name for name in COMPARED if first.task in METRICS[name].tasks]
    found = model_areas(first.task, first.labels, [first.probabilities, second.probabilities], groups)
    error = float(found.combined(np.array([[-1.0, 1.0]])).errors[0])
    metrics = bootstrap_differences(sides[0], sides[1], groups, names, **known.model_dump())
    area = area_difference(found, 0, 1, known.confidence, independent_of(sides[0], groups))
    # Each model's AUROC with the interval that its evaluation gives it.
    drawn = metrics["auroc"]
    metrics["auroc"] = replace(
        drawn,
        first=area.first if math.isfinite(area.first.low) else drawn.first,
        second=area.second if math.isfinite(area.second.low) else drawn.second,
    )
    p_values = holm([metrics[name].p_value for name in names])
    return Comparison(
        first=one.name,
        second=two.name,
        n_images=len(first),
        n_groups=len(np.unique(groups)),
        unit="patients" if first.has_patients or second.has_patients else "images",
        confidence=known.confidence,
        area=area,
        metrics=metrics,
        adjusted=dict(zip(names, p_values, strict=True)),
        decisions=mcnemar(first.labels == first.decisions, second.labels == second.decisions, groups),
        detectable=minimum_detectable(error, confidence=known.confidence, power=evaluate.power.power)
        if error > 0.0
        else None,
        power=evaluate.power.power,
        identical=bool(np.array_equal(first.probabilities, second.probabilities)),
    )


def aligned(one: Side, two: Side) -> PredictedSplit:
    """The second model's answers in the order of the first one's images.

    Raises:
        DataError: the images, their labels or the classes differ.
    """
    first, second = one.predicted, two.predicted
    why = difference_of(first, second)
    if why is not None:
        raise DataError(
            f"{one.name} and {two.name} can't be compared: {why}.",
            where="compare",
            fix="Evaluate both on one test split.",
        )
    return reordered(second, first)


def difference_of(first: PredictedSplit, second: PredictedSplit) -> str | None:
    """Why two models can't be compared image by image; None where they can."""
    if first.class_names != second.class_names or (first.task == "multilabel") != (second.task == "multilabel"):
        return f"their classes differ ({', '.join(first.class_names)}; {', '.join(second.class_names)})"
    ids, others = set(first.record_ids.tolist()), set(second.record_ids.tolist())
    if ids != others:
        return (
            f"their test images differ ({len(ids & others)} in both, {len(ids - others)} in the first alone, "
            f"{len(others - ids)} in the second alone)"
        )
    if not ids:
        return "there is no image"
    changed = int((first.labels != reordered(second, first).labels).reshape(len(first), -1).any(axis=1).sum())
    return f"{changed} of {len(first)} images have other labels" if changed else None


def reordered(given: PredictedSplit, like: PredictedSplit) -> PredictedSplit:
    """The same answers in the order of `like`'s images, and its task (which tells ordinal from several classes)."""
    place = {name: k for k, name in enumerate(given.record_ids.tolist())}
    order = np.asarray([place[name] for name in like.record_ids.tolist()], dtype=np.int64)
    return PredictedSplit(
        given.record_ids[order],
        given.patient_ids[order],
        given.labels[order],
        given.probabilities[order],
        given.decisions[order],
        given.class_names,
        like.task,
    )


def caution_of(n_groups: int, unit: str) -> str | None:
    """A sentence where there are too few patients to rely on."""
    if n_groups >= FEW_GROUPS:
        return None
    one = unit.removesuffix("s")
    return (
        f"Only {n_groups} {unit if n_groups > 1 else one}: intervals and p-values are rough and often too optimistic."
    )


def _by(difference: float) -> str:
    if difference == 0.0:
        return "the same as"
    return f"{abs(difference):.3f} {'higher' if difference > 0 else 'lower'} than"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
