"""Folds of patients, what a network of a fold is trained and looked at with, and when `auto` asks for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medsweep.artifacts.prepared import PreparedSplit
from medsweep.errors import DataError
from medsweep.params import Params
from medsweep.train.examples import ALL, HOLDOUT, OpenSplits, Part, TrainingData, subset
from medsweep.train.validation import ENOUGH, Validation, validation_of


def settings(small_params: Callable[..., Params], kind: str, folds: int = 3, repeats: int = 2) -> Any:
    return small_params(search={"validation": kind, "cross_validation": {"folds": folds, "repeats": repeats}}).train


@pytest.fixture(params=["multiclass", "multilabel"])
def splits(
    request: pytest.FixtureRequest,
    small_params: Callable[..., Params],
    write_data: Callable[..., PreparedSplit],
    tmp_path: Path,
) -> tuple[TrainingData, PreparedSplit, PreparedSplit]:
    write_data(tmp_path, small_params(), task=request.param)
    data = TrainingData(
        tmp_path / "data/prepared/train", tmp_path / "data/prepared/val", tmp_path / "data/augmented", "d"
    )
    return data, *(PreparedSplit.load(each) for each in (data.train, data.val))


def with_patients(split: PreparedSplit, first: int, size: int) -> PreparedSplit:
    return replace(split, patient_ids=np.array([f"p{first + index // size}" for index in range(len(split))]))


def test_folds_hold_whole_patients_and_every_image_once_a_repeat(
    splits: tuple[TrainingData, PreparedSplit, PreparedSplit], small_params: Callable[..., Params]
) -> None:
    train, val = with_patients(splits[1], 0, 2), with_patients(splits[2], 11, 2)  # one patient has images in both
    found = validation_of(settings(small_params, "cross_validation"), train, val)
    assert found.folds is not None and found.folds.shape == (2, len(train) + len(val))
    assert found.kind == "cross_validation" and len(found.parts) == 6
    for repeat in found.folds:
        assert set(repeat) == {0, 1, 2}
        for patient in set(found.groups):
            assert len(set(repeat[found.groups == patient])) == 1
    assert (found.folds[0] != found.folds[1]).any(), "a repeat deals anew"
    again = validation_of(settings(small_params, "cross_validation"), train, val)
    assert again.folds is not None and (again.folds == found.folds).all()
    if train.task == "multiclass":
        shares = [
            np.bincount(np.concatenate([train.labels, val.labels])[found.folds[0] == k], minlength=3) for k in range(3)
        ]
        assert np.ptp(np.stack(shares), axis=0).max() <= 3


def test_stored_predictions_come_together_in_the_images_order(
    splits: tuple[TrainingData, PreparedSplit, PreparedSplit], small_params: Callable[..., Params], tmp_path: Path
) -> None:
    _, train, val = splits
    found = validation_of(settings(small_params, "cross_validation"), train, val)
    assert found.folds is not None
    truth = np.random.default_rng(0).random((2, len(found.labels), 3)).astype(np.float32)
    paths = []
    for index, part in enumerate(found.parts):
        paths.append(tmp_path / f"{index}.npy")
        np.save(paths[-1], truth[part.repeat][found.folds[part.repeat] == part.fold])
    assert (found.predictions(paths) == truth).all()


def test_auto_looks_at_the_patients_of_the_rarest_class(small_params: Callable[..., Params]) -> None:
    def split(n: int, size: int) -> PreparedSplit:
        labels = (np.arange(n) // size % 2).astype(np.int64)
        return PreparedSplit(
            "val",
            np.zeros((n, 16, 16, 1), np.uint8),
            labels,
            np.array([f"r{index}" for index in range(n)]),
            np.array([f"p{index // size}" for index in range(n)]),
            ("a", "b"),
            "binary",
            255,
        )

    train = settings(small_params, "auto")
    enough: Validation = validation_of(train, split(200, 2), split(4 * ENOUGH, 2))
    assert (enough.kind, enough.parts) == ("holdout", (HOLDOUT,)) and "30 patients" in enough.why
    # As many images, of fewer patients.
    assert validation_of(train, split(200, 2), split(4 * ENOUGH, 4)).kind == "cross_validation"
    with pytest.raises(DataError, match=r"cross_validation.folds.*'a' has 1"):
        validation_of(settings(small_params, "cross_validation", folds=5), split(4, 2), split(4, 2))
    few = validation_of(settings(small_params, "auto", folds=5), split(4, 2), split(4, 2))
    assert few.kind == "holdout" and "too few patients for 5 folds" in few.why


def test_a_fold_trains_on_all_other_images_and_is_standardized_by_them(
    splits: tuple[TrainingData, PreparedSplit, PreparedSplit], small_params: Callable[..., Params], tmp_path: Path
) -> None:
    data, train, val = splits
    found = validation_of(settings(small_params, "cross_validation"), train, val)
    assert found.folds is not None
    np.save(tmp_path / "folds.npy", found.folds)
    opened = OpenSplits(replace(data, folds=tmp_path / "folds.npy"))
    assert opened.part(HOLDOUT) is opened
    every = np.concatenate([train.images, val.images])
    for part, held in ((Part("fold", 1, 2), found.folds[1] == 2), (ALL, np.zeros(len(every), np.bool_))):
        there = opened.part(part)
        assert len(there.train) == (~held).sum() and len(there.val) == held.sum()
        assert (there.train.images[:] == every[~held]).all() and (there.val.images[:] == every[held]).all()
        assert (there.train.images[np.array([3, 1])] == every[~held][[3, 1]]).all()
        assert (there.train.record_ids == np.concatenate([train.record_ids, val.record_ids])[~held]).all()
        known = there.train.standardization
        assert known is not None
        assert known.mean == pytest.approx((every[~held] / 255).mean(axis=(0, 1, 2)))
        assert known.deviation == pytest.approx((every[~held] / 255).std(axis=(0, 1, 2)))
        few = subset(there.train, np.array([2, 0]))
        assert (few.images[:] == every[~held][[2, 0]]).all() and len(few) == 2


def test_views_of_validation_images_are_of_the_same_policy(
    splits: tuple[TrainingData, PreparedSplit, PreparedSplit], small_params: Callable[..., Params]
) -> None:
    data, train, val = splits
    opened = OpenSplits(data)
    there = opened.part(ALL)
    n = len(train) + len(val)
    rows = np.arange(2 * n)
    views = there.views("flip").rows(rows)
    every = np.concatenate([train.images, val.images])
    flipped = every[:, :, ::-1]
    same = (views == every[rows % n]).all(axis=(1, 2, 3))
    turned = (views == flipped[rows % n]).all(axis=(1, 2, 3))
    assert (same | turned).all(), "'flip' turns an image about or leaves it"
    of_val = rows % n >= len(train)
    assert same[of_val].any() and turned[of_val].any()
    # Those of training images are the ones that augment drew.
    of_train = np.flatnonzero(~of_val)
    drawn = opened.views("flip").rows(np.concatenate([np.arange(len(train)), len(train) + np.arange(len(train))]))
    assert (views[of_train] == drawn).all()
    assert (OpenSplits(data).part(ALL).views("flip").rows(rows) == views).all()
