"""Pictures of explanations: overlays with a colour bar, and the curves of deletion and insertion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from medsweep.drawing.figure import COLOURS, GREY, Signature, bare, figure, shortened, title

Floats = NDArray[np.float32]

# Blue speaks against, vermilion for: two of Okabe and Ito's colours, which colour-blind eyes tell apart.
_AGAINST, _FOR = COLOURS[0], COLOURS[1]
_OPAQUE = 0.85
# Larger images are shown at this side, in pixels: an SVG holds every one of them in every column.
_LARGEST = 96


@dataclass(frozen=True)
class Overlay:
    """One row of the grid.

    Args:
        pixels: (H, W, C) raw.
        words: what stands beside it, a line each.
        maps: by the method's title, (H, W) from -1 to 1.
        mask: (H, W) the known lesion, or None.
    """

    pixels: NDArray[Any]
    words: Sequence[str]
    maps: Mapping[str, Floats]
    mask: NDArray[np.uint8] | None


def overlays(
    path: Path, rows: Sequence[Overlay], heading: str, value_range: int, signature: Signature, alt: str
) -> None:
    """A grid: a row for each image, its pixels first, then a column for each method.

    Args:
        path: the SVG or PNG to write.
        rows: at least one, all with the same methods.
        heading: above it.
        value_range: the raw pixel value that is shown as white.
        signature: below it.
        alt: for readers who cannot see it.
    """
    titles = list(rows[0].maps)
    columns = len(titles) + 1
    outlined = any(row.mask is not None and row.mask.any() for row in rows)
    with figure(path, signature, alt=alt, size=(1.45 * columns + 2.4, 1.5 * len(rows) + 1.6)) as drawn:
        drawn.suptitle(heading, x=0.01, ha="left", fontweight="bold")
        grid = drawn.subplots(
            len(rows), columns + 1, squeeze=False, gridspec_kw={"width_ratios": [1.15, *[1.0] * columns]}
        )
        for axes, row in zip(grid, rows, strict=True):
            axes[0].set_axis_off()
            axes[0].text(0.0, 0.5, "\n".join(row.words), va="center", fontsize=7.5, linespacing=1.35)
            grey = _as_rgb(row.pixels, value_range)
            for place, values in enumerate([None, *row.maps.values()], start=1):
                shown = grey if values is None else _blended(grey, values)
                axes[place].imshow(_reduced(shown), interpolation="none")
                axes[place].set_axis_off()
                if row.mask is not None and row.mask.any():
                    outline = _reduced(row.mask.astype(np.float64))
                    axes[place].contour(outline, levels=[0.5], colors="white", linewidths=0.7, linestyles="dotted")
        for place, name in enumerate(["image", *titles], start=1):
            grid[0][place].set_title(name, fontsize=8.5)
        _colour_bar(drawn, grid, outlined)


def curves(
    path: Path, share: Sequence[float], found: Mapping[str, tuple[Any, Any]], signature: Signature, alt: str
) -> None:
    """Deletion and insertion curves of each method beside each other.

    Args:
        path: the SVG or PNG to write.
        share: (S + 1,) of the pixels.
        found: by the method's title, the mean deletion and insertion curves, (S + 1,) each; the last is the control.
        signature: below it.
        alt: for readers who cannot see it.
    """
    with figure(path, signature, alt=alt, size=(9.2, 3.8)) as drawn:
        left, right = drawn.subplots(1, 2, sharey=True)
        for index, (name, (deletion, insertion)) in enumerate(found.items()):
            control = index == len(found) - 1
            style: dict[str, Any] = {"color": GREY if control else COLOURS[index % len(COLOURS)], "linewidth": 1.6}
            if control:
                style["linestyle"] = "--"
            left.plot(share, deletion, label=name, **style)
            right.plot(share, insertion, label=name, **style)
        for axes, words, x in (
            (left, "Deletion: the lower, the better", "share of pixels replaced by mean grey"),
            (right, "Insertion: the higher, the better", "share of pixels put into the blurred image"),
        ):
            title(axes, words)
            axes.set(xlabel=x, xlim=(0, 1), ylim=(0, 1))
            axes.grid(color="#E6E6E6", linewidth=0.8)
            axes.set_axisbelow(True)
            bare(axes)
        left.set_ylabel("mean probability of the class")
        right.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1.0))


def label(text: str) -> str:
    """A class's name, short enough for the column of words."""
    return shortened(text, 18)


def _reduced(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(H, W) or (H, W, 3) values, averaged over areas where a side is longer than is shown."""
    height, width = values.shape[:2]
    share = _LARGEST / max(height, width)
    if share >= 1:
        return values
    size = (max(1, round(width * share)), max(1, round(height * share)))
    return np.asarray(cv2.resize(values, size, interpolation=cv2.INTER_AREA), dtype=np.float64)


def _as_rgb(pixels: NDArray[Any], value_range: int) -> NDArray[np.float64]:
    scaled = np.clip(np.asarray(pixels, dtype=np.float64) / value_range, 0.0, 1.0)
    return np.repeat(scaled, 3, axis=2) if scaled.shape[2] == 1 else scaled


def _blended(grey: NDArray[np.float64], values: Floats) -> NDArray[np.float64]:
    from matplotlib.colors import to_rgb

    strength = (_OPAQUE * np.clip(np.abs(values), 0.0, 1.0))[:, :, None]
    colour = np.where((values < 0)[:, :, None], to_rgb(_AGAINST), to_rgb(_FOR))
    return np.asarray((1.0 - strength) * grey + strength * colour)


def _colour_bar(drawn: Any, grid: Any, outlined: bool) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    colours = LinearSegmentedColormap.from_list("evidence", [_AGAINST, "white", _FOR])
    bar = drawn.colorbar(
        ScalarMappable(Normalize(-1, 1), colours), ax=grid, location="bottom", shrink=0.5, aspect=45, pad=0.02
    )
    bar.set_ticks([-1, 0, 1], labels=["-1\nagainst the class", "0\n(transparent)", "1\nfor the class"], fontsize=7.5)
    bar.outline.set_visible(False)
    words = "each map scaled by its own largest absolute value"
    bar.set_label(f"{words}; dotted: the known lesion" if outlined else words, fontsize=8)
