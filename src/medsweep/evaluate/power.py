"""The part `power`: which differences a test set of this size could have shown."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from medsweep.artifacts.section import Cell, Figure, Section, Table
from medsweep.drawing.figure import COLOURS, GREY, LINES, bare, figure, title
from medsweep.evaluate.certainty import Certainty, certainties
from medsweep.statistics.power import minimum_detectable, paired_error, size_needed

if TYPE_CHECKING:
    from medsweep.evaluate.parts import Evaluated


def power(evaluated: Evaluated) -> Section:
    """The section: for each figure the smallest difference that this test split would most likely have shown."""
    known = evaluated.params.evaluate
    wanted, confidence = known.power, known.bootstrap.confidence
    unit = "patients" if evaluated.split.has_patients else "images"
    size = len(np.unique(evaluated.split.groups))

    def least(error: float) -> float:
        return minimum_detectable(error, confidence=confidence, power=wanted.power)

    rows: list[tuple[Cell, ...]] = []
    values: dict[str, Any] = {}
    judged = [each for each in certainties(evaluated) if each.error is not None and each.error > 0.0]
    for each in judged:
        assert each.error is not None
        fixed, paired = least(each.error), least(paired_error(each.error, wanted.correlation))
        separate = least(paired_error(each.error, 0.0))
        needed = size_needed(size, paired, wanted.difference)
        rows.append(
            (each.title, each.shown, round(each.error, 4), *(round(e, 3) for e in (fixed, paired, separate)), needed)
        )
        values[each.name] = {
            "standard_error": each.error,
            "against_a_fixed_value": fixed,
            "same_images": paired,
            "other_images": separate,
            f"{unit}_needed": needed,
        }
    head = f"{100 * wanted.power:g} % power at the two-sided level {1.0 - confidence:.2g}"
    if not rows:
        nothing = (
            "What could have been found can't be said: no figure here has a variance (one class only, one patient, or "
            "images that were told apart without a mistake)."
        )
        return Section("power", "What this test set could show", (nothing,), values={"size": size, "unit": unit})
    first = judged[0]
    words = (
        f"Two models compared on these {size} {unit} would have to differ in {first.title} by "
        f"{values[first.name]['same_images']:.3f} or more to be told apart with {head}. Smaller differences would most "
        "likely go unseen, so 'no significant difference' here does not mean 'as good'.",
        f"The figures of two models on the same images are taken to correlate by {wanted.correlation:g}; the more "
        "alike the models, the smaller a difference can be found (medsweep compare uses the true correlation). The "
        f"last column says how many {unit} would show a difference of {wanted.difference:g} on the same images.",
    )
    table = Table(
        f"Smallest differences found with {head}, for {size} {unit}: against a fixed value, between two models on the "
        f"same images, between models on {unit} of their own; and the {unit} that show {wanted.difference:g} on the "
        "same images",
        (
            "figure",
            "value",
            "standard error",
            "fixed value",
            "same images",
            f"own {unit}",
            f"{unit} for {wanted.difference:g}",
        ),
        tuple(rows),
    )
    return Section(
        "power",
        "What this test set could show",
        words,
        tables=(table,),
        figures=(_draw(evaluated, first, size, unit),),
        values={"size": size, "unit": unit, "power": wanted.power, "metrics": values},
    )


def _draw(evaluated: Evaluated, first: Certainty, size: int, unit: str) -> Figure:
    known = evaluated.params.evaluate
    assert first.error is not None
    sizes = np.geomspace(max(4.0, size / 8.0), size * 8.0, 60)

    def curve(correlation: float) -> Any:
        error = paired_error(first.error or 0.0, correlation)
        now = minimum_detectable(error, confidence=known.bootstrap.confidence, power=known.power.power)
        return now, now * np.sqrt(size / sizes)

    correlations = sorted({0.0, known.power.correlation, 0.9})
    now, _ = curve(known.power.correlation)
    needed = size_needed(size, now, known.power.difference)
    alt = (
        f"The smallest difference in {first.title} that can be found falls with the number of {unit}: {now:.3f} at the "
        f"present {size}, {known.power.difference:g} at {needed} (correlation {known.power.correlation:g})."
    )
    path = evaluated.plots / "power.svg"
    with figure(path, evaluated.signature, alt=alt, size=(6.6, 4.4)) as drawn:
        axes = drawn.add_subplot()
        title(axes, f"Smallest difference in {first.title} that can be found")
        for index, correlation in enumerate(correlations):
            _, values = curve(correlation)
            words = "other images" if correlation == 0.0 else f"same images, correlation {correlation:g}"
            axes.plot(sizes, values, color=COLOURS[index], linestyle=LINES[index % 3], linewidth=1.8, label=words)
        axes.axvline(size, color=GREY, linewidth=1, linestyle=(0, (1, 2)), label=f"this test split: {size}")
        axes.set_xscale("log")
        axes.set_ylim(bottom=0, top=min(1.0, 1.15 * float(curve(0.0)[1].max())))
        axes.set_xlabel(unit)
        axes.set_ylabel("difference")
        ticks = [size / 8, size / 4, size / 2, size, size * 2, size * 4, size * 8]
        axes.set_xticks(ticks, [f"{math.ceil(each)}" for each in ticks])
        axes.minorticks_off()
        axes.grid(color="#E6E6E6", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.legend(fontsize=8, frameon=False)
        bare(axes)
    caption = (
        f"With {100 * known.power.power:g} % power; both models on the same images, or each on images of its own. "
        f"Errors fall with the root of the number of {unit}."
    )
    return Figure("plots/power.svg", alt, caption)
