"""Our metrics are MedMNIST's: its evaluator's published definitions, written anew, on files in its npz layout.

Yang et al., 2023 (MedMNIST v2): AUC is the area under the ROC curve and ACC is accuracy at 0.5 or of the largest score.
Binary: of the positive class. Multi-label: the mean over labels of the binary AUC, and of decisions above 0.5 over all
pairs of image and label. Multi-class, and RetinaMNIST's ordinal regression alike: the unweighted mean over classes of
one class against the rest, and the most probable class.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medsweep.params import Source
from medsweep.sources.catalog import open_source
from medsweep.statistics.metrics import evaluate_all
from medsweep.statistics.operating_points import decide

ROOT = Path(__file__).parents[2]
PNEUMONIA = ROOT.parent / "shared" / "data" / "pneumoniamnist" / "pneumoniamnist.npz"
# One set of each task: classes or labels, images of the test split, channels.
SETS = {
    "breastmnist": ("binary", 2, 90, 1),
    "bloodmnist": ("multiclass", 8, 160, 3),
    "retinamnist": ("ordinal", 5, 150, 3),
    "chestmnist": ("multilabel", 14, 120, 1),
}


def pairs_won(positive: np.ndarray, score: np.ndarray) -> float:
    """The area under the ROC curve as the chance that a positive outscores a negative, ties counting one half."""
    above = score[positive][:, None] - score[~positive][None, :]
    return float(((above > 0) + 0.5 * (above == 0)).mean())


def published_auc(task: str, y_true: np.ndarray, y_score: np.ndarray) -> float:
    if task == "multilabel":
        return float(np.mean([pairs_won(y_true[:, k] == 1, y_score[:, k]) for k in range(y_true.shape[1])]))
    truth = y_true.ravel()
    if task == "binary":
        return pairs_won(truth == 1, y_score[:, -1])
    return float(np.mean([pairs_won(truth == k, y_score[:, k]) for k in range(y_score.shape[1])]))


def published_acc(task: str, y_true: np.ndarray, y_score: np.ndarray) -> float:
    if task == "multilabel":
        return float(np.mean([np.mean((y_score[:, k] > 0.5) == y_true[:, k]) for k in range(y_true.shape[1])]))
    truth = y_true.ravel()
    if task == "binary":
        return float(np.mean((y_score[:, -1] > 0.5) == truth))
    return float(np.mean(np.argmax(y_score, axis=1) == truth))


def scores_for(task: str, labels: np.ndarray, k: int, seed: int = 4) -> np.ndarray:
    """Scores in float32 with ties, as networks give them."""
    rng = np.random.default_rng(seed)
    marks = labels if task == "multilabel" else np.eye(k)[labels.ravel()]
    raw = np.round(rng.random(marks.shape) + 0.45 * marks, 2) + 0.01
    return (raw / 1.6 if task == "multilabel" else raw / raw.sum(axis=1, keepdims=True)).astype(np.float32)


def npz(path: Path, task: str, k: int, n: int, channels: int) -> np.ndarray:
    """A file in MedMNIST's layout: labels (N, 1), or (N, L) for multi-label; the test split's labels."""
    rng = np.random.default_rng(len(path.stem))
    arrays: dict[str, Any] = {}
    for split, size in (("train", 4 * k), ("val", 2 * k), ("test", n)):
        # Every class is there.
        labels = rng.integers(0, 2, (size, k)) if task == "multilabel" else (np.arange(size) % k)[:, None]
        shape = (size, 28, 28) if channels == 1 else (size, 28, 28, channels)
        arrays[f"{split}_images"] = rng.integers(0, 256, shape, dtype=np.uint8)
        arrays[f"{split}_labels"] = labels.astype(np.uint8)
    np.savez(path, **arrays)
    return np.asarray(arrays["test_labels"])


def as_read(path: Path) -> tuple[str, np.ndarray]:
    """The task, and the test split's labels as medsweep's source reads them."""
    source = open_source(Source(kind="medmnist", path=path.name), path.parent)
    labels = [record.label for record in source.records() if record.split == "test"]
    return source.task, np.asarray(labels, dtype=np.uint8 if source.task == "multilabel" else np.int64)


def check(task: Any, labels: np.ndarray, y_true: np.ndarray, scores: np.ndarray) -> None:
    found = evaluate_all(
        task, labels, scores, decide(task, scores, [0.5] * scores.shape[1] if task == "multilabel" else 0.5)
    )
    assert found["auroc"] == pytest.approx(published_auc(task, y_true, scores), abs=1e-9)
    name = "accuracy_at_half" if task in ("binary", "multilabel") else "accuracy"
    assert found[name] == pytest.approx(published_acc(task, y_true, scores), abs=1e-12)
    assert 0.55 < found["auroc"] < 0.99


@pytest.mark.parametrize("name", SETS)
def test_metrics_are_medmnists_on_its_layout(name: str, tmp_path: Path) -> None:
    task, k, n, channels = SETS[name]
    y_true = npz(tmp_path / f"{name}.npz", task, k, n, channels)
    read_task, labels = as_read(tmp_path / f"{name}.npz")
    assert read_task == task and labels.shape == ((n, k) if task == "multilabel" else (n,))
    check(task, labels, y_true, scores_for(task, y_true, k))


@pytest.mark.skipif(not PNEUMONIA.is_file(), reason="../shared/data/pneumoniamnist is not here")
def test_metrics_are_medmnists_on_pneumoniamnist() -> None:
    with np.load(PNEUMONIA) as arrays:
        y_true = arrays["test_labels"]
    task, labels = as_read(PNEUMONIA)
    assert task == "binary" and (labels.sum(), len(labels)) == (390, 624)
    check(task, labels, y_true, scores_for(task, y_true, 2))
