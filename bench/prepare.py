"""The prepare stage on few and on many phantoms: images a second, and the memory of its driver and its workers.

Phantoms are made as they are read, so this is a stream of any length without a file; making them costs more than
decoding files of the same size would. Each measurement has a process of its own.

Example: python bench/prepare.py --images 2000 20000 --workers 1 2
"""

from __future__ import annotations

import argparse
import multiprocessing
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from project import peak_memory, phantoms, quiet, show, spread, temporary_project, write_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[2000, 20000])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--size", type=int, default=28, help="pixels along each side")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write all measurements here")
    given = parser.parse_args()
    found: list[dict[str, Any]] = []
    for _ in range(given.rounds):
        for images in given.images:
            for workers in given.workers:
                with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                    found.append(pool.submit(measure, images, given.size, workers).result())
    rows = []
    for images in given.images:
        for workers in given.workers:
            runs = [each for each in found if (each["images"], each["workers"]) == (images, workers)]
            rows.append(
                [
                    str(images),
                    str(workers),
                    spread([each["seconds"] for each in runs], 1),
                    spread([images / each["seconds"] for each in runs], 0),
                    spread([each["driver_mb"] for each in runs], 0),
                    "–" if workers == 1 else spread([each["worker_mb"] for each in runs], 0),
                ]
            )
    columns = ["images", "workers", "seconds", "images a second", "driver's peak, MB", "a worker's peak, MB"]
    show(f"prepare, {given.size}x{given.size}; median (range) of {given.rounds}", columns, rows)
    write_json(given.json, found)


def measure(images: int, size: int, workers: int) -> dict[str, Any]:
    """One run of the stage in this process, whose memory is looked at."""
    from medsweep.prepare import stage

    changes = {**phantoms(images, size), "runtime.workers": workers}
    with temporary_project(changes) as (params, layout), _PeakOfChildren() as children:
        started = time.perf_counter()
        summary = stage.run(params, layout, quiet())
        seconds = time.perf_counter() - started
    return {
        "images": summary.prepared,
        "workers": workers,
        "seconds": seconds,
        "driver_mb": peak_memory(),
        "worker_mb": children.peak,
    }


class _PeakOfChildren:
    """Watches the processes below this one: the largest peak of any of them, in MB."""

    def __init__(self) -> None:
        self.peak = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> _PeakOfChildren:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        import psutil

        # Asking the system for all its processes would take CPU time of what is measured.
        while not self._over.wait(0.5):
            for each in multiprocessing.active_children():
                with suppress(psutil.Error, OSError):  # it may have ended
                    self.peak = max(self.peak, peak_memory(each.pid))


if __name__ == "__main__":
    main()
