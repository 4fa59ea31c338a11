"""The search space: from params.yaml to distributions, and from a trial's drawn values to its configuration."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from medsweep.artifacts.trial import Scalar, TrialConfig
from medsweep.errors import ParamsError, unknown_name
from medsweep.params import Range, Setting, Space, Train
from medsweep.train.backbones import ACTIVATIONS, BACKBONES, POOLINGS, STANDARDIZATIONS
from medsweep.train.hyperparameters import check_value
from medsweep.train.losses import LOSSES
from medsweep.train.optimizers import OPTIMIZERS
from medsweep.train.schedules import SCHEDULES

if TYPE_CHECKING:
    import optuna

PREFIX = "train.space"

# Each named part of the space and what each of its rows must be given.
_TABLES: dict[str, dict[str, tuple[str, ...]]] = {
    "optimizer": {name: row.hyperparameters for name, row in OPTIMIZERS.items()},
    "loss": {name: row.hyperparameters for name, row in LOSSES.items()},
    "backbone": {name: row.hyperparameters for name, row in BACKBONES.items()},
    "schedule": {name: row.hyperparameters for name, row in SCHEDULES.items()},
}
_CHOICES: dict[str, tuple[str, ...]] = {
    "activation": tuple(ACTIVATIONS),
    "pooling": tuple(POOLINGS),
    "standardize": tuple(STANDARDIZATIONS),
}
NAMED = tuple(_TABLES)
# Asked of every trial, after the named parts; `views` only where a policy is chosen.
PLAIN = ("activation", "pooling", "batch_size", "weight_decay", "class_weights", "standardize", "policy")


def check_space(train: Train, *, max_views: int) -> None:
    """Make sure that every name and value of the space is one that the tables of `train` know.

    Args:
        train: the stage's parameters.
        max_views: how many views augment draws.

    Raises:
        ParamsError: with the dotted path of the first bad key.
    """
    space = train.space
    for part, table in _TABLES.items():
        variants: Mapping[str, Mapping[str, Setting]] = part_of(space, part)
        for name, settings in variants.items():
            where = f"{PREFIX}.{part}.{name}"
            if name not in table:
                raise unknown_name(part, name, list(table), where=where)
            for key in settings:
                if key not in table[name]:
                    takes = f"It takes: {', '.join(table[name])}." if table[name] else "It takes none."
                    raise ParamsError("unknown hyperparameter.", where=f"{where}.{key}", fix=takes)
            for key in table[name]:
                if key not in settings:
                    raise ParamsError("is missing.", where=f"{where}.{key}", fix="Give a value, [choices] or a range.")
                for value in _corners(settings[key]):
                    check_value(key, value, where=f"{where}.{key}")
    for part, valid in _CHOICES.items():
        for chosen in part_of(space, part):
            if chosen not in valid:
                raise unknown_name(part, str(chosen), list(valid), where=f"{PREFIX}.{part}")
    for key, low, high, whole in (
        ("batch_size", 1, 4096, True),
        ("weight_decay", 0.0, 10.0, False),
        ("views", 1, max_views, True),
    ):
        for value in _corners(part_of(space, key)):
            fits = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
            if not fits or not low <= value <= high:  # type: ignore[operator]
                kind = "a whole number" if whole else "a number"
                extra = " (augment.views)" if key == "views" else ""
                raise ParamsError(
                    f"must be {kind} from {low} to {high}{extra}, not {value!r}.", where=f"{PREFIX}.{key}"
                )


def part_of(space: Space, part: str) -> Any:
    """One part of the space by its name in params.yaml."""
    return dict(space)[part]


def _corners(setting: Setting) -> list[Scalar]:
    if isinstance(setting, Range):
        return [setting.low, setting.high]
    return list(setting) if isinstance(setting, list) else [setting]


def distribution_of(setting: Setting) -> optuna.distributions.BaseDistribution | None:
    """What Optuna draws a setting from; None where there is nothing to draw."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(setting, Range):
        if setting.whole:
            return IntDistribution(int(setting.low), int(setting.high), log=setting.log)
        return FloatDistribution(float(setting.low), float(setting.high), log=setting.log)
    if isinstance(setting, list):
        return CategoricalDistribution(tuple(setting)) if len(setting) > 1 else None
    return None


def draw(trial: optuna.Trial, space: Space) -> dict[str, Scalar]:
    """All values of a trial by dotted name; what has one possible value is not asked of Optuna."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    values: dict[str, Scalar] = {}

    def ask(name: str, setting: Setting) -> Scalar:
        how = distribution_of(setting)
        if how is None:
            value = setting[0] if isinstance(setting, list) else setting
        elif isinstance(how, CategoricalDistribution):
            value = trial.suggest_categorical(name, how.choices)
        elif isinstance(how, IntDistribution):
            value = trial.suggest_int(name, how.low, how.high, log=how.log)
        elif isinstance(how, FloatDistribution):
            value = trial.suggest_float(name, how.low, how.high, log=how.log)
        else:
            raise AssertionError(f"no way to draw {name}")
        values[name] = value  # type: ignore[assignment]
        return values[name]

    for part in _TABLES:
        variants = part_of(space, part)
        # Sorted: DVC does not see the order in which keys are written, so no result may depend on it.
        chosen = str(ask(f"{PREFIX}.{part}", sorted(variants)))
        for key, setting in sorted(variants[chosen].items()):
            ask(f"{PREFIX}.{part}.{chosen}.{key}", setting)
    for part in PLAIN:
        ask(f"{PREFIX}.{part}", part_of(space, part))
    if values[f"{PREFIX}.policy"] != "none":
        ask(f"{PREFIX}.views", space.views)
    return values


def distributions(space: Space, values: Mapping[str, Scalar]) -> dict[str, optuna.distributions.BaseDistribution]:
    """The distributions that a trial with these values drew from, by dotted name."""
    settings: dict[str, Setting] = {}
    for part in _TABLES:
        variants = part_of(space, part)
        settings[f"{PREFIX}.{part}"] = sorted(variants)
        chosen = str(values[f"{PREFIX}.{part}"])
        for key, setting in variants[chosen].items():
            settings[f"{PREFIX}.{part}.{chosen}.{key}"] = setting
    for part in (*PLAIN, "views"):
        settings[f"{PREFIX}.{part}"] = part_of(space, part)
    found = {name: distribution_of(setting) for name, setting in settings.items() if name in values}
    return {name: how for name, how in found.items() if how is not None}


def derived_seed(*parts: int | str) -> int:
    """A seed from 0 to 2³¹ - 1 that depends on all parts and looks like none of them."""
    text = "/".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


def configure(number: int, seed: int, values: Mapping[str, Scalar]) -> TrialConfig:
    """The trial's configuration; its own seed comes from the search's seed and its number."""
    return TrialConfig.from_dotted(number, derived_seed("trial", seed, number), values)
