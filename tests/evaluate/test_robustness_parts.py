"""Robustness and strangeness of a model in closed form: it reads the mean brightness and nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from medsweep import params as params_module
from medsweep.artifacts import files
from medsweep.artifacts.evaluation import Estimate, EvaluationReport
from medsweep.artifacts.features import FeatureStatistics
from medsweep.artifacts.prepared import PreparedSplit
from medsweep.artifacts.section import Section
from medsweep.artifacts.trained import TrainedModel
from medsweep.artifacts.validation import ValidationPredictions
from medsweep.errors import ArtifactError
from medsweep.evaluate.drawn_images import drawn
from medsweep.evaluate.parts import PARTS, Evaluated
from medsweep.evaluate.predict import Predictor
from medsweep.imaging.corruptions import CORRUPTIONS, FOREIGN, corrupted
from medsweep.layout import Layout
from medsweep.statistics.operating_points import decide

PARAMS = Path(__file__).parents[2] / "params.yaml"
SIDE = 24
NAMES = ("dark", "bright")


def images_of(labels: np.ndarray, seed: int) -> np.ndarray:
    """Grey images whose left half is brighter for class 1; the right half is a fixed 0.5."""
    rng = np.random.default_rng(seed)
    level = 0.45 + 0.1 * labels + rng.normal(0, 0.05, len(labels))
    found = np.full((len(labels), SIDE, SIDE, 1), 0.5)
    found[:, :, : SIDE // 2, 0] = level[:, None, None]
    found += rng.normal(0, 0.01, found.shape)
    return (np.clip(found, 0, 1) * 255).astype(np.uint8)


def save_model(path: Path, *, named: bool = True, broken: bool = False) -> None:
    """Probabilities of the difference between the means of the two halves; NaN for bright images where `broken`."""
    import keras

    pixels = keras.Input((SIDE, SIDE, 1))
    scaled = keras.layers.Rescaling(1 / 255)(pixels)
    halves = [
        keras.layers.GlobalAveragePooling2D()(keras.layers.Cropping2D(((0, 0), crop))(scaled))
        for crop in ((0, SIDE // 2), (SIDE // 2, 0))
    ]
    features = keras.layers.Concatenate(name="features")(halves)
    dense = keras.layers.Dense(2, name="logits" if named else "other")
    found = keras.layers.Activation("softmax", name="probabilities")(dense(features))
    model = keras.Model(pixels, found)
    scale = np.inf if broken else 20.0
    dense.set_weights([np.array([[0.0, scale], [0.0, -scale]]), np.array([0.0, 0.0])])
    model.save(path)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    made = {"good": {}, "unnamed": {"named": False}, "broken": {"broken": True}}
    for name, settings in made.items():
        save_model(folder / f"{name}.keras", **settings)  # type: ignore[arg-type]
    return {name: folder / f"{name}.keras" for name in made}


Make = Callable[..., Evaluated]


@pytest.fixture
def make(tmp_path: Path, models: dict[str, Path]) -> Make:
    def make(
        n: int = 80, *, model: str = "good", labels: Any = None, folder: str = "a", workers: int = 2, **evaluate: Any
    ) -> Evaluated:
        raw = params_module.load_yaml(PARAMS)
        raw["evaluate"] |= evaluate
        raw["runtime"]["workers"] = workers
        layout = Layout(tmp_path / folder, tmp_path / folder)
        layout.models.mkdir(parents=True)
        plots = tmp_path / folder / "plots"
        plots.mkdir()
        layout.model.write_bytes(models[model].read_bytes())
        labels = np.arange(n) % 2 if labels is None else labels
        split = PreparedSplit(
            name="test",
            images=images_of(labels, 1),
            labels=labels.astype(np.int64),
            record_ids=np.array([f"r{i:04d}" for i in range(n)], dtype=np.str_),
            patient_ids=np.array([f"p{i // 2}" for i in range(n)], dtype=np.str_),
            class_names=NAMES,
            task="binary",
            value_range=255,
            synthetic=True,
        )
        past = np.arange(100) % 2
        features = images_of(past, 2).reshape(100, SIDE, 2, SIDE // 2).mean(axis=(1, 3)) / 255
        centred = features - np.stack([features[past == k].mean(axis=0) for k in (0, 1)])[past]
        means = np.stack([features[past == k].mean(axis=0) for k in (0, 1)])
        statistics = FeatureStatistics(means, np.cov(centred.T))
        statistics.save(layout.features)
        from medsweep.statistics.features import mahalanobis

        ValidationPredictions(
            record_ids=np.array([f"v{i}" for i in range(100)]),
            patient_ids=np.array([""] * 100),
            labels=past,
            probabilities=np.full((100, 2), 0.5),
            distances=mahalanobis(features, means, statistics.covariance),
            energies=np.zeros(100),
        ).save(layout.validation, class_names=NAMES)
        predictor = Predictor(models["good"], (SIDE, SIDE, 1), n_classes=2, workers=1)
        p = predictor.probabilities(n, 64, lambda start, stop: split.images[start:stop], lambda _: None)
        manifest = TrainedModel(
            model_digest="d" * 64,
            members=(0,),
            class_names=NAMES,
            task="binary",
            input_shape=(SIDE, SIDE, 1),
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
            search_key="k",
            synthetic=True,
            files={path.name: files.digest_file(path) for path in (layout.validation, layout.features)},
        )
        report = EvaluationReport(
            metrics={"accuracy": Estimate(0.9, 0.8, 1.0)},
            per_class={},
            confusion=[],
            class_names=NAMES,
            task="binary",
            n_images=n,
            n_patients=split.n_patients,
            confidence=0.95,
            resampled="patients",
            threshold=(0.5,),
            oracle_auroc=None,
            digests={},
            key="k",
            synthetic=True,
        )
        params = params_module.parse(raw, where="params.yaml")
        told: list[float] = []
        return Evaluated(params, layout, split, manifest, p, decide("binary", p, (0.5,)), report, plots, told.append)

    return make


def said(section: Section) -> str:
    return " ".join([*section.words, *section.warnings])


@pytest.mark.parametrize("name", ["robustness", "out_of_distribution"])
def test_a_part_is_whole_and_the_same_with_any_number_of_workers(name: str, make: Make) -> None:
    written = []
    for folder, workers in (("a", 1), ("b", 3)):
        at = make(folder=folder, workers=workers)
        section = PARTS[name](at)
        files.write_json(at.plots / "section.json", asdict(section))
        assert not re.search(r"\bnan\b", said(section), re.IGNORECASE) and all(each.alt for each in section.figures)
        drawn_files = {path.name: path.read_bytes() for path in sorted(at.plots.iterdir())}
        written.append(drawn_files)
        assert b"#b00020" in drawn_files[f"{name}.svg"].lower(), "'synthetic' is missing"
    assert written[0] == written[1]


def test_curves_are_those_of_the_corrupted_images(make: Make, models: dict[str, Path]) -> None:
    at = make()
    section = PARTS["robustness"](at)
    assert list(section.values["corruptions"]) == list(CORRUPTIONS) and len(section.tables[0].rows) == 14
    truth, clean = at.split.labels, at.probabilities[:, 1]
    assert section.values["clean"]["auroc"] == pytest.approx(roc_auc_score(truth, clean), abs=1e-6)
    predictor = Predictor(models["good"], (SIDE, SIDE, 1), n_classes=2, workers=1)
    for name in ("noise", "gain", "collimation"):
        changed = corrupted(np.asarray(at.split.images), at.split.record_ids.tolist(), name, 5, value_range=255, seed=7)
        p = predictor.probabilities(80, 64, lambda start, stop, those=changed: those[start:stop], lambda _: None)
        found = section.values["corruptions"][name]
        assert found["auroc"][4] == pytest.approx(roc_auc_score(truth, p[:, 1]), abs=1e-6)
        assert found["accuracy"][4] == pytest.approx(((p[:, 1] >= 0.5) == truth).mean(), abs=1e-6)
        assert found["flipped"][4] == pytest.approx(((p[:, 1] >= 0.5) != (clean >= 0.5)).mean(), abs=1e-6)
        mean = np.mean(found["auroc"]) - section.values["clean"]["auroc"]
        assert found["change"]["value"] == pytest.approx(mean, abs=2e-6)
        assert found["change"]["low"] <= found["change"]["value"] <= found["change"]["high"]
    # A model of means cares for no blur, and for a shadow on one side.
    assert abs(section.values["corruptions"]["blur"]["change"]["value"]) < 0.02
    assert section.values["corruptions"]["shadow"]["change"]["value"] < -0.05
    assert "shadow" in section.words[0] and "beyond chance under" in said(section)


def test_images_are_drawn_by_record_and_not_by_place(make: Make) -> None:
    at = make()
    rows = drawn(at.split, 30, 7)
    assert len(rows) == 30 and (np.diff(rows) > 0).all() and len(drawn(at.split, 500, 7)) == 80
    turned = replace(
        at.split,
        images=at.split.images[::-1],
        labels=at.split.labels[::-1].copy(),
        record_ids=at.split.record_ids[::-1].copy(),
        patient_ids=at.split.patient_ids[::-1].copy(),
    )
    assert set(turned.record_ids[drawn(turned, 30, 7)]) == set(at.split.record_ids[rows])
    assert set(drawn(at.split, 30, 8)) != set(rows)
    few = PARTS["robustness"](make(folder="b", robustness={"images": 20, "seed": 7}))
    assert "On 20 of the 80 test images, drawn at random" in few.words[0]


def test_strange_images_are_told_by_their_distance(make: Make) -> None:
    at = make()
    section = PARTS["out_of_distribution"](at)
    assert list(section.values["sets"]) == [*CORRUPTIONS, *FOREIGN]
    sets = section.values["sets"]
    for name in ("clouds", "blank", "shapes", "inverted"):
        assert sets[name]["kind"] == "foreign"
    assert sets["clouds"]["distance"]["value"] > 0.9 and sets["clouds"]["flagged"] > 0.8
    assert sets["brightness"]["distance"]["value"] > 0.95
    assert section.values["flagged"]["value"] <= section.values["flagged"]["expected"][1]
    assert "not like the validation images" not in said(section)


def test_test_images_from_elsewhere_are_said_to_be(make: Make) -> None:
    at = make()
    elsewhere = replace(at.split, images=np.clip(at.split.images.astype(int) + 60, 0, 255).astype(np.uint8))
    section = PARTS["out_of_distribution"](replace(at, split=elsewhere))
    assert section.values["flagged"]["value"] > 0.9
    assert "the test images are not like the validation images" in section.words[0]
    assert any("may come from another scanner" in each for each in section.warnings)
    # Validation images that the network was trained on are no measure for new ones.
    manifest = replace(at.manifest, final={"trained_on": "training and validation"})
    told = PARTS["out_of_distribution"](replace(at, split=elsewhere, manifest=manifest))
    assert "that says nothing" in told.words[0] and "another scanner" not in said(told)


# -- bad cases ---------------------------------------------------------------------------------------------------------


def test_numbers_that_are_none_are_said(make: Make) -> None:
    at = make(model="broken")
    section = PARTS["robustness"](at)
    files.write_json(at.plots / "s.json", asdict(section))
    assert "gave no number (NaN) for" in said(section)
    strange = PARTS["out_of_distribution"](at)
    files.write_json(at.plots / "s.json", asdict(strange))


@pytest.mark.parametrize("name", ["robustness", "out_of_distribution"])
def test_one_class_only_and_five_patients(name: str, make: Make) -> None:
    one = PARTS[name](make(12, labels=np.zeros(12, np.int64)))
    files.write_json(make(folder="b").plots / "s.json", asdict(one))
    if name == "robustness":
        assert "no image is 'bright'" in said(one) and "AUROC is undefined" in one.words[0]
    assert "only 5 patients" in said(PARTS[name](make(10, folder="c")))


def test_a_model_of_other_make_has_no_features_to_look_at(make: Make) -> None:
    section = PARTS["out_of_distribution"](make(model="unnamed"))
    assert section.words == ("The model has no layer 'logits', so its features cannot be looked at.",)


def test_changed_feature_statistics_are_one_line(make: Make) -> None:
    at = make()
    at.layout.features.write_bytes(at.layout.features.read_bytes() + b" ")
    with pytest.raises(ArtifactError, match=r"features\.npz: is not what the stage wrote"):
        PARTS["out_of_distribution"](at)
