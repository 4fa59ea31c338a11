"""AUROC's variance against published figures, formulas written out as published, and scikit-learn."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from medsweep.errors import DataError
from medsweep.statistics.areas import Areas, area_interval, areas, auroc_intervals, class_curves, plain_interval
from medsweep.statistics.paired import area_difference, model_areas
from medsweep.statistics.proportions import proportion

# DeLong, DeLong & Clarke-Pearson (1988): 49 patients with ovarian cancer, of whom the SAS/STAT manual ("Comparing
# Receiver Operating Characteristic Curves", PROC LOGISTIC) prints the 43 without a missing value: albumin, total
# protein, ten minus the K-G score, and whether the patient died.
OVARIAN = """
3.0 5.8 10 0  3.2 6.3 5 1  3.9 6.8 3 1  2.8 4.8 6 0  3.2 5.8 3 1  0.9 4.0 5 0  2.5 5.7 8 0  1.6 5.6 5 1
3.8 5.7 5 1  3.7 6.7 6 1  3.2 5.4 4 1  3.8 6.6 6 1  4.1 6.6 5 1  3.6 5.7 5 1  4.3 7.0 4 1  3.6 6.7 4 0
2.3 4.4 6 1  4.2 7.6 4 0  4.0 6.6 6 0  3.5 5.8 6 1  3.8 6.8 7 1  3.0 4.7 8 0  4.5 7.4 5 1  3.7 7.4 5 1
3.1 6.6 6 1  4.1 8.2 6 1  4.3 7.0 5 1  4.3 6.5 4 1  3.2 5.1 5 1  2.6 4.7 6 1  3.3 6.8 6 0  1.7 4.0 7 0
3.7 6.1 5 1  3.3 6.3 7 1  4.2 7.7 6 1  3.5 6.2 5 1  2.9 5.7 9 0  2.1 4.8 7 1  2.8 6.2 8 0  4.0 7.0 7 1
3.3 5.7 6 1  3.7 6.9 5 1  3.6 6.6 5 1
"""
OVARIAN_ROWS = np.array(OVARIAN.split(), dtype=float).reshape(-1, 4)


def as_published(positive: Any, scores: Any, groups: Any) -> tuple[np.ndarray, np.ndarray]:
    """Obuchowski's formulas by loops over all pairs of images: (C,) areas, (C, C) covariance of curves of one truth."""
    curves, names = scores.shape[1], sorted(set(groups))
    x, y = scores[positive], scores[~positive]
    group_x, group_y = groups[positive], groups[~positive]
    value, v10, v01 = np.empty(curves), np.empty((len(x), curves)), np.empty((len(y), curves))
    for c in range(curves):
        psi = np.array([[1.0 if a > b else 0.5 if a == b else 0.0 for b in y[:, c]] for a in x[:, c]])
        value[c], v10[:, c], v01[:, c] = psi.mean(), psi.mean(axis=1), psi.mean(axis=0)
    m, n = len(x), len(y)
    with_x, with_y = len(set(group_x)), len(set(group_y))
    covariance = np.zeros((curves, curves))
    for r in range(curves):
        for s in range(curves):
            s10 = s01 = s11 = 0.0
            for g in names:
                a, b = ((v10[group_x == g, c] - value[c]).sum() for c in (r, s))
                d, e = ((v01[group_y == g, c] - value[c]).sum() for c in (r, s))
                s10, s01, s11 = s10 + a * b, s01 + d * e, s11 + a * e + d * b
            s10 *= with_x / ((with_x - 1) * m)
            s01 *= with_y / ((with_y - 1) * n)
            s11 *= len(names) / (len(names) - 1)
            covariance[r, s] = s10 / m + s01 / n + s11 / (m * n)
    return value, covariance


