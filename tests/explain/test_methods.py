"""Each method against what can be worked out by hand, on every backbone, and for ensembles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest

from medsweep.errors import ParamsError
from medsweep.explain.method import Settings
from medsweep.explain.methods import METHODS, explain, scaled
from medsweep.explain.network import Network
from medsweep.train.backbones import BACKBONES, logits_model, mean_of_networks

# Those of keras.applications are large, and have tests of their own: tests/train/test_applications.py.
OWN = [name for name, row in BACKBONES.items() if not row.pretrained]

ONES = np.ones(6, dtype=np.int64)
Spots = tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def network(spotter: Callable[..., Any]) -> Network:
    return Network(spotter())


def feature_maps(images: np.ndarray) -> np.ndarray:
    """The spotter's two maps at its convolution, (n, 16, 16, 2)."""
    scaled_images = images[..., 0].astype(np.float64) / 255
    mean = np.stack([cv2.blur(each, (3, 3), borderType=cv2.BORDER_CONSTANT) for each in scaled_images])
    return np.maximum(np.stack([mean - 0.3, 0.2 - scaled_images], axis=3), 0)


def log_odds(images: np.ndarray) -> np.ndarray:
    """Of class 1, in closed form."""
    return feature_maps(images).mean(axis=(1, 2)) @ np.array([90.0, -10.0]) - 2.0


def test_what_is_explained_is_the_log_odds(network: Network, spots: Spots) -> None:
    images, _ = spots
    member = network.members[0]
    z = member.enter(images)
    np.testing.assert_allclose(member.log_odds(z, ONES), log_odds(images), rtol=1e-4)
    np.testing.assert_allclose(member.log_odds(z, 0 * ONES), -log_odds(images), rtol=1e-4)


def test_grad_cam_equals_the_class_activation_map(network: Network, spots: Spots, settings: Settings) -> None:
    # After global average pooling Grad-CAM is CAM (Selvaraju et al., section 3.1) up to a factor.
    images, masks = spots
    found = explain(network, "grad_cam", images, ONES, settings)
    expected = np.maximum(feature_maps(images) @ np.array([90.0, -10.0]), 0) / 256
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)
    against = explain(network, "grad_cam", images, 0 * ONES, settings)
    assert (against[masks == 1] == 0).all(), "a bright spot does not speak for class 0"


def test_grad_cam_plus_plus_follows_its_formula(network: Network, spots: Spots, settings: Settings) -> None:
    images, _ = spots
    maps = feature_maps(images)
    gradient = np.broadcast_to(np.array([90.0, -10.0]) / 256, maps.shape)
    alpha = gradient**2 / (2 * gradient**2 + maps.sum(axis=(1, 2), keepdims=True) * gradient**3)
    weights = (alpha * np.maximum(gradient, 0)).mean(axis=(1, 2))  # the paper's sum, but for a constant
    expected = np.maximum(np.einsum("bhwf,bf->bhw", maps, weights), 0)
    found = explain(network, "grad_cam_plus_plus", images, ONES, settings)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


def test_integrated_gradients_add_up_to_the_log_odds(network: Network, spots: Spots) -> None:
    images, _ = spots
    fine = Settings(steps=200, samples=2, noise=0.1, patch=0.25, seed=7)
    found = explain(network, "integrated_gradients", images, ONES, fine).sum(axis=(1, 2))
    nothing = log_odds(np.zeros_like(images))
    np.testing.assert_allclose(found, log_odds(images) - nothing, rtol=0.01)


def test_integrated_gradients_add_up_where_each_image_is_standardized_by_itself(build: Callable[..., Any]) -> None:
    network = Network(build("plain", activation="tanh"))
    images = np.random.default_rng(3).integers(0, 255, (4, 16, 16, 1))
    member, classes = network.members[0], np.ones(4, dtype=np.int64)
    z = member.enter(images)
    fine = Settings(steps=100, samples=2, noise=0.1, patch=0.25, seed=7)
    found = explain(network, "integrated_gradients", images, classes, fine).sum(axis=(1, 2))
    difference = member.log_odds(z, classes) - member.log_odds(0 * z, classes)
    assert np.abs(difference).min() > 1e-3
    np.testing.assert_allclose(found, difference, rtol=0.02, atol=1e-4)


def test_occlusion_is_what_covering_takes_away(network: Network, spots: Spots, settings: Settings) -> None:
    images, masks = spots
    found = explain(network, "occlusion", images, ONES, settings)
    # A quarter of 16 pixels: patches of 4 x 4, moved by 2; a pixel has the mean over the four that covered it.
    expected = np.zeros(images.shape[:3])
    count = np.zeros((16, 16))
    for row in range(-2, 16, 2):
        for column in range(-2, 16, 2):
            rows, columns = slice(max(0, row), row + 4), slice(max(0, column), column + 4)
            covered = images.copy()
            covered[:, rows, columns] = 0
            expected[:, rows, columns] += (log_odds(images) - log_odds(covered))[:, None, None]
            count[rows, columns] += 1
    np.testing.assert_allclose(found, expected / count, rtol=1e-3, atol=1e-4)
    assert found[masks == 1].mean() > 5 * np.abs(found[masks == 0]).mean()


