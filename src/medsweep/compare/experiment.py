"""All versions of an experiment on the same images: which differences survive that so many are compared."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medsweep.artifacts.predicted import PredictedSplit
from medsweep.compare.address import version_name
from medsweep.compare.pair import caution_of, difference_of, reordered
from medsweep.errors import StoreError
from medsweep.params import Evaluate
from medsweep.statistics.areas import area_interval
from medsweep.statistics.intervals import independent
from medsweep.statistics.metrics import evaluate_all
from medsweep.statistics.multiplicity import holm
from medsweep.statistics.paired import Difference, area_difference, model_areas
from medsweep.tracking.evaluations import EvaluatedVersion, Evaluations

MOST = 50
"""So many of the newest versions are compared."""
_CHOSEN = ("backbone", "optimizer", "loss")


@dataclass(frozen=True)
class Candidate:
    """One version in the comparison.

    Args:
        version: of the registry.
        model: backbone, optimizer and loss, where they are known.
        value, low, high: its AUROC with the interval of its evaluation (of DeLong's variance, where none was kept).
        metrics: further ones, without intervals.
        synthetic: whether its evaluation says that the images are made.
    """

    version: EvaluatedVersion
    model: str
    value: float | None
    low: float | None
    high: float | None
    metrics: Mapping[str, float | None]
    synthetic: bool

    @property
    def name(self) -> str:
        return version_name(self.version.version, self.version.aliases)


@dataclass(frozen=True)
class Pair:
    """Two versions: the first is the older, the difference is second - first; `adjusted` is Holm's p-value."""

    first: int
    second: int
    area: Difference
    adjusted: float


@dataclass(frozen=True)
class ManyCompared:
    """All versions that met the same images.

    Args:
        experiment: the registered model.
        candidates: newest first.
        pairs: every two of them.
        left_out: versions that can't be compared with the newest one, each with the reason.
        n_images, n_groups, unit: the test images; what is counted as independent.
        confidence: of the intervals.
    """

    experiment: str
    candidates: tuple[Candidate, ...]
    pairs: tuple[Pair, ...]
    left_out: tuple[tuple[str, str], ...]
    n_images: int
    n_groups: int
    unit: str
    confidence: float

    @property
    def synthetic(self) -> bool:
        return any(each.synthetic for each in self.candidates)

    @property
    def survivors(self) -> list[Pair]:
        """The pairs whose difference survives, the largest first."""
        found = [each for each in self.pairs if each.adjusted < 1.0 - self.confidence]
        return sorted(found, key=lambda each: -abs(each.area.difference.value))

    @property
    def size(self) -> str:
        if self.unit == "images":
            return f"{self.n_images} test images (the source names no patients)"
        return f"{self.n_images} test images of {self.n_groups} patients"

    @property
    def sentences(self) -> list[str]:
        """What came out, in plain words."""
        n = len(self.candidates)
        if n == 1:
            return [f"{self.candidates[0].name} is the only version on these {self.size}: there is nothing to compare."]
        survivors = self.survivors
        caution = caution_of(self.n_groups, self.unit)
        head = f"{n} versions on the same {self.size}: {len(self.pairs)} pairs, p-values adjusted together (Holm)."
        head += f" {caution}" if caution else ""
        if not survivors:
            return [head, "No difference in AUROC survives: chance alone explains which of them comes first."]
        if len(survivors) == 1:
            return [head, f"One difference in AUROC survives: {self.describe(survivors[0])}."]
        return [
            head,
            f"{len(survivors)} differences in AUROC survive, the largest: {self.describe(survivors[0])}.",
        ]

    def describe(self, pair: Pair) -> str:
        """'version 3 (candidate) is better than version 1 by 0.031 (0.010 to 0.052, adjusted p = 0.004)'."""
        difference = pair.area.difference
        names = {each.version.version: each.name for each in self.candidates}
        better, worse, sign = (
            (pair.second, pair.first, 1.0) if difference.value > 0 else (pair.first, pair.second, -1.0)
        )
        low, high = sorted((sign * difference.low, sign * difference.high))
        p = "< 0.001" if pair.adjusted < 0.001 else f"= {pair.adjusted:.3f}"
        return (
            f"{names[better]} is better than {names[worse]} by {abs(difference.value):.3f} "
            f"({low:+.3f} to {high:+.3f}, adjusted p {p})"
        )

    def as_json(self) -> dict[str, Any]:
        """All of it for programs, None where something is undefined."""

        def number(value: float) -> float | None:
            return value if math.isfinite(value) else None

        return {
            "experiment": self.experiment,
            "n_images": self.n_images,
            "n_groups": self.n_groups,
            "unit": self.unit,
            "confidence": self.confidence,
            "versions": [
                {
                    "version": each.version.version,
                    "aliases": list(each.version.aliases),
                    "created": each.version.created,
                    "model": each.model,
                    "auroc": {"value": each.value, "low": each.low, "high": each.high},
                    **each.metrics,
                }
                for each in self.candidates
            ],
            "pairs": [
                {
                    "first": each.first,
                    "second": each.second,
                    "difference": number(each.area.difference.value),
                    "low": number(each.area.difference.low),
                    "high": number(each.area.difference.high),
                    "p": number(each.area.p_value),
                    "p_adjusted": number(each.adjusted),
                    "survives": each in self.survivors,
                }
                for each in self.pairs
            ],
            "left_out": [{"version": name, "why": why} for name, why in self.left_out],
            "sentences": self.sentences,
        }


def compare_all(store: Evaluations, experiment: str, evaluate: Evaluate, folder: Path) -> ManyCompared:
    """Compare every version that was evaluated on the newest one's test images.

    Args:
        store: the registry.
        experiment: the registered model.
        evaluate: gives the confidence.
        folder: for downloads.

    Raises:
        StoreError: no version has predictions, or the store is away.
    """
    met: list[tuple[EvaluatedVersion, PredictedSplit, Path]] = []
    left_out: list[tuple[str, str]] = []
    versions = store.versions()
    for version in versions[:MOST]:
        name = version_name(version.version, version.aliases)
        path = store.download(version, folder)
        if path is None:
            left_out.append((name, "its predictions are not in the store"))
            continue
        predicted = PredictedSplit.load(path)
        why = difference_of(met[0][1], predicted) if met else None
        if why is None:
            met.append((version, reordered(predicted, met[0][1]) if met else predicted, path))
        else:
            left_out.append((name, why))
    left_out += [(version_name(each.version, each.aliases), f"only the newest {MOST} are") for each in versions[MOST:]]
    if not met:
        raise StoreError(
            f"no version of '{experiment}' has predictions to compare.",
            where="compare",
            fix="dvc repro makes one; medsweep publish tells the store of it.",
        )
    models = []
    for version, _, _ in met:
        settings = store.settings(version)
        models.append(" · ".join(filter(None, (settings.get(f"train.space.{name}") for name in _CHOSEN))))
    return _compared(met, models, left_out, experiment, evaluate.bootstrap.confidence)


def _compared(
    met: Sequence[tuple[EvaluatedVersion, PredictedSplit, Path]],
    models: Sequence[str],
    left_out: Sequence[tuple[str, str]],
    experiment: str,
    confidence: float,
) -> ManyCompared:
    newest = met[0][1]
    groups = newest.groups
    found = model_areas(newest.task, newest.labels, [each.probabilities for _, each, _ in met], groups)
    patients = independent(groups, newest.labels == 1 if newest.task == "binary" else None)
    candidates = []
    for index, (version, predicted, path) in enumerate(met):
        kept = _kept(path.with_name("evaluation.json"))
        own = area_interval(float(found.values[index]), float(found.errors[index]), confidence, patients)
        told = (kept.get("metrics") or {}).get("auroc") or {}
        value, low, high = (
            told.get(end) if told.get("value") is not None else _finite(default)
            for end, default in (("value", own.value), ("low", own.low), ("high", own.high))
        )
        every = evaluate_all(predicted.task, predicted.labels, predicted.probabilities, predicted.decisions)
        names = ("accuracy", "sensitivity", "specificity", "log_loss")
        candidates.append(
            Candidate(
                version,
                models[index],
                value,
                low,
                high,
                {name: _finite(every[name]) for name in names},
                bool(kept.get("synthetic")),
            )
        )
    # The older one first, so that a difference says what the newer one gained.
    order = [(b, a) for a in range(len(met)) for b in range(a + 1, len(met))]
    differences = [area_difference(found, first, second, confidence, patients) for first, second in order]
    adjusted = holm([each.p_value for each in differences])
    pairs = [
        Pair(met[first][0].version, met[second][0].version, area, p)
        for (first, second), area, p in zip(order, differences, adjusted, strict=True)
    ]
    return ManyCompared(
        experiment=experiment,
        candidates=tuple(candidates),
        pairs=tuple(pairs),
        left_out=tuple(left_out),
        n_images=len(newest),
        n_groups=len(np.unique(groups)),
        unit="patients" if newest.has_patients else "images",
        confidence=confidence,
    )


def _kept(path: Path) -> dict[str, Any]:
    """What the version's evaluation said of itself; nothing where it was written by another version of medsweep."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
