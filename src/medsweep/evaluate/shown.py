"""How numbers stand in a section: for people as text, for programs as JSON without NaN."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medsweep.artifacts.prepared import PreparedSplit
from medsweep.statistics.areas import class_curves
from medsweep.statistics.intervals import Interval

_DIGITS = 6
FEW = 10
"""So many images of a kind, or patients, are too few to speak of a proportion among them."""


def interval(each: Interval) -> str:
    """'0.912 (0.871 to 0.948)', without brackets where there is no interval, 'undefined' where there is no value."""
    if not math.isfinite(each.value):
        return "undefined"
    if not (math.isfinite(each.low) and math.isfinite(each.high)):
        return f"{each.value:.3f}"
    return f"{each.value:.3f} ({each.low:.3f} to {each.high:.3f})"


def percent(share: float, digits: int = 1) -> str:
    """'87.5 %'."""
    return f"{100 * share:.{digits}f} %"


def counted(n: int, noun: str) -> str:
    """'1 image', '2 images'."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


def listed(names: Sequence[str]) -> str:
    """'a', 'a and b', 'a, b and c'."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else list(names))


def value(number: float) -> float | None:
    """A number for programs: six digits after the point, beyond which machines may differ; None where it is none."""
    return round(float(number), _DIGITS) if math.isfinite(number) else None


def values(each: Interval) -> dict[str, float | None]:
    """An interval for programs."""
    return {"value": value(each.value), "low": value(each.low), "high": value(each.high)}


@dataclass(frozen=True)
class Question:
    """One question of yes or no that a model answers: a class against the rest, or a label by itself.

    Args:
        name: of the class.
        positive: (N,) True where the answer is yes.
        scores: (N,) its probability.
    """

    name: str
    positive: NDArray[np.bool_]
    scores: NDArray[np.float64]

    @property
    def lacks(self) -> str | None:
        """What the images cannot tell because none is of one kind, in words."""
        if self.positive.all():
            return f"every image is '{self.name}', so nothing can be said about images without it"
        if not self.positive.any():
            return f"no image is '{self.name}', so nothing can be said about how many of them are found"
        return None


def questions(split: PreparedSplit, probabilities: NDArray[np.float64]) -> list[Question]:
    """The positive class's question for a binary task, else each class's or label's."""
    positive, scores = class_curves(split.task, split.labels, probabilities)
    names = split.class_names[1:] if split.task == "binary" else split.class_names
    return [Question(name, positive[:, k], scores[:, k]) for k, name in enumerate(names)]


def few_patients(split: PreparedSplit) -> list[str]:
    """A warning where there are too few patients (or images, where no patient is known) to trust any interval."""
    n = len(np.unique(split.groups))
    if n >= FEW:
        return []
    what = "patient" if split.has_patients else "image"
    return [f"The test split has only {counted(n, what)}: no interval can be trusted."]
