"""From the chosen trials to the model: what is trained for it beyond the search, and what it is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from medsweep.artifacts import files
from medsweep.artifacts.record import Task
from medsweep.artifacts.trial import TrialConfig, TrialOutcome
from medsweep.errors import SearchError
from medsweep.layout import Layout
from medsweep.params import Train
from medsweep.statistics.temperature import logits_of, tempered
from medsweep.train.composition import Composition
from medsweep.train.decisions import DecisionRules
from medsweep.train.examples import ALL, HOLDOUT, Part
from medsweep.train.executor import WorkerDied, Workers
from medsweep.train.fit import FitTask, fit
from medsweep.train.refit import FinalModel, Member, RefitTask, refit
from medsweep.train.search import Search
from medsweep.train.selection import Told
from medsweep.train.space import derived_seed
from medsweep.train.validation import Validation


@dataclass(frozen=True)
class _Wanted:
    """A network of the model: its trial with its seed, its weight, and where its checkpoint is or will be."""

    config: TrialConfig
    factor: float
    checkpoint: Path


def trained_on(train: Train, validation: Validation) -> Part:
    """What the model's networks are trained on: where folds were compared, or where it is asked for, on everything."""
    return ALL if train.final.refit == "always" or validation.kind == "cross_validation" else HOLDOUT


def build(
    search: Search,
    composition: Composition,
    told: Told,
    validation: Validation,
    task: Task,
    writer: Workers,
    work: Path,
    layout: Layout,
) -> FinalModel:
    """Train what the model lacks, with the search's workers, and write it with `writer`.

    Raises:
        SearchError: a network could not be trained.
    """
    train = search.train
    part = trained_on(train, validation)
    wanted = _wanted(search, composition, told, part)
    epochs = train.search.max_epochs
    missing = [
        FitTask(each.config, search.data, epochs, epochs, None, each.checkpoint, measure=False, part=part)
        for each in wanted
        if not each.checkpoint.is_file()
    ]
    for index, answer in search.workers.map_unordered(fit, missing):
        error = answer.reason if isinstance(answer, WorkerDied) else answer.error
        if error is not None:
            raise SearchError(
                f"a network of the model could not be trained ({missing[index].config.title}): {error}.",
                where="train.final",
                fix="Ask for fewer seeds, or for refit: auto.",
            )
    judged = None
    if part == ALL:
        judged = work / "judged.npy"
        with files.replacing(judged) as temporary, temporary.open("wb") as stream:
            np.save(stream, _judged(composition, told, task), allow_pickle=False)
    final = writer.run(
        refit,
        RefitTask(
            members=tuple(Member(each.config, each.checkpoint, each.factor) for each in wanted),
            data=search.data,
            max_epochs=epochs,
            save_to=work / layout.model.name,
            validation=work / layout.validation.name,
            features=work / layout.features.name,
            rules=DecisionRules.of(train),
            part=part,
            judged=judged,
        ),
    )
    if isinstance(final, WorkerDied):
        raise SearchError(f"the model could not be written: {final.reason}.")
    return final


def facts_of(composition: Composition, train: Train, validation: Validation) -> dict[str, Any]:
    """What `trained.json` says about what the model is made of."""
    return {
        "kind": composition.kind,
        "why": composition.why,
        "networks": len(composition.weights) * train.final.seeds,
        "weights": {str(number): weight for number, weight in composition.weights.items()},
        "seeds": train.final.seeds,
        "trained_on": "training and validation" if trained_on(train, validation) == ALL else "training",
        "value": composition.value,
        "single": composition.single,
        "ensemble": composition.ensemble,
    }


def _wanted(search: Search, composition: Composition, told: Told, part: Part) -> list[_Wanted]:
    outcomes: Mapping[int, TrialOutcome] = {each.config.number: each for each in told.outcomes}
    seeds = search.train.final.seeds
    found = []
    for number, weight in composition.weights.items():
        temperature = composition.temperatures.get(number, 1.0)
        for index in range(seeds):
            config = outcomes[number].config
            checkpoint = search.checkpoint_of(outcomes[number])
            if index:
                config = replace(config, seed=derived_seed("final", config.seed, index))
            if index or part == ALL:
                name = f"final-{part.kind}-trial-{number:05d}-seed-{index:03d}.npz"
                checkpoint = search.checkpoints / name
            found.append(_Wanted(config, weight / seeds / temperature, checkpoint))
    return found


def _judged(composition: Composition, told: Told, task: Task) -> Any:
    """What networks of these trials that had not seen the validation images (each fold) said of them: (n, K).

    Of a repeated cross-validation the first repeat: means over repeats would be surer than one network is.
    """
    place = {each.config.number: index for index, each in enumerate(told.outcomes)}
    total: Any = 0.0
    for number, weight in composition.weights.items():
        logits = logits_of(task, told.probabilities[place[number], 0])
        total = total + weight * logits / composition.temperatures.get(number, 1.0)
    return tempered(task, total, 1.0)
