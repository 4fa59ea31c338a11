"""Whether a group of images is worse than chance allows: random groups of as many patients with the same labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medsweep.statistics.weighted import Floats

_CELLS_AT_ONCE = 1_000_000
_ENOUGH = 50  # as many random groups that are as bad settle that a subgroup is nothing unusual


def permuted_members(
    member: NDArray[np.int64], groups: NDArray[Any], strata: NDArray[Any], *, samples: int, seed: int
) -> Iterator[NDArray[np.int64]]:
    """Memberships dealt out anew among patients with the same labels.

    What is dealt is whole: all images that a patient has in a subgroup stay together. A patient with images in several
    subgroups counts as one in each.

    Args:
        member: (N,) the index of each image's subgroup.
        groups: (N,) patients.
        strata: (N,) what a patient keeps: the label (the labels, where its images differ).
        samples: how many times.
        seed: of the draws.

    Yields:
        (N, B) memberships, the B's adding up to `samples`.
    """
    _, patient = np.unique(groups, return_inverse=True)
    width = int(member.max()) + 1 if len(member) else 1
    units, unit = np.unique(patient * width + member, return_inverse=True)
    codes = units % width
    stratum = _labels_of(unit, strata, len(units))
    base = codes[np.argsort(stratum, kind="stable")]
    rng = np.random.default_rng(seed)
    step = max(1, _CELLS_AT_ONCE // max(1, len(member)))
    for start in range(0, samples, step):
        columns = min(step, samples - start)
        # Units of a stratum stay together when sorted, in an order of their own in each column.
        order = np.argsort(stratum[:, None] + rng.random((len(units), columns)), axis=0)
        dealt = np.empty((len(units), columns), dtype=np.int64)
        np.put_along_axis(dealt, order, np.broadcast_to(base[:, None], order.shape), axis=0)
        yield dealt[unit]


def worse_than_chance(
    statistic: Callable[[Floats], Mapping[str, Floats]],
    observed: Mapping[int, Mapping[str, float]],
    better: Mapping[str, bool],
    members: Iterator[NDArray[np.int64]],
) -> dict[int, dict[str, float]]:
    """One-sided p-values: how often a random group is at least as bad as a subgroup is.

    Drawing ends early for a subgroup for which 50 random groups were as bad by every metric (Besag & Clifford, 1991).

    Args:
        statistic: weights (N, B) to values (B,) by metric.
        observed: each subgroup's values; NaN ones get NaN.
        better: by metric, whether higher values are better.
        members: of `permuted_members`.

    Returns:
        p-values by subgroup and metric, at least 1 / (samples + 1).
    """
    worse = {k: dict.fromkeys(values, 0) for k, values in observed.items()}
    defined = {k: dict.fromkeys(values, 0) for k, values in observed.items()}
    for dealt in members:
        for k, values in observed.items():
            if min(worse[k].values()) >= _ENOUGH:
                continue
            found = statistic((dealt == k).astype(np.float64))
            for name, value in values.items():
                drawn = found[name][np.isfinite(found[name])]
                # A last bit must not decide between equal values.
                as_bad = drawn <= value + 1e-12 if better[name] else drawn >= value - 1e-12
                worse[k][name] += int(as_bad.sum())
                defined[k][name] += len(drawn)
    return {
        k: {
            name: (1 + worse[k][name]) / (1 + defined[k][name]) if np.isfinite(value) else float("nan")
            for name, value in values.items()
        }
        for k, values in observed.items()
    }


def _labels_of(unit: NDArray[np.int64], strata: NDArray[Any], n_units: int) -> NDArray[np.int64]:
    """(n_units,) an index for each distinct set of labels that a unit's images have."""
    _, label = np.unique(strata, return_inverse=True)
    pairs = np.unique(np.stack([unit, label], axis=1), axis=0)
    first = np.searchsorted(pairs[:, 0], np.arange(n_units))
    ends = np.append(first[1:], len(pairs))
    seen: dict[tuple[int, ...], int] = {}
    sets = (tuple(pairs[a:b, 1].tolist()) for a, b in zip(first.tolist(), ends.tolist(), strict=True))
    return np.asarray([seen.setdefault(each, len(seen)) for each in sets], dtype=np.int64)
