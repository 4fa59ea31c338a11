"""The model-randomisation test passes what depends on the weights, and fails what does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest

from medsweep.explain.method import Method, Settings
from medsweep.explain.methods import METHODS, explain
from medsweep.explain.network import Network
from medsweep.explain.randomisation import SIMILAR, randomised, rank_correlation

ONES = np.ones(6, dtype=np.int64)
Spots = tuple[np.ndarray, np.ndarray]


def edges(member: Any, z: np.ndarray, classes: np.ndarray, settings: Settings) -> np.ndarray:
    """What looks like an explanation and is an edge detector (Adebayo et al., figure 1)."""
    return np.stack([np.abs(cv2.Laplacian(each[..., 0], cv2.CV_32F)) for each in z])


def mirror(member: Any, z: np.ndarray, classes: np.ndarray, settings: Settings) -> np.ndarray:
    """The image itself, for or against by what the model says: its sign alone depends on the weights."""
    return np.asarray(z[..., 0] * np.sign(member.log_odds(z, classes))[:, None, None])


def similarity(network: Network, method: str, images: np.ndarray, settings: Settings) -> float:
    trained = explain(network, method, images, ONES, settings)
    found = randomised(network, method, images, ONES, trained, settings, seeds=[1, 2, 3])
    assert found.maps.shape == (3, *trained.shape)
    return float(found.similarity.mean())


@pytest.mark.parametrize("control", [edges, mirror])
def test_what_shows_the_image_and_not_the_model_fails(
    monkeypatch: pytest.MonkeyPatch, build: Callable[..., Any], spots: Spots, settings: Settings, control: Any
) -> None:
    monkeypatch.setitem(METHODS, "control", Method(control, "Control", control is mirror, "Not one.", "none"))
    assert similarity(Network(build("plain")), "control", spots[0], settings) > 0.99 > SIMILAR


@pytest.mark.parametrize("method", list(METHODS))
def test_methods_depend_on_the_weights(build: Callable[..., Any], settings: Settings, method: str) -> None:
    # Nothing in these images stands out, which any network would notice.
    images = np.random.default_rng(6).integers(0, 255, (6, 16, 16, 1))
    assert similarity(Network(build("plain", activation="tanh")), method, images, settings) < SIMILAR


def test_weights_are_as_before_when_the_block_ends(build: Callable[..., Any], spots: Spots) -> None:
    model = build("residual", standardize="dataset")
    network = Network(model)
    before, said = [each.numpy() for each in model.weights], network.probabilities(spots[0])
    drawn = []
    for seed in (1, 1, 2):
        with network.random_weights(seed):
            drawn.append([each.numpy() for each in model.weights])
            assert np.abs(network.probabilities(spots[0]) - said).max() > 1e-3, "the traced network follows"
    assert all(np.array_equal(one, two) for one, two in zip(drawn[0], drawn[1], strict=True))
    kernels = [index for index, each in enumerate(model.weights) if each.name == "kernel"]
    assert kernels and not any(np.array_equal(drawn[0][each], drawn[2][each]) for each in kernels)
    assert not any(np.array_equal(drawn[0][each], before[each]) for each in kernels)
    with pytest.raises(RuntimeError), network.random_weights(1):
        raise RuntimeError
    assert all(np.array_equal(one, two.numpy()) for one, two in zip(before, model.weights, strict=True))
    np.testing.assert_array_equal(network.probabilities(spots[0]), said)


def test_only_the_top_layers_if_so_asked(build: Callable[..., Any]) -> None:
    network = Network(build("plain"))
    before = {id(layer): layer.get_weights() for layer in network.learned_layers()}
    with network.random_weights(1, top=1):
        changed = [
            layer.name
            for layer in network.learned_layers()
            if any(not np.array_equal(a, b) for a, b in zip(before[id(layer)], layer.get_weights(), strict=True))
        ]
    assert changed == ["logits"]


def test_batch_normalization_forgets_what_it_counted(build: Callable[..., Any]) -> None:
    network = Network(build("plain"))
    layer = next(each for each in network.learned_layers() if each.name.endswith("_norm"))
    layer.moving_mean.assign(layer.moving_mean + 3.0)
    with network.random_weights(1):
        assert not layer.moving_mean.numpy().any()
    assert (layer.moving_mean.numpy() == 3.0).all()


def test_rank_correlation_equals_scipy() -> None:
    from scipy.stats import spearmanr

    rng = np.random.default_rng(3)
    one, two = rng.normal(size=(2, 4, 5, 6)).round(1).astype(np.float32)
    expected = [spearmanr(a.ravel(), b.ravel()).statistic for a, b in zip(one, two, strict=True)]
    np.testing.assert_allclose(rank_correlation(one, two), expected, atol=1e-12)
    assert rank_correlation(one, np.zeros_like(one)).tolist() == [0, 0, 0, 0]
