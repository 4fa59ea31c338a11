"""Trials fitted on an existing Dask cluster: how its workers get at the images, and what is done when one dies.

Only the fitting of trials goes there. Everything is decided, logged and written by the process that runs the stage, so
the result is the one that local workers give, byte for byte.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medsweep.artifacts import files
from medsweep.artifacts.augmented import AugmentedViews
from medsweep.artifacts.prepared import PreparedSplit
from medsweep.errors import ParamsError, SearchError
from medsweep.params import Dask
from medsweep.tracking.lineage import code_digest
from medsweep.train.examples import TrainingData
from medsweep.train.executor import WorkerDied, Workers
from medsweep.train.fit import FitAnswer, FitTask, prepare_worker

if TYPE_CHECKING:
    import distributed

WHERE = "runtime.dask"
_PATIENCE = 60  # seconds that a scheduler may take to answer, and the first worker to join
# Dask keeps what is waiting, so that workers that join later find work; a generation has fewer trials than this.
_AT_A_TIME = 10_000
# Dask gives up on a task when as many workers died with it as its scheduler allows (by default four); then once more.
_TRIES = 2
_CACHE = "medsweep-data"

Fit = Callable[[FitTask], FitAnswer]


def dask_workers(settings: Dask, packages: tuple[str, ...]) -> Workers:
    """The workers of an existing cluster.

    Args:
        settings: the scheduler's address, and where images are left for workers that do not see this project.
        packages: of medsweep, that decide what a trial becomes; workers where they differ are refused.

    Raises:
        ParamsError: no address is given.
        SearchError: Dask is not installed, the scheduler does not answer, no worker joins, or one
            has another version of medsweep.
    """
    return Workers(lambda: _connected(settings, packages), _AT_A_TIME)


def _connected(settings: Dask, packages: tuple[str, ...]) -> Executor:
    if settings.scheduler_address is None:
        raise ParamsError(
            "is not given.",
            where=f"{WHERE}.scheduler_address",
            fix="Start a cluster (docs/scale-out.md) and write its scheduler's address, like tcp://10.0.0.1:8786.",
        )
    try:
        import distributed
    except ImportError:
        raise SearchError(
            "needs Dask, which is not installed.",
            where="runtime.executor: dask",
            fix="pip install 'medsweep[dask]', here and where the workers run.",
        ) from None
    address = settings.scheduler_address
    try:
        client = distributed.Client(address, timeout=_PATIENCE, set_as_default=False)
    except (OSError, ValueError) as failure:
        reason = str(failure).splitlines()[0] if str(failure) else type(failure).__name__
        raise SearchError(
            f"no Dask scheduler answers at {address} ({reason}).",
            where=f"{WHERE}.scheduler_address",
            fix="Start it, or correct the address: docs/scale-out.md.",
        ) from None
    try:
        client.wait_for_workers(1, timeout=_PATIENCE)
        _check_code(client, packages)
    except TimeoutError:
        client.close()
        raise SearchError(
            f"the scheduler at {address} has no workers, and none joined in {_PATIENCE} s.",
            where=f"{WHERE}.scheduler_address",
            fix="Start some: docs/scale-out.md.",
        ) from None
    except SearchError:
        client.close()
        raise
    return ClusterExecutor(client, settings.data_url)


def _check_code(client: distributed.Client, packages: tuple[str, ...]) -> None:
    """Refuse workers that would fit otherwise."""
    try:
        found = client.run(code_digest, packages, on_error="return")
    except OSError:  # the only worker has just died: whoever replaces it says so with its first task
        return
    here = code_digest(packages)
    others = sorted(address for address, there in found.items() if there != here)
    if others:
        raise SearchError(
            f"{len(others)} of {len(found)} workers have no medsweep, or another version of it ({others[0]}).",
            where="runtime.executor: dask",
            fix="Install the same version, with the same constraints.txt, where they run.",
        )


class ClusterExecutor(Executor):
    """Fits trials on a cluster's workers.

    A task whose worker dies is given to another one, as Dask does, and in the end answered by `WorkerDied`. Where the
    scheduler itself is lost, the answer is a `BrokenExecutor`.

    Args:
        client: of the cluster; closed with this executor.
        data_url: where images are left for the workers (fsspec); None where they see this project's folders.
    """

    def __init__(self, client: distributed.Client, data_url: str | None) -> None:
        self._client = client
        self._store = None if data_url is None else _Store(data_url)
        self._lock = threading.Lock()
        self._remote: set[Any] = set()
        self._closed = False

    def submit(self, function: Fit, task: FitTask, /) -> Future[FitAnswer]:  # type: ignore[override]
        """Fit a trial; see `train.fit.fit`."""
        answer: Future[FitAnswer] = Future()
        answer.set_running_or_notify_cancel()
        self._send(function, task, answer, 1)
        return answer

    def _send(self, function: Fit, task: FitTask, answer: Future[FitAnswer], attempt: int) -> None:
        try:
            if self._store is None:
                remote = self._client.submit(_fit_there, function, task, pure=False)
            else:
                parcel = _Parcel.of(task, self._store.url, self._store.keep(task.data))
                remote = self._client.submit(_fit_parcel, function, parcel, pure=False)
        except RuntimeError as failure:  # the client is closed
            raise BrokenExecutor(str(failure)) from None
        with self._lock:
            self._remote.add(remote)
        remote.add_done_callback(lambda done: self._deliver(done, function, task, answer, attempt))

    def _deliver(self, remote: Any, function: Fit, task: FitTask, answer: Future[FitAnswer], attempt: int) -> None:
        """In a thread of Dask's: turn its future into ours."""
        import distributed

        with self._lock:
            self._remote.discard(remote)
        try:
            if remote.status == "finished":
                found = remote.result()
                answer.set_result(found if self._store is None else found.unpacked(task))
                return
            failure = remote.exception() if remote.status == "error" else None
            if not isinstance(failure, distributed.KilledWorker):
                answer.set_exception(failure or BrokenExecutor(f"the task was {remote.status}"))
            elif attempt < _TRIES and not self._closed:
                self._send(function, task, answer, attempt + 1)
            else:
                answer.set_result(WorkerDied())  # type: ignore[arg-type]
        except Exception as problem:  # nobody else would hear of it
            answer.set_exception(problem)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leave the cluster; what it still does for us is cancelled."""
        self._closed = True
        with self._lock:
            remote = list(self._remote)
        if remote:
            self._client.cancel(remote, force=True)
        self._client.close()


# -- in the workers ----------------------------------------------------------------------------------------------------

_ONE_AT_A_TIME = threading.Lock()
_PREPARED = False


def _fit_there(function: Fit, task: FitTask) -> FitAnswer:
    """Fit in this process: one task at a time, for TensorFlow's seeds and graphs belong to the process."""
    global _PREPARED
    with _ONE_AT_A_TIME:
        if not _PREPARED:
            prepare_worker()
            _PREPARED = True
        return function(task)


