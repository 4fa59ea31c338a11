"""How far an image lies from what a network was trained on: Mahalanobis distance of its features, and energy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medsweep.artifacts.record import Task
from medsweep.statistics.weighted import Floats

_RIDGE = 1e-6  # of the mean variance: features that never moved in training must not divide by 0


class FeatureMoments:
    """Class means and the covariance within classes, summed block by block: memory does not grow with the images.

    Args:
        n_groups: K classes; 1 for a multi-label task, whose images have no one class.
    """

    def __init__(self, n_groups: int) -> None:
        self._counts = np.zeros(n_groups)
        self._sums: Floats | None = None
        self._products: Floats | None = None
        self._shift: Floats | None = None

    def add(self, features: NDArray[Any], groups: NDArray[Any]) -> None:
        """Add a block: features (n, F), and each one's class (n,)."""
        if not len(features):
            return
        if self._shift is None:
            # About a value near the mean, so that the difference of two large sums does not eat the digits.
            self._shift = np.asarray(features, dtype=np.float64).mean(axis=0)
            size = features.shape[1]
            self._sums, self._products = np.zeros((len(self._counts), size)), np.zeros((size, size))
        assert self._sums is not None and self._products is not None
        moved = np.asarray(features, dtype=np.float64) - self._shift
        self._counts += np.bincount(groups, minlength=len(self._counts))
        np.add.at(self._sums, groups, moved)
        # Not a BLAS product, which adds in an order that depends on its threads.
        self._products += np.einsum("nf,ng->fg", moved, moved)

    def means_and_covariance(self) -> tuple[Floats, Floats]:
        """The means (G, F) of the classes that have images, and the covariance (F, F) within classes.

        The covariance is shrunk towards its mean variance by the oracle-approximating estimator (Chen et al., 2010):
        some dozens of features of some hundreds of images would not determine it.

        Raises:
            ValueError: nothing was added.
        """
        if self._sums is None or self._products is None or self._shift is None:
            raise ValueError("no features were added")
        there = self._counts > 0
        counts, sums = self._counts[there], self._sums[there]
        means = sums / counts[:, None]
        n, size = counts.sum(), sums.shape[1]
        scatter = (self._products - np.einsum("k,kf,kg->fg", counts, means, means)) / n
        trace, squares = float(np.trace(scatter)), float((scatter**2).sum())
        variance = trace / size
        over = (n + 1 - 2 / size) * (squares - trace**2 / size)
        shrinkage = 1.0 if over <= 0 else min(1.0, ((1 - 2 / size) * squares + trace**2) / over)
        floor = _RIDGE * variance if variance > 0 else _RIDGE
        covariance = (1 - shrinkage) * scatter + (shrinkage * variance + floor) * np.eye(size)
        return means + self._shift, covariance


def mahalanobis(features: NDArray[Any], means: NDArray[Any], covariance: NDArray[Any]) -> Floats:
    """The distance to the nearest class in the network's features (Lee et al., 2018): (N,), at least 0, no unit.

    Args:
        features: (N, F).
        means: (G, F).
        covariance: (F, F), positive definite.
    """
    x = np.asarray(features, dtype=np.float64)
    root = np.linalg.cholesky(np.asarray(covariance, dtype=np.float64))
    whiten = np.linalg.inv(root).T
    squares = np.stack([(((x - mean) @ whiten) ** 2).sum(axis=1) for mean in np.asarray(means, dtype=np.float64)])
    return np.asarray(np.sqrt(squares.min(axis=0)))


def energy(task: Task, logits: NDArray[Any]) -> Floats:
    """The energy of logits (N, K): (N,), in nats; higher where no class is called (Liu et al., 2020).

    Multi-label: the sum over labels, each against its absence (Wang et al., 2021).
    """
    z = np.asarray(logits, dtype=np.float64)
    if task == "multilabel":
        return np.asarray(-np.logaddexp(0.0, z).sum(axis=1))
    highest = z.max(axis=1)
    return np.asarray(-(highest + np.log(np.exp(z - highest[:, None]).sum(axis=1))))
