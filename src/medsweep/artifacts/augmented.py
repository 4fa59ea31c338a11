"""AugmentedViews: what was drawn for each view of the training split, and the views that were rendered beside it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medsweep.artifacts import files
from medsweep.errors import ArtifactError

_MADE_BY = "augment"


@dataclass(frozen=True)
class AugmentedViews:
    """The augmented views of one policy.

    Row `view · n_images + image` is view number `view` of training image number `image`, so the first
    `v · n_images` rows are all that a trial with `v` views needs.

    Args:
        policy: the policy's name.
        n_images: the number of training images, N.
        n_views: the views drawn for each, V.
        transforms: the chain's transform names, in the order they apply.
        settings: each transform's ranges as params.yaml gave them, by transform name.
        draws: for each transform a (N·V, P) float64 array of its drawn values, by transform name; a transform's
            first value is 1 where it applies and 0 where it does not.
        shards: rendered views, (rows, H, W, C) each, memory-mapped, in row order; empty where views are rendered
            as they are read.
        prepared_digest: the digest of the training split that the draws belong to.
        digest: one SHA-256 for all of it; empty until it is written.

    Raises:
        ArtifactError: the arrays disagree in length or shape.
    """

    policy: str
    n_images: int
    n_views: int
    transforms: tuple[str, ...]
    settings: dict[str, dict[str, Any]]
    draws: dict[str, NDArray[np.float64]]
    shards: tuple[NDArray[Any], ...]
    prepared_digest: str
    digest: str = ""

    def __post_init__(self) -> None:
        rows = self.n_images * self.n_views
        rules = [
            (self.n_images >= 1 and self.n_views >= 1, "there must be at least one image and one view"),
            (set(self.draws) == set(self.transforms), "every transform needs its draws"),
            (all(values.ndim == 2 and len(values) == rows for values in self.draws.values()), "draws must be (N·V, P)"),
            (not self.shards or sum(map(len, self.shards)) == rows, "the rendered views must be N·V rows"),
        ]
        for holds, why in rules:
            if not holds:
                raise ArtifactError(f"{why}.", where=f"augmented views '{self.policy}'")

    @property
    def rendered(self) -> bool:
        return bool(self.shards)

    @classmethod
    def load(cls, folder: Path, *, verify: bool = True) -> AugmentedViews:
        """Read one policy's draws and map its rendered views.

        Args:
            folder: where `write_views` wrote it.
            verify: compare every file with its recorded digest.

        Raises:
            ArtifactError: a file is missing, was changed since it was written, or breaks the rules above.
        """
        head = files.read_head(folder / "views.json", made_by=_MADE_BY)
        if verify:
            files.check_digests(folder, head["files"], made_by=_MADE_BY)

        def array(name: str, *, memory_map: bool = False) -> NDArray[Any]:
            return files.read_npy(folder / f"{name}.npy", made_by=_MADE_BY, memory_map=memory_map)

        return cls(
            policy=head["policy"],
            n_images=head["n_images"],
            n_views=head["n_views"],
            transforms=tuple(head["transforms"]),
            settings=head["settings"],
            draws={name: array(f"draws-{name}", memory_map=True) for name in head["transforms"]},
            shards=tuple(array(f"views-{index:03d}", memory_map=True) for index in range(head["shards"])),
            prepared_digest=head["prepared_digest"],
            digest=head["digest"],
        )


def write_views(folder: Path, views: AugmentedViews, *, shards: Iterable[NDArray[Any]]) -> AugmentedViews:
    """Write `views` (made without shards) with its rendered rows taken from `shards` one at a time, none to keep only
    the draws; return it as it was read back."""
    with files.replacing_folder(folder) as target:
        written = {
            f"draws-{name}.npy": files.write_npy(target / f"draws-{name}.npy", views.draws[name])
            for name in views.transforms
        }
        count = 0
        for count, shard in enumerate(shards, start=1):
            name = f"views-{count - 1:03d}.npy"
            written[name] = files.write_npy(target / name, shard)
        head = {
            "policy": views.policy,
            "n_images": views.n_images,
            "n_views": views.n_views,
            "transforms": list(views.transforms),
            "settings": views.settings,
            "shards": count,
            "prepared_digest": views.prepared_digest,
            "files": written,
        }
        files.write_head(target / "views.json", head)
    return AugmentedViews.load(folder, verify=False)
