"""Intervals side by side, what this test size could show, and the cautions of bad cases."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from medsweep.evaluate.certainty import certainties, intervals
from medsweep.evaluate.power import power
from medsweep.statistics.power import minimum_detectable

Make = Callable[..., Any]
TASKS = ["binary", "multiclass", "ordinal", "multilabel"]


@pytest.mark.parametrize("task", TASKS)
def test_bootstrap_and_formula_agree_and_images_alone_promise_too_much(
    make_evaluated: Make, example: Make, task: str
) -> None:
    labels, p = example(task, n=240)
    evaluated = make_evaluated(labels, p, task=task, threshold=0.5 if task == "binary" else [0.5] * 3)
    section = intervals(evaluated)
    found = section.values["auroc"]
    drawn = evaluated.report.metrics["auroc"]
    assert found["value"] == pytest.approx(drawn.value)
    assert (found["low"], found["high"]) == pytest.approx((drawn.low, drawn.high), abs=0.03)
    assert found["high"] - found["low"] > 1.2 * (found["naive_high"] - found["naive_low"])
    assert 1.4 < found["design_effect"] < 2.6
    assert "too narrow" in section.words[1]
    accuracy = section.values["accuracy"]
    assert accuracy["value"] == pytest.approx(evaluated.report.metrics["accuracy"].value)
    assert accuracy["low"] <= accuracy["naive_low"] < accuracy["value"] < accuracy["naive_high"] <= accuracy["high"]
    wanted = {"binary": 6, "multiclass": 5, "ordinal": 5, "multilabel": 5}[task]
    assert len(section.tables[0].rows) == wanted
    json.dumps(section.values, allow_nan=False)


def test_one_image_a_patient_needs_no_correction(make_evaluated: Make, example: Make) -> None:
    labels, p = example()
    section = intervals(make_evaluated(labels, p, patients=np.arange(160)))
    assert "independent" in section.words[1]
    for each in section.values.values():
        assert (each["low"], each["high"]) == (each["naive_low"], each["naive_high"])
        assert each["design_effect"] is None
    nobody = intervals(make_evaluated(labels, p, patients=np.array([""] * 160)))
    assert "names no patients" in nobody.words[1]


@pytest.mark.parametrize("task", TASKS)
def test_smallest_difference_comes_from_the_standard_error(make_evaluated: Make, example: Make, task: str) -> None:
    labels, p = example(task)
    evaluated = make_evaluated(labels, p, task=task, threshold=0.5 if task == "binary" else [0.5] * 3)
    section = power(evaluated)
    error = next(each.error for each in certainties(evaluated) if each.name == "auroc")
    found = section.values["metrics"]["auroc"]
    assert found["against_a_fixed_value"] == pytest.approx(minimum_detectable(error, confidence=0.95, power=0.8))
    assert found["other_images"] == pytest.approx(2**0.5 * found["same_images"])
    n = 80 * (found["same_images"] / 0.05) ** 2
    assert n <= found["patients_needed"] < n + 1
    assert f"{found['same_images']:.3f}" in section.words[0] and "80 patients" in section.words[0]
    assert (evaluated.plots / "power.svg").is_file()


def said(evaluated: Any) -> str:
    return " ".join(evaluated.report.cautions)


def test_one_class_only(make_evaluated: Make, example: Make) -> None:
    _, p = example()
    evaluated = make_evaluated(np.zeros(160, np.int64), p)
    assert "No test image is 'malignant'" in said(evaluated)
    section = intervals(evaluated)
    assert "undefined" in section.words[0] and section.values["auroc"]["value"] is None
    assert section.values["sensitivity"]["value"] is None and section.values["accuracy"]["value"] is not None
    assert power(evaluated).tables[0].rows[0][0] == "accuracy"


def test_five_patients(make_evaluated: Make, example: Make) -> None:
    evaluated = make_evaluated(*example(n=10))
    assert "only 5 patients" in said(evaluated)
    assert intervals(evaluated).warnings == evaluated.report.cautions
    assert power(evaluated).values["size"] == 5
    one = make_evaluated(*example(n=2), patients=[0, 0])
    assert "one patient only" in said(one)
    assert intervals(one).values["auroc"]["low"] is None and power(one).words
    rare = make_evaluated(np.repeat([0, 1], [156, 4]), example()[1])
    assert "Only 2 patients with 'malignant'" in said(rare)


def test_all_predictions_equal(make_evaluated: Make, example: Make) -> None:
    labels, _ = example()
    evaluated = make_evaluated(labels, np.full((160, 2), 0.5))
    assert "same probabilities" in said(evaluated)
    assert intervals(evaluated).values["auroc"] | {"method": "", "design_effect": None} == {
        "value": 0.5,
        "low": None,
        "high": None,
        "standard_error": 0.0,
        "naive_low": None,
        "naive_high": None,
        "design_effect": None,
        "method": "",
    }
    low = np.linspace(0.1, 0.3, 160)
    assert "decided alike" in said(make_evaluated(labels, np.stack([1 - low, low], axis=1)))


def test_nothing_wrong_and_everything_right(make_evaluated: Make, example: Make) -> None:
    labels, p = example()
    assert make_evaluated(labels, p).report.cautions == ()
    sure = np.stack([1.0 - 0.8 * labels, 0.8 * labels], axis=1) * 0.9 + 0.05
    perfect = make_evaluated(labels, sure)
    assert "does not mean certainty" in said(perfect)
    assert "no figure here has a variance" in power(perfect).words[0]
