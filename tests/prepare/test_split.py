"""Splits: what is given stays, what is missing is grouped, stratified and the same for any names."""

from __future__ import annotations

import numpy as np
import pytest

from medsweep.errors import DataError
from medsweep.params import Split
from medsweep.prepare import split as module
from medsweep.prepare.split import assign_splits, groups_of

SETTINGS = Split(val=0.15, test=0.15, seed=7)
TRAIN, VAL, TEST = range(3)


def patients(n, *, images=3, split=None, start=0, share=0.3):
    """n patients with some images each, a share of them positive."""
    return [
        (f"c{patient}-{image}", int(patient % 10 < 10 * share), f"p{patient}", split)
        for patient in range(start, start + n)
        for image in range(1 + patient % images)
    ]


def test_groups_stay_together_and_labels_are_stratified(make_table):
    table = make_table(patients(200))
    codes = assign_splits(table, SETTINGS, n_classes=2).codes
    for patient in np.unique(table.patient_ids):
        assert len(set(codes[table.patient_ids == patient].tolist())) == 1
    overall = table.labels.mean()
    for code, share in ((VAL, 0.15), (TEST, 0.15), (TRAIN, 0.7)):
        assert abs((codes == code).mean() - share) < 0.03
        assert abs(table.labels[codes == code].mean() - overall) < 0.03


@pytest.mark.parametrize("images", [1, 3], ids=["single images", "patients"])
def test_many_groups_take_the_quick_way_with_the_same_properties(make_table, monkeypatch, images):
    monkeypatch.setattr(module, "_MOST_GROUPS", 50)
    table = make_table(patients(400, images=images))
    codes = assign_splits(table, SETTINGS, n_classes=2).codes
    assert all(len(set(codes[table.patient_ids == each].tolist())) == 1 for each in np.unique(table.patient_ids))
    for code in (TRAIN, VAL, TEST):
        assert abs(table.labels[codes == code].mean() - table.labels.mean()) < 0.03
    assert abs((codes == TEST).mean() - 0.15) < 0.03


def test_200_000_single_images_are_dealt_out_at_once(make_table):
    from dataclasses import replace

    n = 200_000
    seed = make_table([("a", 0, None, None)])
    ids = np.array([f"{index:016x}" for index in range(n)])
    table = replace(
        seed.take(np.zeros(n, dtype=np.int64)),
        record_ids=ids,
        patient_ids=np.full(n, ""),
        pixels=ids.astype("S32"),
        labels=np.arange(n) % 7 // 6,
    )
    codes = assign_splits(table, SETTINGS, n_classes=2).codes
    assert abs((codes == VAL).mean() - 1 / 7) < 1e-3
    assert abs(table.labels[codes == VAL].mean() - 1 / 7) < 1e-3


def test_only_content_and_seed_count(make_table):
    images = patients(60)
    one = make_table(images)
    two = make_table([(content, label, f"x{patient}", split) for content, label, patient, split in images][::-1])
    first = assign_splits(one, SETTINGS, n_classes=2).codes
    np.testing.assert_array_equal(first, assign_splits(two, SETTINGS, n_classes=2).codes)
    other = assign_splits(one, Split(val=0.15, test=0.15, seed=8), n_classes=2).codes
    assert (first != other).any()


@pytest.mark.parametrize(
    ("given", "carved"),
    [
        (["train", "test"], ["val"]),
        (["train", "val"], ["test"]),
        (["train"], ["val", "test"]),
        (["train", "val", "test"], []),
    ],
)
def test_given_splits_are_kept(make_table, given, carved):
    images = []
    for number, name in enumerate(given):
        images += patients(40, split=name, start=100 * number)
    table = make_table(images)
    found = assign_splits(table, SETTINGS, n_classes=2)
    assert list(found.given) == given and list(found.carved) == carved
    kept = table.splits != TRAIN
    np.testing.assert_array_equal(found.codes[kept], table.splits[kept])
    for name in carved:
        code = ("train", "val", "test").index(name)
        assert set(table.splits[found.codes == code].tolist()) == {TRAIN}
        assert 0.1 < (found.codes == code).sum() / (table.splits == TRAIN).sum() < 0.2


def test_no_training_images(make_table):
    with pytest.raises(DataError, match="no training images"):
        assign_splits(make_table(patients(20, split="test")), SETTINGS, n_classes=2)


def test_too_few_patients(make_table):
    with pytest.raises(DataError, match="2 patients"):
        assign_splits(make_table(patients(2)), SETTINGS, n_classes=2)


def test_patients_with_near_identical_images_are_one_group_and_stay_together(make_table):
    table = make_table(patients(120))
    alike = np.arange(len(table))
    first = [int(np.flatnonzero(table.patient_ids == name)[0]) for name in np.unique(table.patient_ids)]
    alike[first[1::2]] = alike[first[::2]]
    groups = groups_of(table, alike)
    assert len(np.unique(groups)) == 60
    codes = assign_splits(table, SETTINGS, n_classes=2, alike=alike).codes
    assert all(len(set(codes[groups == each].tolist())) == 1 for each in range(60))
    apart = assign_splits(table, SETTINGS, n_classes=2).codes
    assert any(len(set(apart[groups == each].tolist())) > 1 for each in range(60))


def test_images_with_identical_pixels_are_one_group(make_table):
    # q shares pixels with p, r shares pixels with q: all three belong together.
    contents = ("a", "b", "a/2", "b/2", "c")
    images = [(content, 0, patient, None) for content, patient in zip(contents, "pqqrs", strict=True)]
    table = make_table(images)
    groups = groups_of(table)
    assert sorted(np.bincount(groups).tolist()) == [1, 4]
    alone = np.flatnonzero(groups == np.bincount(groups).argmin())
    assert np.unique(table.pixels, return_counts=True)[1].tolist().count(1) == 1
    assert (table.pixels == table.pixels[alone[0]]).sum() == 1


def test_rare_class_is_in_every_split_where_that_can_be(make_table):
    images = [(f"c{index}", 0, f"p{index}", None) for index in range(60)]
    images += [(f"r{index}", 1, f"r{index}", None) for index in range(3)]
    codes_of = make_table(images)
    codes = assign_splits(codes_of, SETTINGS, n_classes=2).codes
    assert sorted(codes[codes_of.labels == 1].tolist()) == [TRAIN, VAL, TEST]


def test_multilabel_is_stratified_by_label_set(make_table):
    rng = np.random.default_rng(0)
    labels = (rng.random((600, 3)) < (0.5, 0.2, 0.1)).astype(int).tolist()
    images = [(f"c{index}", tuple(label), None, None) for index, label in enumerate(labels)]
    table = make_table(images)
    codes = assign_splits(table, SETTINGS, n_classes=3).codes
    for code in (VAL, TEST):
        assert np.abs(table.labels[codes == code].mean(axis=0) - table.labels.mean(axis=0)).max() < 0.05


@pytest.mark.parametrize(
    ("shares", "folds"), [([0.15, 0.15], 7), ([0.2], 5), ([0.1, 0.1], 10), ([0.3], 10), ([0.5], 2)]
)
def test_number_of_folds(shares, folds):
    assert module._fold_count(shares, 20) == folds
