"""How often a 95 % interval holds the truth where a patient has several images, and where that is overlooked.

Patients are drawn: each has one lesion (a share `--prevalence` is positive), one to `--images` images of it, and a
score that is the class's mean plus a deviation of the patient's plus one of the image's. Both deviations together have
a variance of 1, of which `--correlation` is the patient's. So the true AUROC and the true sensitivity and specificity
at a threshold are known in closed form. A share `--mixed` of the patients has healthy images as well (the other side,
another view): then both kinds of image depend on each other.

Every study is analysed by each method, once with patients as groups and once as if images were independent. A method
is sound where its coverage lies within 93 to 97 %.

Example: python bench/coverage.py --patients 60 --studies 2000
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np

from medsweep.statistics.areas import area_interval, areas, plain_interval
from medsweep.statistics.intervals import Interval, independent, resample
from medsweep.statistics.proportions import proportion
from medsweep.statistics.weighted import Ranking, ratio
from project import show, write_json

CONFIDENCE = 0.95
Study = tuple[np.ndarray, np.ndarray, np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, nargs="+", default=[60, 200])
    parser.add_argument("--images", type=int, default=6, help="the most images of a patient")
    parser.add_argument("--auroc", type=float, nargs="+", default=[0.75, 0.9, 0.97])
    parser.add_argument("--correlation", type=float, default=0.6, help="the patient's share of the scores' variance")
    parser.add_argument("--prevalence", type=float, default=0.4)
    parser.add_argument("--mixed", type=float, default=0.0, help="the share of patients with images of both kinds")
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--samples", type=int, default=1000, help="bootstrap resamples of each study")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write all measurements here")
    given = parser.parse_args()
    found, rows = [], []
    for patients in given.patients:
        for auroc in given.auroc:
            each = coverage(given, patients, auroc)
            found.append({"patients": patients, "auroc": auroc, **each})
            for name, (by_patient, by_image) in each.items():
                rows.append([str(patients), f"{auroc:g}", name, f"{100 * by_patient:.1f}", f"{100 * by_image:.1f}"])
    error = 100 * math.sqrt(0.95 * 0.05 / given.studies)
    columns = ["patients", "true AUROC", "interval", "covers, %", "images taken for independent, %"]
    show(f"{given.studies} studies each, standard error of a coverage {error:.1f} points", columns, rows)
    write_json(given.json, found)


def coverage(given: argparse.Namespace, patients: int, auroc: float) -> dict[str, tuple[float, float]]:
    """The share of studies whose interval holds the truth, by method: (patients as groups, images as groups)."""
    shift = math.sqrt(2.0) * NormalDist().inv_cdf(auroc)
    cut = shift / 2.0
    right = NormalDist().cdf(cut)
    hits: dict[str, list[tuple[bool, bool]]] = {}
    rng = np.random.default_rng([given.seed, patients, round(1e4 * auroc)])
    for number in range(given.studies):
        study = draw(rng, given, patients, shift)
        by_patient, by_image = (
            intervals_of(study, groups, cut, given.samples, number) for groups in (study[2], np.arange(len(study[2])))
        )
        for name in by_patient:
            true = auroc if "AUROC" in name else right
            hits.setdefault(name, []).append((holds(by_patient[name], true), holds(by_image[name], true)))
    return {name: (float(np.mean(each, axis=0)[0]), float(np.mean(each, axis=0)[1])) for name, each in hits.items()}


def draw(rng: np.random.Generator, given: argparse.Namespace, patients: int, shift: float) -> Study:
    """One study: (N,) labels, (N,) scores, (N,) patients. It has patients of both kinds."""
    while True:
        sick = rng.random(patients) < given.prevalence
        if 1 < sick.sum() < patients - 1:
            break
    counts = rng.integers(1, given.images + 1, patients)
    patient = np.repeat(np.arange(patients), counts)
    mixed = (rng.random(patients) < given.mixed)[patient]
    label = np.where(mixed, rng.random(len(patient)) < 0.5, sick[patient])
    own = rng.normal(0.0, math.sqrt(given.correlation), patients)[patient]
    score = shift * label + own + rng.normal(0.0, math.sqrt(1.0 - given.correlation), len(patient))
    return label.astype(np.int64), score, patient


def intervals_of(study: Study, groups: np.ndarray, cut: float, samples: int, seed: int) -> dict[str, Interval]:
    """Every method's interval of a study."""
    label, score, _ = study
    positive = label == 1
    ranking = Ranking(positive, score)
    called = (score >= cut).astype(np.float64)

    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        sick = weights[positive]
        return {
            "AUROC": ranking.areas(weights)[0],
            "sensitivity": ratio((called[positive, None] * sick).sum(axis=0), sick.sum(axis=0)),
        }

    found = areas(positive[:, None], score[:, None], groups)
    value, error = float(found.values[0]), float(found.errors[0])
    patients = independent(groups, positive)
    drawn: dict[str, Any] = resample(statistic, groups, samples=samples, seed=seed, method="bca", patients=patients)
    kinds: dict[str, Callable[[str], Interval]] = {
        "bootstrap, BCa": lambda name: drawn[name].interval(CONFIDENCE),
        "bootstrap, percentile": lambda name: percentile(drawn[name]),
    }
    answer = {f"AUROC: {kind}": make("AUROC") for kind, make in kinds.items()}
    answer["AUROC: DeLong/Obuchowski"] = area_interval(value, error, CONFIDENCE, patients)
    answer["AUROC: DeLong/Obuchowski, plain"] = plain_interval(value, error, CONFIDENCE)
    answer |= {f"sensitivity: {kind}": make("sensitivity") for kind, make in kinds.items()}
    answer["sensitivity: Wilson"] = proportion(called[positive], groups[positive], CONFIDENCE).interval
    return answer


def percentile(drawn: Any) -> Interval:
    return type(drawn)(drawn.value, drawn.draws, 0.0, "percentile", drawn.patients).interval(CONFIDENCE)


def holds(interval: Interval, true: float) -> bool:
    return bool(interval.low <= true <= interval.high)


if __name__ == "__main__":
    main()
