"""Networks of keras.applications, layer for layer inside another network, for weights that were learnt elsewhere.

Layers keep the names that Keras gives them, so a file of weights for one of these networks fits (`warm_start`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

SMALLEST = 32
"""Pixels along the shorter side: they halve an image five times."""

Tensor = Any
"""A symbolic Keras tensor (B, H, W, C)."""

# Keras's own needs hundreds of steps before the moving statistics can be validated with; trials may be shorter.
_BATCH_NORM_MOMENTUM = 0.9


def application(name: str, features: Tensor, **options: Any) -> tuple[Tensor, list[keras.layers.Layer]]:
    """The last feature maps of a network of keras.applications, and its layers with random weights.

    Args:
        name: in `keras.applications`.
        features: (B, H, W, C); a single channel is shown three times.
        options: of the function there.
    """
    import keras

    three = features
    if features.shape[-1] == 1:
        three = keras.layers.Concatenate(name="colour")([features] * 3)
    build: Callable[..., keras.Model] = getattr(keras.applications, name)
    built = build(include_top=False, weights=None, input_tensor=three, **options)
    before = {id(each) for each in keras.Model(built.inputs, three).layers}
    layers = [each for each in built.layers if id(each) not in before]
    counts: dict[str, int] = {}
    for layer in layers:
        kind = re.sub(r"_\d+$", "", layer.name)
        if kind == _automatic(type(layer).__name__):
            # Without a name of its own it is numbered by how many the process has made: here, by how many there are.
            counts[kind] = counts.get(kind, 0) + 1
            layer.name = f"{kind}_at_{counts[kind]}"
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = _BATCH_NORM_MOMENTUM
    return built.output, layers


def _automatic(kind: str) -> str:
    """What Keras calls the first layer of a kind: 'zero_padding2d' for ZeroPadding2D."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", kind).lower()
