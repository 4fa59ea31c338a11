"""Each transform against what it is known to do."""

from __future__ import annotations

import numpy as np
import pytest

from medsweep.imaging.transforms import TRANSFORMS, Geometric, Photometric, render

RANGES = {np.uint8: 255, np.uint16: 65535}

# Settings that always apply, by transform: also the list that every row of the table must be in.
SETTINGS = {
    "horizontal_flip": {"probability": 1.0},
    "vertical_flip": {"probability": 1.0},
    "rotate": {"probability": 1.0, "degrees": 20},
    "crop": {"probability": 1.0, "low": 0.5, "aspect": 1.3},
    "translate": {"probability": 1.0, "share": 0.2},
    "scale": {"probability": 1.0, "low": 0.8, "high": 1.2},
    "shear": {"probability": 1.0, "degrees": 10},
    "brightness": {"probability": 1.0, "delta": 0.2},
    "contrast": {"probability": 1.0, "low": 0.5, "high": 0.8},
    "gamma": {"probability": 1.0, "low": 1.2, "high": 1.6},
    "noise": {"probability": 1.0, "deviation": 0.1},
    "blur": {"probability": 1.0, "low": 0.5, "high": 2.0},
    "cutout": {"probability": 1.0, "share": 0.2},
}

# What those settings mean: the ends between which the first value lies.
ENDS = {
    "rotate": (-20, 20),
    "translate": (-0.2, 0.2),
    "scale": (0.8, 1.2),
    "shear": (-10, 10),
    "brightness": (-0.2, 0.2),
    "contrast": (0.5, 0.8),
    "gamma": (1.2, 1.6),
    "noise": (0, 0.1),
    "blur": (0.5, 2.0),
}


def picture(dtype=np.uint8, height=24, width=32, channels=1, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, RANGES[dtype], (height, width, channels), endpoint=True).astype(dtype)


def smooth(size=33, dtype=np.uint8):
    """A picture that bends little between pixels, so that interpolation changes it little."""
    y, x = np.mgrid[:size, :size] / size
    values = 0.5 + 0.3 * np.sin(3 * x + 1) * np.cos(2 * y) + 0.1 * x
    return np.rint(values * RANGES[dtype]).astype(dtype)[..., None]


def one(name, image, *values):
    return render(image, [(TRANSFORMS[name], [1.0, *values])], RANGES[image.dtype.type])


def draw(name, n, seed=0, **changes):
    settings = TRANSFORMS[name].settings.model_validate(SETTINGS[name] | changes)
    return settings.draw(np.random.default_rng(seed), n)


def test_every_row_of_the_table_is_tested():
    assert set(SETTINGS) == set(TRANSFORMS)
    assert all(isinstance(row, Geometric if row.kind == "geometric" else Photometric) for row in TRANSFORMS.values())


@pytest.mark.parametrize("dtype", RANGES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_keeps_shape_and_type_replays_exactly_and_changes_something(name, channels, dtype):
    image = picture(dtype, channels=channels)
    before = image.copy()
    values = draw(name, 1)[0].tolist()
    first = render(image, [(TRANSFORMS[name], values)], RANGES[dtype])
    assert first.shape == image.shape
    assert first.dtype == image.dtype
    assert not np.array_equal(first, image)
    assert np.array_equal(first, render(image, [(TRANSFORMS[name], values)], RANGES[dtype]))
    assert np.array_equal(image, before), "the image itself must stay as it is"


@pytest.mark.parametrize("dtype", RANGES)
@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_first_value_of_zero_changes_nothing(name, dtype):
    image = picture(dtype)
    values = [0.0, *draw(name, 1)[0, 1:].tolist()]
    assert np.array_equal(render(image, [(TRANSFORMS[name], values)], RANGES[dtype]), image)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_probability_and_ranges(name):
    assert (draw(name, 500, probability=0.0)[:, 0] == 0).all()
    assert (draw(name, 500, probability=1.0)[:, 0] == 1).all()
    some = draw(name, 4000, probability=0.3)[:, 0]
    assert set(some.tolist()) == {0.0, 1.0}
    assert abs(some.mean() - 0.3) < 0.03
    if name in ENDS:
        values, (low, high) = draw(name, 4000)[:, 1], ENDS[name]
        assert low <= values.min() < low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) < values.max() <= high
        assert abs(values.mean() - (low + high) / 2) < 0.02 * (high - low)


def test_equal_ends_fix_the_value():
    assert np.unique(draw("scale", 50, low=1.1, high=1.1)[:, 1]).tolist() == [1.1]
    assert np.unique(draw("cutout", 50)[:, 1]).tolist() == [0.2]


