"""The stage on small models whose probabilities are known in closed form, against scikit-learn."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from medsweep import params as params_module
from medsweep.artifacts import files
from medsweep.artifacts.evaluation import EvaluationReport
from medsweep.artifacts.features import FeatureStatistics
from medsweep.artifacts.predicted import PredictedSplit
from medsweep.artifacts.prepared import PreparedSplit
from medsweep.artifacts.record import Task
from medsweep.artifacts.run_log import read_log
from medsweep.artifacts.trained import TrainedModel
from medsweep.artifacts.validation import ValidationPredictions
from medsweep.errors import ArtifactError, DataError
from medsweep.evaluate import figures, stage
from medsweep.evaluate.parts import PARTS
from medsweep.layout import Layout
from medsweep.statistics.areas import auroc_intervals

PARAMS = Path(__file__).parents[2] / "params.yaml"
SIZE = 16
N = 90


@dataclass(frozen=True)
class Case:
    """One kind of task: a model's Dense weights over the mean of each channel, and its class names."""

    task: Task
    class_names: tuple[str, ...]
    weights: tuple[tuple[float, ...], ...]
    bias: tuple[float, ...]
    threshold: tuple[float, ...]
    channels: int


CASES = {
    "binary": Case("binary", ("benign", "malignant"), ((0.0, 9.0),), (0.0, -4.5), (0.4,), 1),
    "multiclass": Case(
        "multiclass",
        ("normal", "benign", "malignant"),
        ((6.0, 0.0, 0.0), (0.0, 6.0, 0.0), (0.0, 0.0, 6.0)),
        (0.0, 0.0, 0.2),
        (),
        3,
    ),
    "ordinal": Case("ordinal", ("none", "mild", "severe"), ((-9.0, 0.0, 9.0),), (4.0, 0.6, -4.6), (), 1),
    "multilabel": Case(
        "multilabel", ("effusion", "mass/nodule"), ((8.0, 0.0), (0.0, 8.0), (0.0, 0.0)), (-4.0, -4.0), (0.45, 0.55), 3
    ),
}


def make_split(case: Case, *, n: int = N, dtype: Any = np.uint8, seed: int = 3) -> PreparedSplit:
    """Images whose channel means go with the label, with enough noise for mistakes; three images a patient."""
    rng = np.random.default_rng(seed)
    k = len(case.class_names)
    labels: Any
    if case.task == "multilabel":
        labels = rng.integers(0, 2, (n, k)).astype(np.uint8)
        centre = np.concatenate([labels, np.zeros((n, 3 - k))], axis=1)[:, : case.channels]
    else:
        labels = (np.arange(n) % k).astype(np.int64)
        centre = (labels / (k - 1))[:, None] if case.channels == 1 else np.eye(k)[labels]
    means = 0.5 + 0.25 * (centre - 0.5) + rng.normal(0, 0.16, (n, case.channels))
    top = np.iinfo(dtype).max
    noise = rng.normal(0, 0.05, (n, SIZE, SIZE, case.channels))
    images = (np.clip(means[:, None, None, :] + noise, 0, 1) * top).astype(dtype)
    return PreparedSplit(
        name="test",
        images=images,
        labels=labels,
        record_ids=np.array([files.digest_of([seed, i]) for i in range(n)], dtype=np.str_),
        patient_ids=np.array([f"p{i // 3:03d}" for i in range(n)], dtype=np.str_),
        class_names=case.class_names,
        task=case.task,
        value_range=int(top),
        columns={"site": np.array(["north", "south"], dtype=np.str_)[np.arange(n) % 2]},
    )


def expected_probabilities(case: Case, split: PreparedSplit) -> np.ndarray:
    means = np.asarray(split.images, dtype=np.float64).mean(axis=(1, 2)) / split.value_range
    logits = means @ np.array(case.weights) + np.array(case.bias)
    if case.task == "multilabel":
        return 1 / (1 + np.exp(-logits))
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def save_model(case: Case, path: Path, *, value_range: int = 255, bias: tuple[float, ...] | None = None) -> None:
    import keras

    inputs = keras.Input((SIZE, SIZE, case.channels))
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1.0 / value_range)(inputs))
    activation = "sigmoid" if case.task == "multilabel" else "softmax"
    dense = keras.layers.Dense(len(case.class_names), name="logits")
    model = keras.Model(inputs, keras.layers.Activation(activation, name="probabilities")(dense(pooled)))
    dense.set_weights([np.array(case.weights), np.array(bias or case.bias)])
    path.parent.mkdir(parents=True, exist_ok=True)
    model.save(path)


