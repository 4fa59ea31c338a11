"""The part `subgroups`: how well the model does for each site, sex, age band, scanner … that the source names."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medsweep.artifacts.evaluation import Estimate
from medsweep.artifacts.record import ORACLE_COLUMN
from medsweep.artifacts.section import Cell, Figure, Section, Table
from medsweep.drawing.forest import ForestRow, forest
from medsweep.errors import unknown_name
from medsweep.evaluate.note import HEADLINES, shown
from medsweep.statistics.areas import auroc_intervals
from medsweep.statistics.intervals import Interval, independent_of, resample
from medsweep.statistics.metrics import METRICS, Predictions, evaluate_weighted
from medsweep.statistics.multiplicity import holm
from medsweep.statistics.permutation import permuted_members, worse_than_chance

if TYPE_CHECKING:
    from medsweep.evaluate.parts import Evaluated
    from medsweep.params import Subgroups

JUDGED: Mapping[str, tuple[str, ...]] = {
    "binary": ("auroc", "sensitivity", "specificity"),
    "multiclass": ("auroc", "accuracy"),
    "multilabel": ("auroc", "accuracy"),
    "ordinal": ("auroc", "accuracy", "cohen_kappa"),
}
"""The metrics that each subgroup is judged by."""
_MOST_GROUPS = 20  # of a column of words; the rest is one group
_FEW_VALUES = 12  # a column of numbers with no more than these is taken as it is
_MOST_ROWS = 60
_NOT_STATED = "(not stated)"


@dataclass(frozen=True)
class Grouping:
    """A column's subgroups.

    Args:
        column: its name.
        names: of the G subgroups, in the order to be shown.
        member: (N,) the index of each image's subgroup.
    """

    column: str
    names: tuple[str, ...]
    member: NDArray[np.int64]


@dataclass
class Row:
    """One subgroup: its size, and each metric with its interval and adjusted p-value (None where not tested)."""

    column: str
    group: str
    n_images: int
    n_patients: int
    estimates: dict[str, Estimate]
    p_values: dict[str, float]
    adjusted: dict[str, float]
    small: bool

    def flagged(self, level: float) -> list[str]:
        """The metrics by which it is worse than chance allows."""
        return [name for name, p in self.adjusted.items() if p < level]


def subgroups(evaluated: Evaluated) -> Section:
    """The section: a table and a forest plot of all subgroups, and those that are worse than chance allows.

    A subgroup is compared with random groups of as many patients with the same labels: how often is one of them as bad?
    The p-values of all subgroups and metrics are adjusted together (Holm).

    Raises:
        ParamsError: `evaluate.subgroups.columns` names a column that the source did not keep.
    """
    known, level = evaluated.params.evaluate, 1.0 - evaluated.params.evaluate.bootstrap.confidence
    found, passed_over = groupings(evaluated.split.columns, known.subgroups)
    if not found:
        why = f" {' '.join(passed_over)}" if passed_over else ""
        return Section(
            "subgroups",
            "Subgroups",
            (
                "No subgroup was looked at: the source keeps no column that parts the test images. "
                "prepare.source.columns names those to keep (site, sex, age, scanner …)." + why,
            ),
            values={"rows": []},
        )
    rows: list[Row] = []
    for done, each in enumerate(found):
        rows += _judge(evaluated, each)
        evaluated.advance((done + 1) / (len(found) + 1))
    tests = [(row, name) for row in rows for name in row.p_values]
    for (row, name), p in zip(tests, holm([row.p_values[name] for row, name in tests]), strict=True):
        if math.isfinite(p):
            row.adjusted[name] = p
    metrics = JUDGED[evaluated.split.task]
    return Section(
        "subgroups",
        "Subgroups",
        _words(rows, metrics, evaluated, level),
        _warnings(rows, evaluated, level, passed_over),
        (_table(rows, metrics, evaluated, level),),
        (_draw(rows, evaluated, level),),
        {"columns": [each.column for each in found], "rows": [_values(row, level) for row in rows]},
    )


def groupings(columns: Mapping[str, NDArray[Any]], wanted: Subgroups) -> tuple[list[Grouping], list[str]]:
    """The columns' subgroups, and why a column was passed over, a sentence each.

    Numbers (with more than a dozen different ones) become bands: cut where `bands` says for this column, else at their
    quartiles. Of many words the most frequent stay, the rest is one group.

    Args:
        columns: (N,) texts each, by name.
        wanted: which columns, and where to cut.

    Raises:
        ParamsError: a wanted column is not there.
    """
    kept = {name: values for name, values in columns.items() if name != ORACLE_COLUMN}
    if wanted.columns != "all":
        for name in wanted.columns:
            if name not in kept:
                raise unknown_name("column", name, list(kept), where="evaluate.subgroups.columns")
        kept = {name: kept[name] for name in wanted.columns}
    found, passed_over = [], []
    for name, values in kept.items():
        texts = np.char.strip(np.asarray(values, dtype=np.str_))
        numbers = _numbers(texts)
        cuts = wanted.bands.get(name, wanted.bands.get(name.lower()))
        if numbers is not None and (cuts is not None or len(np.unique(numbers)) > _FEW_VALUES):
            grouping = _bands(name, numbers, cuts)
        else:
            grouping = _words_of(name, texts, numbers)
        if len(grouping.names) > 1:
            found.append(grouping)
        else:
            passed_over.append(f"'{name}' is the same for all test images.")
    return found, passed_over


def _numbers(texts: NDArray[np.str_]) -> NDArray[np.float64] | None:
    """The values as numbers, NaN where nothing is stated; None where one is no number."""
    try:
        found = np.asarray([float(each) if each else math.nan for each in texts.tolist()])
    except ValueError:
        return None
    return None if np.isinf(found).any() or np.isnan(found).all() else found


def _bands(column: str, numbers: NDArray[np.float64], cuts: Sequence[float] | None) -> Grouping:
    if cuts is None:
        cuts = np.unique(np.nanquantile(numbers, [0.25, 0.5, 0.75])).tolist()
    band = np.searchsorted(np.asarray(cuts), numbers, side="right")
    band = np.where(np.isnan(numbers), len(cuts) + 1, band)
    words = [f"below {cuts[0]:g}", *(f"{a:g} to below {b:g}" for a, b in pairwise(cuts))]
    return _present(column, [*words, f"{cuts[-1]:g} and above", _NOT_STATED], band)


def _words_of(column: str, texts: NDArray[np.str_], numbers: NDArray[np.float64] | None) -> Grouping:
    names, member, counts = np.unique(texts, return_inverse=True, return_counts=True)
    shown_names = [each or _NOT_STATED for each in names.tolist()]
    if len(names) > _MOST_GROUPS:
        most = np.sort(np.lexsort((names, -counts))[: _MOST_GROUPS - 1])
        place = np.full(len(names), len(most))
        place[most] = np.arange(len(most))
        rest = f"{len(names) - len(most)} other values"
        return _present(column, [*(shown_names[k] for k in most.tolist()), rest], place[member])
    if numbers is not None:
        order = np.argsort([float(each) if each else math.inf for each in names.tolist()], kind="stable")
        place = np.argsort(order)
        return _present(column, [shown_names[k] for k in order.tolist()], place[member])
    return _present(column, shown_names, member)


def _present(column: str, names: Sequence[str], member: NDArray[np.int64]) -> Grouping:
    """Leave out the names that no image has."""
    there, place = np.unique(member, return_inverse=True)
    return Grouping(column, tuple(names[k] for k in there.tolist()), np.asarray(place, dtype=np.int64))


def _judge(evaluated: Evaluated, grouping: Grouping) -> list[Row]:
    split, known = evaluated.split, evaluated.params.evaluate
    metrics = JUDGED[split.task]
    whole = Predictions(split.task, split.labels, evaluated.probabilities, evaluated.decisions)
    rows: list[Row] = []
    for k, name in enumerate(grouping.names):
        chosen = np.flatnonzero(grouping.member == k)
        n_patients = len(np.unique(split.groups[chosen]))
        own = Predictions(
            split.task, split.labels[chosen], evaluated.probabilities[chosen], evaluated.decisions[chosen]
        )
        found = _intervals(own, split.groups[chosen], metrics, evaluated)
        estimates = {metric: _estimate(each) for metric, each in found.items()}
        small = n_patients < known.subgroups.min_patients
        rows.append(Row(grouping.column, name, len(chosen), n_patients, estimates, {}, {}, small))
    overall = {name: float(value[0]) for name, value in _all(whole, metrics, np.ones((len(split), 1))).items()}
    # What is as good as all images together needs no drawing: it can't be worse than chance allows.
    observed: dict[int, dict[str, float]] = {}
    for k, row in enumerate(rows):
        for name in metrics if not row.small else ():
            value = row.estimates[name].value
            if value is None:
                continue
            if value < overall[name] if METRICS[name].higher_is_better else value > overall[name]:
                observed.setdefault(k, {})[name] = value
            else:
                row.p_values[name] = 1.0
    if observed:
        members = permuted_members(
            grouping.member,
            split.groups,
            np.zeros(len(split)) if split.task == "multilabel" else split.labels,
            samples=known.bootstrap.samples,
            seed=known.bootstrap.seed,
        )
        better = {name: METRICS[name].higher_is_better for name in metrics}
        p_values = worse_than_chance(lambda weights: _all(whole, metrics, weights), observed, better, members)
        for k, found_p in p_values.items():
            rows[k].p_values.update(found_p)
    return rows


def _all(known: Predictions, names: Sequence[str], weights: NDArray[np.float64]) -> Mapping[str, NDArray[np.float64]]:
    return evaluate_weighted(known, weights, names)


def _intervals(
    known: Predictions, groups: NDArray[Any], names: Sequence[str], evaluated: Evaluated
) -> dict[str, Interval]:
    settings = evaluated.params.evaluate.bootstrap
    if len(np.unique(groups)) < 2:
        plain = _all(known, names, np.ones((len(groups), 1)))
        return {name: Interval(float(value[0]), math.nan, math.nan, 0) for name, value in plain.items()}
    found = resample(
        lambda weights: _all(known, names, weights),
        groups,
        samples=settings.samples,
        seed=settings.seed,
        method=settings.method,
        patients=independent_of(known, groups),
    )
    ends = {name: each.interval(settings.confidence) for name, each in found.items()}
    area = auroc_intervals(known.task, known.labels, known.probabilities, groups, settings.confidence)[0]
    return ends | {"auroc": area} if math.isfinite(area.low) else ends


def _estimate(each: Interval) -> Estimate:
    value, low, high = (float(end) if math.isfinite(end) else None for end in (each.value, each.low, each.high))
    return Estimate(value, low, high)


def _words(rows: list[Row], metrics: Sequence[str], evaluated: Evaluated, level: float) -> tuple[str, ...]:
    flagged = [row for row in rows if row.flagged(level)]
    n_tests = sum(len(row.p_values) for row in rows)
    if flagged:
        names = "; ".join(_named(row, level, evaluated) for row in flagged[:5])
        more = f"; and {len(flagged) - 5} more" if len(flagged) > 5 else ""
        first = f"{len(flagged)} of {len(rows)} subgroups do worse than chance allows: {names}{more}."
    elif n_tests:
        first = (
            f"None of {len(rows)} subgroups does worse than chance allows. That is no proof that they are alike: "
            "the intervals show how large a difference could have gone unseen."
        )
    else:
        first = "No subgroup is large enough to be judged."
    how = (
        f"Each subgroup is compared with random groups of as many patients with the same labels; {n_tests} p-values "
        f"({', '.join(HEADLINES[name] for name in metrics)}) are adjusted together (Holm), and those below "
        f"{level:.2g} are flagged."
    )
    return first, how


def _named(row: Row, level: float, evaluated: Evaluated) -> str:
    parts = []
    for name in row.flagged(level):
        overall = evaluated.report.metrics[name].value
        against = "" if overall is None else f" against {overall:.3f} in all"
        parts.append(f"{HEADLINES[name]} {shown(row.estimates[name])}{against}, adjusted p {_p(row.adjusted[name])}")
    return f"{row.column} = {row.group} ({', '.join(parts)})"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _warnings(rows: list[Row], evaluated: Evaluated, level: float, passed_over: list[str]) -> tuple[str, ...]:
    unit = evaluated.report.resampled
    found = [f"Worse than chance allows: {_named(row, level, evaluated)}." for row in rows if row.flagged(level)]
    small = [f"{row.column} = {row.group} ({row.n_patients})" for row in rows if row.small]
    if small:
        listed = ", ".join(small[:10]) + (f" and {len(small) - 10} more" if len(small) > 10 else "")
        least = evaluated.params.evaluate.subgroups.min_patients
        found.append(f"Too small to be judged, with fewer than {least} {unit}: {listed}. Their values say little.")
    return (*found, *passed_over)


def _table(rows: list[Row], metrics: Sequence[str], evaluated: Evaluated, level: float) -> Table:
    confidence = evaluated.report.confidence
    cells: list[tuple[Cell, ...]] = []
    for row in rows[:_MOST_ROWS]:
        flagged = row.flagged(level)
        if row.small:
            verdict = "too few to judge"
        elif flagged:
            verdict = "worse: " + ", ".join(f"{HEADLINES[name]} (p {_p(row.adjusted[name])})" for name in flagged)
        else:
            verdict = "within chance" if row.p_values else "can't be judged"
        estimates = [shown(row.estimates[name]) for name in metrics]
        cells.append((row.column, row.group, row.n_images, row.n_patients, *estimates, verdict))
    more = f"; {len(rows) - _MOST_ROWS} more are in evaluation.json" if len(rows) > _MOST_ROWS else ""
    unit = evaluated.report.resampled
    return Table(
        f"Subgroups of the test split, {100 * confidence:g} % intervals by resampling {unit}; "
        f"p adjusted for all subgroups{more}",
        (
            "column",
            "subgroup",
            "images",
            "patients" if unit == "patients" else "patients (images)",
            *(HEADLINES[name] for name in metrics),
            "against chance",
        ),
        tuple(cells),
    )


def _draw(rows: list[Row], evaluated: Evaluated, level: float) -> Figure:
    overall = evaluated.report.metrics["auroc"]
    lines = [ForestRow("All test images", overall.value, overall.low, overall.high, heading=True, words=shown(overall))]
    column = None
    for row in rows[:_MOST_ROWS]:
        if row.column != column:
            lines.append(ForestRow(row.column, heading=True))
            column = row.column
        each = row.estimates["auroc"]
        words = shown(each) + ("  few" if row.small else "")
        label = f"{row.group} (n = {row.n_patients})"
        flagged = "auroc" in row.flagged(level)
        lines.append(ForestRow(label, each.value, each.low, each.high, words=words, flagged=flagged))
    flagged_names = [f"{row.column} {row.group}" for row in rows if "auroc" in row.flagged(level)]
    alt = (
        f"Forest plot of the AUROC in {len(rows)} subgroups with {100 * evaluated.report.confidence:g} % intervals, "
        f"beside {shown(overall)} of all test images. "
        + (f"Worse than chance allows: {', '.join(flagged_names)}." if flagged_names else "None is flagged.")
    )
    forest(
        evaluated.plots / "subgroups.svg",
        lines,
        evaluated.signature,
        alt=alt,
        title="AUROC by subgroup, test split",
        x_label="AUROC",
        reference=overall.value,
    )
    unit = "patients" if evaluated.report.resampled == "patients" else "images"
    caption = f"AUROC of each subgroup with its interval; n counts {unit}; the dotted line is that of all images."
    return Figure("plots/subgroups.svg", alt, caption)


def _values(row: Row, level: float) -> dict[str, Any]:
    return {
        "column": row.column,
        "group": row.group,
        "n_images": row.n_images,
        "n_patients": row.n_patients,
        "metrics": {
            name: {
                "value": each.value,
                "low": each.low,
                "high": each.high,
                "p": _known(row.p_values.get(name)),
                "p_adjusted": _known(row.adjusted.get(name)),
            }
            for name, each in row.estimates.items()
        },
        "too_small": row.small,
        "worse": row.flagged(level),
    }


def _known(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
