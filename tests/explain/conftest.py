"""Networks whose explanations can be worked out by hand, and images with a bright spot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from medsweep.explain.method import Settings
from medsweep.train.backbones import build_network

SIZE = 16
HYPER: dict[str, dict[str, Any]] = {
    "tutorial": {"dropout": 0.3},
    "plain": {"depth": 2, "width": 2, "batch_norm": True, "dropout": 0.3},
    "residual": {"depth": 2, "width": 2, "dropout": 0.3},
    "separable": {"depth": 2, "width": 2, "dropout": 0.3},
}


@pytest.fixture(scope="session")
def settings() -> Settings:
    return Settings(steps=8, samples=4, noise=0.1, patch=0.25, seed=7)


@pytest.fixture(scope="session")
def spots() -> tuple[np.ndarray, np.ndarray]:
    """(6, 16, 16, 1) uint8 with a 4 x 4 bright spot each, and (6, 16, 16) where it is."""
    rng = np.random.default_rng(5)
    images = rng.integers(20, 60, (6, SIZE, SIZE, 1)).astype(np.uint8)
    masks = np.zeros((6, SIZE, SIZE), dtype=np.uint8)
    for image, mask, (row, column) in zip(images, masks, rng.integers(1, 11, (6, 2)), strict=True):
        image[row : row + 4, column : column + 4] += 150
        mask[row : row + 4, column : column + 4] = 1
    return images, masks


@pytest.fixture(scope="session")
def spotter() -> Callable[..., Any]:
    """Makes a network that finds class 1 where it is bright: a convolution, global pooling, logits, softmax."""

    def make(*, name: str = "spotter", factor: float = 1.0, temperature: float | None = None) -> Any:
        import keras
        from keras import layers

        pixels = keras.Input((SIZE, SIZE, 1), name=f"{name}_pixels")
        scaled = layers.Rescaling(1 / 255, name=f"{name}_scale")(pixels)
        convolution = layers.Conv2D(2, 3, padding="same", name=f"{name}_conv")
        features = layers.Activation("relu", name=f"{name}_relu")(convolution(scaled))
        dense = layers.Dense(2, name=f"{name}_logits")
        logits = dense(layers.GlobalAveragePooling2D(name=f"{name}_pool")(features))
        if temperature is not None:
            logits = layers.Rescaling(1 / temperature, name=f"{name}_temperature")(logits)
        model = keras.Model(pixels, layers.Activation("softmax", name=f"{name}_softmax")(logits), name=name)
        kernel = np.zeros((3, 3, 1, 2), dtype=np.float32)
        kernel[..., 0] = 1 / 9
        kernel[1, 1, 0, 1] = -1.0
        convolution.set_weights([kernel, np.array([-0.3, 0.2], dtype=np.float32)])
        dense.set_weights([factor * np.array([[-30.0, 60.0], [5.0, -5.0]]), np.array([0.5, -1.5])])
        return model

    return make


@pytest.fixture(scope="session")
def build() -> Callable[..., Any]:
    """Makes a small untrained network with a backbone; keyword arguments are those of `build_network`."""

    def make(backbone: str, **changes: Any) -> Any:
        known: dict[str, Any] = {
            "hyper": HYPER[backbone],
            "activation": "relu",
            "pooling": "average",
            "standardize": "image",
            "input_shape": (16, 16, 1),
            "n_outputs": 2,
            "task": "binary",
            "value_range": 255,
            "mean": [0.5],
            "deviation": [0.2],
            "seed": 1,
        }
        return build_network(backbone=backbone, **(known | changes))

    return make