def manifest_for(case: Case, model: Path, **changes: Any) -> TrainedModel:
    known: dict[str, Any] = {
        "model_digest": files.digest_file(model),
        "members": (3,),
        "class_names": case.class_names,
        "task": case.task,
        "input_shape": (SIZE, SIZE, case.channels),
        "value_range": 255,
        "objective": "val_auroc",
        "objective_value": 0.9,
        "threshold": case.threshold,
        "threshold_rule": "youden",
        "temperature": 1.0,
        "trial": {"train.space.optimizer": "adam", "train.space.loss": "focal", "train.space.backbone": "plain"},
        "facts": {"parameters": 4},
        "n_trials": {"complete": 1},
        "digests": {"prepared_train": "0" * 64},
        "search_key": "5" * 64,
        "synthetic": False,
    }
    return TrainedModel(**(known | changes))


def write_beside(case: Case, layout: Layout) -> dict[str, str]:
    """What train writes beside the model, of validation images drawn as the test images are; their digests."""
    split = make_split(case, n=60, seed=4)
    means = np.asarray(split.images, dtype=np.float64).mean(axis=(1, 2)) / split.value_range
    FeatureStatistics(means.mean(axis=0, keepdims=True), np.cov(means.T).reshape(case.channels, -1)).save(
        layout.features
    )
    ValidationPredictions(
        record_ids=split.record_ids,
        patient_ids=split.patient_ids,
        labels=split.labels,
        probabilities=expected_probabilities(case, split),
        distances=np.linspace(0.1, 3, 60),
        energies=np.linspace(-3, -0.1, 60),
    ).save(layout.validation, class_names=case.class_names)
    return {path.name: files.digest_file(path) for path in (layout.validation, layout.features)}


def make_params(**evaluate: Any) -> params_module.Params:
    raw = params_module.load_yaml(PARAMS)
    raw["experiment"] = "the-experiments-name"
    raw["evaluate"]["bootstrap"]["samples"] = 200
    raw["evaluate"]["parts"] = []  # each has tests of its own
    raw["evaluate"] |= evaluate
    return params_module.parse(raw, where="params.yaml")


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """One saved model a task: a Keras archive's bytes hold its date, so tests that compare bytes must share it."""
    folder = tmp_path_factory.mktemp("models")
    found = {}
    for name, case in CASES.items():
        save_model(case, folder / f"{name}.keras")
        found[name] = folder / f"{name}.keras"
    return found


@pytest.fixture
def project(tmp_path: Path, models: Mapping[str, Path], write_before: Callable[..., None]) -> Callable[..., Layout]:
    """A project with a model, a test split, what prepare and the search told of theirs, and nothing else."""

    def make(name: str, split: PreparedSplit | None = None, folder: str = "project", **changes: Any) -> Layout:
        case = CASES[name]
        layout = Layout(tmp_path / folder, tmp_path / folder)
        layout.models.mkdir(parents=True)
        layout.params.write_bytes(PARAMS.read_bytes())
        layout.model.write_bytes(models[name].read_bytes())
        beside = write_beside(case, layout)
        manifest_for(case, layout.model, **({"files": beside} | changes)).save(layout.trained)
        write_before(layout, case.class_names, case.task)
        (make_split(case) if split is None else split).save(layout.prepared_split("test"))
        return layout

    return make


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves the pictures out: they take most of the stage's time, and few tests look at them."""
    for name in ("roc", "precision_recall", "calibration", "confusion", "worst_mistakes"):
        monkeypatch.setattr(figures, name, lambda *_: None)


def evaluate(layout: Layout, **changes: Any) -> stage.EvaluateSummary:
    return stage.run(make_params(**changes), layout, Console(quiet=True))


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def outputs(layout: Layout) -> dict[str, bytes]:
    """Every file that the stage wrote below reports/, but its log."""
    found = {path.relative_to(layout.reports).as_posix(): path for path in layout.reports.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if path != layout.evaluation_log}


