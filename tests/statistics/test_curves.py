from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import auc

from medsweep.statistics.curves import precision_recall_curve, roc_curve
from medsweep.statistics.metrics import evaluate_all


def data(n: int = 3000) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, n)
    return labels, np.clip(0.3 * labels + 0.7 * rng.random(n), 0, 1)


def test_area_of_the_whole_curve_is_the_metrics_auroc() -> None:
    labels, scores = data()
    curve = roc_curve(labels, scores, points=10_000)
    found = evaluate_all("binary", labels, np.stack([1 - scores, scores], axis=1), labels)
    assert auc(curve.x, curve.y) == pytest.approx(found["auroc"], abs=1e-12)
    recall_falls = precision_recall_curve(labels, scores, points=10_000)
    steps = -np.diff(recall_falls.x) * recall_falls.y[:-1]
    assert steps.sum() == pytest.approx(found["average_precision"], abs=1e-3)  # collinear points are dropped


def test_thinned_keeps_the_ends_and_stays_near() -> None:
    labels, scores = data()
    thin, whole = roc_curve(labels, scores, points=50), roc_curve(labels, scores, points=10_000)
    assert len(thin.x) == len(thin.y) == len(thin.threshold) == 50 < len(whole.x)
    assert (thin.x[0], thin.y[0], thin.x[-1], thin.y[-1]) == (0, 0, 1, 1)
    assert auc(thin.x, thin.y) == pytest.approx(auc(whole.x, whole.y), abs=0.01)
    recall = precision_recall_curve(labels, scores, points=50)
    assert len(recall.x) == 50
    assert (recall.x[0], recall.x[-1], recall.y[-1]) == (1, 0, 1)


def test_points_are_what_their_thresholds_give() -> None:
    labels, scores = data(200)
    curve = roc_curve(labels, scores, points=30)
    for x, y, threshold in list(zip(curve.x, curve.y, curve.threshold, strict=True))[1:]:
        called = scores >= threshold
        assert (x, y) == pytest.approx((called[labels == 0].mean(), called[labels == 1].mean()))


def test_every_number_can_be_written_as_json() -> None:
    labels, scores = data(50)
    for curve in (roc_curve(labels, scores, points=9), precision_recall_curve(labels, scores, points=9)):
        json.dumps([curve.x.tolist(), curve.y.tolist(), curve.threshold.tolist()], allow_nan=False)


@pytest.mark.filterwarnings("error")
def test_one_class_only_gives_no_points() -> None:
    scores = np.array([0.1, 0.9])
    assert len(roc_curve(np.array([0, 0]), scores, points=9).x) == 0
    assert len(roc_curve(np.array([True, True]), scores, points=9).x) == 0
    assert len(precision_recall_curve(np.array([0, 0]), scores, points=9).x) == 0
    assert len(roc_curve(np.empty(0), np.empty(0), points=9).x) == 0
