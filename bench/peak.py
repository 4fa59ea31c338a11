"""Training's multiply-adds a second against the most that one core of this machine does.

The most is that of a product of two large float32 matrices in one thread, by TensorFlow itself. A training step takes
three times the multiply-adds of a forward pass: the pass, the gradients of the weights and those of the inputs
(Goodfellow et al., Deep Learning, 2016, 6.5); what else is done (normalization, activations, pooling, the optimizer,
images and validation) counts for nothing. So the share is what convolutions would take if all else were free.

Example: python bench/peak.py --rounds 5
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from medsweep.artifacts.trial import Named
from medsweep.prepare import stage as prepare
from medsweep.train.examples import HOLDOUT
from medsweep.train.fit import prepare_worker
from medsweep.train.network import forget_networks, open_network
from medsweep.train.study import ask_generation
from project import ONE_NETWORK, phantoms, quiet, show, spread, temporary_project, training_data, write_json
from warm_start import BACKBONES

_MATRIX = 1500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[28, 64], help="pixels along each side")
    parser.add_argument("--images", type=int, default=2000, help="phantoms, three fifths of them to train on")
    parser.add_argument("--rounds", type=int, default=5, help="epochs, after one that warms up")
    parser.add_argument("--json", type=Path, help="write all measurements here")
    given = parser.parse_args()
    prepare_worker()
    found: list[dict[str, Any]] = []
    for size in given.sizes:
        with temporary_project({**phantoms(given.images, size), **ONE_NETWORK}) as (params, layout):
            prepare.run(params, layout, quiet())
            data = training_data(layout)
            first = ask_generation(params.train, [], 0, 1)[0]
            for name, settings in BACKBONES.items():
                forget_networks()
                network = open_network(replace(first, backbone=Named(name, settings)), data, HOLDOUT, given.rounds + 1)
                network.begin(None)
                cost = network.measure(layout.root)["multiply_adds"]
                rates, shares = [], []
                for number in range(1, given.rounds + 2):
                    most = matrix_product()
                    began = time.process_time()
                    network.train_epoch(number)
                    rate = len(network.arrays.train) / (time.process_time() - began)
                    if number > 1:
                        rates.append(rate)
                        shares.append(3 * cost * rate / most)
                row = {"size": size, "backbone": name, "multiply_adds": cost, "rates": rates, "shares": shares}
                found.append({**row, "most": most})
                write_json(given.json, found)
    rows = [
        [
            f"{each['size']}x{each['size']}",
            each["backbone"],
            f"{each['multiply_adds'] / 1e6:.2f}",
            spread(each["rates"], 0),
            spread([100 * share for share in each["shares"]], 0),
        ]
        for each in found
    ]
    most = statistics.median(each["most"] for each in found) / 1e9
    columns = ["images", "backbone", "million multiply-adds", "images a CPU second", "% of the most"]
    show(f"training; a matrix product does {most:.0f} thousand million multiply-adds a second", columns, rows)


def matrix_product() -> float:
    """Multiply-adds a CPU second of the best of five products."""
    import tensorflow as tf

    matrix = tf.random.stateless_normal((_MATRIX, _MATRIX), seed=(1, 2))
    best = 0.0
    for _ in range(5):
        began = time.process_time()
        tf.linalg.matmul(matrix, matrix).numpy()
        best = max(best, _MATRIX**3 / (time.process_time() - began))
    return best


if __name__ == "__main__":
    main()
