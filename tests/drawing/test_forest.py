"""A forest plot draws what is known of each line and says what is not."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

from medsweep.drawing.figure import WARNING, Signature
from medsweep.drawing.forest import ForestRow, forest

ROWS = [
    ForestRow("All", 0.9, 0.85, 0.94, heading=True),
    ForestRow("site", heading=True),
    ForestRow("a rather long name of a hospital that has to be cut somewhere", 0.7, 0.6, 0.8, flagged=True),
    ForestRow("without an interval", 0.8),
    ForestRow("without a value"),
]


def draw(path: Path, rows: list[ForestRow]) -> bytes:
    forest(
        path,
        rows,
        Signature("8 images", False),
        alt="A forest.",
        title="AUROC",
        x_label="AUROC",
        reference=rows[0].value,
    )
    return path.read_bytes()


def test_what_stands_at_the_right() -> None:
    assert [each.shown for each in ROWS] == ["", "", "0.700 (0.600 to 0.800)", "0.800", "undefined"]
    assert ForestRow("x", 0.5, 0.4, 0.6, words="few").shown == "few"


def test_same_bytes_and_flagged_lines_in_their_colour(tmp_path: Path) -> None:
    first = draw(tmp_path / "one.svg", ROWS)
    assert first == draw(tmp_path / "two.svg", ROWS)
    assert ElementTree.fromstring(first).tag.endswith("svg")
    assert WARNING.lower().encode() in first.lower()
    assert WARNING.lower().encode() not in draw(tmp_path / "three.svg", [ROWS[0], ROWS[3]]).lower()


def test_nothing_known_at_all_is_drawn_too(tmp_path: Path) -> None:
    assert draw(tmp_path / "one.svg", [ForestRow("without a value")])


def test_more_lines_make_a_higher_figure(tmp_path: Path) -> None:
    few, many = (
        float(str(ElementTree.fromstring(draw(tmp_path / f"{n}.svg", ROWS * n)).get("height")).removesuffix("pt"))
        for n in (1, 8)
    )
    assert many > 3 * few
