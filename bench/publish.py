"""How long MLflow takes to be told: of a search of 24 trials, again when nothing is new, and of a model alone.

Everything is published into a new SQLite store by a process of its own, where importing MLflow, importing TensorFlow
and making the store's tables are measured apart.

Example: python bench/publish.py --rounds 3
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import os
import shutil
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from medsweep.artifacts.trained import TrainedModel
from medsweep.augment import stage as augment
from medsweep.evaluate import stage as evaluate
from medsweep.layout import Layout
from medsweep.prepare import stage as prepare
from medsweep.train import stage as train
from project import phantoms, quiet, show, spread, temporary_project, write_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write all measurements here")
    given = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    changes = {**phantoms(300, 28), "train.search.trials": given.trials}
    with temporary_project(changes) as (params, layout):
        prepare.run(params, layout, quiet())
        augment.run(params, layout, quiet())
        train.run(params, layout, quiet())
        evaluate.run(params, layout, quiet())
        found = []
        for _ in range(given.rounds):
            with ProcessPoolExecutor(1, mp_context=context) as pool:
                found.append(pool.submit(measure, layout, params.experiment).result())
            layout.store.unlink()
            shutil.rmtree(layout.store_artifacts, ignore_errors=True)
    rows = [[what, spread([each[what] for each in found])] for what in found[0]]
    show(f"{given.trials} trials; median (range) of {given.rounds}", ["", "seconds"], rows)
    write_json(given.json, found)


def measure(layout: Layout, experiment: str) -> dict[str, float]:
    """Seconds for each part, in the order in which they happen."""
    os.environ.pop("MLFLOW_TRACKING_URI", None)  # never a store that somebody uses
    found: dict[str, float] = {}
    started = time.perf_counter()

    def lap(what: str) -> None:
        nonlocal started
        found[what] = time.perf_counter() - started
        started = time.perf_counter()

    importlib.import_module("mlflow")
    lap("import MLflow")
    from medsweep.tracking.store import open_store

    open_store(layout)
    lap("make the store")
    importlib.import_module("mlflow.tensorflow")
    lap("import TensorFlow")
    from medsweep.tracking.publisher import publish

    publish(layout, experiment)
    lap("publish: runs, pictures and a version")
    publish(layout, experiment)
    lap("publish again: nothing is new")
    from mlflow.models import Model

    from medsweep.tracking.models import save_mlflow_model

    folder = layout.state / "bench-model"
    save_mlflow_model(layout.model, TrainedModel.load(layout.trained), folder, mlflow_model=Model())
    lap("the model alone, in MLflow's format")
    shutil.rmtree(folder)
    return found


if __name__ == "__main__":
    main()
