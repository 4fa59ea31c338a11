"""What checks look at, and what they find."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medsweep.params import Checks
from medsweep.prepare.collect import Rejected
from medsweep.prepare.reading import Audit
from medsweep.prepare.spool import MetadataSpool, PixelSpool
from medsweep.prepare.table import ImageTable
from medsweep.sources.protocol import UnknownLabel


@dataclass(frozen=True)
class Alike:
    """Which images are near-identical.

    Args:
        codes: (N,) equal for images of one group, and for images with the same prepared pixels.
        several: (N,) whether the group has images with different pixels.
    """

    codes: NDArray[np.int64]
    several: NDArray[np.bool_]


@dataclass(frozen=True)
class Examined:
    """All that is known about the data when its checks run.

    Args:
        table: named, in canonical order, every image with its split.
        class_names: (K,).
        rejected: what could not be read.
        unknown_labels: what carries a label outside the classes.
        audits: the distinct audits that the table refers to.
        settings: the checks' thresholds.
        thumbnails, metadata: what reading noted of the images, by the table's `rows`; empty where nothing asked for it.
        alike: which images are near-identical; None where nothing asked for it.
    """

    table: ImageTable
    class_names: tuple[str, ...]
    rejected: tuple[Rejected, ...]
    unknown_labels: tuple[UnknownLabel, ...]
    audits: tuple[Audit, ...]
    settings: Checks
    thumbnails: PixelSpool
    metadata: MetadataSpool
    alike: Alike | None


def _nothing() -> NDArray[np.int64]:
    return np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class Bars:
    """A bar chart: values from 0.5 to 1 by name, the line from which they matter, and the names that are guilty."""

    values: Mapping[str, float]
    threshold: float
    axis: str
    marked: frozenset[str]


@dataclass(frozen=True)
class Histogram:
    """How one number is distributed in some groups of images: the share of each group in each bin."""

    title: str
    edges: NDArray[np.float64]
    shares: Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Finding:
    """One kind of trouble, found `count` times; or, without an alarm, what a check measured.

    Args:
        check: the check's name, as in `prepare.checks`.
        message: what was found, in plain words without any name of a file or a patient.
        count: how many times (groups of identical images, patients, images, classes: as the message says).
        rows: (M,) the images concerned, as indices into the table.
        groups: (M,) which of them belong together, where that matters; else empty.
        names: the names of what is not in the table; for the console and the private folder only.
        ids: record ids of what is not in the table, where they have one.
        counts: how often each part of it was found, by a name that tells of no person.
        details: (M,) what was found in each image, for the private folder only; else empty.
        alarm: False where this is for information: nothing is wrong, or nothing that a threshold says is.
        figures: what was measured, for the report; JSON.
        chart: a picture, where images are none: bars, or histograms.
    """

    check: str
    message: str
    count: int
    rows: NDArray[np.int64] = field(default_factory=_nothing)
    groups: NDArray[np.int64] = field(default_factory=_nothing)
    names: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    details: tuple[str, ...] = ()
    alarm: bool = True
    figures: Mapping[str, Any] = field(default_factory=dict)
    chart: Bars | tuple[Histogram, ...] | None = None


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """'1 image', '2 images'."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def spread_groups(codes: NDArray[Any], values: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The members of the groups whose values differ.

    Args:
        codes: (N,) group numbers from 0.
        values: (N,) comparable numbers.

    Returns:
        Row indices sorted by group, and each row's group.
    """
    lowest = np.full(int(codes.max()) + 1, np.iinfo(np.int64).max, dtype=np.int64)
    highest = np.full(len(lowest), np.iinfo(np.int64).min, dtype=np.int64)
    np.minimum.at(lowest, codes, values)
    np.maximum.at(highest, codes, values)
    rows = np.flatnonzero((lowest < highest)[codes])
    rows = rows[np.argsort(codes[rows], kind="stable")]
    return rows.astype(np.int64), codes[rows].astype(np.int64)
