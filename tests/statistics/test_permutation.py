"""Random groups of patients: what is dealt stays whole, labels stay as they are, and p-values keep their level."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from medsweep.statistics import permutation
from medsweep.statistics.permutation import permuted_members, worse_than_chance


def dealt_of(member: Any, groups: Any, strata: Any, samples: int = 200) -> np.ndarray:
    parts = permuted_members(np.asarray(member), np.asarray(groups), np.asarray(strata), samples=samples, seed=1)
    return np.concatenate(list(parts), axis=1)


def test_patients_stay_whole_and_each_label_keeps_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = np.repeat(np.arange(12), 2)
    member, label = np.where(groups % 3 == 0, 1, 0), np.where(groups < 6, 0, 1)
    found = dealt_of(member, groups, label)
    assert found.shape == (24, 200)
    np.testing.assert_array_equal(found[::2], found[1::2])
    for kind in (0, 1):
        expected = (member[label == kind] == 1).sum()
        assert set(found[label == kind].sum(axis=0)) == {expected}
    assert (found.std(axis=1) > 0).all(), "everybody is dealt anew"
    monkeypatch.setattr(permutation, "_CELLS_AT_ONCE", 24 * 7)
    assert dealt_of(member, groups, label).shape == (24, 200)


def test_patients_with_other_labels_are_not_exchanged() -> None:
    # Patient 0 alone has images of both labels, so nobody can take its place.
    groups, label = np.array([0, 0, 1, 2, 3, 4]), np.array([0, 1, 0, 0, 1, 1])
    found = dealt_of([1, 1, 0, 1, 0, 1], groups, label)
    assert (found[:2] == 1).all() and set(found[2]) == {0, 1}


def test_a_patient_in_two_subgroups_counts_as_one_in_each() -> None:
    found = dealt_of([0, 1, 0, 1], [7, 7, 8, 8], [0, 0, 0, 0])
    assert {tuple(column) for column in found.T} <= {
        (a, b, c, d) for a in (0, 1) for b in (0, 1) for c in (0, 1) for d in (0, 1)
    }
    assert set(found.sum(axis=0)) == {2}


def test_a_bad_subgroup_has_a_small_p_and_p_values_of_chance_are_even() -> None:
    rng = np.random.default_rng(0)
    patients = np.arange(90)
    label, member = patients % 2, patients % 3

    def p_of(right: np.ndarray) -> dict[int, dict[str, float]]:
        def accuracy(weights: np.ndarray) -> dict[str, np.ndarray]:
            return {"accuracy": (right[:, None] * weights).sum(axis=0) / weights.sum(axis=0)}

        observed = {k: {"accuracy": float(right[member == k].mean())} for k in range(3)}
        dealt = permuted_members(member, patients, label, samples=199, seed=2)
        return worse_than_chance(accuracy, observed, {"accuracy": True}, dealt)

    bad = p_of((rng.random(90) < np.where(member == 1, 0.4, 0.9)).astype(float))
    assert bad[1]["accuracy"] == pytest.approx(1 / 200) and bad[0]["accuracy"] > 0.5
    chance = [p_of(rng.random(90) < 0.7 + 0.0 * member)[0]["accuracy"] for _ in range(200)]
    assert np.mean(np.array(chance) <= 0.05) <= 0.08 and np.mean(np.array(chance) <= 0.5) < 0.62


def test_errors_are_worse_when_higher_and_undefined_stays_so() -> None:
    values = np.arange(20.0)

    def mean(weights: np.ndarray) -> dict[str, np.ndarray]:
        return {"brier": (values[:, None] * weights).sum(axis=0) / weights.sum(axis=0)}

    member = (np.arange(20) >= 15).astype(np.int64)
    dealt = permuted_members(member, np.arange(20), np.zeros(20), samples=99, seed=0)
    found = worse_than_chance(mean, {1: {"brier": 17.0}, 0: {"brier": float("nan")}}, {"brier": False}, dealt)
    assert found[1]["brier"] == pytest.approx(0.01) and np.isnan(found[0]["brier"])
