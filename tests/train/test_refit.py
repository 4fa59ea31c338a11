"""The model file: the same bytes twice, built-in layers only, and the probabilities that training saw."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medsweep.artifacts.features import FeatureStatistics
from medsweep.artifacts.files import digest_file
from medsweep.artifacts.prepared import PreparedSplit
from medsweep.artifacts.trial import Named, TrialConfig
from medsweep.artifacts.validation import ValidationPredictions
from medsweep.explain.graph import members_of
from medsweep.params import OperatingPoints, Params
from medsweep.statistics.features import mahalanobis
from medsweep.statistics.metrics import evaluate_all
from medsweep.statistics.operating_points import fit_thresholds
from medsweep.train import network as module
from medsweep.train.decisions import DecisionRules
from medsweep.train.examples import ALL, TrainingData
from medsweep.train.fit import FitTask, finished_network, fit
from medsweep.train.refit import Member, RefitTask, refit

CONFIG = TrialConfig(
    number=0,
    seed=5,
    optimizer=Named("averaged_sgd", {"learning_rate": 0.05, "average_from": 0.25}),
    loss=Named("focal", {"gamma": 2.0}),
    backbone=Named("residual", {"depth": 2, "width": 3, "dropout": 0.3}),
    schedule=Named("constant"),
    activation="gelu",
    pooling="max",
    batch_size=8,
    weight_decay=0.01,
    class_weights="none",
    standardize="image",
    policy="none",
    views=0,
)


RULES = DecisionRules(
    "temperature", "f1", OperatingPoints(youden=True, sensitivity=[0.75], specificity=[], cost_ratio=[2.0])
)


def refit_to(folder: Path, data: TrainingData, checkpoint: Path, rules: DecisionRules = RULES) -> RefitTask:
    return RefitTask(
        (Member(CONFIG, checkpoint),),
        data,
        2,
        save_to=folder / "model.keras",
        validation=folder / "validation.csv",
        features=folder / "features.npz",
        rules=rules,
    )


@pytest.mark.parametrize("task", ["binary", "multilabel"])
def test_the_model_file(
    task: str, small_params: Callable[..., Params], write_data: Callable[..., PreparedSplit], tmp_path: Path
) -> None:
    import keras

    train = write_data(tmp_path, small_params(), task=task, classes=2)
    inside = tmp_path / "data"
    data = TrainingData(inside / "prepared" / "train", inside / "prepared" / "val", inside / "augmented", train.digest)
    checkpoint = tmp_path / "end.npz"
    answer = fit(FitTask(CONFIG, data, 2, 2, None, checkpoint, measure=True))
    assert answer.error is None
    jobs = [refit_to(tmp_path / name, data, checkpoint) for name in ("a", "b")]
    finals = [refit(jobs[0])]
    # A worker that has built other networks since, and builds this one anew at other addresses.
    module.forget_networks()
    others = [module.build_trial_network(replace(CONFIG, seed=seed), train) for seed in (8, 9)]
    finals.append(refit(jobs[1]))
    assert others
    for name in ("model.keras", "validation.csv", "features.npz"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert finals[0].digest == finals[1].digest == digest_file(tmp_path / "a/model.keras")
    assert not list(tmp_path.glob("a/.*")), "something temporary was left"
    with zipfile.ZipFile(tmp_path / "a/model.keras") as archive:
        assert {each.date_time for each in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert str(tmp_path).encode() not in archive.read("config.json")

    model = keras.saving.load_model(tmp_path / "a/model.keras", compile=False, safe_mode=True)
    assert all(type(each).__module__.startswith("keras.") for each in model.layers)
    val = PreparedSplit.load(data.val)
    found = model.predict(np.asarray(val.images), verbose=0)
    with finished_network(FitTask(CONFIG, data, 2, 2, checkpoint, checkpoint, measure=False)) as network:
        seen = network.probabilities(val.images)
    temperature = finals[0].calibration.temperature
    assert model.get_layer("temperature").scale == pytest.approx(1 / temperature)
    z = np.log(seen) if task == "binary" else np.log(seen) - np.log1p(-seen)
    powered = np.exp(z / temperature)
    wanted = powered / powered.sum(axis=1, keepdims=True) if task == "binary" else powered / (1 + powered)
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    last = answer.epochs[-1].validation
    labels = np.eye(2)[val.labels] if task == "binary" else val.labels
    if task == "binary":
        assert last["val_log_loss"] == pytest.approx(float(-np.log((seen * labels).sum(axis=1)).mean()), rel=1e-6)
        assert last["val_accuracy"] == pytest.approx(float((seen.argmax(axis=1) == val.labels).mean()))
    assert finals[0].facts["file_bytes"] == (tmp_path / "a/model.keras").stat().st_size
    assert finals[0].facts["parameters"] == answer.facts["parameters"] == model.count_params()

    stored = ValidationPredictions.load(tmp_path / "a/validation.csv", class_names=val.class_names, task=val.task)
    np.testing.assert_array_equal(stored.record_ids, val.record_ids)
    np.testing.assert_array_equal(stored.labels, val.labels)
    np.testing.assert_allclose(stored.probabilities, found, atol=1e-6)
    fitted = fit_thresholds("f1", val.task, val.labels, stored.probabilities)
    assert finals[0].decisions.threshold == pytest.approx(fitted, abs=1e-8)
    assert [each.rule for each in finals[0].decisions.operating_points] == ["youden", "sensitivity", "cost_ratio"]
    assert all(each is None or each >= 0.75 for each in finals[0].decisions.operating_points[1].sensitivity)
    facts = finals[0].calibration.facts
    assert facts["ece_after"] == pytest.approx(  # type: ignore[comparison-overlap]
        evaluate_all(val.task, val.labels, stored.probabilities, val.labels)["ece"], abs=1e-6
    )

    statistics = FeatureStatistics.load(tmp_path / "a/features.npz")
    inner = keras.Model(model.input, model.get_layer("logits").input)
    features = inner.predict(np.asarray(train.images), verbose=0)
    means = [features[train.labels == k].mean(axis=0) for k in (0, 1)] if task == "binary" else [features.mean(axis=0)]
    np.testing.assert_allclose(statistics.means, means, atol=1e-4)
    of_val = inner.predict(np.asarray(val.images), verbose=0)
    np.testing.assert_allclose(
        stored.distances, mahalanobis(of_val, statistics.means, statistics.covariance), rtol=1e-3
    )
    assert set(finals[0].files) == {"validation.csv", "features.npz"}


def test_without_calibration_the_model_says_what_training_saw(
    small_params: Callable[..., Params], write_data: Callable[..., PreparedSplit], tmp_path: Path
) -> None:
    import keras

    train = write_data(tmp_path, small_params(), classes=2, task="binary")
    inside = tmp_path / "data"
    data = TrainingData(inside / "prepared" / "train", inside / "prepared" / "val", inside / "augmented", train.digest)
    checkpoint = tmp_path / "end.npz"
    assert fit(FitTask(CONFIG, data, 2, 2, None, checkpoint, measure=False)).error is None
    final = refit(refit_to(tmp_path / "a", data, checkpoint, replace(RULES, calibration="none")))
    assert final.calibration.temperature == 1.0
    model = keras.saving.load_model(tmp_path / "a/model.keras", compile=False)
    images = np.asarray(PreparedSplit.load(data.val).images)
    with finished_network(FitTask(CONFIG, data, 2, 2, checkpoint, checkpoint, measure=False)) as network:
        seen = network.probabilities(images)
    np.testing.assert_allclose(model.predict(images, verbose=0), seen, atol=1e-7)


def test_averaged_weights_are_saved_not_the_iterates(
    small_params: Callable[..., Params], write_data: Callable[..., PreparedSplit], tmp_path: Path
) -> None:
    train = write_data(tmp_path, small_params(), classes=2, task="binary")
    inside = tmp_path / "data"
    data = TrainingData(inside / "prepared" / "train", inside / "prepared" / "val", inside / "augmented", train.digest)
    checkpoint = tmp_path / "end.npz"
    task = FitTask(CONFIG, data, 2, 2, None, checkpoint, measure=False)
    assert fit(task).error is None
    end = FitTask(CONFIG, data, 2, 2, checkpoint, checkpoint, measure=False)
    with finished_network(end) as network:
        mean = [each.numpy() for each in network.model.trainable_variables]
    iterate = [each.numpy() for each in network.model.trainable_variables]
    assert any(not np.array_equal(first, second) for first, second in zip(mean, iterate, strict=True))


def test_an_ensemble_is_one_network_of_built_in_layers(
    small_params: Callable[..., Params], write_data: Callable[..., PreparedSplit], tmp_path: Path
) -> None:
    import keras

    train = write_data(tmp_path, small_params(), task="multiclass", classes=3)
    inside = tmp_path / "data"
    data = TrainingData(inside / "prepared" / "train", inside / "prepared" / "val", inside / "augmented", train.digest)
    other = replace(
        CONFIG,
        seed=6,
        optimizer=Named("sgd", {"learning_rate": 0.05}),
        backbone=Named("plain", {"depth": 1, "width": 2, "batch_norm": True, "dropout": 0.3}),
        standardize="dataset",
    )
    members, seen, parameters = [], [], 0
    for config, factor in ((CONFIG, 0.5), (other, 0.25)):
        checkpoint = tmp_path / f"{config.seed}.npz"
        task = FitTask(config, data, 1, 1, None, checkpoint, measure=False)
        assert fit(task).error is None
        with finished_network(replace(task, start=checkpoint)) as network:
            model = keras.Model(network.model.input, network.model.get_layer("logits").output)
            seen.append(factor * model.predict(np.asarray(network.arrays.val.images), verbose=0))
            parameters += network.model.count_params()
        members.append(Member(config, checkpoint, factor))
    tasks = [
        replace(refit_to(tmp_path / name, data, checkpoint), members=tuple(members), max_epochs=1) for name in "ab"
    ]
    finals = [refit(tasks[0])]
    module.forget_networks()
    finals.append(refit(tasks[1]))
    assert (tmp_path / "a/model.keras").read_bytes() == (tmp_path / "b/model.keras").read_bytes()
    assert finals[0].decisions == finals[1].decisions
    model = keras.saving.load_model(tmp_path / "a/model.keras", compile=False, safe_mode=True)
    assert all(type(each).__module__.startswith("keras.") for each in model.layers)
    assert len(model.inputs) == 1 and model.input_shape == (None, 16, 16, 1)
    val = PreparedSplit.load(data.val)
    found = model.predict(np.asarray(val.images), verbose=0)
    expected = np.exp(sum(seen) / finals[0].calibration.temperature)
    np.testing.assert_allclose(found, expected / expected.sum(axis=1, keepdims=True), atol=1e-5)
    # Explanations look at each member by itself.
    assert [each.layer for each in members_of(model)] == ["member1_stage2_2_conv", "member2_stage1_2_conv"]
    # But for the second bias of the layer 'logits', which is added to the first.
    assert finals[0].facts["parameters"] == parameters - 3
    assert finals[0].facts["file_bytes"] == (tmp_path / "a/model.keras").stat().st_size


def test_a_model_that_has_seen_validation_is_judged_by_networks_that_had_not(
    small_params: Callable[..., Params], write_data: Callable[..., PreparedSplit], tmp_path: Path
) -> None:
    train = write_data(tmp_path, small_params(), task="binary", classes=2)
    inside = tmp_path / "data"
    data = TrainingData(inside / "prepared" / "train", inside / "prepared" / "val", inside / "augmented", train.digest)
    val = PreparedSplit.load(data.val)
    checkpoint = tmp_path / "end.npz"
    config = replace(CONFIG, policy="flip", views=2)
    answer = fit(FitTask(config, data, 2, 2, None, checkpoint, measure=False, part=ALL))
    assert answer.error is None and answer.epochs[-1].validation == {}
    said = np.random.default_rng(1).random((len(val), 1)).astype(np.float64)
    judged = np.hstack([1 - said, said])
    np.save(tmp_path / "judged.npy", judged)
    task = replace(
        refit_to(tmp_path, data, checkpoint, replace(RULES, calibration="none")),
        members=(Member(config, checkpoint),),
        part=ALL,
        judged=tmp_path / "judged.npy",
    )
    final = refit(task)
    expected = fit_thresholds(RULES.threshold, "binary", val.labels, judged)
    assert final.decisions.threshold == pytest.approx(expected, rel=1e-12)
    written = ValidationPredictions.load(tmp_path / "validation.csv", class_names=val.class_names, task="binary")
    assert written.record_ids.tolist() == val.record_ids.tolist()
    np.testing.assert_allclose(written.probabilities, judged, rtol=1e-6)
