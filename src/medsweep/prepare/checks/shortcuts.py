"""What besides the disease tells the classes apart: headers, sizes, formats, names, scanners, brightness.

A network learns whatever predicts the label. Where the files of one class come from another machine, it learns the
machine (Zech et al., PLOS Medicine 15, 2018; DeGrave et al., Nature Machine Intelligence 3, 2021).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medsweep.imaging.traits import TRAITS
from medsweep.prepare.checks import prediction
from medsweep.prepare.checks.finding import Bars, Examined, Finding, counted
from medsweep.prepare.table import ImageTable

_MOST_IMAGES = 10_000
_BINS, _CATEGORIES = 16, 30
_ABSENT, _EMPTY, _FIRST = 0, 1, 2
_BY_CHANCE = 0.01
_SHOWN, _TOLD = 15, 5
# These follow from the picture itself, so that the disease may show in them: more is asked of them.
_OF_THE_PICTURE = frozenset(
    {
        *TRAITS,
        "file size",
        "DICOM SmallestImagePixelValue",
        "DICOM LargestImagePixelValue",
        "DICOM WindowCenter",
        "DICOM WindowWidth",
    }
)


@dataclass(frozen=True)
class _Field:
    """One field, how well it alone predicts the class that it predicts best, and whether that is no chance."""

    name: str
    auroc: float
    class_name: str
    sure: bool


def shortcuts(examined: Examined) -> list[Finding]:
    """Fields of metadata that predict the label, each with its own AUROC, and how well all of them do together."""
    part = examined.table.take(prediction.sample(examined.table, _MOST_IMAGES))
    wanted = prediction.targets(part, examined.class_names)
    folds, groups = prediction.folds_of(part)
    fields = _fields(examined, part)
    if not fields or not wanted:
        return [Finding("shortcuts", "The files say nothing that differs between them.", 0, alarm=False)]
    rated = sorted(
        (_rated(name, codes, wanted, folds, groups, len(fields)) for name, codes in fields.items()),
        key=lambda each: (-each.auroc, each.name),
    )
    together, class_name = _together(
        {name: codes for name, codes in fields.items() if name not in _OF_THE_PICTURE}, wanted, folds
    )
    guilty = [each for each in rated if each.sure and each.auroc >= _threshold(each.name, examined)]
    figures = {
        "images": len(part),
        "auroc_of_all_metadata": together,
        "class_of_all_metadata": class_name,
        "fields": [
            {"field": each.name, "auroc": each.auroc, "class": each.class_name, "guilty": each in guilty}
            for each in rated
        ],
    }
    shown = list(dict.fromkeys([*guilty, *rated]))[:_SHOWN]
    chart = Bars(
        {each.name: each.auroc for each in shown},
        examined.settings.shortcut_auroc,
        "AUROC of the field alone, for the class that it predicts best",
        frozenset(each.name for each in guilty),
    )
    all_of_them = f"all metadata together reach an AUROC of {together:.2f}" if together is not None else ""
    if not guilty:
        best = rated[0]
        message = (
            f"No field of metadata predicts the label by itself; the best is {best.name} with an AUROC of "
            f"{best.auroc:.2f}" + (f", and {all_of_them}." if all_of_them else ".")
        )
        return [Finding("shortcuts", message, 0, alarm=False, figures=figures, chart=chart)]
    told = ", ".join(f"{each.name} ({_of(each, wanted)}AUROC {each.auroc:.2f})" for each in guilty[:_TOLD])
    more = f" and {len(guilty) - _TOLD} more" if len(guilty) > _TOLD else ""
    verb = "predicts" if len(guilty) == 1 else "predict"
    message = f"{counted(len(guilty), 'field')} of metadata {verb} the label: {told}{more}" + (
        f"; {all_of_them}." if all_of_them else "."
    )
    return [Finding("shortcuts", message, len(guilty), figures=figures, chart=chart)]


def _of(field: _Field, wanted: Mapping[str, NDArray[np.bool_]]) -> str:
    return f"'{field.class_name}', " if len(wanted) > 1 else ""


def _threshold(name: str, examined: Examined) -> float:
    settings = examined.settings
    if name in settings.shortcuts_accepted:
        return np.inf
    return settings.shortcut_picture_auroc if name in _OF_THE_PICTURE else settings.shortcut_auroc


def _rated(
    name: str,
    codes: NDArray[np.int64],
    wanted: Mapping[str, NDArray[np.bool_]],
    folds: NDArray[np.int64],
    groups: NDArray[np.int64],
    n_fields: int,
) -> _Field:
    found = []
    for class_name, positive in wanted.items():
        value = prediction.auroc(prediction.rates_out_of_fold(codes, positive, folds), positive)
        chance = prediction.probability_by_chance(value, positive, groups)
        found.append(_Field(name, round(value, 4), class_name, chance * n_fields * len(wanted) < _BY_CHANCE))
    return max(found, key=lambda each: (each.sure, each.auroc))


def _together(
    fields: Mapping[str, NDArray[np.int64]], wanted: Mapping[str, NDArray[np.bool_]], folds: NDArray[np.int64]
) -> tuple[float | None, str | None]:
    """The AUROC of all fields in one model, for the class where it is highest."""
    if not fields:
        return None, None
    features = np.column_stack(list(fields.values())).astype(np.float32)
    values = {
        name: prediction.auroc(prediction.out_of_fold(features, positive, folds, categorical=True), positive)
        for name, positive in wanted.items()
    }
    best = max(values, key=lambda name: values[name])
    return round(values[best], 4), best


# Fields to codes ------------------------------------------------------------------------------------------------------


def _fields(examined: Examined, part: ImageTable) -> dict[str, NDArray[np.int64]]:
    """By the field's name (N,) codes below 64; what is the same in all images is left out."""
    told: dict[str, list[str | None]] = {}
    for place, row in enumerate(part.rows.tolist()):
        for name, value in examined.metadata.read(row).items():
            told.setdefault(name, [None] * len(part))[place] = value
    for name, values in part.columns.items():
        if name not in part.learnt:
            told[f"column {name}"] = [str(value) for value in values.tolist()]
    found = {name: _codes(values) for name, values in sorted(told.items())}
    for index, name in enumerate(TRAITS):
        if part.traits.shape[1]:
            found[name] = _binned(part.traits[:, index].astype(np.float64), np.ones(len(part), dtype=np.bool_))
    return {name: codes for name, codes in found.items() if (codes != codes[0]).any()}


