"""The memory of one worker while it fits different trials one after the other.

Trials are drawn from params.yaml's space, as a search draws its first ones, so networks, optimizers, losses and
augmentation change from trial to trial: what an earlier one leaves behind would add up. As in a search, the worker is
replaced after so many tasks. With `--distinct` the same trials come round and round, each time with another seed: so
the CPU seconds of the last round can be compared with those of the first.

Example: python bench/memory.py --trials 200 --distinct 20
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from medsweep.augment import stage as augment
from medsweep.prepare import stage as prepare
from medsweep.train.executor import WorkerDied, local_workers
from medsweep.train.fit import FitTask, fit, prepare_worker
from medsweep.train.study import ask_generation
from project import peak_memory, phantoms, quiet, show, temporary_project, training_data, write_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--distinct", type=int, help="trials that differ in more than their seeds; default: all")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--images", type=int, default=600, help="phantoms, split 60 / 20 / 20")
    parser.add_argument("--size", type=int, default=28, help="pixels along each side")
    parser.add_argument("--json", type=Path, help="write all measurements here")
    given = parser.parse_args()
    distinct = given.distinct or given.trials
    search = {"train.search.trials": distinct, "train.search.startup_trials": distinct}
    rows: list[list[str]] = []
    found: list[dict[str, float]] = []
    with temporary_project({**phantoms(given.images, given.size), **search}) as (params, layout):
        prepare.run(params, layout, quiet())
        augment.run(params, layout, quiet())
        data = training_data(layout)
        drawn = ask_generation(params.train, [], 0, distinct)
        configs = [
            replace(drawn[number % distinct], number=number, seed=drawn[number % distinct].seed + number // distinct)
            for number in range(given.trials)
        ]
        end = layout.state / "end.npz"
        tasks = [FitTask(each, data, given.epochs, given.epochs, None, end, measure=True) for each in configs]
        with local_workers(1, prepare_worker) as crew:
            for title, task in [("TensorFlow imported", None), *((each.config.title, each) for each in tasks)]:
                answer = crew.run(fit_and_look, task)
                if isinstance(answer, WorkerDied):
                    raise SystemExit(f"{title}: {answer.reason}")
                process, peak, now, seconds = answer
                rows.append([str(len(found)), title, str(process), f"{peak:.0f}", f"{now:.0f}", f"{seconds:.2f}"])
                found.append({"process": process, "peak_mb": peak, "mb": now, "seconds": seconds})
                write_json(given.json, found)
    show("One worker, trial after trial", ["trials", "the last one", "process", "peak, MB", "now, MB", "CPU s"], rows)
    processes = dict.fromkeys(each["process"] for each in found)
    peaks = [max(each["peak_mb"] for each in found if each["process"] == process) for process in processes]
    print(f"peaks of the processes, MB: {', '.join(f'{each:.0f}' for each in peaks)}")
    if given.trials >= 2 * distinct:
        seconds = np.array([each["seconds"] for each in found[1:]])
        more = 100 * (np.median(seconds[-distinct:] / seconds[:distinct]) - 1)
        print(f"the last {distinct} trials against the first: {more:+.1f} % CPU in the median")
    late = [each["mb"] for each in found[len(found) // 2 :]]
    if len(late) > 1:
        slope = float(np.polyfit(np.arange(len(late)), late, 1)[0])
        print(f"growth over the second half, by least squares: {slope:+.1f} MB a trial")
    write_json(given.json, found)


def fit_and_look(task: FitTask | None) -> tuple[int, float, float, float]:
    """Fit a trial, if one is given; then this process's number, its peak and present resident memory in MB, and the
    CPU seconds of the trial."""
    import psutil

    seconds = 0.0 if task is None else fit(task).seconds
    return os.getpid(), peak_memory(), psutil.Process().memory_info().rss / 1e6, seconds


if __name__ == "__main__":
    main()
