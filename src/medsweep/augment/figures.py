"""The preview of a policy: some training images, each beside its views."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medsweep.artifacts import files
from medsweep.artifacts.augmented import AugmentedViews
from medsweep.artifacts.prepared import PreparedSplit
from medsweep.imaging.views import ViewRenderer

_IMAGES = 6
_VIEWS = 8
_CELL_INCHES = 1.4
_HEAD_INCHES = 0.4
_LINE_INCHES = 0.16
_LETTERS_PER_INCH = 12
_LABEL_INCHES = 1.1
_DPI = 100


def write_preview(path: Path, views: AugmentedViews, train: PreparedSplit) -> None:
    """Write a PNG: a row an image (at most 6, of every class in turn), the original first, then its views (at most
    8)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    chosen = _chosen(train)
    shown = min(views.n_views, _VIEWS)
    renderer = ViewRenderer(views, train.images, train.value_range)
    columns = [("original", np.asarray(train.images[chosen]))]
    columns += [(f"view {view + 1}", renderer.rows(view * views.n_images + chosen)) for view in range(shown)]

    height, width = train.images.shape[1:3]
    pitch = (height + max(1, height // 32), width + max(1, width // 32))
    inches = (_CELL_INCHES * len(columns), _CELL_INCHES * pitch[0] / pitch[1] * len(chosen))
    made = "synthetic images; " if train.synthetic else ""
    width_inches = inches[0] + _LABEL_INCHES
    title = textwrap.wrap(f"{views.policy}: {made}{', '.join(views.transforms)}", int(width_inches * _LETTERS_PER_INCH))
    size = (width_inches, inches[1] + _HEAD_INCHES + _LINE_INCHES * len(title))
    figure = Figure(figsize=size, dpi=_DPI)
    FigureCanvasAgg(figure)
    # One picture of all cells: an axes for each would take seconds.
    axes = figure.add_axes((_LABEL_INCHES / size[0], 0.0, inches[0] / size[0], inches[1] / size[1]))
    axes.imshow(
        _mosaic([images for _, images in columns], pitch, train.value_range), interpolation="nearest", aspect="auto"
    )
    axes.set_xticks([(column + 0.5) * pitch[1] for column in range(len(columns))], [title for title, _ in columns])
    axes.set_yticks([(row + 0.5) * pitch[0] for row in range(len(chosen))], [_label(train, int(i)) for i in chosen])
    axes.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, length=0, labelsize=8)
    axes.set_frame_on(False)
    figure.text(0.1 / size[0], 1 - 0.1 / size[1], "\n".join(title), fontsize=9, va="top")
    with files.replacing(path) as temporary:
        # Without the version of matplotlib, and with no date: the same views give the same bytes.
        figure.savefig(temporary, format="png", metadata={"Software": None})


def _chosen(train: PreparedSplit) -> NDArray[np.int64]:
    """Which images are shown: one of each class, then another of each; evenly over the split where labels are many."""
    if train.task == "multilabel":
        return np.unique(np.linspace(0, len(train) - 1, _IMAGES).round().astype(np.int64))
    classes = [np.flatnonzero(train.labels == label) for label in range(len(train.class_names))]
    turns = [members[turn] for turn in range(_IMAGES) for members in classes if turn < len(members)]
    return np.array(turns[:_IMAGES], dtype=np.int64)


def _mosaic(columns: list[NDArray[Any]], pitch: tuple[int, int], value_range: int) -> NDArray[np.float32]:
    """The images (each column (R, H, W, C)) side by side on white, `pitch` pixels from one to the next, as RGB."""
    rows, height, width = columns[0].shape[:3]
    mosaic = np.ones((rows * pitch[0], len(columns) * pitch[1], 3), dtype=np.float32)
    for column, images in enumerate(columns):
        for row, image in enumerate(images):
            top, left = row * pitch[0], column * pitch[1]
            mosaic[top : top + height, left : left + width] = image.astype(np.float32) / np.float32(value_range)
    return mosaic


def _label(train: PreparedSplit, index: int) -> str:
    if train.task == "multilabel":
        present = [name for name, value in zip(train.class_names, train.labels[index], strict=True) if value]
        names = "\n".join(present[:3]) or "no label"
    else:
        names = train.class_names[int(train.labels[index])]
    return "\n".join(name if len(name) <= 14 else f"{name[:13]}…" for name in names.split("\n"))
