"""Deletion and insertion prefer a right map to a wrong one, and end where they must."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from medsweep.explain import perturbation
from medsweep.explain.network import Network

ONES = np.ones(6, dtype=np.int64)
Spots = tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def network(spotter: Callable[..., Any]) -> Network:
    return Network(spotter())


def test_a_right_map_gains_more_than_one_moved_elsewhere(network: Network, spots: Spots) -> None:
    images, masks = spots
    right = masks.astype(np.float32)
    true = perturbation.curves(network, images, ONES, right, steps=16, seed=7)
    wrong = perturbation.curves(network, images, ONES, perturbation.moved(right, 7), steps=16, seed=7)
    assert (true.gain - wrong.gain > 0.1).all()
    assert (true.deletion_area < wrong.deletion_area).all() and (true.insertion_area > wrong.insertion_area).all()


def test_the_curves_begin_and_end_where_they_must(network: Network, spots: Spots) -> None:
    images, masks = spots
    found = perturbation.curves(network, images, ONES, masks.astype(np.float32), steps=8, seed=7)
    assert found.share.tolist() == [0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1]
    said = network.probabilities(images)[:, 1]
    mean = np.broadcast_to(images.mean(axis=(1, 2), keepdims=True), images.shape)
    np.testing.assert_allclose(found.deletion[:, 0], said, rtol=1e-5)
    np.testing.assert_allclose(found.deletion[:, -1], network.probabilities(mean)[:, 1], rtol=1e-4)
    np.testing.assert_allclose(found.insertion[:, -1], said, rtol=1e-5)
    assert (found.insertion[:, 0] < said).all()


def test_areas_are_those_of_the_trapezoids() -> None:
    share = np.linspace(0, 1, 3)
    found = perturbation.Curves(share, np.array([[1.0, 0.5, 0.0]]), np.array([[0.0, 1.0, 1.0]]))
    assert (found.deletion_area[0], found.insertion_area[0], found.gain[0]) == (0.5, 0.75, 0.25)


def test_pixels_of_equal_values_go_in_an_order_without_a_pattern(network: Network, spots: Spots) -> None:
    images, _ = spots
    flat = np.zeros((6, 16, 16), dtype=np.float32)
    one, same, other = (
        perturbation.curves(network, images, ONES, flat, steps=8, seed=seed).deletion for seed in (1, 1, 2)
    )
    assert np.array_equal(one, same) and not np.array_equal(one, other)


def test_a_moved_map_is_the_same_map_at_least_a_quarter_away() -> None:
    maps = np.zeros((40, 12, 16), dtype=np.float32)
    maps[:, 5, 7] = 1
    found = perturbation.moved(maps, 3)
    assert (np.sort(found.ravel()) == np.sort(maps.ravel())).all()
    _, rows, columns = np.nonzero(found)
    assert (np.minimum((rows - 5) % 12, (5 - rows) % 12) >= 3).all()
    assert (np.minimum((columns - 7) % 16, (7 - columns) % 16) >= 4).all()
