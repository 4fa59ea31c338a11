"""Reading augmented views: from the rendered rows where they are stored, else rendered from their draws."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from medsweep.artifacts.augmented import AugmentedViews
from medsweep.errors import ArtifactError
from medsweep.imaging.transforms import TRANSFORMS, render


class ViewRenderer:
    """One policy's views as arrays; the same pixels whether they were rendered beforehand or not.

    Args:
        views: the draws, with or without rendered rows.
        images: (N, H, W, C) uint8 or uint16, the training images that the draws belong to; may be memory-mapped.
        value_range: the value that stands for full intensity (255 or 65535).

    Raises:
        ArtifactError: the images are not as many as the draws were made for, or a transform is unknown.
    """

    def __init__(self, views: AugmentedViews, images: NDArray[Any], value_range: int) -> None:
        where = f"augmented views '{views.policy}'"
        fix = "Run the stage 'augment' again: dvc repro augment."
        if len(images) != views.n_images:
            raise ArtifactError(
                f"were drawn for {views.n_images} training images, but there are {len(images)}.", where=where, fix=fix
            )
        unknown = [name for name in views.transforms if name not in TRANSFORMS]
        if unknown:
            raise ArtifactError(f"hold draws of an unknown transform '{unknown[0]}'.", where=where, fix=fix)
        # Work is shared out among processes, each with one thread; OpenCV would take all cores in each of them.
        cv2.setNumThreads(1)
        self._images = images
        self._value_range = value_range
        self._shards = views.shards
        self._ends = np.cumsum([len(shard) for shard in views.shards], dtype=np.int64)
        self._chain = [(TRANSFORMS[name], views.draws[name]) for name in views.transforms]
        self.n_images = views.n_images
        self._n_rows = views.n_images * views.n_views

    def __len__(self) -> int:
        return self._n_rows

    def rows(self, indices: NDArray[np.int64]) -> NDArray[Any]:
        """The views at `indices` (B,), row `view · N + image` each, as (B, H, W, C) of the images' type.

        Raises:
            IndexError: an index is outside 0 to N·V - 1.
        """
        if len(indices) and (indices.min() < 0 or indices.max() >= self._n_rows):
            raise IndexError(f"a view's row must be from 0 to {self._n_rows - 1}")
        found = np.empty((len(indices), *self._images.shape[1:]), dtype=self._images.dtype)
        if self._shards:
            homes = np.searchsorted(self._ends, indices, side="right")
            for home in np.unique(homes):
                there = np.flatnonzero(homes == home)
                shard = self._shards[home]
                found[there] = shard[indices[there] - (self._ends[home] - len(shard))]
        else:
            drawn = [values[indices].tolist() for _, values in self._chain]
            for place, row in enumerate(indices.tolist()):
                image = np.asarray(self._images[row % len(self._images)])
                chain = [(transform, each[place]) for (transform, _), each in zip(self._chain, drawn, strict=True)]
                found[place] = render(image, chain, self._value_range)
        return found
