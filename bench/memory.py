"""The memory of one worker while it fits different trials one after the other.

Trials are drawn from params.yaml's space, as a search draws its first ones, so networks, optimizers, losses and
augmentation change from trial to trial: what an earlier one leaves behind would add up.

Example: python bench/memory.py --trials 20
"""

from __future__ import annotations

import argparse
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
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--images", type=int, default=600, help="phantoms, split 60 / 20 / 20")
    parser.add_argument("--size", type=int, default=28, help="pixels along each side")
    parser.add_argument("--json", type=Path, help="write all measurements here")
    given = parser.parse_args()
    search = {"train.search.trials": given.trials, "train.search.startup_trials": given.trials}
    rows: list[list[str]] = []
    found: list[dict[str, float]] = []
    with temporary_project({**phantoms(given.images, given.size), **search}) as (params, layout):
        prepare.run(params, layout, quiet())
        augment.run(params, layout, quiet())
        data = training_data(layout)
        configs = ask_generation(params.train, [], 0, given.trials)
        end = layout.state / "end.npz"
        tasks = [FitTask(each, data, given.epochs, given.epochs, None, end, measure=True) for each in configs]
        with local_workers(1, prepare_worker) as crew:
            for title, task in [("TensorFlow imported", None), *((each.config.title, each) for each in tasks)]:
                answer = crew.run(fit_and_look, task)
                if isinstance(answer, WorkerDied):
                    raise SystemExit(f"{title}: {answer.reason}")
                peak, now = answer
                rows.append([str(len(found)), title, f"{peak:.0f}", f"{now:.0f}"])
                found.append({"peak_mb": peak, "mb": now})
    show("One worker, trial after trial", ["trials", "the last one", "peak, MB", "now, MB"], rows)
    late = [each["mb"] for each in found[len(found) // 2 :]]
    if len(late) > 1:
        slope = float(np.polyfit(np.arange(len(late)), late, 1)[0])
        print(f"growth over the second half, by least squares: {slope:+.1f} MB a trial")
    write_json(given.json, found)


def fit_and_look(task: FitTask | None) -> tuple[float, float]:
    """Fit a trial, if one is given; then this process's peak and present resident memory in MB."""
    import psutil

    if task is not None:
        fit(task)
    return peak_memory(), psutil.Process().memory_info().rss / 1e6


if __name__ == "__main__":
    main()
