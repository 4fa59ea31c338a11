"""Transfer: layers of the same name and shape begin with the file's weights, the last one never."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from medsweep.errors import ArtifactError
from medsweep.train.backbones import build_network
from medsweep.train.warm_start import take_over


def network(seed: int, backbone: str = "plain", *, classes: int = 2, size: int = 16, **more: Any) -> keras.Model:
    hyper = {"depth": 2, "width": 2, "dropout": 0.0} | ({"batch_norm": True} if backbone == "plain" else {}) | more
    return build_network(
        backbone=backbone,
        hyper=hyper,
        activation="relu",
        pooling="average",
        standardize="image",
        input_shape=(size, size, 1),
        n_outputs=classes,
        task="multiclass",
        value_range=255,
        mean=[0.5],
        deviation=[0.2],
        seed=seed,
    )


def weights(model: keras.Model) -> dict[str, list[np.ndarray]]:
    return {layer.name: layer.get_weights() for layer in model.layers if layer.weights}


@pytest.fixture
def earlier(tmp_path: Path) -> tuple[keras.Model, Path]:
    model = network(1)
    path = tmp_path / "earlier.keras"
    model.save(path)
    return model, path


def test_all_but_the_last_layer_is_taken_over_by_another_data_set(earlier: tuple[keras.Model, Path]) -> None:
    model = network(2, classes=5, size=28)
    before, known = weights(model), weights(earlier[0])
    taken = take_over(model, earlier[1])
    after = weights(model)
    for name in after:
        wanted = before if name == "logits" else known
        assert all(np.array_equal(*pair) for pair in zip(after[name], wanted[name], strict=True)), name
    assert taken == sum(each.size for name, all_ in known.items() if name != "logits" for each in all_)


def test_a_layer_of_another_shape_begins_anew(earlier: tuple[keras.Model, Path]) -> None:
    model = network(2, width=4)
    before = weights(model)
    assert take_over(model, earlier[1]) == 0
    after = weights(model)
    assert all(np.array_equal(*pair) for name in after for pair in zip(after[name], before[name], strict=True))


def test_another_backbone_takes_nothing_over(earlier: tuple[keras.Model, Path]) -> None:
    assert take_over(network(2, "separable"), earlier[1]) == 0


def test_what_is_no_model_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "no.keras"
    path.write_text("no model")
    with pytest.raises(ArtifactError, match=r"train\.warm_start.*cannot be read"):
        take_over(network(1), path)
