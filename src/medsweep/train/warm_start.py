"""The first weights of a network from an earlier model."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medsweep.errors import ArtifactError

if TYPE_CHECKING:
    import keras
    from numpy.typing import NDArray

WHERE = "train.warm_start"
# It belongs to the classes of its own data.
_LAST = "logits"


def take_over(model: keras.Model, path: Path) -> int:
    """Give each layer that the file has too, by name and shapes, the weights of the file; how many numbers they are.

    Nothing is taken over where the file is another backbone's: the same name would mean another layer there.

    Raises:
        ArtifactError: the file is no Keras model.
    """
    name, known = _weights_of(path)
    if name != model.name:
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
    """The name of the model in a file, and its weights by layer."""
    import keras

    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except (ValueError, TypeError, OSError, KeyError) as error:
        why = " ".join(str(error).split())[:200]
        raise ArtifactError(f"cannot be read as a Keras model ({why}).", where=WHERE) from None
    return model.name, {layer.name: layer.get_weights() for layer in model.layers}
