"""medsweep's search against its peers: CPU time to the quality that a peer reaches at its end.

The same prepared training and validation images, the same space (peers/space.json; AutoKeras has its own), the same
cores. A peer's quality is its best validation AUROC at its end, and its time all CPU seconds of its process until then.
Ours is the CPU time of the generations until one holds a trial at least as good, with everything that is not a trial
(imports, workers' starts, the study, checkpoints) of the whole search added. Each peer has an environment of its own,
which this script makes below --environments.

Example: python bench/against.py --peer keras_tuner_hyperband --seeds 1 2 3 4 5 --medmnist data/raw/pneumoniamnist.npz
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import venv
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from medsweep.artifacts.prepared import PreparedSplit
from medsweep.artifacts.run_log import RunLog
from medsweep.prepare import stage as prepare
from medsweep.train.executor import local_workers
from medsweep.train.fit import prepare_worker
from medsweep.train.search import Search
from project import (
    REPOSITORY,
    Nobody,
    cpu_seconds,
    phantoms,
    quiet,
    show,
    spread,
    temporary_project,
    training_data,
    write_json,
)

HERE = Path(__file__).resolve().parent / "peers"
SPACE: dict[str, Any] = json.loads((HERE / "space.json").read_text())
# What each needs; versions that medsweep has too are those of constraints.txt.
PEERS = {
    "keras_tuner_hyperband": ["tensorflow", "scikit-learn", "keras-tuner==1.4.8", "tensorboard"],
    "plain_optuna": ["tensorflow", "scikit-learn", "optuna"],
    "autokeras_recipe": ["tensorflow", "scikit-learn", "autokeras==3.0.0", "tensorboard"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", choices=list(PEERS), nargs="+", default=["keras_tuner_hyperband", "plain_optuna"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    data = parser.add_mutually_exclusive_group()
    data.add_argument("--medmnist", type=Path, help="a MedMNIST file of two classes")
    data.add_argument("--folder", type=Path, help="a folder a class, two classes")
    parser.add_argument("--images", type=int, default=2000, help="phantoms, where no data are given")
    parser.add_argument("--size", type=int, default=28)
    parser.add_argument("--max-epochs", type=int, default=12)
    parser.add_argument("--trials", type=int, default=24, help="of our search, at most")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--environments", type=Path, default=REPOSITORY / ".medsweep" / "peers")
    parser.add_argument("--json", type=Path, help="write all measurements here")
    given = parser.parse_args()
    pythons = {peer: environment(given.environments / peer, PEERS[peer]) for peer in given.peer}
    found: list[dict[str, Any]] = []
    for seed in given.seeds:
        changes = settings(given, seed)
        with temporary_project(changes) as (params, layout):
            prepare.run(params, layout, quiet())
            shared = layout.state / "shared.npz"
            splits = {name: PreparedSplit.load(layout.prepared_split(name)) for name in ("train", "val")}
            np.savez(
                shared,
                **{f"{name}_images": np.asarray(each.images) for name, each in splits.items()},
                **{f"{name}_labels": each.labels for name, each in splits.items()},
            )
            for peer in given.peer:
                target = layout.state / "answer.json"
                command = [pythons[peer], HERE / f"{peer}.py", shared, target, str(seed), str(given.max_epochs)]
                run = subprocess.run(command, cwd=layout.state, capture_output=True, text=True, check=False)
                if run.returncode:
                    raise SystemExit(f"{peer} failed:\n{run.stderr[-2000:]}")
                found.append({"who": peer, "seed": seed, **json.loads(target.read_text())})
                write_json(given.json, found)
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            found.append({"who": "medsweep", "seed": seed, **pool.submit(ours, changes, given.workers).result()})
        write_json(given.json, found)
        print(json.dumps(found[-1 - len(given.peer) :]), file=sys.stderr)
    report(found, given)


def environment(folder: Path, packages: list[str]) -> Path:
    """The Python of an environment with these packages, made where it is not there."""
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    ready = folder / "ready"
    if not ready.exists():
        venv.create(folder, with_pip=True, clear=True)
        pip = [python, "-m", "pip", "install", "--quiet", "-c", REPOSITORY / "constraints.txt", *packages]
        subprocess.run(pip, check=True)
        ready.touch()
    return python


def settings(given: argparse.Namespace, seed: int) -> dict[str, Any]:
    """The data and the common space as changes of params.yaml; nothing that the peers do not search."""
    changes: dict[str, Any] = phantoms(given.images, given.size)
    if given.medmnist or given.folder:
        kind = "medmnist" if given.medmnist else "folder"
        path = (given.medmnist or given.folder).resolve()
        changes["prepare.source"] = {"kind": kind, "path": str(path)}
    checks = ("near_duplicates", "shortcuts", "label_noise", "shift")
    changes |= {f"prepare.checks.{name}": "off" for name in checks}
    # The folder of X-rays has identical files; that is no matter here.
    changes |= {f"prepare.checks.{name}": "warn" for name in ("exact_duplicates", "label_conflicts")}
    rates = SPACE["optimizer"]
    plain = {name: SPACE[name] for name in ("depth", "width", "batch_norm", "dropout")}
    return changes | {
        "train.seed": seed,
        "train.search.trials": given.trials,
        "train.search.max_epochs": given.max_epochs,
        "train.space.optimizer": {
            name: {"learning_rate": {"low": low, "high": high, "log": True}}
            | ({"momentum": 0.9} if name == "nesterov" else {})
            for name, (low, high) in rates.items()
        },
        "train.space.loss": {"categorical_crossentropy": {"label_smoothing": 0.0}},
        "train.space.backbone": {"plain": plain},
        "train.space.schedule": {"constant": {}},
        "train.space.activation": SPACE["activation"],
        "train.space.pooling": SPACE["pooling"],
        "train.space.batch_size": SPACE["batch_size"],
        "train.space.weight_decay": 0.0,
        "train.space.class_weights": ["none"],
        "train.space.standardize": ["dataset"],
        "train.space.policy": ["none"],
        "train.space.views": 1,
    }


def ours(changes: dict[str, Any], workers: int) -> dict[str, Any]:
    """The search alone: the CPU time and the best value after each generation."""
    with temporary_project(changes) as (params, layout):
        prepare.run(params, layout, quiet())
        before, work = cpu_seconds(), layout.state / "bench"
        with local_workers(workers, prepare_worker) as crew, RunLog(work / "run_log.jsonl") as log:
            search = Search(params.train, training_data(layout), log, (), work / "checkpoints", crew, Nobody())
            outcomes = search.run()
        total = cpu_seconds() - before
    step = params.train.search.generation
    besides = total - sum(each.seconds for each in outcomes)
    ends = []
    for end in range(step, len(outcomes) + step, step):
        done = outcomes[:end]
        best = max(each.objective for each in done if each.status == "complete" and each.objective is not None)
        ends.append({"cpu_seconds": besides + sum(each.seconds for each in done), "quality": best})
    return {"quality": ends[-1]["quality"], "cpu_seconds": total, "trials": len(outcomes), "ends": ends}


def report(found: list[dict[str, Any]], given: argparse.Namespace) -> None:
    rows = []
    own = {each["seed"]: each for each in found if each["who"] == "medsweep"}
    for peer in given.peer:
        runs = [each for each in found if each["who"] == peer]
        ratios, reached = [], []
        for run in runs:
            ends = own[run["seed"]]["ends"]
            there = next((end["cpu_seconds"] for end in ends if end["quality"] >= run["quality"]), None)
            reached.append(there is not None)
            ratios.append(run["cpu_seconds"] / there if there is not None else 0.0)
        rows.append(
            [
                peer,
                spread([each["quality"] for each in runs], 4),
                spread([each["cpu_seconds"] for each in runs], 0),
                f"{sum(reached)} of {len(reached)}",
                spread(ratios, 1),
            ]
        )
    rows.append(
        [
            "medsweep",
            spread([each["quality"] for each in own.values()], 4),
            spread([each["cpu_seconds"] for each in own.values()], 0),
            "",
            "",
        ]
    )
    columns = [
        "",
        "validation AUROC at the end",
        "CPU s",
        "reached by us",
        "its CPU time / ours to that (0: not reached)",
    ]
    show(f"{len(given.seeds)} seeds, median (range)", columns, rows)


if __name__ == "__main__":
    main()
