from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medsweep.artifacts.run_log import RunLog
from medsweep.errors import StoreError
from medsweep.tracking import models, publisher
from medsweep.tracking.publisher import follow, gone, publish
from medsweep.tracking.store import Store, open_store, ui_command


class Killed(BaseException):
    """What a SIGKILL looks like from inside."""


class Mortal:
    """A client that dies before its n-th write."""

    def __init__(self, client: Any, writes: int) -> None:
        self._client = client
        self._left = writes

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if not name.startswith(("create_", "log_", "set_", "update_", "finalize_")):
            return method

        def call(*arguments: Any, **named: Any) -> Any:
            self._left -= 1
            if self._left < 0:
                raise Killed
            return method(*arguments, **named)

        return call


def _whole(workspace: Any) -> None:
    workspace.search()
    workspace.evaluation()


def test_a_search_and_its_evaluation_appear_as_runs_and_a_version(
    project: Any, dump: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = project()
    _whole(workspace)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    summary = workspace.publish()
    assert list(elsewhere.iterdir()) == []  # no second store where one happens to stand
    found = dump(workspace.layout)

    assert (summary.created, summary.version, summary.version_is_new, summary.skipped) == (5, 1, True, [])
    parent = found["5ea4c4"]
    assert parent["status"] == "FINISHED" and parent["tags"]["medsweep.kind"] == "search"
    assert parent["params"] == {"train.seed": "7", "train.space.policy": '["a"]'}
    assert parent["datasets"] == [("train", "d" * 36, "training")]
    assert set(parent["files"]) == {"figures/history.png", "figures/data_quality.html"}
    assert [(step, value) for step, value, _ in parent["metrics"]["system/cpu_percent"]] == [(0, 50.0), (1, 60.0)]
    assert parent["tags"]["mlflow.note.content"] == "# A search"

    complete, pruned, failed = (found[f"5ea4c4/trial/{n}"] for n in range(3))
    assert [each["status"] for each in (complete, pruned, failed)] == ["FINISHED", "FINISHED", "FAILED"]
    assert pruned["tags"]["medsweep.status"] == "pruned"
    assert failed["tags"]["medsweep.error"] == "the loss was NaN"
    assert {each["tags"]["mlflow.parentRunId"] for each in (complete, pruned, failed)} == {"5ea4c4"}
    assert complete["params"]["train.space.optimizer"] == "adam" and complete["params"]["train.space.loss"] == "focal"
    # The second epoch was told twice, before and after an interruption.
    assert [step for step, *_ in complete["metrics"]["val_auroc"]] == [1, 2]
    assert [value for _, value, _ in complete["metrics"]["train_loss"]] == [1.0, 0.5]
    assert complete["metrics"]["parameters"][0][1] == 123.0

    final = found["e0a1"]
    assert final["tags"]["medsweep.kind"] == "final" and "mlflow.parentRunId" not in final["tags"]
    assert final["tags"]["medsweep.search_key"] == "5ea4c4"
    assert final["metrics"]["test_auroc_low"][0][1] == pytest.approx(0.85)
    [(name, status, run, params, metrics)] = found["models"]
    assert (name, status, run) == ("model", "READY", "e0a1")
    assert params["train.space.optimizer"] == "adam" and ("test_auroc", 0.9) in metrics
    run, tags, description = found["versions"][1]
    assert (run, tags["medsweep.test_auroc"], tags["medsweep.task"]) == ("e0a1", "0.9", "binary")
    assert description == "AUROC 0.9" and found["aliases"] == {"candidate": 1}


def test_publishing_again_writes_nothing(project: Any, dump: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = project()
    _whole(workspace)
    workspace.publish()
    before = dump(workspace.layout)
    client = Store.client
    monkeypatch.setattr(Store, "client", lambda store: Mortal(client(store), 0))
    summary = workspace.publish()
    monkeypatch.undo()
    assert (summary.created, summary.version, summary.version_is_new, summary.candidate_moved) == (0, 1, False, False)
    assert dump(workspace.layout) == before


@pytest.mark.parametrize(("stage", "at_least"), [("short_search", 9), ("evaluation", 14)])
def test_killed_before_any_write_and_started_again_it_ends_the_same(
    stage: str, at_least: int, project: Any, dump: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save(path: Path, manifest: Any, folder: Path, *, mlflow_model: Any) -> None:
        folder.mkdir()
        mlflow_model.save(str(folder / "MLmodel"))

    # What Keras makes of the model is no matter here, and takes a second each time.
    monkeypatch.setattr(models, "save_mlflow_model", save)
    reference = project("reference")
    {"short_search": reference.short_search, "evaluation": reference.evaluation}[stage]()
    reference.publish()
    wanted = dump(reference.layout)
    client = Store.client
    writes = 0
    while True:
        root = reference.layout.root.with_name(f"killed-{writes}")
        shutil.copytree(reference.layout.root, root, ignore=shutil.ignore_patterns("mlflow.db", "mlartifacts"))
        workspace = project(root.name)
        with monkeypatch.context() as patched:
            patched.setattr(Store, "client", lambda store, n=writes: Mortal(client(store), n))
            try:
                workspace.publish()
            except Killed:
                died = True
            else:
                died = False
        workspace.publish()
        assert dump(workspace.layout) == wanted, f"killed before write {writes}"
        shutil.rmtree(root)
        if not died:
            break
        writes += 1
    assert writes >= at_least


def test_every_beginning_of_a_log_can_be_published_first(project: Any, dump: Any) -> None:
    reference = project("reference")
    log = reference.search()
    reference.publish()
    wanted = dump(reference.layout)
    lines = log.read_text().splitlines(keepends=True)

    growing = project("growing")
    shutil.copytree(reference.layout.root / "models", growing.layout.models)
    shutil.copytree(reference.layout.root / "reports", growing.layout.reports)
    for count in range(1, len(lines) + 1):
        growing.layout.search_log.write_text("".join(lines[:count]))
        growing.publish()
        if 1 < count < len(lines):
            client = open_store(growing.layout).client()
            [run] = client.search_runs(["1"], "tags.`medsweep.key` = '5ea4c4'")
            assert run.info.status == "RUNNING"
    assert dump(growing.layout) == wanted


def test_a_log_that_was_lost_and_written_anew_repeats_no_epoch(project: Any, dump: Any) -> None:
    workspace = project()
    with RunLog(workspace.layout.search_log) as log:
        workspace.begin(log, "5ea4c4")
        workspace.asked(log, 0)
        workspace.trained(log, 0, 1)
    workspace.publish()
    time.sleep(0.01)  # the second telling has other times
    workspace.search()
    workspace.publish()
    found = dump(workspace.layout)["5ea4c4/trial/0"]
    assert [step for step, *_ in found["metrics"]["train_loss"]] == [1, 2]
    assert found["status"] == "FINISHED"


def test_trials_that_were_asked_and_never_ended_are_closed_with_the_search(project: Any, dump: Any) -> None:
    workspace = project()
    with RunLog(workspace.layout.search_log) as log:
        workspace.begin(log, "5ea4c4")
        workspace.asked(log, 0, 1)
        workspace.finished(log, 0)
        log.append("end", seconds=1.0)
    workspace.publish()
    assert dump(workspace.layout)["5ea4c4/trial/1"]["status"] == "KILLED"


def test_the_candidate_follows_the_workspace(project: Any, dump: Any, tmp_path: Path) -> None:
    workspace = project()
    workspace.evaluation("0e0e", auroc=0.8)
    workspace.publish()
    older = tmp_path / "older.jsonl"
    shutil.copyfile(workspace.layout.evaluation_log, older)
    workspace.evaluation("1e1e", auroc=0.9)
    assert workspace.publish().version == 2
    assert dump(workspace.layout)["aliases"] == {"candidate": 2}

    shutil.copyfile(older, workspace.layout.evaluation_log)
    workspace.layout.model.unlink()  # the version is there: its file is not needed again
    summary = workspace.publish()
    assert (summary.version, summary.version_is_new, summary.candidate_moved) == (1, False, True)
    found = dump(workspace.layout)
    assert found["aliases"] == {"candidate": 1} and set(found["versions"]) == {1, 2}


def test_missing_and_changed_files_are_named_and_published_once_they_are_back(project: Any, dump: Any) -> None:
    workspace = project()
    _whole(workspace)
    gone_missing = workspace.layout.root / "models/plots/history.png"
    kept = gone_missing.read_bytes()
    gone_missing.unlink()
    changed = workspace.layout.model
    model = changed.read_bytes()
    changed.write_bytes(b"another model")

    summary = workspace.publish()
    assert summary.version is None and dump(workspace.layout)["versions"] == {}
    assert [each.split(" (")[0] for each in summary.skipped] == [
        "models/plots/history.png",
        "the version's model models/model.keras",
    ]
    assert "dvc checkout" in summary.sentence

    gone_missing.write_bytes(kept)
    changed.write_bytes(model)
    summary = workspace.publish()
    assert summary.skipped == [] and summary.version == 1
    assert "figures/history.png" in dump(workspace.layout)["5ea4c4"]["files"]


def test_a_path_out_of_the_project_is_never_read(project: Any, tmp_path: Path) -> None:
    workspace = project()
    (tmp_path / "secret.txt").write_text("secret")
    with RunLog(workspace.layout.search_log) as log:
        workspace.begin(log, "5ea4c4")
        workspace.picture(log, "../secret.txt")
    assert workspace.publish().skipped == ["../secret.txt (outside the project)"]


def test_a_moved_project_keeps_its_artifacts(project: Any, dump: Any, mlflow_at: Any) -> None:
    workspace = project("before")
    _whole(workspace)
    workspace.publish()
    wanted = dump(workspace.layout)
    moved = project("a folder with spaces & ümlauts")
    root = moved.layout.root
    shutil.rmtree(root)
    shutil.move(workspace.layout.root, root)

    assert moved.publish().created == 0
    assert dump(moved.layout) == wanted
    model = mlflow_at(moved.layout).tensorflow.load_model("models:/demo@candidate")
    assert model.predict(np.zeros((1, 16, 16, 1), np.uint8), verbose=0).shape == (1, 2)


def test_a_copied_project_leaves_the_original_alone(project: Any, dump: Any) -> None:
    workspace = project("original")
    _whole(workspace)
    workspace.publish()
    wanted = dump(workspace.layout)
    copy = project("copy")
    shutil.rmtree(copy.layout.root)
    shutil.copytree(workspace.layout.root, copy.layout.root)
    copy.search("0ffee0")
    copy.publish()
    assert "0ffee0" in dump(copy.layout)
    shutil.rmtree(copy.layout.root)
    assert dump(workspace.layout) == wanted


def test_an_experiment_in_a_throw_away_copy_lands_in_the_projects_store(project: Any, dump: Any) -> None:
    home = project()
    copy = project("project/.dvc/tmp/exps/tmp1")
    copy.layout.store.unlink()
    copy.layout = replace(copy.layout, home=home.layout.home)
    copy.search()
    copy.publish()
    assert dump(home.layout)["5ea4c4"]["status"] == "FINISHED"
    assert not copy.layout.root.joinpath("mlflow.db").exists()


def test_following_shows_figures_before_the_log_ends(project: Any, dump: Any) -> None:
    workspace = project()
    path = workspace.layout.work("train", "5ea4c4") / "run_log.jsonl"
    whole = workspace.search(path=workspace.layout.root / "whole.jsonl").read_text().splitlines(keepends=True)
    failures: list[BaseException] = []

    def watch() -> None:
        try:
            follow(workspace.layout, "demo", path, lambda: False, poll_seconds=0.02)
        except BaseException as error:
            failures.append(error)

    follower = threading.Thread(target=watch)
    follower.start()
    path.parent.mkdir(parents=True)
    with path.open("a") as log:
        log.write("".join(whole[:5]) + whole[5][:20])  # the last line is only half written
        log.flush()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not failures:
            found = dump(workspace.layout)
            if "train_loss" in found.get("5ea4c4/trial/1", {"metrics": {}})["metrics"]:
                break
            time.sleep(0.1)
        assert found["5ea4c4"]["status"] == "RUNNING"
        assert [step for step, *_ in found["5ea4c4/trial/1"]["metrics"]["train_loss"]] == [1, 2]
        log.write(whole[5][20:] + "".join(whole[6:]))
    follower.join(timeout=60)
    assert not follower.is_alive() and failures == []
    followed = dump(workspace.layout)
    assert followed["5ea4c4"]["status"] == "FINISHED" and followed["5ea4c4"]["files"] == {}

    path.replace(workspace.layout.search_log)
    workspace.publish()
    other = project("other")
    shutil.copytree(workspace.layout.models, other.layout.models)
    shutil.copytree(workspace.layout.reports, other.layout.reports)
    other.publish()
    assert dump(workspace.layout) == dump(other.layout)


def test_a_follower_outlives_a_store_that_is_away(project: Any, dump: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = project()
    calls = []

    def sometimes(layout: Any) -> Store:
        calls.append(layout)
        if len(calls) < 3:
            raise StoreError("away")
        return open_store(layout)

    monkeypatch.setattr(publisher, "open_store", sometimes)
    now = iter(range(0, 10**6, 100))
    monkeypatch.setattr(publisher.time, "monotonic", lambda: float(next(now)))
    log = workspace.search()
    looks = iter([False] * 5)
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join(lines[:-1]))
    follow(workspace.layout, "demo", log, lambda: next(looks, True), poll_seconds=0.0)
    found = dump(workspace.layout)
    # The writer went without a last line: the run may be taken up again.
    assert found["5ea4c4"]["status"] == "RUNNING" and found["5ea4c4/trial/0"]["status"] == "FINISHED"


def test_a_process_that_ended_is_gone() -> None:
    process = subprocess.Popen(["sleep", "30"])
    ended = gone(process.pid)
    assert not ended()
    process.kill()
    deadline = time.monotonic() + 10
    while not ended() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert ended()
    process.wait()
    assert gone(process.pid)()


def test_a_server_that_is_away_is_one_line(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = project()
    _whole(workspace)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://someone:secret@127.0.0.1:{_free_port()}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    with pytest.raises(StoreError, match="medsweep publish") as raised:
        workspace.publish()
    assert "\n" not in str(raised.value) and "secret" not in str(raised.value)
    with pytest.raises(StoreError):
        follow(workspace.layout, "demo", workspace.layout.search_log, lambda: True)


def test_a_server_gets_the_same_as_a_file(project: Any, dump: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = project()
    _whole(workspace)
    workspace.publish()
    wanted = dump(workspace.layout)
    with _server(project("server")) as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        assert ui_command(workspace.layout, 5000).address == address
        assert publish(workspace.layout, "demo").version == 1
        assert publish(workspace.layout, "demo").created == 0
        assert dump(workspace.layout) == wanted


@contextmanager
def _server(workspace: Any) -> Iterator[str]:
    """The server that `medsweep ui` starts, on a project's store."""
    import os

    command = ui_command(workspace.layout, _free_port())
    environment = {**os.environ, **command.environment}
    log = workspace.layout.root / "server.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            command.arguments, env=environment, stdout=output, stderr=output, start_new_session=True
        )
    try:
        deadline = time.monotonic() + 90
        while True:
            try:
                with urllib.request.urlopen(f"{command.address}/health", timeout=5) as answer:
                    assert answer.status == 200
                    break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline, log.read_text()
                time.sleep(0.2)
        yield command.address
    finally:
        os.killpg(process.pid, 15)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