@pytest.mark.usefixtures("undrawn")
def test_binary_figures_equal_scikit_learn(project: Callable[..., Layout]) -> None:
    from sklearn import metrics

    layout = project("binary")
    report = evaluate(layout).report
    split = make_split(CASES["binary"])
    truth, scores = split.labels, expected_probabilities(CASES["binary"], split)[:, 1]
    decided = (scores >= 0.4).astype(int)
    true_negative, false_positive, false_negative, true_positive = metrics.confusion_matrix(truth, decided).ravel()
    expected = {
        "auroc": metrics.roc_auc_score(truth, scores),
        "average_precision": metrics.average_precision_score(truth, scores),
        "accuracy": metrics.accuracy_score(truth, decided),
        "accuracy_at_half": metrics.accuracy_score(truth, scores > 0.5),
        "balanced_accuracy": metrics.balanced_accuracy_score(truth, decided),
        "sensitivity": true_positive / (true_positive + false_negative),
        "specificity": true_negative / (true_negative + false_positive),
        "ppv": metrics.precision_score(truth, decided),
        "npv": true_negative / (true_negative + false_negative),
        "f1": metrics.f1_score(truth, decided),
        "mcc": metrics.matthews_corrcoef(truth, decided),
        "cohen_kappa": metrics.cohen_kappa_score(truth, decided),
        "brier": metrics.brier_score_loss(truth, scores),
        "log_loss": metrics.log_loss(truth, scores),
        "loss": metrics.log_loss(truth, scores),
    }
    assert 0.6 < expected["auroc"] < 0.98, "the case must leave room for mistakes"
    for name, value in expected.items():
        assert report.metrics[name].value == pytest.approx(value, abs=1e-6), name
        assert report.metrics[name].low < report.metrics[name].value < report.metrics[name].high, name
    assert set(report.metrics) == {*expected, "ece"}
    assert np.array(report.confusion).tolist() == [[true_negative, false_positive], [false_negative, true_positive]]
    assert (report.n_images, report.n_patients, report.resampled) == (N, N // 3, "patients")
    assert report.per_class["malignant"]["support"] == N / 2

    short = json.loads(layout.metrics.read_text())
    assert short["test"]["auroc"]["value"] == report.metrics["auroc"].value
    assert EvaluationReport.load(layout.evaluation) == report


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("name", ["multiclass", "ordinal"])
def test_several_classes_equal_scikit_learn(project: Callable[..., Layout], name: str) -> None:
    from sklearn import metrics

    layout = project(name)
    report = evaluate(layout).report
    split = make_split(CASES[name])
    scores = expected_probabilities(CASES[name], split)
    decided = scores.argmax(axis=1)
    found = report.metrics
    assert found["auroc"].value == pytest.approx(
        metrics.roc_auc_score(split.labels, scores, multi_class="ovr", average="macro"), abs=1e-6
    )
    assert found["accuracy"].value == pytest.approx(metrics.accuracy_score(split.labels, decided))
    assert found["mcc"].value == pytest.approx(metrics.matthews_corrcoef(split.labels, decided))
    assert found["log_loss"].value == pytest.approx(metrics.log_loss(split.labels, scores), abs=1e-6)
    weighting = "quadratic" if name == "ordinal" else None
    assert found["cohen_kappa"].value == pytest.approx(
        metrics.cohen_kappa_score(split.labels, decided, weights=weighting)
    )
    assert report.confusion == metrics.confusion_matrix(split.labels, decided).tolist()
    for k, each in enumerate(split.class_names):
        own = metrics.roc_auc_score(split.labels == k, scores[:, k])
        assert report.per_class[each]["auroc"] == pytest.approx(own, abs=1e-6)
        curve = read_csv(layout.evaluation_plots / "roc" / f"{k}_{each}.csv")
        area = np.trapezoid([float(row["tpr"]) for row in curve], [float(row["fpr"]) for row in curve])
        assert area == pytest.approx(own, abs=1e-6)


@pytest.mark.usefixtures("undrawn")
def test_multilabel_figures_equal_scikit_learn(project: Callable[..., Layout]) -> None:
    from sklearn import metrics

    layout = project("multilabel")
    report = evaluate(layout).report
    split = make_split(CASES["multilabel"])
    scores = expected_probabilities(CASES["multilabel"], split)
    decided = (scores >= np.array([0.45, 0.55])).astype(int)
    assert report.metrics["auroc"].value == pytest.approx(
        metrics.roc_auc_score(split.labels, scores, average="macro"), abs=1e-6
    )
    assert report.metrics["accuracy"].value == pytest.approx((decided == split.labels).mean())
    assert report.confusion == metrics.multilabel_confusion_matrix(split.labels, decided).tolist()
    rows = read_csv(layout.predictions)
    assert [int(row["decision_mass/nodule"]) for row in rows] == decided[:, 1].tolist()
    assert [int(row["label_effusion"]) for row in rows] == split.labels[:, 0].tolist()
    pairs = read_csv(layout.evaluation_plots / "confusion.csv")
    assert len(pairs) == 2 * N
    wrong = sum(row["actual"] != row["predicted"] for row in pairs)
    assert wrong == int((decided != split.labels).sum())
    assert (layout.evaluation_plots / "roc" / "1_mass_nodule.csv").is_file()


@pytest.mark.usefixtures("undrawn")
def test_predictions_name_every_image(project: Callable[..., Layout]) -> None:
    layout = project("binary")
    evaluate(layout)
    split = make_split(CASES["binary"])
    expected = expected_probabilities(CASES["binary"], split)
    rows = read_csv(layout.predictions)
    assert list(rows[0]) == [
        "record_id",
        "patient",
        "label",
        "probability_benign",
        "probability_malignant",
        "decision",
        "site",
    ]
    assert [row["record_id"] for row in rows] == split.record_ids.tolist()
    assert [row["patient"] for row in rows] == split.patient_ids.tolist()
    assert [row["site"] for row in rows] == split.columns["site"].tolist()
    assert [row["label"] for row in rows] == [split.class_names[each] for each in split.labels]
    assert [row["decision"] for row in rows] == [split.class_names[int(p >= 0.4)] for p in expected[:, 1]]
    np.testing.assert_allclose([float(row["probability_malignant"]) for row in rows], expected[:, 1], atol=1e-6)


@pytest.mark.usefixtures("undrawn")
def test_threshold_is_the_manifests(project: Callable[..., Layout]) -> None:
    low, high = (evaluate(project("binary", folder=str(cut), threshold=(cut,))).report for cut in (0.2, 0.8))
    assert low.metrics["sensitivity"].value > high.metrics["sensitivity"].value
    assert low.metrics["auroc"] == high.metrics["auroc"]
    assert (low.threshold, high.threshold) == ((0.2,), (0.8,))
    assert low.key != high.key, "another manifest is another evaluation"


def test_same_bytes_twice_with_any_number_of_workers(project: Callable[..., Layout]) -> None:
    first, second = project("multiclass", folder="one"), project("multiclass", folder="two")
    raw = make_params()
    one = raw.model_copy(update={"runtime": raw.runtime.model_copy(update={"workers": 1})})
    many = raw.model_copy(update={"runtime": raw.runtime.model_copy(update={"workers": 3})})
    stage.run(one, first, Console(quiet=True))
    stage.run(many, second, Console(quiet=True))
    written = outputs(first)
    assert {"metrics.json", "evaluation.json", "predictions.csv", "plots/roc.svg"} <= set(written)
    assert {"report.html", "model_card.md", "claim_checklist.md"} <= set(written)
    assert written == outputs(second)
    stage.run(one, first, Console(quiet=True))
    assert outputs(first) == written
    for name, content in written.items():
        assert str(first.root).encode() not in content, name
        assert not name.endswith(".png") or b"tEXt" not in content, name


@pytest.mark.usefixtures("undrawn")
def test_reads_no_split_but_test(project: Callable[..., Layout]) -> None:
    layout = project("binary")
    assert sorted(path.name for path in layout.prepared.iterdir()) == ["test"]
    evaluate(layout)
    for split in ("train", "val"):
        layout.prepared_split(split).mkdir()
        (layout.prepared_split(split) / "split.json").write_text("not even JSON")
    evaluate(layout)
    assert sorted(path.name for path in layout.state.iterdir()) == ["test_evaluations.jsonl", "work"]
    assert list((layout.state / "work" / "evaluate").iterdir()) == [], "nothing half-done stays behind"


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"class_names": ("malignant", "benign")}, "another classes"),
        ({"task": "ordinal", "threshold": ()}, "another task"),
        ({"input_shape": (SIZE, SIZE, 3)}, "another image shape"),
        ({"value_range": 65535}, "another value range"),
    ],
)
def test_refuses_what_does_not_fit(project: Callable[..., Layout], changes: dict[str, Any], words: str) -> None:
    layout = project("binary", **changes)
    with pytest.raises(ArtifactError, match=words) as caught:
        evaluate(layout)
    assert "models/trained.json" in str(caught.value)
    assert not layout.evaluation.exists()


