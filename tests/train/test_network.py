"""A traced network that is taken up by another trial of the same architecture is that trial's own, bit by bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medsweep.artifacts.prepared import PreparedSplit
from medsweep.artifacts.trial import Named, TrialConfig
from medsweep.params import Params
from medsweep.train import network as module
from medsweep.train.backbones import BACKBONES, reseed
from medsweep.train.examples import HOLDOUT, TrainingData
from medsweep.train.fit import FitTask, finished_network, fit
from medsweep.train.model_file import save_model
from medsweep.train.network import build_trial_network, forget_networks, open_network
from medsweep.train.optimizers import OPTIMIZERS

# Those of keras.applications are large, and have tests of their own: tests/train/test_applications.py.
OWN = [name for name, row in BACKBONES.items() if not row.pretrained]

EPOCHS = 2
HYPER: dict[str, dict[str, Any]] = {
    "tutorial": {"dropout": 0.3},
    "plain": {"depth": 2, "width": 2, "batch_norm": True, "dropout": 0.3},
    "residual": {"depth": 2, "width": 2, "dropout": 0.3},
    "separable": {"depth": 2, "width": 2, "dropout": 0.0},
}
FIRST, SECOND = (
    {"learning_rate": 0.01, "momentum": 0.8, "average_from": 0.5},
    {"learning_rate": 0.03, "momentum": 0.8, "average_from": 0.25},
)


def trial(number: int, optimizer: str = "adam", settings: dict[str, float] = FIRST, **changed: Any) -> TrialConfig:
    values: dict[str, Any] = {
        "optimizer": Named(optimizer, {name: settings[name] for name in OPTIMIZERS[optimizer].hyperparameters}),
        "loss": Named("categorical_crossentropy", {"label_smoothing": 0.1}),
        "backbone": Named("plain", {"depth": 1, "width": 2, "batch_norm": True, "dropout": 0.3}),
        "schedule": Named("cosine", {"floor": 0.02}),
        "activation": "relu",
        "pooling": "average",
        "batch_size": 5,
        "weight_decay": 0.01,
        "class_weights": "balanced",
        "standardize": "dataset",
        "policy": "shift",
        "views": 2,
    }
    return TrialConfig(number=number, seed=100 + number, **(values | changed))


def other(optimizer: str) -> TrialConfig:
    """All that may differ within an architecture does."""
    return trial(
        7,
        optimizer,
        SECOND,
        schedule=Named("constant"),
        batch_size=8,
        weight_decay=0.002,
        class_weights="none",
        policy="none",
        views=0,
    )


@pytest.fixture(scope="module")
def data(
    tmp_path_factory: pytest.TempPathFactory,
    small_params: Callable[..., Params],
    write_data: Callable[..., PreparedSplit],
) -> TrainingData:
    root = tmp_path_factory.mktemp("network")
    train = write_data(root, small_params(), n=24)
    inside = root / "data"
    return TrainingData(inside / "prepared" / "train", inside / "prepared" / "val", inside / "augmented", train.digest)


def trained(
    config: TrialConfig, data: TrainingData, path: Path, *, start: Path | None = None, until: int = EPOCHS
) -> Any:
    answer = fit(FitTask(config, data, EPOCHS, until, start, path, measure=False))
    assert answer.error is None
    return answer.epochs


@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
def test_a_trial_in_anothers_graph_equals_itself(optimizer: str, data: TrainingData, tmp_path: Path) -> None:
    first, second = trial(1, optimizer), other(optimizer)
    forget_networks()
    alone = trained(second, data, tmp_path / "alone")
    forget_networks()
    trained(first, data, tmp_path / "first")
    after = trained(second, data, tmp_path / "after")
    assert len(module._OPEN_NETWORKS) == 1, "the graph is taken up"
    assert after == alone and (tmp_path / "after").read_bytes() == (tmp_path / "alone").read_bytes()
    assert (tmp_path / "first").read_bytes() != (tmp_path / "after").read_bytes()
    # A trial that goes on from a rung when another one has had its graph meanwhile.
    trained(first, data, tmp_path / "half", until=1)
    trained(second, data, tmp_path / "again")
    trained(first, data, tmp_path / "rest", start=tmp_path / "half")
    assert (tmp_path / "rest").read_bytes() == (tmp_path / "first").read_bytes()
    assert (tmp_path / "again").read_bytes() == (tmp_path / "alone").read_bytes()


def test_what_a_failed_epoch_left_is_forgotten(data: TrainingData, tmp_path: Path) -> None:
    forget_networks()
    second = other("gradient_descent")
    trained(second, data, tmp_path / "alone")
    left = open_network(trial(1, "gradient_descent"), data, HOLDOUT, EPOCHS)
    left.begin(None)
    images, rows, _ = next(left._batches(1))  # one batch of an epoch that then fails
    left._steps(images, left._targets[rows], left._weights[rows], np.zeros(len(rows), np.float32))
    trained(second, data, tmp_path / "after")
    assert (tmp_path / "after").read_bytes() == (tmp_path / "alone").read_bytes()


@pytest.mark.parametrize(
    "change", ["backbone", "loss", "activation", "pooling", "standardize", "weight_decay", "momentum"]
)
def test_another_architecture_is_traced_anew(change: str, data: TrainingData) -> None:
    config = trial(1, "momentum")
    changes: dict[str, Any] = {
        "backbone": Named("plain", {"depth": 1, "width": 2, "batch_norm": True, "dropout": 0.2}),
        "loss": Named("categorical_crossentropy", {"label_smoothing": 0.0}),
        "activation": "elu",
        "pooling": "max",
        "standardize": "image",
        "weight_decay": 0.0,
    }
    if change == "momentum":
        different = trial(1, "momentum", FIRST | {"momentum": 0.9})
    else:
        different = replace(config, **{change: changes[change]})
    assert open_network(config, data, HOLDOUT, EPOCHS) is open_network(config, data, HOLDOUT, EPOCHS)
    assert open_network(config, data, HOLDOUT, EPOCHS) is not open_network(different, data, HOLDOUT, EPOCHS)


@pytest.mark.parametrize("backbone", OWN)
def test_reseeded_is_built_with_that_seed(backbone: str, data: TrainingData, tmp_path: Path) -> None:
    train = PreparedSplit.load(data.train)
    config = trial(1, backbone=Named(backbone, HYPER[backbone]))
    changed, built = (build_trial_network(replace(config, seed=seed), train) for seed in (1, 2))
    reseed(changed, 2)
    for mine, theirs in zip(changed.variables, built.variables, strict=True):
        np.testing.assert_array_equal(mine.numpy(), theirs.numpy(), err_msg=mine.path)
    for model, name in ((changed, "changed"), (built, "built")):
        save_model(model, tmp_path / name)
    assert (tmp_path / "changed").read_bytes() == (tmp_path / "built").read_bytes()


def test_a_model_from_anothers_graph_is_the_same_file(data: TrainingData, tmp_path: Path) -> None:
    second = other("adamw")
    found = []
    for before in ([], [trial(1, "adamw")]):
        forget_networks()
        for config in before:
            trained(config, data, tmp_path / "first")
        trained(second, data, tmp_path / "end")
        with finished_network(FitTask(second, data, EPOCHS, EPOCHS, tmp_path / "end", tmp_path, False)) as network:
            save_model(network.model, tmp_path / "model")
        found.append((tmp_path / "model").read_bytes())
    assert found[0] == found[1]
