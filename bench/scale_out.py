"""The same search by 1, 2 and 4 local workers, and on a Dask cluster one of whose workers is killed again and again.

The cluster is a scheduler and `--hosts` worker hosts of `--processes` processes each, all separate processes of this
machine. The workers fetch the images (`runtime.dask.data_url`). For each way the digests of trials.csv and
model.keras are shown: they must be the same.

Example: python bench/scale_out.py --kill-every 20
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from medsweep.augment import stage as augment
from medsweep.layout import Layout
from medsweep.params import Dask, Params
from medsweep.prepare import stage as prepare
from medsweep.train import stage as train
from project import phantoms, quiet, show, temporary_project, write_json

PORT = 18786


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2, 4], help="local ways to run it")
    parser.add_argument("--hosts", type=int, default=2)
    parser.add_argument("--processes", type=int, default=2, help="worker processes of each host")
    parser.add_argument("--kill-every", type=float, default=20.0, help="seconds")
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--json", type=Path, help="write all measurements here")
    given = parser.parse_args()
    changes = {
        **phantoms(given.images, 28),
        "train.search.trials": given.trials,
        "prepare.checks.near_duplicates": "off",
    }
    found = []
    with temporary_project(changes) as (params, layout):
        prepare.run(params, layout, quiet())
        augment.run(params, layout, quiet())
        for count in given.workers:
            local = params.runtime.model_copy(update={"workers": count})
            found.append(searched(f"{count} local", params.model_copy(update={"runtime": local}), layout))
        with TemporaryDirectory() as folder, cluster(given.hosts, given.processes, Path(folder)) as address:
            dask = Dask(scheduler_address=address, data_url=f"file://{folder}/left")
            runtime = params.runtime.model_copy(update={"executor": "dask", "dask": dask})
            with killing(given.kill_every) as killed:
                row = searched(
                    f"Dask, {given.hosts} x {given.processes}", params.model_copy(update={"runtime": runtime}), layout
                )
            found.append(row | {"killed": len(killed)})
    columns = ["workers", "seconds", "killed", "trials.csv", "model.keras"]
    cells = [
        [each["who"], f"{each['seconds']:.0f}", str(each.get("killed", 0)), each["trials"][:12], each["model"][:12]]
        for each in found
    ]
    show(f"one search of {given.trials} trials", columns, cells)
    same = len({(each["trials"], each["model"]) for each in found}) == 1
    print("the results are identical" if same else "THE RESULTS DIFFER")
    write_json(given.json, found)
    sys.exit(not same)


def searched(who: str, params: Params, layout: Layout) -> dict[str, Any]:
    """One search from nothing."""
    shutil.rmtree(layout.finished_searches, ignore_errors=True)
    started = time.perf_counter()
    train.run(params, layout, quiet())
    seconds = time.perf_counter() - started
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (layout.trials, layout.model)]
    return {"who": who, "seconds": seconds, "trials": digests[0], "model": digests[1]}


@contextmanager
def cluster(hosts: int, processes: int, folder: Path) -> Iterator[str]:
    """A scheduler and its workers; ended at the end."""
    address = f"tcp://127.0.0.1:{PORT}"
    quietly = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder}
    program = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(PORT)]
    started = [subprocess.Popen([*program, "--no-dashboard"], **quietly)]  # type: ignore[call-overload]
    for host in range(hosts):
        home = folder / f"host-{host}"
        home.mkdir()
        program = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nworkers", str(processes)]
        program += ["--nthreads", "1", "--no-dashboard", "--local-directory", str(home)]
        # A temporary folder of its own stands for another machine's.
        environment = {**os.environ, "TMPDIR": str(home)}
        started.append(subprocess.Popen(program, env=environment, **quietly))  # type: ignore[call-overload]
    try:
        yield address
    finally:
        for each in started:
            each.terminate()
        for each in started:
            each.wait(30)


@contextmanager
def killing(seconds: float) -> Iterator[list[int]]:
    """Kill one of the cluster's worker processes, drawn at random, every so many seconds."""
    done = threading.Event()
    killed: list[int] = []
    draw = random.Random(7)

    def kill() -> None:
        while not done.wait(seconds):
            workers = [each for each in psutil.Process().children(recursive=True) if is_worker(each)]
            if workers:
                chosen = draw.choice(workers)
                killed.append(chosen.pid)
                os.kill(chosen.pid, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        done.set()
        thread.join()


def is_worker(process: psutil.Process) -> bool:
    """Whether it is a process that a worker host has spawned to work."""
    try:
        parent = process.parent()
        return (
            parent is not None
            and "distributed.cli.dask_worker" in " ".join(parent.cmdline())
            and "spawn_main" in " ".join(process.cmdline())
        )
    except psutil.NoSuchProcess:
        return False


if __name__ == "__main__":
    main()
