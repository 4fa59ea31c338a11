"""Which class of an image is explained, which images are shown as cases, and on which the methods are checked."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medsweep.artifacts.prepared import PreparedSplit
from medsweep.artifacts.trained import TrainedModel

Kind = Literal["right", "wrong", "near"]

KINDS: dict[Kind, str] = {
    "right": "right, and surest",
    "wrong": "wrong, and surest",
    "near": "nearest to the threshold",
}
"""The kinds of cases in the order they are shown, as they are called."""

# Single precision rounds a sure probability to 0 or 1.
_LEAST = 1e-7


@dataclass(frozen=True)
class Decided:
    """What the model decided of each image, as far as an explanation needs it.

    Args:
        classes: (N,) the class that is explained: the one decided for; with several labels an image, the label that
            lies highest above its threshold (or least below it).
        probability: (N,) of that class.
        margin: (N,) how far the decision is from turning, 0 and more: in log-odds from the threshold, or where the most
            probable class is decided for, in probability from the second one.
        right: (N,) whether the decision is.
    """

    classes: NDArray[np.int64]
    probability: NDArray[np.float64]
    margin: NDArray[np.float64]
    right: NDArray[np.bool_]


@dataclass(frozen=True)
class Case:
    """One image to be shown: its kind and its row in the split."""

    kind: Kind
    row: int


def decided(manifest: TrainedModel, probabilities: NDArray[np.float64], labels: NDArray[Any]) -> Decided:
    """The class of each image that is explained, and how sure and right its decision is.

    Args:
        manifest: of the model: its task and thresholds.
        probabilities: (N, K).
        labels: (N,), or (N, L) for several labels an image.
    """
    rows = np.arange(len(probabilities))
    if manifest.task == "binary":
        above = _log_odds(probabilities[:, 1]) - _log_odds(np.array(manifest.threshold[0]))
        classes = (probabilities[:, 1] >= manifest.threshold[0]).astype(np.int64)
        return Decided(classes, probabilities[rows, classes], np.abs(above), classes == labels)
    if manifest.task == "multilabel":
        every = _log_odds(probabilities) - _log_odds(np.array(manifest.threshold))
        classes = every.argmax(axis=1)
        said = probabilities[rows, classes] >= np.array(manifest.threshold)[classes]
        right = said == (np.asarray(labels)[rows, classes] == 1)
        return Decided(classes, probabilities[rows, classes], np.abs(every[rows, classes]), right)
    classes = probabilities.argmax(axis=1)
    two = np.sort(probabilities, axis=1)[:, -2:]
    return Decided(classes, probabilities[rows, classes], two[:, 1] - two[:, 0], classes == labels)


def cases(found: Decided, split: PreparedSplit, wanted: int) -> list[Case]:
    """Up to `wanted` images of each kind, no image twice, in the order of `KINDS`."""
    chosen: list[Case] = []
    orders: dict[Kind, tuple[NDArray[np.bool_], NDArray[np.float64]]] = {
        "right": (found.right, -found.margin),
        "wrong": (~found.right, -found.margin),
        "near": (np.ones(len(split), dtype=np.bool_), found.margin),
    }
    for kind in KINDS:
        of_kind, order = orders[kind]
        taken = {each.row for each in chosen}
        ranked = (int(row) for row in np.lexsort((split.record_ids, order)) if of_kind[row] and row not in taken)
        chosen += [Case(kind, row) for row in islice(ranked, wanted)]
    return chosen


def sample(split: PreparedSplit, wanted: int, seed: int) -> NDArray[np.int64]:
    """Rows of at most `wanted` images, drawn at random: what is drawn does not depend on the order of the split."""
    order = np.argsort(split.record_ids, kind="stable")
    drawn = np.random.default_rng(seed).choice(len(split), size=min(wanted, len(split)), replace=False)
    return np.sort(order[drawn])


def _log_odds(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    inside = np.clip(probabilities, _LEAST, 1.0 - _LEAST)
    return np.asarray(np.log(inside) - np.log1p(-inside))
