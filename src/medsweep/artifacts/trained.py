"""TrainedModel: the winner's manifest, models/trained.json, beside models/model.keras."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medsweep.artifacts import files
from medsweep.artifacts.record import TASKS, Task
from medsweep.errors import ArtifactError

_MADE_BY = "train"


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
        trial: the winner's values by dotted name.
        facts: parameters, multiply_adds and file_bytes of the model (nothing measured by a clock).
        n_trials: trials by status.
        digests: of what it came from: prepared_train, prepared_val, augmented, params, code.
        search_key: names the search in the run log and in MLflow.
        synthetic: True where it was trained on synthetic images.

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

    def __post_init__(self) -> None:
        wanted = {"binary": 1, "multilabel": len(self.class_names)}.get(self.task, 0)
        rules = [
            (self.task in TASKS, f"the task must be one of {', '.join(TASKS)}"),
            (len(self.threshold) == wanted, f"a {self.task} model has {wanted} threshold(s)"),
            (len(self.members) >= 1, "a model has at least one member"),
            (self.temperature > 0, "the temperature must be positive"),
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
            manifest = cls(**found)
        except (KeyError, TypeError) as error:
            raise files.damaged(path, f"is not a manifest of this version ({error}).", made_by=_MADE_BY) from None
        if model is not None:
            files.check_digests(model.parent, {model.name: manifest.model_digest}, made_by=_MADE_BY)
        return manifest
