"""The study: the same question has the same answer, in any process, from memory or from the log."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest

from medsweep.artifacts.files import digest_of
from medsweep.artifacts.trial import Epoch, TrialConfig, TrialOutcome
from medsweep.errors import MedsweepError
from medsweep.params import Params, Train, parse
from medsweep.train.study import ask_generation, export_study, study_of


def outcome_of(config: TrialConfig, *, objective: str = "val_log_loss") -> TrialOutcome:
    """Complete, pruned or failed by its number; its value tells which values are good."""
    value = int(digest_of(config.dotted())[:8], 16) / 16**8
    status: Any = ("complete", "pruned", "failed", "complete")[config.number % 4]
    epochs = {"complete": 4, "pruned": 2, "failed": 1}[status]
    history = tuple(
        Epoch(n, 1.0, 0.5, {objective: value + 0.1 / n, "val_log_loss": value}) for n in range(1, epochs + 1)
    )
    failed = status == "failed"
    return TrialOutcome(
        config,
        status,
        None if failed else history[-1].validation[objective],
        history,
        1.0,
        1,
        None,
        "the loss is not finite in epoch 2" if failed else None,
    )


def searched(train: Train, generations: int = 4, count: int = 4) -> list[TrialOutcome]:
    outcomes: list[TrialOutcome] = []
    for generation in range(generations):
        outcomes += map(outcome_of, ask_generation(train, outcomes, generation, count))
    return outcomes


pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


@pytest.fixture
def train(small_params: Callable[..., Params]) -> Train:
    return small_params(search={"startup_trials": 4}).train


def test_the_same_question_has_the_same_answer(train: Train) -> None:
    outcomes = searched(train)
    assert outcomes == searched(train)
    assert [each.config.number for each in outcomes] == list(range(16))
    assert len({each.config.seed for each in outcomes}) == 16


def test_asking_again_after_a_restart_equals_going_on(train: Train) -> None:
    outcomes = searched(train)
    for start in (4, 8, 12):
        known = [
            replace(
                each,
                config=TrialConfig.from_dotted(
                    each.config.number, each.config.seed, json.loads(json.dumps(each.config.dotted()))
                ),
            )
            for each in outcomes[:start]
        ]
        assert ask_generation(train, known, start // 4, 4) == [each.config for each in outcomes[start : start + 4]]


def test_later_generations_learn_from_values(train: Train) -> None:
    outcomes = searched(train, generations=2)
    good, bad = (
        [replace(each, objective=None if each.objective is None else factor * each.objective) for each in outcomes]
        for factor in (1.0, -1.0)
    )
    assert ask_generation(train, good, 2, 4) != ask_generation(train, bad, 2, 4)


def test_the_seed_and_the_generation_count(train: Train) -> None:
    assert ask_generation(train, [], 0, 4) != ask_generation(train, [], 1, 4)
    other = train.model_copy(update={"seed": train.seed + 1})
    assert ask_generation(train, [], 0, 4) != ask_generation(other, [], 0, 4)


SCRIPT = """
import json, sys
sys.path.insert(0, {here!r})
from test_study import searched
from medsweep.params import parse
found = parse(json.loads(sys.stdin.read()), where="").train
print(json.dumps([each.config.dotted() for each in searched(found)]))
"""


def test_python_s_hash_seed_changes_nothing(default_params: dict[str, Any]) -> None:
    """The default space: 13 optimizers, 7 losses, conditional settings; Optuna keeps their names in sets."""
    expected = [each.config.dotted() for each in searched(parse(default_params, where="").train)]
    script = SCRIPT.format(here=str(Path(__file__).parent))
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", script],
            input=json.dumps(default_params),
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"PYTHONHASHSEED": seed},
        )
        assert json.loads(done.stdout) == expected


def test_the_study_tells_what_became_of_each_trial(train: Train) -> None:
    outcomes = searched(train)
    study = study_of(train, outcomes)
    assert study.direction == optuna.study.StudyDirection.MINIMIZE
    states = {"complete": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL"}
    for trial, outcome in zip(study.trials, outcomes, strict=True):
        assert trial.number == outcome.config.number
        assert trial.state.name == states[outcome.status]
        assert trial.intermediate_values == {each.number: each.validation["val_log_loss"] for each in outcome.history}
        values = outcome.config.dotted()
        assert trial.params == {name: values[name] for name in trial.params}
        assert trial.user_attrs == ({"error": outcome.error} if outcome.error else {})
    best = min((each for each in outcomes if each.status == "complete"), key=lambda each: each.objective or 0.0)
    assert study.best_trial.number == best.config.number


def test_a_trial_whose_objective_was_undefined_can_be_told(train: Train) -> None:
    outcomes = searched(train, generations=1)
    lacking = Epoch(1, 1.0, 0.5, {"val_accuracy": 0.5})
    outcomes[2] = replace(outcomes[2], history=(lacking,))
    assert study_of(train, outcomes).trials[2].intermediate_values == {}
    assert len(ask_generation(train, outcomes, 1, 4)) == 4


def test_cost_is_a_second_objective_of_what_was_not_measured_by_a_clock(small_params: Callable[..., Params]) -> None:
    def facts(outcome: TrialOutcome, latency: float) -> TrialOutcome:
        parameters = 10.0 + outcome.config.number
        return replace(
            outcome, facts={"parameters": parameters, "multiply_adds": 7 * parameters, "latency_ms": latency}
        )

    for cost, second in (("parameters", 10.0), ("multiply_adds", 70.0), ("latency_ms", 70.0)):
        train = small_params(search={"startup_trials": 4, "cost": cost}).train
        outcomes = [facts(each, 1.0) for each in searched(train, generations=1, count=8)]
        study = study_of(train, outcomes)
        assert [each.name for each in study.directions] == ["MINIMIZE", "MINIMIZE"]
        assert study.trials[0].values == [outcomes[0].objective, second]
        # What is pruned counts too, what failed does not.
        assert [each.state.name for each in study.trials[:3]] == ["COMPLETE", "COMPLETE", "FAIL"]
        slower = [facts(each, 9.0) for each in outcomes]
        assert ask_generation(train, outcomes, 1, 3) == ask_generation(train, slower, 1, 3)


def test_exports_a_plain_optuna_database(train: Train, tmp_path: Path) -> None:
    outcomes = searched(train, generations=1)
    for _ in range(2):  # the second time it replaces the first
        export_study(train, outcomes, tmp_path / "study.db", name="demo")
    study = optuna.load_study(study_name="demo", storage=f"sqlite:///{tmp_path / 'study.db'}")
    assert len(study.trials) == 4
    assert [each.params for each in study.trials] == [each.params for each in study_of(train, outcomes).trials]


def test_a_database_that_cannot_be_written_is_one_line(train: Train, tmp_path: Path) -> None:
    with pytest.raises(MedsweepError, match=r"cannot be written"):
        export_study(train, [], tmp_path / "nowhere" / "study.db", name="demo")
