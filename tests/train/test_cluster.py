"""An existing Dask cluster gives what local workers give, whoever dies; and what is said where there is none."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from medsweep.errors import ParamsError, SearchError
from medsweep.layout import Layout
from medsweep.params import Dask, Params
from medsweep.train import cluster as clusters
from medsweep.train import stage, study_figures
from medsweep.train.cluster import ClusterExecutor, dask_workers
from medsweep.train.examples import TrainingData
from medsweep.train.executor import WorkerDied
from medsweep.train.fit import FitAnswer, FitTask
from medsweep.train.study import ask_generation

distributed = pytest.importorskip("distributed")
PACKAGES = ("artifacts", "train")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    # Caches of data that were fetched go where the test's own temporary files go.
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=2, processes=True, dashboard_address=None, silence_logs=50
    ) as made:
        yield made


@pytest.fixture(scope="module", autouse=True)
def _quick_pictures() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(study_figures, "draw_all", lambda folder, *_, **__: (folder / "x.svg").write_text(""))
        yield


def outputs(params: Params, layout: Layout) -> dict[str, bytes]:
    stage.run(params, layout, Console(quiet=True))
    files = (layout.trials, layout.model, layout.trained, layout.validation, layout.features, layout.trial_predictions)
    return {path.name: path.read_bytes() for path in files}


def on(params: Params, cluster: Any, data_url: str | None) -> Params:
    dask = Dask(scheduler_address=cluster.scheduler_address, data_url=data_url)
    runtime = params.runtime.model_copy(update={"executor": "dask", "dask": dask})
    return params.model_copy(update={"runtime": runtime})


def kill_one(cluster: Any, after: float) -> threading.Thread:
    """Kill a worker's process in the midst of its work; its nanny starts another one."""

    def kill() -> None:
        time.sleep(after)
        with distributed.Client(cluster.scheduler_address, set_as_default=False) as client:
            killed.extend(client.run(os.getpid).values())
            os.kill(killed[0], signal.SIGKILL)

    killed: list[int] = []
    thread = threading.Thread(target=kill)
    thread.start()
    return thread


@pytest.mark.parametrize("fetched", [False, True])
def test_the_same_bytes_as_local_workers_give_though_one_dies(
    fetched: bool, write_project: Callable[..., Params], cluster: Any, tmp_path: Path
) -> None:
    # Folds are data too, and so is what an earlier rung left.
    search = {"validation": "cross_validation"} if fetched else {}
    params = write_project(tmp_path / "project", search={**search, "trials": 3})
    layout = Layout.find(tmp_path / "project")
    local = outputs(params, layout)
    killer = kill_one(cluster, 3.0)
    url = f"file://{tmp_path / 'left'}" if fetched else None
    found = outputs(on(params, cluster, url), layout)
    assert {name for name in local if found[name] != local[name]} == set()
    killer.join()
    assert (tmp_path / "left").is_dir() == fetched


def task_of(params: Params, root: Path, save_to: Path) -> FitTask:
    config = ask_generation(params.train, [], 0, 1)[0]
    prepared = root / "data" / "prepared"
    data = TrainingData(prepared / "train", prepared / "val", root / "data" / "augmented", "digest")
    start = root / "start.npz"
    start.write_bytes(b"a checkpoint")
    return FitTask(config, data, 2, 2, start, save_to, False, predictions=save_to.with_suffix(".npy"))


def test_a_worker_sees_nothing_of_the_project_and_its_files_come_back(
    write_project: Callable[..., Params], cluster: Any, tmp_path: Path
) -> None:
    params = write_project(tmp_path / "project")
    task = task_of(params, tmp_path / "project", tmp_path / "end.npz")

    def fit(there: FitTask) -> FitAnswer:  # nested, so it is sent by value
        assert there.start is not None and there.predictions is not None
        there.save_to.write_bytes(there.start.read_bytes() + b", trained")
        there.predictions.write_bytes(b"p")
        names = [path.as_posix() for path in (there.data.train, there.data.augmented, there.start, there.save_to)]
        found = sorted(path.name for path in there.data.augmented.iterdir())
        return FitAnswer((), " ".join([*names, *found]), 0.0, len(list(there.data.val.iterdir())), {})

    client = distributed.Client(cluster.scheduler_address, set_as_default=False)
    executor = ClusterExecutor(client, f"file://{tmp_path / 'left'}/")
    try:
        answer = executor.submit(fit, task).result(timeout=60)
        assert answer.error is not None and "project" not in answer.error and "flip shift" in answer.error
        assert answer.peak_rss == len(list(task.data.val.iterdir()))
        assert task.save_to.read_bytes() == b"a checkpoint, trained"
        assert task.predictions is not None and task.predictions.read_bytes() == b"p"
        # Left there once: what is complete is not sent again.
        (kept,) = (tmp_path / "left").iterdir()
        (kept / "complete").write_text("untouched")
        again = ClusterExecutor(client, f"file://{tmp_path / 'left'}")
        again.submit(fit, task).result(timeout=60)
        assert (kept / "complete").read_text() == "untouched"
    finally:
        executor.shutdown()