@pytest.mark.usefixtures("undrawn")
def test_refuses_changed_files(project: Callable[..., Layout]) -> None:
    layout = project("binary", folder="model")
    layout.model.write_bytes(layout.model.read_bytes() + b"x")
    with pytest.raises(ArtifactError, match="digest differs"):
        evaluate(layout)

    layout = project("binary", folder="split")
    labels = layout.prepared_split("test") / "labels.npy"
    content = bytearray(labels.read_bytes())
    content[-8] ^= 1
    labels.write_bytes(content)
    with pytest.raises(ArtifactError, match="digest differs"):
        evaluate(layout)


@pytest.mark.usefixtures("undrawn")
def test_refuses_a_model_of_another_shape(project: Callable[..., Layout], models: Mapping[str, Path]) -> None:
    layout = project("binary")
    layout.model.write_bytes(models["multiclass"].read_bytes())
    manifest_for(CASES["binary"], layout.model).save(layout.trained)
    with pytest.raises(ArtifactError, match="takes images of the shape"):
        evaluate(layout)
    layout.model.write_bytes(models["ordinal"].read_bytes())
    manifest_for(CASES["binary"], layout.model).save(layout.trained)
    with pytest.raises(ArtifactError, match="gives probabilities of the shape"):
        evaluate(layout)


