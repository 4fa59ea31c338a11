from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as reference

from medsweep.artifacts.record import TASKS
from medsweep.errors import DataError
from medsweep.statistics import calibration, metrics
from medsweep.statistics.metrics import METRICS, Predictions, confusion, evaluate_all, evaluate_weighted, per_class
from medsweep.statistics.operating_points import decide

SHAPES = {"binary": 2, "multiclass": 4, "ordinal": 5, "multilabel": 3}


def example(task: str, *, n: int = 240, seed: int = 0, coarse: bool = False) -> tuple[Any, Any, Any]:
    """Labels, probabilities and decisions; imbalanced; `coarse` rounds the probabilities so that many are tied."""
    rng = np.random.default_rng(seed)
    k = SHAPES[task]
    if task == "multilabel":
        labels = (rng.random((n, k)) < [0.5, 0.2, 0.08]).astype(np.uint8)
        probabilities = np.clip(0.65 * rng.random((n, k)) + 0.35 * labels, 0.01, 0.99)
    else:
        weights = np.arange(1, k + 1) ** 2
        labels = rng.choice(k, size=n, p=weights / weights.sum())
        raw = np.exp(rng.normal(size=(n, k)) + 1.2 * np.eye(k)[labels])
        probabilities = raw / raw.sum(axis=1, keepdims=True)
    if coarse:
        probabilities = np.clip(np.round(probabilities, 1), 0.01, 0.99)
        if task == "binary":
            probabilities[:, 0] = 1.0 - probabilities[:, 1]
    thresholds = [0.6] if task == "binary" else [0.6] * k
    return labels, probabilities, decide(task, probabilities, thresholds)  # type: ignore[arg-type]


def by_scikit_learn(task: str, labels: Any, p: Any, d: Any, w: Any = None) -> dict[str, float]:
    """All that scikit-learn has, written out independently of medsweep."""
    k = p.shape[1]
    targets = labels if task == "multilabel" else (labels[:, None] == np.arange(k)).astype(int)
    called = d if task == "multilabel" else (d[:, None] == np.arange(k)).astype(int)
    classes = [1] if task == "binary" else list(range(k))

    def mean(function: Any, columns: Any) -> float:
        return float(np.mean([function(targets[:, i], columns[:, i], sample_weight=w) for i in classes]))

    def recall_of(value: int) -> Any:
        return lambda y, x, sample_weight: reference.recall_score(y, x, pos_label=value, sample_weight=sample_weight)

    def precision_of(value: int) -> Any:
        return lambda y, x, sample_weight: reference.precision_score(y, x, pos_label=value, sample_weight=sample_weight)

    found = {
        "auroc": mean(reference.roc_auc_score, p),
        "average_precision": mean(reference.average_precision_score, p),
        "sensitivity": mean(recall_of(1), called),
        "specificity": mean(recall_of(0), called),
        "ppv": mean(precision_of(1), called),
        "npv": mean(precision_of(0), called),
        "f1": mean(reference.f1_score, called),
    }
    if task == "multilabel":
        found |= {
            "accuracy": mean(reference.accuracy_score, called),
            "accuracy_at_half": mean(reference.accuracy_score, p > 0.5),
            "balanced_accuracy": mean(reference.balanced_accuracy_score, called),
            "mcc": mean(reference.matthews_corrcoef, called),
            "cohen_kappa": float(
                np.mean([reference.cohen_kappa_score(labels[:, i], d[:, i], sample_weight=w) for i in range(k)])
            ),
            "brier": mean(reference.brier_score_loss, p),
            "log_loss": mean(reference.log_loss, p),
        }
        return found
    kappa_weights = "quadratic" if task == "ordinal" else None
    found |= {
        "accuracy": reference.accuracy_score(labels, d, sample_weight=w),
        "balanced_accuracy": reference.balanced_accuracy_score(labels, d, sample_weight=w),
        "mcc": reference.matthews_corrcoef(labels, d, sample_weight=w),
        "cohen_kappa": reference.cohen_kappa_score(labels, d, weights=kappa_weights, sample_weight=w),
        "log_loss": float(np.average(-np.log(p[np.arange(len(p)), labels]), weights=w)),
    }
    if task == "binary":
        found["accuracy_at_half"] = reference.accuracy_score(labels, p[:, 1] > 0.5, sample_weight=w)
        found["brier"] = reference.brier_score_loss(labels, p[:, 1], sample_weight=w)
    else:
        found["brier"] = float(np.average(((p - targets) ** 2).sum(axis=1), weights=w))
    return found


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("coarse", [False, True], ids=["distinct", "tied"])
@pytest.mark.parametrize("seed", [0, 1])
def test_agrees_with_scikit_learn(task: Any, coarse: bool, seed: int) -> None:
    labels, p, d = example(task, seed=seed, coarse=coarse)
    ours = evaluate_all(task, labels, p, d)
    theirs = by_scikit_learn(task, labels, p, d)
    assert set(ours) - set(theirs) == {"ece"}
    for name, value in theirs.items():
        assert ours[name] == pytest.approx(value, abs=1e-9), name


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("coarse", [False, True], ids=["distinct", "tied"])
def test_weights_equal_repeated_images(task: Any, coarse: bool) -> None:
    labels, p, d = example(task, coarse=coarse)
    weights = np.random.default_rng(5).integers(0, 4, size=(len(labels), 3)).astype(float)
    weighted = evaluate_weighted(Predictions(task, labels, p, d), weights)
    per = metrics.per_class_weighted(Predictions(task, labels, p, d), weights)
    for column in range(weights.shape[1]):
        rows = np.repeat(np.arange(len(labels)), weights[:, column].astype(int))
        repeated = evaluate_all(task, labels[rows], p[rows], d[rows])
        for name, value in repeated.items():
            assert weighted[name][column] == pytest.approx(value, abs=1e-12), name
        for k, values in per_class(task, labels[rows], p[rows], d[rows]).items():
            for name, value in values.items():
                assert per[k, name][column] == pytest.approx(value, abs=1e-12), (k, name)


