"""The first weights of a network from an earlier model, or from weights that others learnt."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medsweep.errors import ArtifactError
from medsweep.train.backbones import BACKBONES

if TYPE_CHECKING:
    import keras
    from numpy.typing import NDArray

WHERE = "train.warm_start"
# It belongs to the classes of its own data.
_LAST = "logits"


def take_over(model: keras.Model, path: Path) -> int:
    """Give each layer that the file has too, by name and shapes, the weights of the file; how many numbers they are.

    A file is a Keras model, or the weights of one as keras.applications publishes them (HDF5). Nothing is taken over
    where it is another backbone's: the same name would mean another layer there. Of the networks of keras.applications
    each has layer names of its own, whatever the model in the file is called.

    Raises:
        ArtifactError: the file is neither.
    """
    name, known = _weights_of(path)
    if name != model.name and not (model.name in BACKBONES and BACKBONES[model.name].pretrained):
        return 0
    taken = 0
    for layer in model.layers:
        weights = known.get(layer.name)
        shapes = [tuple(each.shape) for each in layer.weights]
        if layer.name == _LAST or not shapes or weights is None or [each.shape for each in weights] != shapes:
            continue
        layer.set_weights(weights)
        taken += sum(each.size for each in weights)
    return taken


@lru_cache(maxsize=1)
def _weights_of(path: Path) -> tuple[str, dict[str, list[NDArray[Any]]]]:
    """The name of the model in a file (empty where it has weights alone), and its weights by layer."""
    import h5py
    import keras

    if h5py.is_hdf5(path):
        return "", _published(path)
    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except (ValueError, TypeError, OSError, KeyError) as error:
        why = " ".join(str(error).split())[:200]
        raise ArtifactError(f"cannot be read as a Keras model ({why}).", where=WHERE) from None
    return model.name, {layer.name: layer.get_weights() for layer in model.layers}


def _published(path: Path) -> dict[str, list[NDArray[Any]]]:
    """Weights by layer from a file as keras.applications publishes them: a group a layer, named in its attributes."""
    import h5py
    import numpy as np

    def names(group: Any, key: str) -> list[str]:
        return [each.decode() if isinstance(each, bytes) else str(each) for each in group.attrs[key]]

    try:
        with h5py.File(path, "r") as file:
            top = file.get("model_weights", file)
            return {
                layer: [np.asarray(top[layer][each]) for each in names(top[layer], "weight_names")]
                for layer in names(top, "layer_names")
            }
    except (OSError, KeyError, ValueError) as error:
        raise ArtifactError(
            f"has no weights in the form of keras.applications ({' '.join(str(error).split())[:200]}).",
            where=WHERE,
            fix="Give one of its *_notop.h5 files, or a model that was saved as .keras.",
        ) from None
