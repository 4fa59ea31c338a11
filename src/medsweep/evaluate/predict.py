"""Raw pixels through the trained model: the only module here that knows Keras."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medsweep.backend.start import start_tensorflow
from medsweep.errors import ArtifactError

_PIXELS_AT_ONCE = 1 << 18


def batch_for(height: int, width: int) -> int:
    """Images in one batch, 1 to 256: a batch's feature maps stay within some 100 MB at any image size.

    It depends on the image size alone, since another batch size may change a probability's last bits.
    """
    return max(1, min(256, _PIXELS_AT_ONCE // (height * width)))


def predict(
    model_path: Path,
    images: NDArray[Any],
    batch: int,
    *,
    n_classes: int,
    workers: int,
    advance: Callable[[int], None],
) -> NDArray[np.float64]:
    """The model's probabilities for every image.

    Args:
        model_path: a `.keras` file that takes (n, H, W, C) float32 raw pixels, 0 to the value range.
        images: (N, H, W, C) uint8 or uint16; read one batch at a time, so a memory map stays on the disk.
        batch: images at a time.
        n_classes: K, the number of probabilities that an image must get.
        workers: threads. A batch is computed by one thread, so their number changes no bit of the result.
        advance: told how many more images are done.

    Returns:
        (N, K) probabilities.

    Raises:
        ArtifactError: the model can't be read, or its input or output has another shape.
    """
    found = Predictor(model_path, images.shape[1:], n_classes=n_classes, workers=workers)
    return found.probabilities(len(images), batch, lambda start, stop: images[start:stop], advance)


@dataclass(frozen=True)
class Inner:
    """What a network makes of N images on the way to its probabilities.

    Args:
        features: (N, F) what goes into its layer 'logits'.
        logits: (N, K) before any temperature.
        probabilities: (N, K).
    """

    features: NDArray[np.float64]
    logits: NDArray[np.float64]
    probabilities: NDArray[np.float64]


class Predictor:
    """A trained model, read once and applied to any number of images.

    Args:
        model_path: a `.keras` file that takes (n, H, W, C) float32 raw pixels, 0 to the value range.
        shape: (H, W, C) of the images.
        n_classes: K.
        workers: threads. A batch is computed by one thread, so their number changes no bit of the result.

    Raises:
        ArtifactError: the model can't be read, or its input or output has another shape.
    """

    def __init__(self, model_path: Path, shape: tuple[int, ...], *, n_classes: int, workers: int) -> None:
        start_tensorflow(operations_at_once=workers)
        import keras

        try:
            self._model = keras.saving.load_model(model_path, compile=False)
        except (ValueError, TypeError, OSError, KeyError) as error:
            raise ArtifactError(
                f"can't be read as a Keras model ({' '.join(str(error).split())[:200]}).",
                where=model_path.name,
                fix="Train it with this environment: dvc repro -f train.",
            ) from None
        _check_shapes(self._model, shape, n_classes, model_path)
        self._shape, self._workers = shape, workers
        self._traced: dict[bool, Any] = {}

    @property
    def has_inner(self) -> bool:
        """Whether the model names the layer 'logits', as all that train writes do."""
        return any(layer.name == "logits" for layer in self._model.layers)

    def probabilities(
        self, n: int, batch: int, block: Callable[[int, int], NDArray[Any]], advance: Callable[[int], None]
    ) -> NDArray[np.float64]:
        """(n, K) for the images that `block(start, stop)` makes or reads, a batch at a time, in the working thread."""
        (found,) = self._apply(False, n, batch, block, advance)
        return found

    def inner(
        self, n: int, batch: int, block: Callable[[int, int], NDArray[Any]], advance: Callable[[int], None]
    ) -> Inner:
        """Features, logits and probabilities; takes what `probabilities` does, of a model that `has_inner`."""
        return Inner(*self._apply(True, n, batch, block, advance))

    def _apply(
        self,
        inner: bool,
        n: int,
        batch: int,
        block: Callable[[int, int], NDArray[Any]],
        advance: Callable[[int], None],
    ) -> list[NDArray[np.float64]]:
        import tensorflow as tf

        forward = self._forward(inner)
        found = [np.empty((n, each.shape[-1]), dtype=np.float64) for each in forward.structured_outputs]

        def one(start: int) -> int:
            pixels = np.asarray(block(start, min(start + batch, n)), dtype=np.float32)
            for target, answer in zip(found, forward(tf.constant(pixels)), strict=True):
                target[start : start + len(pixels)] = answer.numpy()
            return len(pixels)

        with ThreadPoolExecutor(self._workers) as pool:
            # No more batches in flight than threads to work on them: memory does not grow with the split.
            running: list[Future[int]] = []
            for start in range(0, n, batch):
                if len(running) == self._workers:
                    advance(running.pop(0).result())
                running.append(pool.submit(one, start))
            for each in running:
                advance(each.result())
        return found

    def _forward(self, inner: bool) -> Any:
        """The traced network: images to [probabilities], or to [features, logits, probabilities]."""
        if inner not in self._traced:
            import keras
            import tensorflow as tf

            model = self._model
            if inner:
                logits = model.get_layer("logits")
                model = keras.Model(model.inputs, [logits.input, logits.output, model.output])

            def forward(pixels: Any) -> list[Any]:
                answers = model(pixels, training=False)
                return list(answers) if inner else [answers]

            specification = tf.TensorSpec((None, *self._shape), tf.float32)
            self._traced[inner] = tf.function(forward).get_concrete_function(specification)
        return self._traced[inner]


def _check_shapes(model: Any, image_shape: tuple[int, ...], n_classes: int, path: Path) -> None:
    for what, has, needs in (
        ("takes images of the shape", tuple(model.input_shape[1:]), image_shape),
        ("gives probabilities of the shape", tuple(model.output_shape[1:]), (n_classes,)),
    ):
        fits = len(has) == len(needs) and all(h is None or h == n for h, n in zip(has, needs, strict=True))
        if not fits:
            raise ArtifactError(
                f"the model {what} {has} where {needs} is needed.", where=path.name, fix="Train again: dvc repro train."
            )
