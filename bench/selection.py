"""How honest is what a search says of its winner, and is the mean of the best trials better than the best one?

Small searches, each on phantoms of its own, with what they found scored on many fresh phantoms that none of them saw.
For each: the winner's value on validation (plain best of many), the bias-corrected value that is reported of it, and
its AUROC on the fresh phantoms; the same for the model of `train.final.kind: ensemble`. A bias is the mean over the
searches of what was said minus what came true; its interval is ± 1.96 standard errors of that mean.

With `--shifted` some of the fresh phantoms are also shown as another site would take them (five corruptions, moderate),
since a test split often comes from elsewhere.

Example: python bench/selection.py --searches 50
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import track
from sklearn.metrics import roc_auc_score

from medsweep.artifacts.prepared import PreparedSplit
from medsweep.augment import stage as augment
from medsweep.backend.start import start_tensorflow
from medsweep.imaging.corruptions import corrupted
from medsweep.layout import SPLITS
from medsweep.prepare import stage as prepare
from medsweep.train import stage as train
from project import phantoms, quiet, show, temporary_project, write_json

# Moderate: what a second hospital with another machine may look like.
SHIFTS = (("noise", 2), ("blur", 2), ("contrast", 3), ("gain", 3), ("speckle", 2))
SIZE = 28
Predict = Callable[[NDArray[Any]], NDArray[np.float64]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--searches", type=int, default=50)
    parser.add_argument("--fresh", type=int, default=10_000, help="fresh phantoms that everything is scored on")
    parser.add_argument("--images", type=int, default=400, help="phantoms of each search, in its three splits together")
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--max-epochs", type=int, default=6)
    parser.add_argument("--shifted", type=int, default=0, help="fresh phantoms that are shown corrupted, too")
    parser.add_argument("--workers", type=int, default=2, help="searches at once, of one worker each")
    parser.add_argument("--json", type=Path, help="write all measurements here")
    given = parser.parse_args()
    fresh = FreshPhantoms(given.fresh, given.shifted)
    rows: list[dict[str, float]] = []
    with ProcessPoolExecutor(given.workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        waiting = [pool.submit(search, number, given, fresh) for number in range(given.searches)]
        for done in track(as_completed(waiting), total=given.searches, description="searches"):
            rows.append(done.result())
            write_json(given.json, rows)
    report(rows)


class FreshPhantoms:
    """Phantoms of the population that the searches draw theirs from, and the same as another site would take them."""

    def __init__(self, count: int, shifted: int) -> None:
        changes = phantoms(count, SIZE)
        changes["prepare.source"]["seed"] = 1_000_003
        with temporary_project({**changes, **_checks_off()}) as (params, layout):
            prepare.run(params, layout, quiet())
            splits = [PreparedSplit.load(layout.prepared_split(name)) for name in SPLITS]
            self.images = np.concatenate([np.asarray(each.images) for each in splits])
            self.labels = np.concatenate([each.labels for each in splits])
            records = np.concatenate([each.record_ids for each in splits])
            self._shifted = [
                corrupted(
                    self.images[:shifted], records[:shifted], name, severity, value_range=splits[0].value_range, seed=1
                )
                for name, severity in SHIFTS
                if shifted
            ]

    def auroc(self, predict: Predict) -> float:
        return float(roc_auc_score(self.labels, predict(self.images)[:, 1]))

    def shifted(self, predict: Predict) -> float:
        """The mean over the corruptions; NaN where none is shown."""
        found = [roc_auc_score(self.labels[: len(each)], predict(each)[:, 1]) for each in self._shifted]
        return float(np.mean(found)) if found else float("nan")


def search(number: int, given: argparse.Namespace, fresh: FreshPhantoms) -> dict[str, float]:
    """One search, first with a single network as its model, then with an ensemble of the same trials."""
    start_tensorflow()
    import keras

    changes = phantoms(given.images, SIZE)
    changes["prepare.source"]["seed"] = number
    changes |= {
        "train.seed": number,
        "train.search.trials": given.trials,
        "train.search.max_epochs": given.max_epochs,
        "runtime.workers": 1,
        **_checks_off(),
    }
    found: dict[str, float] = {"search": number}
    with temporary_project(changes) as (params, layout):
        prepare.run(params, layout, quiet())
        augment.run(params, layout, quiet())
        for kind in ("single", "ensemble"):
            final = params.train.final.model_copy(update={"kind": kind})
            asked = params.model_copy(update={"train": params.train.model_copy(update={"final": final})})
            # The second time nothing is trained: the trials are taken over.
            manifest = train.run(asked, layout, quiet()).manifest
            model = keras.models.load_model(layout.model)

            def predict(images: NDArray[Any], model: Any = model) -> NDArray[np.float64]:
                return np.asarray(model.predict(images, batch_size=500, verbose=0), np.float64)

            chosen, made = manifest.selection, manifest.final
            several = made["kind"] == "ensemble"
            found |= {
                f"{kind}_said": made["value"] if several else chosen["value"],
                f"{kind}_corrected": made["ensemble"] if several else chosen["corrected"],
                f"{kind}_fresh": fresh.auroc(predict),
                f"{kind}_shifted": fresh.shifted(predict),
                f"{kind}_networks": made["networks"],
            }
    return found


def report(rows: list[dict[str, float]]) -> None:
    """Biases, and what the two kinds of model are worth."""

    def of(name: str) -> NDArray[np.float64]:
        return np.array([row[name] for row in rows], np.float64)

    shown = []
    for kind in ("single", "ensemble"):
        for what in ("said", "corrected"):
            bias = of(f"{kind}_{what}") - of(f"{kind}_fresh")
            shown.append([kind, {"said": "validation", "corrected": "corrected"}[what], _mean(bias)])
    show(f"AUROC said minus AUROC on fresh phantoms, {len(rows)} searches", ("model", "what was said", "bias"), shown)
    shown = []
    for where in ("fresh", "shifted") if np.isfinite(of("single_shifted")).all() else ("fresh",):
        gain = of(f"ensemble_{where}") - of(f"single_{where}")
        single, ensemble = (_mean(of(f"{kind}_{where}")) for kind in ("single", "ensemble"))
        shown.append([where, single, ensemble, _mean(gain), f"{np.mean(gain > 0):.0%}"])
    show("AUROC of the model", ("phantoms", "single", "ensemble", "gain", "ensemble better"), shown)


def _mean(values: NDArray[np.float64]) -> str:
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return f"{values.mean():.4f} ± {1.96 * error:.4f}"


def _checks_off() -> dict[str, Any]:
    """Phantoms are known to be in order, and some checks train models of their own."""
    names = ("near_duplicates", "shortcuts", "label_noise", "shift", "burned_in_text", "identifying_tags")
    return {f"prepare.checks.{name}": "off" for name in names}


if __name__ == "__main__":
    main()
