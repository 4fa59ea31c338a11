"""Whether splits, or sites, look different: a small model is asked which of the two an image comes from.

A classifier two-sample test (Lopez-Paz and Oquab, ICLR 2017; Rabanser et al., NeurIPS 2019) on a few numbers that
describe the prepared images, and for each number a Kolmogorov-Smirnov test, corrected for their count by Holm's method.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medsweep.imaging.traits import TRAITS
from medsweep.layout import SPLITS
from medsweep.prepare.checks import prediction
from medsweep.prepare.checks.finding import Examined, Finding, Histogram, counted
from medsweep.prepare.split import groups_of
from medsweep.prepare.table import ImageTable

_MOST_PATIENTS = 5000
_FEWEST_PATIENTS = 30
_MOST_VALUES = 20
_BY_CHANCE = 0.01
_TOLD, _SHOWN, _BINS = 3, 4, 24
_NAMES = (*TRAITS, "original height", "original width")


@dataclass(frozen=True)
class _Comparison:
    """Two groups of images, how well they are told apart, and by what."""

    first: str
    second: str
    auroc: float
    sure: bool
    differing: tuple[tuple[str, float, float, float], ...]  # name, distance of Kolmogorov and Smirnov, two medians
    rows: tuple[NDArray[np.int64], NDArray[np.int64]]

    def told(self) -> str:
        return f"{self.first} and {self.second} (AUROC {self.auroc:.2f}{self._by()})"

    def _by(self) -> str:
        some = [
            f"{name} {'higher' if here < there else 'lower'} in {self.second}"
            for name, _, here, there in self.differing[:_TOLD]
        ]
        return f": {', '.join(some)}" if some else ""


def shift(examined: Examined) -> list[Finding]:
    """Pairs of splits, and sites against the others, whose images a small model tells apart."""
    table = examined.table
    groups = groups_of(table)
    features = np.column_stack([table.traits, table.sizes.astype(np.float32)])
    compared = [
        found
        for names, rows in _pairs(table, examined.settings.shift_columns)
        if (found := _comparison(names, tuple(_one_a_patient(each, groups) for each in rows), features))
    ]
    if not compared:
        message = "Too few patients in the splits to compare how their images look."
        return [Finding("shift", message, 0, alarm=False)]
    differing = [each for each in compared if each.sure and each.auroc >= examined.settings.shift_auroc]
    figures = {"comparisons": [_figures(each, each in differing) for each in compared]}
    if not differing:
        most = max(compared, key=lambda each: each.auroc)
        message = f"No splits or sites look different; most do {most.first} and {most.second} (AUROC {most.auroc:.2f})."
        return [Finding("shift", message, 0, alarm=False, figures=figures)]
    verb = "differs" if len(differing) == 1 else "differ"
    told = "; ".join(each.told() for each in differing[:_TOLD])
    more = f"; and {len(differing) - _TOLD} more" if len(differing) > _TOLD else ""
    message = f"{counted(len(differing), 'pair')} of splits or sites {verb} in how the images look: {told}{more}."
    most = max(differing, key=lambda each: each.auroc)
    return [Finding("shift", message, len(differing), figures=figures, chart=_histograms(most, features))]


def _pairs(
    table: ImageTable, columns: list[str]
) -> Iterator[tuple[tuple[str, str], tuple[NDArray[np.int64], NDArray[np.int64]]]]:
    """What is compared: names and rows."""
    of_split = {name: np.flatnonzero(table.splits == code) for code, name in enumerate(SPLITS)}
    for first, second in (("train", "val"), ("train", "test")):
        yield (first, second), (of_split[first], of_split[second])
    for column in columns:
        values = table.columns.get(column)
        names = [] if values is None else [str(each) for each in np.unique(values) if each]
        if values is None or not 2 <= len(names) <= _MOST_VALUES:
            continue
        for name in names[1:] if len(names) == 2 else names:
            here = values == name
            others = names[0] if len(names) == 2 else "the others"
            yield (
                (f"{column} {others}", f"{column} {name}"),
                (
                    np.flatnonzero(~here & (values != "")),
                    np.flatnonzero(here),
                ),
            )


def _one_a_patient(rows: NDArray[np.int64], groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """The first image of each patient: tests want independent ones."""
    _, firsts = np.unique(groups[rows], return_index=True)
    return rows[np.sort(firsts)][:_MOST_PATIENTS]


def _comparison(
    names: tuple[str, str], rows: tuple[NDArray[np.int64], ...], features: NDArray[np.float32]
) -> _Comparison | None:
    first, second = rows
    if min(len(first), len(second)) < _FEWEST_PATIENTS:
        return None
    both = np.concatenate([first, second])
    positive = np.arange(len(both)) >= len(first)
    folds = np.concatenate([np.arange(len(first)), np.arange(len(second))]) % prediction.FOLDS
    scores = prediction.out_of_fold(features[both], positive, folds, categorical=False)
    value = prediction.auroc(scores, positive)
    chance = prediction.probability_by_chance(value, positive, np.arange(len(both)))
    return _Comparison(
        *names, round(value, 4), chance < _BY_CHANCE, _differing(features[first], features[second]), (first, second)
    )


def _differing(first: NDArray[np.float32], second: NDArray[np.float32]) -> tuple[tuple[str, float, float, float], ...]:
    """The numbers that are distributed otherwise, the most different first."""
    from scipy.stats import ks_2samp

    tests = [ks_2samp(first[:, index], second[:, index], method="asymp") for index in range(len(_NAMES))]
    found = []
    for place, index in enumerate(np.argsort([test.pvalue for test in tests], kind="stable").tolist()):
        if tests[index].pvalue * (len(tests) - place) >= _BY_CHANCE:
            break
        medians = float(np.median(first[:, index])), float(np.median(second[:, index]))
        if medians[0] != medians[1]:
            found.append((_NAMES[index], round(float(tests[index].statistic), 4), *medians))
    return tuple(sorted(found, key=lambda each: (-each[1], each[0])))


def _figures(each: _Comparison, alarm: bool) -> Mapping[str, Any]:
    return {
        "first": each.first,
        "second": each.second,
        "patients": [len(rows) for rows in each.rows],
        "auroc": each.auroc,
        "different": alarm,
        "traits": [
            {"trait": name, "distance": distance, "medians": [float(f"{here:.4g}"), float(f"{there:.4g}")]}
            for name, distance, here, there in each.differing
        ],
    }


def _histograms(each: _Comparison, features: NDArray[np.float32]) -> tuple[Histogram, ...]:
    found = []
    for name, *_ in each.differing[:_SHOWN]:
        values = features[:, _NAMES.index(name)].astype(np.float64)
        both = np.concatenate([values[rows] for rows in each.rows])
        edges = np.linspace(both.min(), both.max(), _BINS + 1)
        shares = {
            group: np.histogram(values[rows], edges)[0] / len(rows)
            for group, rows in zip((each.first, each.second), each.rows, strict=True)
        }
        found.append(Histogram(name, edges, shares))
    return tuple(found)
