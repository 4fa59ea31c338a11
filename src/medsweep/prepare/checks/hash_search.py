"""Hashes that differ in few bits, found without comparing each with each.

Multi-index hashing (Norouzi, Punjani and Fleet, CVPR 2012): a hash of 128 bits is cut into eight bands of 16, and two
hashes are compared only if one band is the same. Hashes that differ in less than eight bits always share a band; those
that differ in 16, as a rule (measured: docs/checks.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medsweep.imaging.fingerprint import FLIPS, flipped

Hashes = NDArray[np.uint64]

MOST_BITS = 16
_BANDS, _BAND_BITS = 8, 16
# Of a band that very many images share (blank ones, the frames of a film), the nearest by the bits that follow.
_MOST_IN_BAND = 128
# Of each image, so many of the most similar are candidates, so that no set of images makes them endless.
_NEAREST = 16
_PAIRS = 1 << 21


@dataclass(frozen=True)
class Candidates:
    """Pairs of images that may be the same, first < second, each once and sorted.

    Args:
        first, second: (M,) indices.
        bits: (M,) in how many bits their nearest hashes differ.
        window, flip: (M,) which window of `FIRST` (or of the second, where `swapped`) and which of `FLIPS` that was.
        swapped: (M,) True where the window is the second image's.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    bits: NDArray[np.int64]
    window: NDArray[np.int64]
    flip: NDArray[np.int64]
    swapped: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.first)


def candidates(hashes: Hashes, *, most_bits: int = MOST_BITS) -> Candidates:
    """Pairs of images of which a window of one, mirrored or not, and the whole of the other have similar hashes.

    Takes some hundred bytes an image, and time in proportion to the pairs that share a band. Where very many images
    are alike, only the nearest of each are candidates; groups are found by their chains.

    Args:
        hashes: (N, W, 2) of each image's windows, the first of which is the whole image.
        most_bits: how many of the 128 may differ.
    """
    n = len(hashes)
    whole = np.ascontiguousarray(hashes[:, 0])
    tables = [_Table.of(whole, band) for band in range(_BANDS)]
    pairs, marks = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    for window in range(hashes.shape[1]):
        for flip, flipping in enumerate(FLIPS):
            queries = flipped(hashes[:, window], flipping)
            for table in tables:
                for query, target, bits in _near(queries, whole, table, most_bits):
                    # One number for the pair, and one that is smallest where the fewest bits differ.
                    pair = np.minimum(query, target) * n + np.maximum(query, target)
                    mark = ((bits * 8 + window) * 4 + flip) * 2 + (query > target)
                    pairs, marks = _fewest(np.concatenate([pairs, pair]), np.concatenate([marks, mark]))
        pairs, marks = _nearest(pairs, marks, n)
    first, second = np.divmod(pairs, max(n, 1))
    return Candidates(first, second, marks // 64, marks // 8 % 8, marks // 2 % 4, marks % 2 == 1)


def _fewest(pairs: NDArray[np.int64], marks: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Each pair once, with its smallest mark; sorted."""
    order = np.lexsort((marks, pairs))
    pairs, marks = pairs[order], marks[order]
    new = np.append(True, pairs[1:] != pairs[:-1])[: len(pairs)]
    return pairs[new], marks[new]


def _nearest(pairs: NDArray[np.int64], marks: NDArray[np.int64], n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The pairs that are among the nearest of one of their two images."""
    kept = np.zeros(len(pairs), dtype=np.bool_)
    for ends in np.divmod(pairs, max(n, 1)):
        order = np.lexsort((marks, ends))
        starts = np.flatnonzero(np.append(True, np.diff(ends[order]) != 0)[: len(order)])
        rank = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
        kept[order[rank < _NEAREST]] = True
    return pairs[kept], marks[kept]


@dataclass(frozen=True)
class _Table:
    """The images sorted by one band, and among equals by the bits that follow it."""

    keys: NDArray[np.uint64]
    order: NDArray[np.int64]
    band: int

    @classmethod
    def of(cls, hashes: Hashes, band: int) -> _Table:
        keys = _keys(hashes, band)
        order = np.argsort(keys, kind="stable")
        return cls(keys[order], order.astype(np.int64), band)


def _keys(hashes: Hashes, band: int) -> NDArray[np.uint64]:
    """(N,) the band in the highest 16 bits, then the three bands after it."""
    parts = np.ascontiguousarray(hashes).view(np.uint16).astype(np.uint64)
    found = np.zeros(len(parts), dtype=np.uint64)
    for place in range(4):
        found = (found << np.uint64(_BAND_BITS)) | parts[:, (band + place) % _BANDS]
    return found


def _near(
    queries: Hashes, whole: Hashes, table: _Table, most_bits: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]:
    """Query, target and differing bits of the pairs in the same band that differ in few bits, some at a time."""
    for rows, low, high in _blocks(queries, table):
        yield _near_block(queries, rows, low, high, whole, table, most_bits)


def _blocks(queries: Hashes, table: _Table) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]:
    """Queries with the range of the table that each is compared with, so many at a time as fit into some megabytes."""
    keys = _keys(queries, table.band)
    rest = np.uint64((1 << 48) - 1)
    low = np.searchsorted(table.keys, keys & ~rest, "left")
    high = np.searchsorted(table.keys, keys | rest, "right")
    wide = np.flatnonzero(high - low > _MOST_IN_BAND)
    if len(wide):
        at = np.searchsorted(table.keys, keys[wide], "left")
        start = np.clip(at - _MOST_IN_BAND // 2, low[wide], high[wide] - _MOST_IN_BAND)
        low[wide], high[wide] = start, start + _MOST_IN_BAND
    some = np.flatnonzero(high > low)
    ends = np.cumsum(high[some] - low[some])
    while len(some):
        taken = max(1, int(np.searchsorted(ends, ends[0] + _PAIRS)))
        yield some[:taken], low[some[:taken]], high[some[:taken]]
        some, ends = some[taken:], ends[taken:] - ends[taken - 1]


def _near_block(
    queries: Hashes,
    rows: NDArray[np.int64],
    low: NDArray[np.int64],
    high: NDArray[np.int64],
    whole: Hashes,
    table: _Table,
    most_bits: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    counts = high - low
    starts = np.repeat(low - np.concatenate(([0], np.cumsum(counts)[:-1])), counts)
    query = np.repeat(rows, counts)
    target = table.order[starts + np.arange(len(query))]
    bits = np.bitwise_count(queries[query, 0] ^ whole[target, 0]).astype(np.int64)
    near = np.flatnonzero((bits <= most_bits) & (query != target))
    query, target, bits = query[near], target[near], bits[near]
    bits += np.bitwise_count(queries[query, 1] ^ whole[target, 1])
    near = np.flatnonzero(bits <= most_bits)
    return query[near], target[near], bits[near]
