"""Pictures of the data-quality page: histograms as SVG, contact sheets as PNG. The same data give the same bytes."""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Okabe and Ito's palette, which colour-blind readers can tell apart.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#555555")
_LINES = ("-", "--", "-.", ":")
_INK = "#333333"


def intensity_histogram(shares: Mapping[str, NDArray[np.float64]]) -> str:
    """An SVG with a line a class.

    Args:
        shares: by class name the share of its pixels in each of B bins from 0 to 1.
    """
    figure, axes = _figure()
    for index, (name, values) in enumerate(shares.items()):
        edges = np.linspace(0.0, 1.0, len(values) + 1)
        axes.stairs(
            100 * values,
            edges,
            label=name,
            color=_COLOURS[index % len(_COLOURS)],
            linestyle=_LINES[index // len(_COLOURS) % len(_LINES)],
            linewidth=1.4,
        )
    axes.set_yscale("log")
    axes.set_xlim(0, 1)
    axes.set_xlabel("Intensity (share of the full range)")
    axes.set_ylabel("Pixels (%)")
    if len(shares) <= 2 * len(_COLOURS):
        figure.legend(frameon=False, fontsize=8, ncols=4, loc="outside upper left")
    return _svg(figure)


def size_histogram(heights: NDArray[np.int32], widths: NDArray[np.int32]) -> str:
    """An SVG with the distribution of the original heights and widths in pixels."""
    figure, axes = _figure()
    low, high = int(min(heights.min(), widths.min())), int(max(heights.max(), widths.max()))
    edges = np.linspace(low, high + 1, 31)
    for name, values, colour in (("width", widths, _COLOURS[0]), ("height", heights, _COLOURS[1])):
        counts, _ = np.histogram(values, edges)
        axes.stairs(counts, edges, label=name, color=colour, linewidth=1.4)
    axes.set_xlabel("Original size (pixels)")
    axes.set_ylabel("Images")
    axes.legend(frameon=False, fontsize=8)
    return _svg(figure)


def bars(values: Mapping[str, float], *, threshold: float, axis: str, marked: Collection[str]) -> str:
    """An SVG with a bar a name, from 0.5 to 1, and a line at the threshold; those that are marked in orange."""
    figure, axes = _figure()
    figure.set_size_inches(6.2, 0.9 + 0.22 * len(values))
    names = [name if len(name) <= 40 else f"{name[:39]}…" for name in values]
    widths = [max(0.0, value - 0.5) for value in values.values()]
    colours = [_COLOURS[1] if name in marked else _COLOURS[0] for name in values]
    axes.barh(range(len(names)), widths, left=0.5, color=colours)
    for place, value in enumerate(values.values()):
        axes.text(max(value, 0.5) + 0.005, place, f"{value:.2f}", va="center", fontsize=7, color=_INK)
    axes.axvline(threshold, color=_INK, linestyle="--", linewidth=0.8)
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.invert_yaxis()
    axes.set_xlim(0.5, 1.06)
    axes.set_xlabel(axis)
    return _svg(figure)


def histogram(title: str, edges: NDArray[np.float64], shares: Mapping[str, NDArray[np.float64]]) -> str:
    """An SVG with a line a group: the share of its images in each bin."""
    figure, axes = _figure()
    for index, (name, values) in enumerate(shares.items()):
        colour, line = _COLOURS[index % len(_COLOURS)], _LINES[index % len(_LINES)]
        axes.stairs(100 * values, edges, label=name, color=colour, linestyle=line, linewidth=1.4)
    axes.set_xlabel(title)
    axes.set_ylabel("Images (%)")
    figure.legend(frameon=False, fontsize=8, ncols=2, loc="outside upper left")
    return _svg(figure)


def contact_sheet(images: NDArray[Any], *, value_range: int, columns: int, tile: int) -> bytes:
    """A PNG with the images side by side, downscaled to at most `tile` pixels along their longer side.

    Args:
        images: (n, H, W, C) uint8 or uint16, n ≥ 1.
        value_range: the value shown as white.
        columns: images a row.
        tile: the longer side's largest length.
    """
    import cv2

    scale = min(1.0, tile / max(images.shape[1:3]))
    height, width = (max(1, round(side * scale)) for side in images.shape[1:3])
    gap = 2
    columns = min(columns, len(images))
    lines = -(-len(images) // columns)
    channels = images.shape[3]
    sheet = np.full((lines * (height + gap) - gap, columns * (width + gap) - gap, channels), 255, dtype=np.uint8)
    for index, image in enumerate(images):
        shown = np.rint(np.asarray(image, dtype=np.float32) * (255 / value_range)).astype(np.uint8)
        if scale < 1.0:
            shown = cv2.resize(shown, (width, height), interpolation=cv2.INTER_AREA).reshape(height, width, channels)
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        sheet[top : top + height, left : left + width] = shown
    _, encoded = cv2.imencode(".png", sheet[:, :, ::-1] if channels == 3 else sheet, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    return bytes(encoded.tobytes())


def _figure() -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.4, 2.8), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8, colors=_INK)
    axes.xaxis.label.set_fontsize(9)
    axes.yaxis.label.set_fontsize(9)
    return figure, axes


def _svg(figure: Any) -> str:
    import matplotlib

    stream = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "medsweep", "svg.fonttype": "path"}):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return stream.getvalue()


def sheet_layout(n_classes: int, channels: int) -> tuple[int, int, Sequence[int]]:
    """How many images a contact sheet shows, its tiles' length, and the classes shown, so that a page stays small."""
    shown = range(min(n_classes, 20))
    images = 16 if n_classes <= 8 else 8
    budget = 1_600_000
    tile = int((budget / (3 * len(shown) * images * channels)) ** 0.5)
    return images, max(24, min(96, tile)), shown
