"""TrainedModel: the winner's manifest, models/trained.json, beside models/model.keras."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from medsweep.artifacts import files
from medsweep.artifacts.record import TASKS, Task
from medsweep.errors import ArtifactError

_MADE_BY = "train"


@dataclass(frozen=True)
class OperatingPoint:
    """A way to decide, fitted on validation.

    Args:
        rule: 'youden', 'sensitivity', 'specificity' or 'cost_ratio'.
        target: what was asked for: the least sensitivity or specificity, or how many false alarms weigh as much as
            one miss; None for Youden.
        thresholds: one for a binary task, one a label for multi-label, else one a class against the rest.
        sensitivity, specificity: of the validation images at each threshold; None where a class is missing there.
    """

    rule: str
    target: float | None
    thresholds: tuple[float, ...]
    sensitivity: tuple[float | None, ...]
    specificity: tuple[float | None, ...]

    @property
    def title(self) -> str:
        """What it is in plain words."""
        words = {
            "youden": "Youden (highest sensitivity + specificity)",
            "sensitivity": "sensitivity of at least {}",
            "specificity": "specificity of at least {}",
            "cost_ratio": "lowest cost, a miss counting as {} false alarms",
        }
        return words[self.rule].format("" if self.target is None else f"{self.target:g}")

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> OperatingPoint:
        """What `asdict` and JSON made of it, as an operating point again."""
        lists = {name: tuple(found[name]) for name in ("thresholds", "sensitivity", "specificity")}
        return cls(rule=found["rule"], target=found["target"], **lists)


@dataclass(frozen=True)
class TrainedModel:
    """What a model file is, where it came from and how its probabilities become decisions.

    Args:
        model_digest: SHA-256 of models/model.keras.
        members: the numbers of the trials that the model is made of (one, or an ensemble's).
        class_names: (K,).
        task: binary, multiclass, multilabel or ordinal.
        input_shape: (H, W, C) of raw pixels.
        value_range: the largest raw pixel value.
        objective: the name of the objective, as in `train.search.objective`.
        objective_value: the winner's value of it on validation.
        threshold: one value for a binary task, one a label for multi-label, empty otherwise; fitted on validation.
        threshold_rule: the rule it was fitted by.
        temperature: the calibration temperature baked into the model (1 means none).
        calibration: what the temperature did on validation: `ece`, `log_loss` and `auroc`, each before and after
            (`ece_before`, …), and `temperature_fitted`, which is `temperature` unless it was refused.
        operating_points: further ways to decide, fitted on validation after the temperature.
        trial: the winner's values by dotted name.
        facts: parameters, multiply_adds and file_bytes of the model (nothing measured by a clock).
        n_trials: trials by status.
        digests: of what it came from: prepared_train, prepared_val, augmented, params, code.
        files: the SHA-256 of what lies beside the model: validation.csv and features.npz.
        search_key: names the search in the run log and in MLflow.
        synthetic: True where it was trained on synthetic images.
        stopped: why the search ended before its last trial, or None.
        selection: how the winner was chosen and how much its value flatters: validation, folds, repeats, choose,
            standard_error, value, corrected, low, high, inflation, compared.
        final: what the model is made of: kind, why, networks, weights by trial, seeds, trained_on; value: of an
            ensemble on validation; single, ensemble: what choosing either is worth on patients that it did not see.

    Raises:
        ArtifactError: the parts disagree.
    """

    model_digest: str
    members: tuple[int, ...]
    class_names: tuple[str, ...]
    task: Task
    input_shape: tuple[int, int, int]
    value_range: int
    objective: str
    objective_value: float
    threshold: tuple[float, ...]
    threshold_rule: str
    temperature: float
    trial: Mapping[str, Any]
    facts: Mapping[str, float]
    n_trials: Mapping[str, int]
    digests: Mapping[str, str]
    search_key: str
    synthetic: bool
    calibration: Mapping[str, float | None] = field(default_factory=dict)
    operating_points: tuple[OperatingPoint, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    stopped: str | None = None
    selection: Mapping[str, Any] = field(default_factory=dict)
    final: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        wanted = {"binary": 1, "multilabel": len(self.class_names)}.get(self.task, 0)
        points = 1 if self.task == "binary" else len(self.class_names)
        rules = [
            (self.task in TASKS, f"the task must be one of {', '.join(TASKS)}"),
            (len(self.threshold) == wanted, f"a {self.task} model has {wanted} threshold(s)"),
            (len(self.members) >= 1, "a model has at least one member"),
            (self.temperature > 0, "the temperature must be positive"),
            (
                all(len(each.thresholds) == points for each in self.operating_points),
                f"an operating point of a {self.task} model has {points} threshold(s)",
            ),
            (len(self.input_shape) == 3, "the input shape is (H, W, C)"),
        ]
        for holds, why in rules:
            if not holds:
                raise ArtifactError(f"{why}.", where="trained model")

    def save(self, path: Path) -> None:
        files.write_json(path, asdict(self))

    @classmethod
    def load(cls, path: Path, *, model: Path | None = None) -> TrainedModel:
        """Read the manifest; where `model` is given, compare that file with the digest recorded here.

        Raises:
            ArtifactError: a file is missing, damaged, or not the one that train wrote.
        """
        found = files.read_json(path, made_by=_MADE_BY)
        try:
            for name in ("members", "class_names", "input_shape", "threshold"):
                found[name] = tuple(found[name])
            found["operating_points"] = tuple(OperatingPoint.of(each) for each in found["operating_points"])
            manifest = cls(**found)
        except (KeyError, TypeError) as error:
            raise files.damaged(path, f"is not a manifest of this version ({error}).", made_by=_MADE_BY) from None
        if model is not None:
            files.check_digests(model.parent, {model.name: manifest.model_digest}, made_by=_MADE_BY)
        return manifest
