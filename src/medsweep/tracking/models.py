"""A trained Keras model as MLflow keeps it: raw pixels in, probabilities out."""

from __future__ import annotations

import contextlib
import shutil
import warnings
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medsweep.artifacts.trained import TrainedModel
from medsweep.errors import ArtifactError

if TYPE_CHECKING:
    from mlflow.models import Model

_NEEDED = ("tensorflow-cpu", "tensorflow", "keras", "numpy")


def save_mlflow_model(model_path: Path, manifest: TrainedModel, folder: Path, *, mlflow_model: Model) -> None:
    """Write the model in MLflow's format, with signature, input example and requirements, into the new `folder`.

    The signature says: (-1, H, W, C) raw pixels, uint8 or uint16 by the manifest's value range, in; (-1, K) float32
    probabilities out. The input example is a ramp of grey, for no patient's image leaves with a model. The
    requirements are named outright: MLflow's way of inferring them takes seconds.

    Args:
        model_path: the .keras file that train wrote; the copy in `folder` has the same bytes.
        manifest: what train wrote beside it.
        folder: must not exist yet.
        mlflow_model: MLflow's head of it (its ids).

    Raises:
        ArtifactError: Keras can't load the model, or its input is not what the manifest says.
    """
    import mlflow.tensorflow
    import tensorflow as tf
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    # TensorFlow refuses once it has begun to work, as it may have in evaluate: then its owner has set them.
    with contextlib.suppress(RuntimeError):
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    model = _load(model_path)
    if tuple(model.input_shape[1:]) != manifest.input_shape:
        raise ArtifactError(
            f"takes {tuple(model.input_shape[1:])}, where its manifest says {manifest.input_shape}.",
            where=str(model_path),
        )
    example = input_example(manifest)
    signature = ModelSignature(
        inputs=Schema([TensorSpec(example.dtype, (-1, *manifest.input_shape))]),
        outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, *model.output_shape[1:]))]),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.tensorflow.save_model(
            model,
            path=str(folder),
            mlflow_model=mlflow_model,
            signature=signature,
            input_example=example,
            pip_requirements=requirements(),
            metadata={
                "class_names": list(manifest.class_names),
                "task": manifest.task,
                "threshold": list(manifest.threshold),
                "value_range": manifest.value_range,
                "synthetic": manifest.synthetic,
                "model_digest": manifest.model_digest,
            },
        )
    shutil.copyfile(model_path, folder / "data" / "model.keras")


def input_example(manifest: TrainedModel) -> NDArray[Any]:
    """One raw image, (1, H, W, C): a diagonal ramp from black to the value range."""
    height, width, channels = manifest.input_shape
    dtype = np.uint8 if manifest.value_range <= np.iinfo(np.uint8).max else np.uint16
    ramp = np.add.outer(np.linspace(0.0, 0.5, height), np.linspace(0.0, 0.5, width)) * manifest.value_range
    return np.repeat(np.rint(ramp).astype(dtype)[None, :, :, None], channels, axis=3)


def requirements() -> list[str]:
    """The packages that the model needs, at the versions it was logged with."""
    found = []
    for name in _NEEDED:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found.append(f"{name}=={metadata.version(name)}")
    return found


def _load(path: Path) -> Any:
    import keras

    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except (ValueError, TypeError, OSError, KeyError) as error:
        why = " ".join(str(error).split())[:200]
        raise ArtifactError(f"Keras can't load it ({why}).", where=str(path), fix="Run dvc repro -f train.") from None
