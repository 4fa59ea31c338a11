"""Deletion and insertion (Petsiuk et al., RISE: Randomized Input Sampling for Explanation of Black-box Models, 2018).

If a map is right about the model, the class's probability falls fast when the pixels it names are taken away first, and
rises fast when they are put back first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from medsweep.explain.network import Network

Floats = NDArray[np.float32]

# The deviation of the blur that insertion starts from, as a share of the shorter side: no outline is left.
_BLUR = 0.125


@dataclass(frozen=True)
class Curves:
    """The class's probability while pixels go and come, those of the highest values first.

    Args:
        share: (S + 1,) of the pixels, from 0 to 1.
        deletion: (n, S + 1) they are replaced by the image's mean.
        insertion: (n, S + 1) they are put into the blurred image.
    """

    share: NDArray[np.float64]
    deletion: NDArray[np.float64]
    insertion: NDArray[np.float64]

    @property
    def deletion_area(self) -> NDArray[np.float64]:
        """(n,) the mean height of the deletion curve: the lower, the better."""
        return np.asarray(np.trapezoid(self.deletion, self.share, axis=1))

    @property
    def insertion_area(self) -> NDArray[np.float64]:
        """(n,) the mean height of the insertion curve: the higher, the better."""
        return np.asarray(np.trapezoid(self.insertion, self.share, axis=1))

    @property
    def gain(self) -> NDArray[np.float64]:
        """(n,) insertion's area less deletion's, -1 to 1: one number for both."""
        return self.insertion_area - self.deletion_area


def curves(
    network: Network, images: NDArray[Any], classes: NDArray[np.int64], maps: Floats, *, steps: int, seed: int
) -> Curves:
    """Take away and put back pixels in the order of the maps.

    Args:
        network: the model.
        images: (n, H, W, C) raw pixels.
        classes: (n,) the class that is explained.
        maps: (n, H, W) of it.
        steps: S, in how many equal steps.
        seed: of the order of pixels with equal values.
    """
    n, height, width, channels = images.shape
    pixels = np.asarray(images, dtype=np.float32).reshape(n, height * width, channels)
    mean = pixels.mean(axis=1, keepdims=True)
    blurred = np.stack([_blurred(np.asarray(each, dtype=np.float32)) for each in images]).reshape(pixels.shape)
    chance = np.random.default_rng(seed).permutation(height * width)
    order = np.stack([np.lexsort((chance, -each.ravel())) for each in maps])
    share = np.linspace(0.0, 1.0, steps + 1)
    found: dict[str, list[NDArray[np.float64]]] = {"deletion": [], "insertion": []}
    for part in share:
        highest = np.zeros((n, height * width, 1), dtype=np.bool_)
        np.put_along_axis(highest[:, :, 0], order[:, : round(part * height * width)], True, axis=1)
        for name, changed in (
            ("deletion", np.where(highest, mean, pixels)),
            ("insertion", np.where(highest, pixels, blurred)),
        ):
            probabilities = network.probabilities(changed.reshape(images.shape))
            found[name].append(probabilities[np.arange(n), classes].astype(np.float64))
    return Curves(share, np.stack(found["deletion"], axis=1), np.stack(found["insertion"], axis=1))


def moved(maps: Floats, seed: int) -> Floats:
    """Each map moved to a random place, wrapping around the edges: as smooth and as steep as before, and wrong."""
    rng = np.random.default_rng(seed)
    height, width = maps.shape[1:]
    # A quarter of the image away at least, or it would still be half right.
    rows = rng.integers(height // 4, height - height // 4, len(maps))
    columns = rng.integers(width // 4, width - width // 4, len(maps))
    return np.stack(
        [np.roll(each, (row, column), axis=(0, 1)) for each, row, column in zip(maps, rows, columns, strict=True)]
    )


def _blurred(image: Floats) -> Floats:
    deviation = _BLUR * min(image.shape[:2])
    return np.asarray(cv2.GaussianBlur(image, (0, 0), deviation), dtype=np.float32).reshape(image.shape)
