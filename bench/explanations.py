"""Explanations on phantoms, whose lesions are known: do methods point at them, and do they depend on the weights?

Each row is one network: prepared, augmented, trained and evaluated by the stages themselves. A second network of the
same kind with another seed is trained for comparison: maps of two trained networks should be more alike than maps of a
trained and a random one. With `--cascade` the weights are drawn anew from the output downwards, layer by layer.

Example: python bench/explanations.py --backbones plain residual --pooling average
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from medsweep.artifacts.prepared import PreparedSplit
from medsweep.augment import stage as augment
from medsweep.evaluate import stage as evaluate
from medsweep.evaluate.explained import sample
from medsweep.evaluate.explanation_checks import Means
from medsweep.evaluate.explanations import settings_of
from medsweep.explain.methods import METHODS, explain
from medsweep.explain.network import Network
from medsweep.explain.pointing import hits
from medsweep.explain.randomisation import randomised, rank_correlation
from medsweep.layout import Layout
from medsweep.params import Params
from medsweep.prepare import stage as prepare
from medsweep.train import stage as train
from project import phantoms, quiet, show, temporary_project, write_json

SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "tutorial": {"dropout": 0.3},
    "plain": {"depth": 3, "width": 16, "batch_norm": True, "dropout": 0.3},
    "residual": {"depth": 3, "width": 16, "dropout": 0.3},
    "separable": {"depth": 3, "width": 16, "dropout": 0.3},
}


def network(backbone: str, pooling: str, seed: int, epochs: int) -> dict[str, Any]:
    """Changes of params.yaml for a search of one trial."""
    return {
        "train.seed": seed,
        "train.search.trials": 1,
        "train.search.generation": 1,
        "train.search.min_epochs": epochs,
        "train.search.max_epochs": epochs,
        "train.space.optimizer": {"adamw": {"learning_rate": 0.002}},
        "train.space.loss": {"categorical_crossentropy": {"label_smoothing": 0.05}},
        "train.space.backbone": {backbone: dict(SETTINGS[backbone])},
        "train.space.schedule": {"cosine": {"floor": 0.02}},
        "train.space.activation": ["relu"],
        "train.space.pooling": [pooling],
        "train.space.batch_size": 32,
        "train.space.weight_decay": 0.01,
        "train.space.class_weights": ["none"],
        "train.space.standardize": ["image"],
        "train.space.policy": ["geometric"],
        "train.space.views": 4,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", nargs="+", choices=list(SETTINGS), default=["plain"])
    parser.add_argument("--pooling", nargs="+", choices=["average", "max"], default=["average"])
    parser.add_argument("--patients", type=int, default=800, help="two images each, split 60 / 20 / 20 (default: 800)")
    parser.add_argument("--size", type=int, default=64, help="pixels along each side (default: 64)")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--images", type=int, default=120, help="test images that are explained (default: 120)")
    parser.add_argument("--seed", type=int, default=23, help="of phantoms and networks (default: 23)")
    parser.add_argument("--cascade", action="store_true", help="randomise from the output downwards, too (slow)")
    parser.add_argument("--keep", type=Path, help="copy each network's reports into this folder")
    parser.add_argument("--json", type=Path, help="write all figures here")
    given = parser.parse_args()
    found: dict[str, Any] = {}
    for backbone in given.backbones:
        for pooling in given.pooling:
            found[f"{backbone}, {pooling} pooling"] = one(given, backbone, pooling)
            report(found)
            write_json(given.json, found)


def one(given: argparse.Namespace, backbone: str, pooling: str) -> dict[str, Any]:
    """Train two networks of a kind, evaluate the first, and compare the methods' maps of both."""
    changes = phantoms(2 * given.patients, given.size) | network(backbone, pooling, given.seed, given.epochs)
    changes["prepare.source"] |= {"seed": given.seed}
    changes |= {"runtime.workers": 1, "evaluate.parts": ["explanations"], "evaluate.explanations.images": given.images}
    with temporary_project(changes) as (params, layout):
        prepare.run(params, layout, quiet())
        augment.run(params, layout, quiet())
        other = params.model_copy(update={"train": params.train.model_copy(update={"seed": given.seed + 1})})
        train.run(other, layout, quiet())
        second = layout.root / "second.keras"
        shutil.copyfile(layout.model, second)
        train.run(params, layout, quiet())
        summary = evaluate.run(params, layout, quiet())
        if given.keep is not None:
            shutil.copytree(layout.reports, given.keep / f"{backbone}_{pooling}", dirs_exist_ok=True)
        (section,) = [each for each in summary.report.sections if each.name == "explanations"]
        auroc, oracle = summary.report.metrics["auroc"].value, summary.report.oracle_auroc
        assert auroc is not None and oracle is not None
        return {
            "auroc": auroc,
            "oracle": oracle,
            "methods": dict(section.values["methods"]),
            "finding": finding(params, layout),
            "compared": compared(given, params, layout, second),
            "tables": [{"columns": each.columns, "rows": each.rows} for each in section.tables],
        }


