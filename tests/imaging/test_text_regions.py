"""Lines of text are found in images, and not where there are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from medsweep.imaging.text_regions import has_text

ROOT = Path(__file__).resolve().parents[2]
XRAYS = ROOT.parent / "shared" / "data" / "cxr_kermany_224" / "test" / "NORMAL"


def background(size: int, seed: int) -> np.ndarray:
    """Smooth structures and noise, as in an ultrasound image."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(20, 180, (9, 9), dtype=np.uint8)).resize(
        (size, size), Image.Resampling.BICUBIC
    )
    return np.clip(np.asarray(coarse) + rng.normal(0, 6, (size, size)), 0, 255).astype(np.uint8)


def written(pixels: np.ndarray, text: str, size: int, fill: int = 255, at: tuple[int, int] = (6, 4)) -> np.ndarray:
    image = Image.fromarray(pixels)
    ImageDraw.Draw(image).text(at, text, fill=fill, font=ImageFont.load_default(size))
    return np.asarray(image)


@pytest.mark.parametrize("size", [224, 512])
@pytest.mark.parametrize("letters", [14, 20])
def test_names_are_found(size, letters):
    found = [has_text(written(background(size, seed), "MUSTERMANN^ERIKA", letters)) for seed in range(20)]
    assert np.mean(found) >= 0.9


def test_nothing_is_found_where_nothing_is_written():
    assert [has_text(background(256, seed)) for seed in range(20)] == [0] * 20
    assert not has_text(np.zeros((200, 200), np.uint8))
    assert not has_text(np.random.default_rng(1).integers(0, 256, (256, 256), dtype=np.uint8))


def test_a_single_letter_is_no_line():
    assert not has_text(written(background(256, 1), "R", 24))


def test_dark_text_sixteen_bits_and_colours():
    plain = written(np.full((200, 300), 200, np.uint8), "Doe, John 1963", 16, fill=0)
    assert has_text(plain)
    assert has_text(plain.astype(np.uint16) * 257)
    assert has_text(np.repeat(plain[:, :, None], 3, axis=2))


def test_small_images_are_passed_over():
    assert not has_text(written(np.zeros((64, 300), np.uint8), "Doe, John", 16))


@pytest.mark.skipif(not XRAYS.is_dir(), reason="../shared/data/cxr_kermany_224 is not there")
def test_chest_x_rays():
    images = [np.asarray(Image.open(path).convert("L")) for path in sorted(XRAYS.glob("*.jpeg"))[:60]]
    assert sum(has_text(each) for each in images) == 0
    found = [has_text(written(each, "DOE, JANE 19630719", 16)) for each in images]
    assert np.mean(found) >= 0.85
