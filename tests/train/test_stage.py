"""The stage as a whole: the same outputs with any number of workers, and again; and what it refuses to begin with."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from medsweep.artifacts.augmented import AugmentedViews, write_views
from medsweep.artifacts.files import digest_file
from medsweep.artifacts.prepared import PreparedSplit
from medsweep.artifacts.run_log import read_log
from medsweep.artifacts.trained import TrainedModel
from medsweep.errors import ArtifactError, DataError, MedsweepError, ParamsError
from medsweep.layout import Layout
from medsweep.params import Params, WarmStart
from medsweep.train import stage, study_figures

Written = Callable[..., Params]
TRIALS = 5


def quiet() -> Console:
    return Console(file=io.StringIO(), width=200)


def outputs(layout: Layout) -> dict[str, bytes]:
    """All that DVC versions, but the log, which holds times."""
    found = {
        path.relative_to(layout.models).as_posix(): path.read_bytes()
        for path in sorted(layout.models.rglob("*"))
        if path.is_file()
    }
    del found["run_log.jsonl"]
    return found


def with_workers(params: Params, count: int) -> Params:
    return params.model_copy(update={"runtime": params.runtime.model_copy(update={"workers": count})})


@pytest.fixture(scope="module", autouse=True)
def _quick_pictures() -> Iterator[None]:
    """The pictures have a test of their own; here one file tells that the same outcomes were handed to them."""

    def draw_all(folder: Path, train: Any, outcomes: Any, *, synthetic: bool) -> None:
        (folder / "history.svg").write_text(stage.trials_csv(outcomes))

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(study_figures, "draw_all", draw_all)
        yield


@pytest.fixture(scope="module")
def project(write_project: Written, tmp_path_factory: pytest.TempPathFactory) -> tuple[Params, Layout]:
    root = tmp_path_factory.mktemp("stage")
    params = write_project(root)
    return params, Layout.find(root)


@pytest.fixture(scope="module")
def first(project: tuple[Params, Layout]) -> tuple[stage.TrainSummary, dict[str, bytes]]:
    params, layout = project
    return stage.run(with_workers(params, 1), layout, quiet()), outputs(layout)


def differing(found: dict[str, bytes], wanted: dict[str, bytes]) -> set[str]:
    return {name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name)}


def test_two_workers_write_the_same_bytes_as_one(
    project: tuple[Params, Layout], first: tuple[stage.TrainSummary, dict[str, bytes]]
) -> None:
    params, layout = project
    followed: list[Path] = []
    summary = stage.run(with_workers(params, 2), layout, quiet(), on_log=followed.append)
    assert set(first[1]) >= {"model.keras", "trained.json", "trials.csv", "plots/epochs.csv", "plots/history.svg"}
    assert differing(outputs(layout), first[1]) == set()
    assert summary.fitted == len(summary.outcomes) == TRIALS
    assert len(followed) == 1
    assert not any((layout.state / "work" / "train").iterdir()), "work in progress was left"


def test_three_workers_too_and_when_cut_off_while_the_outputs_were_put_in_place(
    project: tuple[Params, Layout], first: tuple[stage.TrainSummary, dict[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    params, layout = project
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):

        def killed(*_: Any) -> None:
            raise KeyboardInterrupt

        patched.setattr(stage.shutil, "copyfile", killed)
        stage.run(with_workers(params, 3), layout, quiet())
    work = layout.work("train", stage._Job.open(params, layout).family)
    assert sum(event["event"] == "trial" for event in read_log(work / "run_log.jsonl")) == TRIALS
    shutil.rmtree(layout.models)
    summary = stage.run(with_workers(params, 1), layout, quiet())
    assert summary.fitted == 0 and differing(outputs(layout), first[1]) == set()
    assert f"{TRIALS} of them were finished before an interruption" in " ".join(summary.lines())


def test_more_trials_are_fitted_beside_those_of_the_finished_search(
    project: tuple[Params, Layout], first: tuple[stage.TrainSummary, dict[str, bytes]]
) -> None:
    params, layout = project

    def of(trials: int) -> Params:
        search = params.train.search.model_copy(update={"trials": trials})
        train = params.train.model_copy(update={"search": search})
        return with_workers(params.model_copy(update={"train": train}), 1)

    more = stage.run(of(TRIALS + 2), layout, quiet())
    assert (more.extended, more.fitted) == (3, TRIALS - 1), "a whole generation is the same"
    assert "3 trials were taken over" in " ".join(more.lines())
    assert [each.history for each in more.outcomes[:3]] == [each.history for each in first[0].outcomes[:3]]
    back = stage.run(of(TRIALS), layout, quiet())
    assert back.extended == 3 and differing(outputs(layout), first[1]) == set()


def test_what_the_outputs_say(
    project: tuple[Params, Layout], first: tuple[stage.TrainSummary, dict[str, bytes]]
) -> None:
    params, layout = project
    summary = first[0]
    manifest = TrainedModel.load(layout.trained)
    assert manifest == summary.manifest
    assert manifest.selection["validation"] == "holdout" and manifest.selection["compared"] <= TRIALS
    assert manifest.selection["value"] == pytest.approx(manifest.objective_value, rel=1e-5)
    assert manifest.final["kind"] == "single" and manifest.final["trained_on"] == "training"
    assert sum(manifest.n_trials.values()) == TRIALS and manifest.n_trials["complete"] >= 1
    assert manifest.objective_value == summary.winner.objective
    rows = list(csv.DictReader(io.StringIO(first[1]["trials.csv"].decode())))
    assert [int(row["number"]) for row in rows] == list(range(TRIALS))
    best = min((row for row in rows if row["status"] == "complete"), key=lambda row: float(row["objective"]))
    assert int(best["number"]) == summary.winner.config.number == manifest.members[0]
    assert float(best["objective"]) == manifest.objective_value
    assert not {name for name in rows[0] if "seconds" in name or "latency" in name or "rss" in name}
    assert {row["train.space.views"] for row in rows if row["train.space.policy"] == "none"} <= {""}
    events = list(read_log(layout.search_log))
    assert events[0]["event"] == "begin" and events[-1]["event"] == "end"
    assert "prepare.image.height" in events[0]["params"] and "runtime.workers" not in events[0]["params"]
    for event in events:
        if event["event"] == "picture":
            assert (layout.root / event["path"]).is_file() and not Path(event["path"]).is_absolute()
    for name, content in first[1].items():
        assert str(layout.root).encode() not in content, f"{name} names a place on this machine"
    searched, told = stage.finished_search(layout, params.train)
    assert searched == params.train and [each.status for each in told] == [each.status for each in summary.outcomes]
    edited = params.train.model_copy(update={"seed": params.train.seed + 1})
    with pytest.raises(MedsweepError, match="neither params"):
        stage.finished_search(layout, edited)
    lines = " ".join(summary.lines())
    assert "Winner: trial" in lines and "Next: dvc repro" in lines


def test_a_cross_validation_ends_in_one_model_of_several_networks_whoever_works_on_it(
    write_project: Written, tmp_path: Path
) -> None:
    params = write_project(
        tmp_path,
        search={"trials": 2, "generation": 2, "max_epochs": 1, "validation": "cross_validation", "presets": []},
        final={"kind": "ensemble", "seeds": 2},
    )
    layout = Layout.find(tmp_path)
    summary = stage.run(with_workers(params, 1), layout, quiet())
    first = outputs(layout)
    assert summary.manifest.selection["validation"] == "cross_validation"
    assert summary.manifest.final["trained_on"] == "training and validation"
    assert summary.manifest.final["networks"] == 2 * len(set(summary.manifest.members))
    assert "val_log_loss_sd" in first["trials.csv"].decode()
    with np.load(layout.trial_predictions) as told:
        assert told["probabilities"].shape == (2, 1, 24 + 16, 3) and len(set(told["record_ids"])) == 40
    # Folds are looked at by networks that had not seen them, so thresholds and temperature are fitted on all images.
    assert len(layout.validation.read_text().splitlines()) == 1 + 40
    lines = " ".join(summary.lines())
    assert "1 × 3 folds" in lines and "bootstrap bias correction" in lines
    stage.run(with_workers(params, 2), layout, quiet())
    assert differing(outputs(layout), first) == set()


# -- what it refuses ---------------------------------------------------------------------------------------------------


@pytest.fixture
def fresh(write_project: Written, tmp_path: Path) -> tuple[Params, Layout]:
    return write_project(tmp_path), Layout.find(tmp_path)


def refused(params: Params, layout: Layout, kind: type[MedsweepError]) -> str:
    with pytest.raises(kind) as error:
        stage.run(params, layout, quiet())
    assert "\n" not in str(error.value)
    assert not layout.state.exists(), "it began"
    return str(error.value)


def test_refuses_an_unknown_optimizer_before_reading_anything(write_project: Written, tmp_path: Path) -> None:
    params = write_project(tmp_path, space={"optimizer": {"adamm": {"learning_rate": 0.1}}})
    assert "train.space.optimizer.adamm" in refused(params, Layout.find(tmp_path), ParamsError)


def test_refuses_another_file_to_begin_with_than_was_named(fresh: tuple[Params, Layout]) -> None:
    params, layout = fresh
    weights = layout.root / "earlier.keras"

    def of(path: str) -> Params:
        known = WarmStart(path=path, sha256="0" * 64)
        return params.model_copy(update={"train": params.train.model_copy(update={"warm_start": known})})

    assert "does not exist" in refused(of("nowhere.keras"), layout, ArtifactError)
    weights.write_bytes(b"a model")
    said = refused(of("earlier.keras"), layout, ArtifactError)
    assert digest_file(weights) in said and "train.warm_start.sha256" in said
    right = WarmStart(path="earlier.keras", sha256=digest_file(weights))
    other = params.model_copy(update={"train": params.train.model_copy(update={"warm_start": right})})
    job, plain = (stage._Job.open(each, layout) for each in (other, params))
    assert job.digests["warm_start"] == right.sha256 and job.data.warm_start == weights
    assert job.key != plain.key and job.family != plain.family and "warm_start" not in plain.digests


def test_refuses_arrays_that_were_changed(fresh: tuple[Params, Layout]) -> None:
    params, layout = fresh
    path = layout.prepared_split("val") / "labels.npy"
    content = bytearray(path.read_bytes())
    content[-8] ^= 1
    path.write_bytes(content)
    assert "labels.npy" in refused(params, layout, ArtifactError)


def test_refuses_views_of_other_images(fresh: tuple[Params, Layout]) -> None:
    params, layout = fresh
    folder = layout.augmented_policy("flip")
    views = AugmentedViews.load(folder)
    write_views(folder, AugmentedViews(**{**views.__dict__, "prepared_digest": "0" * 64, "shards": ()}), shards=())
    assert "dvc repro augment" in refused(params, layout, ArtifactError)


def test_refuses_an_auroc_that_validation_cannot_tell(
    write_project: Written, write_split: Callable[..., PreparedSplit], tmp_path: Path
) -> None:
    params = write_project(tmp_path, search={"objective": "val_auroc"})
    write_split(tmp_path / "data/prepared/val", "val", n=3)
    assert "no image of class 'c'" in refused(params, Layout.find(tmp_path), DataError)


def test_an_unfinished_search_is_no_study(tmp_path: Path, fresh: tuple[Params, Layout]) -> None:
    with pytest.raises(MedsweepError, match="no finished search"):
        stage.finished_search(fresh[1], fresh[0].train)


def test_the_key_knows_what_may_change_the_result_and_nothing_else(
    fresh: tuple[Params, Layout], small_params: Callable[..., Params], monkeypatch: pytest.MonkeyPatch
) -> None:
    params, layout = fresh
    key = stage._Job.open(params, layout).key
    assert stage._Job.open(with_workers(params, 7), layout).key == key
    assert stage._Job.open(params.model_copy(update={"experiment": "other"}), layout).key == key
    assert stage._Job.open(small_params(search={"trials": 7}), layout).key != key
    assert stage._Job.open(small_params(space={"weight_decay": 0}), layout).key != key
    monkeypatch.setattr(stage, "code_digest", lambda _: "other code")
    assert stage._Job.open(params, layout).key != key
    json.dumps(stage._Job.open(params, layout).beginning(layout, {}), allow_nan=False)
