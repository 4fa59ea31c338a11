"""TABLE: backbones, and the network around them: raw pixels in, probabilities out, built-in Keras layers only.

Every layer is named after its place, so saved bytes do not depend on what else the process has built. Initial weights
and dropout have seeds of their own, drawn from the network's: Keras would draw them from a state that is shared with
whatever else runs in the process.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medsweep.errors import ParamsError, unknown_name
from medsweep.train.applications import SMALLEST, application
from medsweep.train.hyperparameters import Scalar, check_hyperparameters

if TYPE_CHECKING:
    import keras

WHERE = "train.space"

Tensor = Any
"""A symbolic Keras tensor (B, H, W, C) or (B, F)."""


class Seeds:
    """The seeds of a network's layers, one after another: numbers from 1 to 10⁹, as Keras draws them.

    Args:
        seed: of the network.
    """

    def __init__(self, seed: int) -> None:
        self._draw = random.Random(seed)
        self.layers: list[str] = []

    def of(self, layer: str) -> int:
        """The next seed, for something in the layer of this name."""
        if layer not in self.layers:
            self.layers.append(layer)
        return self._draw.randint(1, 10**9)


# Pooling stops where it would leave fewer than 2 pixels along the shorter side: deep networks fit small images.
_SMALLEST_POOLED_SIDE = 4

# Keras's own 0.99 needs hundreds of steps before the moving statistics can be validated with; trials may be shorter.
_BATCH_NORM_MOMENTUM = 0.9

# Far below one grey level in 16 bits (1.5e-5 of the range), squared: it only keeps constant images from dividing by 0.
_IMAGE_VARIANCE_EPSILON = 1e-10


@dataclass(frozen=True)
class PoolingRow:
    """One way to pool: `halve(name)` is a layer for 2x2 windows, `whole(name)` one for the whole feature map."""

    halve: Callable[[str], keras.layers.Layer]
    whole: Callable[[str], keras.layers.Layer]


@dataclass(frozen=True)
class BackboneRow:
    """One backbone.

    Args:
        build: (features (B, H, W, C), hyper, activation, pooling, seeds) → features (B, F).
        hyperparameters: what `build` reads.
        what: one sentence.
        smallest: how many pixels it needs along the shorter side.
        pretrained: whether others publish weights for it, whatever they call the model in the file.
    """

    build: Callable[[Tensor, Mapping[str, Scalar], str, str, Seeds], Tensor]
    hyperparameters: tuple[str, ...]
    what: str
    smallest: int = 16
    pretrained: bool = False


# The initializer that keeps the variance of the signal for each activation: He et al. (2015) where about half of the
# range is passed on, Glorot & Bengio (2010) for the saturating ones.
ACTIVATIONS: dict[str, str] = {
    "relu": "HeNormal",
    "sigmoid": "GlorotUniform",
    "tanh": "GlorotUniform",
    "elu": "HeNormal",
    "gelu": "HeNormal",
    "silu": "HeNormal",
    "leaky_relu": "HeNormal",
}

STANDARDIZATIONS: tuple[str, ...] = ("dataset", "image", "none")


def _halve_by_max(name: str) -> keras.layers.Layer:
    from keras import layers

    return layers.MaxPooling2D(2, name=name)


def _halve_by_average(name: str) -> keras.layers.Layer:
    from keras import layers

    return layers.AveragePooling2D(2, name=name)


def _whole_by_max(name: str) -> keras.layers.Layer:
    from keras import layers

    return layers.GlobalMaxPooling2D(name=name)


def _whole_by_average(name: str) -> keras.layers.Layer:
    from keras import layers

    return layers.GlobalAveragePooling2D(name=name)


POOLINGS: dict[str, PoolingRow] = {
    "max": PoolingRow(_halve_by_max, _whole_by_max),
    "average": PoolingRow(_halve_by_average, _whole_by_average),
}


def _initializer(activation: str, seed: int) -> keras.initializers.Initializer:
    import keras

    return getattr(keras.initializers, ACTIVATIONS[activation])(seed=seed)


def _dropped(features: Tensor, rate: Scalar, seeds: Seeds) -> Tensor:
    from keras import layers

    seed = seeds.of("dropout") if rate else None  # nothing is drawn where nothing is dropped
    return layers.Dropout(float(rate), seed=seed, name="dropout")(features)


def _convolution(
    features: Tensor, name: str, channels: int, activation: str, seeds: Seeds, *, batch_norm: bool, size: int = 3
) -> Tensor:
    """Convolution with the same padding, and batch normalization (which makes the bias idle) where asked."""
    from keras import layers

    features = layers.Conv2D(
        channels,
        size,
        padding="same",
        use_bias=not batch_norm,
        kernel_initializer=_initializer(activation, seeds.of(f"{name}_conv")),
        name=f"{name}_conv",
    )(features)
    return _normalized(features, name) if batch_norm else features


def _separable_convolution(features: Tensor, name: str, channels: int, activation: str, seeds: Seeds) -> Tensor:
    """Depthwise 3x3, then pointwise convolution, then batch normalization."""
    import keras

    features = keras.layers.SeparableConv2D(
        channels,
        3,
        padding="same",
        use_bias=False,
        # Keras's fan-in counts all channels, of which a depthwise filter sees one: nine values, no activation after.
        depthwise_initializer=keras.initializers.RandomNormal(stddev=1 / 3, seed=seeds.of(f"{name}_separable")),
        pointwise_initializer=_initializer(activation, seeds.of(f"{name}_separable")),
        name=f"{name}_separable",
    )(features)
    return _normalized(features, name)


def _normalized(features: Tensor, name: str) -> Tensor:
    from keras import layers

    return layers.BatchNormalization(momentum=_BATCH_NORM_MOMENTUM, name=f"{name}_norm")(features)


def _activated(features: Tensor, name: str, activation: str) -> Tensor:
    from keras import layers

    return layers.Activation(activation, name=f"{name}_{activation}")(features)


def _halved(features: Tensor, name: str, pooling: str) -> Tensor:
    """2x2 pooling, or nothing where the shorter side has no four pixels left."""
    if min(features.shape[1:3]) < _SMALLEST_POOLED_SIDE:
        return features
    return POOLINGS[pooling].halve(f"{name}_pool")(features)


def _pooled_and_dropped(features: Tensor, dropout: Scalar, pooling: str, seeds: Seeds) -> Tensor:
    return _dropped(POOLINGS[pooling].whole("global_pool")(features), dropout, seeds)


def _tutorial(features: Tensor, hyper: Mapping[str, Scalar], activation: str, pooling: str, seeds: Seeds) -> Tensor:
    from keras import layers

    for name, channels in (("stage1", 32), ("stage2", 64)):
        initializer = _initializer(activation, seeds.of(f"{name}_conv"))
        features = layers.Conv2D(channels, 3, kernel_initializer=initializer, name=f"{name}_conv")(features)
        features = _activated(features, name, activation)
        features = _halved(features, name, pooling)
    features = layers.Flatten(name="flatten")(features)
    initializer = _initializer(activation, seeds.of("hidden"))
    features = layers.Dense(64, kernel_initializer=initializer, name="hidden")(features)
    features = _activated(features, "hidden", activation)
    return _dropped(features, hyper["dropout"], seeds)


def _plain(features: Tensor, hyper: Mapping[str, Scalar], activation: str, pooling: str, seeds: Seeds) -> Tensor:
    batch_norm = bool(hyper["batch_norm"])
    for stage in range(int(hyper["depth"])):
        if stage > 0:
            features = _halved(features, f"stage{stage}", pooling)
        for index in (1, 2):
            name = f"stage{stage + 1}_{index}"
            channels = int(hyper["width"]) * 2**stage
            features = _convolution(features, name, channels, activation, seeds, batch_norm=batch_norm)
            features = _activated(features, name, activation)
    return _pooled_and_dropped(features, hyper["dropout"], pooling, seeds)


def _residual(features: Tensor, hyper: Mapping[str, Scalar], activation: str, pooling: str, seeds: Seeds) -> Tensor:
    from keras import layers

    width = int(hyper["width"])
    features = _convolution(features, "stem", width, activation, seeds, batch_norm=True)
    features = _activated(features, "stem", activation)
    for stage in range(int(hyper["depth"])):
        name, channels = f"stage{stage + 1}", width * 2**stage
        if stage > 0:
            features = _halved(features, f"stage{stage}", pooling)
        shortcut = features
        if shortcut.shape[-1] != channels:
            shortcut = _convolution(shortcut, f"{name}_shortcut", channels, activation, seeds, batch_norm=True, size=1)
        features = _convolution(features, f"{name}_1", channels, activation, seeds, batch_norm=True)
        features = _activated(features, f"{name}_1", activation)
        features = _convolution(features, f"{name}_2", channels, activation, seeds, batch_norm=True)
        features = layers.Add(name=f"{name}_add")([features, shortcut])
        features = _activated(features, f"{name}_2", activation)
    return _pooled_and_dropped(features, hyper["dropout"], pooling, seeds)


def _separable(features: Tensor, hyper: Mapping[str, Scalar], activation: str, pooling: str, seeds: Seeds) -> Tensor:
    for stage in range(int(hyper["depth"])):
        if stage > 0:
            features = _halved(features, f"stage{stage}", pooling)
        for index in (1, 2):
            name = f"stage{stage + 1}_{index}"
            channels = int(hyper["width"]) * 2**stage
            # The first convolution is a full one: of one grey channel a depthwise filter could make only one feature.
            if (stage, index) == (0, 1):
                features = _convolution(features, name, channels, activation, seeds, batch_norm=True)
            else:
                features = _separable_convolution(features, name, channels, activation, seeds)
            features = _activated(features, name, activation)
    return _pooled_and_dropped(features, hyper["dropout"], pooling, seeds)


def _application(name: str, **options: Any) -> Callable[[Tensor, Mapping[str, Scalar], str, str, Seeds], Tensor]:
    """A network of keras.applications; its activations are its own, `pooling` is that over the whole map."""

    def build(features: Tensor, hyper: Mapping[str, Scalar], activation: str, pooling: str, seeds: Seeds) -> Tensor:
        own = {"alpha": float(hyper["alpha"])} if "alpha" in hyper else {}
        features, layers = application(name, features, **options, **own)
        for layer in layers:
            _seed(layer, layer.name, seeds)
        return _pooled_and_dropped(features, hyper["dropout"], pooling, seeds)

    return build


BACKBONES: dict[str, BackboneRow] = {
    "tutorial": BackboneRow(
        _tutorial,
        ("dropout",),
        "The tutorials' network: Conv 32 - pool - Conv 64 - pool - Flatten - Dense 64, 3x3 convolutions unpadded.",
    ),
    "plain": BackboneRow(
        _plain,
        ("depth", "width", "batch_norm", "dropout"),
        "`depth` stages of two 3x3 convolutions, `width` channels in the first and twice as many in each next one, "
        "pooling between stages, then global pooling and dropout.",
    ),
    "residual": BackboneRow(
        _residual,
        ("depth", "width", "dropout"),
        "A 3x3 convolution, then as `plain` with batch normalization, each stage's two convolutions bridged by a "
        "shortcut (He et al., 2016; 1x1 convolution where the channels change).",
    ),
    "separable": BackboneRow(
        _separable,
        ("depth", "width", "dropout"),
        "As `plain` with batch normalization, and depthwise-separable convolutions after the first (Chollet, 2017): "
        "about an eighth of the multiply-adds.",
    ),
    "mobilenet_v2": BackboneRow(
        _application("MobileNetV2"),
        ("alpha", "dropout"),
        "Keras's MobileNetV2 (Sandler et al., 2018), its width times `alpha`; for pretrained weights.",
        SMALLEST,
        pretrained=True,
    ),
    "efficientnet_v2_b0": BackboneRow(
        _application("EfficientNetV2B0", include_preprocessing=False),
        ("dropout",),
        "Keras's EfficientNetV2-B0 (Tan & Le, 2021); for pretrained weights.",
        SMALLEST,
        pretrained=True,
    ),
    "resnet50_v2": BackboneRow(
        _application("ResNet50V2"),
        ("dropout",),
        "Keras's ResNet50V2 (He et al., 2016, Identity mappings); for pretrained weights.",
        SMALLEST,
        pretrained=True,
    ),
    "densenet121": BackboneRow(
        _application("DenseNet121"),
        ("dropout",),
        "Keras's DenseNet121 (Huang et al., 2017), the network of many chest X-ray studies; for pretrained weights.",
        SMALLEST,
        pretrained=True,
    ),
}


def build_network(
    *,
    backbone: str,
    hyper: Mapping[str, Scalar],
    activation: str,
    pooling: str,
    standardize: str,
    input_shape: tuple[int, int, int],
    n_outputs: int,
    task: str,
    value_range: int,
    mean: Sequence[float],
    deviation: Sequence[float],
    seed: int,
) -> keras.Model:
    """A network from raw pixels (B, H, W, C), 0 to `value_range`, to probabilities (B, n_outputs) float32.

    Its layer 'logits' holds what goes into softmax (sigmoid for a multi-label task).

    Args:
        backbone: a row of `BACKBONES`.
        hyper: exactly the row's hyperparameters.
        activation: a row of `ACTIVATIONS`.
        pooling: a row of `POOLINGS`, used between stages and over the whole map.
        standardize: 'dataset' by the given mean and deviation, 'image' each image by its own over all its pixels and
            channels, 'none' only scales to 0 to 1.
        input_shape: (H, W, C); H and W from the row's smallest, C 1 or 3.
        n_outputs: classes (2 for a binary task) or labels.
        task: binary, multiclass, ordinal or multilabel.
        value_range: the largest pixel value, 255 or 65535.
        mean: (C,) of the training split on the scale 0 to 1.
        deviation: (C,) of the training split on the scale 0 to 1.
        seed: of initial weights and dropout.

    Raises:
        ParamsError: an unknown name, hyperparameters that are not the row's, or images that are too small for it.
    """
    if backbone not in BACKBONES:
        raise unknown_name("backbone", backbone, list(BACKBONES), where=f"{WHERE}.backbone")
    if activation not in ACTIVATIONS:
        raise unknown_name("activation", activation, list(ACTIVATIONS), where=f"{WHERE}.activation")
    if pooling not in POOLINGS:
        raise unknown_name("pooling", pooling, list(POOLINGS), where=f"{WHERE}.pooling")
    if standardize not in STANDARDIZATIONS:
        raise unknown_name("standardization", standardize, list(STANDARDIZATIONS), where=f"{WHERE}.standardize")
    row = BACKBONES[backbone]
    check_hyperparameters(row.hyperparameters, hyper, where=f"{WHERE}.backbone.{backbone}")
    check_size(backbone, input_shape[0], input_shape[1])

    import keras
    from keras import layers

    pixels = keras.Input(input_shape, dtype="float32", name="pixels")
    features = layers.Rescaling(1.0 / value_range, name="scale")(pixels)
    if standardize == "dataset":
        variance = [float(each) ** 2 for each in deviation]
        features = layers.Normalization(mean=[float(each) for each in mean], variance=variance, name="standardize")(
            features
        )
    elif standardize == "image":
        features = layers.LayerNormalization(
            axis=[1, 2, 3], center=False, scale=False, epsilon=_IMAGE_VARIANCE_EPSILON, name="standardize"
        )(features)
    seeds = Seeds(seed)
    features = row.build(features, hyper, activation, pooling, seeds)
    last_initializer = keras.initializers.GlorotUniform(seed=seeds.of("logits"))
    logits = layers.Dense(n_outputs, kernel_initializer=last_initializer, name="logits")(features)
    last = "sigmoid" if task == "multilabel" else "softmax"
    probabilities = layers.Activation(last, dtype="float32", name="probabilities")(logits)
    model = keras.Model(pixels, probabilities, name=backbone)
    model.seeded = tuple(seeds.layers)  # Keras lists layers by depth, not as they were made
    return model


def check_size(backbone: str, height: int, width: int) -> None:
    """Make sure that a backbone's images are large enough.

    Raises:
        ParamsError: they are not.
    """
    smallest = BACKBONES[backbone].smallest
    if min(height, width) < smallest:
        raise ParamsError(
            f"needs images of at least {smallest}×{smallest} pixels, not {height}×{width}.",
            where=f"{WHERE}.backbone.{backbone}",
            fix="Raise prepare.image, or take the backbone out.",
        )


def reseed(model: keras.Model, seed: int) -> None:
    """Give a network of `build_network` the seeds, initial weights and dropout state that it would have had, built with
    this seed. Its other weights stay as they are.

    Args:
        model: the network.
        seed: of initial weights and dropout.
    """
    seeds = Seeds(seed)
    for place in model.seeded:
        _seed(model.get_layer(place), place, seeds)


def _seed(layer: keras.layers.Layer, place: str, seeds: Seeds) -> None:
    """Give a layer the next seeds, and the initial weights and dropout state that follow from them."""
    import keras

    for name, weight in _drawn(layer):
        known = getattr(layer, name)
        initializer = type(known).from_config({**known.get_config(), "seed": seeds.of(place)})
        setattr(layer, name, initializer)
        weight.assign(initializer(weight.shape, dtype=weight.dtype))
    if isinstance(layer, keras.layers.Dropout):
        layer.seed = seeds.of(place)
        layer.seed_generator.state.assign(keras.random.SeedGenerator(layer.seed).state.numpy())


def _drawn(layer: keras.layers.Layer) -> list[tuple[str, Any]]:
    """A layer's weights that begin at random, each with the name of its initializer."""
    from keras import layers

    if isinstance(layer, layers.SeparableConv2D):
        return [
            ("depthwise_initializer", layer.depthwise_kernel),
            ("pointwise_initializer", layer.pointwise_kernel),
        ]
    if isinstance(layer, layers.DepthwiseConv2D):
        return [("depthwise_initializer", layer.kernel)]
    return [("kernel_initializer", layer.kernel)] if isinstance(layer, layers.Conv2D | layers.Dense) else []


