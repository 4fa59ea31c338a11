"""One of our trials against a bare Keras `fit` of the same network, in alternation in one process.

The same for both: the network and its initial weights, optimizer, loss, batch size and number of batches (Keras draws
its own order), TensorFlow's settings, and after each epoch the validation split's probabilities and the same metrics
of them. Ours also writes its checkpoint. Keras takes one step a call, as it does unless told otherwise, and in a second
form as many as ours (`steps_per_execution`).

The fourth contestant is Keras as it is when nobody sets anything: in a process of its own, with TensorFlow's threads,
rewriting of graphs and kernels as they come, and XLA where Keras chooses it (`jit_compile="auto"`). Its clock starts
when it has imported and has fitted one small network, so that neither imports nor the first use of XLA count.

The whole trial includes building and tracing the network; `later epochs` leave the first one out, which traces.

Example: python bench/fit_overhead.py --sizes 28 64 --rounds 9
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from medsweep.artifacts.prepared import PreparedSplit
from medsweep.artifacts.trial import TrialConfig
from medsweep.layout import Layout
from medsweep.params import Params
from medsweep.prepare import stage as prepare
from medsweep.statistics.metrics import evaluate_all
from medsweep.train import network as networks
from medsweep.train.backbones import logits_model
from medsweep.train.examples import TrainingData
from medsweep.train.fit import FitTask, fit, prepare_worker
from medsweep.train.losses import target_matrix
from medsweep.train.network import build_trial_network, plain_decisions
from medsweep.train.optimizers import build_optimizer
from medsweep.train.study import ask_generation
from project import ONE_NETWORK, phantoms, quiet, show, spread, temporary_project, training_data, write_json

STEPS_A_CALL = 16
CONTESTANTS = ("medsweep", "Keras", f"Keras, {STEPS_A_CALL} steps a call", "Keras, nothing set")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[28, 64], help="pixels along each side")
    parser.add_argument("--images", type=int, nargs="+", default=[4000, 1000], help="phantoms of each size")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path, help="write all measurements here")
    given = parser.parse_args()
    prepare_worker()
    found = {}
    for size, images in zip(given.sizes, given.images, strict=True):
        with temporary_project({**phantoms(images, size), **ONE_NETWORK}) as (params, layout):
            prepare.run(params, layout, quiet())
            found[size] = measure(params, layout, given.epochs, given.rounds)
        n_train = found[size][0]["n_train"]
        report(f"{size}x{size}, {n_train} training images, {given.epochs} epochs", found[size])
    write_json(given.json, found)


def measure(params: Params, layout: Layout, epochs: int, rounds: int) -> list[dict[str, Any]]:
    """Every contestant once a round, each round beginning with another one; the round before the first warms up."""
    config = ask_generation(params.train, [], 0, 1)[0]
    data = training_data(layout)
    train, val = (PreparedSplit.load(layout.prepared_split(name)) for name in ("train", "val"))
    runs: dict[str, Callable[[], list[float]]] = {
        CONTESTANTS[0]: lambda: ours(config, data, layout.state / "end.npz", epochs),
        CONTESTANTS[1]: lambda: bare(config, train, val, epochs, 1),
        CONTESTANTS[2]: lambda: bare(config, train, val, epochs, STEPS_A_CALL),
    }

    def timed(who: str) -> tuple[float, float, list[float]]:
        if who == CONTESTANTS[3]:
            return by_default(config, layout, epochs)
        wall, cpu = time.perf_counter(), time.process_time()
        ends = runs[who]()
        return time.perf_counter() - wall, time.process_time() - cpu, ends

    found = []
    for number in range(-1, rounds):
        for each in np.roll(CONTESTANTS, number):
            wall, cpu, ends = timed(str(each))
            row = {
                "round": number,
                "who": str(each),
                "n_train": len(train),
                "wall_seconds": wall,
                "cpu_seconds": cpu,
                "later_epochs": [later - earlier for earlier, later in pairwise(ends)],
            }
            print(f"{each}: {row['cpu_seconds']:.2f} CPU s, {row['wall_seconds']:.2f} s", file=sys.stderr)
            if number >= 0:
                found.append(row)
    return found


def ours(config: TrialConfig, data: TrainingData, checkpoint: Path, epochs: int) -> list[float]:
    """A trial as a worker fits it; the CPU time at the end of each epoch."""
    networks.forget_networks()  # else the traced network of the round before would be taken
    ends: list[float] = []
    answer = fit(
        FitTask(config, data, epochs, epochs, None, checkpoint, measure=False),
        lambda _: ends.append(time.process_time()),
    )
    if answer.error is not None:
        raise SystemExit(answer.error)
    return ends


def by_default(config: TrialConfig, layout: Layout, epochs: int) -> tuple[float, float, list[float]]:
    """Wall and CPU seconds, and the CPU time at the end of each epoch, of Keras in a process where nothing was set."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"), initializer=_nothing_set) as pool:
        return pool.submit(_by_default, config, layout, epochs).result()