@pytest.mark.parametrize("name", TRANSFORMS)
def test_the_first_rows_do_not_depend_on_how_many_are_drawn(name):
    assert np.array_equal(draw(name, 3), draw(name, 50)[:3])


@pytest.mark.parametrize("dtype", RANGES)
@pytest.mark.parametrize("channels", [1, 3])
def test_flips_are_exact(dtype, channels):
    image = picture(dtype, channels=channels)
    assert np.array_equal(one("horizontal_flip", image), image[:, ::-1])
    assert np.array_equal(one("vertical_flip", image), image[::-1])
    both = [(TRANSFORMS["horizontal_flip"], [1.0]), (TRANSFORMS["vertical_flip"], [1.0])]
    assert np.array_equal(render(image, both, RANGES[dtype]), image[::-1, ::-1])
    assert np.array_equal(render(image, [both[0], both[0]], RANGES[dtype]), image)


@pytest.mark.parametrize("size", [32, 33])
@pytest.mark.parametrize("dtype", RANGES)
def test_rotate_by_right_angles_is_counter_clockwise(size, dtype):
    image = picture(dtype, height=size, width=size)
    for turns in (1, 2, 3):
        error = one("rotate", image, 90.0 * turns if turns < 3 else -90.0).astype(float) - np.rot90(image, turns)
        assert np.abs(error).max() <= 0.005 * RANGES[dtype]


def test_rotate_keeps_the_centre_of_an_odd_picture():
    image = smooth(33)
    assert abs(int(one("rotate", image, 37.0)[16, 16, 0]) - int(image[16, 16, 0])) <= 1


def test_translate_by_whole_pixels():
    image = picture(height=20, width=40)
    moved = one("translate", image, 4 / 40, -3 / 20)
    assert np.array_equal(moved[:-3, 4:], image[3:, :-4])
    assert np.array_equal(moved[:-3, :4], image[3:, 4:0:-1]), "the border is mirrored without repeating its pixel"


def test_scale_magnifies_about_the_centre():
    image = smooth(33)
    grown = one("scale", image, 2.0)
    assert abs(int(grown[16, 16, 0]) - int(image[16, 16, 0])) <= 1
    assert np.abs(grown[::2, ::2, 0].astype(int) - image[8:25, 8:25, 0]).max() <= 1


def test_shear_moves_rows_below_the_centre_to_the_right():
    image = smooth(33)
    slanted = one("shear", image, 45.0)
    for offset in (-5, 0, 5):
        row = 16 + offset
        error = slanted[row, 10:23, 0].astype(int) - image[row, 10 - offset : 23 - offset, 0]
        assert np.abs(error).max() <= 1


def test_crop_shows_the_drawn_part_alone():
    image = smooth(33)
    whole = one("crop", image, 1.0, 1.0, 0.0, 0.0)
    assert np.array_equal(whole, image)
    ramp = np.repeat(np.linspace(0, 255, 64).round().astype(np.uint8)[None, :, None], 16, axis=0)
    right_half = one("crop", ramp, 0.5, 1.0, 0.5, 0.0)[8, :, 0].astype(int)
    centres = (np.arange(64) + 0.5) / 2 + 32 - 0.5
    assert np.abs(right_half[:-1] - centres[:-1] * 255 / 63).max() <= 1.5


def test_crop_draws_the_area_and_aspect_asked_for_inside_the_image():
    _, width, height, left, top = draw("crop", 4000, low=0.2).T
    area, aspect = width * height, width / height
    whole = (width < 1) & (height < 1)
    assert 0.2 <= area.min() < 0.205
    assert 0.95 < area.max() <= 1 + 1e-12
    assert 1 / 1.3 - 1e-9 <= aspect.min() < 0.78
    assert 1.28 < aspect.max() <= 1.3 + 1e-9
    assert abs(np.log(aspect).mean()) < 0.01
    assert abs(area[whole & (area < 0.7)].mean() - 0.45) < 0.01
    assert min(left.min(), top.min()) >= 0
    assert max((left + width).max(), (top + height).max()) <= 1 + 1e-12
    _, width, height, *_ = draw("crop", 500, low=1.0, aspect=2.0).T
    assert np.allclose(np.maximum(width, height), 1.0), "a side longer than the image is cut to it"
    assert np.sqrt(0.5) <= np.minimum(width, height).min() < 0.72


