"""Policies are checked in words a user can act on, and draws depend on what they should alone."""

from __future__ import annotations

import numpy as np
import pytest

from medsweep.augment.policies import check_policies, draw_views
from medsweep.errors import ParamsError
from medsweep.params import Augment

GEOMETRIC = {"horizontal_flip": {"probability": 0.5}, "rotate": {"probability": 1.0, "degrees": 20}}
PHOTOMETRIC = {"gamma": {"probability": 0.7, "low": 0.7, "high": 1.4}, "noise": {"probability": 1.0, "deviation": 0.05}}


def chains(policies):
    return check_policies(Augment(seed=7, views=4, render_limit_mb=1, policies=policies))


def draws(policy="a", chain=GEOMETRIC, *, seed=7, n_images=5, n_views=4):
    checked = chains({policy: chain})[policy]
    return draw_views(policy, checked, seed=seed, n_images=n_images, n_views=n_views, prepared_digest="d").draws


def test_the_order_in_which_keys_are_written_changes_nothing():
    # DVC compares mappings without regard to order, so a reordered file must mean the same.
    found = chains({"b": dict(reversed(GEOMETRIC.items())), "a": GEOMETRIC | PHOTOMETRIC})
    assert list(found) == ["a", "b"]
    assert [link.transform for link in found["b"]] == ["horizontal_flip", "rotate"]
    assert [link.transform for link in found["a"]] == ["horizontal_flip", "rotate", "gamma", "noise"]


@pytest.mark.parametrize(
    ("chain", "words"),
    [
        ({"rotat": {"probability": 1.0}}, ["augment.policies.p:", "unknown transform 'rotat'", "horizontal_flip,"]),
        ({"rotate": {"probability": 1.0, "degree": 5}}, ["augment.policies.p.rotate.degree: unknown key"]),
        ({"rotate": {"degrees": 5}}, ["augment.policies.p.rotate.probability: is missing"]),
        ({"rotate": {"probability": 1.0}}, ["augment.policies.p.rotate.degrees: is missing"]),
        ({"rotate": {"probability": 1.5, "degrees": 5}}, ["augment.policies.p.rotate.probability:", "not 1.5"]),
        ({"rotate": {"probability": 1.0, "degrees": "5"}}, ["augment.policies.p.rotate.degrees:", "not '5'"]),
        ({"rotate": {"probability": 1.0, "degrees": 181}}, ["augment.policies.p.rotate.degrees:", "not 181"]),
        ({"scale": {"probability": 1.0, "low": 1.2, "high": 0.8}}, ["augment.policies.p.scale: low must not exceed"]),
        ({"scale": {"probability": 1.0, "low": 0, "high": 1}}, ["augment.policies.p.scale.low:", "not 0"]),
        ({"noise": {"probability": 1.0, "deviation": float("nan")}}, ["augment.policies.p.noise.deviation"]),
        ({"cutout": {"probability": 1.0, "share": 0.0}}, ["augment.policies.p.cutout.share:", "not 0.0"]),
        ({"horizontal_flip": {"probability": True}}, ["augment.policies.p.horizontal_flip.probability"]),
        ({}, ["augment.policies.p:", "no transforms"]),
    ],
)
def test_a_wrong_policy_is_named_by_its_dotted_path(chain, words):
    with pytest.raises(ParamsError) as caught:
        chains({"good": GEOMETRIC, "p": chain})
    for word in words:
        assert word in str(caught.value)


def test_more_views_keep_the_earlier_ones():
    for name, values in draws(n_views=8).items():
        assert np.array_equal(values[:20], draws(n_views=4)[name])


def test_draws_depend_on_seed_policy_view_and_image():
    rotate = draws()["rotate"]
    assert np.array_equal(rotate, draws()["rotate"])
    assert not np.array_equal(rotate, draws(seed=8)["rotate"])
    assert not np.array_equal(rotate, draws(policy="b")["rotate"])
    assert len(np.unique(rotate[:, 1])) == 20


def test_another_transform_in_the_chain_leaves_the_others_draws():
    longer = draws(chain=PHOTOMETRIC | GEOMETRIC)
    assert np.array_equal(longer["rotate"], draws()["rotate"])
    assert not np.array_equal(longer["rotate"][:, 0], longer["gamma"][:, 1])


def test_more_images_keep_the_earlier_ones_within_a_view():
    few, many = draws(n_images=5)["rotate"], draws(n_images=9)["rotate"]
    assert np.array_equal(few.reshape(4, 5, -1), many.reshape(4, 9, -1)[:, :5])


def test_transforms_are_drawn_independently():
    many = draws(chain=GEOMETRIC | PHOTOMETRIC, n_images=3000, n_views=2)
    strengths = np.stack([many[name][:, 1] for name in ("rotate", "gamma", "noise")])
    assert np.abs(np.corrcoef(strengths) - np.eye(3)).max() < 0.05
    between_views = many["rotate"][:, 1].reshape(2, 3000)
    assert abs(np.corrcoef(between_views)[0, 1]) < 0.06


def test_the_policies_of_the_default_experiment_are_valid():
    from pathlib import Path

    from medsweep.params import load

    assert check_policies(load(Path(__file__).parents[2] / "params.yaml").augment)
