from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from medsweep.errors import StoreError
from medsweep.layout import Layout
from medsweep.tracking.store import open_store, ui_command


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("http://server:5000", "http://server:5000"),
        ("sqlite:///mlflow.db", "sqlite:///{home}/mlflow.db"),
        ("sqlite:////elsewhere/mlflow.db", "sqlite:////elsewhere/mlflow.db"),
        ("postgresql://me:secret@host/db", "postgresql://me:secret@host/db"),
        ("mlruns", "file://{home}/mlruns"),
    ],
)
def test_the_environment_wins_and_nothing_depends_on_the_folder(
    given: str, wanted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", given)
    monkeypatch.chdir("/")
    store = open_store(Layout(tmp_path, tmp_path))
    assert store.uri == wanted.format(home=tmp_path) and store.artifacts is None
    assert "secret" not in store.shown
    assert not (tmp_path / "mlflow.db").exists()


def test_no_location_points_out_of_a_new_store(project: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    layout = project().layout
    store = open_store(layout)
    client = store.client()
    client.create_experiment("demo", artifact_location=store.artifact_location("demo"))
    locations = [each.artifact_location for each in client.search_experiments()]
    assert len(locations) == 2
    assert all(each.startswith(f"{layout.store_artifacts.as_uri()}/") for each in locations)
    assert not (tmp_path / "mlruns").exists()


def test_locations_of_other_folders_stay_when_the_project_moves(project: Any) -> None:
    layout = project().layout
    client = open_store(layout).client()
    client.create_experiment("ours", artifact_location="file:///old/home/mlartifacts/ours")
    client.create_experiment("theirs", artifact_location="s3://bucket/mlartifacts/theirs")
    client.create_experiment("near", artifact_location="file:///old/home/mlartifacts2/near")
    open_store(layout)
    with closing(sqlite3.connect(layout.store)) as database:
        found = dict(database.execute("SELECT name, artifact_location FROM experiments"))
    assert found["ours"] == f"{layout.store_artifacts.as_uri()}/ours"
    assert found["theirs"] == "s3://bucket/mlartifacts/theirs"
    assert found["near"] == "file:///old/home/mlartifacts2/near"


def test_a_store_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").mkdir()
    with pytest.raises(StoreError, match=r"mlflow\.db"):
        open_store(Layout(tmp_path, tmp_path))


def test_a_damaged_store_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("not a database at all, whatever its name")
    with pytest.raises(StoreError, match="not a database") as raised:
        open_store(Layout(tmp_path, tmp_path))
    assert "\n" not in str(raised.value)


def test_the_ui_keeps_passwords_off_the_command_line(
    project: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = project().layout
    command = ui_command(layout, 5001)
    assert command.environment["MLFLOW_BACKEND_STORE_URI"] == f"sqlite:///{layout.store}"
    assert command.environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert command.address == "http://127.0.0.1:5001"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:secret@host/db")
    command = ui_command(layout, 5001)
    assert "secret" not in " ".join(command.arguments)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@server")
    command = ui_command(layout, 5001)
    assert command.arguments == () and command.address == "https://server"
