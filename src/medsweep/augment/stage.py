"""Stage 2: draw the views of every policy, render what fits, and show a few."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from medsweep.artifacts.augmented import write_views
from medsweep.artifacts.prepared import PreparedSplit
from medsweep.augment.figures import write_preview
from medsweep.augment.policies import Chain, check_policies, draw_views
from medsweep.imaging.views import ViewRenderer
from medsweep.layout import Layout
from medsweep.params import Params
from medsweep.tracking.progress import progress_bar

_MEGABYTE = 1_000_000
_SHARD_BYTES = 64 * _MEGABYTE
_BLOCK_ROWS = 256


@dataclass(frozen=True)
class PolicySummary:
    """What was made of one policy: its views, and the megabytes (10^6 bytes) they take when rendered."""

    name: str
    transforms: tuple[str, ...]
    rendered: bool
    megabytes: float


@dataclass(frozen=True)
class AugmentSummary:
    """What the stage made, for the closing lines."""

    n_images: int
    n_views: int
    policies: tuple[PolicySummary, ...]
    render_limit_mb: int
    previews: str

    def lines(self) -> list[str]:
        """What a person reads at the end, a line a policy."""
        if not self.policies:
            return ["No policies in augment.policies: trials train on the images as they are."]
        found = [f"{self.n_views} views of each of {self.n_images} training images."]
        for policy in self.policies:
            size = f"{policy.megabytes:.1f} MB"
            state = (
                f"rendered, {size}"
                if policy.rendered
                else (
                    f"draws only: its {size} would exceed augment.render_limit_mb ({self.render_limit_mb}), "
                    "so training renders the same pixels as it reads"
                )
            )
            found.append(f"{policy.name} ({', '.join(policy.transforms)}): {state}.")
        return [*found, f"Previews: {self.previews}."]


def run(params: Params, layout: Layout, console: Console) -> AugmentSummary:
    """Draw and render `params.augment` for the prepared training split.

    Policies are rendered in the order of their names for as long as they fit `augment.render_limit_mb` together (1 MB
    is 10^6 bytes); one that does not fit keeps its draws alone. Memory holds one shard (64 MB) and one policy's
    draws.

    Raises:
        ParamsError: a policy cannot be run.
        ArtifactError: the training split is missing or was changed.
    """
    augment = params.augment
    chains = check_policies(augment)
    train = PreparedSplit.load(layout.prepared_split("train"))
    policy_bytes = train.images[0].nbytes * len(train) * augment.views
    rendered = _that_fit(chains, policy_bytes, augment.render_limit_mb * _MEGABYTE)
    _keep_only(layout.augmented, set(chains))
    _keep_only(layout.augmentation_previews, {f"{policy}.png" for policy in chains})

    with progress_bar(console) as progress:
        for policy, chain in chains.items():
            views = draw_views(
                policy,
                chain,
                seed=augment.seed,
                n_images=len(train),
                n_views=augment.views,
                prepared_digest=train.digest,
            )
            renderer = ViewRenderer(views, train.images, train.value_range)
            shards: Iterable[NDArray[Any]] = ()
            if policy in rendered:
                task = progress.add_task(f"rendering {policy}", total=len(renderer), detail="")

                def advance(rows: int, task: Any = task) -> None:
                    progress.update(task, advance=rows)

                shards = _shards(renderer, train.images, advance)
            written = write_views(layout.augmented_policy(policy), views, shards=shards)
            write_preview(layout.augmentation_previews / f"{policy}.png", written, train)

    return AugmentSummary(
        n_images=len(train),
        n_views=augment.views,
        policies=tuple(
            PolicySummary(policy, tuple(link.transform for link in chain), policy in rendered, policy_bytes / _MEGABYTE)
            for policy, chain in chains.items()
        ),
        render_limit_mb=augment.render_limit_mb,
        previews=layout.relative(layout.augmentation_previews),
    )


def _that_fit(chains: dict[str, Chain], policy_bytes: int, limit: int) -> set[str]:
    # All policies are of one size, so the first ones fit.
    return set(list(chains)[: limit // policy_bytes])


def _shards(renderer: ViewRenderer, images: NDArray[Any], advance: Callable[[int], None]) -> Iterator[NDArray[Any]]:
    rows = max(1, _SHARD_BYTES // images[0].nbytes)
    for start in range(0, len(renderer), rows):
        stop = min(start + rows, len(renderer))
        shard = np.empty((stop - start, *images.shape[1:]), dtype=images.dtype)
        for first in range(start, stop, _BLOCK_ROWS):
            last = min(first + _BLOCK_ROWS, stop)
            shard[first - start : last - start] = renderer.rows(np.arange(first, last, dtype=np.int64))
            advance(last - first)
        yield shard


def _keep_only(folder: Path, names: set[str]) -> None:
    """Make the folder if need be, and clear it of what another set of policies or a killed run left."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path.name in names:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