def test_smooth_grad_without_noise_is_the_gradients_size(network: Network, spots: Spots) -> None:
    images, _ = spots
    member = network.members[0]
    gradients = member.gradients(member.enter(images), ONES)
    silent = Settings(steps=8, samples=2, noise=1e-6, patch=0.25, seed=7)
    found = explain(network, "smooth_grad", images, ONES, silent)
    assert np.quantile(np.abs(found - np.abs(gradients[..., 0])), 0.95) < 1e-5
    assert found.min() >= 0


@pytest.mark.parametrize("method", list(METHODS))
def test_a_map_finds_the_spot_and_does_not_depend_on_the_images_beside(
    network: Network, spots: Spots, settings: Settings, method: str
) -> None:
    images, masks = spots
    found = explain(network, method, images, ONES, settings)
    assert found.shape == (6, 16, 16) and found.dtype == np.float32
    assert METHODS[method].signed or found.min() >= 0
    assert np.array_equal(found, explain(network, method, images, ONES, settings))
    alone = explain(network, method, images[2:3], ONES[:1], settings)
    np.testing.assert_allclose(alone[0], found[2], rtol=1e-4, atol=1e-6)
    inside, outside = found[masks == 1].mean(), found[masks == 0].mean()
    # A constant slope is the same inside and outside where it is bright: SmoothGrad shows what would move the class.
    assert inside > outside if method != "smooth_grad" else inside > 0


@pytest.mark.parametrize("backbone", OWN)
def test_every_method_explains_every_backbone(build: Callable[..., Any], backbone: str, settings: Settings) -> None:
    images = np.random.default_rng(4).integers(0, 255, (3, 16, 16, 3)).astype(np.uint8)
    network = Network(
        build(
            backbone,
            input_shape=(16, 16, 3),
            n_outputs=3,
            task="multiclass",
            mean=[0.5] * 3,
            deviation=[0.2] * 3,
            standardize="dataset",
        )
    )
    for method in METHODS:
        found = explain(network, method, images, np.array([0, 1, 2]), settings)
        assert found.shape == (3, 16, 16) and np.isfinite(found).all(), method
        assert np.abs(found).max() > 0, method


def test_an_ensembles_map_is_the_sum_of_its_members(
    spotter: Callable[..., Any], network: Network, spots: Spots, settings: Settings
) -> None:
    import keras
    from keras import layers

    images, _ = spots
    steep = spotter(name="steep", factor=3.0)
    pixels = keras.Input((16, 16, 1))
    mean = keras.Model(pixels, layers.Average()([spotter(name="calm")(pixels), steep(pixels)]))
    for method in ("grad_cam", "occlusion"):
        calm, own = (explain(each, method, images, ONES, settings) for each in (network, Network(steep)))
        found = explain(Network(mean), method, images, ONES, settings)
        np.testing.assert_allclose(found, calm + own, rtol=1e-4, atol=1e-5)
        assert np.abs(own).max() > 1.5 * np.abs(calm).max(), "the steeper member has more to say"


def test_the_shares_of_an_ensembles_members_add_up_to_its_log_odds(build: Callable[..., Any]) -> None:
    members = [build(backbone, standardize="dataset") for backbone in ("plain", "residual")]
    ensemble = mean_of_networks([(members[0], 0.7), (members[1], 0.3)])
    images = np.random.default_rng(3).integers(0, 256, (4, 16, 16, 1)).astype(np.float32)
    grey = np.full_like(images, 127.5)  # what both members take for nothing
    fine = Settings(steps=300, samples=2, noise=0.1, patch=0.25, seed=7)
    found = explain(Network(ensemble), "integrated_gradients", images, ONES[:4], fine).sum(axis=(1, 2))
    here, nothing = (logits_model(ensemble).predict(each, verbose=0) for each in (images, grey))
    expected = (here[:, 1] - here[:, 0]) - (nothing[:, 1] - nothing[:, 0])
    np.testing.assert_allclose(found, expected, rtol=2e-2, atol=2e-3)


def test_a_map_of_nothing_stays_nothing() -> None:
    assert np.array_equal(scaled(np.zeros((2, 3, 3), dtype=np.float32)), np.zeros((2, 3, 3)))


def test_an_unknown_method_is_answered_with_the_known_ones(network: Network, spots: Spots, settings: Settings) -> None:
    with pytest.raises(ParamsError, match=r"unknown method 'lime'.*grad_cam"):
        explain(network, "lime", spots[0], ONES, settings)