def _fit_parcel(function: Fit, parcel: _Parcel) -> _Delivery:
    """Fit where nothing of the project is to be seen."""
    data = _fetched(parcel.url, parcel.key, parcel.task.data)
    with tempfile.TemporaryDirectory(prefix="medsweep-trial-") as folder:
        task = replace(
            parcel.task,
            data=data,
            start=None if parcel.start is None else Path(folder) / "start.npz",
            save_to=Path(folder) / "end.npz",
            predictions=None if parcel.task.predictions is None else Path(folder) / "predictions.npy",
        )
        if task.start is not None and parcel.start is not None:
            task.start.write_bytes(parcel.start)
        answer = _fit_there(function, task)
        kept = [None if path is None or not path.is_file() else path.read_bytes() for path in _written(task)]
        return _Delivery(answer, tuple(kept))


def _fetched(url: str, key: str, data: TrainingData) -> TrainingData:
    """The images in this machine's own cache: fetched by the first that needs them, and checked."""
    import fsspec

    place = Path(tempfile.gettempdir()) / f"{_CACHE}-{os.getuid() if hasattr(os, 'getuid') else 'user'}" / key
    if not place.is_dir():
        place.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=place.parent, prefix="fetching-"))
        try:
            try:
                system, root = fsspec.core.url_to_fs(url)
                system.get(f"{root}/{key}/", f"{folder}/", recursive=True)
            except (OSError, ImportError, ValueError) as failure:
                raise SearchError(
                    f"a worker cannot fetch the images from {url} ({failure}).",
                    where=f"{WHERE}.data_url",
                    fix="Name a folder that the workers may read, with its package (s3fs, gcsfs …) installed there.",
                ) from None
            for split in ("train", "val"):
                PreparedSplit.load(folder / split)
            for policy in sorted((folder / "augmented").glob("*")):
                AugmentedViews.load(policy)
            try:
                folder.rename(place)
            except OSError:
                if not place.is_dir():  # else another process of this machine was quicker
                    raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return replace(
        data,
        train=place / "train",
        val=place / "val",
        augmented=place / "augmented",
        folds=None if data.folds is None else place / "folds.npy",
        warm_start=None if data.warm_start is None else place / "warm_start.keras",
    )