@pytest.mark.parametrize("task", TASKS)
def test_weights_agree_with_scikit_learns(task: Any) -> None:
    labels, p, d = example(task, coarse=True)
    weights = np.random.default_rng(5).integers(0, 3, size=(len(labels), 1)).astype(float)
    ours = evaluate_weighted(Predictions(task, labels, p, d), weights)
    for name, value in by_scikit_learn(task, labels, p, d, weights[:, 0]).items():
        assert ours[name][0] == pytest.approx(value, abs=1e-9), name


def medmnist_auc(labels: Any, scores: Any, task: str) -> float:
    """getAUC of MedMNIST's evaluator, re-derived: labels (N, 1) or (N, L) as in its npz files."""
    if task == "multi-label, binary-class":
        return float(np.mean([reference.roc_auc_score(labels[:, i], scores[:, i]) for i in range(scores.shape[1])]))
    truth = labels.squeeze()
    if task == "binary-class":
        return float(reference.roc_auc_score(truth, scores[:, -1]))
    each = [reference.roc_auc_score((truth == i).astype(float), scores[:, i]) for i in range(scores.shape[1])]
    return float(np.mean(each))


def medmnist_acc(labels: Any, scores: Any, task: str) -> float:
    """getACC of MedMNIST's evaluator, re-derived."""
    if task == "multi-label, binary-class":
        each = [reference.accuracy_score(labels[:, i], scores[:, i] > 0.5) for i in range(labels.shape[1])]
        return float(np.mean(each))
    truth = labels.squeeze()
    if task == "binary-class":
        return float(reference.accuracy_score(truth, scores[:, -1] > 0.5))
    return float(reference.accuracy_score(truth, scores.argmax(axis=-1)))


@pytest.mark.parametrize(
    ("task", "theirs"),
    [
        ("binary", "binary-class"),
        ("multiclass", "multi-class"),
        ("ordinal", "ordinal-regression"),
        ("multilabel", "multi-label, binary-class"),
    ],
)
def test_medmnist_evaluator(task: Any, theirs: str) -> None:
    labels, p, d = example(task, n=400, seed=3)
    as_in_npz = labels if task == "multilabel" else labels[:, None]
    ours = evaluate_all(task, labels, p, d)
    assert ours["auroc"] == pytest.approx(medmnist_auc(as_in_npz, p, theirs), abs=1e-12)
    acc = ours["accuracy_at_half"] if "accuracy_at_half" in ours else ours["accuracy"]
    assert acc == pytest.approx(medmnist_acc(as_in_npz, p, theirs), abs=1e-12)


def test_half_itself_is_negative_for_medmnist() -> None:
    p = np.array([[0.5, 0.5], [0.4, 0.6]])
    labels = np.array([0, 1])
    found = evaluate_all("binary", labels, p, decide("binary", p, 0.5))
    assert (found["accuracy_at_half"], found["accuracy"]) == (1.0, 0.5)


