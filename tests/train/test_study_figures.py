"""The search's pictures: drawn for any outcome of a search, with the same bytes each time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medsweep.artifacts.files import digest_of
from medsweep.artifacts.trial import Epoch, TrialConfig, TrialOutcome
from medsweep.params import Params, Train
from medsweep.train.study import ask_generation
from medsweep.train.study_figures import draw_all, importances

PICTURES = {
    "history.svg",
    "learning_curves.svg",
    "optimizers_losses.svg",
    "slices.svg",
    "parallel_coordinates.svg",
    "importance.svg",
    "pareto.svg",
}
WRITTEN = PICTURES | {"importance.csv"}


def outcome_of(config: TrialConfig) -> TrialOutcome:
    value = int(digest_of(config.dotted())[:8], 16) / 16**8
    status: Any = ("complete", "pruned", "failed")[config.number % 3]
    epochs = {"complete": 4, "pruned": 2, "failed": 0}[status]
    history = tuple(Epoch(n, 1.0, 0.5, {"val_log_loss": value + 0.1 / n}) for n in range(1, epochs + 1))
    objective = history[-1].validation["val_log_loss"] if history else None
    error = "out of memory" if status == "failed" else None
    facts = {"parameters": 100.0 * (1 + config.number), "multiply_adds": 5e4 / (1 + config.number)}
    return TrialOutcome(config, status, objective, history, 1.0, 1, None, error, facts if history else {})


@pytest.fixture(scope="module")
def train(small_params: Callable[..., Params]) -> Train:
    return small_params().train


@pytest.fixture(scope="module")
def outcomes(train: Train) -> list[TrialOutcome]:
    return [outcome_of(each) for each in ask_generation(train, [], 0, 15)]


def drawn(folder: Path, train: Train, outcomes: list[TrialOutcome], *, synthetic: bool = False) -> dict[str, bytes]:
    folder.mkdir()
    draw_all(folder, train, outcomes, synthetic=synthetic)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_same_search_has_the_same_pictures(train: Train, outcomes: list[TrialOutcome], tmp_path: Path) -> None:
    first, again = (drawn(tmp_path / name, train, outcomes) for name in "ab")
    assert set(first) == WRITTEN and first == again
    for name in PICTURES:
        assert b"</svg>" in first[name] and b"<title>" in first[name], f"{name} has no alternative text"
    marked = drawn(tmp_path / "c", train, outcomes, synthetic=True)
    assert all(marked[name] != first[name] for name in PICTURES), "a picture does not say that images are synthetic"


@pytest.mark.parametrize("count", [1, 2])
def test_a_search_of_very_few_trials_can_be_drawn(
    count: int, train: Train, outcomes: list[TrialOutcome], tmp_path: Path
) -> None:
    assert set(drawn(tmp_path / "few", train, outcomes[:count])) == WRITTEN


def test_trials_that_are_all_alike_can_be_drawn(train: Train, outcomes: list[TrialOutcome], tmp_path: Path) -> None:
    complete = outcomes[0]
    alike = [replace(complete, config=replace(complete.config, number=number)) for number in range(9)]
    assert set(drawn(tmp_path / "alike", train, alike)) == WRITTEN


def testimportances_are_of_values_that_were_searched(train: Train, outcomes: list[TrialOutcome]) -> None:
    found = importances(train, outcomes)
    assert found and all(name.startswith("train.space.") for name in found)
    assert sum(found.values()) == pytest.approx(1.0)
    assert "train.space.activation" not in found, "it had one value"
    assert importances(train, outcomes[:6]) == {}


def test_importances_are_written_for_whoever_reads_the_search_later(
    train: Train, outcomes: list[TrialOutcome], tmp_path: Path
) -> None:
    rows = drawn(tmp_path / "a", train, outcomes)["importance.csv"].decode().splitlines()
    found = importances(train, outcomes)
    assert rows[0] == "hyperparameter,share"
    assert {name: float(share) for name, share in (row.split(",") for row in rows[1:])} == found
    assert drawn(tmp_path / "b", train, outcomes[:2])["importance.csv"] == b"hyperparameter,share\n"


def test_optimizers_by_losses_tell_the_spread_of_each_pair(
    train: Train, outcomes: list[TrialOutcome], tmp_path: Path
) -> None:
    one = outcomes[0]
    other = replace(one, config=replace(one.config, number=99), objective=(one.objective or 0.0) + 0.5)
    apart = drawn(tmp_path / "apart", train, [one, other])["optimizers_losses.svg"]
    alike = drawn(tmp_path / "alike", train, [one, replace(other, objective=one.objective)])["optimizers_losses.svg"]
    assert apart != alike and b"1 tried pairs" in apart


def test_the_front_is_told_in_words(
    small_params: Callable[..., Params], outcomes: list[TrialOutcome], tmp_path: Path
) -> None:
    for cost, unit in (("none", "parameters"), ("latency_ms", "multiply-adds")):
        train = small_params(search={"cost": cost}).train
        picture = drawn(tmp_path / cost, train, outcomes)["pareto.svg"].decode()
        complete = [each for each in outcomes if each.status == "complete"]
        best = min(complete, key=lambda each: each.objective or 0.0)
        assert unit in picture and f"trial {best.config.number}: " in picture
