"""Where MLflow keeps what it is told: which store, that it is ours to use alone, and what its errors mean."""

from __future__ import annotations

import logging
import os
import sqlite3
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from medsweep.errors import StoreError
from medsweep.layout import Layout

if TYPE_CHECKING:
    from mlflow import MlflowClient

_SQLITE = "sqlite:///"
_LOCK_SECONDS = 600.0
_NOTHING_LOST = "Nothing is lost: run 'medsweep publish' when it is there again."

# Set where the user has not set them. MLflow's own bounds (7 retries of 120 s) would hold a command for minutes when
# the server is away; its telemetry would be the one thing here that speaks to the network unasked.
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "GIT_PYTHON_REFRESH": "quiet",
}

# Every column of MLflow's schema that holds an artifact location.
_LOCATIONS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("trace_tags", "value"),
    ("workspaces", "default_artifact_root"),
)


@dataclass(frozen=True)
class Store:
    """One MLflow store.

    Args:
        uri: its tracking URI; never one that depends on the current folder.
        artifacts: the folder of its artifacts where the store is the project's own, else None (the server decides).
        layout: the project that it serves.
    """

    uri: str
    artifacts: Path | None
    layout: Layout

    @property
    def shown(self) -> str:
        """The URI as it may be printed: without user name and password."""
        return self.without_password(self.uri)

    def without_password(self, text: str) -> str:
        """`text`, which may hold the URI, without the URI's user name and password."""
        user, at, _ = urlsplit(self.uri).netloc.rpartition("@")
        return text.replace(f"{user}{at}", "") if at else text

    def client(self) -> MlflowClient:
        """A client of this store alone: no global state of MLflow, and no MLFLOW_RUN_ID, has a say in what it does.

        Raises:
            StoreError: the store is away or refuses.
        """
        prepare_mlflow()
        from mlflow import MlflowClient

        with store_errors(self):
            return MlflowClient(tracking_uri=self.uri)

    @contextmanager
    def as_default(self) -> Iterator[None]:
        """Make this store the one that MLflow turns to by itself: a registry in SQL asks there for a logged model,
        whatever the client's own URI says."""
        import mlflow

        before = os.environ.get("MLFLOW_TRACKING_URI")
        mlflow.set_tracking_uri(self.uri)
        try:
            yield
        finally:
            mlflow.set_tracking_uri(None)  # type: ignore[arg-type,unused-ignore]
            if before is not None:
                os.environ["MLFLOW_TRACKING_URI"] = before

    def artifact_location(self, experiment: str) -> str | None:
        """Where a new experiment's artifacts go; None leaves it to the server."""
        return (self.artifacts / experiment).as_uri() if self.artifacts is not None else None

    @contextmanager
    def alone(self) -> Iterator[None]:
        """One publisher of this project at a time; others wait.

        Raises:
            StoreError: another one has been at it for ten minutes.
        """
        with _locked(self.layout.lock("publish")):
            yield


def open_store(layout: Layout) -> Store:
    """The store that MLFLOW_TRACKING_URI names, else the project's own: `<home>/mlflow.db` and `<home>/mlartifacts`.

    A relative URI in MLFLOW_TRACKING_URI counts from the project's home, so that the folder one stands in never
    matters. The project's own store is created here if need be, and taken along when the project was moved or copied:
    MLflow records absolute artifact locations, and only for this store is it known where the artifacts went. (Any
    other store's locations belong to whoever runs it.)

    Raises:
        StoreError: the store can't be opened.
    """
    prepare_mlflow()
    given = os.environ.get("MLFLOW_TRACKING_URI", "").strip()
    if given:
        return Store(_absolute(given, layout.home), None, layout)
    store = Store(f"{_SQLITE}{layout.store.as_posix()}", layout.store_artifacts, layout)
    with store_errors(store), _locked(layout.lock("store")):
        if not layout.store.is_file() or layout.store.stat().st_size == 0:
            _create(store)
        _take_along(layout.store, layout.store_artifacts)
    return store


