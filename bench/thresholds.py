"""What a threshold that was fitted on a few images loses on all others: the best cut of these images against the
smoothed one that medsweep takes.

Simulated log-odds of two classes whose distributions are known, so that what any threshold is worth is known too.
Lost are points (of 100) of Youden's index, of accuracy and of F1, against the best threshold there is; means over
repetitions, the same images for both.

Example: python bench/thresholds.py --repeats 300
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import track
from scipy.special import expit, logit

from medsweep.statistics.operating_points import THRESHOLD_RULES, best_cut, smooth_cut
from project import show, write_json

POPULATION = 200_000
SIZES = ((100, 5), (20, 20), (40, 80), (135, 389), (500, 500))
Draw = Callable[[np.random.Generator, int], NDArray[np.float64]]
# Negatives and positives on the scale of log-odds.
CASES: dict[str, tuple[Draw, Draw]] = {
    "normal, AUROC .90": (lambda rng, n: rng.normal(-0.9, 1, n), lambda rng, n: rng.normal(0.9, 1, n)),
    "normal, AUROC .998": (lambda rng, n: rng.normal(-2, 1, n), lambda rng, n: rng.normal(2, 1, n)),
    "unequal spread": (lambda rng, n: rng.normal(-2, 1, n), lambda rng, n: rng.normal(2, 3, n)),
    "skewed": (lambda rng, n: rng.gamma(1.5, 1, n) - 3, lambda rng, n: 3 - rng.gamma(1.5, 1.5, n)),
    "long tails": (lambda rng, n: rng.standard_t(3, n) - 1.5, lambda rng, n: 1.5 * rng.standard_t(3, n) + 2),
    "two kinds of positives": (
        lambda rng, n: rng.normal(-2, 1, n),
        lambda rng, n: np.where(rng.random(n) < 0.15, rng.normal(-0.5, 1, n), rng.normal(4, 1, n)),
    ),
}
SCALE = {
    "youden": lambda positives, negatives: positives * negatives,
    "accuracy": lambda p, n: p + n,
    "f1": lambda *_: 1,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=300)
    parser.add_argument("--json", type=Path, help="write all measurements here")
    given = parser.parse_args()
    found: list[dict[str, Any]] = []
    for name, draws in track(CASES.items(), description="distributions"):
        rng = np.random.default_rng(7)
        population = [np.sort(draw(rng, POPULATION)) for draw in draws]
        for sizes in SIZES:
            lost = losses(rng, draws, population, sizes, given.repeats)
            found += [{"case": name, "negatives": sizes[0], "positives": sizes[1], **each} for each in lost]
    write_json(given.json, found)
    rows = []
    for name in CASES:
        for sizes in SIZES:
            here = [each for each in found if each["case"] == name and (each["negatives"], each["positives"]) == sizes]
            rows.append([name, f"{sizes[0]} / {sizes[1]}", *(f"{e['best']:.2f} → {e['smooth']:.2f}" for e in here)])
    show("points lost: best cut of the images → smoothed", ["log-odds", "negatives / positives", *SCALE], rows)


def losses(
    rng: np.random.Generator,
    draws: tuple[Draw, Draw],
    population: list[NDArray[np.float64]],
    sizes: tuple[int, int],
    repeats: int,
) -> list[dict[str, Any]]:
    """For each rule what either way of fitting loses on the population."""
    negatives, positives = sizes
    labels = np.repeat([0, 1], sizes)
    lost: dict[str, list[tuple[float, float]]] = {rule: [] for rule in SCALE}

    def worth(rule: str, cuts: Any) -> NDArray[np.float64]:
        alarms, hits = (
            n * (1 - np.searchsorted(each, cuts) / POPULATION) for each, n in zip(population, sizes, strict=True)
        )
        criterion = THRESHOLD_RULES[rule].criterion
        assert criterion is not None
        return 100 * np.asarray(criterion(hits, alarms, positives, negatives)) / SCALE[rule](positives, negatives)

    everywhere = np.linspace(-15, 15, 3001)
    best = {rule: worth(rule, everywhere).max() for rule in SCALE}
    for _ in range(repeats):
        odds = np.concatenate([draw(rng, n) for draw, n in zip(draws, sizes, strict=True)])
        for rule in SCALE:
            criterion = THRESHOLD_RULES[rule].criterion
            assert criterion is not None
            with np.errstate(divide="ignore"):  # a cut of 0 or 1 calls all or nothing positive
                cuts = logit([fit(criterion, labels, expit(odds)) for fit in (best_cut, smooth_cut)])
            one, other = best[rule] - worth(rule, cuts)
            lost[rule].append((float(one), float(other)))
    means = {rule: np.mean(pairs, axis=0) for rule, pairs in lost.items()}
    return [{"rule": rule, "best": float(one), "smooth": float(other)} for rule, (one, other) in means.items()]


if __name__ == "__main__":
    main()
