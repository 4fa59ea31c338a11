"""Value and gradient of every loss against NumPy in float64, their behaviour at extreme logits, and errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from medsweep.errors import DataError, ParamsError
from medsweep.train.losses import LOSSES, build_loss, target_matrix

CASES: list[tuple[str, dict[str, float]]] = [
    ("categorical_crossentropy", {"label_smoothing": 0.0}),
    ("categorical_crossentropy", {"label_smoothing": 0.1}),
    ("focal", {"gamma": 0.0}),
    ("focal", {"gamma": 0.5}),
    ("focal", {"gamma": 2.0}),
    ("mean_squared_error", {}),
    ("mean_absolute_error", {}),
    ("kl_divergence", {}),
    ("categorical_hinge", {}),
    ("generalized_cross_entropy", {"q": 0.7}),
    ("generalized_cross_entropy", {"q": 1.0}),
]
TASKS = ("multiclass", "multilabel")


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


def reference(name: str, hyper: dict[str, float], task: str, t: np.ndarray, z: np.ndarray) -> np.ndarray:
    """(B,) in float64, straight from the definitions on probabilities."""
    k = t.shape[1]
    if task == "multiclass":
        p = softmax(z)
        of_true = (t * p).sum(axis=1)
        if name == "categorical_crossentropy":
            s = hyper["label_smoothing"]
            return -((t * (1 - s) + s / k) * np.log(p)).sum(axis=1)
        if name == "focal":
            return -((1 - of_true) ** hyper["gamma"]) * np.log(of_true)
        if name == "kl_divergence":
            return np.array([np.sum(a[a > 0] * np.log(a[a > 0] / b[a > 0])) for a, b in zip(t, p, strict=True)])
        if name == "categorical_hinge":
            return np.maximum(0, 1 + np.maximum(0, np.where(t == 1, -np.inf, z).max(axis=1)) - (t * z).sum(axis=1))
        if name == "generalized_cross_entropy":
            return (1 - of_true ** hyper["q"]) / hyper["q"]
    else:
        p = sigmoid(z)
        of_true = np.where(t == 1, p, 1 - p)
        if name == "categorical_crossentropy":
            s = hyper["label_smoothing"]
            soft = t * (1 - s) + s / 2
            return -(soft * np.log(p) + (1 - soft) * np.log(1 - p)).mean(axis=1)
        if name == "focal":
            return (-((1 - of_true) ** hyper["gamma"]) * np.log(of_true)).mean(axis=1)
        if name == "kl_divergence":
            return -np.log(of_true).mean(axis=1)
        if name == "categorical_hinge":
            return np.maximum(0, 1 - (2 * t - 1) * z).mean(axis=1)
        if name == "generalized_cross_entropy":
            return ((1 - of_true ** hyper["q"]) / hyper["q"]).mean(axis=1)
    if name == "mean_squared_error":
        return ((t - p) ** 2).mean(axis=1)
    if name == "mean_absolute_error":
        return np.abs(t - p).mean(axis=1)
    raise AssertionError(f"no reference for {name}")


def central_differences(f: Callable[[np.ndarray], np.ndarray], z: np.ndarray) -> np.ndarray:
    """Gradient of sum(f) in z."""
    found, h = np.zeros_like(z), 1e-6
    for index in np.ndindex(z.shape):
        shift = np.zeros_like(z)
        shift[index] = h
        found[index] = (f(z + shift).sum() - f(z - shift).sum()) / (2 * h)
    return found


def value_and_gradient(loss: Any, t: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    import tensorflow as tf

    @tf.function
    def both(targets: Any, logits: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(logits)
            values = loss(targets, logits)
        return values, tape.gradient(values, logits)

    values, gradient = both(tf.constant(t, tf.float32), tf.constant(z, tf.float32))
    return values.numpy(), gradient.numpy()


def samples(task: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(11)
    z = rng.normal(scale=2.0, size=(9, 4)).astype(np.float32).astype(np.float64)
    if task == "multiclass":
        return target_matrix(rng.integers(0, 4, 9), 4, task).astype(np.float64), z
    return target_matrix(rng.integers(0, 2, (9, 4)).astype(np.uint8), 4, task).astype(np.float64), z


def test_every_row_is_tested() -> None:
    assert {name for name, _ in CASES} == set(LOSSES)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(("name", "hyper"), CASES)
def test_value_and_gradient_equal_numpy(name: str, hyper: dict[str, float], task: str) -> None:
    t, z = samples(task)
    values, gradient = value_and_gradient(build_loss(name, hyper, task), t, z)
    assert values.shape == (9,) and values.dtype == np.float32
    np.testing.assert_allclose(values, reference(name, hyper, task, t, z), rtol=1e-5, atol=1e-6)
    expected = central_differences(lambda moved: reference(name, hyper, task, t, moved), z)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(("name", "hyper"), CASES)
def test_extreme_logits_stay_finite(name: str, hyper: dict[str, float], task: str) -> None:
    z = np.array([[50.0, -50.0, 0.0], [-50.0, 50.0, -50.0], [50.0, 50.0, 50.0], [-50.0, -50.0, -50.0]])
    t = np.eye(3)[np.repeat([0, 1, 2], 4)]
    values, gradient = value_and_gradient(build_loss(name, hyper, task), t, np.tile(z, (3, 1)))
    assert np.isfinite(values).all() and np.isfinite(gradient).all()
    assert (values >= -1e-6).all()


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(
    ("name", "hyper"),
    [("categorical_crossentropy", {"label_smoothing": 0.0}), ("focal", {"gamma": 2.0}), ("kl_divergence", {})],
)
def test_a_confidently_wrong_sample_keeps_its_gradient(name: str, hyper: dict[str, float], task: str) -> None:
    _, gradient = value_and_gradient(build_loss(name, hyper, task), np.eye(2)[[0]], np.array([[-50.0, 50.0]]))
    per_label = 2.0 if task == "multilabel" else 1.0
    np.testing.assert_allclose(gradient, [[-1 / per_label, 1 / per_label]], rtol=1e-3)


def test_the_same_values_as_keras_where_keras_has_the_loss_on_probabilities() -> None:
    import keras

    t, z = samples("multiclass")
    p = softmax(z)
    for name, hyper, theirs in [
        ("focal", {"gamma": 1.5}, keras.losses.CategoricalFocalCrossentropy(alpha=1.0, gamma=1.5, reduction=None)),
        ("kl_divergence", {}, keras.losses.KLDivergence(reduction=None)),
    ]:
        found = np.asarray(build_loss(name, hyper, "multiclass")(t.astype(np.float32), z.astype(np.float32)))
        np.testing.assert_allclose(found, np.asarray(theirs(t, p)), rtol=1e-4, atol=1e-5)
    t, z = samples("multilabel")
    theirs = keras.losses.BinaryFocalCrossentropy(gamma=1.5, reduction=None)
    found = np.asarray(build_loss("focal", {"gamma": 1.5}, "multilabel")(t.astype(np.float32), z.astype(np.float32)))
    np.testing.assert_allclose(found, np.asarray(theirs(t, sigmoid(z))), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("task", ["binary", "ordinal"])
def test_binary_and_ordinal_tasks_use_the_one_label_form(task: str) -> None:
    t, z = samples("multiclass")
    hyper = {"gamma": 2.0}
    found = [
        np.asarray(build_loss("focal", hyper, each)(np.float32(t), np.float32(z))) for each in (task, "multiclass")
    ]
    np.testing.assert_array_equal(*found)


def test_target_matrix() -> None:
    one_hot = target_matrix(np.array([2, 0], np.int64), 3, "multiclass")
    assert one_hot.dtype == np.float32 and one_hot.tolist() == [[0, 0, 1], [1, 0, 0]]
    several = target_matrix(np.array([[1, 1], [0, 0]], np.uint8), 2, "multilabel")
    assert several.dtype == np.float32 and several.tolist() == [[1, 1], [0, 0]]
    with pytest.raises(DataError):
        target_matrix(np.array([3]), 3, "ordinal")
    with pytest.raises(DataError):
        target_matrix(np.array([[2, 0]]), 2, "multilabel")


def test_mistakes_name_the_params_path() -> None:
    with pytest.raises(ParamsError, match=r"train\.space\.loss: unknown loss 'bce'.*kl_divergence"):
        build_loss("bce", {}, "binary")
    with pytest.raises(ParamsError, match=r"train\.space\.loss\.focal\.gamma: is missing"):
        build_loss("focal", {}, "binary")
    with pytest.raises(ParamsError, match=r"train\.space\.loss\.generalized_cross_entropy\.q: must be .*, not 0\.0"):
        build_loss("generalized_cross_entropy", {"q": 0.0}, "binary")
