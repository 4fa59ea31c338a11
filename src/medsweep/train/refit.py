"""From the winner's checkpoint to models/model.keras: raw pixels in, probabilities out, the same bytes every time."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medsweep.artifacts import files
from medsweep.artifacts.trial import TrialConfig
from medsweep.statistics.operating_points import fit_thresholds
from medsweep.train.fit import FitTask, TrainingData, TrialFailedError, finished_network

if TYPE_CHECKING:
    import keras

_ZIP_DATE = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class RefitTask:
    """Turn a trial's last checkpoint into the model file `save_to`, its threshold fitted by `threshold_rule`."""

    config: TrialConfig
    data: TrainingData
    max_epochs: int
    checkpoint: Path
    save_to: Path
    threshold_rule: str


@dataclass(frozen=True)
class FinalModel:
    """The model file's digest, its fitted threshold (see `TrainedModel`) and its facts."""

    digest: str
    threshold: tuple[float, ...]
    facts: dict[str, float]


def refit(task: RefitTask) -> FinalModel:
    """Write the final model and fit its threshold on validation.

    Raises:
        TrialFailedError: the checkpoint is not the trial's.
    """
    segment = FitTask(
        task.config, task.data, task.max_epochs, task.max_epochs, task.checkpoint, task.checkpoint, measure=False
    )
    with finished_network(segment) as network:
        val = network.arrays.val
        probabilities = network.probabilities(val.images)
        save_model(network.model, task.save_to)
        facts = network.measure(task.save_to.parent)
    if not probabilities.size:
        raise TrialFailedError("the validation split is empty")
    return FinalModel(
        digest=files.digest_file(task.save_to),
        threshold=fit_thresholds(task.threshold_rule, val.task, val.labels, probabilities),
        facts=facts,
    )


def save_model(model: keras.Model, path: Path) -> None:
    """Write a `.keras` archive whose bytes depend on the model alone: no dates, no state of the process."""
    with files.replacing(path) as temporary:
        raw = temporary.with_suffix(".raw.keras")
        try:
            model.save(raw, include_optimizer=False)
            _normalize(raw, temporary)
        finally:
            raw.unlink(missing_ok=True)


def _normalize(raw: Path, target: Path) -> None:
    with zipfile.ZipFile(raw) as source, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(source.namelist()):
            content = source.read(name)
            if name == "metadata.json":
                content = json.dumps({**json.loads(content), "date_saved": "1980-01-01@00:00:00"}).encode()
            elif name == "config.json":
                content = json.dumps(_renumbered(json.loads(content), {})).encode()
            archive.writestr(zipfile.ZipInfo(name, _ZIP_DATE), content)


def _renumbered(config: Any, known: dict[int, int]) -> Any:
    """The same configuration with Keras's ids of shared objects, which are addresses in memory, counted from 1."""
    if isinstance(config, dict):
        return {
            key: known.setdefault(value, len(known) + 1) if key == "shared_object_id" else _renumbered(value, known)
            for key, value in config.items()
        }
    return [_renumbered(each, known) for each in config] if isinstance(config, list) else config
