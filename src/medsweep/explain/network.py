"""A loaded model with what every method needs of it: log-odds of a class, their gradients, feature maps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medsweep.backend.start import start_tensorflow
from medsweep.errors import ArtifactError
from medsweep.explain.graph import Link, MemberGraph, members_of

if TYPE_CHECKING:
    import keras

Floats = NDArray[np.float32]
Classes = NDArray[np.int64]

# Feature maps and their gradients of one batch stay within some 100 MB at any image size.
_PIXELS_AT_ONCE = 1 << 16


class Member:
    """One network from its standardized input to the log-odds of its classes.

    What is explained is always the log-odds of a class: log p / (1 - p). For two classes that is the difference of
    their logits, so both classes tell the same story with opposite signs; a logit alone has no meaning there.

    All methods take `z`, the network's own input: the pixels after the fixed scaling and standardization in front.
    There 0 is the mean grey of the training images (or of the image itself), which is where 'nothing' is. A path from
    a black image to this one would be meaningless where each image is standardized by itself, which undoes it.
    """

    def __init__(self, graph: MemberGraph) -> None:
        import keras
        import tensorflow as tf

        self.layer = graph.layer
        height, width, channels = graph.entry.shape[1:]
        self.shape: tuple[int, int, int] = (height, width, channels)
        self.batch = max(1, _PIXELS_AT_ONCE // (height * width))
        enter = keras.Model(graph.pixels, graph.entry) if graph.entry is not graph.pixels else None
        network = keras.Model(graph.entry, [graph.features, graph.logits])
        self._model = keras.Model(graph.pixels, graph.logits)

        pixels = tf.TensorSpec((None, *graph.pixels.shape[1:]), tf.float32)
        entry = tf.TensorSpec((None, *self.shape), tf.float32)
        chosen = tf.TensorSpec((None,), tf.int32)

        def score(z: Any, classes: Any) -> tuple[Any, Any]:
            features, logits = network(z, training=False)
            return features, _log_odds(logits, classes, graph.link)

        def log_odds(z: Any, classes: Any) -> Any:
            return score(z, classes)[1]

        def gradients(z: Any, classes: Any) -> Any:
            with tf.GradientTape() as tape:
                tape.watch(z)
                found = score(z, classes)[1]
            return tape.gradient(found, z)

        def features(z: Any, classes: Any) -> Any:
            with tf.GradientTape() as tape:
                tape.watch(z)
                maps, found = score(z, classes)
            return maps, tape.gradient(found, maps)

        def standardized(images: Any) -> Any:
            return images if enter is None else enter(images, training=False)

        self._enter = tf.function(standardized, input_signature=[pixels])
        self._log_odds, self._gradients, self._features = (
            tf.function(each, input_signature=[entry, chosen]) for each in (log_odds, gradients, features)
        )

    def enter(self, pixels: NDArray[Any]) -> Floats:
        """z of raw pixels: (n, H, W, C) to (n, H, W, C)."""
        return self._in_batches(self._enter, np.asarray(pixels, dtype=np.float32))

    def log_odds(self, z: Floats, classes: Classes) -> Floats:
        """(n,) log-odds of each image's class."""
        return self._in_batches(self._log_odds, z, classes)

    def gradients(self, z: Floats, classes: Classes) -> Floats:
        """(n, H, W, C) the gradients of the log-odds by z."""
        return self._in_batches(self._gradients, z, classes)

    def features(self, z: Floats, classes: Classes) -> Iterator[tuple[Floats, Floats]]:
        """The feature maps (b, h, w, F) at the last convolution and the log-odds' gradients by them, batch by batch."""
        for start in range(0, len(z), self.batch):
            maps, slopes = self._features(z[start : start + self.batch], _as_int32(classes[start : start + self.batch]))
            yield maps.numpy(), slopes.numpy()

    def _in_batches(self, compute: Callable[..., Any], z: Floats, classes: Classes | None = None) -> Floats:
        found = []
        for start in range(0, max(1, len(z)), self.batch):
            given: list[NDArray[Any]] = [z[start : start + self.batch]]
            if classes is not None:
                given.append(_as_int32(classes[start : start + self.batch]))
            found.append(compute(*given).numpy())
        return np.concatenate(found)


