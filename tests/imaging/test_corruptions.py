"""Every corruption: whole numbers of the right kind, the same twice, worse with severity, and as at any image size."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from medsweep.imaging.corruptions import CORRUPTIONS, FOREIGN, SEVERITIES, corrupted, foreign


def images(dtype: type = np.uint8, side: int = 40, channels: int = 1, n: int = 3) -> np.ndarray:
    """Smooth bright blobs with some texture."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:side, 0 : side + 8] / side
    top = np.iinfo(dtype).max
    made = []
    for _ in range(n):
        cx, cy = rng.uniform(0.3, 0.7, 2)
        smooth = 0.2 + 0.5 * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 0.05) + rng.normal(0, 0.02, x.shape)
        made.append(np.repeat(np.clip(smooth, 0, 1)[..., None], channels, axis=2))
    return (np.stack(made) * top).astype(dtype)


IDS = ["r1", "r2", "r3"]


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_severities_rise_and_the_same_seed_gives_the_same_pixels(name: str) -> None:
    own = images()
    far = []
    for severity in SEVERITIES:
        found = corrupted(own, IDS, name, severity, value_range=255, seed=7)
        assert found.dtype == own.dtype and found.shape == own.shape
        np.testing.assert_array_equal(found, corrupted(own, IDS, name, severity, value_range=255, seed=7))
        far.append(np.abs(found.astype(float) - own).mean())
    assert far[0] > 0.3 and all(later > earlier for earlier, later in pairwise(far)), far
    # An image's draw is its record's: neither its place nor its neighbours change it.
    alone = corrupted(own[2:], IDS[2:], name, 3, value_range=255, seed=7)
    np.testing.assert_array_equal(alone[0], corrupted(own, IDS, name, 3, value_range=255, seed=7)[2])


@pytest.mark.parametrize("name", [*CORRUPTIONS, *FOREIGN])
@pytest.mark.parametrize(("dtype", "channels"), [(np.uint16, 1), (np.uint8, 3)])
def test_sixteen_bits_and_colour_are_kept(name: str, dtype: type, channels: int) -> None:
    own, top = images(dtype, channels=channels), int(np.iinfo(dtype).max)
    if name in FOREIGN:
        found = foreign(own, IDS, name, value_range=top, seed=1)
    else:
        found = corrupted(own, IDS, name, 2, value_range=top, seed=1)
        # A grey image in three channels stays grey but for noise, which is each channel's own, and JPEG's rounding.
        if channels == 3 and name not in ("noise", "jpeg"):
            assert (found[..., 0] == found[..., 2]).all()
        assert np.corrcoef(found[0].ravel(), own[0].ravel())[0, 1] > 0.4
    assert found.dtype == own.dtype and found.shape == own.shape


@pytest.mark.parametrize("name", ["blur", "motion", "pixelate", "shadow", "collimation", "gain", "grid_lines"])
def test_a_severity_means_the_same_at_any_size(name: str) -> None:
    far = []
    for side in (32, 128):
        own = images(side=side)
        found = corrupted(own, IDS, name, 4, value_range=255, seed=3)
        far.append(np.abs(found.astype(float) - own).mean())
    assert 0.4 < far[0] / far[1] < 2.5, far


def test_a_constant_image_and_another_seed() -> None:
    flat = np.full((1, 16, 16, 1), 100, np.uint8)
    for name in CORRUPTIONS:
        assert corrupted(flat, ["a"], name, 5, value_range=255, seed=0).shape == flat.shape
    first, second = (corrupted(flat, ["a"], "noise", 3, value_range=255, seed=seed) for seed in (0, 1))
    assert (first != second).any()


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_images_are_drawn_for_each_record_and_unlike_it(name: str) -> None:
    own = images()
    found = foreign(own, IDS, name, value_range=255, seed=7)
    np.testing.assert_array_equal(found, foreign(own, IDS, name, value_range=255, seed=7))
    assert (found[0] != found[1]).any()
    assert np.abs(found.astype(float) - own).mean() > 5


def test_jpeg_does_what_opencv_reads_back_and_colours_keep_their_places() -> None:
    import cv2

    own = images(channels=1)
    _, coded = cv2.imencode(".jpg", own[0, ..., 0], [cv2.IMWRITE_JPEG_QUALITY, 60])
    expected = cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE)
    np.testing.assert_array_equal(corrupted(own, IDS, "jpeg", 1, value_range=255, seed=0)[0, ..., 0], expected)
    red = np.zeros((1, 32, 32, 3), np.uint8)
    red[..., 0] = 200
    found = corrupted(red, ["a"], "jpeg", 1, value_range=255, seed=0)
    assert found[..., 0].mean() > 150 and found[..., 2].mean() < 50
