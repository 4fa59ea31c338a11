"""Temperature scaling: one number by which logits are divided, so that probabilities mean what they say."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medsweep.artifacts.record import Task
from medsweep.errors import DataError
from medsweep.statistics.weighted import Floats

LOWEST, HIGHEST = 0.05, 20.0
"""Between these a temperature is looked for: wide enough for every loss of the table."""
# More digits than validation images can tell; what rounding differs between machines does not reach the model file.
_DIGITS = 4


def tempered(task: Task, logits: NDArray[Any], temperature: float) -> Floats:
    """Probabilities of logits (N, K) divided by the temperature: softmax, for multi-label sigmoid; (N, K)."""
    return np.asarray(np.exp(_log_probabilities(task, np.asarray(logits, dtype=np.float64) / temperature)))


def logits_of(task: Task, probabilities: NDArray[Any]) -> Floats:
    """Logits that give these probabilities; for softmax they are known but for a constant, which changes nothing."""
    # float32 probabilities end near 1e-45 and 6e-8 below 1; beyond lies no information.
    floor = 1e-45 if task != "multilabel" else 3e-8
    p = np.clip(np.asarray(probabilities, dtype=np.float64), floor, 1.0 if task != "multilabel" else 1.0 - floor)
    return np.asarray(np.log(p) - (np.log1p(-p) if task == "multilabel" else 0.0))


def untempered(task: Task, probabilities: NDArray[Any], temperature: float) -> Floats:
    """What a model would have said at temperature 1, from what it says with its temperature: (N, K).

    Exact up to rounding, as logits follow from probabilities but for a constant that softmax takes out again.
    """
    return tempered(task, logits_of(task, probabilities) * temperature, 1.0)


def fit_temperature(task: Task, labels: NDArray[Any], logits: NDArray[Any]) -> float:
    """The temperature with the lowest cross-entropy on these images (Guo et al., 2017), 0.05 to 20, to 4 digits.

    The targets are Platt's (1999): of n images of a class, (n + 1)/(n + K) instead of 1 and 1/(n + K) instead of 0. So
    the optimum stays finite where the images are told apart without a mistake, and small splits are not believed more
    than their size allows.

    Args:
        task: binary, multiclass, multilabel (one temperature for all labels) or ordinal.
        labels: (N,) class indices, or (N, L) zeros and ones.
        logits: (N, K).

    Returns:
        1 where there is no image, or no logit differs from another.

    Raises:
        DataError: a logit is NaN or infinite, or the shapes disagree.
    """
    from scipy.optimize import minimize_scalar

    z = np.asarray(logits, dtype=np.float64)
    if z.ndim != 2 or len(z) != len(labels):
        raise DataError(f"labels {labels.shape} and logits {z.shape} do not belong together.", where="logits")
    if not np.isfinite(z).all():
        raise DataError("a temperature can't be fitted to NaN or infinite logits.", where="logits")
    if not z.size or not (np.ptp(z, axis=1).any() if task != "multilabel" else z.any()):
        return 1.0
    targets, opposite = _targets(task, labels, z.shape[1])

    def loss(log_temperature: float) -> float:
        scaled = z / math.exp(log_temperature)
        total = targets * _log_probabilities(task, scaled)
        if opposite is not None:
            total = total + opposite * _log_probabilities(task, -scaled)
        return -float(total.sum())

    # The loss is convex in 1/T, so it has one valley in log T too.
    found = minimize_scalar(
        loss, bounds=(math.log(LOWEST), math.log(HIGHEST)), method="bounded", options={"xatol": 1e-6}
    )
    return round(math.exp(float(found.x)), _DIGITS)


def _log_probabilities(task: Task, z: Floats) -> Floats:
    if task == "multilabel":
        return -np.logaddexp(0.0, -z)
    shifted = z - z.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def _targets(task: Task, labels: NDArray[Any], k: int) -> tuple[Floats, Floats | None]:
    """The targets (N, K), and for multi-label those of a label's absence."""
    if task == "multilabel":
        there = labels == 1
        n_there = there.sum(axis=0)
        n_absent = len(labels) - n_there
        share = np.where(there, (n_there + 1) / (n_there + 2), 1 / (n_absent + 2))
        return share, 1.0 - share
    counts = np.bincount(labels, minlength=k)
    n = counts[labels][:, None]
    own = labels[:, None] == np.arange(k)
    return np.where(own, (n + 1) / (n + k), 1 / (n + k)), None
