"""The model file: the same bytes twice, built-in layers only, and the probabilities that training saw."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medsweep.artifacts.files import digest_file
from medsweep.artifacts.prepared import PreparedSplit
from medsweep.artifacts.trial import Named, TrialConfig
from medsweep.params import Params
from medsweep.statistics.operating_points import fit_thresholds
from medsweep.train import fit as module
from medsweep.train.fit import FitTask, TrainingData, finished_network, fit
from medsweep.train.refit import RefitTask, refit

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
    rule = "f1"
    jobs = [RefitTask(CONFIG, data, 2, checkpoint, tmp_path / name / "model.keras", rule) for name in ("a", "b")]
    finals = [refit(jobs[0])]
    # A worker that has built other networks since, and builds this one anew at other addresses.
    module._OPEN_NETWORKS.clear()
    others = [module.build_trial_network(replace(CONFIG, seed=seed), train) for seed in (8, 9)]
    finals.append(refit(jobs[1]))
    assert others
    assert (tmp_path / "a/model.keras").read_bytes() == (tmp_path / "b/model.keras").read_bytes()
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
    np.testing.assert_allclose(found, seen, atol=1e-6)
    last = answer.epochs[-1].validation
    labels = np.eye(2)[val.labels] if task == "binary" else val.labels
    if task == "binary":
        assert last["val_log_loss"] == pytest.approx(float(-np.log((seen * labels).sum(axis=1)).mean()), rel=1e-6)
        assert last["val_accuracy"] == pytest.approx(float((seen.argmax(axis=1) == val.labels).mean()))
    assert finals[0].threshold == fit_thresholds(rule, val.task, val.labels, seen)
    assert finals[0].facts["file_bytes"] == answer.facts["file_bytes"] == (tmp_path / "a/model.keras").stat().st_size
    assert finals[0].facts["parameters"] == model.count_params()


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
