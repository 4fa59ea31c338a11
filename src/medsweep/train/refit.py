"""From the winner's checkpoint to models/model.keras: raw pixels in, calibrated probabilities out, the same bytes
every time; and what is fitted on validation with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medsweep.artifacts import files
from medsweep.artifacts.features import FeatureStatistics
from medsweep.artifacts.trial import TrialConfig
from medsweep.artifacts.validation import ValidationPredictions
from medsweep.statistics.features import FeatureMoments, energy, mahalanobis
from medsweep.statistics.temperature import logits_of, tempered
from medsweep.train.backbones import inner_model, mean_of_networks, with_temperature
from medsweep.train.decisions import Calibration, DecisionRules, Decisions, fit_decisions, judge, wanted_temperature
from medsweep.train.examples import HOLDOUT, Part, Split, TrainingData, subset
from medsweep.train.fit import FitTask, finished_network
from medsweep.train.model_file import save_model
from medsweep.train.network import Network, TrialFailedError

if TYPE_CHECKING:
    import keras
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Member:
    """One network of the model.

    Args:
        config: the trial, with the seed that this network was trained with.
        checkpoint: its last.
        factor: what its logits are multiplied by before they are added: its share over its temperature.
    """

    config: TrialConfig
    checkpoint: Path
    factor: float = 1.0


@dataclass(frozen=True)
class RefitTask:
    """Turn checkpoints into the files of the model, with what `rules` ask for fitted on validation.

    Args:
        members: one network, or those of an ensemble.
        data: the arrays.
        max_epochs: of a whole training.
        save_to: the model file.
        validation: the file for what it says about validation.
        features: the file for what its features look like in training.
        rules: what is fitted on validation.
        part: what the members were trained on.
        judged: where they were trained on the validation images too: a file of (n, K) probabilities of the last n of
            the images, by networks of the same trials that had not seen these images. Else None.
    """

    members: tuple[Member, ...]
    data: TrainingData
    max_epochs: int
    save_to: Path
    validation: Path
    features: Path
    rules: DecisionRules
    part: Part = HOLDOUT
    judged: Path | None = None


@dataclass(frozen=True)
class FinalModel:
    """The model file's digest, what was fitted on validation, the digests of the files beside it, and its facts."""

    digest: str
    calibration: Calibration
    decisions: Decisions
    files: dict[str, str]
    facts: dict[str, float]


def refit(task: RefitTask) -> FinalModel:
    """Write the final model, its temperature and thresholds fitted on images that it was not trained on.

    Raises:
        TrialFailedError: a checkpoint is not the trial's, or there are no such images.
    """
    with _assembled(task) as (network, model):
        looked, judged = _looked_at(task, network)
        if not len(looked):
            raise TrialFailedError("the validation split is empty")
        features, logits = _seen(network, model, looked.images)
        calibration, probabilities = _calibrated(network, model, looked, task.rules, logits, judged)
        save_model(with_temperature(model, calibration.temperature, looked.task), task.save_to)
        facts = network.measure(task.save_to.parent, None if model is network.model else model)
        statistics = _feature_statistics(network, model)
    statistics.save(task.features)
    ValidationPredictions(
        record_ids=looked.record_ids,
        patient_ids=looked.patient_ids,
        labels=looked.labels,
        probabilities=probabilities,
        distances=mahalanobis(features, statistics.means, statistics.covariance),
        energies=energy(looked.task, logits),
    ).save(task.validation, class_names=looked.class_names)
    return FinalModel(
        digest=files.digest_file(task.save_to),
        calibration=calibration,
        decisions=fit_decisions(task.rules, looked.task, looked.labels, probabilities),
        files={path.name: files.digest_file(path) for path in (task.validation, task.features)},
        facts=facts | {"file_bytes": float(task.save_to.stat().st_size)},
    )


@contextmanager
def _assembled(task: RefitTask) -> Iterator[tuple[Network, keras.Model]]:
    """The first member's network, which knows the images, and the model: that network, or the mean of all members."""
    import keras

    segments = [
        FitTask(
            each.config,
            task.data,
            task.max_epochs,
            task.max_epochs,
            each.checkpoint,
            each.checkpoint,
            measure=False,
            part=task.part,
        )
        for each in task.members
    ]
    if len(segments) == 1:
        with finished_network(segments[0]) as network:
            yield network, network.model
        return
    parts = []
    for segment, member in zip(segments, task.members, strict=True):
        with finished_network(segment) as network:
            copy = keras.models.clone_model(network.model)
            copy.set_weights(network.model.get_weights())
        parts.append((copy, member.factor))
    # Dropout draws its state when a layer is made, and the file holds it.
    keras.utils.set_random_seed(task.members[0].config.seed)
    model = mean_of_networks(parts)
    with finished_network(segments[0]) as network:
        yield network, model


def _looked_at(task: RefitTask, network: Network) -> tuple[Split, NDArray[np.float64] | None]:
    """The images that decisions are fitted on, and what networks that had not seen them said of them."""
    if task.judged is None:
        return network.arrays.val, None
    judged = np.load(task.judged, allow_pickle=False).astype(np.float64)
    every = network.arrays.train
    rows = np.arange(len(every) - len(judged), len(every))
    return subset(every, rows), judged


def _seen(network: Network, model: keras.Model, images: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Features (N, F) and logits (N, K) of images."""
    features, logits = zip(*network.outputs(inner_model(model), images), strict=True)
    return np.concatenate(features), np.concatenate(logits)


def _calibrated(
    network: Network,
    model: keras.Model,
    looked: Split,
    rules: DecisionRules,
    logits: NDArray[np.float64],
    judged: NDArray[np.float64] | None,
) -> tuple[Calibration, NDArray[np.float64]]:
    """The temperature, and the probabilities of the images with it."""
    if judged is None:
        before = np.concatenate([found for (found,) in network.outputs(model, looked.images)])
        temperature = wanted_temperature(rules, looked.task, looked.labels, logits)
        cooled = with_temperature(model, temperature, looked.task)
        after = np.concatenate([found for (found,) in network.outputs(cooled, looked.images)])
    else:
        before = judged
        logits = logits_of(looked.task, judged)
        temperature = wanted_temperature(rules, looked.task, looked.labels, logits)
        after = tempered(looked.task, logits, temperature)
    calibration = judge(looked.task, looked.labels, before, after, temperature)
    return calibration, after if calibration.temperature == temperature else before


def _feature_statistics(network: Network, model: keras.Model) -> FeatureStatistics:
    """Means and covariance of the training images' features: one pass, in memory that does not grow with them."""
    train = network.arrays.train
    groups = np.zeros(len(train), np.int64) if train.task == "multilabel" else train.labels
    moments = FeatureMoments(1 if train.task == "multilabel" else len(train.class_names))
    done = 0
    for features, _ in network.outputs(inner_model(model), train.images):
        moments.add(features, groups[done : done + len(features)])
        done += len(features)
    return FeatureStatistics(*moments.means_and_covariance())
