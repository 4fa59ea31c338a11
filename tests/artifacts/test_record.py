from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medsweep.artifacts.record import ImageRecord, RawImage
from medsweep.errors import DataError


def _record(**changes: Any) -> ImageRecord:
    known = {"path": Path("a/b.png"), "label": 1, "patient_id": None, "split": None, "source": "folder"}
    return ImageRecord(**(known | changes))


def test_a_record_is_named_by_its_file_and_frame() -> None:
    assert _record().name == "a/b.png"
    assert _record(frame=3).name == "a/b.png[3]"


def test_a_split_that_is_none_is_refused_with_the_image_named() -> None:
    assert [_record(split=each).split for each in ("train", "val", "test", None)] == ["train", "val", "test", None]
    with pytest.raises(DataError, match=r"a/b\.png: 'dev' is not a split"):
        _record(split="dev")


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((4, 5, 4), np.uint8),
        np.zeros((4, 5, 1), np.uint8),
        np.zeros(4, np.uint8),
        np.zeros((0, 5), np.uint8),
        np.zeros((4, 5), np.int16),
        np.zeros((4, 5), np.float32),
    ],
)
def test_pixels_are_grey_or_rgb_and_whole_numbers(pixels: Any) -> None:
    with pytest.raises(DataError):
        RawImage(pixels, largest=255, content="c")


def test_grey_and_rgb_of_both_depths_are_taken() -> None:
    for shape in ((4, 5), (4, 5, 3)):
        for dtype in (np.uint8, np.uint16):
            assert RawImage(np.zeros(shape, dtype), largest=4095, content="c").pixels.shape == shape
