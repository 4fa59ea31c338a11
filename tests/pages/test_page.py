"""Cells and markdown in words."""

from __future__ import annotations

import pytest

from medsweep.pages.page import cell, cell_class, column_classes, count, plain


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (True, "yes"),
        (1234, "1\u202f234"),
        (0.12345, "0.123"),
        (0.0, "0.000"),
        (0.0000123, "1.23e-05"),
        (123456.0, "1.23e+05"),
        ("text", "text"),
    ],
)
def test_cells(value: object, shown: str) -> None:
    assert cell(value) == shown


@pytest.mark.parametrize(
    ("column", "classes"),
    [
        ([1, 2.5, None], ["", "", ""]),
        (["0.943 (0.868 to 0.980)", "≥ 0.95"], ["", ""]),
        (["north", 3], ["words", "words"]),
        (["north", "a text of more than twenty letters"], ["words", "words long"]),
    ],
)
def test_numbers_stand_right_and_words_left(column: list[object], classes: list[str]) -> None:
    (kind,) = column_classes([[value] for value in column])
    assert [cell_class(value, kind) for value in column] == classes


def test_counts_and_plain_text() -> None:
    assert (count(1, "image"), count(2, "image"), count(2, "class", "classes")) == ("1 image", "2 images", "2 classes")
    assert plain("a|b\n*c* <d>") == r"a\|b \*c\* \<d\>"