def test_a_task_that_kills_every_worker_is_answered(write_project: Callable[..., Params], tmp_path: Path) -> None:
    params = write_project(tmp_path)
    task = task_of(params, tmp_path, tmp_path / "end.npz")

    def dies(_: FitTask) -> FitAnswer:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    # A cluster of its own: a nanny gives up a worker that dies as it starts, and that worker is gone for good.
    with distributed.LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address=None, silence_logs=50) as dying:
        dying.scheduler.allowed_failures = 0
        executor = ClusterExecutor(distributed.Client(dying.scheduler_address, set_as_default=False), None)
        try:
            assert isinstance(executor.submit(dies, task).result(timeout=90), WorkerDied)
        finally:
            executor.shutdown()


def test_images_that_cannot_be_left_are_an_error(
    write_project: Callable[..., Params], cluster: Any, tmp_path: Path
) -> None:
    params = write_project(tmp_path)
    (tmp_path / "file").write_text("no folder")
    task = task_of(params, tmp_path, tmp_path / "end.npz")
    client = distributed.Client(cluster.scheduler_address, set_as_default=False)
    for url in (f"file://{tmp_path / 'file'}", "nosuch://bucket"):
        executor = ClusterExecutor(client, url)
        with pytest.raises(SearchError, match=r"runtime\.dask\.data_url: the images cannot be left at "):
            executor.submit(lambda _: FitAnswer((), None, 0.0, 0, {}), task)
    client.close()


def test_images_that_cannot_be_fetched_are_an_error(
    write_project: Callable[..., Params], cluster: Any, tmp_path: Path
) -> None:
    task = task_of(write_project(tmp_path), tmp_path, tmp_path / "end.npz")
    client = distributed.Client(cluster.scheduler_address, set_as_default=False)
    executor = ClusterExecutor(client, f"file://{tmp_path / 'left'}")
    try:
        (tmp_path / "left" / executor._store.keep(task.data)).rename(tmp_path / "gone")  # type: ignore[union-attr]
        executor._store._kept[task.data] = "never-fetched"  # type: ignore[union-attr]
        failure = executor.submit(lambda _: FitAnswer((), None, 0.0, 0, {}), task).exception(timeout=60)
        assert isinstance(failure, SearchError)
        assert "runtime.dask.data_url: a worker cannot fetch the images from file://" in str(failure)
    finally:
        executor.shutdown()


def test_a_scheduler_that_is_lost_ends_the_search_in_words(
    write_project: Callable[..., Params], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clusters, "_PATIENCE", 5)
    task = task_of(write_project(tmp_path), tmp_path, tmp_path / "end.npz")
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None, silence_logs=50) as lost:
        workers = dask_workers(Dask(scheduler_address=lost.scheduler_address, data_url=None), PACKAGES)
        threading.Timer(2.0, lost.close).start()

        def sleeps(_: FitTask) -> FitAnswer:
            time.sleep(30)
            raise AssertionError

        with workers, pytest.raises(SearchError, match="no Dask scheduler answers at "):
            workers.run(sleeps, task)


def test_no_scheduler_no_workers_no_dask_other_code(monkeypatch: pytest.MonkeyPatch, cluster: Any) -> None:
    monkeypatch.setattr(clusters, "_PATIENCE", 1)
    with pytest.raises(ParamsError, match=r"runtime\.dask\.scheduler_address: is not given\..*docs/scale-out\.md"):
        dask_workers(Dask(scheduler_address=None, data_url=None), PACKAGES)
    for address in ("tcp://127.0.0.1:9", "nonsense://"):
        with pytest.raises(SearchError, match="no Dask scheduler answers at "):
            dask_workers(Dask(scheduler_address=address, data_url=None), PACKAGES)
    with (
        distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=None) as empty,
        pytest.raises(SearchError, match="has no workers, and none joined in 1 s"),
    ):
        dask_workers(Dask(scheduler_address=empty.scheduler_address, data_url=None), PACKAGES)
    with monkeypatch.context() as patched:
        patched.setattr(clusters, "code_digest", lambda _: str(os.getpid()))
        with pytest.raises(SearchError, match=r"([12]) of \1 workers have no medsweep, or another version"):
            dask_workers(Dask(scheduler_address=cluster.scheduler_address, data_url=None), PACKAGES)
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(SearchError, match=r"needs Dask, which is not installed\. pip install 'medsweep\[dask\]'"):
        dask_workers(Dask(scheduler_address=cluster.scheduler_address, data_url=None), PACKAGES)
