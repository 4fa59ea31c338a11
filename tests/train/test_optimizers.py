"""Three steps of every optimizer against NumPy, full-batch accumulation, Polyak's mean, and errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from medsweep.errors import ParamsError
from medsweep.train.optimizers import (
    OPTIMIZERS,
    GradientAccumulator,
    PolyakMean,
    build_optimizer,
    variables_to_average,
)

# Not the defaults, so that a value that is not passed on shows.
HYPER: dict[str, dict[str, float]] = {
    "gradient_descent": {"learning_rate": 0.1},
    "sgd": {"learning_rate": 0.1},
    "averaged_sgd": {"learning_rate": 0.1, "average_from": 0.0},
    "momentum": {"learning_rate": 0.05, "momentum": 0.8},
    "nesterov": {"learning_rate": 0.05, "momentum": 0.8},
    "adam": {"learning_rate": 0.02},
    "adamw": {"learning_rate": 0.02},
    "rmsprop": {"learning_rate": 0.02},
    "adagrad": {"learning_rate": 0.1},
    "adadelta": {"learning_rate": 1.0},
    "adamax": {"learning_rate": 0.02},
    "nadam": {"learning_rate": 0.02},
    "lion": {"learning_rate": 0.01},
}
RATES = (1.0, 0.5, 0.25)  # a schedule's multipliers, assigned between steps
START = np.array([1.0, -2.0, 3.0, 0.5])
CURVATURE = np.array([1.0, 0.3, 2.0, 5.0])
CENTRE = np.array([0.0, 1.0, 2.5, 0.4])


def gradient_at(w: np.ndarray) -> np.ndarray:
    """Of the quadratic sum(CURVATURE (w - CENTRE)^2) / 2."""
    return CURVATURE * (w - CENTRE)


def reference(name: str, hyper: dict[str, float], weight_decay: float) -> np.ndarray:
    """The weights after each of three steps (3, 4), by the papers' formulas with Keras's documented constants."""
    w, eps = START.astype(np.float64), 1e-7
    m = v = u = np.zeros_like(w)
    product = 1.0
    path = []
    for t, rate in enumerate(RATES, start=1):
        lr = hyper["learning_rate"] * rate
        g = gradient_at(w)
        w = w - lr * weight_decay * w
        b1, b2, rho = 0.9, 0.99 if name == "lion" else 0.999, 0.95 if name == "adadelta" else 0.9
        if name in ("gradient_descent", "sgd", "averaged_sgd"):
            w = w - lr * g
        elif name == "momentum":
            v = hyper["momentum"] * v - lr * g
            w = w + v
        elif name == "nesterov":
            v = hyper["momentum"] * v - lr * g
            w = w + hyper["momentum"] * v - lr * g
        elif name in ("adam", "adamw"):
            m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
            # Keras puts epsilon where the paper's section 2 has "epsilon hat": beside the uncorrected root.
            w = w - lr * np.sqrt(1 - b2**t) / (1 - b1**t) * m / (np.sqrt(v) + eps)
        elif name == "rmsprop":
            v = rho * v + (1 - rho) * g**2
            w = w - lr * g / np.sqrt(v + eps)
        elif name == "adagrad":
            v = (0.1 if t == 1 else v) + g**2
            w = w - lr * g / np.sqrt(v + eps)
        elif name == "adadelta":
            v = rho * v + (1 - rho) * g**2
            step = -np.sqrt(u + eps) / np.sqrt(v + eps) * g
            u = rho * u + (1 - rho) * step**2
            w = w + lr * step
        elif name == "adamax":
            m, u = b1 * m + (1 - b1) * g, np.maximum(b2 * u, np.abs(g))
            w = w - lr / (1 - b1**t) * m / (u + eps)
        elif name == "nadam":
            now, following = (b1 * (1 - 0.5 * 0.96**k) for k in (t, t + 1))
            product *= now
            m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
            looked_ahead = following * m / (1 - product * following) + (1 - now) * g / (1 - product)
            w = w - lr * looked_ahead / (np.sqrt(v / (1 - b2**t)) + eps)
        elif name == "lion":
            w = w - lr * np.sign(b1 * m + (1 - b1) * g)
            m = b2 * m + (1 - b2) * g
        else:
            raise AssertionError(f"no reference for {name}")
        path.append(w)
    return np.array(path)


def quadratic() -> Any:
    import keras

    return keras.Variable(START.astype(np.float32), name="w")


def stepper(optimizer: Any, variable: Any) -> Any:
    """One step on the quadratic."""
    optimizer.build([variable])

    def step() -> None:
        optimizer.apply([CURVATURE.astype(np.float32) * (variable.value - CENTRE.astype(np.float32))], [variable])

    return step


def test_every_row_is_tested() -> None:
    assert set(HYPER) == set(OPTIMIZERS)
    assert [name for name, row in OPTIMIZERS.items() if row.full_batch] == ["gradient_descent"]
    assert [name for name, row in OPTIMIZERS.items() if row.averaged] == ["averaged_sgd"]


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_three_steps_equal_numpy(name: str, weight_decay: float) -> None:
    import tensorflow as tf

    variable = quadratic()
    optimizer = build_optimizer(name, HYPER[name], weight_decay=weight_decay)
    step = tf.function(stepper(optimizer, variable))  # traced once: an assigned learning rate must still count
    path = []
    for rate in RATES:
        optimizer.learning_rate = HYPER[name]["learning_rate"] * rate
        step()
        path.append(variable.numpy())
    np.testing.assert_allclose(path, reference(name, HYPER[name], weight_decay), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_a_continuation_from_the_optimizers_variables_is_bit_equal(name: str) -> None:
    whole = quadratic()
    step = stepper(build_optimizer(name, HYPER[name], weight_decay=0.1), whole)
    for _ in range(3):
        step()

    first = quadratic()
    optimizer = build_optimizer(name, HYPER[name], weight_decay=0.1)
    step = stepper(optimizer, first)
    for _ in range(2):
        step()
    second = quadratic()
    second.assign(first.numpy())
    resumed = build_optimizer(name, HYPER[name], weight_decay=0.1)
    step = stepper(resumed, second)
    for variable, value in zip(resumed.variables, [each.numpy() for each in optimizer.variables], strict=True):
        variable.assign(value)
    step()
    assert second.numpy().tobytes() == whole.numpy().tobytes()


def test_accumulated_gradients_of_uneven_batches_equal_full_batch_descent() -> None:
    import keras
    import tensorflow as tf

    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(10, 3)), rng.normal(size=10)
    weights = np.array([0.5, -1.0, 2.0])
    expected = weights.copy()
    for _ in range(3):
        expected = expected - 0.1 * 0.02 * expected - 0.1 * (2 * (x @ expected - y) @ x / 10)

    variable = keras.Variable(weights.astype(np.float32), name="w")
    optimizer = build_optimizer("gradient_descent", {"learning_rate": 0.1}, weight_decay=0.02)
    optimizer.build([variable])
    accumulator = GradientAccumulator([variable])

    @tf.function(reduce_retracing=True)
    def add(inputs: Any, targets: Any) -> None:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum((tf.linalg.matvec(inputs, variable.value) - targets) ** 2)
        accumulator.add(tape.gradient(loss, [variable.value]), tf.cast(tf.shape(targets)[0], tf.float32))

    @tf.function
    def apply() -> None:
        accumulator.apply(optimizer)

    for _ in range(3):
        for start in (0, 4, 8):  # batches of 4, 4 and 2
            add(*(tf.constant(each[start : start + 4], tf.float32) for each in (x, y)))
        apply()
    np.testing.assert_allclose(variable.numpy(), expected, rtol=1e-5)
    assert int(optimizer.iterations.numpy()) == 3


@pytest.mark.parametrize("skip", [0, 1])
def test_polyaks_mean_is_the_mean_of_the_iterates_and_leaves_the_raw_weights(skip: int) -> None:
    import tensorflow as tf

    variable = quadratic()
    optimizer = build_optimizer("averaged_sgd", HYPER["averaged_sgd"], weight_decay=0.0)
    step, mean = stepper(optimizer, variable), PolyakMean([variable], skip=skip)
    update = tf.function(mean.update)
    for rate in RATES:
        optimizer.learning_rate = 0.1 * rate
        step()
        update()
    iterates = reference("averaged_sgd", HYPER["averaged_sgd"], 0.0)
    with pytest.raises(RuntimeError), mean.swapped():
        np.testing.assert_allclose(variable.numpy(), iterates[skip:].mean(axis=0), rtol=1e-5)
        raise RuntimeError  # the raw weights come back after an error too
    np.testing.assert_allclose(variable.numpy(), iterates[-1], rtol=1e-5)


def test_before_averaging_begins_the_mean_is_the_raw_weights() -> None:
    variable = quadratic()
    mean = PolyakMean([variable], skip=10)
    for value in (1.0, 7.0):
        variable.assign(np.full(4, value, np.float32))
        mean.update()
    np.testing.assert_allclose(mean.state()[1], np.full(4, 7.0))


def test_polyaks_mean_goes_on_from_its_state() -> None:
    rng = np.random.default_rng(5)
    iterates = rng.normal(size=(4, 4)).astype(np.float32)

    def averaged(variable: Any, mean: PolyakMean, rows: np.ndarray) -> PolyakMean:
        for row in rows:
            variable.assign(row)
            mean.update()
        return mean

    whole, first, second = quadratic(), quadratic(), quadratic()
    expected = averaged(whole, PolyakMean([whole], skip=0), iterates).state()
    halfway = averaged(first, PolyakMean([first], skip=0), iterates[:2]).state()
    resumed = PolyakMean([second], skip=0)
    resumed.restore(halfway)
    found = averaged(second, resumed, iterates[2:]).state()
    assert [each.tobytes() for each in found] == [each.tobytes() for each in expected]
    np.testing.assert_allclose(found[1], iterates.mean(axis=0), rtol=1e-5)


def test_moving_statistics_are_averaged_and_random_states_are_not() -> None:
    import keras

    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(2), keras.layers.BatchNormalization(), keras.layers.Dropout(0.5)]
    )
    assert [each.name for each in variables_to_average(model)] == [
        "kernel",
        "bias",
        "gamma",
        "beta",
        "moving_mean",
        "moving_variance",
    ]


@pytest.mark.parametrize(
    ("name", "hyper", "words"),
    [
        ("addam", {"learning_rate": 0.1}, ["train.space.optimizer", "'addam'", "averaged_sgd", "lion"]),
        ("sgd", {}, ["train.space.optimizer.sgd.learning_rate", "missing"]),
        ("sgd", {"learning_rate": 0.1, "momentum": 0.9}, ["train.space.optimizer.sgd.momentum", "unknown"]),
        ("sgd", {"learning_rate": "fast"}, ["train.space.optimizer.sgd.learning_rate", "number", "'fast'"]),
        ("momentum", {"learning_rate": 0.1, "momentum": 1.5}, ["train.space.optimizer.momentum.momentum", "1.5"]),
    ],
)
def test_mistakes_name_the_params_path(name: str, hyper: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ParamsError) as caught:
        build_optimizer(name, hyper, weight_decay=0.0)
    assert all(word in str(caught.value) for word in words), str(caught.value)
