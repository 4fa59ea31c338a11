"""Networks of keras.applications as backbones: the same each time, and with weights that others published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

from medsweep.artifacts.files import digest_file
from medsweep.errors import ArtifactError, ParamsError
from medsweep.explain.method import Settings
from medsweep.explain.methods import explain
from medsweep.explain.network import Network
from medsweep.train.backbones import BACKBONES, build_network, mean_of_networks, multiply_adds, reseed
from medsweep.train.model_file import save_model
from medsweep.train.warm_start import take_over

PRETRAINED = {
    "mobilenet_v2": ("MobileNetV2", {"alpha": 0.35}),
    "efficientnet_v2_b0": ("EfficientNetV2B0", {"include_preprocessing": False}),
    "resnet50_v2": ("ResNet50V2", {}),
    "densenet121": ("DenseNet121", {}),
}


def network(backbone: str = "mobilenet_v2", *, seed: int = 1, channels: int = 1, side: int = 32) -> keras.Model:
    hyper = {"dropout": 0.2} | ({"alpha": 0.35} if backbone == "mobilenet_v2" else {})
    return build_network(
        backbone=backbone,
        hyper=hyper,
        activation="relu",
        pooling="average",
        standardize="dataset",
        input_shape=(side, side, channels),
        n_outputs=2,
        task="binary",
        value_range=255,
        mean=[0.5] * channels,
        deviation=[0.2] * channels,
        seed=seed,
    )


def published(backbone: str, path: Path) -> keras.Model:
    """A file as keras.applications publishes it, with random weights."""
    name, options = PRETRAINED[backbone]
    model = getattr(keras.applications, name)(include_top=False, weights=None, input_shape=(64, 64, 3), **options)
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
        for layer in model.layers:
            group = file.create_group(layer.name)
            names = [f"{layer.name}/{weight.name}:0".encode() for weight in layer.weights]
            group.attrs["weight_names"] = names
            for each, value in zip(names, layer.get_weights(), strict=True):
                group[each.decode()] = value
    return model


def test_every_one_is_here() -> None:
    assert set(PRETRAINED) == {name for name, row in BACKBONES.items() if row.pretrained}


@pytest.mark.parametrize("backbone", PRETRAINED)
def test_published_weights_fit_layer_for_layer(backbone: str, tmp_path: Path) -> None:
    known = published(backbone, tmp_path / "weights.h5")
    model = network(backbone)
    taken = take_over(model, tmp_path / "weights.h5")
    assert taken == known.count_params()
    for layer in known.layers:
        if layer.weights:
            own = model.get_layer(layer.name).get_weights()
            assert all(np.array_equal(*pair) for pair in zip(own, layer.get_weights(), strict=True)), layer.name
    # So does the same network in Keras's own format, whatever it is called there.
    known.save(tmp_path / "weights.keras")
    assert take_over(network(backbone, seed=2), tmp_path / "weights.keras") == taken


def test_another_networks_weights_do_not_fit(tmp_path: Path) -> None:
    published("mobilenet_v2", tmp_path / "weights.h5")
    assert take_over(network("densenet121"), tmp_path / "weights.h5") == 0


def test_a_file_of_another_form_is_one_line(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["numbers"] = np.zeros(3)
    with pytest.raises(ArtifactError, match=r"train\.warm_start.*has no weights in the form of keras\.applications"):
        take_over(network(), tmp_path / "other.h5")


@pytest.mark.parametrize("backbone", PRETRAINED)
def test_the_seed_decides_the_file_and_nothing_else_that_the_process_built(backbone: str, tmp_path: Path) -> None:
    digests = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        save_model(network(backbone, seed=seed), tmp_path / f"{name}.keras")
        digests.append(digest_file(tmp_path / f"{name}.keras"))
        keras.layers.ZeroPadding2D()(keras.Input((8, 8, 1)))  # numbered by the process
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("backbone", ["mobilenet_v2", "efficientnet_v2_b0"])
def test_reseeding_gives_what_building_gives(backbone: str) -> None:
    model, wanted = network(backbone, seed=1), network(backbone, seed=9)
    reseed(model, 9)
    for one, other in zip(model.weights, wanted.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy(), err_msg=one.path)
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 1)).astype(np.float32)
    np.testing.assert_array_equal(model(images, training=True).numpy(), wanted(images, training=True).numpy())


def test_they_are_explained_joined_and_counted() -> None:
    model, other = network(side=64, channels=3), network(side=64, channels=3, seed=2)
    both = mean_of_networks([(model, 0.5), (other, 0.5)])
    images = np.random.default_rng(1).integers(0, 256, (2, 64, 64, 3)).astype(np.uint8)
    settings = Settings(steps=2, samples=2, noise=0.1, patch=0.5, seed=7)
    found: Any = explain(Network(both), "integrated_gradients", images, np.array([0, 1]), settings)
    assert found.shape == (2, 64, 64) and np.abs(found).max() > 0
    assert multiply_adds(both) >= 2 * multiply_adds(model) - 10_000 > 1_000_000


def test_small_images_are_refused_by_name() -> None:
    with pytest.raises(ParamsError, match=r"train\.space\.backbone\.mobilenet_v2.*at least 32×32 pixels, not 28×28"):
        network(side=28)