def prepare_mlflow() -> None:
    """Bound MLflow's waiting and quiet its log before it is imported."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
    for name in ("mlflow", "urllib3.connectionpool"):
        logging.getLogger(name).setLevel(logging.ERROR)


@contextmanager
def store_errors(store: Store) -> Iterator[None]:
    """Whatever MLflow, its database or its server raise becomes a StoreError of one line."""
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, RequestException, SQLAlchemyError, sqlite3.Error, OSError) as error:
        logging.getLogger(__name__).debug("MLflow store %s", store.shown, exc_info=error)
        why = store.without_password(_reason(str(error))) or type(error).__name__
        raise StoreError(f"the MLflow store is away or refused: {why}", where=store.shown, fix=_NOTHING_LOST) from error


@dataclass(frozen=True)
class UiCommand:
    """How to show a store in MLflow's UI.

    Args:
        arguments: what to run; empty where a server runs already.
        environment: what to add to the environment it runs in (the store's URI is here, for it may hold a password).
        address: where a browser finds it.
    """

    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    address: str


def ui_command(layout: Layout, port: int) -> UiCommand:
    """The command that serves the UI of the project's store on 127.0.0.1, or the address of the server in use.

    Raises:
        StoreError: the store can't be opened.
    """
    store = open_store(layout)
    if urlsplit(store.uri).scheme in ("http", "https"):
        return UiCommand((), {}, store.shown)
    environment = {
        "MLFLOW_BACKEND_STORE_URI": store.uri,
        # Job runners for features that nothing here uses: five more processes of 237 MB each.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    if store.artifacts is not None:
        environment["MLFLOW_DEFAULT_ARTIFACT_ROOT"] = store.artifacts.as_uri()
    arguments = (sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1")
    return UiCommand(arguments, environment, f"http://127.0.0.1:{port}")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, timeout=_LOCK_SECONDS)
    try:
        lock.acquire()
    except Timeout:
        raise StoreError(
            "another medsweep command has held the store for ten minutes.", where=str(path), fix=_NOTHING_LOST
        ) from None
    try:
        yield
    finally:
        lock.release()


def _absolute(uri: str, base: Path) -> str:
    if uri.startswith(_SQLITE):
        path = uri.removeprefix(_SQLITE)
        return uri if Path(path).is_absolute() or path.startswith(":") else f"{_SQLITE}{(base / path).as_posix()}"
    if urlsplit(uri).scheme or uri.startswith("databricks"):
        return uri
    return (base / uri).resolve().as_uri()


def _create(store: Store) -> None:
    # First by hand: MLflow itself retries for minutes where the folder can't be written.
    with closing(sqlite3.connect(store.layout.store)) as database:
        database.execute("PRAGMA user_version = 0")
    store.client().search_experiments(max_results=1)
    # MLflow puts its experiment 'Default' below the current folder, whichever that is.
    assert store.artifacts is not None
    with closing(sqlite3.connect(store.layout.store)) as database, database:
        database.execute(
            "UPDATE experiments SET artifact_location = ? WHERE experiment_id = 0", (f"{store.artifacts.as_uri()}/0",)
        )


def _take_along(database_path: Path, artifacts: Path) -> None:
    """Make the recorded artifact locations those of `artifacts`, all of them or none."""
    present = artifacts.as_uri()
    mark = f"/{artifacts.name}/"
    with closing(sqlite3.connect(database_path, timeout=60.0)) as database, database:
        locations = [row[0] for row in database.execute("SELECT artifact_location FROM experiments") if row[0]]
        roots = {
            each[: each.rindex(mark) + len(mark) - 1] for each in locations if each.startswith("file:") and mark in each
        }
        for old in sorted(roots - {present}):
            for table, column in _LOCATIONS:
                if column not in {row[1] for row in database.execute(f"PRAGMA table_info({table})")}:
                    continue
                database.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",
                    (present, len(old) + 1, len(old) + 1, f"{old}/"),
                )


def _reason(text: str) -> str:
    """What a person needs of MLflow's messages, which run over many lines."""
    if "Max retries exceeded" in text or "timed out" in text:
        return "no answer."
    line = " ".join(text.split())
    head, stop, _ = line.partition(". ")
    return (head[:300] + ("." if stop else "")).strip()
