"""How long a trial takes to its first finished step: in a new architecture, and in one whose graph the worker has.

In one process with one TensorFlow thread, as in a worker. A trial is begun (network, initial weights, optimizer) and
takes one step of its batch. A new architecture is built and traced; the trial after it has the same architecture and
another seed, learning rate, weight decay and policy. CPU time, the median over rounds.

Example: python bench/warm_start.py --rounds 7
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

from medsweep.artifacts.trial import Named, TrialConfig
from medsweep.augment import stage as augment
from medsweep.prepare import stage as prepare
from medsweep.train import network as networks
from medsweep.train.examples import HOLDOUT, TrainingData
from medsweep.train.fit import prepare_worker
from medsweep.train.network import forget_networks, open_network
from medsweep.train.study import ask_generation
from project import phantoms, quiet, show, spread, temporary_project, training_data, write_json

BACKBONES = {
    "tutorial": {"dropout": 0.3},
    "plain": {"depth": 3, "width": 16, "batch_norm": True, "dropout": 0.3},
    "residual": {"depth": 3, "width": 16, "dropout": 0.3},
    "separable": {"depth": 3, "width": 16, "dropout": 0.3},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--size", type=int, default=28, help="pixels along each side")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--json", type=Path, help="write all measurements here")
    given = parser.parse_args()
    prepare_worker()
    networks._STEPS_A_CALL = 1  # else the first call takes sixteen steps
    rows, found = [], []
    with temporary_project(phantoms(200, given.size)) as (params, layout):
        prepare.run(params, layout, quiet())
        augment.run(params, layout, quiet())
        data = training_data(layout)
        first = ask_generation(params.train, [], 0, 1)[0]
        for name, settings in BACKBONES.items():
            config = replace(
                first,
                backbone=Named(name, settings),
                optimizer=Named("adamw", {"learning_rate": 0.002}),
                weight_decay=0.01,
                batch_size=given.batch_size,
                policy="geometric",
                views=4,
            )
            new, seen, step = [], [], []
            for number in range(given.rounds + 1):
                forget_networks()
                times = [first_step(trial(config, 2 * number + each), data) for each in range(2)]
                if number:  # the first one imports
                    new.append(times[0][0])
                    seen.append(times[1][0])
                    step.append(times[1][1])
            found.append({"backbone": name, "new": new, "seen": seen, "step": step})
            rows.append([name, spread(new), spread([1000 * each for each in seen], 0), f"{1000 * median(step):.0f}"])
    show(
        f"to the first finished step, {given.size}x{given.size}, batches of {given.batch_size}",
        ["backbone", "new architecture, s", "seen, ms", "of that the step, ms"],
        rows,
    )
    write_json(given.json, found)


def trial(config: TrialConfig, number: int) -> TrialConfig:
    """Another trial of the same architecture."""
    return replace(
        config,
        number=number,
        seed=number,
        optimizer=Named("adamw", {"learning_rate": 0.001 * (1 + number)}),
        weight_decay=0.01 / (1 + number),
    )


def first_step(config: TrialConfig, data: TrainingData) -> tuple[float, float]:
    """CPU seconds to the end of the first step, and of the step alone."""
    began = time.process_time()
    network = open_network(config, data, HOLDOUT, 12)
    network.begin(None)
    before = time.process_time()
    images, rows, _ = next(network._batches(1))
    network._steps(images, network._targets[rows], network._weights[rows], [config.optimizer.settings["learning_rate"]])
    return time.process_time() - began, time.process_time() - before


if __name__ == "__main__":
    main()
