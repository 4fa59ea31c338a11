"""Cells and markdown in words."""

from __future__ import annotations

import pytest

from medsweep.pages.page import cell, cell_class, count, plain


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
    ("value", "kind"),
    [
        (1, ""),
        (None, ""),
        ("0.943 (0.868 to 0.980)", ""),
        ("≥ 0.95", ""),
        ("north", "words"),
        ("a text of more than twenty-six letters", "words long"),
    ],
)
def test_numbers_stand_right_and_words_left(value: object, kind: str) -> None:
    assert cell_class(value) == kind


def test_counts_and_plain_text() -> None:
    assert (count(1, "image"), count(2, "image"), count(2, "class", "classes")) == ("1 image", "2 images", "2 classes")
    assert plain("a|b\n*c* <d>") == r"a\|b \*c\* \<d\>"
