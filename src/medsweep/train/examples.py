"""What a network is trained and looked at with: the splits as they were prepared, a fold of both, or all of both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from medsweep.artifacts.augmented import AugmentedViews
from medsweep.artifacts.prepared import PreparedSplit, Standardization
from medsweep.artifacts.record import Task
from medsweep.errors import ArtifactError
from medsweep.imaging.transforms import TRANSFORMS
from medsweep.imaging.views import ViewRenderer

_BLOCK_ROWS = 1024


@dataclass(frozen=True)
class TrainingData:
    """Where a worker finds the arrays.

    Args:
        train, val: folders of prepared splits.
        augmented: the folder with one folder a policy.
        digest: of all of it, so that a worker knows when its open arrays are stale.
        folds: a file of (R, N) int64: for each repeat the fold of each image of both splits, training first; None
            where there is no cross-validation.
    """

    train: Path
    val: Path
    augmented: Path
    digest: str
    folds: Path | None = None
    warm_start: Path | None = None


@dataclass(frozen=True)
class Part:
    """Which images are trained on, and which are looked at.

    Args:
        kind: 'holdout': the training split, and the validation split. 'fold': of both splits together all but one
            fold, and that fold. 'all': both splits together, and none.
        repeat, fold: for 'fold', which one.
    """

    kind: Literal["holdout", "fold", "all"]
    repeat: int = 0
    fold: int = 0


HOLDOUT = Part("holdout")
ALL = Part("all")


class Views(Protocol):
    """A policy's views of training images."""

    def rows(self, indices: NDArray[np.int64]) -> NDArray[Any]:
        """The views at `view · N + image`."""


class PooledImages:
    """Some rows of several image arrays as if they were one (N, H, W, C): nothing is read before it is asked for.

    Args:
        arrays: of one type and shape but for their lengths; may be memory-mapped.
        rows: (N,) rows of the arrays one after another.
    """

    def __init__(self, arrays: tuple[NDArray[Any], ...], rows: NDArray[np.int64]) -> None:
        self._arrays = arrays
        self._rows = rows
        self._ends = np.cumsum([len(each) for each in arrays])
        self.dtype = arrays[0].dtype
        self.itemsize = arrays[0].itemsize
        self.shape = (len(rows), *arrays[0].shape[1:])

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, chosen: slice | NDArray[np.int64]) -> NDArray[Any]:
        rows = self._rows[chosen]
        found = np.empty((len(rows), *self.shape[1:]), self.dtype)
        homes = np.searchsorted(self._ends, rows, side="right")
        for home, array in enumerate(self._arrays):
            there = homes == home
            found[there] = array[rows[there] - (self._ends[home] - len(array))]
        return found


@dataclass(frozen=True)
class Examples:
    """Images of both splits, with what a `PreparedSplit` knows of its own."""

    images: Any
    labels: NDArray[Any]
    record_ids: NDArray[np.str_]
    patient_ids: NDArray[np.str_]
    class_names: tuple[str, ...]
    task: Task
    value_range: int
    standardization: Standardization | None

    def __len__(self) -> int:
        return len(self.labels)


Split = PreparedSplit | Examples


def subset(split: Split, rows: NDArray[np.int64]) -> Examples:
    """Some images of a split."""
    return Examples(
        images=_Some(split.images, rows),
        labels=split.labels[rows],
        record_ids=split.record_ids[rows],
        patient_ids=split.patient_ids[rows],
        class_names=split.class_names,
        task=split.task,
        value_range=split.value_range,
        standardization=split.standardization,
    )


class _Some:
    """Some rows of images, read when they are asked for."""

    def __init__(self, images: Any, rows: NDArray[np.int64]) -> None:
        self._images, self._rows = images, rows
        self.dtype, self.itemsize = images.dtype, images.itemsize
        self.shape = (len(rows), *images.shape[1:])

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, chosen: slice | NDArray[np.int64]) -> NDArray[Any]:
        return np.asarray(self._images[self._rows[chosen]])


class OpenData(Protocol):
    """The arrays of one part, open."""

    @property
    def train(self) -> Split: ...

    @property
    def val(self) -> Split: ...

    def views(self, policy: str) -> Views: ...


