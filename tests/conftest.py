"""Small inputs that tests of several packages share: parameters, prepared splits, views, and a project that holds them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medsweep.artifacts.augmented import write_views
from medsweep.artifacts.prepared import PreparedSplit, Standardization
from medsweep.augment.policies import check_policies, draw_views
from medsweep.params import Params, load_yaml, parse

ROOT = Path(__file__).resolve().parent.parent

SMALL_SPACE: dict[str, Any] = {
    "optimizer": {
        "sgd": {"learning_rate": {"low": 0.005, "high": 0.2, "log": True}},
        "adam": {"learning_rate": {"low": 0.0005, "high": 0.01, "log": True}},
    },
    "loss": {"categorical_crossentropy": {"label_smoothing": [0.0, 0.1]}, "focal": {"gamma": 2.0}},
    "backbone": {
        "plain": {"depth": 1, "width": [2, 4], "batch_norm": [True, False], "dropout": 0.2},
        "separable": {"depth": 1, "width": 4, "dropout": 0.0},
    },
    "schedule": {"constant": {}, "cosine": {"floor": 0.02}},
    "activation": ["relu"],
    "pooling": ["max", "average"],
    "batch_size": {"low": 4, "high": 16, "log": True},
    "weight_decay": 0.0,
    "class_weights": ["none", "balanced"],
    "standardize": ["image", "dataset"],
    "policy": ["none", "flip", "shift"],
    "views": [1, 2],
}
SMALL_SEARCH: dict[str, Any] = {
    "trials": 6,
    "generation": 3,
    "objective": "val_log_loss",
    "min_epochs": 1,
    "max_epochs": 4,
    "reduction_factor": 2,
    "startup_trials": 2,
    "keep_checkpoints": 2,
}
SMALL_POLICIES: dict[str, Any] = {
    "flip": {"horizontal_flip": {"probability": 0.5}},
    "shift": {"translate": {"probability": 1.0, "share": 0.2}, "brightness": {"probability": 0.5, "delta": 0.1}},
}
# Where every trial is really trained: networks that TensorFlow traces quickly, and few epochs.
QUICK_SPACE: dict[str, Any] = {
    "backbone": {"plain": {"depth": 1, "width": [1, 2], "batch_norm": False, "dropout": 0.2}},
    "batch_size": 12,
    "schedule": {"cosine": {"floor": 0.02}},
}
QUICK_SEARCH: dict[str, Any] = {"trials": 5, "generation": 3, "max_epochs": 2}


@pytest.fixture(scope="session")
def default_params() -> dict[str, Any]:
    """What the repository's params.yaml says."""
    return load_yaml(ROOT / "params.yaml")


@pytest.fixture(scope="session")
def small_mapping(default_params: dict[str, Any]) -> Callable[..., dict[str, Any]]:
    """A mapping like params.yaml with a small search; keyword arguments change train's search and space."""

    def make(*, search: dict[str, Any] | None = None, space: dict[str, Any] | None = None) -> dict[str, Any]:
        found = copy.deepcopy(default_params)
        found["augment"] |= {"views": 2, "policies": copy.deepcopy(SMALL_POLICIES)}
        found["train"]["search"] = SMALL_SEARCH | (search or {})
        found["train"]["space"] = copy.deepcopy(SMALL_SPACE) | (space or {})
        return found

    return make


@pytest.fixture(scope="session")
def small_params(small_mapping: Callable[..., dict[str, Any]]) -> Callable[..., Params]:
    """`small_mapping`, checked."""
    return lambda **changes: parse(small_mapping(**changes), where="params.yaml")


@pytest.fixture(scope="session")
def write_split() -> Callable[..., PreparedSplit]:
    """Writes a split of 16 × 16 images whose classes differ in where they are bright."""

    def write(
        folder: Path, name: str = "train", *, task: Any = "multiclass", n: int = 24, classes: int = 3, channels: int = 1
    ) -> PreparedSplit:
        rng = np.random.default_rng([n, classes, len(name)])
        images = rng.integers(0, 120, (n, 16, 16, channels)).astype(np.uint8)
        if task == "multilabel":
            labels: Any = rng.integers(0, 2, (n, classes)).astype(np.uint8)
            # Every label is there and is absent.
            labels[0], labels[1] = 1, 0
            marks: Any = labels
        else:
            # The first class is the most frequent.
            labels = np.maximum(np.arange(n, dtype=np.int64) % (classes + 1) - 1, 0)
            marks = np.eye(classes, dtype=np.uint8)[labels]
        for k in range(classes):
            images[:, 4 * k : 4 * k + 4, 4:12] += (90 * marks[:, k, None, None, None]).astype(np.uint8)
        values = images / 255.0
        split = PreparedSplit(
            name=name,
            images=images,
            labels=labels,
            record_ids=np.array([f"{name}{index:04d}" for index in range(n)]),
            patient_ids=np.array([""] * n),
            class_names=tuple("abcdefgh"[:classes]),
            task=task,
            value_range=255,
            standardization=Standardization(
                tuple(values.mean(axis=(0, 1, 2)).tolist()), tuple(values.std(axis=(0, 1, 2)).tolist())
            ),
        )
        return split.save(folder)

    return write


@pytest.fixture(scope="session")
def write_data(write_split: Callable[..., PreparedSplit]) -> Callable[..., PreparedSplit]:
    """Writes data/prepared/{train,val} and data/augmented below a folder; returns the training split."""

    def write(root: Path, params: Params, **kind: Any) -> PreparedSplit:
        train = write_split(root / "data" / "prepared" / "train", "train", **kind)
        write_split(root / "data" / "prepared" / "val", "val", **(kind | {"n": 16}))
        for policy, chain in check_policies(params.augment).items():
            views = draw_views(
                policy,
                chain,
                seed=params.augment.seed,
                n_images=len(train),
                n_views=params.augment.views,
                prepared_digest=train.digest,
            )
            write_views(root / "data" / "augmented" / policy, views, shards=())
        return train

    return write


@pytest.fixture(scope="session")
def write_project(
    small_mapping: Callable[..., dict[str, Any]], write_data: Callable[..., PreparedSplit]
) -> Callable[..., Params]:
    """Writes a project that train can run in a few seconds: params.yaml, dvc.yaml and the data."""

    def write(root: Path, *, search: dict[str, Any] | None = None, space: dict[str, Any] | None = None) -> Params:
        from ruamel.yaml import YAML

        root.mkdir(parents=True, exist_ok=True)
        found = small_mapping(search=QUICK_SEARCH | (search or {}), space=QUICK_SPACE | (space or {}))
        with (root / "params.yaml").open("w", encoding="utf-8") as stream:
            YAML().dump(found, stream)
        (root / "dvc.yaml").write_text("stages: {}\n", encoding="utf-8")
        params = parse(found, where="params.yaml")
        write_data(root, params)
        return params

    return write
