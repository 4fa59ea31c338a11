"""The part on a network that finds bright spots: what it shows, what it warns of, and the same bytes twice."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medsweep import params as params_module
from medsweep.artifacts import files
from medsweep.artifacts.evaluation import EvaluationReport
from medsweep.artifacts.prepared import PreparedSplit
from medsweep.artifacts.section import Section
from medsweep.artifacts.trained import TrainedModel
from medsweep.evaluate.explanations import explanations
from medsweep.evaluate.parts import PARTS, Evaluated
from medsweep.explain.method import Method
from medsweep.explain.methods import METHODS
from medsweep.explain.network import Network
from medsweep.layout import Layout
from medsweep.statistics.operating_points import decide

PARAMS = Path(__file__).parents[2] / "params.yaml"
SIZE = 16


def spotter(path: Path) -> None:
    """Class 1 where it is bright somewhere."""
    import keras
    from keras import layers

    pixels = keras.Input((SIZE, SIZE, 1))
    convolution = layers.Conv2D(2, 3, padding="same")
    features = layers.Activation("relu")(convolution(layers.Rescaling(1 / 255)(pixels)))
    dense = layers.Dense(2)
    model = keras.Model(pixels, layers.Softmax()(dense(layers.GlobalAveragePooling2D()(features))))
    kernel = np.zeros((3, 3, 1, 2), dtype=np.float32)
    kernel[..., 0], kernel[1, 1, 0, 1] = 1 / 9, -1.0
    convolution.set_weights([kernel, np.array([-0.3, 0.2], dtype=np.float32)])
    dense.set_weights([np.array([[-40.0, 80.0], [5.0, -5.0]]), np.array([0.5, -1.0])])
    path.parent.mkdir(parents=True, exist_ok=True)
    model.save(path)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("spotter") / "model.keras"
    spotter(path)
    return path


def make_split(n: int = 24, *, masked: bool = True) -> PreparedSplit:
    rng = np.random.default_rng(8)
    labels = (np.arange(n) % 2).astype(np.int64)
    images = rng.integers(20, 70, (n, SIZE, SIZE, 1)).astype(np.uint8)
    masks = np.zeros((n, SIZE, SIZE), dtype=np.uint8)
    for index, (row, column) in enumerate(rng.integers(1, 11, (n, 2))):
        masks[index, row : row + 4, column : column + 4] = 1
        # Some spots are fainter than their label says.
        brighter = rng.integers(20, 160) if labels[index] else rng.integers(0, 60)
        images[index][masks[index] == 1] += np.uint8(brighter)
    return PreparedSplit(
        name="test",
        images=images,
        labels=labels,
        record_ids=np.array([files.digest_of([8, index]) for index in range(n)]),
        patient_ids=np.array([f"p{index // 2}" for index in range(n)]),
        class_names=("dark", "bright"),
        task="binary",
        value_range=255,
        masks=masks if masked else None,
        synthetic=masked,
    )


@pytest.fixture
def evaluated(tmp_path: Path, model: Path) -> Callable[..., Evaluated]:
    def make(folder: str = "one", *, split: PreparedSplit | None = None, **changes: Any) -> Evaluated:
        layout = Layout(tmp_path / folder, tmp_path / folder)
        layout.models.mkdir(parents=True)
        layout.model.write_bytes(model.read_bytes())
        (layout.root / "plots").mkdir()
        raw = params_module.load_yaml(PARAMS)
        raw["evaluate"]["explanations"] |= {"images": 10, "cases": 1, "draws": 1, "steps": 4, "samples": 2, **changes}
        raw["evaluate"]["bootstrap"]["samples"] = 200
        split = make_split() if split is None else split
        probabilities = Network.load(layout.model).probabilities(split.images).astype(np.float64)
        report = EvaluationReport(
            metrics={},
            per_class={},
            confusion=[],
            class_names=split.class_names,
            task="binary",
            n_images=len(split),
            n_patients=split.n_patients,
            confidence=0.95,
            resampled="patients",
            threshold=(0.5,),
            oracle_auroc=None,
            digests={},
            key="k",
            synthetic=split.synthetic,
        )
        manifest = TrainedModel(
            model_digest=files.digest_file(layout.model),
            members=(0,),
            class_names=split.class_names,
            task="binary",
            input_shape=(SIZE, SIZE, 1),
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
            synthetic=split.synthetic,
        )
        return Evaluated(
            params=params_module.parse(raw, where="params.yaml"),
            layout=layout,
            split=split,
            manifest=manifest,
            probabilities=probabilities,
            decisions=decide("binary", probabilities, (0.5,)),
            report=report,
            plots=layout.root / "plots",
            advance=lambda share: None,
        )

    return make


def test_the_part_is_on_by_default_and_in_the_table(default_params: dict[str, Any]) -> None:
    assert PARTS["explanations"] is explanations
    assert "explanations" in default_params["evaluate"]["parts"]


def test_what_the_section_says(evaluated: Callable[..., Evaluated]) -> None:
    given = evaluated()
    shares: list[float] = []
    section = explanations(replace(given, advance=shares.append))
    assert shares == sorted(shares) and shares[0] > 0 and shares[-1] <= 1
    assert Section.of(json.loads(json.dumps(asdict(section)))) == section, "it survives JSON: no NaN, no arrays"
    assert [case["kind"] for case in section.values["cases"]] == ["right", "wrong", "near"]
    assert section.values["images"] == 10
    methods = section.values["methods"]
    assert list(methods) == list(METHODS)
    checks, agreement, pointing = section.tables
    assert [row[0] for row in checks.rows] == [row.title for row in METHODS.values()]
    assert [row[0] for row in agreement.rows] == list(agreement.columns[1:])
    assert [row[0] for row in pointing.rows][-2:] == ["a point at random", "the image's centre"]
    # This network looks at the spot, and the methods find that out.
    assert methods["grad_cam"]["names_what_counts"] and methods["occlusion"]["names_what_counts"]
    bright = pointing.columns.index("… 'bright' explained")
    assert float(str(pointing.rows[0][bright])) >= 0.8
    assert float(str(pointing.rows[-2][1])) < 0.15


def test_a_method_that_fails_is_marked_in_words(
    evaluated: Callable[..., Evaluated], monkeypatch: pytest.MonkeyPatch
) -> None:
    def rows_of_the_image(member: Any, z: np.ndarray, classes: np.ndarray, settings: Any) -> np.ndarray:
        return np.broadcast_to(np.arange(SIZE, dtype=np.float32)[None, :, None], z.shape[:3]).copy()

    known = METHODS["smooth_grad"]
    monkeypatch.setitem(METHODS, "smooth_grad", Method(rows_of_the_image, known.title, False, known.what, known.source))
    section = explanations(evaluated(methods=["grad_cam", "smooth_grad"]))
    row = next(row for row in section.tables[0].rows if row[0] == "SmoothGrad")
    assert "FAILS: random weights give almost the same maps" in str(row[1])
    assert not section.values["methods"]["smooth_grad"]["passed"]
    assert any("SmoothGrad failed the model-randomisation test" in each for each in section.warnings)
    assert "SmoothGrad" in section.words[0] and "must not be read as evidence" in section.words[0]


def test_the_same_bytes_twice(evaluated: Callable[..., Evaluated]) -> None:
    first, second = (evaluated(each, methods=["grad_cam", "smooth_grad"]) for each in ("one", "two"))
    assert explanations(first) == explanations(second)
    for name in ("explanations.svg", "explanation_curves.svg"):
        content = (first.plots / name).read_bytes()
        assert content == (second.plots / name).read_bytes()
        assert str(first.layout.root).encode() not in content
        assert b"<title>" in content and re.search(rb"<dc:date>", content) is None


def test_figures_are_there_with_words_for_those_who_cannot_see_them(evaluated: Callable[..., Evaluated]) -> None:
    given = evaluated(methods=["grad_cam"])
    section = explanations(given)
    for each in section.figures:
        assert (given.layout.root / each.path).is_file()
        assert len(each.alt) > 40 and len(each.caption) > 40
    assert "synthetic" in section.figures[0].alt


def test_without_masks_nothing_is_said_of_lesions(evaluated: Callable[..., Evaluated]) -> None:
    section = explanations(evaluated(split=make_split(masked=False), methods=["grad_cam", "occlusion"]))
    assert len(section.tables) == 2
    assert "pointing_game" not in section.values["methods"]["grad_cam"]
    assert "synthetic" not in section.figures[0].alt


def test_a_model_that_cannot_be_explained_costs_nothing_else(evaluated: Callable[..., Evaluated]) -> None:
    import keras

    given = evaluated()
    keras.Sequential(
        [keras.Input((SIZE, SIZE, 1)), keras.layers.Flatten(), keras.layers.Dense(2, activation="softmax")]
    ).save(given.layout.model)
    section = explanations(given)
    assert "no convolution" in section.words[0] and section.warnings == section.words
    assert not section.figures


def test_a_split_of_two_images_without_a_mistake_is_enough(evaluated: Callable[..., Evaluated]) -> None:
    whole = make_split()
    given = evaluated("whole", split=whole)
    right = np.flatnonzero(given.decisions == whole.labels)
    rows = np.array([right[whole.labels[right] == 0][0], right[whole.labels[right] == 1][0]])
    assert whole.masks is not None
    two = replace(
        whole,
        images=whole.images[rows],
        labels=whole.labels[rows],
        record_ids=whole.record_ids[rows],
        patient_ids=whole.patient_ids[rows],
        masks=whole.masks[rows],
    )
    section = explanations(evaluated("two", split=two, methods=["grad_cam"]))
    assert [case["kind"] for case in section.values["cases"]] == ["right", "near"]
    assert any("No decision on the test split was wrong" in each for each in section.words)


def test_several_labels_an_image_are_explained_one_label_each(evaluated: Callable[..., Evaluated]) -> None:
    import keras
    from keras import layers

    given = evaluated(methods=["grad_cam", "integrated_gradients"])
    names, rng = ("mass", "effusion", "nodule"), np.random.default_rng(9)
    keras.utils.set_random_seed(3)
    keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 1)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(4, 3, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3, activation="sigmoid"),
        ]
    ).save(given.layout.model)
    labels = rng.integers(0, 2, (len(given.split), 3)).astype(np.uint8)
    split = replace(given.split, task="multilabel", class_names=names, labels=labels)
    probabilities = Network.load(given.layout.model).probabilities(split.images).astype(np.float64)
    threshold = (0.5, 0.5, 0.5)
    several = replace(
        given,
        split=split,
        manifest=replace(given.manifest, task="multilabel", class_names=names, threshold=threshold),
        probabilities=probabilities,
        decisions=decide("multilabel", probabilities, threshold),
    )
    section = explanations(several)
    assert {case["kind"] for case in section.values["cases"]} == {"right", "wrong", "near"}
    assert any(f"'{name}' explained" in column for name in names for column in section.tables[-1].columns)