def _nothing_set() -> None:
    for name in [name for name in os.environ if name.startswith("TF_")]:
        del os.environ[name]


def _by_default(config: TrialConfig, layout: Layout, epochs: int) -> tuple[float, float, list[float]]:
    import keras

    train, val = (PreparedSplit.load(layout.prepared_split(name)) for name in ("train", "val"))
    first = keras.Sequential([keras.layers.Dense(1)])
    first.compile(loss="mse")
    first.fit(np.zeros((64, 4)), np.zeros((64, 1)), verbose=0)
    wall, cpu = time.perf_counter(), time.process_time()
    ends = bare(config, train, val, epochs, 1)
    return time.perf_counter() - wall, time.process_time() - cpu, ends


def bare(config: TrialConfig, train: PreparedSplit, val: PreparedSplit, epochs: int, steps: int) -> list[float]:
    """The same by `keras.Model.fit`; the CPU time at the end of each epoch."""
    import keras

    keras.backend.clear_session()
    keras.utils.set_random_seed(config.seed)  # for Keras's own order of the images
    model = build_trial_network(config, train)
    logits = logits_model(model)
    logits.compile(
        optimizer=build_optimizer(config.optimizer.name, config.optimizer.settings, weight_decay=config.weight_decay),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=steps,
    )
    ends: list[float] = []

    def validate(epoch: int, logs: object) -> None:
        found = np.asarray(model.predict(val.images, batch_size=256, verbose=0), np.float64)
        evaluate_all(val.task, val.labels, found, plain_decisions(val, found))
        ends.append(time.process_time())

    logits.fit(
        np.asarray(train.images),
        target_matrix(train.labels, len(train.class_names), train.task),
        batch_size=config.batch_size,
        epochs=epochs,
        verbose=0,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=validate)],
    )
    return ends


def report(title: str, found: list[dict[str, Any]]) -> None:
    rows = []
    for who in CONTESTANTS:
        runs, mine = ([each for each in found if each["who"] == name] for name in (who, CONTESTANTS[0]))
        epochs = [statistics.median(each["later_epochs"]) for each in runs]
        rates = [runs[0]["n_train"] / each for each in epochs]
        cells = [who, spread([each["cpu_seconds"] for each in runs]), spread(rates, 0)]
        if who != CONTESTANTS[0]:
            cells += [
                overhead([a["cpu_seconds"] / b["cpu_seconds"] for a, b in zip(mine, runs, strict=True)]),
                overhead([a["wall_seconds"] / b["wall_seconds"] for a, b in zip(mine, runs, strict=True)]),
                overhead(
                    [
                        sum(a["later_epochs"]) / sum(b["later_epochs"]) if b["later_epochs"] else 1.0
                        for a, b in zip(mine, runs, strict=True)
                    ]
                ),
            ]
        rows.append(cells)
    columns = ["", "trial, CPU s", "images a CPU s", "our overhead: trial, CPU", "trial, wall", "later epochs, CPU"]
    show(f"{title}; median (range), overhead: median [95 % interval]", columns, rows)


def overhead(ratios: list[float]) -> str:
    """The median of paired ratios less 1 in percent, with its bootstrap interval."""
    values = 100 * (np.asarray(ratios) - 1)
    draws = np.random.default_rng(7).integers(0, len(values), (5000, len(values)))
    low, high = np.percentile(np.median(values[draws], axis=1), [2.5, 97.5])
    return f"{np.median(values):+.1f} % [{low:+.1f}, {high:+.1f}]"


if __name__ == "__main__":
    main()
