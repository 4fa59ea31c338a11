"""Contract of the tables: every optimizer trains with every loss, for one task with one class an image and for many."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medsweep.artifacts.prepared import PreparedSplit
from medsweep.artifacts.trial import Named, TrialConfig
from medsweep.train.backbones import BACKBONES, BackboneRow, Seeds
from medsweep.train.examples import TrainingData
from medsweep.train.fit import FitTask, fit
from medsweep.train.losses import LOSSES
from medsweep.train.network import build_trial_network
from medsweep.train.optimizers import OPTIMIZERS
from medsweep.train.schedules import SCHEDULES

# Those of keras.applications are large, and have tests of their own: tests/train/test_applications.py.
OWN = [name for name, row in BACKBONES.items() if not row.pretrained]

# A value for each hyperparameter that a row may ask for; a new one is missing here until it is given.
VALUES: dict[str, Any] = {
    "learning_rate": 0.01,
    "momentum": 0.9,
    "average_from": 0.5,
    "label_smoothing": 0.1,
    "gamma": 2.0,
    "q": 0.7,
    "dropout": 0.1,
    "depth": 1,
    "width": 2,
    "batch_norm": False,
    "floor": 0.02,
    "drops": 2,
    "factor": 0.3,
}


def named(table: Any, name: str) -> Named:
    return Named(name, {key: VALUES[key] for key in table[name].hyperparameters})


def trial(number: int, **changed: Any) -> TrialConfig:
    settings: dict[str, Any] = {
        "optimizer": named(OPTIMIZERS, "adam"),
        "loss": named(LOSSES, "focal"),
        "backbone": Named("tiny"),
        "schedule": named(SCHEDULES, "constant"),
        "activation": "relu",
        "pooling": "average",
        "batch_size": 8,
        "weight_decay": 0.001,
        "class_weights": "balanced",
        "standardize": "dataset",
        "policy": "none",
        "views": 0,
    }
    return TrialConfig(number=number, seed=100 + number, **(settings | changed))


def _tiny(features: Any, hyper: Any, activation: str, pooling: str, seeds: Seeds) -> Any:
    from keras import initializers, layers

    initializer = initializers.GlorotUniform(seed=seeds.of("conv"))
    features = layers.Conv2D(3, 3, kernel_initializer=initializer, name="conv")(features)
    return layers.GlobalAveragePooling2D(name="global_pool")(features)


@pytest.fixture(autouse=True)
def _tiny_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    """One convolution: what a pair costs here is TensorFlow's tracing, which grows with the number of variables."""
    import tensorflow as tf

    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})  # as in a worker
    monkeypatch.setitem(BACKBONES, "tiny", BackboneRow(_tiny, (), "one convolution"))


@pytest.fixture(scope="module")
def data_of(
    write_split: Callable[..., PreparedSplit], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[PreparedSplit, TrainingData]]:
    known: dict[str, tuple[PreparedSplit, TrainingData]] = {}

    def make(task: str) -> tuple[PreparedSplit, TrainingData]:
        if task not in known:
            root = tmp_path_factory.mktemp(task)
            train = write_split(root / "train", "train", task=task)
            write_split(root / "val", "val", task=task, n=12)
            known[task] = train, TrainingData(root / "train", root / "val", root, train.digest)
        return known[task]

    return make


def trains(config: TrialConfig, train: PreparedSplit, data: TrainingData, folder: Path) -> None:
    path = folder / "checkpoint.npz"
    answer = fit(FitTask(config, data, max_epochs=1, until=1, start=None, save_to=path, measure=False))
    assert answer.error is None
    [epoch] = answer.epochs
    assert np.isfinite(epoch.loss) and 0 <= epoch.accuracy <= 1
    assert all(np.isfinite(value) for value in epoch.validation.values()) and "val_log_loss" in epoch.validation
    before = [each.numpy() for each in build_trial_network(config, train).trainable_variables]
    with np.load(path) as saved:
        after = [saved[f"v{index:04d}"] for index in range(len(before))]
    moved = [not np.array_equal(first, second) for first, second in zip(before, after, strict=True)]
    assert all(moved), "some weights did not change"
    assert all(np.isfinite(each).all() for each in after)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_with_every_loss(
    optimizer: str, loss: str, data_of: Callable[[str], tuple[PreparedSplit, TrainingData]], tmp_path: Path
) -> None:
    import tensorflow as tf

    pair = {"optimizer": named(OPTIMIZERS, optimizer), "loss": named(LOSSES, loss)}
    # Tracing is nearly all of the time here: each optimizer and each loss is traced, the other pairs run step by step.
    traced = list(OPTIMIZERS).index(optimizer) % len(LOSSES) == list(LOSSES).index(loss)
    tf.config.run_functions_eagerly(not traced)
    try:
        trains(trial(1, **pair), *data_of("multiclass"), tmp_path)
    finally:
        tf.config.run_functions_eagerly(False)


@pytest.mark.parametrize(("optimizer", "loss"), zip(OPTIMIZERS, LOSSES, strict=False))
def test_with_several_labels_an_image(
    optimizer: str, loss: str, data_of: Callable[[str], tuple[PreparedSplit, TrainingData]], tmp_path: Path
) -> None:
    pair = {"optimizer": named(OPTIMIZERS, optimizer), "loss": named(LOSSES, loss)}
    trains(trial(2, **pair), *data_of("multilabel"), tmp_path)


@pytest.mark.parametrize(
    ("backbone", "schedule"), [(name, list(SCHEDULES)[index % len(SCHEDULES)]) for index, name in enumerate(OWN)]
)
def test_every_backbone_and_every_schedule(
    backbone: str, schedule: str, data_of: Callable[[str], tuple[PreparedSplit, TrainingData]], tmp_path: Path
) -> None:
    pair = {"backbone": named(BACKBONES, backbone), "schedule": named(SCHEDULES, schedule)}
    config = trial(3, **pair, class_weights="none", standardize="image")
    _, data = data_of("multiclass")
    answer = fit(FitTask(config, data, 2, 1, None, tmp_path / "c.npz", measure=True))
    assert answer.error is None and answer.facts["parameters"] > 0 and answer.facts["multiply_adds"] > 0
