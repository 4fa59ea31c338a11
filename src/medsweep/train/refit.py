"""From the winner's checkpoint to models/model.keras: raw pixels in, calibrated probabilities out, the same bytes
every time; and what is fitted on validation with it."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medsweep.artifacts import files
from medsweep.artifacts.features import FeatureStatistics
from medsweep.artifacts.trial import TrialConfig
from medsweep.artifacts.validation import ValidationPredictions
from medsweep.statistics.features import FeatureMoments, energy, mahalanobis
from medsweep.train.backbones import inner_model, with_temperature
from medsweep.train.decisions import Calibration, DecisionRules, Decisions, fit_decisions, judge, wanted_temperature
from medsweep.train.fit import FitTask, TrainingData, TrialFailedError, finished_network

if TYPE_CHECKING:
    import keras
    from numpy.typing import NDArray

    from medsweep.train.fit import _Network

_ZIP_DATE = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class RefitTask:
    """Turn a trial's last checkpoint into the files of the model, with what `rules` ask for fitted on validation.

    Args:
        config: the trial.
        data: the arrays.
        max_epochs: of a whole training.
        checkpoint: the trial's last.
        save_to: the model file.
        validation: the file for what it says about validation.
        features: the file for what its features look like in training.
        rules: what is fitted on validation.
    """

    config: TrialConfig
    data: TrainingData
    max_epochs: int
    checkpoint: Path
    save_to: Path
    validation: Path
    features: Path
    rules: DecisionRules


@dataclass(frozen=True)
class FinalModel:
    """The model file's digest, what was fitted on validation, the digests of the files beside it, and its facts."""

    digest: str
    calibration: Calibration
    decisions: Decisions
    files: dict[str, str]
    facts: dict[str, float]


def refit(task: RefitTask) -> FinalModel:
    """Write the final model, its temperature and thresholds fitted on validation.

    Raises:
        TrialFailedError: the checkpoint is not the trial's, or the validation split is empty.
    """
    segment = FitTask(
        task.config, task.data, task.max_epochs, task.max_epochs, task.checkpoint, task.checkpoint, measure=False
    )
    with finished_network(segment) as network:
        val = network.arrays.val
        if not len(val):
            raise TrialFailedError("the validation split is empty")
        features, logits = _seen(network, val.images)
        calibration, probabilities = _calibrated(network, task.rules, logits)
        save_model(with_temperature(network.model, calibration.temperature, val.task), task.save_to)
        facts = network.measure(task.save_to.parent)
        statistics = _feature_statistics(network)
    statistics.save(task.features)
    ValidationPredictions(
        record_ids=val.record_ids,
        patient_ids=val.patient_ids,
        labels=val.labels,
        probabilities=probabilities,
        distances=mahalanobis(features, statistics.means, statistics.covariance),
        energies=energy(val.task, logits),
    ).save(task.validation, class_names=val.class_names)
    return FinalModel(
        digest=files.digest_file(task.save_to),
        calibration=calibration,
        decisions=fit_decisions(task.rules, val.task, val.labels, probabilities),
        files={path.name: files.digest_file(path) for path in (task.validation, task.features)},
        facts=facts | {"file_bytes": float(task.save_to.stat().st_size)},
    )


def _seen(network: _Network, images: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Features (N, F) and logits (N, K) of images."""
    features, logits = zip(*network.outputs(inner_model(network.model), images), strict=True)
    return np.concatenate(features), np.concatenate(logits)


def _calibrated(
    network: _Network, rules: DecisionRules, logits: NDArray[np.float64]
) -> tuple[Calibration, NDArray[np.float64]]:
    """The temperature, and the probabilities of the validation images with it."""
    val = network.arrays.val
    before = network.probabilities(val.images)
    temperature = wanted_temperature(rules, val.task, val.labels, logits)
    model = with_temperature(network.model, temperature, val.task)
    after = np.concatenate([found for (found,) in network.outputs(model, val.images)])
    calibration = judge(val.task, val.labels, before, after, temperature)
    return calibration, after if calibration.temperature == temperature else before


def _feature_statistics(network: _Network) -> FeatureStatistics:
    """Means and covariance of the training images' features: one pass, in memory that does not grow with them."""
    train = network.arrays.train
    groups = np.zeros(len(train), np.int64) if train.task == "multilabel" else train.labels
    moments = FeatureMoments(1 if train.task == "multilabel" else len(train.class_names))
    done = 0
    for features, _ in network.outputs(inner_model(network.model), train.images):
        moments.add(features, groups[done : done + len(features)])
        done += len(features)
    return FeatureStatistics(*moments.means_and_covariance())


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
