"""Members, logits and last convolutions are found however a model is nested and calibrated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from medsweep.errors import ArtifactError
from medsweep.explain.graph import members_of
from medsweep.explain.network import Network
from medsweep.train.backbones import BACKBONES

# Those of keras.applications are large, and have tests of their own: tests/train/test_applications.py.
OWN = [name for name, row in BACKBONES.items() if not row.pretrained]

# The last convolution, and how the layer is called whose output belongs to it (after norm, shortcut, activation).
LAST = {
    "tutorial": ("stage2_conv", (5, 5, 64)),
    "plain": ("stage2_2_conv", (8, 8, 4)),
    "residual": ("stage2_2_conv", (8, 8, 4)),
    "separable": ("stage2_2_separable", (8, 8, 4)),
}


def test_every_backbone_is_listed_here() -> None:
    assert list(LAST) == OWN


@pytest.mark.parametrize("backbone", OWN)
def test_the_last_convolution_of_a_backbone(build: Callable[..., Any], backbone: str) -> None:
    import keras

    model = build(backbone)
    (found,) = members_of(model)
    layer, shape = LAST[backbone]
    assert (found.layer, tuple(found.features.shape[1:]), found.link) == (layer, shape, "softmax")
    images = np.random.default_rng(1).integers(0, 255, (3, 16, 16, 1)).astype(np.float32)
    entry, features, logits = keras.Model(found.pixels, [found.entry, found.features, found.logits])(images)
    # Past the standardization of each image by itself.
    np.testing.assert_allclose(np.mean(entry, axis=(1, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(np.std(entry, axis=(1, 2, 3)), 1, atol=1e-3)
    assert np.min(features) >= 0, "after the activation"
    np.testing.assert_allclose(keras.ops.softmax(logits), model(images), atol=1e-6)


def test_sigmoid_ends_a_network_for_several_labels(build: Callable[..., Any]) -> None:
    (found,) = members_of(build("plain", task="multilabel", n_outputs=3))
    assert found.link == "sigmoid" and found.logits.shape[1:] == (3,)


def test_a_dense_layer_may_hold_the_softmax(keras_model: Any) -> None:
    import keras

    model = keras.saving.load_model(keras_model)
    (found,) = members_of(model)
    images = np.random.default_rng(1).integers(0, 255, (3, 16, 16, 1)).astype(np.float32)
    logits = keras.Model(found.pixels, found.logits)(images)
    np.testing.assert_allclose(keras.ops.softmax(logits), model(images), atol=1e-6)


def test_a_convolution_inside_a_nested_feature_extractor() -> None:
    import keras
    from keras import layers

    inside = keras.Sequential(
        [keras.Input((16, 16, 1)), layers.Conv2D(3, 3, name="deep", activation="relu"), layers.MaxPooling2D(2)],
        name="features",
    )
    pixels = keras.Input((16, 16, 1))
    pooled = layers.GlobalAveragePooling2D()(inside(layers.Rescaling(1 / 255)(pixels)))
    model = keras.Model(pixels, layers.Dense(2, activation="softmax")(pooled))
    (found,) = members_of(model)
    assert (found.layer, tuple(found.features.shape[1:])) == ("deep", (14, 14, 3))


@pytest.mark.parametrize("calibrated", [False, True])
def test_the_members_of_an_ensemble(spotter: Callable[..., Any], tmp_path: Any, calibrated: bool) -> None:
    import keras
    from keras import layers

    members = [spotter(name="one"), spotter(name="two", factor=2.0), spotter(name="three", temperature=1.7)]
    pixels = keras.Input((16, 16, 1))
    output = layers.Average()([each(pixels) for each in members])
    if calibrated:
        logits = layers.Rescaling(0.8)(keras.ops.log(output))
        output = layers.Activation("softmax")(logits)
    keras.Model(pixels, output).save(tmp_path / "ensemble.keras")
    found = Network.load(tmp_path / "ensemble.keras")
    assert [each.layer for each in found.members] == ["one_conv", "two_conv", "three_conv"]
    images = np.random.default_rng(2).integers(0, 100, (3, 16, 16, 1))
    classes = np.ones(3, dtype=np.int64)
    for own, member in zip(found.members, members, strict=True):
        probability = np.asarray(member(images.astype(np.float32)))[:, 1]
        np.testing.assert_allclose(
            own.log_odds(own.enter(images), classes), np.log(probability / (1 - probability)), rtol=1e-3, atol=1e-4
        )


def test_an_ensemble_of_ensembles_is_all_their_members(spotter: Callable[..., Any]) -> None:
    import keras
    from keras import layers

    def mean(name: str, members: list[Any]) -> Any:
        pixels = keras.Input((16, 16, 1))
        return keras.Model(pixels, layers.Average()([each(pixels) for each in members]), name=name)

    inner = mean("inner", [spotter(name="one"), spotter(name="two")])
    found = members_of(mean("outer", [inner, spotter(name="three")]))
    assert [each.layer for each in found] == ["one_conv", "two_conv", "three_conv"]


@pytest.mark.parametrize("inside", [True, False])
def test_networks_side_by_side_share_the_logits(inside: bool) -> None:
    """As train builds its ensembles: each network standardizes in its own way, and one last layer weighs them all."""
    import keras
    from keras import layers

    pixels = keras.Input((8, 8, 1))
    ways = [
        layers.LayerNormalization(axis=(1, 2, 3), center=False, scale=False),
        layers.Rescaling(1 / 50, offset=-2.0),
    ]
    branches = []
    for width, way in enumerate(ways, start=2):
        maps = layers.Conv2D(width, 3, activation="relu", name=f"convolution_{width}")(way(pixels))
        branches.append(layers.GlobalAveragePooling2D()(maps))
    features = layers.Concatenate()(branches)
    if inside:
        logits = layers.Dense(2, bias_initializer="ones", name="logits")(features)
        ended = layers.Softmax()(layers.Rescaling(0.5, name="temperature")(logits))
    else:
        ended = layers.Dense(2, bias_initializer="ones", activation="softmax")(features)
    model = keras.Model(pixels, ended)
    found = members_of(model)
    assert [each.layer for each in found] == ["convolution_2", "convolution_3"]
    images = np.random.default_rng(3).uniform(0, 255, (5, 8, 8, 1)).astype(np.float32)
    whole = sum(keras.Model(each.pixels, each.logits)(images).numpy() for each in found)
    np.testing.assert_allclose(keras.ops.softmax(whole), model(images), rtol=1e-5)
    # What a member says depends on its own input alone.
    for each in found:
        assert keras.Model(each.entry, each.logits)(images).shape == (5, 2)


def test_what_cannot_be_explained_is_said() -> None:
    import keras
    from keras import layers

    flat = keras.Sequential([keras.Input((16, 16, 1)), layers.Flatten(), layers.Dense(2, activation="softmax")])
    with pytest.raises(ArtifactError, match="no convolution"):
        members_of(flat)
    linear = keras.Sequential([keras.Input((16, 16, 1)), layers.Conv2D(2, 3), layers.GlobalAveragePooling2D()])
    with pytest.raises(ArtifactError, match="no softmax or sigmoid"):
        members_of(linear)
