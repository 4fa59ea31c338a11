"""Every backbone at every kind of size: shapes, names, bytes, standardization, cost."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medsweep.errors import ParamsError
from medsweep.train.backbones import (
    ACTIVATIONS,
    BACKBONES,
    POOLINGS,
    STANDARDIZATIONS,
    build_network,
    logits_model,
    multiply_adds,
)

# Those of keras.applications are large, and have tests of their own: tests/train/test_applications.py.
OWN = [name for name, row in BACKBONES.items() if not row.pretrained]

STAGED = {"depth": 2, "width": 4, "dropout": 0.3}
PLAIN = STAGED | {"batch_norm": True}
HYPER: dict[str, dict[str, Any]] = {
    "tutorial": {"dropout": 0.5},
    "plain": PLAIN,
    "residual": STAGED,
    "separable": STAGED,
}


def network(backbone: str = "plain", *, seed: int = 1, **changed: Any) -> Any:
    settings: dict[str, Any] = {
        "hyper": HYPER[backbone],
        "activation": "relu",
        "pooling": "max",
        "standardize": "image",
        "input_shape": (16, 16, 1),
        "n_outputs": 3,
        "task": "multiclass",
        "value_range": 255,
        "mean": (0.4,),
        "deviation": (0.2,),
        "seed": seed,
    }
    return build_network(backbone=backbone, **(settings | changed))


def pixels(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.float32)


def outputs(model: Any, images: np.ndarray) -> np.ndarray:
    found: np.ndarray = model(images, training=False).numpy()
    return found


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [16, 28, 33, 64])
@pytest.mark.parametrize("backbone", OWN)
def test_builds_predicts_saves_and_loads(backbone: str, side: int, channels: int, tmp_path: Path) -> None:
    import keras

    model = network(
        backbone,
        input_shape=(side, side, channels),
        standardize="dataset" if side == 28 else "image",
        mean=(0.4, 0.5, 0.6)[:channels],
        deviation=(0.2, 0.3, 0.1)[:channels],
    )
    images = pixels(2, side, side, channels)
    found = outputs(model, images)
    assert found.shape == (2, 3) and found.dtype == np.float32
    np.testing.assert_allclose(found.sum(axis=1), 1.0, rtol=1e-5)
    assert not np.array_equal(found[0], found[1])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    assert outputs(loaded, images).tobytes() == found.tobytes()


@pytest.mark.parametrize("backbone", ["plain", "residual", "separable"])
def test_deep_networks_fit_small_and_oblong_images(backbone: str) -> None:
    model = network(backbone, hyper=HYPER[backbone] | {"depth": 6, "width": 2}, input_shape=(16, 40, 1))
    sides = [min(layer.output.shape[1:3]) for layer in model.layers if len(layer.output.shape) == 4]
    assert min(sides) == 2
    assert np.isfinite(outputs(model, pixels(2, 16, 40, 1))).all()


def test_plain_of_depth_3_and_width_16_is_the_six_convolution_network() -> None:
    import keras

    hyper = {"depth": 3, "width": 16, "batch_norm": True, "dropout": 0.3}
    model = network(hyper=hyper, input_shape=(28, 28, 1), pooling="average", n_outputs=2)
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert [layer.filters for layer in convolutions] == [16, 16, 32, 32, 64, 64]
    assert [layer.output.shape[1] for layer in convolutions] == [28, 28, 14, 14, 7, 7]
    assert sum(isinstance(layer, keras.layers.BatchNormalization) for layer in model.layers) == 6
    assert [layer.name for layer in model.layers[-4:]] == ["global_pool", "dropout", "logits", "probabilities"]
    assert model.get_layer("dropout").rate == 0.3


@pytest.mark.parametrize("backbone", OWN)
@pytest.mark.parametrize("pooling", list(POOLINGS))
def test_pooling_and_activation_are_in_the_graph(backbone: str, pooling: str) -> None:
    model = network(backbone, pooling=pooling, activation="silu")
    kinds = {type(layer).__name__ for layer in model.layers}
    other = {"max": "Average", "average": "Max"}[pooling]
    assert any(f"{pooling.capitalize()}Pooling" in kind for kind in kinds)
    assert not any(f"{other}Pooling" in kind for kind in kinds)
    used = {layer.activation.__name__ for layer in model.layers if type(layer).__name__ == "Activation"}
    assert used == {"silu", "softmax"}


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_every_activation_acts(activation: str) -> None:
    import keras

    model, images = network(activation=activation), pixels(2, 16, 16, 1)
    inner = keras.Model(model.input, model.get_layer(f"stage1_1_{activation}").output)
    before = keras.Model(model.input, model.get_layer("stage1_1_norm").output)
    x = outputs(before, images).astype(np.float64)
    expected = {
        "relu": lambda: np.maximum(x, 0),
        "sigmoid": lambda: 1 / (1 + np.exp(-x)),
        "tanh": lambda: np.tanh(x),
        "elu": lambda: np.where(x > 0, x, np.expm1(x)),
        "gelu": lambda: x * np.vectorize(_normal_cdf)(x),
        "silu": lambda: x / (1 + np.exp(-x)),
        "leaky_relu": lambda: np.where(x > 0, x, 0.2 * x),
    }[activation]()
    np.testing.assert_allclose(outputs(inner, images), expected, rtol=1e-4, atol=1e-5)


def _normal_cdf(x: float) -> float:
    from math import erf, sqrt

    return 0.5 * (1 + erf(x / sqrt(2)))


@pytest.mark.parametrize(
    ("backbone", "standardize"),
    [(each, "image") for each in OWN] + [("plain", each) for each in STANDARDIZATIONS if each != "image"],
)
def test_saved_bytes_depend_on_the_seed_alone(backbone: str, standardize: str, tmp_path: Path) -> None:
    def members(path: Path) -> dict[str, bytes]:
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in archive.namelist() if name != "metadata.json"}

    first = network(backbone, standardize=standardize)
    network("residual", seed=9)  # what else the process builds must not show
    second = network(backbone, standardize=standardize)
    other = network(backbone, standardize=standardize, seed=2)
    for name, model in (("first", first), ("second", second), ("other", other)):
        model.save(tmp_path / f"{name}.keras")
    assert members(tmp_path / "first.keras") == members(tmp_path / "second.keras")
    assert members(tmp_path / "first.keras") != members(tmp_path / "other.keras")


def test_dropout_is_drawn_from_the_seed() -> None:
    images = pixels(4, 16, 16, 1)
    first = network("tutorial")(images, training=True).numpy()
    network("plain", seed=5)(images, training=True)
    second = network("tutorial")(images, training=True).numpy()
    assert first.tobytes() == second.tobytes()
    assert not np.array_equal(first, outputs(network("tutorial"), images))


def standardized(model: Any, images: np.ndarray) -> np.ndarray:
    import keras

    return outputs(keras.Model(model.input, model.get_layer("standardize").output), images)


def test_image_standardization_ignores_brightness_and_contrast() -> None:
    model = network(input_shape=(16, 16, 3))
    images = pixels(3, 16, 16, 3) / 4
    found = standardized(model, images)
    np.testing.assert_allclose(found.mean(axis=(1, 2, 3)), 0.0, atol=1e-5)
    np.testing.assert_allclose(found.std(axis=(1, 2, 3)), 1.0, rtol=1e-4)
    np.testing.assert_allclose(outputs(model, images * 2 + 50), outputs(model, images), atol=1e-5)
    np.testing.assert_allclose(outputs(model, images * 0.05), outputs(model, images), atol=1e-4)
    assert np.isfinite(outputs(model, np.full((1, 16, 16, 3), 77, np.float32))).all()


def test_dataset_standardization_uses_the_training_splits_statistics() -> None:
    mean, deviation = (0.2, 0.5, 0.8), (0.1, 0.2, 0.3)
    model = network(input_shape=(16, 16, 3), standardize="dataset", mean=mean, deviation=deviation, value_range=65535)
    images = pixels(2, 16, 16, 3) * 257
    expected = (images / 65535 - np.array(mean)) / np.array(deviation)
    np.testing.assert_allclose(standardized(model, images), expected, rtol=1e-4, atol=1e-4)


def test_without_standardization_pixels_are_only_scaled() -> None:
    import keras

    model = network(standardize="none")
    images = pixels(2, 16, 16, 1)
    assert "standardize" not in {layer.name for layer in model.layers}
    np.testing.assert_allclose(
        outputs(keras.Model(model.input, model.get_layer("scale").output), images), images / 255, rtol=1e-6
    )


def test_whole_numbers_are_taken_as_they_are_stored() -> None:
    model, images = network(), pixels(2, 16, 16, 1)
    np.testing.assert_array_equal(outputs(model, images.astype(np.uint8)), outputs(model, images))


def test_logits_model_shares_weights_and_gives_what_softmax_reads() -> None:
    model, images = network(), pixels(2, 16, 16, 1)
    logits = logits_model(model)
    for _ in range(2):
        z = outputs(logits, images)
        expected = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(outputs(model, images), expected, rtol=1e-5)
        model.set_weights([value * 1.1 if value.dtype == np.float32 else value for value in model.get_weights()])


def test_multilabel_outputs_are_sigmoids_of_the_logits() -> None:
    model, images = network(task="multilabel"), pixels(2, 16, 16, 1)
    z = outputs(logits_model(model), images)
    np.testing.assert_allclose(outputs(model, images), 1 / (1 + np.exp(-z)), rtol=1e-5)


def test_multiply_adds_by_hand() -> None:
    tutorial = 26 * 26 * 9 * 1 * 32 + 11 * 11 * 9 * 32 * 64 + 5 * 5 * 64 * 64 + 64 * 3
    assert multiply_adds(network("tutorial", input_shape=(28, 28, 1))) == tutorial
    plain = 256 * 9 * (3 * 4 + 4 * 4) + 64 * 9 * (4 * 8 + 8 * 8) + 8 * 3
    assert multiply_adds(network("plain", input_shape=(16, 16, 3))) == plain
    separable = 256 * (9 * 3 * 4 + 9 * 4 + 4 * 4) + 64 * (9 * 4 + 4 * 8 + 9 * 8 + 8 * 8) + 8 * 3
    assert multiply_adds(network("separable", input_shape=(16, 16, 3))) == separable
    residual = 256 * 9 * (3 * 4 + 4 * 4 + 4 * 4) + 64 * (4 * 8 + 9 * (4 * 8 + 8 * 8)) + 8 * 3
    assert multiply_adds(network("residual", input_shape=(16, 16, 3))) == residual


@pytest.mark.parametrize(
    ("backbone", "changed"),
    [("plain", {"batch_norm": True}), ("plain", {"batch_norm": False}), ("residual", {}), ("separable", {})],
)
def test_the_signal_neither_dies_nor_explodes_at_the_start(backbone: str, changed: dict[str, bool]) -> None:
    model = network(backbone, hyper=HYPER[backbone] | {"depth": 3, "width": 16} | changed, input_shape=(32, 32, 1))
    # In training mode batch normalization uses the batch's own statistics, as the first step will.
    z = logits_model(model)(pixels(16, 32, 32, 1), training=True).numpy()
    assert 0.01 < z.std() < 20


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"backbone": "vgg"}, ["train.space.backbone", "'vgg'", "tutorial, plain, residual, separable"]),
        ({"activation": "swoosh"}, ["train.space.activation", "'swoosh'", "leaky_relu"]),
        ({"pooling": "median"}, ["train.space.pooling", "max, average"]),
        ({"standardize": "batch"}, ["train.space.standardize", "dataset, image, none"]),
        ({"hyper": STAGED}, ["train.space.backbone.plain.batch_norm", "missing"]),
        ({"hyper": PLAIN | {"depth": 0}}, ["train.space.backbone.plain.depth", "whole number from 1", "0"]),
        ({"hyper": PLAIN | {"batch_norm": 1}}, ["train.space.backbone.plain.batch_norm", "true or false"]),
    ],
)
def test_mistakes_name_the_params_path(changed: dict[str, Any], words: list[str]) -> None:
    settings: dict[str, Any] = {
        "backbone": "plain",
        "hyper": PLAIN,
        "activation": "relu",
        "pooling": "max",
        "standardize": "none",
        "input_shape": (16, 16, 1),
        "n_outputs": 2,
        "task": "binary",
        "value_range": 255,
        "mean": (0.5,),
        "deviation": (0.2,),
        "seed": 1,
    }
    with pytest.raises(ParamsError) as caught:
        build_network(**(settings | changed))
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize("backbone", OWN)
def test_initial_weights_come_from_the_seed_alone(backbone: str) -> None:
    import random

    import keras

    found = []
    for seed, noise in ((3, 1), (3, 2), (4, 1)):
        # Whatever else draws from the process's own state, in other threads too.
        random.seed(noise)
        keras.utils.set_random_seed(noise)
        made = network(backbone, seed=seed)
        found.append([each.numpy() for each in made.variables])
    assert all(np.array_equal(a, b) for a, b in zip(found[0], found[1], strict=True))
    kernels = [index for index, each in enumerate(found[0]) if each.ndim > 1]
    assert kernels and all(not np.array_equal(found[0][index], found[2][index]) for index in kernels)