def random_curves(n: int = 80, curves: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    positive = rng.random(n) < 0.4
    scores = np.round(rng.normal(size=(n, curves)) + positive[:, None] * np.arange(1, curves + 1) * 0.6, 1)
    return positive, scores


def test_areas_are_scikit_learns_with_ties() -> None:
    from sklearn.metrics import roc_auc_score

    positive, scores = random_curves()
    found = areas(np.tile(positive[:, None], 3), scores, np.arange(len(positive)))
    for c in range(3):
        assert found.values[c] == pytest.approx(roc_auc_score(positive, scores[:, c]), abs=1e-12)


@pytest.mark.parametrize("groups", [np.arange(80), np.arange(80) // 4, np.arange(80) % 17])
def test_covariance_is_obuchowskis_written_out(groups: np.ndarray) -> None:
    positive, scores = random_curves()
    found = areas(np.tile(positive[:, None], 3), scores, groups)
    value, covariance = as_published(positive, scores, groups)
    np.testing.assert_allclose(found.values, value, atol=1e-12)
    np.testing.assert_allclose(found.covariance, covariance, atol=1e-12)


def test_delong_on_the_published_ovarian_cancer_data() -> None:
    sick = OVARIAN_ROWS[:, 3] == 0
    # High albumin and protein and a low K-G score speak for survival; the areas are those of the reverse.
    scores = np.stack([-OVARIAN_ROWS[:, 0], -OVARIAN_ROWS[:, 1], OVARIAN_ROWS[:, 2]], axis=1)
    found = areas(np.tile(sick[:, None], 3), scores, np.arange(len(sick)))
    assert len(sick) == 43
    np.testing.assert_allclose(found.values, [0.7366, 0.6478, 0.7258], atol=5e-5)
    np.testing.assert_allclose(found.errors, [0.0927, 0.1000, 0.1028], atol=5e-5)
    contrast = found.combined(np.array([[1.0, 0.0, -1.0], [0.0, 1.0, -1.0]]))
    chi_square = contrast.values @ np.linalg.solve(contrast.covariance, contrast.values)
    assert chi_square == pytest.approx(2.5340, abs=5e-5)
    np.testing.assert_allclose(contrast.errors, [0.0953, 0.1046], atol=5e-5)
    albumin = area_difference(found, 2, 0, 0.95, 30)
    assert albumin.first.value == found.values[2] and albumin.difference.value == pytest.approx(0.0108, abs=5e-5)
    z = 0.0107526882 / 0.0953436244
    assert albumin.p_value == pytest.approx(math.erfc(z / math.sqrt(2)), abs=1e-6)
    assert albumin.difference.high == pytest.approx(0.01075269 + 1.959964 * 0.09534362, abs=1e-6)


def test_a_class_against_the_rest_and_a_model_against_another_share_one_covariance() -> None:
    rng = np.random.default_rng(1)
    labels, groups = rng.integers(0, 3, 120), np.arange(120) // 3
    raw = [rng.random((120, 3)) + 0.5 * np.eye(3)[labels] for _ in range(2)]
    one, two = (each / each.sum(axis=1, keepdims=True) for each in raw)
    found = model_areas("multiclass", labels, [one, two], groups)
    from sklearn.metrics import roc_auc_score

    for value, scores in zip(found.values, (one, two), strict=True):
        assert value == pytest.approx(roc_auc_score(labels, scores, multi_class="ovr"), abs=1e-9)
    # Against the infinitesimal jackknife by finite differences: the weight of one patient is moved a little.
    from medsweep.statistics.metrics import Predictions, evaluate_weighted

    step, gradients = 1e-5, []
    for scores in (one, two):
        known = Predictions("multiclass", labels, scores, scores.argmax(axis=1))
        moved = 1.0 + step * (np.arange(40)[None, :] == groups[:, None])
        base = evaluate_weighted(known, np.ones((120, 1)), ["auroc"])["auroc"]
        gradients.append((evaluate_weighted(known, moved, ["auroc"])["auroc"] - base) / step)
    expected = np.array([[a @ b for b in gradients] for a in gradients]) * 40 / 39
    np.testing.assert_allclose(found.covariance, expected, rtol=0.02)
    same = area_difference(model_areas("multiclass", labels, [one, one], groups), 0, 1, 0.95, 40)
    assert (same.difference.value, same.difference.low, same.difference.high, same.p_value) == (0, 0, 0, 1)


def test_multilabel_and_binary_curves() -> None:
    labels = np.array([[1, 0], [0, 1], [1, 1]], np.uint8)
    truth, scores = class_curves("multilabel", labels, np.full((3, 2), 0.5))
    assert truth.dtype == bool and truth.tolist() == labels.astype(bool).tolist() and scores.shape == (3, 2)
    truth, scores = class_curves("binary", np.array([0, 1]), np.array([[0.7, 0.3], [0.2, 0.8]]))
    assert truth.ravel().tolist() == [False, True] and scores.ravel().tolist() == [0.3, 0.8]


def test_plain_intervals_are_delongs() -> None:
    plain = plain_interval(0.9, 0.06, 0.95)
    assert (plain.low, plain.high) == pytest.approx((0.9 - 1.959964 * 0.06, 0.9 + 1.959964 * 0.06), abs=1e-6)


@pytest.mark.parametrize("value", [0.004, 0.3, 0.5, 0.9, 0.97, 0.9999])
def test_an_interval_ends_where_its_aurocs_own_error_times_students_t_reaches_the_value(value: float) -> None:
    found = area_interval(value, 0.02, 0.95, 25)

    def binormal(area: float) -> float:
        # Obuchowski, 1998: the variance of a binormal AUROC, equal numbers of both kinds, but for a factor.
        a = 1.4142135623730951 * norm.ppf(area)
        return math.sqrt(math.exp(-a * a / 2) * ((5 * a * a + 8) + (a * a + 8)))

    for end in (found.low, found.high):
        if 0.0 < end < 1.0:
            own = 0.02 * binormal(end) / binormal(value)
            assert abs(end - value) == pytest.approx(2.063899 * own, rel=1e-5)  # t of 24 degrees of freedom
    mirrored = area_interval(1.0 - value, 0.02, 0.95, 25)
    assert (1.0 - mirrored.high, 1.0 - mirrored.low) == pytest.approx((found.low, found.high), abs=1e-7)
    assert 0.0 <= found.low < value < found.high <= 1.0


def test_fewer_patients_give_a_wider_interval_and_near_1_it_leans_down() -> None:
    few, many = area_interval(0.95, 0.02, 0.95, 8), area_interval(0.95, 0.02, 0.95, 800)
    assert few.low < many.low and many.high < few.high
    assert many.value - many.low > many.high - many.value


def test_the_intervals_of_a_models_aurocs() -> None:
    rng = np.random.default_rng(2)
    labels, groups = rng.integers(0, 3, 150), np.arange(150) // 3
    scores = rng.random((150, 3)) + 0.8 * np.eye(3)[labels]
    found = auroc_intervals("multiclass", labels, scores, groups, 0.95)
    assert len(found) == 4 and found[0].value == pytest.approx(np.mean([each.value for each in found[1:]]))
    assert found[0].high - found[0].low < min(each.high - each.low for each in found[1:])
    (binary,) = auroc_intervals("binary", np.minimum(labels, 1), scores[:, :2], groups, 0.95)
    assert binary.low < binary.value < binary.high


def test_what_cannot_be_known_is_undefined() -> None:
    column = np.linspace(0, 1, 6)[:, None]
    nobody = areas(np.zeros((6, 1), bool), column, np.arange(6))
    assert math.isnan(nobody.values[0]) and math.isnan(area_interval(float(nobody.values[0]), 0.1, 0.95, 6).low)
    # All positive images are one patient's: what another patient's would be is not known.
    single = areas(column > 0.7, column, np.array([0, 1, 2, 3, 4, 4]))
    assert single.values[0] == 1.0 and math.isnan(single.errors[0])
    parted = areas(column > 0.5, column, np.arange(6))
    assert (parted.values[0], parted.errors[0]) == (1.0, 0.0)
    assert math.isnan(plain_interval(1.0, 0.0, 0.95).low) and math.isnan(area_interval(1.0, 0.0, 0.95, 6).low)
    assert math.isnan(area_interval(1.0, 0.1, 0.95, 6).low)  # an error of something else
    equal = areas(column > 0.5, np.full((6, 1), 0.3), np.arange(6))
    assert (equal.values[0], equal.errors[0]) == (0.5, 0.0)
    assert math.isnan(Areas(np.array([0.5]), np.array([[np.nan]])).errors[0])


def test_what_does_not_belong_together_is_refused() -> None:
    with pytest.raises(DataError, match="do not belong together"):
        areas(np.zeros((3, 1), bool), np.zeros((4, 1)), np.arange(3))
    with pytest.raises(DataError, match="NaN"):
        areas(np.array([[True], [False]]), np.array([[np.nan], [0.0]]), np.arange(2))


def test_coverage_with_clustered_patients_and_its_failure_without() -> None:
    # `bench/coverage.py` in small: 120 patients of 1 to 5 images, 40 % with the disease; the patient has .6 of the
    # scores' variance; the true AUROC is .9.
    rng = np.random.default_rng(11)
    shift = math.sqrt(2) * 1.2815515655
    covered: dict[str, list[tuple[bool, bool]]] = {"auroc": [], "proportion": []}
    for _ in range(600):
        patient = np.repeat(np.arange(120), rng.integers(1, 6, 120))
        positive = (np.arange(120) < 48)[patient]
        scores = shift * positive + rng.normal(0, 0.6**0.5, 120)[patient] + rng.normal(0, 0.4**0.5, len(patient))
        found = []
        for groups in (patient, np.arange(len(patient))):
            own = areas(positive[:, None], scores[:, None], groups)
            interval = area_interval(float(own.values[0]), float(own.errors[0]), 0.95, 48)
            right = proportion((scores >= shift / 2) == positive, groups, 0.95).interval
            found.append((interval.low <= 0.9 <= interval.high, right.low <= 0.8176 <= right.high))
        for index, name in enumerate(covered):
            covered[name].append((found[0][index], found[1][index]))
    for name, each in covered.items():
        by_patient, by_image = np.mean(each, axis=0)
        assert 0.93 <= by_patient <= 0.97, name
        assert by_image < 0.86, name
