"""Small models that are asked whether something can be predicted at all: always cross-validated, patient by patient.

They belong to the checks alone: none of them is kept, and nothing that is trained later knows of them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from medsweep.prepare.split import groups_of
from medsweep.prepare.table import ImageTable, class_counts, has_class, label_codes

Floats = NDArray[np.float64]

FOLDS = 5
# Fewer independent patients on either side say nothing.
FEWEST = 10


def sample(table: ImageTable, most: int) -> NDArray[np.int64]:
    """At most so many rows, rare labels taken first; the table's order, by content, is as good as chance."""
    codes = label_codes(table.labels)
    rank = np.empty(len(codes), dtype=np.int64)
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    rank[order] = np.arange(len(codes)) - np.repeat(starts, np.diff(np.append(starts, len(codes))))
    return np.sort(np.argsort(rank, kind="stable")[:most])


def folds_of(table: ImageTable) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(N,) a fold from 0 to 4 and a group for each image. A group is a patient, with those who share an image."""
    groups = groups_of(table)
    _, firsts = np.unique(groups, return_index=True)
    order = np.lexsort((firsts, label_codes(table.labels)[firsts]))
    fold = np.empty(len(firsts), dtype=np.int64)
    fold[order] = np.arange(len(firsts)) % FOLDS
    return fold[groups], groups


def targets(table: ImageTable, class_names: tuple[str, ...]) -> dict[str, NDArray[np.bool_]]:
    """By the class's name which images carry it; of two classes the second alone, for the first is its mirror."""
    several = table.labels.ndim == 2
    start = 1 if len(class_names) == 2 and not several else 0
    counts = class_counts(table.labels, len(class_names))
    return {
        name: has_class(table.labels, index)
        for index, name in enumerate(class_names)
        if index >= start and 0 < counts[index] < len(table)
    }


def auroc(scores: Floats, positive: NDArray[np.bool_]) -> float:
    """The area under the ROC curve, ties counted half; 0.5 where one of the two sides is empty."""
    from scipy.stats import rankdata

    n, m = int(positive.sum()), int((~positive).sum())
    if not n or not m:
        return 0.5
    return float((rankdata(scores)[positive].sum() - n * (n + 1) / 2) / (n * m))


def probability_by_chance(value: float, positive: NDArray[np.bool_], groups: NDArray[np.int64]) -> float:
    """How probable an AUROC at least so high is where there is nothing to predict (Mann and Whitney, 1947; normal
    approximation), each patient counting once; 1 where there are too few of them."""
    from scipy.stats import norm

    n, m = len(np.unique(groups[positive])), len(np.unique(groups[~positive]))
    if min(n, m) < FEWEST:
        return 1.0
    return float(norm.sf((value - 0.5) / np.sqrt((n + m + 1) / (12 * n * m))))


def out_of_fold(
    features: NDArray[np.float32], positive: NDArray[np.bool_], folds: NDArray[np.int64], *, categorical: bool
) -> Floats:
    """(N,) the probability that boosted trees, fitted on the other folds, give to each image.

    Args:
        features: (N, F) numbers, or whole numbers below 64 where they are categories.
        positive: (N,) what is predicted.
        folds: (N,) which part each image is in.
        categorical: whether features are categories.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits

    found = np.full(len(positive), positive.mean())
    for training, tested in _parts(folds):
        if len(np.unique(positive[training])) < 2 or not len(tested):
            continue
        model = HistGradientBoostingClassifier(
            max_iter=20,
            max_leaf_nodes=8,
            max_bins=64,
            min_samples_leaf=10,
            learning_rate=0.2,
            categorical_features=[True] * features.shape[1] if categorical else None,
            early_stopping=False,
            random_state=0,
        )
        with threadpool_limits(1):  # for so few numbers, threads cost more than they give
            model.fit(features[training], positive[training])
            found[tested] = model.predict_proba(features[tested])[:, 1]
    return found


def rates_out_of_fold(codes: NDArray[np.int64], positive: NDArray[np.bool_], folds: NDArray[np.int64]) -> Floats:
    """(N,) the share of positives among the images of the other folds with the same code, smoothed."""
    found = np.empty(len(codes), dtype=np.float64)
    for training, tested in _parts(folds):
        times = np.bincount(codes[training], minlength=int(codes.max()) + 1)
        hits = np.bincount(codes[training], weights=positive[training], minlength=len(times))
        prior = positive[training].mean() if len(training) else 0.5
        found[tested] = ((hits + 2 * prior) / (times + 2))[codes[tested]]
    return found


def _parts(folds: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    for fold in range(FOLDS):
        yield np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
