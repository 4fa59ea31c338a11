"""Figures at the ends of what they must show: many classes, one class, no mistakes, odd names."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from medsweep.artifacts.evaluation import Estimate
from medsweep.artifacts.prepared import PreparedSplit
from medsweep.evaluate import figures, plot_data

CAPTION = figures.Caption("test split: 200 images of 50 patients", 0.95, synthetic=True)
NOTHING = Estimate(None, None, None)


def many_classes(k: int, *, present: int | None = None, n: int = 200) -> tuple[PreparedSplit, np.ndarray]:
    """A split of k classes, of which only the first `present` occur, and probabilities that go with the labels."""
    rng = np.random.default_rng(2)
    labels = rng.integers(0, present or k, n)
    raw = rng.random((n, k)) + 0.8 * np.eye(k)[labels]
    names = tuple(f"{'$class$' if index == 1 else 'a rather long name of class'} {index}" for index in range(k))
    split = PreparedSplit(
        name="test",
        images=np.zeros((n, 16, 16, 1), np.uint8),
        labels=labels.astype(np.int64),
        record_ids=np.array([f"{index:064d}" for index in range(n)]),
        patient_ids=np.array([""] * n),
        class_names=names,
        task="multiclass",
        value_range=255,
    )
    return split, raw / raw.sum(axis=1, keepdims=True)


def curves_of(split: PreparedSplit, probabilities: np.ndarray, estimate: Estimate) -> list[plot_data.ClassCurves]:
    own = {"sensitivity": 0.7, "specificity": 0.8, "ppv": None}
    return plot_data.curves_of(
        split,
        probabilities,
        dict.fromkeys(split.class_names, own),
        {k: {"auroc": estimate, "average_precision": estimate} for k in range(len(split.class_names))},
    )


@pytest.mark.parametrize("k", [11, 40])
def test_many_classes_have_a_legend_beside_the_curves(tmp_path: Path, k: int) -> None:
    split, probabilities = many_classes(k)
    curves = curves_of(split, probabilities, Estimate(0.8, 0.7, 0.9))
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        figures.roc(tmp_path / name / "roc.svg", curves, CAPTION)
        figures.precision_recall(tmp_path / name / "pr.svg", curves, CAPTION)
        confusion = np.arange(k * k).reshape(k, k)
        figures.confusion(tmp_path / name / "confusion.svg", confusion, split.class_names, CAPTION)
    for each in ("roc.svg", "pr.svg", "confusion.svg"):
        assert (tmp_path / "first" / each).read_bytes() == (tmp_path / "second" / each).read_bytes()
    drawn = (tmp_path / "first" / "roc.svg").read_text()
    _, _, width, height = map(float, re.search(r'viewBox="([^"]+)"', drawn)[1].split())
    assert width > 1.5 * height
    assert ("<title>ROC curve, test split. " in drawn and f"and {k - 12} more classes" in drawn) or k == 11
    assert "<dc:date>" not in drawn and "Matplotlib v" not in drawn
    assert "#b00020" in drawn.lower(), "the word 'synthetic' is missing"


def test_an_absent_class_is_called_undefined(tmp_path: Path) -> None:
    split, probabilities = many_classes(2, present=1)
    curves = curves_of(split, probabilities, NOTHING)
    assert len(curves[1].roc.x) == 0
    figures.roc(tmp_path / "roc.svg", curves, CAPTION)
    figures.precision_recall(tmp_path / "pr.svg", curves, CAPTION)
    those = plot_data.reliabilities_of(split, probabilities, 10)
    figures.calibration(tmp_path / "calibration.svg", those, CAPTION, NOTHING, NOTHING)
    assert CAPTION.interval("AUROC", NOTHING) == "AUROC undefined"
    written = plot_data.write_plot_data(tmp_path / "plots", split, np.zeros(200, np.int64), curves, [])
    roc = next(path for path in written if path.parent.name == "roc")
    assert roc.read_text() == "fpr,tpr,threshold\n"


def test_no_mistakes_is_said(tmp_path: Path) -> None:
    figures.worst_mistakes(tmp_path / "none.png", [], 0, 255, CAPTION)
    image = np.full((16, 16, 1), 40000, np.uint16)
    one = figures.Mistake(image, "benign", "malignant", 0.9, "f" * 64)
    figures.worst_mistakes(tmp_path / "one.png", [one], 1, 65535, CAPTION)
    assert (tmp_path / "none.png").read_bytes() != (tmp_path / "one.png").read_bytes()
