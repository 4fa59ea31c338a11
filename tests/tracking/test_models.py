from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medsweep.artifacts.files import digest_file
from medsweep.artifacts.trained import TrainedModel
from medsweep.errors import ArtifactError
from medsweep.tracking.models import input_example, requirements, save_mlflow_model


@pytest.fixture
def manifest() -> TrainedModel:
    return TrainedModel(
        model_digest="d",
        members=(0,),
        class_names=("a", "b"),
        task="binary",
        input_shape=(16, 16, 1),
        value_range=255,
        objective="val_auroc",
        objective_value=0.9,
        threshold=(0.5,),
        threshold_rule="half",
        temperature=1.0,
        trial={},
        facts={},
        n_trials={},
        digests={},
        search_key="s",
        synthetic=False,
    )


def _save(path: Path, manifest: TrainedModel, folder: Path) -> Any:
    from mlflow.models import Model

    save_mlflow_model(path, manifest, folder, mlflow_model=Model(model_id="m-1", model_uuid="m-1"))
    return Model.load(str(folder / "MLmodel"))


def test_a_saved_model_takes_raw_pixels_and_says_so(keras_model: Path, manifest: TrainedModel, tmp_path: Path) -> None:
    import mlflow

    folder = tmp_path / "model"
    head = _save(keras_model, manifest, folder)
    assert head.signature.inputs.to_dict()[0]["tensor-spec"] == {"dtype": "uint8", "shape": (-1, 16, 16, 1)}
    assert head.signature.outputs.to_dict()[0]["tensor-spec"] == {"dtype": "float32", "shape": (-1, 2)}
    assert head.metadata["class_names"] == ["a", "b"]
    assert np.array_equal(head.load_input_example(str(folder)), input_example(manifest))
    assert digest_file(folder / "data/model.keras") == digest_file(keras_model)
    assert set(requirements()) <= set((folder / "requirements.txt").read_text().split())
    assert all("==" in each for each in requirements())

    pixels = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 1), dtype=np.uint8)
    probabilities = mlflow.pyfunc.load_model(str(folder)).predict(pixels)
    assert probabilities.shape == (3, 2) and np.allclose(probabilities.sum(axis=1), 1, atol=1e-5)


def test_sixteen_bit_pixels_stay_sixteen_bit(manifest: TrainedModel) -> None:
    wide = input_example(replace(manifest, value_range=65535, input_shape=(4, 6, 3)))
    assert (wide.dtype, wide.shape, int(wide.min()), int(wide.max())) == (np.uint16, (1, 4, 6, 3), 0, 65535)


def test_a_model_of_another_shape_or_none_at_all_is_refused(
    keras_model: Path, manifest: TrainedModel, tmp_path: Path
) -> None:
    with pytest.raises(ArtifactError, match="manifest"):
        _save(keras_model, replace(manifest, input_shape=(28, 28, 1)), tmp_path / "one")
    broken = tmp_path / "broken.keras"
    broken.write_bytes(b"no model")
    with pytest.raises(ArtifactError, match="can't load"):
        _save(broken, manifest, tmp_path / "two")
