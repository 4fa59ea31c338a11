"""`medsweep explain`: the answer equals the model's, by the threshold of the manifest, and the picture is there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML

from medsweep.artifacts import files
from medsweep.artifacts.prepared import PreparedImage, PreparedSplit
from medsweep.artifacts.trained import TrainedModel
from medsweep.errors import ArtifactError, ParamsError
from medsweep.evaluate.one_image import Subject, explain_image
from medsweep.layout import Layout
from medsweep.params import parse

Answer = tuple[int, str, str]


@pytest.fixture
def layout(
    tmp_path: Path,
    keras_model: Path,
    default_params: dict[str, Any],
    write_split: Callable[..., PreparedSplit],
    monkeypatch: pytest.MonkeyPatch,
) -> Layout:
    """A project at 16 × 16 with a model and a test split, which is the current folder."""
    found = json.loads(json.dumps(default_params))
    found["prepare"]["image"] |= {"height": 16, "width": 16}
    found["evaluate"]["explanations"] |= {"steps": 4, "samples": 2}
    with (tmp_path / "params.yaml").open("w", encoding="utf-8") as stream:
        YAML().dump(found, stream)
    (tmp_path / "dvc.yaml").write_text("stages: {}\n", encoding="utf-8")
    layout = Layout(tmp_path, tmp_path)
    layout.models.mkdir()
    layout.model.write_bytes(keras_model.read_bytes())
    TrainedModel(
        model_digest=files.digest_file(layout.model),
        members=(0,),
        class_names=("benign", "malignant"),
        task="binary",
        input_shape=(16, 16, 1),
        value_range=255,
        objective="val_auroc",
        objective_value=0.8,
        threshold=(0.4,),
        threshold_rule="youden",
        temperature=1.0,
        trial={},
        facts={},
        n_trials={},
        digests={},
        search_key="s",
        synthetic=False,
    ).save(layout.trained)
    write_split(layout.prepared_split("test"), "test", task="binary", classes=2)
    monkeypatch.chdir(tmp_path)
    return layout


def test_a_record_is_explained(layout: Layout, medsweep: Callable[..., Answer]) -> None:
    import keras

    code, out, err = medsweep("explain", "test0003", "--json", "--output", "map.png")
    assert code == 0, err
    found = json.loads(out)
    split = PreparedSplit.load(layout.prepared_split("test"))
    expected = np.asarray(keras.saving.load_model(layout.model)(np.asarray(split.images[3:4], dtype=np.float32)))[0]
    np.testing.assert_allclose(list(found["probabilities"].values()), expected, atol=1e-6)
    assert found["decision"] == ("malignant" if expected[1] >= 0.4 else "benign") == found["explained"]
    assert found["threshold"] == {"malignant": 0.4}
    assert found["failed"] is None
    with Image.open(layout.root / "map.png") as picture:
        assert picture.width > 500
    before = (layout.root / "map.png").read_bytes()
    medsweep("explain", "test0003", "--output", "map.png")
    assert (layout.root / "map.png").read_bytes() == before


def test_a_file_in_words_and_one_method(layout: Layout, medsweep: Callable[..., Answer]) -> None:
    Image.fromarray(np.full((20, 24), 99, dtype=np.uint8)).save("scan.png")
    arguments = ("explain", "scan.png", "--method", "grad_cam", "--class", "benign", "--output", "a.svg")
    code, out, err = medsweep(*arguments)
    assert code == 0, err
    assert "scan.png, by models/model.keras:" in out
    assert "malignant from 0.4, the model's threshold" in out
    assert "What speaks for 'benign', by grad_cam: a.svg" in out
    assert "not a medical device" in out
    assert "<title>" in (layout.root / "a.svg").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("test0003", "--method", "lime"), "unknown method 'lime'"),
        (("test0003", "--class", "cyst"), "unknown class 'cyst'"),
        (("test0003", "--output", "a.pdf"), "neither .svg nor .png"),
        (("nowhere.png",), "neither a file nor"),
    ],
)
def test_what_is_wrong_is_one_line(
    layout: Layout, medsweep: Callable[..., Answer], arguments: tuple[str, ...], words: str
) -> None:
    code, _, err = medsweep("explain", *arguments)
    assert code == 2 and words in err and "Traceback" not in err


def test_an_image_of_another_size_is_refused(layout: Layout, default_params: dict[str, Any]) -> None:
    picture = PreparedImage("a", np.zeros((28, 28, 1), dtype=np.uint8), None, 255, False)
    with pytest.raises(ArtifactError, match=r"takes images of \(16, 16, 1\)"):
        explain_image(
            picture,
            Subject.of_workspace(layout),
            parse(default_params, where="params.yaml"),
            layout,
            methods=[],
            class_name=None,
            output=layout.root / "a.png",
        )


def test_a_method_is_refused_before_the_model_is_read(layout: Layout, default_params: dict[str, Any]) -> None:
    layout.model.write_bytes(b"no model")
    subject = Subject(layout.model, "m", ("a", "b"), "binary", (0.5,), 255, False, "")
    picture = PreparedImage("a", np.zeros((16, 16, 1), dtype=np.uint8), None, 255, False)
    with pytest.raises(ParamsError, match="Choose from: grad_cam"):
        explain_image(
            picture,
            subject,
            parse(default_params, where="params.yaml"),
            layout,
            methods=["lime"],
            class_name=None,
            output=layout.root / "a.png",
        )
