"""Which image belongs to which split: what the source gives is kept, what is missing is carved out."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medsweep.errors import DataError
from medsweep.layout import SPLITS
from medsweep.params import Split
from medsweep.prepare.table import NO_SPLIT, ImageTable, class_counts, label_codes

_TRAIN = SPLITS.index("train")
_MOST_FOLDS = 20
_CLOSE_ENOUGH = 0.01
# Label sets that fewer images carry are stratified as one.
_RARE = 20
# StratifiedGroupKFold weighs every group against every fold, a fifth of a millisecond each: beyond this many groups it
# would take minutes.
_MOST_GROUPS = 5_000


@dataclass(frozen=True)
class Splitting:
    """Where each image went.

    Args:
        codes: (N,) int8 index in `layout.SPLITS`.
        given: the splits that the source fixed.
        carved: the splits that were carved out (train is what was left).
    """

    codes: NDArray[np.int8]
    given: tuple[str, ...]
    carved: tuple[str, ...]


def assign_splits(
    table: ImageTable, settings: Split, *, n_classes: int, alike: NDArray[np.int64] | None = None
) -> Splitting:
    """Keep the source's splits and carve the missing ones, by content and seed alone.

    Where the source gives none, `val` and `test` are shares of all images; where it gives train but lacks one or both
    of the others, they are shares of what it calls train. What is carved is grouped (all images of a patient stay
    together, and so do patients who share an image with identical prepared pixels or a near-identical one) and
    stratified by label, for multi-label data by the set of labels.

    Folds from scikit-learn's StratifiedGroupKFold are dealt out to the splits; their number, at most 20, is the
    smallest that comes within .01 of both shares (7 for .15 and .15: .143 each), or else the closest. Where groups
    are single images, or more than 5 000, StratifiedKFold deals out whole groups, stratified by their most frequent
    label and their size: the same aim in seconds.

    Args:
        table: named, in canonical order.
        settings: the shares and the seed.
        n_classes: K.
        alike: (N,) equal for near-identical images; None where they were not looked for.

    Raises:
        DataError: the source has a val or test split but no train split, or there are too few groups to carve from.
    """
    present = [name for code, name in enumerate(SPLITS) if (table.splits == code).any()]
    if present and "train" not in present:
        raise DataError(
            f"gives the split{'s' if len(present) > 1 else ''} {' and '.join(present)}, but no training images.",
            where="prepare.source",
            fix="Add a train split, or take the splits away and let them be carved.",
        )
    shares = {name: share for name, share in (("test", settings.test), ("val", settings.val)) if name not in present}
    codes = table.splits.copy()
    if not present:
        codes[:] = _TRAIN
    if shares:
        pool = np.flatnonzero(codes == _TRAIN)
        part = table.take(pool)
        groups = groups_of(part, None if alike is None else alike[pool])
        dealt = _deal(part, groups, shares, settings.seed, n_classes=n_classes)
        for name, members in dealt.items():
            codes[pool[members]] = SPLITS.index(name)
    assert NO_SPLIT not in codes
    carved = tuple(name for name in SPLITS if name in shares or not present)
    return Splitting(codes, tuple(present), carved)


def groups_of(table: ImageTable, alike: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """(N,) what must not be torn apart: patients, joined where they share an image with identical prepared pixels, or
    where images of theirs are near-identical (equal numbers in `alike`)."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(table)
    # Identical pixels have equal numbers in `alike` too.
    _, pixels = np.unique(table.pixels if alike is None else alike, return_inverse=True)
    _, owners = np.unique(np.where(table.patient_ids == "", table.record_ids, table.patient_ids), return_inverse=True)
    n_owners = int(owners.max()) + 1
    size = n_owners + int(pixels.max()) + 1
    edges = coo_array((np.ones(n, dtype=np.int8), (owners, n_owners + pixels)), shape=(size, size))
    _, component = connected_components(edges, directed=False)
    _, groups = np.unique(component[owners], return_inverse=True)
    return groups.astype(np.int64)


