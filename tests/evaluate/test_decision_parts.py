"""The parts on decisions: what they say of simulated models whose truth is known, their bytes, and bad cases."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medsweep import params as params_module
from medsweep.artifacts import files
from medsweep.artifacts.evaluation import Estimate, EvaluationReport
from medsweep.artifacts.prepared import PreparedSplit
from medsweep.artifacts.record import Task
from medsweep.artifacts.section import Section
from medsweep.artifacts.trained import TrainedModel
from medsweep.artifacts.validation import ValidationPredictions
from medsweep.errors import ArtifactError
from medsweep.evaluate.parts import PARTS, Evaluated
from medsweep.layout import Layout
from medsweep.params import OperatingPoints
from medsweep.statistics.operating_points import decide
from medsweep.statistics.temperature import tempered
from medsweep.train.decisions import DecisionRules, fit_decisions

PARAMS = Path(__file__).parents[2] / "params.yaml"
NAMES = {"binary": ("benign", "malignant"), "multilabel": ("mass", "a, b & <c>"), "multiclass": ("a", "b", "c")}
DECISIONS = ("operating_points", "decision_curve", "calibration", "conformal", "abstention")


def simulated(task: Task, n: int, seed: int, *, signal: float = 2.0, scale: float = 1.0) -> tuple[Any, Any]:
    """Labels and logits; with `scale` 1 and `signal` 2 nearly calibrated, with the scale above 1 too sure."""
    rng = np.random.default_rng(seed)
    k = len(NAMES[task])
    if task == "multilabel":
        labels = rng.integers(0, 2, (n, k)).astype(np.uint8)
        return labels, scale * signal * (rng.normal(0, 1, (n, k)) + signal * (labels - 0.5))
    labels = rng.integers(0, k, n)
    return labels, scale * signal * (rng.normal(0, 1, (n, k)) + signal * np.eye(k)[labels])


Make = Callable[..., Evaluated]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A simulated evaluation: validation and test images drawn alike, unless the test split's `signal` differs."""

    def make(
        task: Task = "binary",
        n: int = 300,
        *,
        signal: float = 2.0,
        temperature: float = 1.0,
        images_a_patient: int = 1,
        folder: str = "a",
        labels: Any = None,
        probabilities: Any = None,
        **evaluate: Any,
    ) -> Evaluated:
        raw = params_module.load_yaml(PARAMS)
        raw["evaluate"]["bootstrap"]["samples"] = 200
        raw["evaluate"] |= evaluate
        params = params_module.parse(raw, where="params.yaml")
        root = tmp_path / folder
        layout = Layout(root, root)
        (root / "models").mkdir(parents=True)
        (root / "plots").mkdir()
        names = NAMES[task]
        val_labels, val_logits = simulated(task, 400, 1, scale=temperature)
        val = tempered(task, val_logits, temperature)
        ValidationPredictions(
            record_ids=np.array([f"v{i}" for i in range(400)]),
            patient_ids=np.array([""] * 400),
            labels=val_labels,
            probabilities=val,
            distances=np.zeros(400),
            energies=np.zeros(400),
        ).save(layout.validation, class_names=names)
        own_labels, logits = simulated(task, n, 2, signal=signal, scale=temperature)
        own_labels = own_labels if labels is None else labels
        p = tempered(task, logits, temperature) if probabilities is None else probabilities
        n = len(p)
        split = PreparedSplit(
            name="test",
            images=np.zeros((n, 16, 16, 1), np.uint8),
            labels=own_labels,
            record_ids=np.array([f"r{i:04d}" for i in range(n)], dtype=np.str_),
            patient_ids=np.array([f"p{i // images_a_patient}" for i in range(n)], dtype=np.str_),
            class_names=names,
            task=task,
            value_range=255,
            synthetic=True,
        )
        points = OperatingPoints(youden=True, sensitivity=[0.95], specificity=[0.95], cost_ratio=[5.0])
        fitted = fit_decisions(DecisionRules("none", "youden", points), task, val_labels, val)
        manifest = TrainedModel(
            model_digest="d" * 64,
            members=(0,),
            class_names=names,
            task=task,
            input_shape=(16, 16, 1),
            value_range=255,
            objective="val_auroc",
            objective_value=0.9,
            threshold=fitted.threshold,
            threshold_rule="youden",
            temperature=temperature,
            trial={},
            facts={},
            n_trials={},
            digests={},
            search_key="k",
            synthetic=True,
            calibration={"temperature_fitted": temperature, "ece_before": 0.2, "ece_after": 0.1, "auroc_before": None},
            operating_points=fitted.operating_points,
            files={"validation.csv": files.digest_file(layout.validation)},
        )
        report = EvaluationReport(
            metrics={"accuracy": Estimate(0.9, 0.8, 1.0)},
            per_class={},
            confusion=[],
            class_names=names,
            task=task,
            n_images=n,
            n_patients=split.n_patients,
            confidence=0.95,
            resampled="patients",
            threshold=fitted.threshold,
            oracle_auroc=None,
            digests={},
            key="k",
            synthetic=True,
        )
        decisions = decide(task, p, fitted.threshold)
        told: list[float] = []
        return Evaluated(params, layout, split, manifest, p, decisions, report, root / "plots", told.append)

    return make


