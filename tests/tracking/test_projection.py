from __future__ import annotations

from typing import Any

import pytest

from medsweep.errors import ArtifactError
from medsweep.tracking.projection import Projection

BEGIN = {
    "event": "begin",
    "time": 1.0,
    "kind": "search",
    "key": "k",
    "title": "t",
    "params": {},
    "tags": {},
    "datasets": [],
}


def _fed(*events: dict[str, Any]) -> Projection:
    projection = Projection()
    projection.feed(events)
    return projection


def test_names_get_their_split_once() -> None:
    epochs = [{"number": 1, "loss": 0.5, "accuracy": 0.6, "validation": {"auroc": 0.7, "val_log_loss": 0.8}}]
    run = _fed(BEGIN, {"event": "epochs", "time": 2.0, "trial": 3, "epochs": epochs}).runs["k/trial/3"]
    assert run.latest() == {"train_loss": 0.5, "train_accuracy": 0.6, "val_auroc": 0.7, "val_log_loss": 0.8}
    figures = {"event": "metrics", "time": 2.0, "values": {"auroc": 0.7, "test_f1": None}}
    final = _fed({**BEGIN, "kind": "evaluation"}, figures).runs["k"]
    assert final.latest() == {"test_auroc": 0.7}


def test_a_metric_told_again_gets_a_further_step() -> None:
    told = [{"event": "metrics", "time": t, "values": {"best": t}} for t in (2.0, 3.0)]
    assert [(p.value, p.time, p.step) for p in _fed(BEGIN, *told).runs["k"].metrics] == [(2.0, 2000, 0), (3.0, 3000, 1)]


def test_the_first_end_of_a_trial_stays() -> None:
    end = {
        "event": "trial",
        "trial": 0,
        "title": "trial 000",
        "objective": 0.5,
        "error": None,
        "epochs": 1,
        "seconds": 1.0,
        "peak_rss": 1,
        "facts": {},
    }
    run = _fed(BEGIN, {**end, "time": 2.0, "status": "pruned"}, {**end, "time": 3.0, "status": "complete"}).runs[
        "k/trial/0"
    ]
    assert (run.tags["medsweep.status"], run.end, len(run.metrics)) == ("pruned", 2000, 4)


def test_long_values_are_cut_to_what_mlflow_takes() -> None:
    note = {"event": "note", "time": 2.0, "text": "x" * 9000}
    run = _fed({**BEGIN, "params": {"list": ["y" * 7000]}}, note).runs["k"]
    assert len(run.tags["mlflow.note.content"]) == 8000 and len(run.params["list"]) == 6000


@pytest.mark.parametrize(
    "events",
    [
        [{"event": "end", "time": 1.0, "seconds": 1.0}],
        [BEGIN, {"event": "surprise", "time": 2.0}],
        [{**BEGIN, "kind": "party"}],
    ],
)
def test_what_is_no_run_log_is_refused(events: list[dict[str, Any]]) -> None:
    with pytest.raises(ArtifactError):
        _fed(*events)
