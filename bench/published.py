"""Whole searches with several seeds on real data: what comes out on the test split, and what it costs.

The settings are those of params.yaml but for the number of trials, the same for every data set; each seed is a search
of its own with its own training, selection, calibration and threshold. Evaluate reads the test split, once a search.

Example: python bench/published.py --data medmnist:pneumoniamnist.npz folder:mednist --trials 24 --seeds 1 2 3 4 5
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from medsweep.artifacts.trained import TrainedModel
from medsweep.augment import stage as augment
from medsweep.evaluate import stage as evaluate
from medsweep.layout import Layout
from medsweep.params import Params
from medsweep.prepare import stage as prepare
from medsweep.train import stage as train
from project import cpu_seconds, quiet, show, temporary_project, write_json

METRICS = ("auroc", "accuracy", "accuracy_at_half", "sensitivity", "specificity")
# Known of public sets, and not what is asked here.
WARNED = ("exact_duplicates", "label_conflicts", "patient_overlap")
OFF = ("near_duplicates", "shortcuts", "label_noise", "shift", "burned_in_text", "identifying_tags")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True, metavar="KIND:PATH", help="of prepare.source")
    parser.add_argument("--size", type=int, default=28)
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write all measurements here")
    given = parser.parse_args()
    found: list[dict[str, Any]] = []
    for each in given.data:
        kind, _, path = each.partition(":")
        changes: dict[str, Any] = {
            "prepare.source": {"kind": kind, "path": str(Path(path).resolve())},
            "prepare.image.height": given.size,
            "prepare.image.width": given.size,
            "train.search.trials": given.trials,
            "evaluate.parts": [],
            "runtime.workers": given.workers,
            **{f"prepare.checks.{name}": "warn" for name in WARNED},
            **{f"prepare.checks.{name}": "off" for name in OFF},
        }
        with temporary_project(changes) as (params, layout):
            prepare.run(params, layout, quiet())
            augment.run(params, layout, quiet())
            for seed in given.seeds:
                found.append({"data": Path(path).stem, "seed": seed, **search(params, layout, seed)})
                Console().print({key: value for key, value in found[-1].items() if key != "members"})
                write_json(given.json, found)
    rows = []
    for name in dict.fromkeys(row["data"] for row in found):
        here = [row for row in found if row["data"] == name]
        for row in here:
            rows.append([name, str(row["seed"]), *_figures(row), f"{row['cpu_minutes']:.0f}"])
        if len(here) > 1:
            mean = {key: _mean([row[key] for row in here]) for key in (*METRICS, "validation")}
            rows.append([name, "mean", *_figures(mean), f"{_mean([row['cpu_minutes'] for row in here]):.0f}"])
    columns = ("data", "seed", "validation", *(f"test {name}" for name in METRICS), "CPU minutes")
    show(f"{given.trials} trials at {given.size}x{given.size}", columns, rows)


def search(params: Params, layout: Layout, seed: int) -> dict[str, Any]:
    """One search with its model, and that on the test split."""
    asked = params.model_copy(update={"train": params.train.model_copy(update={"seed": seed})})
    before = cpu_seconds()
    train.run(asked, layout, quiet())
    minutes = (cpu_seconds() - before) / 60
    evaluate.run(asked, layout, quiet())
    made = TrainedModel.load(layout.trained)
    test = json.loads(layout.metrics.read_text(encoding="utf-8"))["test"]
    values = {name: float(test[name]["value"]) if name in test else float("nan") for name in METRICS}
    said = made.final["ensemble"] if made.final["kind"] == "ensemble" else made.selection["corrected"]
    return {**values, "validation": said, "members": made.final["weights"], "cpu_minutes": minutes}


def _figures(row: dict[str, Any]) -> list[str]:
    return [f"{row[key]:.4f}" if row[key] is not None else "–" for key in ("validation", *METRICS)]


def _mean(values: list[Any]) -> float:
    return float(np.mean([np.nan if each is None else each for each in values]))


if __name__ == "__main__":
    main()