def said(section: Section) -> str:
    return " ".join([*section.words, *section.warnings])


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_every_part_is_whole_and_the_same_twice(task: Task, make: Make, tmp_path: Path) -> None:
    written = []
    for folder in ("a", "b"):
        at = make(task, temperature=2.0, folder=folder, images_a_patient=3)
        for name in DECISIONS:
            section = PARTS[name](at)
            assert section.name == name and section.words and not re.search(r"\bnan\b", said(section), re.IGNORECASE)
            path = at.plots / f"{name}.json"
            files.write_json(path, asdict(section))  # refuses NaN
            assert Section.of(files.read_json(path, made_by="evaluate")) == section
            for each in section.figures:
                drawn = (at.plots.parent / each.path).read_text()
                assert each.alt and "<title>" in drawn and "#b00020" in drawn.lower(), "'synthetic' is missing"
        written.append({path.name: path.read_bytes() for path in sorted(at.plots.iterdir())})
    assert written[0] == written[1]
    assert len(written[0]) == 2 * len(DECISIONS) - (task != "binary")


def test_operating_points_count_what_the_stored_thresholds_do(make: Make) -> None:
    at = make()
    section = PARTS["operating_points"](at)
    labels, p = at.split.labels, at.probabilities[:, 1]
    found = {each["way"]: each for each in section.values["points"]}
    for point in at.manifest.operating_points:
        own = found[point.title]
        called = p >= point.thresholds[0]
        assert own["counts"] == {
            "tp": int((called & (labels == 1)).sum()),
            "fp": int((called & (labels == 0)).sum()),
            "fn": int((~called & (labels == 1)).sum()),
            "tn": int((~called & (labels == 0)).sum()),
        }
        assert own["ppv"]["value"] == pytest.approx(labels[called].mean(), abs=1e-6)
        assert own["sensitivity"]["low"] < own["sensitivity"]["value"] < own["sensitivity"]["high"]
    assert "keeps its promise" in said(section) or "no more than chance" in said(section)
    assert "does not keep" not in said(section)


def test_a_promise_that_the_test_split_breaks_is_said(make: Make) -> None:
    section = PARTS["operating_points"](make(signal=0.4))
    assert "does not keep its promise" in said(section)
    assert any("differ from the validation images" in each for each in section.warnings)


def test_the_decision_curve_says_where_the_model_helps(make: Make) -> None:
    section = PARTS["decision_curve"](make())
    assert "highest net benefit at threshold probabilities of" in section.words[0]
    assert "beyond what chance allows" in section.words[0] or "surely" in section.words[0]
    useless = np.tile([0.5, 0.5], (200, 1))
    at = make(folder="b", labels=np.arange(200) % 2, probabilities=useless)
    assert "never has a higher net benefit" in PARTS["decision_curve"](at).words[0]
    values = section.values["curves"]["malignant"]
    t = section.values["thresholds"].index(0.5)
    assert values["low"][t] < values["model"][t] < values["high"][t]