def _codes(values: Sequence[str | None]) -> NDArray[np.int64]:
    """Numbers as bins of equal size, other values by how often they occur; absent and empty ones for themselves."""
    said = [value for value in values if value]
    if len(set(said)) > _BINS:
        numbers = [_number(value) for value in values]
        if sum(number is not None for number in numbers) >= 0.9 * len(said):
            known = np.array([number is not None for number in numbers], dtype=np.bool_)
            codes = _binned(np.array([number or 0.0 for number in numbers]), known)
            empty = np.array([value is not None for value in values], dtype=np.bool_) & ~known
            return np.where(empty, _EMPTY, codes)
    often = sorted(Counter(said).items(), key=lambda item: (-item[1], item[0]))
    places = {value: _FIRST + min(place, _CATEGORIES) for place, (value, _) in enumerate(often)}
    return np.array([_ABSENT if each is None else places.get(each, _EMPTY) for each in values], dtype=np.int64)


def _number(value: str | None) -> float | None:
    """A number, or the first of several; None for anything else."""
    try:
        number = float((value or "").split("\\", 1)[0])
    except ValueError:
        return None
    return number if np.isfinite(number) else None


def _binned(numbers: NDArray[np.float64], known: NDArray[np.bool_]) -> NDArray[np.int64]:
    edges = np.unique(np.quantile(numbers[known], np.linspace(0, 1, _BINS + 1)[1:-1])) if known.any() else np.empty(0)
    return np.where(known, _FIRST + np.searchsorted(edges, numbers, "right"), _ABSENT).astype(np.int64)