@pytest.mark.usefixtures("undrawn")
def test_missing_inputs_are_named(project: Callable[..., Layout]) -> None:
    layout = project("binary")
    layout.model.unlink()
    with pytest.raises(ArtifactError, match="dvc repro train"):
        evaluate(layout)
    layout.trained.unlink()
    with pytest.raises(ArtifactError, match="dvc repro train"):
        evaluate(layout)

    for path, maker in (("trials", "train"), ("data_quality", "prepare")):
        layout = project("binary", folder=path)
        getattr(layout, path).unlink()
        with pytest.raises(ArtifactError, match=f"dvc repro {maker}"):
            evaluate(layout)
        assert not layout.state.exists(), "it is said before anything is computed"


@pytest.mark.usefixtures("undrawn")
def test_a_model_that_gives_nan_is_refused(project: Callable[..., Layout]) -> None:
    layout = project("binary")
    save_model(CASES["binary"], layout.model, bias=(0.0, float("nan")))
    manifest_for(CASES["binary"], layout.model).save(layout.trained)
    with pytest.raises(DataError, match="NaN"):
        evaluate(layout)
    assert not layout.evaluation.exists()


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("name", ["binary", "multiclass", "multilabel"])
def test_one_class_only_says_why(project: Callable[..., Layout], name: str) -> None:
    split = make_split(CASES[name])
    layout = project(name, replace(split, labels=np.zeros_like(split.labels)))
    summary = evaluate(layout)
    assert summary.report.metrics["auroc"].value is None
    assert summary.report.metrics["accuracy"].value is not None
    missing = CASES[name].class_names[-1]
    assert "no test image is" in summary.undefined["auroc"] and f"'{missing}'" in summary.undefined["auroc"]
    assert any("AUROC" in line and "Undefined" in line for line in summary.lines())
    assert json.loads(layout.metrics.read_text())["test"]["auroc"] == {"value": None, "low": None, "high": None}


@pytest.mark.usefixtures("undrawn")
def test_an_empty_test_split_is_refused_in_words(project: Callable[..., Layout]) -> None:
    split = make_split(CASES["binary"])
    empty = replace(
        split,
        images=split.images[:0],
        labels=split.labels[:0],
        record_ids=split.record_ids[:0],
        patient_ids=split.patient_ids[:0],
        columns={},
    )
    layout = project("binary", empty)
    with pytest.raises(DataError, match="has no image"):
        evaluate(layout)


@pytest.mark.usefixtures("undrawn")
def test_one_image_gives_values_without_intervals(project: Callable[..., Layout]) -> None:
    split = make_split(CASES["binary"], n=1)
    summary = evaluate(project("binary", split))
    assert summary.report.metrics["log_loss"].value is not None
    assert summary.report.metrics["log_loss"].low is None
    assert any("No intervals" in line for line in summary.lines())