def test_calibration_shows_what_the_temperature_did(make: Make) -> None:
    at = make(n=2000, temperature=3.0)
    section = PARTS["calibration"](at)
    before, after = section.values["before"], section.values["after"]
    assert after["ece"] < before["ece"] - 0.03 and after["log_loss"] < before["log_loss"]
    assert after["auroc"] == pytest.approx(before["auroc"], abs=1e-9)
    assert before["slope"] < 0.5 < after["slope"] and "falls from" in said(section)
    parts = after["brier_parts"]["malignant"]
    total = parts["reliability"] - parts["resolution"] + parts["uncertainty"] + parts["within_bins"]
    assert total == pytest.approx(parts["brier"], abs=3e-6)
    plain = PARTS["calibration"](make(folder="b"))
    assert "before" not in plain.values and "The model has no temperature." in plain.words
    refused = make(folder="c")
    manifest = replace(refused.manifest, calibration={"temperature_fitted": 1.7})
    assert "(1.7) would have made validation worse" in said(PARTS["calibration"](replace(refused, manifest=manifest)))


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_coverage_is_kept_on_exchangeable_images_and_its_failure_is_said(task: Task, make: Make) -> None:
    at = make(task, n=500)
    kept = PARTS["conformal"](at)
    assert not any(each["fails"] for each in kept.values["groups"]) and "fails" not in said(kept)
    for each in kept.values["groups"]:
        assert each["coverage"]["low"] <= 0.9 <= each["coverage"]["high"] or each["images"] in NAMES[task]
    others = at.probabilities[np.random.default_rng(0).permutation(500)]
    failed = PARTS["conformal"](make(task, labels=at.split.labels, probabilities=others, folder="b"))
    assert any(each["fails"] for each in failed.values["groups"])
    assert "overage fails" in failed.words[0] and any("not like the validation images" in w for w in failed.warnings)


def test_classes_that_calibration_hardly_knows_are_said(make: Make) -> None:
    at = make(conformal={"confidence": 0.999})
    assert "can never be left out" in said(PARTS["conformal"](at))


def test_abstention_counts_right_answers_above_the_cut(make: Make) -> None:
    at = make("multiclass", abstention={"coverages": [1.0, 0.5]})
    section = PARTS["abstention"](at)
    everything, half = section.values["cuts"]
    right = at.decisions == at.split.labels
    assert everything["coverage"]["value"] == 1.0
    assert everything["accuracy"]["value"] == pytest.approx(right.mean(), abs=1e-6)
    cut = np.sort(at.validation.probabilities.max(axis=1))[::-1][199]
    kept = at.probabilities.max(axis=1) >= cut
    assert half["coverage"]["value"] == pytest.approx(kept.mean(), abs=1e-6)
    assert half["accuracy"]["value"] == pytest.approx(right[kept].mean(), abs=1e-6)
    assert half["accuracy"]["value"] > everything["accuracy"]["value"]
    assert section.values["best_aurc"] < section.values["aurc"]["value"] < section.values["error"]


# -- bad cases ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DECISIONS)
@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_one_class_only_is_said(name: str, task: Task, make: Make) -> None:
    p = make(task, 60, folder="b").probabilities
    labels: Any = np.zeros((60, 2), np.uint8) if task == "multilabel" else np.zeros(60, np.int64)
    section = PARTS[name](make(task, labels=labels, probabilities=p))
    files.write_json(Path(make(task, folder="c").plots / "s.json"), asdict(section))
    if name != "abstention":  # right and wrong need no second class
        assert "no image is" in said(section) or "every image is" in said(section)


@pytest.mark.parametrize("name", DECISIONS)
def test_five_patients_are_said_to_be_too_few(name: str, make: Make) -> None:
    assert "only 5 patients: no interval can be trusted" in said(PARTS[name](make(n=15, images_a_patient=3)))


@pytest.mark.parametrize("name", DECISIONS)
@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_equal_predictions_are_no_traceback(name: str, p: float, make: Make) -> None:
    labels = np.arange(40) % 2
    section = PARTS[name](make(labels=labels, probabilities=np.tile([1 - p, p], (40, 1))))
    files.write_json(make(folder="b").plots / "s.json", asdict(section))
    words = {
        "operating_points": "all images have the same probability",
        "decision_curve": "net benefit",
        "calibration": "All images fall into one bin",
        "conformal": "Coverage fails",
        "abstention": "equally sure of everything",
    }
    assert words[name] in said(section)


@pytest.mark.parametrize("name", ["conformal", "abstention"])
def test_missing_or_changed_validation_predictions_are_one_line(name: str, make: Make) -> None:
    at = make()
    at.layout.validation.write_text(at.layout.validation.read_text().replace("benign", "malignant", 1))
    with pytest.raises(ArtifactError, match="its digest differs"):
        PARTS[name](at)
    at.layout.validation.unlink()
    with pytest.raises(ArtifactError, match=r"validation\.csv: does not exist.*dvc repro train"):
        PARTS[name](at)


def test_a_model_without_further_points_says_so(make: Make) -> None:
    at = make()
    section = PARTS["operating_points"](replace(at, manifest=replace(at.manifest, operating_points=())))
    assert "train.operating_points is empty" in said(section) and len(section.tables[0].rows) == 1