# -- what is sent ------------------------------------------------------------------------------------------------------


def _written(task: FitTask) -> tuple[Path | None, Path | None]:
    return task.save_to, task.predictions


@dataclass(frozen=True)
class _Parcel:
    """A task for a worker that does not see the project: its images at `url`/`key`, its checkpoint inside."""

    task: FitTask
    url: str
    key: str
    start: bytes | None

    @classmethod
    def of(cls, task: FitTask, url: str, key: str) -> _Parcel:
        return cls(task, url, key, None if task.start is None else task.start.read_bytes())


@dataclass(frozen=True)
class _Delivery:
    """An answer with the files that belong to it."""

    answer: FitAnswer
    kept: tuple[bytes | None, ...]

    def unpacked(self, task: FitTask) -> FitAnswer:
        """Write the files where the task wants them."""
        for path, content in zip(_written(task), self.kept, strict=True):
            if path is not None and content is not None:
                with files.replacing(path) as temporary:
                    temporary.write_bytes(content)
        return self.answer


class _Store:
    """Where images are left for the workers.

    Args:
        url: a folder, as fsspec writes it: s3://bucket/folder, gs://…, file:///mnt/…
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._kept: dict[TrainingData, str] = {}
        self._lock = threading.Lock()

    def keep(self, data: TrainingData) -> str:
        """Leave these images there, once, and say under which key.

        Raises:
            SearchError: it cannot be written.
        """
        with self._lock:
            if data not in self._kept:
                self._kept[data] = self._left(data)
            return self._kept[data]

    def _left(self, data: TrainingData) -> str:
        import fsspec

        policies = sorted(path for path in data.augmented.glob("*") if path.is_dir())
        single = {"folds.npy": data.folds, "warm_start.keras": data.warm_start}
        digests = {
            "train": PreparedSplit.load(data.train, verify=False).digest,
            "val": PreparedSplit.load(data.val, verify=False).digest,
            **{path.name: AugmentedViews.load(path, verify=False).digest for path in policies},
            **{
                name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in single.items() if path is not None
            },
        }
        key = files.digest_of(digests)
        try:
            system, root = fsspec.core.url_to_fs(self.url)
            there = f"{root}/{key}"
            # Workers ask for it only once it is complete; a half of it, from a run that was cut off, is written over.
            if not system.exists(f"{there}/complete"):
                system.makedirs(there, exist_ok=True)
                folders = {"train": data.train, "val": data.val}
                folders |= {f"augmented/{path.name}": path for path in policies}
                for name, folder in folders.items():
                    system.put(f"{folder}/", f"{there}/{name}/", recursive=True)
                for name, path in single.items():
                    if path is not None:
                        system.put(str(path), f"{there}/{name}")
                system.pipe_file(f"{there}/complete", b"")
        except (OSError, ImportError, ValueError) as failure:
            raise SearchError(
                f"the images cannot be left at {self.url} ({failure}).",
                where=f"{WHERE}.data_url",
                fix="Name a folder that this machine may write and the workers may read, or null for a shared one.",
            ) from None
        return key
