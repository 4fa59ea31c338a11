"""The same picture saved anew: resized, compressed, cropped a little, mirrored, brighter or darker.

Hashes find the pairs that are worth a look, thumbnails laid over each other decide. See docs/checks.md for how many
are found, and how often two different images are taken for one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medsweep.imaging.fingerprint import FLIPS
from medsweep.imaging.similarity import similarity
from medsweep.layout import SPLITS
from medsweep.prepare.checks.finding import Alike, Examined, Finding, counted, spread_groups
from medsweep.prepare.checks.hash_search import Candidates, candidates
from medsweep.prepare.spool import PixelSpool
from medsweep.prepare.table import ImageTable, label_codes

_TEST = SPLITS.index("test")


def find_alike(table: ImageTable, thumbnails: PixelSpool, least: float) -> Alike:
    """Which images are near-identical, whatever splits they are in.

    Args:
        table: with hashes.
        thumbnails: by the table's `rows`.
        least: the similarity from which two images are near-identical.
    """
    # Of images with the same prepared pixels, which have checks of their own, one stands for all.
    _, chosen, pixels = np.unique(table.pixels, return_index=True, return_inverse=True)
    kept = np.flatnonzero(~table.constant[chosen])
    pairs = candidates(table.hashes[chosen[kept]])
    joined = np.arange(len(chosen))
    joined[kept] = kept[_joined(table.rows[chosen[kept]], pairs, thumbnails, least)]
    codes = joined[pixels]
    return Alike(codes, np.bincount(joined, minlength=len(chosen))[codes] > 1)


def near_duplicates(examined: Examined) -> list[Finding]:
    """Groups of near-identical images that lie in more than one split; those within a split are counted."""
    table, alike = examined.table, examined.alike
    assert alike is not None
    codes, rows = alike.codes, np.flatnonzero(alike.several)
    if not len(rows):
        return [Finding("near_duplicates", "No two images are near-identical.", 0, alarm=False)]
    across, groups = spread_groups(codes[rows], table.splits[rows])
    across = rows[across]
    n_groups, n_across = len(np.unique(codes[rows])), len(np.unique(groups))
    tested = len(np.unique(groups[table.splits[across] == _TEST]))
    figures = {
        "groups_across_splits": n_across,
        "groups_with_test": tested,
        "groups_within_a_split": n_groups - n_across,
        "images_in_groups": len(rows),
        "groups_with_different_labels": _disagreeing(codes[rows], label_codes(table.labels)[rows]),
    }
    within = f"within splits there {_are(n_groups - n_across, 'further group')}"
    differing = figures["groups_with_different_labels"]
    labels = f"; in {differing} of all the labels differ" if differing else ""
    if not n_across:
        message = (
            f"No near-identical images in different splits; {within} ({counted(len(rows), 'image')}{labels}). "
            "They count as different images of the split."
        )
        order = np.argsort(codes[rows], kind="stable")
        return [Finding("near_duplicates", message, 0, rows[order], codes[rows][order], alarm=False, figures=figures)]
    verb = "lies" if n_across == 1 else "lie"
    message = (
        f"{counted(n_across, 'group')} of near-identical images {verb} in more than one split "
        f"({counted(len(across), 'image')}; {tested} with the test split; {within}{labels})."
    )
    return [Finding("near_duplicates", message, n_across, across, groups, figures=figures)]


def _are(number: int, noun: str) -> str:
    return f"{'is' if number == 1 else 'are'} {counted(number, noun)}"


def _disagreeing(codes: NDArray[np.int64], labels: NDArray[np.int64]) -> int:
    return len(np.unique(spread_groups(codes, labels)[1]))


def _joined(rows: NDArray[np.int64], pairs: Candidates, thumbnails: PixelSpool, least: float) -> NDArray[np.int64]:
    """(n,) for each image the first of its group; likely pairs are looked at first, and joined ones not again."""
    parents = list(range(len(rows)))

    def root(index: int) -> int:
        while parents[index] != index:
            parents[index] = parents[parents[index]]
            index = parents[index]
        return index

    for index in np.argsort(pairs.bits, kind="stable").tolist():
        first, second = root(int(pairs.first[index])), root(int(pairs.second[index]))
        if first != second and _similarity(rows, pairs, thumbnails, index) >= least:
            parents[max(first, second)] = min(first, second)
    return np.array([root(index) for index in range(len(rows))], dtype=np.int64)


def _similarity(rows: NDArray[np.int64], pairs: Candidates, thumbnails: PixelSpool, index: int) -> float:
    one, other = pairs.first[index], pairs.second[index]
    if pairs.swapped[index]:
        one, other = other, one
    return similarity(
        thumbnails.row(int(rows[one])),
        thumbnails.row(int(rows[other])),
        window=int(pairs.window[index]),
        flip=FLIPS[int(pairs.flip[index])],
    )