def _deal(
    table: ImageTable, groups: NDArray[np.int64], shares: dict[str, float], seed: int, *, n_classes: int
) -> dict[str, NDArray[np.int64]]:
    """For each share the indices of its images; what is left over is for training."""
    strata = _merge_rare(label_codes(table.labels)) if table.labels.ndim == 2 else label_codes(table.labels)
    n_groups = int(groups.max()) + 1
    unit = "patients" if (table.patient_ids != "").any() else "images"
    if n_groups <= len(shares):
        raise DataError(
            f"{n_groups} {unit} (those with an image in common count as one) cannot be dealt out to "
            f"{len(shares) + 1} splits.",
            where="prepare.source",
        )
    n_folds = _fold_count(list(shares.values()), min(_MOST_FOLDS, n_groups))
    folds = _folds(groups, strata, n_folds, seed)
    counts = np.array([class_counts(table.labels[folds == fold], n_classes) for fold in range(n_folds)])
    sizes = np.bincount(folds, minlength=n_folds)
    # The size counts as one more class, so that shares of images are met as well as shares of labels.
    measures = np.column_stack([counts, sizes]).astype(np.float64)
    free = list(range(n_folds))
    dealt: dict[str, NDArray[np.int64]] = {}
    for name, share in shares.items():
        wanted = max(1, round(share * n_folds))
        chosen = _choose(measures, free, wanted, share)
        free = [fold for fold in free if fold not in chosen]
        dealt[name] = np.flatnonzero(np.isin(folds, chosen))
    return dealt


def _fold_count(shares: list[float], most: int) -> int:
    """The smallest number of folds that comes close enough to every share, or else the closest."""

    def miss(n: int) -> float:
        parts = [max(1, round(share * n)) for share in shares]
        if sum(parts) >= n:
            return float("inf")
        return max(abs(part / n - share) for part, share in zip(parts, shares, strict=True))

    least = len(shares) + 1
    candidates = range(least, max(least, most) + 1)
    return next((n for n in candidates if miss(n) <= _CLOSE_ENOUGH), min(candidates, key=miss))


def _folds(groups: NDArray[np.int64], strata: NDArray[np.int64], n_folds: int, seed: int) -> NDArray[np.int64]:
    """(N,) each image's fold."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    n_groups = int(groups.max()) + 1
    whole_groups = n_groups == len(groups) or n_groups > _MOST_GROUPS
    kinds = _kinds_of_groups(groups, strata, n_folds) if whole_groups else strata
    folds = np.zeros(len(kinds), dtype=np.int64)
    if np.bincount(kinds).max() < n_folds:
        # So few of every kind that there is nothing to stratify.
        kinds = np.zeros_like(kinds)
    with warnings.catch_warnings():
        # A class with fewer images than folds; `missing_class` reports where that leaves a hole.
        warnings.simplefilter("ignore", UserWarning)
        if whole_groups:
            dealer: Any = StratifiedKFold(n_folds, shuffle=True, random_state=seed).split(kinds, kinds)
        else:
            dealer = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed).split(kinds, kinds, groups)
        for fold, (_, members) in enumerate(dealer):
            folds[members] = fold
    return folds[groups] if whole_groups else folds


def _kinds_of_groups(groups: NDArray[np.int64], strata: NDArray[np.int64], n_folds: int) -> NDArray[np.int64]:
    """(G,) one number for groups with the same most frequent stratum and the same size (in steps); rare ones merged."""
    pairs, counts = np.unique(groups * (int(strata.max()) + 1) + strata, return_counts=True)
    owner, stratum = np.divmod(pairs, int(strata.max()) + 1)
    order = np.lexsort((stratum, -counts, owner))
    firsts = order[np.flatnonzero(np.diff(owner[order], prepend=-1))]
    sizes = np.bincount(groups)
    steps = np.ceil(4 * np.log2(sizes)).astype(np.int64)
    kinds = stratum[firsts] * (int(steps.max()) + 1) + steps
    _, kinds, times = np.unique(kinds, return_inverse=True, return_counts=True)
    # A rare size is stratified with the others of its label.
    _, fallback = np.unique(stratum[firsts], return_inverse=True)
    kinds = np.where(times[kinds] < n_folds, len(times) + fallback, kinds)
    return np.unique(kinds, return_inverse=True)[1].astype(np.int64)


def _merge_rare(strata: NDArray[np.int64]) -> NDArray[np.int64]:
    times = np.bincount(strata)
    merged = np.where(times[strata] < _RARE, len(times), strata)
    return np.unique(merged, return_inverse=True)[1].astype(np.int64)


def _choose(measures: NDArray[np.float64], free: list[int], wanted: int, share: float) -> list[int]:
    """The folds that together come closest to `share` of every class, a class left without images counting worst."""
    totals = measures.sum(axis=0)
    exists = totals > 0
    chosen: list[int] = []
    for number in range(1, wanted + 1):

        def cost(fold: int, number: int = number) -> tuple[int, int, float]:
            taken = measures[[*chosen, fold]].sum(axis=0)
            rest = measures[[each for each in free if each not in chosen and each != fold]].sum(axis=0)
            miss = taken[exists] / totals[exists] - share * number / wanted
            return int((rest[exists] == 0).sum()), int((taken[exists] == 0).sum()), float((miss**2).sum())

        chosen.append(min((fold for fold in free if fold not in chosen), key=cost))
    return chosen
