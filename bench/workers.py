"""The same search with one and with two workers, in alternation: trials a minute.

All trials cost the same (one network, no pruning), so the figure is the executor's and not the search's luck. Starting
the workers (TensorFlow's import) is measured apart, and the ratio is given without it and with it.

Example: python bench/workers.py --rounds 3
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from pathlib import Path
from typing import Any

from medsweep.artifacts.run_log import RunLog
from medsweep.layout import Layout
from medsweep.params import Params
from medsweep.prepare import stage as prepare
from medsweep.train.executor import Workers, local_workers
from medsweep.train.fit import prepare_worker
from medsweep.train.search import Search
from project import ONE_NETWORK, Nobody, phantoms, quiet, show, spread, temporary_project, training_data, write_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="searches with each number of workers")
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--images", type=int, default=1000, help="phantoms, 28x28, split 60 / 20 / 20")
    parser.add_argument("--json", type=Path, help="write all measurements here")
    given = parser.parse_args()
    search = {"trials": given.trials, "generation": given.trials, "startup_trials": given.trials}
    search |= {"min_epochs": given.epochs, "max_epochs": given.epochs}
    changes = {**phantoms(given.images, 28), **ONE_NETWORK, **{f"train.search.{k}": v for k, v in search.items()}}
    with temporary_project(changes) as (params, layout):
        prepare.run(params, layout, quiet())
        found: list[dict[str, Any]] = []
        for _ in range(given.rounds):
            found += [measure(params, layout, workers) for workers in (1, 2)]
    report(found, given.trials)
    write_json(given.json, found)


def measure(params: Params, layout: Layout, workers: int) -> dict[str, Any]:
    """Seconds until the workers are ready, and seconds that the search takes them then."""
    work = layout.state / "bench"
    started = time.perf_counter()
    with local_workers(workers, prepare_worker) as crew, RunLog(work / "run_log.jsonl") as log:
        _wait_for_all(crew, workers)
        ready = time.perf_counter()
        outcomes = Search(params.train, training_data(layout), log, (), work / "checkpoints", crew, Nobody()).run()
        done = time.perf_counter()
    shutil.rmtree(work)
    return {
        "workers": workers,
        "start_seconds": ready - started,
        "search_seconds": done - ready,
        "cpu_seconds_a_trial": sum(each.seconds for each in outcomes) / len(outcomes),
        "objectives": [each.objective for each in outcomes],
    }


def _wait_for_all(crew: Workers, workers: int) -> None:
    seen: set[int | object] = set()
    while len(seen) < workers:
        seen |= {answer for _, answer in crew.map_unordered(_here, [0.1] * workers)}


def _here(seconds: float) -> int:
    time.sleep(seconds)  # long enough for the other workers to take a task too
    return os.getpid()


def report(found: list[dict[str, Any]], trials: int) -> None:
    rows = []
    for workers in (1, 2):
        runs = [each for each in found if each["workers"] == workers]
        rows.append(
            [
                str(workers),
                spread([each["start_seconds"] for each in runs], 1),
                spread([each["search_seconds"] for each in runs], 1),
                spread([60 * trials / each["search_seconds"] for each in runs], 1),
                spread([each["cpu_seconds_a_trial"] for each in runs], 1),
            ]
        )
    columns = ["workers", "start, s", "search, s", "trials a minute", "CPU s a trial"]
    show(f"{trials} trials; median (range) of {len(found) // 2}", columns, rows)
    pairs = list(zip(found[::2], found[1::2], strict=True))
    apart = [one["search_seconds"] / two["search_seconds"] for one, two in pairs]
    whole = [_whole(one) / _whole(two) for one, two in pairs]
    print(f"2 workers against 1, started: {spread(apart)} × trials a minute; start included: {spread(whole)} ×")
    print("same objectives:", all(each["objectives"] == found[0]["objectives"] for each in found))


def _whole(run: dict[str, Any]) -> float:
    return float(run["start_seconds"] + run["search_seconds"])


if __name__ == "__main__":
    main()