def logits_model(model: keras.Model) -> keras.Model:
    """The part of a network up to its layer 'logits', sharing its weights: (B, H, W, C) → (B, n_outputs)."""
    import keras

    return keras.Model(model.input, model.get_layer("logits").output, name=f"{model.name}_logits")


def with_temperature(model: keras.Model, temperature: float, task: str) -> keras.Model:
    """The network with its logits divided by a temperature, sharing its weights: a built-in layer, in every copy."""
    import keras
    from keras import layers

    scaled = layers.Rescaling(1.0 / temperature, dtype="float32", name="temperature")(model.get_layer("logits").output)
    last = "sigmoid" if task == "multilabel" else "softmax"
    probabilities = layers.Activation(last, dtype="float32", name="probabilities")(scaled)
    return keras.Model(model.input, probabilities, name=model.name)


def mean_of_networks(networks: Sequence[tuple[keras.Model, float]]) -> keras.Model:
    """One network whose logits are a weighted sum of several networks' logits, with copies of their weights.

    The features of all stand side by side before one layer 'logits', whose kernel is theirs below one another, each
    times its factor: so it is a network like any other, of built-in layers and in one file. The mean of logits is the
    logarithm of the geometric mean of probabilities, but for a constant.

    Args:
        networks: each with the factor of its logits; of one input and one output shape, built by `build_network`.
    """
    import keras
    import numpy as np
    from keras import layers

    first = networks[0][0]
    pixels = keras.Input(first.input_shape[1:], dtype="float32", name="pixels")
    features, kernels, biases = [], [], []
    for index, (network, factor) in enumerate(networks, start=1):
        inner = keras.Model(network.input, network.get_layer("logits").input)

        def renamed(layer: keras.layers.Layer, index: int = index) -> keras.layers.Layer:
            return layer.__class__.from_config({**layer.get_config(), "name": f"member{index}_{layer.name}"})

        copy = keras.models.clone_model(inner, input_tensors=pixels, clone_function=renamed)
        copy.set_weights(inner.get_weights())
        features.append(copy.output)
        kernel, bias = network.get_layer("logits").get_weights()
        kernels.append(factor * kernel)
        biases.append(factor * bias)
    together = layers.Concatenate(name="features")(features)
    last = layers.Dense(kernels[0].shape[1], name="logits")
    logits = last(together)
    last.set_weights([np.concatenate(kernels), np.sum(biases, axis=0)])
    activation = first.get_layer("probabilities").get_config()["activation"]
    probabilities = layers.Activation(activation, dtype="float32", name="probabilities")(logits)
    return keras.Model(pixels, probabilities, name="ensemble")


def inner_model(model: keras.Model) -> keras.Model:
    """The network up to what goes into its layer 'logits', and up to that: images → [(B, F) features, (B, K)]."""
    import keras

    logits = model.get_layer("logits")
    return keras.Model(model.input, [logits.input, logits.output], name=f"{model.name}_inner")


def multiply_adds(model: keras.Model) -> int:
    """Forward multiply-adds for one image in the convolutions and dense layers (nothing else is counted)."""
    from keras import layers

    total = 0
    for layer in model.layers:
        shape = layer.output.shape
        if isinstance(layer, layers.SeparableConv2D):
            area = int(shape[1]) * int(shape[2])
            total += area * _size(layer.depthwise_kernel) + area * _size(layer.pointwise_kernel)
        elif isinstance(layer, layers.DepthwiseConv2D | layers.Conv2D):
            # A kernel already has the channels that one output sees (all, a group's, or one), times the outputs.
            total += int(shape[1]) * int(shape[2]) * _size(layer.kernel)
        elif isinstance(layer, layers.Dense):
            total += _size(layer.kernel)
    return total


def _size(kernel: Any) -> int:
    size = 1
    for side in kernel.shape:
        size *= int(side)
    return size
