"""One image on request is what prepare made of it, or would make."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medsweep.artifacts.prepared import PreparedSplit
from medsweep.artifacts.record import RawImage
from medsweep.errors import DataError
from medsweep.imaging.pipeline import to_array
from medsweep.layout import Layout
from medsweep.params import Params, parse
from medsweep.prepare.one_image import find_image


@pytest.fixture
def params(default_params: dict[str, Any]) -> Params:
    return parse(default_params, where="params.yaml")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path, tmp_path)


def test_a_file_is_read_as_prepare_would_read_it(params: Params, layout: Layout) -> None:
    pixels = np.random.default_rng(1).integers(0, 255, (40, 60)).astype(np.uint8)
    path = layout.root / "a.png"
    Image.fromarray(pixels).save(path)
    found = find_image(str(path), params, layout)
    expected, _ = to_array(RawImage(pixels, 255, ""), params.prepare.image, params.prepare.intensity)
    assert np.array_equal(found.pixels, expected)
    assert (found.name, found.value_range, found.synthetic, found.mask) == ("a.png", 255, False, None)


def test_a_record_is_found_by_the_beginning_of_its_id(
    params: Params, layout: Layout, write_split: Callable[..., PreparedSplit]
) -> None:
    write_split(layout.prepared_split("train"), "train")
    split = write_split(layout.prepared_split("test"), "test")
    found = find_image("test0003", params, layout)
    assert np.array_equal(found.pixels, split.images[3])
    assert found.name == "record test0003 of the test split"
    with pytest.raises(DataError, match="10 records begin so"):
        find_image("test000", params, layout)


@pytest.mark.parametrize("what", ["nowhere.png", "", "abc"])
def test_what_is_neither_is_said(
    params: Params, layout: Layout, write_split: Callable[..., PreparedSplit], what: str
) -> None:
    write_split(layout.prepared_split("test"), "test")
    with pytest.raises(DataError, match="neither a file nor the beginning"):
        find_image(what, params, layout)
