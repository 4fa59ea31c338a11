"""The whole platform against bare Keras: a search with everything around it, and the same fits written by hand.

Ours: the stage `train` (study, worker process, run log, checkpoints, figures, selection, the model's file) and
publishing all of it to a new MLflow store. Bare: a script that builds the same networks one after another and calls
`keras.Model.fit` on each with as many steps a call, and after each epoch computes the same metrics of the validation
split; it keeps nothing. Each runs in a process of its own, with one thread, in alternation; CPU time is that of all
processes, with every import.

Example: python bench/platform_overhead.py --rounds 5
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import statistics
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from fit_overhead import STEPS_A_CALL, bare, overhead
from medsweep.artifacts.prepared import PreparedSplit
from medsweep.artifacts.trial import TrialConfig
from medsweep.layout import Layout
from medsweep.params import Params
from medsweep.prepare import stage as prepare
from medsweep.train import stage as train
from medsweep.train.fit import prepare_worker
from medsweep.train.study import ask_generation
from project import ONE_NETWORK, phantoms, quiet, show, spread, temporary_project, write_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000, help="phantoms, 28x28, split 60 / 20 / 20")
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write all measurements here")
    given = parser.parse_args()
    search = {"trials": given.trials, "generation": given.trials, "startup_trials": given.trials, "patience": None}
    search |= {"min_epochs": given.epochs, "max_epochs": given.epochs, "presets": []}
    changes = {
        **phantoms(given.images, 28),
        **ONE_NETWORK,
        **{f"train.search.{key}": value for key, value in search.items()},
        "train.final.kind": "single",
        "runtime.workers": 1,
        **{f"prepare.checks.{name}": "off" for name in ("near_duplicates", "shortcuts", "label_noise", "shift")},
    }
    found: list[dict[str, Any]] = []
    with temporary_project(changes) as (params, layout):
        prepare.run(params, layout, quiet())
        for number in range(given.rounds):
            # Whoever is first meets colder caches.
            for who in ("medsweep", "Keras") if number % 2 else ("Keras", "medsweep"):
                run = {"medsweep": platform, "Keras": by_hand}[who]
                found.append({"round": number, "who": who, "cpu_seconds": alone(run, params, layout)})
                write_json(given.json, found)
    ours, theirs = ([each["cpu_seconds"] for each in found if each["who"] == who] for who in ("medsweep", "Keras"))
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    rows = [
        ["medsweep", spread(ours, 0), overhead(ratios)],
        [f"Keras, {STEPS_A_CALL} steps a call", spread(theirs, 0), ""],
    ]
    title = f"{given.trials} trials of {given.epochs} epochs on {int(0.6 * given.images)} images"
    show(title, ["", "CPU s", "the platform's overhead"], rows)
    print(f"median {100 * (statistics.median(ratios) - 1):+.1f} %")


def alone(run: Callable[[Params, Layout], None], params: Params, layout: Layout) -> float:
    """CPU seconds of a run in a process of its own, imports and children included."""
    before = _children()
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        pool.submit(run, params, layout).result()
    return _children() - before


def _children() -> float:
    """CPU seconds of all processes that this one started and that have ended, with theirs."""
    used = os.times()
    return used.children_user + used.children_system


def platform(params: Params, layout: Layout) -> None:
    """The stage, and what `medsweep publish` does after it, into a new store."""
    from medsweep.tracking.publisher import publish

    os.environ.pop("MLFLOW_TRACKING_URI", None)  # never a store that somebody uses
    train.run(params, layout, quiet())
    publish(layout, params.experiment)
    layout.store.unlink()
    shutil.rmtree(layout.store_artifacts, ignore_errors=True)


def by_hand(params: Params, layout: Layout) -> None:
    """The same trials' networks, fitted one after another."""
    prepare_worker()
    splits = {name: PreparedSplit.load(layout.prepared_split(name)) for name in ("train", "val")}
    configs: list[TrialConfig] = ask_generation(params.train, [], 0, params.train.search.trials)
    for config in configs:
        ends = bare(config, splits["train"], splits["val"], params.train.search.max_epochs, STEPS_A_CALL)
        assert np.isfinite(ends).all()


if __name__ == "__main__":
    main()