@pytest.mark.usefixtures("undrawn")
def test_the_headline_aurocs_interval_is_from_its_variance_and_resampling_stands_beside_it(
    project: Callable[..., Layout],
) -> None:
    split = make_split(CASES["binary"])
    layout = project("binary", split)
    summary = evaluate(layout)
    report = EvaluationReport.load(layout.evaluation)
    predicted = PredictedSplit.load(layout.predictions)
    (expected,) = auroc_intervals("binary", split.labels, predicted.probabilities, split.groups, 0.95)
    headline, drawn = report.metrics["auroc"], report.drawn_auroc
    assert (headline.low, headline.high) == pytest.approx((expected.low, expected.high), abs=1e-6)
    assert drawn is not None and drawn.value == headline.value
    assert (drawn.low, drawn.high) != (headline.low, headline.high)
    assert (drawn.low, drawn.high) == pytest.approx((headline.low, headline.high), abs=0.05)
    assert any("AUROC by Obuchowski's variance, of all else by resampling patients" in each for each in summary.lines())


@pytest.mark.usefixtures("undrawn")
def test_without_patients_images_are_resampled(project: Callable[..., Layout]) -> None:
    split = make_split(CASES["binary"])
    alone = replace(split, patient_ids=np.full(N, "", dtype=np.str_))
    with_patients = evaluate(project("binary", folder="with")).report
    without = evaluate(project("binary", alone, folder="without")).report
    assert (without.resampled, without.n_patients) == ("images", None)
    assert without.metrics["auroc"].value == with_patients.metrics["auroc"].value
    assert without.metrics["auroc"].low != with_patients.metrics["auroc"].low


@pytest.mark.usefixtures("undrawn")
def test_phantoms_show_the_oracle(project: Callable[..., Layout]) -> None:
    from sklearn import metrics

    split = make_split(CASES["binary"])
    scores = split.labels + np.random.default_rng(5).normal(0, 0.5, N)
    columns = {"oracle_score": np.array([repr(float(each)) for each in scores], dtype=np.str_)}
    layout = project("binary", replace(split, columns=columns, synthetic=True), synthetic=True)
    summary = evaluate(layout)
    expected = metrics.roc_auc_score(split.labels, scores)
    assert summary.report.oracle_auroc == pytest.approx(expected)
    assert summary.report.synthetic
    assert any("oracle" in line and f"{expected:.3f}" in line for line in summary.lines())
    assert "synthetic" in summary.lines()[0]
    assert json.loads(layout.metrics.read_text())["test"]["oracle_auroc"]["value"] == pytest.approx(expected)

    real = project("binary", replace(split, columns=columns), folder="real")
    assert evaluate(real).report.oracle_auroc is None


def test_the_log_tells_the_publisher_everything(project: Callable[..., Layout]) -> None:
    layout = project("binary")
    summary = evaluate(layout)
    events = list(read_log(layout.evaluation_log))
    kinds = [each["event"] for each in events]
    assert kinds[0] == "begin" and kinds[-1] == "end" and kinds.count("version") == 1
    begin = events[0]
    assert begin["kind"] == "evaluation" and begin["key"] == summary.report.key
    assert begin["params"]["evaluate.bootstrap.samples"] == 200
    assert begin["params"]["train.space.optimizer"] == "adam"
    assert begin["datasets"][0]["digest"] == PreparedSplit.load(layout.prepared_split("test")).digest
    assert all(isinstance(value, str) for value in begin["tags"].values())
    text = layout.evaluation_log.read_text(encoding="utf-8")
    assert "the-experiments-name" not in text
    assert str(layout.root) not in text

    pictures = {each["path"]: each["digest"] for each in events if each["event"] == "picture"}
    assert {"reports/plots/roc.svg", "reports/plots/worst_mistakes.png", "reports/predictions.csv"} <= set(pictures)
    assert {"reports/report.html", "reports/model_card.md", "reports/claim_checklist.md"} <= set(pictures)
    for path, digest in pictures.items():
        assert files.digest_file(layout.root / path) == digest

    values = next(each["values"] for each in events if each["event"] == "metrics")
    known = summary.report.metrics["auroc"]
    assert (values["auroc"], values["auroc_low"], values["auroc_high"]) == (known.value, known.low, known.high)
    note = next(each["text"] for each in events if each["event"] == "note")
    assert f"| AUROC | {known.value:.3f} | {known.low:.3f} | {known.high:.3f} |" in note
    assert "threshold 0.4" in note and "so far: **1**" in note
    version = next(each for each in events if each["event"] == "version")
    assert version["model_digest"] == files.digest_file(layout.root / version["model"])
    assert version["source_key"] == "5" * 64 and f"{known.value:.3f}" in version["description"]


