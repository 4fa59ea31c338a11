"""ROC and precision-recall curves as points to draw, over scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medsweep.statistics.weighted import Floats


@dataclass(frozen=True)
class Curve:
    """A curve's points, each array (P,).

    Args:
        x: false-positive rate (ROC, rising) or recall (precision-recall, falling), 0 to 1.
        y: true-positive rate (ROC) or precision (precision-recall), 0 to 1.
        threshold: what is called positive from this score upwards; 1 at the end where nothing is.
    """

    x: Floats
    y: Floats
    threshold: Floats


def roc_curve(positive: NDArray[Any], scores: NDArray[Any], *, points: int) -> Curve:
    """The ROC curve from (0, 0) to (1, 1), without points that lie on a straight line between others.

    Args:
        positive: (N,) 0 or 1 (for one class of several: `labels == k`).
        scores: (N,) its probability.
        points: the most points to give, at least 2; the ends stay. The area is `metrics.auroc`'s, not this curve's.

    Returns:
        no points where only one class is there.
    """
    from sklearn import metrics

    truth = np.asarray(positive).astype(np.int64)
    if len(np.unique(truth)) < 2:
        return _NOTHING
    false_positive, true_positive, threshold = metrics.roc_curve(truth, scores, drop_intermediate=True)
    threshold[0] = 1.0  # scikit-learn says infinity, which JSON can't
    return _thinned(false_positive, true_positive, threshold, points)


def precision_recall_curve(positive: NDArray[Any], scores: NDArray[Any], *, points: int) -> Curve:
    """The precision-recall curve, ending at recall 0 and precision 1.

    Takes what `roc_curve` does.

    Returns:
        no points where no image is positive.
    """
    from sklearn import metrics

    truth = np.asarray(positive).astype(np.int64)
    if not truth.any():
        return _NOTHING
    precision, recall, threshold = metrics.precision_recall_curve(truth, scores, drop_intermediate=True)
    return _thinned(recall, precision, np.append(threshold, 1.0), points)


def _thinned(x: NDArray[Any], y: NDArray[Any], threshold: NDArray[Any], points: int) -> Curve:
    kept = np.unique(np.round(np.linspace(0, len(x) - 1, min(points, len(x)))).astype(np.int64))
    return Curve(*(np.asarray(values, dtype=np.float64)[kept] for values in (x, y, threshold)))


_NOTHING = Curve(np.empty(0), np.empty(0), np.empty(0))
