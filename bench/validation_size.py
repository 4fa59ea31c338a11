"""From which size on is one validation split enough? A calculation behind `validation: auto`, without any training.

At the same cost, a search either looks at T trials on the validation split, or at T / folds trials by cross-validation
over training and validation. Trials have true AUROCs that are normally distributed; what is seen of them has the
standard error of Hanley & McNeil (1982) for as many images of the rarest class, with twice as many of the other. The
validation split is a fifth of the images. What counts is the true AUROC of the trial that is chosen.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np


def standard_error(auroc: float, positives: float, negatives: float) -> float:
    """Of an AUROC (Hanley & McNeil, 1982)."""
    q1, q2 = auroc / (2 - auroc), 2 * auroc**2 / (1 + auroc)
    spread = (positives - 1) * (q1 - auroc**2) + (negatives - 1) * (q2 - auroc**2)
    return float(np.sqrt((auroc * (1 - auroc) + spread) / (positives * negatives)))


def chosen(trials: int, spread: float, error: float, rng: np.random.Generator, repeats: int) -> float:
    """By how much the chosen trial's true AUROC is above that of a mean trial."""
    true = rng.normal(0.0, spread, (repeats, trials))
    seen = true + rng.normal(0.0, error, true.shape)
    return float(true[np.arange(repeats), seen.argmax(axis=1)].mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--auroc", type=float, default=0.88)
    parser.add_argument("--spread", type=float, default=0.02, help="deviation of the trials' true AUROCs")
    parser.add_argument("--repeats", type=int, default=40_000)
    parser.add_argument("--json", type=Path)
    known = parser.parse_args()
    rng = np.random.default_rng(7)
    rows = []
    print("rarest class in validation | standard error | gain by holdout | gain by cross-validation at the same cost")
    for positives in (10, 15, 20, 25, 30, 40, 60, 100, 200):
        error = standard_error(known.auroc, positives, 2 * positives)
        holdout = chosen(known.trials, known.spread, error, rng, known.repeats)
        # Each image of both splits is looked at once: five times as many as in validation.
        less = standard_error(known.auroc, 5 * positives, 10 * positives)
        folded = chosen(max(1, known.trials // known.folds), known.spread, less, rng, known.repeats)
        rows.append({"positives": positives, "error": error, "holdout": holdout, "cross_validation": folded})
        print(f"{positives:>26} | {error:14.4f} | {holdout:15.4f} | {folded:.4f}")
    if known.json:
        known.json.write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