@pytest.mark.usefixtures("undrawn")
def test_every_look_at_the_test_split_is_counted(project: Callable[..., Layout]) -> None:
    layout = project("binary")
    assert evaluate(layout).evaluations == 1
    assert evaluate(layout).evaluations == 1, "the same model again is no other look"
    assert evaluate(layout, calibration_bins=5).evaluations == 1
    before = layout.metrics.read_bytes()
    save_model(CASES["binary"], layout.model, bias=(0.0, -4.0))
    manifest_for(CASES["binary"], layout.model).save(layout.trained)
    summary = evaluate(layout)
    assert summary.evaluations == 2
    assert any("2 different models" in line for line in summary.lines())
    assert b"evaluations" not in layout.metrics.read_bytes() + before + layout.evaluation.read_bytes()


def test_worst_mistakes_are_the_surest(project: Callable[..., Layout]) -> None:
    case = CASES["multiclass"]
    split = make_split(case)
    scores = expected_probabilities(case, split)
    shown, total = stage._mistakes(split, scores, scores.argmax(axis=1), 5)
    wrong = scores.argmax(axis=1) != split.labels
    assert total == wrong.sum() and len(shown) == 5
    np.testing.assert_allclose([each.probability for each in shown], np.sort(scores.max(axis=1)[wrong])[::-1][:5])
    for each in shown:
        row = split.record_ids.tolist().index(each.record_id)
        assert each.label == case.class_names[split.labels[row]] != each.decision
        np.testing.assert_array_equal(each.pixels, split.images[row])

    layout = project("multiclass")
    evaluate(layout, worst_mistakes=0)
    assert not (layout.evaluation_plots / "worst_mistakes.png").exists()


@pytest.mark.usefixtures("undrawn")
def test_sixteen_bit_images(project: Callable[..., Layout], tmp_path: Path) -> None:
    case = CASES["binary"]
    split = make_split(case, dtype=np.uint16)
    layout = project("binary", split, value_range=65535)
    save_model(case, layout.model, value_range=65535)
    manifest_for(case, layout.model, value_range=65535).save(layout.trained)
    evaluate(layout)
    found = [float(row["probability_malignant"]) for row in read_csv(layout.predictions)]
    np.testing.assert_allclose(found, expected_probabilities(case, split)[:, 1], atol=1e-6)


# -- bad cases, with every part on -------------------------------------------------------------------------------------


def evaluate_with_everything(layout: Layout) -> stage.EvaluateSummary:
    summary = evaluate(layout, parts=list(PARTS))
    assert [each.name for each in summary.report.sections] == list(PARTS)
    for section in summary.report.sections:
        assert section.words and all(section.words)
        for drawn in section.figures:
            assert (layout.reports / drawn.path).is_file() and drawn.alt
    assert EvaluationReport.load(layout.evaluation) == summary.report
    said = summary.lines()
    assert [f"Caution: {each}" for each in summary.report.cautions] == [x for x in said if x.startswith("Caution")]
    return summary


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("name", CASES)
def test_one_class_only_with_every_part(project: Callable[..., Layout], name: str) -> None:
    split = make_split(CASES[name], n=45)
    layout = project(name, replace(split, labels=np.zeros_like(split.labels)))
    summary = evaluate_with_everything(layout)
    assert any(f"No test image is '{CASES[name].class_names[-1]}'" in each for each in summary.report.cautions)


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("name", CASES)
def test_five_patients_with_every_part(project: Callable[..., Layout], name: str) -> None:
    summary = evaluate_with_everything(project(name, make_split(CASES[name], n=15)))
    assert any("only 5 patients" in each for each in summary.report.cautions)


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("name", CASES)
def test_all_predictions_equal_with_every_part(project: Callable[..., Layout], name: str) -> None:
    case = CASES[name]
    layout = project(name, make_split(case, n=45))
    same = replace(case, weights=tuple(tuple(0.0 for _ in row) for row in case.weights))
    save_model(same, layout.model)
    manifest_for(case, layout.model).save(layout.trained)
    summary = evaluate_with_everything(layout)
    assert any("same probabilities" in each for each in summary.report.cautions)


@pytest.mark.usefixtures("undrawn")
def test_one_image_with_every_part(project: Callable[..., Layout]) -> None:
    summary = evaluate_with_everything(project("binary", make_split(CASES["binary"], n=1)))
    assert any("one patient only" in each for each in summary.report.cautions)