def test_small_binary_case_by_hand() -> None:
    labels = np.array([0, 0, 0, 1, 1])
    positive = np.array([0.1, 0.4, 0.6, 0.4, 0.9])
    p = np.stack([1 - positive, positive], axis=1)
    found = evaluate_all("binary", labels, p, decide("binary", p, 0.5))
    # Pairs: 0.4 beats 0.1, ties 0.4, loses to 0.6; 0.9 beats all.
    assert found["auroc"] == pytest.approx((1 + 0.5 + 3) / 6)
    # Steps at 0.9 (1/1), 0.6 (nothing found), 0.4 (2 of 4).
    assert found["average_precision"] == pytest.approx(0.5 * 1 + 0.5 * 0.5)
    assert found["sensitivity"] == pytest.approx(1 / 2)
    assert found["specificity"] == pytest.approx(2 / 3)
    assert found["ppv"] == pytest.approx(1 / 2)
    assert found["npv"] == pytest.approx(2 / 3)
    assert found["f1"] == pytest.approx(1 / 2)
    assert found["accuracy"] == pytest.approx(3 / 5)
    assert found["balanced_accuracy"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert found["mcc"] == pytest.approx((1 * 2 - 1 * 1) / math.sqrt(2 * 2 * 3 * 3))
    assert found["cohen_kappa"] == pytest.approx((3 / 5 - 13 / 25) / (1 - 13 / 25))
    assert found["brier"] == pytest.approx((0.01 + 0.16 + 0.36 + 0.36 + 0.01) / 5)
    assert found["log_loss"] == pytest.approx(
        -(math.log(0.9) + 2 * math.log(0.6) + 2 * math.log(0.4) + math.log(0.9) - math.log(0.6)) / 5
    )
    # Bins: .1 alone, .4 twice (one of them positive), .6 alone, .9 alone.
    assert found["ece"] == pytest.approx((0.1 + abs(0.8 - 1) + 0.6 + 0.1) / 5)


def test_quadratic_kappa_by_hand() -> None:
    labels, d = np.array([0, 1, 2, 2]), np.array([0, 1, 2, 0])
    p = np.full((4, 3), 1 / 3)
    # Observed cost 4/4; expected: true (1, 1, 2)/4, decided (2, 1, 1)/4 → (1·(1+4) + 1·(2+1) + 2·(8+1))/16.
    assert evaluate_all("ordinal", labels, p, d)["cohen_kappa"] == pytest.approx(1 - 1 / (26 / 16))
    assert evaluate_all("multiclass", labels, p, d)["cohen_kappa"] == pytest.approx(1 - (1 / 4) / (1 - 5 / 16))


def test_one_class_only_is_nan_without_a_word() -> None:
    p = np.array([[0.8, 0.2], [0.3, 0.7]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        negative = evaluate_all("binary", np.array([0, 0]), p, np.array([0, 1]))
        silent = evaluate_all("binary", np.array([0, 1]), p, np.array([0, 0]))
        agreed = evaluate_all("binary", np.array([0, 0]), p, np.array([0, 0]))
        absent = evaluate_all("multiclass", np.array([0, 1, 1]), np.full((3, 3), 1 / 3), np.array([0, 1, 0]))
        empty = evaluate_all("multiclass", np.empty(0, dtype=np.int64), np.empty((0, 3)), np.empty(0, dtype=np.int64))
        column = per_class("multiclass", np.array([0, 1, 1]), np.full((3, 3), 1 / 3), np.array([0, 1, 0]))

    def undefined(found: dict[str, float]) -> set[str]:
        return {name for name, value in found.items() if math.isnan(value)}

    assert undefined(negative) == {"auroc", "average_precision", "sensitivity", "balanced_accuracy", "mcc"}
    assert undefined(silent) == {"ppv", "mcc"}
    assert undefined(agreed) == {
        "auroc",
        "average_precision",
        "sensitivity",
        "balanced_accuracy",
        "mcc",
        "ppv",
        "f1",
        "cohen_kappa",
    }
    assert undefined(absent) == {"auroc", "average_precision", "sensitivity", "balanced_accuracy", "ppv", "f1"}
    assert undefined(empty) == set(empty)
    assert undefined(column[2]) == {"auroc", "average_precision", "sensitivity", "ppv", "f1"}
    assert column[2]["support"] == 0.0


def test_all_scores_equal_is_guessing() -> None:
    p = np.full((10, 2), 0.5)
    found = evaluate_all("binary", np.arange(10) % 5 // 4, p, np.ones(10, dtype=np.int64))
    assert found["auroc"] == 0.5
    assert found["average_precision"] == pytest.approx(0.2)


def test_log_loss_is_clipped() -> None:
    p = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert evaluate_all("binary", np.array([1, 1]), p, np.array([0, 1]))["log_loss"] == pytest.approx(
        -(math.log(1e-7) + math.log(1 - 1e-7)) / 2
    )
    assert evaluate_all("multiclass", np.array([1, 1]), p, np.array([0, 1]))["log_loss"] == pytest.approx(
        -(math.log(1e-7) + math.log(1 - 1e-7)) / 2
    )


@pytest.mark.parametrize("task", ["binary", "multiclass", "ordinal"])
def test_per_class_is_one_against_the_rest(task: Any) -> None:
    labels, p, d = example(task, coarse=True)
    for k, values in per_class(task, labels, p, d).items():
        column = np.stack([1 - p[:, k], p[:, k]], axis=1)
        alone = evaluate_all("binary", (labels == k).astype(np.int64), column, (d == k).astype(np.int64))
        assert values.pop("support") == (labels == k).sum()
        for name, value in values.items():
            assert value == pytest.approx(alone[name], abs=1e-12), (k, name)


def test_per_class_means_are_the_headline() -> None:
    labels, p, d = example("multilabel")
    found, classes = evaluate_all("multilabel", labels, p, d), per_class("multilabel", labels, p, d)
    for name in ("auroc", "average_precision", "sensitivity", "specificity", "ppv", "npv", "f1"):
        assert found[name] == pytest.approx(np.mean([classes[k][name] for k in range(3)]))


def test_confusion_has_rows_true() -> None:
    found = confusion(np.array([0, 0, 2]), np.array([1, 0, 2]), 3)
    assert found.tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 1]]
    labels, _, d = example("multilabel")
    np.testing.assert_array_equal(confusion(labels, d, 3), reference.multilabel_confusion_matrix(labels, d))


@pytest.mark.parametrize("task", TASKS)
def test_ece_equals_a_loop_over_bins(task: Any) -> None:
    labels, p, d = example(task)
    if task == "binary":
        pairs = [(p[:, 1], labels == 1)]
    elif task == "multilabel":
        pairs = [(p[:, k], labels[:, k] == 1) for k in range(3)]
    else:
        pairs = [(p.max(axis=1), p.argmax(axis=1) == labels)]
    found = []
    for confidence, right in pairs:
        total = 0.0
        for low in np.arange(15) / 15:
            inside = (confidence > low) & (confidence <= low + 1 / 15)
            if inside.any():
                total += inside.mean() * abs(confidence[inside].mean() - right[inside].mean())
        found.append(total)
    assert evaluate_all(task, labels, p, d)["ece"] == pytest.approx(np.mean(found), abs=1e-12)
    assert calibration.ece(labels, p, task, 15) == pytest.approx(np.mean(found), abs=1e-12)


def test_single_precision_probabilities_keep_their_order() -> None:
    labels, p, d = example("multiclass")
    single = evaluate_all("multiclass", labels, p.astype(np.float32), d)
    double = evaluate_all("multiclass", labels, p.astype(np.float32).astype(np.float64), d)
    assert single == double


def test_table_says_what_it_needs() -> None:
    labels, p, d = example("binary")
    other = 1 - d
    before, after = evaluate_all("binary", labels, p, d), evaluate_all("binary", labels, p, other)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {name for name, row in METRICS.items() if row.needs == "decisions"}


@pytest.mark.parametrize("task", ["binary", "multiclass", "ordinal", "multilabel"])
def test_table_says_which_way_is_better(task: Any) -> None:
    labels, p, d = example(task)
    targets = labels if task == "multilabel" else np.eye(p.shape[1])[labels]
    sure = 0.02 + 0.96 * targets
    sure = sure if task == "multilabel" else sure / sure.sum(axis=1, keepdims=True)
    better = evaluate_all(task, labels, sure, labels)
    for name, value in evaluate_all(task, labels, p, d).items():
        assert (better[name] > value) == METRICS[name].higher_is_better, name


@pytest.mark.parametrize(
    ("labels", "p", "d", "where"),
    [
        ([0, 1], [[0.5, 0.5], [math.nan, 0.5]], [0, 1], "probabilities"),
        ([0, 1], [[0.5, 0.5], [3.0, -2.0]], [0, 1], "probabilities"),
        ([0, 1], [[0.2, 0.3, 0.5], [0.2, 0.3, 0.5]], [0, 1], "probabilities"),
        ([0, 2], [[0.5, 0.5], [0.5, 0.5]], [0, 1], "labels"),
        ([0, 1], [[0.5, 0.5], [0.5, 0.5]], [0, 2], "decisions"),
        ([0, 1, 1], [[0.5, 0.5], [0.5, 0.5]], [0, 1], "labels"),
    ],
)
def test_what_does_not_belong_together_is_refused(labels: Any, p: Any, d: Any, where: str) -> None:
    with pytest.raises(DataError) as caught:
        evaluate_all("binary", np.array(labels), np.array(p), np.array(d))
    assert caught.value.where == where
