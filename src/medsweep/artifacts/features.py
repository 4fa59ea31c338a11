"""FeatureStatistics: what a trained network's features look like on its training images, models/features.npz."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medsweep.artifacts import files
from medsweep.errors import ArtifactError

_MADE_BY = "train"


@dataclass(frozen=True)
class FeatureStatistics:
    """Means and covariance of the features that go into the layer 'logits', over the training images.

    Args:
        means: (G, F), a row for each class that has training images; one row for a multi-label task.
        covariance: (F, F) within classes, positive definite.

    Raises:
        ArtifactError: the shapes disagree, or a value is not finite.
    """

    means: NDArray[np.float64]
    covariance: NDArray[np.float64]

    def __post_init__(self) -> None:
        size = self.means.shape[-1]
        rules = [
            (self.means.ndim == 2 and len(self.means) >= 1, "the means must be (G, F)"),
            (self.covariance.shape == (size, size), "the covariance must be (F, F)"),
            (bool(np.isfinite(self.means).all() and np.isfinite(self.covariance).all()), "a value is not finite"),
        ]
        for holds, why in rules:
            if not holds:
                raise ArtifactError(f"{why}.", where="feature statistics")

    def save(self, path: Path) -> None:
        """Write both arrays; numpy dates the members of its archives 1980, so the bytes depend on the values alone."""
        with files.replacing(path) as temporary, temporary.open("wb") as stream:
            np.savez(stream, means=self.means, covariance=self.covariance)

    @classmethod
    def load(cls, path: Path) -> FeatureStatistics:
        """Read what `save` wrote.

        Raises:
            ArtifactError: the file is missing or damaged.
        """
        try:
            with np.load(path, allow_pickle=False) as saved:
                arrays: dict[str, Any] = {name: saved[name] for name in ("means", "covariance")}
        except FileNotFoundError:
            raise files.missing(path, made_by=_MADE_BY) from None
        except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise files.damaged(path, f"is damaged ({error}).", made_by=_MADE_BY) from None
        return cls(**arrays)
