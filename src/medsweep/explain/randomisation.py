"""The model-randomisation test (Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018).

A map that says what a model has learnt must change when the model forgets it. Here all weights are drawn anew, and maps
before and after are compared by Spearman's rank correlation. A method that goes on showing the same (an edge detector,
say) explains the image and not the model.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medsweep.explain.method import Settings
from medsweep.explain.methods import explain
from medsweep.explain.network import Network

Floats = NDArray[np.float32]

SIMILAR = 0.7
"""A mean rank correlation from here on fails the test: then half of the variance of the ranks and more is the image's
alone (0.7² = 0.49), whatever was learnt."""


@dataclass(frozen=True)
class Randomised:
    """How alike the maps of the trained and of a random model are.

    Args:
        similarity: (n,) the absolute rank correlation of the maps as they are shown, mean over the draws; a map turned
            into its negative counts as unchanged.
        magnitude: (n,) the rank correlation of the maps' absolute values, mean over the draws.
        maps: (draws, n, H, W) of the random models.
    """

    similarity: NDArray[np.float64]
    magnitude: NDArray[np.float64]
    maps: Floats


def randomised(
    network: Network,
    method: str,
    images: NDArray[Any],
    classes: NDArray[np.int64],
    trained: Floats,
    settings: Settings,
    *,
    seeds: Iterable[int],
    top: int | None = None,
) -> Randomised:
    """Compare a method's maps with those of the same model with random weights.

    Args:
        network: the trained model; it is as before when this returns.
        method: a row of `METHODS`.
        images: (n, H, W, C) raw pixels.
        classes: (n,) the class that is explained.
        trained: (n, H, W) the method's maps of the trained model.
        settings: of the methods.
        seeds: one a draw.
        top: draw only this many layers anew, counted from the output (the cascading form); None for all.
    """
    maps = []
    for seed in seeds:
        with network.random_weights(seed, top=top):
            maps.append(explain(network, method, images, classes, settings))
    shown = [rank_correlation(trained, each) for each in maps]
    sizes = [rank_correlation(np.abs(trained), np.abs(each)) for each in maps]
    return Randomised(np.mean(np.abs(shown), axis=0), np.mean(sizes, axis=0), np.stack(maps))


def rank_correlation(first: Floats, second: Floats) -> NDArray[np.float64]:
    """(n,) Spearman's correlation of two maps of each image; 0 where one of them is constant."""
    from scipy.stats import rankdata

    one, two = (rankdata(each.reshape(len(each), -1), axis=1) for each in (first, second))
    one, two = (each - each.mean(axis=1, keepdims=True) for each in (one, two))
    below = np.sqrt((one**2).sum(axis=1) * (two**2).sum(axis=1))
    return np.asarray(np.divide((one * two).sum(axis=1), below, out=np.zeros(len(first)), where=below > 0))
