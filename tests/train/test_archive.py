"""Where a search's work lies: resumed, gone on from, run anew, and cleared away."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medsweep.artifacts.run_log import RunLog, read_log
from medsweep.layout import Layout
from medsweep.params import Params, Search
from medsweep.train import archive
from medsweep.train.archive import Workplace, family_of

BEGIN: dict[str, Any] = {"kind": "search", "title": "a search", "params": {}, "tags": {}, "datasets": []}


def begin(key: str) -> dict[str, Any]:
    return BEGIN | {"key": key}


@pytest.fixture
def search(small_params: Callable[..., Params]) -> Search:
    return small_params(search={"trials": 4, "generation": 2}).train.search


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    return Workplace.of(Layout(tmp_path, tmp_path), "family")


def searched(place: Workplace, key: str, *, stopped: str | None = None) -> None:
    """A finished search of one whole generation."""
    place.checkpoints.mkdir(parents=True)
    (place.checkpoints / "trial.npz").write_text(key)
    (place.work / "model.keras").write_text("moved to its place")
    (place.work / "plots").mkdir()
    with RunLog(place.log) as log:
        log.append("begin", **begin(key))
        log.append("generation", number=0, trials=[{"number": n, "seed": n, "values": {}} for n in (0, 1)])
        if stopped:
            log.append("stopped", trials=2, kind=stopped, reason="enough")
        log.append("end", seconds=1.0)
    place.finish()


def test_nothing_is_there_at_first(place: Workplace, search: Search) -> None:
    assert place.take_up("a", begin("a"), search) == ([], False)


def test_a_finished_search_keeps_its_log_and_checkpoints_alone(place: Workplace, search: Search) -> None:
    searched(place, "a")
    assert not place.work.exists()
    assert sorted(each.name for each in place.finished.iterdir()) == ["checkpoints", "run_log.jsonl"]


def test_another_budget_goes_on_from_it(place: Workplace, search: Search) -> None:
    searched(place, "a", stopped="patience")
    events, interrupted = place.take_up("b", begin("b"), search)
    assert [each["event"] for each in events] == ["begin", "extended", "generation"] and not interrupted
    assert events[0]["key"] == "b" and events[1]["from_key"] == "a"
    assert list(read_log(place.log)) == events
    assert (place.checkpoints / "trial.npz").read_text() == "a"
    assert place.finished.is_dir(), "it may still be gone on from if this one is given up"
    # Interrupted, and given a third budget.
    assert place.take_up("b", begin("b"), search) == (events, True)
    again, _ = place.take_up("c", begin("c"), search)
    assert [each["event"] for each in again] == ["begin", "extended", "generation"]
    assert again[1]["from_key"] == "b"


def test_the_same_search_again_is_run_anew_but_ends_where_time_ended_it(place: Workplace, search: Search) -> None:
    searched(place, "a", stopped="patience")
    assert place.take_up("a", begin("a"), search) == ([], False)
    searched(place, "a", stopped="time")
    events, _ = place.take_up("a", begin("a"), search)
    assert [each["event"] for each in events] == ["begin", "stopped"]
    assert not place.checkpoints.exists()


def test_of_all_families_the_newest_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_KEPT", 2)
    places = [Workplace.of(Layout(tmp_path, tmp_path), name) for name in "abc"]
    for number, each in enumerate(places):
        searched(each, "k")
        import os

        os.utime(each.finished / "run_log.jsonl", (number, number))
    searched(places[0], "k")
    assert sorted(each.name for each in (tmp_path / ".medsweep" / "searches").iterdir()) == ["a", "c"]


def test_the_family_is_all_but_the_budget(small_params: Callable[..., Params]) -> None:
    def family(**search: Any) -> Any:
        return family_of(small_params(search=search).train)

    budget = {"trials": 99, "max_minutes": 2.0, "patience": 3, "min_improvement": 0.5, "keep_checkpoints": 9}
    assert set(budget) <= archive.BUDGET and family(**budget) == family()
    for other in ({"generation": 2}, {"max_epochs": 8}, {"presets": ["tutorial"]}, {"objective": "val_auroc"}):
        assert family(**other) != family()
