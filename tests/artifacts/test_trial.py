from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from medsweep.artifacts.trial import Epoch, Named, TrialConfig, TrialOutcome
from medsweep.errors import ArtifactError

CONFIG = TrialConfig(
    number=7,
    seed=123,
    optimizer=Named("adam", {"learning_rate": 0.01}),
    loss=Named("focal", {"gamma": 2.0}),
    backbone=Named("plain", {"depth": 2, "batch_norm": True}),
    schedule=Named("constant"),
    activation="relu",
    pooling="max",
    batch_size=32,
    weight_decay=0.0,
    class_weights="none",
    standardize="image",
    policy="strong",
    views=2,
)
EPOCHS = tuple(Epoch(n, 1 / n, 0.5, {"val_auroc": 0.8}) for n in (1, 2))


def outcome(**changes: Any) -> TrialOutcome:
    known: dict[str, Any] = {
        "config": CONFIG,
        "status": "complete",
        "objective": 0.8,
        "history": EPOCHS,
        "seconds": 1.0,
        "peak_rss": 1,
        "checkpoint": None,
        "error": None,
    }
    return TrialOutcome(**(known | changes))


def test_a_configuration_is_read_back_from_its_dotted_names() -> None:
    values = CONFIG.dotted()
    assert values["train.space.optimizer"] == "adam"
    assert values["train.space.optimizer.adam.learning_rate"] == 0.01
    assert values["train.space.views"] == 2
    assert TrialConfig.from_dotted(7, 123, values) == CONFIG


def test_views_mean_nothing_without_a_policy() -> None:
    plain = replace(CONFIG, policy="none", views=0)
    assert "train.space.views" not in plain.dotted()
    assert TrialConfig.from_dotted(7, 123, plain.dotted()) == plain
    # What a sampler drew for it all the same is forgotten.
    assert TrialConfig.from_dotted(7, 123, plain.dotted() | {"train.space.views": 4}) == plain


def test_one_names_settings_are_not_anothers() -> None:
    values = CONFIG.dotted() | {"train.space.optimizer.adamw.learning_rate": 9.0}
    assert TrialConfig.from_dotted(7, 123, values).optimizer == Named("adam", {"learning_rate": 0.01})


@pytest.mark.parametrize(
    "name",
    sorted(
        CONFIG.dotted().keys()
        - {
            "train.space.optimizer.adam.learning_rate",
            "train.space.loss.focal.gamma",
            "train.space.backbone.plain.depth",
            "train.space.backbone.plain.batch_norm",
        }
    ),
)
def test_a_value_that_is_missing_is_named(name: str) -> None:
    values = CONFIG.dotted()
    del values[name]
    with pytest.raises(ArtifactError, match=name):
        TrialConfig.from_dotted(7, 123, values)


def test_the_title_tells_trials_apart() -> None:
    assert CONFIG.title == "trial 007 · adam · focal · plain"


def test_outcomes_of_every_status_can_be_made() -> None:
    assert outcome().objective == 0.8
    assert outcome(status="pruned").status == "pruned"
    assert outcome(status="failed", objective=None, error="the loss was NaN", history=()).error is not None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"status": "running"}, "'running' is no status"),
        ({"status": "failed"}, "has an error"),
        ({"error": "what?"}, "has an error"),
        ({"history": ()}, "has a history"),
        ({"objective": None}, "finite objective"),
        ({"objective": float("nan")}, "finite objective"),
        ({"status": "pruned", "objective": float("inf")}, "finite objective"),
        ({"history": EPOCHS[1:]}, "epochs must run from 1"),
        ({"history": (EPOCHS[0], EPOCHS[0])}, "epochs must run from 1"),
    ],
)
def test_an_outcome_that_contradicts_itself_cannot_be_made(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ArtifactError, match=rf"trial 007.*: .*{said}"):
        outcome(**changes)
