"""TABLE: whole configurations that are known to be sound, which a search tries before it draws anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from medsweep.artifacts.trial import Scalar
from medsweep.errors import unknown_name
from medsweep.params import Range, Setting, Train
from medsweep.train.space import NAMED, PLAIN, PREFIX, part_of

WHERE = "train.search.presets"


@dataclass(frozen=True)
class Preset:
    """One configuration.

    Args:
        named: for each named part of the space the row and its settings.
        plain: the other values; `views` only with a policy.
        what: one sentence.
    """

    named: Mapping[str, tuple[str, Mapping[str, Scalar]]]
    plain: Mapping[str, Scalar]
    what: str


PRESETS: dict[str, Preset] = {
    "tutorial": Preset(
        {
            "optimizer": ("adam", {"learning_rate": 0.001}),
            "loss": ("categorical_crossentropy", {"label_smoothing": 0.0}),
            "backbone": ("tutorial", {"dropout": 0.0}),
            "schedule": ("constant", {}),
        },
        {
            "activation": "relu",
            "pooling": "max",
            "batch_size": 64,
            "weight_decay": 0.0,
            "class_weights": "none",
            "standardize": "dataset",
            "policy": "none",
        },
        "The tutorials' network with Keras's default Adam, as a beginner would train it.",
    ),
    "plain": Preset(
        {
            "optimizer": ("adamw", {"learning_rate": 0.002}),
            "loss": ("categorical_crossentropy", {"label_smoothing": 0.05}),
            "backbone": ("plain", {"depth": 3, "width": 16, "batch_norm": True, "dropout": 0.3}),
            "schedule": ("cosine", {"floor": 0.02}),
        },
        {
            "activation": "relu",
            "pooling": "average",
            "batch_size": 32,
            "weight_decay": 0.01,
            "class_weights": "none",
            "standardize": "image",
            "policy": "geometric",
            "views": 4,
        },
        "Six convolutions with batch normalization, AdamW with a cosine schedule, geometric views.",
    ),
}


def presets_in_space(train: Train) -> dict[str, dict[str, Scalar]]:
    """The values by dotted name of each wanted preset that lies inside the space, in the order of the table.

    A preset lies inside where the space has its names (rows, activation, pooling, policy …). Its numbers go to the
    nearest ones that the space has. Of two presets that come to the same the first is kept.

    Raises:
        ParamsError: a wanted preset is not in the table.
    """
    for name in train.search.presets:
        if name not in PRESETS:
            raise unknown_name("preset", name, list(PRESETS), where=WHERE)
    found: dict[str, dict[str, Scalar]] = {}
    for name, preset in PRESETS.items():
        values = _settled(preset, train) if name in train.search.presets else None
        if values is not None and values not in found.values():
            found[name] = values
    return found


def _settled(preset: Preset, train: Train) -> dict[str, Scalar] | None:
    values: dict[str, Scalar] = {}
    for part in NAMED:
        row, settings = preset.named[part]
        variants = part_of(train.space, part)
        if row not in variants:
            return None
        values[f"{PREFIX}.{part}"] = row
        for key, value in settings.items():
            near = _nearest(variants[row][key], value)
            if near is None:
                return None
            values[f"{PREFIX}.{part}.{row}.{key}"] = near
    plain = (*PLAIN, "views") if "views" in preset.plain else PLAIN
    for part in plain:
        near = _nearest(part_of(train.space, part), preset.plain[part])
        if near is None:
            return None
        values[f"{PREFIX}.{part}"] = near
    return values


def _nearest(setting: Setting, value: Scalar) -> Scalar | None:
    """The value of a setting that comes nearest to a number; for a name, the name itself or None."""
    if isinstance(setting, Range):
        if not _is_number(value):
            return None
        inside = min(max(float(value), float(setting.low)), float(setting.high))
        return round(inside) if setting.whole else inside
    choices = setting if isinstance(setting, list) else [setting]
    if _is_number(value) and all(map(_is_number, choices)):
        return min(choices, key=lambda each: abs(float(each) - float(value)))
    return next((each for each in choices if type(each) is type(value) and each == value), None)


def _is_number(value: Scalar) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
