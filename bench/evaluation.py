"""How long evaluate takes on many test images, with all its parts and with each part alone.

The model is the mean of `--networks` networks of six convolutions, the largest of the default space. They are trained
for an epoch: their size matters here, not how good they are.

Example: python bench/evaluation.py --images 10000 --size 64 --networks 1 5
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from medsweep.artifacts.trained import TrainedModel
from medsweep.augment import stage as augment
from medsweep.evaluate import stage as evaluate
from medsweep.evaluate.parts import PARTS
from medsweep.layout import Layout
from medsweep.params import Params
from medsweep.prepare import stage as prepare
from medsweep.train import stage as train
from project import cpu_seconds, peak_memory, phantoms, quiet, show, temporary_project, write_json

SHARES = {"val": 0.04, "test": 0.84}  # as much for test as may be


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000, help="of the test split")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--networks", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--each-part", action="store_true", help="also time every part alone")
    parser.add_argument("--json", type=Path, help="write all measurements here")
    given = parser.parse_args()
    found = []
    for networks in given.networks:
        for row in measured(given, networks):
            found.append(row)
            write_json(given.json, found)
    columns = ("networks", "million multiply-adds", "parts", "seconds", "CPU seconds", "peak MB")
    rows = [
        [
            str(row["networks"]),
            f"{row['multiply_adds'] / 1e6:.0f}",
            row["parts"],
            f"{row['seconds']:.0f}",
            f"{row['cpu']:.0f}",
            f"{row['peak_mb']:.0f}",
        ]
        for row in found
    ]
    show(f"evaluate, {given.images} images of {given.size}x{given.size}", columns, rows)


def measured(given: argparse.Namespace, networks: int) -> list[dict[str, Any]]:
    """All parts at once, then what was asked for besides."""
    changes: dict[str, Any] = phantoms(round(given.images / SHARES["test"]), given.size)
    changes |= {
        "prepare.split": {**SHARES, "seed": 7},
        "train.search.trials": 1,
        "train.search.min_epochs": 1,
        "train.search.max_epochs": 1,
        "train.final.kind": "single",
        "train.final.seeds": networks,
        "train.space.backbone": {"plain": {"depth": 3, "width": 16, "batch_norm": True, "dropout": 0.3}},
        "train.space.pooling": ["average"],
        "runtime.workers": given.workers,
    }
    changes |= {f"prepare.checks.{name}": "off" for name in ("near_duplicates", "shortcuts", "label_noise", "shift")}
    with temporary_project(changes) as (params, layout):
        prepare.run(params, layout, quiet())
        augment.run(params, layout, quiet())
        train.run(params, layout, quiet())
        made = TrainedModel.load(layout.trained, model=layout.model).final
        sets = [list(PARTS), []] + ([[name] for name in PARTS] if given.each_part else [])
        return [{"networks": made["networks"], **one(params, layout, parts)} for parts in sets]


def one(params: Params, layout: Layout, parts: list[str]) -> dict[str, Any]:
    """Evaluate with these parts alone."""
    known = params.evaluate.model_copy(update={"parts": parts})
    manifest = TrainedModel.load(layout.trained, model=layout.model)
    started, cpu = time.perf_counter(), cpu_seconds()
    evaluate.run(params.model_copy(update={"evaluate": known}), layout, quiet())
    return {
        "multiply_adds": manifest.facts["multiply_adds"],
        "parts": "all" if len(parts) == len(PARTS) else ", ".join(parts) or "none",
        "seconds": time.perf_counter() - started,
        "cpu": cpu_seconds() - cpu,
        "peak_mb": peak_memory(),
    }


if __name__ == "__main__":
    main()
