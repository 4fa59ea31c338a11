"""Two models on the same images: figures against scikit-learn, the sentence, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from medsweep.artifacts.predicted import PredictedSplit
from medsweep.compare.address import Side
from medsweep.compare.pair import Comparison, compare
from medsweep.errors import DataError
from medsweep.params import Evaluate, parse

Make = Callable[..., PredictedSplit]


@pytest.fixture
def settings(default_params: dict[str, Any]) -> Evaluate:
    evaluate = default_params["evaluate"] | {"bootstrap": default_params["evaluate"]["bootstrap"] | {"samples": 300}}
    return parse(default_params | {"evaluate": evaluate}, where="params.yaml").evaluate


@pytest.fixture
def weigh(settings: Evaluate) -> Callable[[PredictedSplit, PredictedSplit], Comparison]:
    return lambda one, two: compare(Side("version 1", one), Side("version 2", two), settings)


def test_a_better_model_is_called_so(predict: Make, weigh: Any) -> None:
    from sklearn.metrics import roc_auc_score

    one, two = predict(0.6), predict(3.0, seed=2)
    found = weigh(one, two)
    expected = [roc_auc_score(each.labels, each.probabilities[:, 1]) for each in (one, two)]
    assert (found.area.first.value, found.area.second.value) == pytest.approx(expected, abs=1e-9)
    assert found.area.difference.value == pytest.approx(expected[1] - expected[0])
    assert found.metrics["auroc"].difference.value == pytest.approx(found.area.difference.value)
    assert (found.metrics["auroc"].difference.low, found.metrics["auroc"].difference.high) == pytest.approx(
        (found.area.difference.low, found.area.difference.high), abs=0.03
    )
    assert (found.metrics["auroc"].first, found.metrics["auroc"].second) == (found.area.first, found.area.second)
    assert found.area.p_value < 1e-6 and found.metrics["auroc"].p_value < 0.02
    assert "On the same 200 images of 100 patients" in found.sentence and "higher than" in found.sentence
    assert found.sentence.endswith("more than chance explains. Version 2 ranks these images better.")
    assert "p < 0.001" in found.sentence and "clustered" in found.decided
    # The other way round says the same the other way round.
    back = weigh(two, one)
    assert back.area.difference.value == -found.area.difference.value and back.area.p_value == found.area.p_value
    assert "lower than" in back.sentence and back.sentence.endswith("Version 2 ranks these images better.") is False
    assert "Version 1 ranks these images better." not in found.sentence


def test_equally_good_models_are_not_called_equal(predict: Make, weigh: Any) -> None:
    found = weigh(predict(1.5), predict(1.5, seed=2))
    assert found.area.p_value > 0.05 and "chance alone would give" in found.sentence
    assert found.detectable is not None and f"{found.detectable:.3f} or more" in found.sentence
    error = (found.area.difference.high - found.area.difference.low) / 2 / 1.959964
    assert found.detectable == pytest.approx((1.959964 + 0.841621) * error, rel=1e-5)


def test_the_order_of_rows_does_not_matter(predict: Make, weigh: Any) -> None:
    one, two = predict(), predict(seed=2)
    order = np.random.default_rng(0).permutation(200)
    shuffled = predict(
        seed=2,
        **{
            name: getattr(two, name)[order]
            for name in ("record_ids", "patient_ids", "labels", "probabilities", "decisions")
        },
    )
    assert weigh(one, two) == weigh(one, shuffled)


def test_the_same_model_twice(predict: Make, weigh: Any) -> None:
    found = weigh(predict(), predict())
    assert found.identical and "the same probabilities for every image" in found.sentence
    assert found.area.p_value == 1.0 and "right and wrong on the same images" in found.decided


@pytest.mark.parametrize("task", ["multiclass", "ordinal", "multilabel"])
def test_other_tasks(predict: Make, weigh: Any, task: str) -> None:
    found = weigh(predict(0.3, task=task), predict(3.0, seed=2, task=task))
    assert found.area.difference.low > 0 and found.metrics["cohen_kappa"].difference.low > 0
    assert ("decisions on labels" in found.decided) == (task == "multilabel")
    json.dumps(found.as_json(), allow_nan=False)


def test_without_patients_images_are_what_is_resampled(predict: Make, weigh: Any) -> None:
    found = weigh(predict(patients=False), predict(seed=2, patients=False))
    assert found.unit == "images" and "names no patients" in found.sentence
    assert found.decisions.exact is not None and "mid-p" in found.decided


def test_one_class_only_five_patients_and_one_patient(predict: Make, weigh: Any) -> None:
    zeros = np.zeros(200, np.int64)
    found = weigh(predict(labels=zeros), predict(seed=2, labels=zeros))
    assert "AUROC is undefined" in found.sentence and found.as_json()["area"]["p_value"] is None
    assert found.metrics["accuracy"].difference.low < found.metrics["accuracy"].difference.high
    few = weigh(predict(n=10), predict(n=10, seed=2))
    assert "10 images of 5 patients" in few.sentence and "Only 5 patients" in (few.caution or "")
    assert found.caution is None
    single = weigh(predict(n=2), predict(n=2, seed=2))
    json.dumps(single.as_json(), allow_nan=False)
    assert "undefined" in single.sentence
    flat = np.full((200, 2), 0.5)
    equal = weigh(predict(probabilities=flat), predict(seed=2))
    assert equal.area.first.value == 0.5 and "higher than" in equal.sentence


def test_what_cannot_be_compared_is_refused(predict: Make, weigh: Any) -> None:
    one = predict()
    with pytest.raises(DataError, match=r"version 1 and version 2.*190 in both, 10 in the first alone, 0 in"):
        weigh(one, predict(n=190, seed=2))
    relabelled = one.labels.copy()
    relabelled[:3] = 1 - relabelled[:3]
    with pytest.raises(DataError, match="3 of 200 images have other labels"):
        weigh(one, predict(labels=relabelled))
    with pytest.raises(DataError, match="classes differ"):
        weigh(one, predict(class_names=("malignant", "benign")))
    broken = one.probabilities.copy()
    broken[0] = np.nan
    with pytest.raises(DataError, match="NaN"):
        weigh(one, predict(probabilities=broken))
