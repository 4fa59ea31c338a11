"""How sure a number is: the bootstrap over patients (BCa or percentile), and Wilson's interval for a proportion."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from medsweep.artifacts.record import Task
from medsweep.errors import DataError
from medsweep.statistics.metrics import Predictions, evaluate_weighted, per_class_weighted
from medsweep.statistics.weighted import Floats

FEW_GROUPS = 20
"""Below so many patients any interval is rough: see how well they cover in docs/statistics.md."""
_CELLS_AT_ONCE = 1_000_000  # weights held at a time: 8 MB, and a few times that in the metrics' sums

_JACKKNIFE_BLOCKS = 400  # more tell the acceleration, which falls with their root, nothing more

Name = TypeVar("Name", bound=Hashable)
Method = Literal["bca", "percentile"]


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


def jackknife_weights(groups: NDArray[Any], *, seed: int) -> Iterator[Floats]:
    """Weightings that each leave one group out; where there are many, one of 400 blocks of groups.

    Args:
        groups: (N,) what belongs together.
        seed: of the blocks.

    Yields:
        (N, B) zeros and ones; a few megabytes each.
    """
    names, member = np.unique(groups, return_inverse=True)
    blocks = min(len(names), _JACKKNIFE_BLOCKS)
    block = np.random.default_rng(seed).permutation(np.arange(len(names)) % blocks)[member]
    step = max(1, _CELLS_AT_ONCE // max(1, len(groups)))
    for start in range(0, blocks, step):
        left_out = np.arange(start, min(start + step, blocks))
        yield (block[:, None] != left_out).astype(np.float64)


@dataclass(frozen=True)
class Resampled:
    """What resampling says of one statistic.

    Args:
        value: of the images as they are.
        draws: (samples,) its bootstrap distribution, NaN where undefined.
        acceleration: how fast its spread changes with its value, from the jackknife; 0 for the percentile method.
        method: 'bca' or 'percentile'.
        patients: how many independent ones the value rests on (see `independent`).
    """

    value: float
    draws: Floats
    acceleration: float
    method: Method
    patients: int

    def interval(self, confidence: float) -> Interval:
        """The interval: the percentile interval, or the bias-corrected and accelerated one.

        BCa (Efron, 1987; Efron & Tibshirani, 1993, section 14.3) reads the distribution's quantiles where it corrects
        for the median's bias and for a spread that changes with the value. Both are read a little further out, as
        Student's t lies further out than the normal distribution, for a bootstrap of few patients is too narrow
        (Hesterberg, 2015, The American Statistician 69, section 5.3). Neither is given where more than half of the
        draws are undefined.
        """
        defined = self.draws[np.isfinite(self.draws)]
        undefined = len(self.draws) - len(defined)
        if not np.isfinite(self.value) or undefined > len(self.draws) / 2 or not len(defined):
            return Interval(self.value, float("nan"), float("nan"), undefined)
        normal = NormalDist()
        bias = _normal_place(self.value, defined) if self.method == "bca" else 0.0
        ends = []
        for end in (-1.0, 1.0):
            moved = bias + end * self._reach(confidence)
            ends.append(normal.cdf(bias + moved / (1.0 - self.acceleration * moved)))
        low, high = np.quantile(defined, ends)
        return Interval(self.value, float(low), float(high), undefined)

    def p_value(self) -> float:
        """The two-sided p-value of the hypothesis that the true value is 0: the least level whose interval leaves 0
        out. At least 2 / (samples + 1); NaN where no interval is given."""
        defined = self.draws[np.isfinite(self.draws)]
        if not np.isfinite(self.value) or 2 * len(defined) < len(self.draws) or not len(defined):
            return float("nan")
        place = _normal_place(0.0, defined)
        if self.method == "bca":
            bias = _normal_place(self.value, defined)
            moved = place - bias
            place = moved / (1.0 + self.acceleration * moved) - bias
        tail = self._tail(abs(place))
        return min(1.0, max(2.0 * tail, 2.0 / (len(defined) + 1)))

    def _reach(self, confidence: float) -> float:
        """How many standard deviations the interval reaches out, as places of the normal distribution."""
        from scipy.stats import t

        n = self.patients
        return float(t.ppf(0.5 + confidence / 2.0, n - 1)) * math.sqrt(n / (n - 1))

    def _tail(self, place: float) -> float:
        """The probability beyond a place: what `_reach` turns into places, turned back."""
        from scipy.stats import t

        n = self.patients
        return float(t.sf(place * math.sqrt((n - 1) / n), n - 1))


def independent(groups: NDArray[Any], positive: NDArray[np.bool_] | None = None) -> int:
    """How many independent patients a statistic rests on, at least 2.

    Args:
        groups: (N,) what belongs together.
        positive: (N,) where two kinds of images are compared: then the rarer kind's patients count. None: all.
    """
    if positive is None:
        return max(2, len(np.unique(groups)))
    return max(2, min(len(np.unique(groups[side])) for side in (positive, ~positive)))


def _normal_place(value: float, draws: Floats) -> float:
    """The normal quantile of the share of draws below `value`, equal ones counting half; finite."""
    share = float(((draws < value).sum() + (draws <= value).sum()) / (2.0 * len(draws)))
    edge = 1.0 / (len(draws) + 1)
    return NormalDist().inv_cdf(min(max(share, edge), 1.0 - edge))


def resample(
    statistic: Callable[[Floats], Mapping[Name, Floats]],
    groups: NDArray[Any],
    *,
    samples: int,
    seed: int,
    method: Method,
    patients: int,
) -> dict[Name, Resampled]:
    """Statistics with their bootstrap distributions over groups, by name.

    Args:
        statistic: weights (N, B) to values (B,) by name.
        groups: (N,) what is resampled as a whole.
        samples: the number of resamples, at least 1.
        seed: of the draws.
        method: of the intervals to be made of them.
        patients: how many independent ones the statistics rest on (see `independent`).
    """
    values = {name: float(value[0]) for name, value in statistic(np.ones((len(groups), 1))).items()}
    draws = bootstrap(statistic, groups, samples=samples, seed=seed)
    accelerations = dict.fromkeys(values, 0.0)
    if method == "bca":
        parts = [statistic(weights) for weights in jackknife_weights(groups, seed=seed)]
        accelerations = {name: _acceleration(np.concatenate([part[name] for part in parts])) for name in values}
    return {
        name: Resampled(value, draws[name], accelerations[name], method, patients) for name, value in values.items()
    }


def _acceleration(left_out: Floats) -> float:
    """Efron's acceleration from jackknife values; 0 where they are all alike or one is undefined."""
    off = left_out.mean() - left_out
    spread = float((off**2).sum())
    return float((off**3).sum() / (6.0 * spread**1.5)) if np.isfinite(spread) and spread > 0.0 else 0.0


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
    method: Method,
) -> dict[str, Interval]:
    """Every metric that exists for the task, with its interval over resampled groups.

    Args:
        task: binary, multiclass, multilabel or ordinal.
        labels: (N,) int64 class indices, or (N, L) uint8 (multi-label).
        probabilities: (N, K), 0 to 1.
        decisions: (N,) or (N, L) int.
        groups: (N,) patients. With fewer than two there is nothing to resample: values come without an interval.
        samples: the number of resamples.
        confidence: above 0 and below 1.
        seed: of the draws.
        method: 'bca' or 'percentile'.

    Raises:
        DataError: see `metrics.Predictions`; or the groups have another length.
    """
    predictions = Predictions(task, labels, probabilities, decisions)
    return _intervals(evaluate_weighted, predictions, groups, samples, confidence, seed, method)


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
    method: Method,
) -> dict[int, dict[str, Interval]]:
    """`metrics.per_class` with intervals; takes and raises what `bootstrap_intervals` does."""
    predictions = Predictions(task, labels, probabilities, decisions)
    found = _intervals(per_class_weighted, predictions, groups, samples, confidence, seed, method)
    nested: dict[int, dict[str, Interval]] = {}
    for (k, name), interval in found.items():
        nested.setdefault(k, {})[name] = interval
    return nested