class OpenSplits:
    """The open arrays of one search in one worker, as they were prepared: training split, validation split."""

    def __init__(self, data: TrainingData) -> None:
        self.data = data
        self.train = PreparedSplit.load(data.train, verify=False)
        self.val = PreparedSplit.load(data.val, verify=False)
        self._views: dict[str, ViewRenderer] = {}
        self._drawn: dict[str, ViewRenderer] = {}
        self._parts: dict[Part, OpenData] = {}

    def part(self, part: Part) -> OpenData:
        """Another part of the same images."""
        if part == HOLDOUT:
            return self
        if part not in self._parts:
            self._parts[part] = _OpenPart(self, part)
        return self._parts[part]

    def views(self, policy: str) -> ViewRenderer:
        if policy not in self._views:
            views = AugmentedViews.load(self.data.augmented / policy, verify=False)
            if views.prepared_digest != self.train.digest:
                raise ArtifactError("belong to other training images.", where=f"augmented views '{policy}'")
            self._views[policy] = ViewRenderer(views, self.train.images, self.train.value_range)
        return self._views[policy]

    def validation_views(self, policy: str) -> ViewRenderer:
        """Views of the validation images, for when they are trained on too; rendered as they are read.

        Augment draws for the training split alone. These are drawn from the ranges that it recorded, each transform
        from a stream of its own that the record's digest decides.
        """
        if policy not in self._drawn:
            known = AugmentedViews.load(self.data.augmented / policy, verify=False)
            draws = {
                name: np.concatenate(
                    [
                        TRANSFORMS[name]
                        .settings.model_validate(known.settings[name])
                        .draw(_stream(known.digest, name, view), len(self.val))
                        for view in range(known.n_views)
                    ]
                )
                for name in known.transforms
            }
            views = AugmentedViews(
                policy=policy,
                n_images=len(self.val),
                n_views=known.n_views,
                transforms=known.transforms,
                settings=known.settings,
                draws=draws,
                shards=(),
                prepared_digest=self.val.digest,
            )
            self._drawn[policy] = ViewRenderer(views, self.val.images, self.val.value_range)
        return self._drawn[policy]


def _stream(digest: str, transform: str, view: int) -> np.random.Generator:
    return np.random.default_rng([int(digest[:16], 16), *transform.encode(), view])


class _OpenPart:
    """A fold of both splits, or both together."""

    def __init__(self, splits: OpenSplits, part: Part) -> None:
        self._splits = splits
        n = len(splits.train) + len(splits.val)
        held_out = np.zeros(n, np.bool_)
        if part.kind == "fold":
            if splits.data.folds is None:
                raise ArtifactError("there are no folds.", where="train.search.validation")
            held_out = np.load(splits.data.folds, allow_pickle=False)[part.repeat] == part.fold
        self._rows = np.flatnonzero(~held_out)
        self.train = _examples(splits, self._rows, standardize=True)
        self.val = _examples(splits, np.flatnonzero(held_out), standardize=False)

    def views(self, policy: str) -> Views:
        return _PooledViews(self._splits.views(policy), self._splits.validation_views(policy), self._rows)


class _PooledViews:
    """Views of some images of both splits; row `view · N + image` as for one split."""

    def __init__(self, train: ViewRenderer, val: ViewRenderer, rows: NDArray[np.int64]) -> None:
        self._train, self._val, self._rows = train, val, rows

    def rows(self, indices: NDArray[np.int64]) -> NDArray[Any]:
        view, image = np.divmod(indices, len(self._rows))
        pooled = self._rows[image]
        n_train, n_val = self._train.n_images, self._val.n_images
        of_train = pooled < n_train
        first = self._train.rows(view[of_train] * n_train + pooled[of_train])
        second = self._val.rows(view[~of_train] * n_val + pooled[~of_train] - n_train)
        found = np.empty((len(indices), *first.shape[1:]), first.dtype)
        found[of_train], found[~of_train] = first, second
        return found


def _examples(splits: OpenSplits, rows: NDArray[np.int64], *, standardize: bool) -> Examples:
    train, val = splits.train, splits.val
    images = PooledImages((train.images, val.images), rows)

    def joined(name: str) -> NDArray[Any]:
        each: Mapping[str, Any] = train.__dict__
        found: NDArray[Any] = np.concatenate([each[name], val.__dict__[name]])[rows]
        return found

    return Examples(
        images=images,
        labels=joined("labels"),
        record_ids=joined("record_ids"),
        patient_ids=joined("patient_ids"),
        class_names=train.class_names,
        task=train.task,
        value_range=train.value_range,
        standardization=_standardization(images, train.value_range) if standardize else None,
    )


def _standardization(images: PooledImages, value_range: int) -> Standardization:
    """Mean and deviation of the images that are trained on: those that are held out have no part in them."""
    channels = images.shape[-1]
    sums, squares = np.zeros(channels), np.zeros(channels)
    for start in range(0, len(images), _BLOCK_ROWS):
        block = images[start : start + _BLOCK_ROWS].astype(np.float64) / value_range
        sums += block.sum(axis=(0, 1, 2))
        squares += (block**2).sum(axis=(0, 1, 2))
    n = max(1, len(images)) * int(np.prod(images.shape[1:3]))
    mean = sums / n
    deviation = np.sqrt(np.maximum(squares / n - mean**2, 0.0))
    return Standardization(tuple(mean.tolist()), tuple(deviation.tolist()))
