"""The space: errors that name the key, and values that stay what they are from params.yaml to the log and back."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

from medsweep.artifacts.trial import TrialConfig
from medsweep.errors import ParamsError
from medsweep.params import Params, Range, load_yaml, parse
from medsweep.train.space import check_space, configure, derived_seed, distribution_of, distributions, draw

P = "train.space"


def drawn(space: Any, *, seed: int = 0, count: int = 60) -> list[dict[str, Any]]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return [draw(study.ask(), space) for _ in range(count)]


def typed(values: dict[str, Any]) -> dict[str, tuple[type, Any]]:
    return {name: (type(value), value) for name, value in values.items()}


ADAM = {"learning_rate": 0.001}
PLAIN = {"depth": 2, "width": 4, "batch_norm": True, "dropout": 0.0}


@pytest.mark.parametrize(
    ("change", "where", "says"),
    [
        (
            {"optimizer": {"adamm": ADAM}},
            f"{P}.optimizer.adamm",
            "unknown optimizer 'adamm'. Choose from: gradient_desc",
        ),
        ({"loss": {"l2": {}}}, f"{P}.loss.l2", "unknown loss 'l2'. Choose from: "),
        ({"backbone": {"resnet": {}}}, f"{P}.backbone.resnet", "unknown backbone 'resnet'. Choose from: tutorial"),
        ({"schedule": {"linear": {}}}, f"{P}.schedule.linear", "unknown schedule 'linear'. Choose from: constant"),
        ({"activation": ["relu", "swish"]}, f"{P}.activation", "unknown activation 'swish'. Choose from: relu"),
        ({"pooling": ["min"]}, f"{P}.pooling", "unknown pooling 'min'. Choose from: max, average"),
        ({"standardize": ["images"]}, f"{P}.standardize", "unknown standardize 'images'. Choose from: dataset, image"),
        ({"optimizer": {"adam": {}}}, f"{P}.optimizer.adam.learning_rate", "is missing."),
        ({"optimizer": {"adam": ADAM | {"beta": 1}}}, f"{P}.optimizer.adam.beta", "It takes: learning_rate."),
        ({"loss": {"mean_squared_error": {"q": 1}}}, f"{P}.loss.mean_squared_error.q", "It takes none."),
        ({"optimizer": {"adam": {"learning_rate": 0}}}, f"{P}.optimizer.adam.learning_rate", "above 0"),
        ({"optimizer": {"adam": {"learning_rate": "1e-3"}}}, f"{P}.optimizer.adam.learning_rate", "not '1e-3'"),
        ({"optimizer": {"adam": {"learning_rate": math.nan}}}, f"{P}.optimizer.adam.learning_rate", "not nan"),
        (
            {"optimizer": {"momentum": ADAM | {"momentum": {"low": 0.5, "high": 1.0, "log": False}}}},
            f"{P}.optimizer.momentum.momentum",
            "not 1.0",
        ),
        ({"backbone": {"plain": PLAIN | {"depth": 2.0}}}, f"{P}.backbone.plain.depth", "a whole number from 1 to 8"),
        (
            {"backbone": {"plain": PLAIN | {"depth": {"low": 1.0, "high": 2.0, "log": False}}}},
            f"{P}.backbone.plain.depth",
            "a whole number",
        ),
        ({"backbone": {"plain": PLAIN | {"depth": True}}}, f"{P}.backbone.plain.depth", "not True"),
        ({"backbone": {"plain": PLAIN | {"batch_norm": 1}}}, f"{P}.backbone.plain.batch_norm", "true or false, not 1"),
        ({"batch_size": [16, 0]}, f"{P}.batch_size", "a whole number from 1 to 4096, not 0"),
        ({"batch_size": 16.0}, f"{P}.batch_size", "not 16.0"),
        ({"batch_size": {"low": 8, "high": 16.5, "log": False}}, f"{P}.batch_size", "not 16.5"),
        ({"batch_size": True}, f"{P}.batch_size", "not True"),
        ({"weight_decay": -0.1}, f"{P}.weight_decay", "a number from 0.0 to 10.0, not -0.1"),
        ({"weight_decay": "none"}, f"{P}.weight_decay", "not 'none'"),
        ({"views": [1, 3]}, f"{P}.views", "from 1 to 2 (augment.views), not 3"),
    ],
)
def test_what_no_table_knows_is_one_line_with_its_dotted_path(
    small_params: Callable[..., Params], change: dict[str, Any], where: str, says: str
) -> None:
    train = small_params(space=change).train
    with pytest.raises(ParamsError) as error:
        check_space(train, max_views=2)
    line = str(error.value)
    assert line.startswith(f"{where}: ") and says in line and "\n" not in line
    assert error.value.exit_code == 2


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"batch_size": {"low": 32, "high": 16, "log": False}}, "train.space.batch_size: low must be less than high"),
        (
            {"weight_decay": {"low": 0.0, "high": 0.1, "log": True}},
            "train.space.weight_decay: a logarithmic range must",
        ),
        ({"weight_decay": {"low": 0.0, "high": 0.1}}, "train.space.weight_decay.log: is missing"),
        (
            {"weight_decay": {"low": 0.0, "high": 0.1, "log": False, "step": 1}},
            "train.space.weight_decay.step: unknown",
        ),
        ({"weight_decay": []}, "train.space.weight_decay: "),
        ({"optimizer": {}}, "train.space.optimizer: "),
        ({"optimizer": {"adam": 0.1}}, "train.space.optimizer.adam: "),
        ({"policy": ["none", "fancy"]}, "train.space.policy names 'fancy'"),
        ({"class_weights": ["inverse"]}, "train.space.class_weights.0: "),
        ({"momentum": 0.9}, "train.space.momentum: unknown key"),
    ],
)
def test_what_is_no_setting_is_one_line_with_its_dotted_path(
    small_mapping: Callable[..., dict[str, Any]], change: dict[str, Any], says: str
) -> None:
    with pytest.raises(ParamsError) as error:
        parse(small_mapping(space=change), where="params.yaml")
    assert says in str(error.value) and "\n" not in str(error.value)


def test_the_default_space_and_the_small_one_are_accepted(
    default_params: dict[str, Any], small_params: Callable[..., Params]
) -> None:
    known = parse(default_params, where="params.yaml")
    check_space(known.train, max_views=known.augment.views)
    check_space(small_params().train, max_views=2)


def test_an_optimizer_s_settings_exist_where_it_is_chosen_and_views_where_a_policy_is(
    small_params: Callable[..., Params],
) -> None:
    seen = set()
    for values in drawn(small_params().train.space):
        optimizer, policy = values[f"{P}.optimizer"], values[f"{P}.policy"]
        assert [name for name in values if name.startswith(f"{P}.optimizer.")] == [
            f"{P}.optimizer.{optimizer}.learning_rate"
        ]
        assert (f"{P}.views" in values) == (policy != "none")
        config = configure(3, 7, values)
        assert config.views == values.get(f"{P}.views", 0)
        seen.add((optimizer, policy))
    assert len(seen) == 6


def test_what_has_one_value_is_not_asked_but_known(small_params: Callable[..., Params]) -> None:
    space = small_params(space={"batch_size": [8], "weight_decay": 0, "policy": ["none"]}).train.space
    for values in drawn(space, count=10):
        assert (
            values[f"{P}.batch_size"] == 8 and values[f"{P}.policy"] == "none" and values[f"{P}.activation"] == "relu"
        )
        asked = distributions(space, values)
        assert not {f"{P}.batch_size", f"{P}.weight_decay", f"{P}.policy", f"{P}.activation"} & set(asked)
        assert f"{P}.optimizer" in asked


def test_values_survive_the_log_bit_by_bit_and_type_by_type(small_params: Callable[..., Params]) -> None:
    space = small_params(
        space={
            "optimizer": {"momentum": {"learning_rate": {"low": 1e-5, "high": 3.0, "log": True}, "momentum": [0, 0.9]}},
            "loss": {"focal": {"gamma": [1, 1.5, 2.0]}},
            "backbone": {
                "plain": {
                    "depth": {"low": 1, "high": 3, "log": False},
                    "width": 4,
                    "batch_norm": [True, False],
                    "dropout": {"low": 0, "high": 0.5, "log": False},
                }
            },
            "weight_decay": [0, 0.01],
        }
    ).train.space
    types: dict[str, set[type]] = {}
    for values in drawn(space):
        config = configure(5, 7, values)
        line = json.loads(json.dumps(config.dotted()))
        back = TrialConfig.from_dotted(5, config.seed, line)
        assert back == config and typed(back.dotted()) == typed(config.dotted()) == typed(line)
        for name, value in line.items():
            types.setdefault(name, set()).add(type(value))
        # What a rebuilt study is told lies within what it was drawn from.
        for name, how in distributions(space, line).items():
            assert how._contains(how.to_internal_repr(line[name])), name
    assert types[f"{P}.backbone.plain.depth"] == {int}
    assert types[f"{P}.backbone.plain.dropout"] == {float}
    assert types[f"{P}.backbone.plain.batch_norm"] == {bool}
    assert types[f"{P}.loss.focal.gamma"] == {int, float}
    assert types[f"{P}.weight_decay"] == {float}
    assert types[f"{P}.batch_size"] == {int}


def test_ranges_are_whole_where_both_ends_are() -> None:
    whole = distribution_of(Range(low=1, high=8, log=True))
    assert isinstance(whole, optuna.distributions.IntDistribution) and whole.log
    mixed = distribution_of(Range(low=1, high=8.0, log=False))
    assert isinstance(mixed, optuna.distributions.FloatDistribution) and (mixed.low, mixed.high) == (1.0, 8.0)
    assert distribution_of([0.1]) is None and distribution_of(0.1) is None
    choices = distribution_of([1, "a", True])
    assert isinstance(choices, optuna.distributions.CategoricalDistribution) and choices.choices == (1, "a", True)


def test_the_order_of_keys_in_the_file_changes_nothing(
    small_mapping: Callable[..., dict[str, Any]], default_params: dict[str, Any]
) -> None:
    for found in (small_mapping(), default_params):
        turned = json.loads(json.dumps(found))
        turned["train"]["space"] = {
            part: {
                name: dict(reversed(list(each.items()))) if isinstance(each, dict) else each
                for name, each in reversed(list(variants.items()))
            }
            if isinstance(variants, dict)
            else variants
            for part, variants in reversed(list(turned["train"]["space"].items()))
        }
        assert list(turned["train"]["space"]["optimizer"]) != list(found["train"]["space"]["optimizer"])
        first, second = (drawn(parse(each, where="").train.space) for each in (found, turned))
        assert first == second and [*map(list, first)] == [*map(list, second)]


def test_seeds_depend_on_all_parts() -> None:
    seeds = {derived_seed("trial", search, number) for search in range(20) for number in range(50)}
    assert len(seeds) == 1000 and all(0 <= each < 2**31 for each in seeds)
    assert derived_seed("trial", 1, 11) != derived_seed("trial", 11, 1)


def test_numbers_in_the_file_are_what_they_look_like(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("a: 1e-5\nb: 1\nc: 1.0\nd: true\ne: none\nf: .1\n", encoding="utf-8")
    assert typed(load_yaml(tmp_path / "params.yaml")) == typed(
        {"a": 1e-5, "b": 1, "c": 1.0, "d": True, "e": "none", "f": 0.1}
    )
