"""The flow of images and patients, from the source's list to the test: boxes and arrows of an inline SVG."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

from medsweep.evaluate.report.words import left_out
from medsweep.layout import SPLITS
from medsweep.pages.page import cell, count

WIDTH = 400
"""Units across: about the pixels of a phone, so that text stays legible there."""
_LINE = 17
_PAD = 9
_GAP = 26
_MOST_CLASSES = 6
_LETTERS = 17
_SIDE_LETTERS = 24


@dataclass(frozen=True)
class Box:
    """A box with lines of text; the first one is bold."""

    x: float
    y: float
    width: float
    height: float
    lines: tuple[str, ...]
    strong: bool = False

    @property
    def texts(self) -> list[tuple[float, float, str]]:
        """(x, y, text) of each line, x its middle."""
        return [
            (self.x + self.width / 2, self.y + _PAD + 12.5 + index * _LINE, line)
            for index, line in enumerate(self.lines)
        ]


@dataclass(frozen=True)
class Flow:
    """A drawing: its size, boxes, arrows as (x1, y1, x2, y2), and what it shows in words."""

    width: int
    height: float
    boxes: tuple[Box, ...]
    arrows: tuple[tuple[float, float, float, float], ...]
    description: str


def flow(quality: Mapping[str, Any], *, n_images: int, n_patients: int | None) -> Flow:
    """The chart.

    Args:
        quality: the data-quality report.
        n_images, n_patients: that were evaluated; patients None where the source names none.
    """
    images, patients, splits = quality["images"], quality["patients"], quality["splits"]
    out = [line for reason in left_out(quality) for line in wrap(reason, _SIDE_LETTERS)] or ["none"]
    boxes, arrows = [], []

    def box(x: float, y: float, width: float, lines: list[str], *, strong: bool = False) -> Box:
        made = Box(x, y, width, 2 * _PAD + _LINE * len(lines), tuple(lines), strong)
        boxes.append(made)
        return made

    side_x, middle = 222.0, 100.0
    listed = box(8, 4, 184, ["Listed by the source", count(images["listed"], "image")], strong=True)
    aside = box(side_x, listed.y + listed.height + 8, WIDTH - side_x - 4, ["Left out", *out])
    known = [count(patients["count"], "patient")] if patients["known"] else ["no patient ids"]
    below = max(listed.y + listed.height + _GAP, aside.y + aside.height - 10)
    prepared = box(8, below, 184, ["Prepared", count(images["prepared"], "image"), *known], strong=True)
    arrows.append((middle, listed.y + listed.height, middle, prepared.y))
    arrows.append((middle, aside.y + aside.height / 2, side_x, aside.y + aside.height / 2))

    width = (WIDTH - 8 - 2 * 8) / 3
    top = prepared.y + prepared.height + 2 * _GAP
    joint = prepared.y + prepared.height + _GAP
    arrows.append((middle, prepared.y + prepared.height, middle, joint))
    centres, test = [], None
    names = {"train": "Training", "val": "Validation", "test": "Test"}
    tallest = max(len(_split_lines(splits[name], names[name], patients["known"])) for name in SPLITS)
    for index, name in enumerate(SPLITS):
        lines = _split_lines(splits[name], names[name], patients["known"])
        made = box(4 + index * (width + 8), top, width, lines + [""] * (tallest - len(lines)), strong=True)
        centres.append(made.x + width / 2)
        arrows.append((made.x + width / 2, joint, made.x + width / 2, top))
        test = made if name == "test" else test
    arrows.append((min(centres), joint, max(centres), joint))
    assert test is not None
    used = [
        count(n_images, "image"),
        *([count(n_patients, "patient")] if n_patients is not None else ["no patient ids"]),
    ]
    end = box(test.x, test.y + test.height + _GAP, width, ["Evaluated", *used], strong=True)
    arrows.append((test.x + width / 2, test.y + test.height, test.x + width / 2, end.y))
    parts = "; ".join(
        f"{names[name].lower()} {count(splits[name]['images'], 'image')}"
        + (f" of {count(splits[name]['patients'], 'patient')}" if patients["known"] else "")
        for name in SPLITS
    )
    description = (
        f"{count(images['listed'], 'image')} listed by the source; left out: {', '.join(left_out(quality)) or 'none'}; "
        f"prepared: {count(images['prepared'], 'image')}{f' of {known[0]}' if patients['known'] else ''}; {parts}; "
        f"evaluated: {' of '.join(used) if n_patients is not None else used[0]}."
    )
    return Flow(WIDTH, end.y + end.height + 4, tuple(boxes), tuple(arrows), description)


def _split_lines(split: Mapping[str, Any], title: str, patients_known: bool) -> list[str]:
    lines = [title, count(split["images"], "image")]
    if patients_known and split["patients"] is not None:
        lines.append(count(split["patients"], "patient"))
    classes = split["classes"]
    if len(classes) > _MOST_CLASSES:
        return [*lines, f"{len(classes)} classes"]
    for name, each in classes.items():
        number = cell(each["images"])
        room = _LETTERS - len(number) - 1
        lines.append(f"{name if len(name) <= room else f'{name[: room - 1]}…'} {number}")
    return lines