class Network:
    """A model that can be explained.

    Args:
        model: takes raw pixels (B, H, W, C) and gives probabilities (B, K).

    Raises:
        ArtifactError: it has another form (see `members_of`).
    """

    def __init__(self, model: keras.Model) -> None:
        import tensorflow as tf

        self.model = model
        self.members = [Member(each) for each in members_of(model)]
        self.input_shape: tuple[int, int, int] = tuple(model.input_shape[1:])
        self._batch = self.members[0].batch
        given = tf.TensorSpec((None, *self.input_shape), tf.float32)
        self._forward = tf.function(lambda pixels: model(pixels, training=False), input_signature=[given])

    @classmethod
    def load(cls, path: Path) -> Network:
        """Read a `.keras` file.

        Raises:
            ArtifactError: it can't be read, or can't be explained.
        """
        start_tensorflow()
        import keras

        try:
            model = keras.saving.load_model(path, compile=False)
        except (ValueError, TypeError, OSError, KeyError) as error:
            raise ArtifactError(
                f"can't be read as a Keras model ({' '.join(str(error).split())[:200]}).",
                where=path.name,
                fix="Train it with this environment: dvc repro -f train.",
            ) from None
        return cls(model)

    def probabilities(self, pixels: NDArray[Any]) -> Floats:
        """(n, K) of the whole model for raw pixels (n, H, W, C)."""
        found = [
            self._forward(np.asarray(pixels[start : start + self._batch], dtype=np.float32)).numpy()
            for start in range(0, len(pixels), self._batch)
        ]
        return np.concatenate(found)

    def learned_layers(self) -> list[Any]:
        """The layers that learnt weights, from the input to the output."""
        return [each for each in _leaves(self.model) if each.trainable_weights]

    @contextmanager
    def random_weights(self, seed: int, *, top: int | None = None) -> Iterator[None]:
        """Within the block the model has the weights of a model that was never trained.

        Weights are drawn anew by each layer's own initializers, moving statistics of batch normalization are set back.
        A weight whose initializer the layer does not tell has its values shuffled.

        Args:
            seed: of the draw.
            top: only this many layers, counted from the output; None for all.
        """
        layers = self.learned_layers()
        chosen = layers if top is None else layers[len(layers) - top :]
        weights = [(layer, weight) for layer in chosen for weight in layer.weights]
        before = [weight.numpy() for _, weight in weights]
        try:
            for number, (layer, weight) in enumerate(weights):
                weight.assign(_drawn(layer, weight, seed, number))
            yield
        finally:
            for (_, weight), value in zip(weights, before, strict=True):
                weight.assign(value)


def _log_odds(logits: Any, classes: Any, link: Link) -> Any:
    import tensorflow as tf

    own = tf.gather(logits, classes, axis=1, batch_dims=1)
    if link == "sigmoid":
        return own
    others = tf.where(tf.one_hot(classes, tf.shape(logits)[1], on_value=True, off_value=False), -np.inf, logits)
    return own - tf.reduce_logsumexp(others, axis=1)


def _as_int32(classes: Classes) -> NDArray[np.int32]:
    return np.asarray(classes, dtype=np.int32)


def _leaves(model: Any) -> list[Any]:
    """Every layer once, those of nested models in their places."""
    found: list[Any] = []
    for layer in model.layers:
        for each in _leaves(layer) if hasattr(layer, "layers") else [layer]:
            if not any(each is known for known in found):
                found.append(each)
    return found


def _drawn(layer: Any, weight: Any, seed: int, number: int) -> NDArray[Any]:
    rng = np.random.default_rng([seed, number])
    initializer = getattr(layer, f"{weight.name}_initializer", None)
    if initializer is None:
        return np.asarray(rng.permutation(weight.numpy().ravel()).reshape(weight.shape))
    config = initializer.get_config()
    if "seed" in config:
        # Its own seed would give every draw, and every layer, the same values.
        initializer = type(initializer).from_config({**config, "seed": int(rng.integers(2**31))})
    return np.asarray(initializer(weight.shape, dtype=weight.dtype))
