"""Feature statistics block by block against numpy and scikit-learn on all of it; distances and energies by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.covariance import OAS, EmpiricalCovariance

from medsweep.statistics.features import FeatureMoments, energy, mahalanobis


def test_blocks_add_up_to_the_whole() -> None:
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 3, 500)
    x = rng.normal(1000.0, 1.0, (500, 6)) @ rng.normal(size=(6, 6)) + groups[:, None]
    moments = FeatureMoments(3)
    for start in range(0, 500, 70):
        moments.add(x[start : start + 70], groups[start : start + 70])
    means, covariance = moments.means_and_covariance()
    expected = np.stack([x[groups == k].mean(axis=0) for k in range(3)])
    np.testing.assert_allclose(means, expected, rtol=1e-12)
    reference = OAS(assume_centered=True).fit(x - expected[groups]).covariance_
    np.testing.assert_allclose(covariance, reference, rtol=2e-3, atol=2e-5 * reference.max())


def test_a_class_without_images_has_no_mean_and_a_dead_feature_no_division_by_zero() -> None:
    moments = FeatureMoments(3)
    moments.add(np.array([[1.0, 0.0], [2.0, 0.0], [4.0, 0.0]]), np.array([0, 0, 2]))
    means, covariance = moments.means_and_covariance()
    assert means.tolist() == [[1.5, 0.0], [4.0, 0.0]]
    assert np.isfinite(mahalanobis(np.array([[1.5, 3.0]]), means, covariance)).all()
    constant = FeatureMoments(1)
    constant.add(np.ones((5, 2)), np.zeros(5, np.int64))
    means, covariance = constant.means_and_covariance()
    assert mahalanobis(np.ones((1, 2)), means, covariance)[0] == 0.0
    with pytest.raises(ValueError, match="no features"):
        FeatureMoments(2).means_and_covariance()


def test_distance_is_scikit_learns_to_the_nearest_class() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(300, 4)) @ rng.normal(size=(4, 4))
    known = EmpiricalCovariance().fit(x)
    points = rng.normal(size=(20, 4)) * 3
    means = np.stack([known.location_, known.location_ + 2])
    expected = np.minimum(known.mahalanobis(points), known.mahalanobis(points - 2))
    np.testing.assert_allclose(mahalanobis(points, means, known.covariance_) ** 2, expected, rtol=1e-9)


def test_energy() -> None:
    logits = np.array([[0.0, 0.0], [1000.0, 0.0], [-3.0, 2.0]])
    np.testing.assert_allclose(energy("binary", logits), [-np.log(2), -1000.0, -np.log(np.exp(-3) + np.exp(2))])
    np.testing.assert_allclose(energy("multilabel", logits[2:]), [-np.log1p(np.exp(-3)) - np.log1p(np.exp(2))])