@pytest.mark.parametrize("dtype", RANGES)
@pytest.mark.parametrize("channels", [1, 3])
def test_brightness_contrast_and_gamma_formulas(dtype, channels):
    image, top = picture(dtype, channels=channels), RANGES[dtype]
    scaled = image / top
    expected = {
        ("brightness", 0.125): scaled + 0.125,
        ("contrast", 1.5): (scaled - scaled.mean()) * 1.5 + scaled.mean(),
        ("gamma", 2.0): scaled**2.0,
    }
    for (name, value), values in expected.items():
        error = one(name, image, value) - np.clip(values, 0, 1) * top
        assert np.abs(error).max() <= 0.51 + 1e-6 * top, name


def test_contrast_of_zero_is_the_mean():
    image = picture()
    assert np.unique(one("contrast", image, 0.0)).tolist() == [round(float(image.mean()))]


@pytest.mark.parametrize("dtype", RANGES)
def test_noise_has_the_deviation_drawn_and_follows_its_seed(dtype):
    top = RANGES[dtype]
    flat = np.full((128, 128, 3), top // 2, dtype=dtype)
    noise = (one("noise", flat, 0.1, 5.0).astype(float) - flat) / top
    assert abs(noise.std() - 0.1) < 0.002
    assert abs(noise.mean()) < 0.002
    assert abs(np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]) < 0.03
    assert np.array_equal(one("noise", flat, 0.1, 5.0), one("noise", flat, 0.1, 5.0))
    assert not np.array_equal(one("noise", flat, 0.1, 5.0), one("noise", flat, 0.1, 6.0))
    seeds = draw("noise", 100)[:, 2]
    assert np.array_equal(seeds, seeds.astype(np.uint32)), "seeds must be whole numbers, exact as float64"
    assert len(np.unique(seeds)) == 100


def test_blur_spreads_a_point_by_its_sigma():
    image = np.zeros((33, 33, 1), dtype=np.uint16)
    image[16, 16] = 65535
    blurred = one("blur", image, 2.0)[..., 0] / 65535
    x = np.arange(33) - 16
    assert abs(blurred.sum() - 1) < 0.01
    assert abs(np.sqrt((blurred * x**2).sum() / blurred.sum()) - 2.0) < 0.05
    assert np.array_equal(one("blur", image, 0.0), image)


@pytest.mark.parametrize("channels", [1, 3])
def test_cutout_covers_its_share_with_the_mean(channels):
    image = picture(height=40, width=60, channels=channels)
    image[image == 127] = 0
    image[image == 128] = 0
    for left, top in ((0.0, 0.0), (1.0, 1.0), (0.3, 0.6)):
        result = one("cutout", image, 0.25, left, top)
        changed = (result != image).any(axis=2)
        rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
        assert (len(rows), len(columns)) == (20, 30)
        covered = result[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert np.array_equal(covered, np.broadcast_to(np.rint(image.mean(axis=(0, 1))), covered.shape))
        assert (rows[0], columns[0]) == (round(top * 20), round(left * 30))


def test_neighbouring_geometric_transforms_interpolate_once():
    image = picture(height=32, width=32)
    turn, back = (TRANSFORMS["rotate"], [1.0, 17.0]), (TRANSFORMS["rotate"], [1.0, -17.0])
    assert np.array_equal(render(image, [turn, back], 255), image), "one warp by the composed map, here no map at all"
    nothing = (TRANSFORMS["brightness"], [1.0, 0.0])
    assert not np.array_equal(render(image, [turn, nothing, back], 255), image)


def test_geometric_order_matters_and_is_the_order_written():
    image = picture(height=32, width=32)
    move, turn = (TRANSFORMS["translate"], [1.0, 0.25, 0.0]), (TRANSFORMS["vertical_flip"], [1.0])
    diagonal = (TRANSFORMS["rotate"], [1.0, 90.0])
    moved_first = render(image, [move, diagonal], 255)
    in_two_steps = render(render(image, [move], 255), [diagonal], 255)
    assert np.abs(moved_first[:24].astype(int) - in_two_steps[:24]).max() <= 1
    assert not np.array_equal(moved_first, render(image, [diagonal, move], 255))
    assert np.array_equal(render(image, [move, turn], 255), render(image, [turn, move], 255))


def test_photometric_order_is_the_order_written():
    image = picture()
    brighter, darker = (TRANSFORMS["brightness"], [1.0, 0.3]), (TRANSFORMS["gamma"], [1.0, 2.0])
    scaled = image / 255
    error = render(image, [brighter, darker], 255) - np.minimum(scaled + 0.3, 1) ** 2 * 255
    assert np.abs(error).max() <= 0.51
    error = render(image, [darker, brighter], 255) - np.minimum(scaled**2 + 0.3, 1) * 255
    assert np.abs(error).max() <= 0.51
