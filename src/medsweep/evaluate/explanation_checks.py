"""Whether a method's maps may be believed, in numbers and in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medsweep import params
from medsweep.explain import perturbation, pointing
from medsweep.explain.method import Settings
from medsweep.explain.methods import METHODS
from medsweep.explain.network import Network
from medsweep.explain.randomisation import SIMILAR, randomised, rank_correlation
from medsweep.statistics.intervals import Interval, percentile_interval, resample_weights

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Localization:
    """How well maps point at the known lesions: the mean over the images that have one, with intervals.

    Args:
        hits: the pointing game's share of hits.
        hits_by_class: the same by the class that was explained, for classes that occur.
        energy: the share of positive values inside.
        overlap: IoU with as many of the highest pixels.
        random: the same three of the model with random weights.
    """

    hits: Interval
    hits_by_class: Mapping[int, float]
    energy: Interval
    overlap: Interval
    random: tuple[float, float, float]


@dataclass(frozen=True)
class Checked:
    """What the checks found about one method.

    Args:
        method: its row in `METHODS`.
        similarity: rank correlation with maps of random weights, as they are shown.
        magnitude: the same of the maps' absolute values.
        curves, moved: of deletion and insertion, and those of the same maps moved elsewhere.
        gain: insertion's area less deletion's, less that of the same maps moved elsewhere: above 0 if the place counts.
        localization: where masks are known.
    """

    method: str
    similarity: Interval
    magnitude: Interval
    curves: perturbation.Curves
    moved: perturbation.Curves
    gain: Interval
    localization: Localization | None

    @property
    def title(self) -> str:
        return METHODS[self.method].title

    @property
    def deletion(self) -> float:
        return float(self.curves.deletion_area.mean())

    @property
    def insertion(self) -> float:
        return float(self.curves.insertion_area.mean())

    @property
    def depends_on_weights(self) -> bool:
        """Whether it passed the model-randomisation test."""
        return self.similarity.high < SIMILAR

    @property
    def names_what_counts(self) -> bool:
        """Whether the place of its pixels matters to the model: the interval of `gain` lies above 0."""
        return self.gain.low > 0

    @property
    def passed(self) -> bool:
        return self.depends_on_weights and self.names_what_counts

    @property
    def verdict(self) -> str:
        """'passes', or what failed."""
        failed = []
        if not self.depends_on_weights:
            failed.append("FAILS: random weights give almost the same maps")
        if not self.names_what_counts:
            failed.append("FAILS: not shown to be better than the same maps moved elsewhere")
        return "; ".join(failed) or "passes"


class Means:
    """Means over images with intervals, by resampling patients."""

    def __init__(self, groups: NDArray[np.str_], known: params.Bootstrap) -> None:
        self._weights = np.concatenate(list(resample_weights(groups, samples=known.samples, seed=known.seed)), axis=1)
        self._confidence = known.confidence

    def of(self, values: NDArray[Any], among: NDArray[np.bool_] | None = None) -> Interval:
        """The mean of `values` (n,), over the images in `among` where it is given."""
        own = np.asarray(values, dtype=np.float64)
        weights = self._weights
        if among is not None:
            own, weights = own[among], weights[among]
        total = weights.sum(axis=0)
        draws = np.divide(own @ weights, total, out=np.full(len(total), np.nan), where=total > 0)
        value = float(own.mean()) if len(own) else float("nan")
        return percentile_interval(value, draws, confidence=self._confidence)


def check(
    network: Network,
    method: str,
    images: NDArray[Any],
    classes: NDArray[np.int64],
    maps: Floats,
    masks: NDArray[np.uint8] | None,
    means: Means,
    known: params.Explanations,
    settings: Settings,
) -> Checked:
    """Make all checks of one method.

    Args:
        network: the trained model.
        method: a row of `METHODS`.
        images: (n, H, W, C) raw pixels.
        classes: (n,) the class that is explained.
        maps: (n, H, W) the method's.
        masks: (n, H, W) of the lesions, where they are known.
        means: over these n images.
        known: how many draws and steps.
        settings: of the methods.
    """
    seeds = [known.seed + draw for draw in range(known.draws)]
    forgotten = randomised(network, method, images, classes, maps, settings, seeds=seeds)
    true = perturbation.curves(network, images, classes, maps, steps=known.curve_steps, seed=known.seed)
    elsewhere = perturbation.curves(
        network, images, classes, perturbation.moved(maps, known.seed), steps=known.curve_steps, seed=known.seed
    )
    return Checked(
        method=method,
        similarity=means.of(forgotten.similarity),
        magnitude=means.of(forgotten.magnitude),
        curves=true,
        moved=elsewhere,
        gain=means.of(true.gain - elsewhere.gain),
        localization=None if masks is None else _localization(maps, forgotten.maps, classes, masks, means),
    )


def agreement(maps: Sequence[Floats]) -> NDArray[np.float64]:
    """(M, M) the mean rank correlation of the maps of each two methods."""
    found = np.eye(len(maps))
    for one in range(len(maps)):
        for two in range(one):
            found[one, two] = found[two, one] = rank_correlation(maps[one], maps[two]).mean()
    return found


def _localization(
    maps: Floats, random: Floats, classes: NDArray[np.int64], masks: NDArray[np.uint8], means: Means
) -> Localization | None:
    there = np.asarray(masks.any(axis=(1, 2)), dtype=np.bool_)
    if not there.any():
        return None
    chance = [
        float(np.mean([measure(each[there], masks[there]) for each in random]))
        for measure in (pointing.hits, pointing.energy_inside, pointing.overlap)
    ]
    hits = pointing.hits(maps, masks)
    return Localization(
        hits=means.of(hits, there),
        hits_by_class={int(k): float(hits[there & (classes == k)].mean()) for k in np.unique(classes[there])},
        energy=means.of(pointing.energy_inside(maps, masks), there),
        overlap=means.of(pointing.overlap(maps, masks), there),
        random=(chance[0], chance[1], chance[2]),
    )
