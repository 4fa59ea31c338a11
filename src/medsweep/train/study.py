"""The Optuna study: asked for a generation of trials at a time, and rebuilt from their outcomes each time.

Rebuilding makes a resumed search equal an uninterrupted one: both ask the same fresh study with the same finished
trials and a sampler seeded from (seed, generation).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medsweep.artifacts.trial import TrialConfig, TrialOutcome
from medsweep.errors import MedsweepError
from medsweep.params import Train
from medsweep.statistics.objective import OBJECTIVES
from medsweep.train.presets import presets_in_space
from medsweep.train.ranking import searched_cost
from medsweep.train.space import configure, derived_seed, distributions, draw

if TYPE_CHECKING:
    import optuna


def study_of(
    train: Train,
    outcomes: Sequence[TrialOutcome],
    *,
    generation: int = 0,
    storage: str | None = None,
    name: str = "search",
) -> optuna.Study:
    """A study that holds the outcomes so far, its sampler seeded for the generation that is asked next.

    Args:
        train: the stage's parameters.
        outcomes: finished trials in the order of their numbers.
        generation: which generation will be asked.
        storage: an Optuna storage URL; in memory where None.
        name: the study's name.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.TPESampler(
        seed=derived_seed("generation", train.seed, generation),
        n_startup_trials=train.search.startup_trials,
        multivariate=True,
        group=True,  # the space is conditional: an optimizer's settings exist only where it is chosen
        constant_liar=True,
    )
    directions = [OBJECTIVES[train.search.objective].direction, *(["minimize"] if train.search.cost != "none" else [])]
    study = optuna.create_study(storage=storage, sampler=sampler, study_name=name, directions=directions)
    study.add_trials([_frozen(train, outcome) for outcome in outcomes])
    return study


def ask_generation(train: Train, outcomes: Sequence[TrialOutcome], generation: int, count: int) -> list[TrialConfig]:
    """The next `count` trials, numbered on from the outcomes so far: first the presets, then what the sampler draws."""
    import warnings

    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study = study_of(train, outcomes, generation=generation)
        first = len(outcomes)
        for values in list(presets_in_space(train).values())[first : first + count]:
            asked = distributions(train.space, values)
            study.enqueue_trial({name: values[name] for name in asked})
        return [configure(first + index, train.seed, draw(study.ask(), train.space)) for index in range(count)]


def export_study(train: Train, outcomes: Sequence[TrialOutcome], database: Path, *, name: str) -> None:
    """Write the finished search as a plain Optuna study in SQLite, for optuna-dashboard.

    Raises:
        MedsweepError: the database cannot be written.
    """
    import warnings

    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    try:
        database.unlink(missing_ok=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study_of(train, outcomes, storage=f"sqlite:///{database}", name=name)
    except (OSError, SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        why = str(error).splitlines()[0]
        raise MedsweepError(f"cannot be written ({why}).", where=str(database)) from None


def _frozen(train: Train, outcome: TrialOutcome) -> optuna.trial.FrozenTrial:
    import optuna
    from optuna.trial import TrialState

    objective = train.search.objective
    values = outcome.config.dotted()
    asked = distributions(train.space, values)
    state = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}[outcome.status]
    told: dict[str, Any] = {}
    if train.search.cost == "none":
        told["value"] = outcome.objective if outcome.status == "complete" else None
        told["intermediate_values"] = {
            each.number: each.validation[objective] for each in outcome.history if objective in each.validation
        }
    elif outcome.status != "failed":
        # Of several objectives Optuna knows no pruned trials: such a one counts with what it had come to.
        state = TrialState.COMPLETE
        told["values"] = [outcome.objective, searched_cost(train, outcome.facts)]
    return optuna.create_trial(
        state=state,
        params={name: values[name] for name in asked},
        distributions=asked,
        user_attrs={"error": outcome.error} if outcome.error else {},
        **told,
    )