def independent_of(predictions: Predictions, groups: NDArray[Any]) -> int:
    """`independent` for what was said of images: of two classes the rarer one's patients, else all.

    Raises:
        DataError: the groups have another length.
    """
    n = len(predictions.labels)
    if len(groups) != n:
        raise DataError(f"there are {len(groups)} where there are {n} images.", where="groups")
    return independent(groups, predictions.labels == 1 if predictions.task == "binary" else None)


def _intervals(
    statistic: Callable[[Predictions, Floats], Mapping[Name, Floats]],
    predictions: Predictions,
    groups: NDArray[Any],
    samples: int,
    confidence: float,
    seed: int,
    method: Method,
) -> dict[Name, Interval]:
    patients = independent_of(predictions, groups)
    if len(np.unique(groups)) < 2:
        values = statistic(predictions, np.ones((len(groups), 1)))
        return {name: Interval(float(value[0]), float("nan"), float("nan"), 0) for name, value in values.items()}
    found = resample(
        lambda weights: statistic(predictions, weights),
        groups,
        samples=samples,
        seed=seed,
        method=method,
        patients=patients,
    )
    return {name: each.interval(confidence) for name, each in found.items()}


def wilson(successes: float, n: float, confidence: float) -> Interval:
    """Wilson's score interval for a proportion of independent trials (Wilson, 1927); all NaN for n = 0.

    Images of one patient are not independent: use it for counts of patients, or where each image is a patient; else
    `proportions.proportion`, which passes an effective number of images.
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
