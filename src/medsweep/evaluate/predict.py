"""Raw pixels through the trained model: the only module here that knows Keras."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras
    import tensorflow as tf

    # One thread within an operation: how a sum is cut into parts would otherwise depend on the number of threads.
    # TensorFlow refuses once it has run anything, which a stage in its own process has not.
    with suppress(RuntimeError):
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(workers)
    try:
        model = keras.saving.load_model(model_path, compile=False)
    except (ValueError, TypeError, OSError, KeyError) as error:
        raise ArtifactError(
            f"can't be read as a Keras model ({' '.join(str(error).split())[:200]}).",
            where=model_path.name,
            fix="Train it with this environment: dvc repro -f train.",
        ) from None
    _check_shapes(model, images.shape[1:], n_classes, model_path)

    specification = tf.TensorSpec((None, *images.shape[1:]), tf.float32)
    forward = tf.function(lambda pixels: model(pixels, training=False)).get_concrete_function(specification)
    found = np.empty((len(images), n_classes), dtype=np.float64)

    def one(start: int) -> int:
        pixels = np.asarray(images[start : start + batch], dtype=np.float32)
        found[start : start + len(pixels)] = forward(tf.constant(pixels)).numpy()
        return len(pixels)

    with ThreadPoolExecutor(workers) as pool:
        # No more batches in flight than threads to work on them: memory does not grow with the split.
        running: list[Future[int]] = []
        for start in range(0, len(images), batch):
            if len(running) == workers:
                advance(running.pop(0).result())
            running.append(pool.submit(one, start))
        for each in running:
            advance(each.result())
    return found


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
