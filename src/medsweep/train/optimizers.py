"""TABLE: optimizers, and what the training loop needs for two that no single Keras class offers.

Weight decay is decoupled in every row (Loshchilov & Hutter, 2019): before the update each variable loses
`learning_rate x weight_decay` of itself, so decay follows the schedule. With it `adam` and `adamw` are the same rule.

Full batch (`gradient_descent`): one update an epoch, by the gradient of the mean loss over all training samples. Memory
does not allow it in one pass, so batches' gradients are summed, each sample counting the same (a smaller last batch
included), and applied once. Beside batch normalization this is not quite the true full batch: each batch is normalized
by its own mean and variance, not by those of all samples (about 1 % apart where it was measured), and the
moving statistics are updated once a batch. Without batch normalization the two agree to rounding.

Averaged SGD (`averaged_sgd`): plain SGD whose iterates are averaged (Polyak & Juditsky, 1992). Training goes on from
the raw weights; validation and the saved model use the mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medsweep.errors import unknown_name
from medsweep.train.hyperparameters import Scalar, check_hyperparameters

if TYPE_CHECKING:
    import keras

WHERE = "train.space.optimizer"


@dataclass(frozen=True)
class OptimizerRow:
    """One optimizer.

    Args:
        build: (hyper, weight_decay or None) → the Keras optimizer; what `hyper` does not name has Keras's documented
            default.
        hyperparameters: what `build` reads, and `average_from` where `averaged` (the training loop reads that one:
            the share of all steps after which averaging begins).
        what: one sentence, with the source.
        full_batch: one update an epoch, by `GradientAccumulator`.
        averaged: keep a `PolyakMean`, and validate and save with it.
    """

    build: Callable[[Mapping[str, Scalar], float | None], keras.optimizers.Optimizer]
    hyperparameters: tuple[str, ...]
    what: str
    full_batch: bool = False
    averaged: bool = False


def _sgd(hyper: Mapping[str, Scalar], weight_decay: float | None) -> keras.optimizers.Optimizer:
    import keras

    return keras.optimizers.SGD(float(hyper["learning_rate"]), weight_decay=weight_decay, name="sgd")


def _momentum(hyper: Mapping[str, Scalar], weight_decay: float | None) -> keras.optimizers.Optimizer:
    import keras

    return keras.optimizers.SGD(
        float(hyper["learning_rate"]), momentum=float(hyper["momentum"]), weight_decay=weight_decay, name="momentum"
    )


def _nesterov(hyper: Mapping[str, Scalar], weight_decay: float | None) -> keras.optimizers.Optimizer:
    import keras

    return keras.optimizers.SGD(
        float(hyper["learning_rate"]),
        momentum=float(hyper["momentum"]),
        nesterov=True,
        weight_decay=weight_decay,
        name="nesterov",
    )


def _adam(hyper: Mapping[str, Scalar], weight_decay: float | None) -> keras.optimizers.Optimizer:
    import keras

    return keras.optimizers.Adam(float(hyper["learning_rate"]), weight_decay=weight_decay, name="adam")


def _adamw(hyper: Mapping[str, Scalar], weight_decay: float | None) -> keras.optimizers.Optimizer:
    import keras

    return keras.optimizers.AdamW(float(hyper["learning_rate"]), weight_decay=weight_decay or 0.0, name="adamw")


def _rmsprop(hyper: Mapping[str, Scalar], weight_decay: float | None) -> keras.optimizers.Optimizer:
    import keras

    return keras.optimizers.RMSprop(float(hyper["learning_rate"]), weight_decay=weight_decay, name="rmsprop")


def _adagrad(hyper: Mapping[str, Scalar], weight_decay: float | None) -> keras.optimizers.Optimizer:
    import keras

    return keras.optimizers.Adagrad(float(hyper["learning_rate"]), weight_decay=weight_decay, name="adagrad")


def _adadelta(hyper: Mapping[str, Scalar], weight_decay: float | None) -> keras.optimizers.Optimizer:
    import keras

    return keras.optimizers.Adadelta(float(hyper["learning_rate"]), weight_decay=weight_decay, name="adadelta")


def _adamax(hyper: Mapping[str, Scalar], weight_decay: float | None) -> keras.optimizers.Optimizer:
    import keras

    return keras.optimizers.Adamax(float(hyper["learning_rate"]), weight_decay=weight_decay, name="adamax")


def _nadam(hyper: Mapping[str, Scalar], weight_decay: float | None) -> keras.optimizers.Optimizer:
    import keras

    return keras.optimizers.Nadam(float(hyper["learning_rate"]), weight_decay=weight_decay, name="nadam")


def _lion(hyper: Mapping[str, Scalar], weight_decay: float | None) -> keras.optimizers.Optimizer:
    import keras

    return keras.optimizers.Lion(float(hyper["learning_rate"]), weight_decay=weight_decay, name="lion")


OPTIMIZERS: dict[str, OptimizerRow] = {
    "gradient_descent": OptimizerRow(
        _sgd, ("learning_rate",), "Gradient descent on all training samples: one update an epoch.", full_batch=True
    ),
    "sgd": OptimizerRow(_sgd, ("learning_rate",), "Stochastic gradient descent (Robbins & Monro, 1951)."),
    "averaged_sgd": OptimizerRow(
        _sgd,
        ("learning_rate", "average_from"),
        "SGD whose model is the mean of the iterates after the share `average_from` of the steps "
        "(Polyak & Juditsky, 1992).",
        averaged=True,
    ),
    "momentum": OptimizerRow(_momentum, ("learning_rate", "momentum"), "SGD with heavy-ball momentum (Polyak, 1964)."),
    "nesterov": OptimizerRow(
        _nesterov, ("learning_rate", "momentum"), "SGD with Nesterov's momentum (Sutskever et al., 2013)."
    ),
    "adam": OptimizerRow(_adam, ("learning_rate",), "Adam (Kingma & Ba, 2015)."),
    "adamw": OptimizerRow(_adamw, ("learning_rate",), "Adam with decoupled weight decay (Loshchilov & Hutter, 2019)."),
    "rmsprop": OptimizerRow(_rmsprop, ("learning_rate",), "RMSprop (Tieleman & Hinton, 2012)."),
    "adagrad": OptimizerRow(_adagrad, ("learning_rate",), "Adagrad (Duchi et al., 2011)."),
    "adadelta": OptimizerRow(_adadelta, ("learning_rate",), "Adadelta (Zeiler, 2012); the paper's learning rate is 1."),
    "adamax": OptimizerRow(_adamax, ("learning_rate",), "Adam by the infinity norm (Kingma & Ba, 2015, section 7)."),
    "nadam": OptimizerRow(_nadam, ("learning_rate",), "Adam with Nesterov's momentum (Dozat, 2016)."),
    "lion": OptimizerRow(
        _lion,
        ("learning_rate",),
        "The sign of an interpolated momentum (Chen et al., 2023); wants 3 to 10 times smaller learning rates than "
        "adamw and as many times larger weight decay.",
    ),
}


def build_optimizer(name: str, hyper: Mapping[str, Scalar], *, weight_decay: float) -> keras.optimizers.Optimizer:
    """The Keras optimizer of a row, not yet built on variables.

    The training loop drives a schedule by assigning `optimizer.learning_rate` (a variable) before each step.

    Args:
        name: a row of `OPTIMIZERS`.
        hyper: exactly the row's hyperparameters.
        weight_decay: decoupled; 0 for none. It acts on every trainable variable.

    Raises:
        ParamsError: an unknown name, or hyperparameters that are not the row's.
    """
    if name not in OPTIMIZERS:
        raise unknown_name("optimizer", name, list(OPTIMIZERS), where=WHERE)
    check_hyperparameters(OPTIMIZERS[name].hyperparameters, hyper, where=f"{WHERE}.{name}")
    return OPTIMIZERS[name].build(hyper, float(weight_decay) or None)


def set_weight_decay(optimizer: keras.optimizers.Optimizer, weight_decay: float) -> None:
    """Give an optimizer that was built with weight decay another one, above 0, also in steps that are traced already.

    Keras would write the number into the graph: before the first step it becomes a variable. An optimizer without
    weight decay stays without.
    """
    import keras

    if optimizer.weight_decay is None or not weight_decay:
        return
    if isinstance(optimizer.weight_decay, keras.Variable):
        optimizer.weight_decay.assign(weight_decay)
    else:
        optimizer.weight_decay = keras.Variable(weight_decay, dtype="float32", trainable=False, name="weight_decay")


class GradientAccumulator:
    """Sums gradients over the batches of an epoch and applies their mean over samples once.

    `add` and `apply` may be called inside a `tf.function`; make the accumulator outside it. It holds nothing between
    epochs, so checkpoints need not know of it.

    Args:
        variables: the model's trainable variables.
    """

    def __init__(self, variables: Sequence[keras.Variable]) -> None:
        import tensorflow as tf

        self._variables = list(variables)
        self._sums = [tf.Variable(tf.zeros(each.shape, each.dtype), trainable=False) for each in self._variables]
        self._weight = tf.Variable(0.0, trainable=False)

    def add(self, gradients: Sequence[Any], weight: Any) -> None:
        """Add one batch.

        Args:
            gradients: of the *sum* of the batch's per-sample losses, one a variable.
            weight: what the batch counts for in the mean: its number of samples (or the sum of their weights).
        """
        for total, gradient in zip(self._sums, gradients, strict=True):
            total.assign_add(gradient)
        self._weight.assign_add(weight)

    def apply(self, optimizer: keras.optimizers.Optimizer) -> None:
        """Take one step of `optimizer` (already built on the variables) along the mean gradient, and start anew."""
        optimizer.apply([total / self._weight for total in self._sums], self._variables)
        self.clear()

    def clear(self) -> None:
        """Start anew: an epoch may have been left in its midst."""
        import tensorflow as tf

        for total in self._sums:
            total.assign(tf.zeros_like(total))
        self._weight.assign(0.0)


class PolyakMean:
    """The running mean of the iterates, apart from the raw weights that training goes on from.

    After step t the mean of T = max(1, t - skip) iterates is `mean += (w - mean) / T`: until `skip` steps are done it
    equals the raw weights. `update` may be called inside a `tf.function`; make the mean outside it.

    Args:
        variables: what to average: `variables_to_average(model)`.
        skip: steps before averaging begins.
    """

    def __init__(self, variables: Sequence[keras.Variable], *, skip: int) -> None:
        import tensorflow as tf

        self._variables = list(variables)
        self._skip = tf.Variable(skip, dtype=tf.int64, trainable=False)
        self._steps = tf.Variable(0, dtype=tf.int64, trainable=False)
        self._means = [tf.Variable(each.value, trainable=False) for each in self._variables]

    def begin_after(self, steps: int) -> None:
        """Set how many steps are taken before averaging begins (`skip`)."""
        self._skip.assign(steps)

    def begin(self) -> None:
        """Start anew from the present weights."""
        self._steps.assign(0)
        for mean, variable in zip(self._means, self._variables, strict=True):
            mean.assign(variable.value)

    def update(self) -> None:
        """Take the present weights into the mean: call once after each step of the optimizer."""
        import tensorflow as tf

        steps = self._steps.assign_add(1)
        counted = tf.cast(tf.maximum(steps - self._skip, 1), tf.float32)
        for mean, variable in zip(self._means, self._variables, strict=True):
            mean.assign_add((variable.value - mean) / counted)

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Inside the `with` block the model has the mean (to validate or save it); afterwards the raw weights."""
        raw = [variable.numpy() for variable in self._variables]
        for mean, variable in zip(self._means, self._variables, strict=True):
            variable.assign(mean.numpy())
        try:
            yield
        finally:
            for value, variable in zip(raw, self._variables, strict=True):
                variable.assign(value)

    def state(self) -> list[NDArray[Any]]:
        """The number of steps, shape () int64, then each variable's mean: for a checkpoint."""
        return [np.asarray(self._steps.numpy()), *(mean.numpy() for mean in self._means)]

    def restore(self, state: Sequence[NDArray[Any]]) -> None:
        """Go on from what `state` gave."""
        for variable, value in zip([self._steps, *self._means], state, strict=True):
            variable.assign(value)


def variables_to_average(model: keras.Model) -> list[keras.Variable]:
    """A model's trainable variables and batch normalization's moving statistics, in a fixed order.

    The moving statistics belong to the raw iterates; averaged along, they fit the averaged weights about as well.
    Dropout's random state, whole numbers, stays out.
    """
    moving = [each for each in model.non_trainable_variables if each.dtype == "float32"]
    return [*model.trainable_variables, *moving]
