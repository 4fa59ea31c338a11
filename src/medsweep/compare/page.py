"""The comparison of many versions as a forest plot and one HTML page with everything inside it."""

from __future__ import annotations

import math
from pathlib import Path

from medsweep.artifacts import files
from medsweep.compare.experiment import Candidate, ManyCompared, Pair
from medsweep.drawing.figure import Signature
from medsweep.drawing.forest import ForestRow, forest
from medsweep.pages.page import data_url, render_page

FOREST = "forest.svg"
_MOST_IN_MATRIX = 12
_BETTER, _WORSE = "#dcefe6", "#fbe3da"


def write(found: ManyCompared, page: Path) -> list[Path]:
    """Write the page, and the forest plot beside it.

    Returns:
        the paths written, the page first.
    """
    page.parent.mkdir(parents=True, exist_ok=True)
    picture = page.with_name(FOREST)
    alt = draw(found, picture)
    files.write_text(page, _html(found, picture.read_bytes(), alt))
    return [page, picture]


def draw(found: ManyCompared, path: Path) -> str:
    """The forest plot of all AUROCs; returns its alternative text."""
    rows = [ForestRow(each.name, each.value, each.low, each.high) for each in found.candidates]
    best = max((each for each in found.candidates if each.value is not None), key=_value, default=None)
    alt = (
        f"Forest plot of the AUROC of {len(rows)} versions with {100 * found.confidence:g} % intervals"
        + ("." if best is None else f"; the highest is that of {best.name}, {best.value:.3f}.")
        + f" {len(found.survivors)} of {len(found.pairs)} differences survive Holm's adjustment."
    )
    forest(
        path,
        rows,
        Signature(f"{found.experiment}: {found.size}", found.synthetic),
        alt=alt,
        title="AUROC on the same test images",
        x_label=f"AUROC with {100 * found.confidence:g} % interval",
        reference=found.candidates[0].value,
    )
    return alt


def _value(each: Candidate) -> float:
    return -1.0 if each.value is None else each.value


def _html(found: ManyCompared, picture: bytes, alt: str) -> str:
    cells = {(each.second, each.first): _cell(each, found, 1.0) for each in found.pairs}
    cells |= {(each.first, each.second): _cell(each, found, -1.0) for each in found.pairs}
    context = {
        "found": found,
        "synthetic": found.synthetic,
        "picture": data_url(picture, "svg+xml"),
        "alt": alt,
        "shown": found.candidates[:_MOST_IN_MATRIX],
        "cells": cells,
        "percent": f"{100 * found.confidence:g} %",
    }
    return render_page("medsweep.compare", "compare.html", context)


def _cell(pair: Pair, found: ManyCompared, sign: float) -> dict[str, object]:
    """A field of the matrix: the row's AUROC minus the column's."""
    difference, p = sign * pair.area.difference.value, pair.adjusted
    survives = p < 1.0 - found.confidence
    return {
        "difference": "–" if math.isnan(difference) else f"{difference:+.3f}",
        "p": "p –" if math.isnan(p) else "p < 0.001" if p < 0.001 else f"p {p:.3f}",
        "survives": survives,
        "style": "" if not survives else f"background: {_BETTER if difference > 0 else _WORSE}",
    }
