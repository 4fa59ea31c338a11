"""The pointing game, energy and overlap on maps that can be counted by hand."""

from __future__ import annotations

import numpy as np

from medsweep.explain import pointing


def place(*points: tuple[int, int], value: float = 1.0, size: int = 100) -> np.ndarray:
    found = np.zeros((1, size, size), dtype=np.float32)
    for row, column in points:
        found[0, row, column] = value
    return found


MASK = np.zeros((1, 100, 100), dtype=np.uint8)
MASK[0, 40:50, 40:50] = 1


def test_a_hit_is_inside_or_within_three_hundredths_of_the_side() -> None:
    at = {(45, 45): True, (40, 40): True, (45, 52): True, (45, 53): False, (37, 45): True, (36, 45): False}
    for point, expected in at.items():
        assert bool(pointing.hits(place(point), MASK)[0]) is expected, point
    # Diagonally the distance counts, not rows and columns.
    assert not pointing.hits(place((52, 52)), MASK)[0]


def test_small_images_have_no_tolerance() -> None:
    mask = np.zeros((1, 28, 28), dtype=np.uint8)
    mask[0, 10:14, 10:14] = 1
    assert np.array_equal(pointing.near(mask), mask > 0)


def test_a_map_that_says_nothing_misses() -> None:
    assert not pointing.hits(np.zeros((1, 100, 100), dtype=np.float32), np.ones((1, 100, 100), dtype=np.uint8))[0]
    assert not pointing.hits(place((45, 45)), np.zeros_like(MASK))[0]


def test_energy_is_the_share_of_positive_values_inside() -> None:
    maps = place((45, 45), value=3.0) + place((5, 5)) - place((6, 6), value=10.0)
    assert pointing.energy_inside(maps, MASK)[0] == 0.75
    assert pointing.energy_inside(-np.abs(maps), MASK)[0] == 0.0
    assert np.isclose(pointing.energy_inside(np.ones((1, 100, 100), dtype=np.float32), MASK)[0], 0.01)


def test_overlap_takes_as_many_pixels_as_the_mask_has() -> None:
    maps = MASK.astype(np.float32)
    assert pointing.overlap(maps, MASK)[0] == 1.0
    moved = np.roll(maps, 5, axis=2)
    assert np.isclose(pointing.overlap(moved, MASK)[0], 50 / 150)
    assert pointing.overlap(np.roll(maps, 30, axis=2), MASK)[0] == 0.0
    assert pointing.overlap(maps, np.zeros_like(MASK))[0] == 0.0
