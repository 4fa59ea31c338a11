from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from medsweep import params
from medsweep.artifacts.record import RawImage
from medsweep.imaging.intensity import to_intensity
from medsweep.imaging.pipeline import to_array
from medsweep.imaging.resize import resize, resize_mask

RNG = np.random.default_rng(0)


def image(height: int = 28, width: int = 28, channels: int = 1, fit: str = "pad") -> params.Image:
    return params.Image.model_validate({"height": height, "width": width, "channels": channels, "fit": fit})


def intensity(
    method: str = "full_range", bits: int = 8, percentiles: tuple[float, float] = (1, 99)
) -> params.Intensity:
    return params.Intensity.model_validate(
        {
            "window": "file",
            "method": method,
            "percentiles": percentiles,
            "clahe": {"clip_limit": 2.0, "tiles": 4},
            "bits": bits,
        }
    )


def raw(pixels: np.ndarray, largest: int = 255, mask: np.ndarray | None = None) -> RawImage:
    return RawImage(pixels, largest, "0" * 64, mask)


@pytest.mark.parametrize(("largest", "dtype"), [(255, np.uint8), (4095, np.uint16), (65535, np.uint16)])
def test_full_range_divides_by_the_true_bit_depth(largest: int, dtype: Any) -> None:
    pixels = RNG.integers(0, largest + 1, (9, 11)).astype(dtype)
    pixels[0, :2] = 0, largest
    found = to_intensity(raw(pixels, largest), intensity(), 1)
    np.testing.assert_allclose(found[:, :, 0], pixels / largest, atol=1e-7)
    assert found.dtype == np.float32
    assert (found.min(), found.max()) == (0.0, 1.0)


def test_colour_becomes_luma_and_grey_is_repeated() -> None:
    colour = RNG.integers(0, 256, (6, 5, 3), dtype=np.uint8)
    expected = colour @ np.array([0.299, 0.587, 0.114]) / 255
    np.testing.assert_allclose(to_intensity(raw(colour), intensity(), 1)[:, :, 0], expected, atol=1e-6)
    grey = colour[:, :, 0]
    np.testing.assert_array_equal(
        to_intensity(raw(grey), intensity(), 3), np.repeat((grey / np.float32(255))[..., None], 3, axis=2)
    )


def test_grey_content_stored_as_colour_prepares_to_the_same_bytes() -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    one, _ = to_array(raw(grey), image(16, 16), intensity())
    three, _ = to_array(raw(np.repeat(grey[..., None], 3, axis=2)), image(16, 16), intensity())
    np.testing.assert_array_equal(one, three)
    np.testing.assert_array_equal(one[:, :, 0], grey)


def test_percentile_clip_spreads_the_percentiles() -> None:
    pixels = np.arange(1000, 2000, dtype=np.uint16).reshape(25, 40)
    found = to_intensity(raw(pixels, 65535), intensity("percentile_clip", percentiles=(10, 90)), 1)[:, :, 0]
    low, high = np.percentile(pixels, [10, 90])
    np.testing.assert_allclose(found, np.clip((pixels - low) / (high - low), 0, 1), atol=1e-4)
    assert (found == 0).mean() == pytest.approx(0.1, abs=0.005)


@pytest.mark.parametrize("method", ["full_range", "percentile_clip", "clahe"])
def test_a_constant_image_is_only_divided(method: str) -> None:
    found = to_intensity(raw(np.full((8, 8), 51, np.uint8)), intensity(method), 1)
    np.testing.assert_allclose(found, 0.2, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_clahe_raises_local_contrast_within_range(channels: int) -> None:
    faint = RNG.integers(100, 130, (64, 64), dtype=np.uint8)
    found = to_intensity(raw(faint), intensity("clahe"), channels)
    assert found.shape == (64, 64, channels)
    assert found.min() >= 0.0
    assert found.max() <= 1.0
    assert found.std() > 1.5 * (faint / 255).std()


def test_shrinking_averages_areas() -> None:
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))
    found = resize((stripes / np.float32(255))[..., None], image(16, 16))
    np.testing.assert_allclose(found, 0.5, atol=1e-6)
    blocks = RNG.random((32, 48, 3), dtype=np.float32)
    np.testing.assert_allclose(
        resize(blocks, image(16, 16, 3, "stretch")), blocks.reshape(16, 2, 16, 3, 3).mean(axis=(1, 3)), atol=1e-6
    )


def test_pad_keeps_the_aspect_ratio_and_fills_with_zero() -> None:
    found = resize(np.ones((40, 80, 1), np.float32), image(32, 32, fit="pad"))[:, :, 0]
    expected = np.zeros((32, 32))
    expected[8:24] = 1
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_crop_cuts_out_the_centre() -> None:
    wide = np.zeros((20, 60, 1), np.float32)
    wide[:, 20:40] = 1
    np.testing.assert_allclose(resize(wide, image(20, 20, fit="crop")), 1.0)
    np.testing.assert_allclose(resize(wide.swapaxes(0, 1), image(40, 40, fit="crop")), 1.0)


def test_stretch_shrinks_one_axis_antialiased_while_the_other_grows() -> None:
    stripes = np.tile(np.array([0, 1], np.float32), (8, 32))[..., None]
    found = resize(stripes, image(16, 16, fit="stretch"))
    assert found.shape == (16, 16, 1)
    np.testing.assert_allclose(found, 0.5, atol=1e-6)


@pytest.mark.parametrize("fit", ["pad", "crop", "stretch"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1), (17, 300), (16, 16), (513, 511)])
def test_any_shape_fits_and_stays_in_range(shape: tuple[int, int], fit: str) -> None:
    found = resize(RNG.random((*shape, 3), dtype=np.float32), image(16, 24, 3, fit))
    assert found.shape == (16, 24, 3)
    assert found.min() >= 0
    assert found.max() <= 1


@pytest.mark.parametrize("fit", ["pad", "crop", "stretch"])
def test_a_mask_follows_its_image(fit: str) -> None:
    mask = np.zeros((60, 90), np.uint8)
    mask[20:50, 30:60] = 1
    array, small = to_array(raw(mask * 255, mask=mask), image(30, 30, fit=fit), intensity())
    assert small is not None
    assert set(np.unique(small)) == {0, 1}
    np.testing.assert_array_equal(small, array[:, :, 0] >= 128)
    np.testing.assert_array_equal(small, resize_mask(mask, image(30, 30, fit=fit)))


@pytest.mark.parametrize(("bits", "dtype", "largest"), [(8, np.uint8, 255), (16, np.uint16, 65535)])
def test_arrays_are_whole_numbers_of_the_bits_asked_for(bits: int, dtype: Any, largest: int) -> None:
    pixels = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    array, mask = to_array(raw(pixels, 65535), image(16, 16), intensity(bits=bits))
    assert mask is None
    assert array.dtype == dtype
    assert array.shape == (16, 16, 1)
    np.testing.assert_array_equal(array[:, :, 0], np.rint(pixels / 65535 * largest))


def test_16_bit_values_survive_exactly() -> None:
    pixels = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    array, _ = to_array(raw(pixels, 65535), image(256, 256), intensity(bits=16))
    np.testing.assert_array_equal(array[:, :, 0], pixels)
