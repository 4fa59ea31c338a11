"""Every row of every table can be chosen in the repository's params.yaml, and nothing there names what no table has."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from medsweep.augment.policies import check_policies
from medsweep.errors import ParamsError
from medsweep.explain.methods import METHODS
from medsweep.imaging.transforms import TRANSFORMS
from medsweep.params import parse
from medsweep.sources.catalog import SOURCES
from medsweep.statistics.objective import OBJECTIVES
from medsweep.train.backbones import ACTIVATIONS, BACKBONES, POOLINGS, STANDARDIZATIONS
from medsweep.train.hyperparameters import HYPERPARAMETERS
from medsweep.train.losses import LOSSES
from medsweep.train.optimizers import OPTIMIZERS
from medsweep.train.schedules import SCHEDULES
from medsweep.train.space import check_space

NAMED: dict[str, Any] = {"optimizer": OPTIMIZERS, "loss": LOSSES, "backbone": BACKBONES, "schedule": SCHEDULES}


@pytest.mark.parametrize("part", NAMED)
def test_the_default_space_lists_every_row_with_its_hyperparameters(part: str, default_params: dict[str, Any]) -> None:
    listed = default_params["train"]["space"][part]
    # A network for pretrained weights is too large, and its images too small, without them.
    wanted = {name: row for name, row in NAMED[part].items() if not getattr(row, "pretrained", False)}
    assert set(listed) == set(wanted)
    for name, row in wanted.items():
        assert set(listed[name]) == set(row.hyperparameters), f"train.space.{part}.{name}"


@pytest.mark.parametrize(("part", "table"), [("activation", ACTIVATIONS), ("pooling", POOLINGS)])
def test_the_default_space_lists_every_choice(part: str, table: Any, default_params: dict[str, Any]) -> None:
    assert set(default_params["train"]["space"][part]) == set(table)


def test_every_standardization_can_be_chosen(default_params: dict[str, Any]) -> None:
    # Training on raw intensities is for comparisons; a search gains nothing by it.
    assert set(default_params["train"]["space"]["standardize"]) == set(STANDARDIZATIONS) - {"none"}
    changed = copy.deepcopy(default_params)
    changed["train"]["space"]["standardize"] = list(STANDARDIZATIONS)
    check_space(parse(changed, where="params.yaml").train, max_views=4)


def test_the_default_space_lists_every_policy_and_class_weighting(default_params: dict[str, Any]) -> None:
    space = default_params["train"]["space"]
    assert set(space["policy"]) == {"none", *default_params["augment"]["policies"]}
    assert set(space["class_weights"]) == {"none", "balanced"}


def test_every_hyperparameter_has_limits_and_is_read_by_a_row() -> None:
    read = {key for table in NAMED.values() for row in table.values() for key in row.hyperparameters}
    assert read == set(HYPERPARAMETERS)


# One setting for each transform.
SETTINGS: dict[str, dict[str, Any]] = {
    "horizontal_flip": {"probability": 0.5},
    "vertical_flip": {"probability": 0.5},
    "crop": {"probability": 0.5, "low": 0.75, "aspect": 1.2},
    "rotate": {"probability": 0.5, "degrees": 20},
    "translate": {"probability": 0.5, "share": 0.1},
    "scale": {"probability": 0.5, "low": 0.8, "high": 1.2},
    "shear": {"probability": 0.5, "degrees": 8},
    "brightness": {"probability": 0.5, "delta": 0.1},
    "contrast": {"probability": 0.5, "low": 0.8, "high": 1.25},
    "gamma": {"probability": 0.5, "low": 0.75, "high": 1.33},
    "noise": {"probability": 0.5, "deviation": 0.03},
    "blur": {"probability": 0.5, "low": 0.3, "high": 0.8},
    "cutout": {"probability": 0.5, "share": 0.2},
}


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_every_transform_can_be_put_in_a_policy(transform: str, default_params: dict[str, Any]) -> None:
    changed = copy.deepcopy(default_params)
    changed["augment"]["policies"]["tried"] = {transform: SETTINGS[transform]}
    chains = check_policies(parse(changed, where="params.yaml").augment)
    assert [link.transform for link in chains["tried"]] == [transform]


def test_an_unknown_transform_is_answered_with_the_known_ones(default_params: dict[str, Any]) -> None:
    changed = copy.deepcopy(default_params)
    changed["augment"]["policies"]["geometric"]["twirl"] = {"probability": 0.5}
    with pytest.raises(ParamsError, match=r"augment\.policies\.geometric: .*'twirl'.*Choose from: .*rotate"):
        check_policies(parse(changed, where="params.yaml").augment)


@pytest.mark.parametrize("kind", SOURCES)
def test_every_source_is_accepted_by_the_schema(kind: str, default_params: dict[str, Any]) -> None:
    changed = copy.deepcopy(default_params)
    changed["prepare"]["source"] = {"kind": kind, "path": "data/raw"}
    assert parse(changed, where="params.yaml").prepare.source.kind == kind


def test_the_objectives_of_the_schema_are_those_of_the_table(default_params: dict[str, Any]) -> None:
    for objective in OBJECTIVES:
        changed = copy.deepcopy(default_params)
        changed["train"]["search"]["objective"] = objective
        assert parse(changed, where="params.yaml").train.search.objective == objective
    changed["train"]["search"]["objective"] = "val_loss"
    with pytest.raises(ParamsError) as error:
        parse(changed, where="params.yaml")
    assert all(name in str(error.value) for name in OBJECTIVES)


def test_the_methods_of_explanation_of_the_schema_are_those_of_the_table(default_params: dict[str, Any]) -> None:
    assert default_params["evaluate"]["explanations"]["methods"] == list(METHODS)
    for given, why in ((["lime"], "grad_cam"), (["occlusion", "occlusion"], "each method once")):
        changed = copy.deepcopy(default_params)
        changed["evaluate"]["explanations"]["methods"] = given
        with pytest.raises(ParamsError, match=why):
            parse(changed, where="params.yaml")
