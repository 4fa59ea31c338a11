"""Presets: settled into the space, asked first, and left out where the space lacks a name of theirs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from medsweep.errors import ParamsError
from medsweep.params import Params, Train, parse
from medsweep.train.presets import PRESETS, presets_in_space
from medsweep.train.space import check_space
from medsweep.train.study import ask_generation


def of(default_params: dict[str, Any], **space: Any) -> Train:
    found = default_params | {"train": default_params["train"] | {"space": default_params["train"]["space"] | space}}
    return parse(found, where="").train


def test_every_preset_lies_in_the_default_space_and_is_asked_first(default_params: dict[str, Any]) -> None:
    train = of(default_params)
    check_space(train, max_views=4)
    found = presets_in_space(train)
    assert list(found) == list(PRESETS) == train.search.presets
    asked = ask_generation(train, [], 0, 6)
    assert [each.dotted() for each in asked[: len(found)]] == list(found.values())
    assert len({repr(each.dotted()) for each in asked}) == 6
    # Also where generations are smaller than the presets are many.
    one = ask_generation(train, [], 0, 1)
    assert [each.dotted() for each in one] == [found["tutorial"]]


def test_numbers_go_to_the_nearest_of_the_space(default_params: dict[str, Any]) -> None:
    adam = {"adam": {"learning_rate": {"low": 0.005, "high": 0.1, "log": True}}}
    train = of(
        default_params, optimizer=adam, batch_size=[16, 48], weight_decay={"low": 0.001, "high": 0.1, "log": True}
    )
    values = presets_in_space(train)["tutorial"]
    assert values["train.space.optimizer.adam.learning_rate"] == 0.005
    assert values["train.space.batch_size"] == 48 and values["train.space.weight_decay"] == 0.001
    assert "train.space.views" not in values
    assert next(iter(ask_generation(train, [], 0, 2))).dotted() == values


@pytest.mark.parametrize(
    "space",
    [
        {"optimizer": {"sgd": {"learning_rate": 0.1}}},
        {"activation": ["gelu"]},
        {"standardize": ["none"]},
        {"policy": ["strong"]},
        {"class_weights": ["balanced"]},
    ],
)
def test_a_preset_whose_names_the_space_lacks_is_left_out(
    default_params: dict[str, Any], space: dict[str, Any]
) -> None:
    train = of(default_params, **space)
    assert presets_in_space(train) == {}
    assert len(ask_generation(train, [], 0, 3)) == 3


def test_presets_that_come_to_the_same_are_tried_once(small_params: Callable[..., Params]) -> None:
    train = small_params(search={"presets": ["plain", "plain"]}).train
    assert len(presets_in_space(train)) <= 1


def test_an_unknown_preset_is_refused_with_the_valid_names(small_params: Callable[..., Params]) -> None:
    with pytest.raises(ParamsError, match=r"train\.search\.presets.*tutorial"):
        presets_in_space(small_params(search={"presets": ["tutorials"]}).train)
