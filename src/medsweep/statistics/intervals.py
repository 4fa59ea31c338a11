"""How sure a number is: the bootstrap over patients, and Wilson's interval for a proportion."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from medsweep.artifacts.record import Task
from medsweep.errors import DataError
from medsweep.statistics.metrics import Predictions, evaluate_weighted, per_class_weighted
from medsweep.statistics.weighted import Floats

_CELLS_AT_ONCE = 1_000_000  # weights held at a time: 8 MB, and a few times that in the metrics' sums

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class Interval:
    """A value with its confidence interval.

    Args:
        value: of the images as they are; NaN where it is undefined.
        low: the lower end.
        high: the upper end; both NaN where no interval can be given.
        undefined: in how many resamples the value was undefined (a class was not drawn, say); they are left out.
    """

    value: float
    low: float
    high: float
    undefined: int


def resample_weights(groups: NDArray[Any], *, samples: int, seed: int) -> Iterator[Floats]:
    """How often each image occurs in each resample of whole groups (patients), drawn with replacement.

    As many groups are drawn as there are; all images of a drawn group come with it. (Field & Welsh, 2007: the cluster
    bootstrap.) The draws depend on the groups, `samples` and `seed` alone: two models that are resampled over the same
    groups meet the same resamples.

    Args:
        groups: (N,) what belongs together: the patient, or the image itself where none is known.
        samples: the number of resamples.
        seed: of the draws.

    Yields:
        (N, B) float64 whole numbers, the B's adding up to `samples`; a few megabytes each.
    """
    names, member = np.unique(groups, return_inverse=True)
    rng = np.random.default_rng(seed)
    step = max(1, _CELLS_AT_ONCE // max(1, len(groups)))
    for start in range(0, samples, step):
        columns = min(step, samples - start)
        drawn = np.empty((len(names), columns))
        for column in range(columns):
            drawn[:, column] = np.bincount(rng.integers(0, len(names), len(names)), minlength=len(names))
        yield drawn[member]


def bootstrap(
    statistic: Callable[[Floats], Mapping[Name, Floats]], groups: NDArray[Any], *, samples: int, seed: int
) -> dict[Name, Floats]:
    """The bootstrap distribution of statistics: each name's values, (samples,), in the order of the draws.

    Args:
        statistic: weights (N, B) to values (B,) by name.
        groups: (N,) what is resampled as a whole.
        samples: the number of resamples, at least 1.
        seed: of the draws.
    """
    parts = [statistic(weights) for weights in resample_weights(groups, samples=samples, seed=seed)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def percentile_interval(value: float, draws: Floats, *, confidence: float) -> Interval:
    """The percentile interval of a bootstrap distribution (Efron, 1981).

    Args:
        value: of the images as they are.
        draws: (samples,), NaN where undefined. Where more than half are, no interval is given.
        confidence: 0.95, say.
    """
    defined = draws[np.isfinite(draws)]
    undefined = len(draws) - len(defined)
    if not np.isfinite(value) or undefined > len(draws) / 2 or not len(defined):
        return Interval(value, float("nan"), float("nan"), undefined)
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(defined, [tail, 1.0 - tail])
    return Interval(value, float(low), float(high), undefined)


def bootstrap_intervals(
    task: Task,
    labels: NDArray[Any],
    probabilities: NDArray[Any],
    decisions: NDArray[Any],
    groups: NDArray[Any],
    *,
    samples: int,
    confidence: float,
    seed: int,
) -> dict[str, Interval]:
    """Every metric that exists for the task, with its percentile interval over resampled groups.

    Args:
        task: binary, multiclass, multilabel or ordinal.
        labels: (N,) int64 class indices, or (N, L) uint8 (multi-label).
        probabilities: (N, K), 0 to 1.
        decisions: (N,) or (N, L) int.
        groups: (N,) patients. With fewer than two there is nothing to resample: values come without an interval.
        samples: the number of resamples.
        confidence: above 0 and below 1.
        seed: of the draws.

    Raises:
        DataError: see `metrics.Predictions`; or the groups have another length.
    """
    predictions = Predictions(task, labels, probabilities, decisions)
    return _intervals(
        lambda weights: evaluate_weighted(predictions, weights), len(labels), groups, samples, confidence, seed
    )


def per_class_intervals(
    task: Task,
    labels: NDArray[Any],
    probabilities: NDArray[Any],
    decisions: NDArray[Any],
    groups: NDArray[Any],
    *,
    samples: int,
    confidence: float,
    seed: int,
) -> dict[int, dict[str, Interval]]:
    """`metrics.per_class` with percentile intervals; takes and raises what `bootstrap_intervals` does."""
    predictions = Predictions(task, labels, probabilities, decisions)
    found = _intervals(
        lambda weights: per_class_weighted(predictions, weights), len(labels), groups, samples, confidence, seed
    )
    nested: dict[int, dict[str, Interval]] = {}
    for (k, name), interval in found.items():
        nested.setdefault(k, {})[name] = interval
    return nested


def _intervals(
    statistic: Callable[[Floats], Mapping[Name, Floats]],
    n: int,
    groups: NDArray[Any],
    samples: int,
    confidence: float,
    seed: int,
) -> dict[Name, Interval]:
    if len(groups) != n:
        raise DataError(f"there are {len(groups)} where there are {n} images.", where="groups")
    values = {name: float(value[0]) for name, value in statistic(np.ones((n, 1))).items()}
    if len(np.unique(groups)) < 2:
        return {name: Interval(value, float("nan"), float("nan"), 0) for name, value in values.items()}
    draws = bootstrap(statistic, groups, samples=samples, seed=seed)
    return {name: percentile_interval(value, draws[name], confidence=confidence) for name, value in values.items()}


def wilson(successes: int, n: int, confidence: float) -> Interval:
    """Wilson's score interval for a proportion of independent trials (Wilson, 1927); all NaN for n = 0.

    Images of one patient are not independent: use it for counts of patients, or where each image is a patient.
    """
    if n == 0:
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    z = NormalDist().inv_cdf(0.5 + confidence / 2.0)
    p = successes / n
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * (p * (1 - p) / n + z**2 / (4 * n**2)) ** 0.5
    # At 0 and n the end is exactly 0 or 1; rounding would miss it by a bit.
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == n else centre + half
    return Interval(p, low, high, 0)