def finding(params: Params, layout: Layout) -> dict[str, Any]:
    """The pointing game as it was published: images that have the finding (the positive class), by that class's maps.

    All of them in the test split; with intervals over patients.
    """
    split = PreparedSplit.load(layout.prepared_split("test"), verify=False)
    assert split.masks is not None
    rows = np.flatnonzero(split.labels == 1)
    images, masks = np.asarray(split.images[rows]), np.asarray(split.masks[rows])
    means = Means(split.groups[rows], params.evaluate.bootstrap)
    network, settings = Network.load(layout.model), settings_of(params.evaluate.explanations)
    found: dict[str, Any] = {}
    for method in METHODS:
        maps = explain(network, method, images, np.ones(len(rows), dtype=np.int64), settings)
        share = means.of(hits(maps, masks))
        found[method] = {"images": len(rows), "value": share.value, "low": share.low, "high": share.high}
    return found


def compared(given: argparse.Namespace, params: Params, layout: Layout, second: Path) -> dict[str, Any]:
    """For each method: how alike maps are with another trained network's and with a random one's, image by image."""
    split = PreparedSplit.load(layout.prepared_split("test"), verify=False)
    rows = sample(split, min(48, given.images), given.seed)
    images, classes = np.stack([np.asarray(split.images[row]) for row in rows]), split.labels[rows]
    first, other = Network.load(layout.model), Network.load(second)
    settings = settings_of(params.evaluate.explanations)
    found = {}
    for method in METHODS:
        own = explain(first, method, images, classes, settings)
        trained = np.abs(rank_correlation(own, explain(other, method, images, classes, settings)))
        random = randomised(first, method, images, classes, own, settings, seeds=range(3)).similarity
        difference = trained - random
        half = 1.96 * difference.std(ddof=1) / np.sqrt(len(difference))
        found[method] = {
            "trained": float(trained.mean()),
            "random": float(random.mean()),
            "difference": [float(difference.mean() + side * half) for side in (-1, 0, 1)],
        }
        if given.cascade:
            layers = range(1, len(first.learned_layers()) + 1)
            found[method]["cascade"] = [
                float(randomised(first, method, images, classes, own, settings, seeds=[0], top=top).similarity.mean())
                for top in layers
            ]
    return found


def percent(share: Mapping[str, float]) -> str:
    """'83 % (76–89)'."""
    return f"{100 * share['value']:.0f} % ({100 * share['low']:.0f}–{100 * share['high']:.0f})"


def report(found: Mapping[str, Any]) -> None:
    """Print what is known so far."""
    pointing, alike = [], []
    for name, each in found.items():
        share = f"{each['auroc']:.3f} of {each['oracle']:.3f} ({100 * each['auroc'] / each['oracle']:.0f} %)"
        for method, own in each["methods"].items():
            game, other, of_finding = own["pointing_game"], each["compared"][method], each["finding"][method]
            pointing.append(
                [
                    name,
                    share,
                    METHODS[method].title,
                    percent(of_finding),
                    percent(game),
                    f"{100 * game['random_weights']:.0f} %",
                    f"{own['energy']['value']:.2f} / {own['energy']['random_weights']:.2f}",
                    f"{own['iou']['value']:.2f} / {own['iou']['random_weights']:.2f}",
                    "passes" if own["passed"] else "fails",
                ]
            )
            low, middle, high = other["difference"]
            alike.append(
                [
                    name,
                    METHODS[method].title,
                    f"{other['trained']:.2f}",
                    f"{other['random']:.2f}",
                    f"{middle:.2f} ({low:.2f}–{high:.2f})",
                    " ".join(f"{value:.2f}" for value in other.get("cascade", [])),
                ]
            )
    show(
        "Pointing at known lesions: malignant images by the map of malignant, all by the class decided for; energy and "
        "IoU are trained / random weights",
        ["network", "AUROC of the oracle's", "method", "finding", "as decided", "random", "energy", "IoU", "checks"],
        pointing,
    )
    show(
        "How alike maps are: with another trained network, with a random one",
        ["network", "method", "trained", "random", "difference", "cascade from the output"],
        alike,
    )


if __name__ == "__main__":
    main()
