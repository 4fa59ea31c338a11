"""TrialConfig and TrialOutcome: what a worker is asked to fit, and what it answers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from medsweep.errors import ArtifactError

Scalar = bool | int | float | str
Status = Literal["complete", "pruned", "failed"]
STATUSES: tuple[Status, ...] = ("complete", "pruned", "failed")
_SPACE = "train.space"
_NAMED = ("optimizer", "loss", "backbone", "schedule")
_PLAIN = ("activation", "pooling", "batch_size", "weight_decay", "class_weights", "standardize", "policy", "views")


@dataclass(frozen=True)
class Named:
    """One row of a table, chosen with its settings: an optimizer, a loss, a backbone or a schedule."""

    name: str
    settings: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True)
class TrialConfig:
    """All that makes one trial what it is; equal configurations train to equal weights.

    Args:
        number: the trial's number in its search, from 0.
        seed: seeds initial weights, dropout and the order of images.
        optimizer, loss, backbone, schedule: a row of each table with its settings.
        activation, pooling, standardize: names of table rows.
        batch_size: images a step.
        weight_decay: decoupled weight decay, 0 for none.
        class_weights: 'none' or 'balanced'.
        policy: an augmentation policy, or 'none'.
        views: how many of the policy's views take part (0 where the policy is 'none').
    """

    number: int
    seed: int
    optimizer: Named
    loss: Named
    backbone: Named
    schedule: Named
    activation: str
    pooling: str
    batch_size: int
    weight_decay: float
    class_weights: str
    standardize: str
    policy: str
    views: int

    def dotted(self) -> dict[str, Scalar]:
        """Every value under its path in params.yaml: the name that Optuna and MLflow know it by."""
        found: dict[str, Scalar] = {}
        for key in _NAMED:
            chosen: Named = self.__dict__[key]
            found[f"{_SPACE}.{key}"] = chosen.name
            for name, value in chosen.settings.items():
                found[f"{_SPACE}.{key}.{chosen.name}.{name}"] = value
        for key in _PLAIN:
            if key == "views" and self.policy == "none":
                continue
            found[f"{_SPACE}.{key}"] = self.__dict__[key]
        return found

    @classmethod
    def from_dotted(cls, number: int, seed: int, values: Mapping[str, Scalar]) -> TrialConfig:
        """The inverse of `dotted`.

        Raises:
            ArtifactError: a value is missing.
        """
        try:
            parts: dict[str, Any] = {}
            for key in _NAMED:
                name = str(values[f"{_SPACE}.{key}"])
                head = f"{_SPACE}.{key}.{name}."
                parts[key] = Named(name, {k.removeprefix(head): v for k, v in values.items() if k.startswith(head)})
            plain: dict[str, Any] = {key: values[f"{_SPACE}.{key}"] for key in _PLAIN if key != "views"}
            views = int(values[f"{_SPACE}.views"]) if plain["policy"] != "none" else 0
        except KeyError as error:
            raise ArtifactError(f"a trial lacks the value {error}.") from None
        plain["batch_size"] = int(plain["batch_size"])
        plain["weight_decay"] = float(plain["weight_decay"])
        return cls(number=number, seed=seed, views=views, **parts, **plain)

    @property
    def title(self) -> str:
        """A short name that tells trials apart: number, optimizer, loss, backbone."""
        return f"trial {self.number:03d} · {self.optimizer.name} · {self.loss.name} · {self.backbone.name}"


@dataclass(frozen=True)
class Epoch:
    """One epoch's figures: number from 1, mean training loss and accuracy, and the validation metrics by name."""

    number: int
    loss: float
    accuracy: float
    validation: Mapping[str, float]


@dataclass(frozen=True)
class TrialOutcome:
    """What became of a trial.

    Args:
        config: what was asked.
        status: complete (trained to the last epoch), pruned (stopped at a rung) or failed.
        objective: the objective after the last epoch, or None where it failed.
        history: the epochs that were trained, in order.
        seconds: CPU seconds used. A clock's value: logged, never part of trials.csv.
        peak_rss: the worker's peak resident memory in bytes; likewise.
        checkpoint: the file name of its weights while they are kept, else None.
        error: why it failed, in one line.
        facts: what else was found out: multiply_adds, parameters, file_bytes, latency_ms.

    Raises:
        ArtifactError: status and values disagree.
    """

    config: TrialConfig
    status: Status
    objective: float | None
    history: tuple[Epoch, ...]
    seconds: float
    peak_rss: int
    checkpoint: str | None
    error: str | None
    facts: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rules = [
            (self.status in STATUSES, f"'{self.status}' is no status"),
            ((self.error is not None) == (self.status == "failed"), "a failed trial, and only that, has an error"),
            (self.status == "failed" or bool(self.history), "a trial that did not fail has a history"),
            (
                self.status == "failed" or (self.objective is not None and math.isfinite(self.objective)),
                "a trial that did not fail has a finite objective",
            ),
            ([each.number for each in self.history] == list(range(1, len(self.history) + 1)), "epochs must run from 1"),
        ]
        for holds, why in rules:
            if not holds:
                raise ArtifactError(f"{why}.", where=self.config.title)
