"""What a reader must know before believing an evaluation: too few patients, one class only, nothing told apart."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medsweep.artifacts.evaluation import Estimate
from medsweep.artifacts.prepared import PreparedSplit
from medsweep.statistics.intervals import FEW_GROUPS

_SAME = 1e-6
"""Probabilities closer than this are equal: a network's last bits depend on an image's place in its batch."""


def cautions(
    split: PreparedSplit, probabilities: NDArray[np.float64], decisions: NDArray[np.int64], auroc: Estimate
) -> tuple[str, ...]:
    """A sentence for each thing that makes the figures say less than they seem to; none where there is none.

    Args:
        split: N images.
        probabilities: (N, K).
        decisions: (N,) or (N, L).
        auroc: the headline AUROC with its interval.
    """
    found = []
    unit = "patients" if split.has_patients else "images"
    size = len(np.unique(split.groups))
    if size < 2:
        found.append(f"There are no intervals: the test split has one {unit.removesuffix('s')} only.")
    elif size < FEW_GROUPS:
        found.append(
            f"The test split has only {size} {unit}: intervals are rough and often too narrow, and no figure should be "
            "relied on."
        )
    positive = split.labels == 1 if split.task == "multilabel" else _one_hot(split)
    for k, name in enumerate(split.class_names):
        own = len(np.unique(split.groups[positive[:, k]]))
        if own == 0:
            found.append(f"No test image is '{name}': what the model does with it is not known.")
        elif own < FEW_GROUPS // 2 and size >= FEW_GROUPS:
            word = unit if own > 1 else unit.removesuffix("s")
            found.append(f"Only {own} {word} with '{name}': figures of that class are rough.")
    if len(split) > 1 and np.ptp(probabilities, axis=0).max() < _SAME:
        found.append("Every image got the same probabilities: the model tells nothing apart, whatever its AUROC says.")
    elif len(split) > 1 and np.ptp(decisions, axis=0).max() == 0:
        found.append("Every image was decided alike: at this threshold the model tells nothing apart.")
    if auroc.value == 1.0 and auroc.low == 1.0:
        found.append(
            "Every image was ranked right, in every resample too: an interval from 1 to 1 does not mean certainty; "
            "resampling can't show what other patients would."
        )
    return tuple(found)


def _one_hot(split: PreparedSplit) -> NDArray[np.bool_]:
    return np.asarray(split.labels[:, None] == np.arange(len(split.class_names)))
