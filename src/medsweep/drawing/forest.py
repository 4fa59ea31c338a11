"""Forest plots: a value with its interval on each line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medsweep.drawing.figure import COLOURS, DOTTED, GREY, WARNING, Signature, bare, figure, shortened

_LINE = 0.28  # inches a line takes


@dataclass(frozen=True)
class ForestRow:
    """One line.

    Args:
        label: at the left; without a value it is a heading.
        value, low, high: None where undefined.
        words: at the right; empty shows the numbers.
        flagged: drawn in the colour of warnings.
    """

    label: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    words: str = ""
    flagged: bool = False
    heading: bool = False

    @property
    def shown(self) -> str:
        """What stands at the right."""
        if self.words or self.heading:
            return self.words
        if self.value is None:
            return "undefined"
        ends = "" if self.low is None or self.high is None else f" ({self.low:.3f} to {self.high:.3f})"
        return f"{self.value:.3f}{ends}"


def forest(
    path: Path,
    rows: Sequence[ForestRow],
    signature: Signature,
    *,
    alt: str,
    title: str,
    x_label: str,
    reference: float | None = None,
) -> None:
    """Draw the lines from top to bottom, with a dotted line at `reference`."""
    with figure(path, signature, alt=alt, size=(7.6, 1.5 + _LINE * len(rows))) as drawn:
        axes = drawn.add_subplot()
        axes.set_title(title, loc="left", fontweight="bold")
        for index, row in enumerate(rows):
            colour = WARNING if row.flagged else COLOURS[0]
            if row.value is not None:
                if row.low is not None and row.high is not None:
                    axes.plot([row.low, row.high], [index, index], color=colour, linewidth=1.8, solid_capstyle="butt")
                axes.plot([row.value], [index], "s", color=colour, markersize=5.5)
            axes.text(
                1.02,
                index,
                row.shown,
                transform=axes.get_yaxis_transform(),
                va="center",
                fontsize=8.5,
                color=WARNING if row.flagged else "black",
            )
        if reference is not None:
            axes.axvline(reference, color=GREY, linewidth=1, linestyle=DOTTED, zorder=0)
        axes.set_yticks(range(len(rows)), [shortened(row.label, 42) for row in rows])
        for mark, row in zip(axes.get_yticklabels(), rows, strict=True):
            mark.set_fontweight("bold" if row.heading else "normal")
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(x_label)
        axes.grid(axis="x", color="#E6E6E6", linewidth=0.8)
        axes.set_axisbelow(True)
        bare(axes)
        axes.spines["left"].set_visible(False)
