"""TABLE: losses. Each is a function of 0/1 targets and logits, with a form for one label and one for several.

The one-label form reads the logits through softmax, the several-label form each through a sigmoid, averaged over the
labels. Everything that takes a logarithm takes it of the logits (log-softmax, log-sigmoid): values and gradients stay
finite, and a confidently wrong sample keeps its gradient, which clipped probabilities would set to 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medsweep.errors import DataError, unknown_name
from medsweep.train.hyperparameters import Scalar, check_hyperparameters

WHERE = "train.space.loss"

Tensor = Any
"""A TensorFlow tensor (Keras has no types to name it by)."""

LossFunction = Callable[[Tensor, Tensor], Tensor]
"""(targets (B, K) float32, logits (B, K) float32) → the loss of each sample (B,) float32."""


@dataclass(frozen=True)
class LossRow:
    """One loss.

    Args:
        multiclass: builds the form for one label an image (binary, multi-class and ordinal tasks).
        multilabel: builds the form for several labels an image.
        hyperparameters: what both builders read.
        what: one sentence, with the source where there is one.
    """

    multiclass: Callable[[Mapping[str, Scalar]], LossFunction]
    multilabel: Callable[[Mapping[str, Scalar]], LossFunction]
    hyperparameters: tuple[str, ...]
    what: str


def _categorical_crossentropy(hyper: Mapping[str, Scalar]) -> LossFunction:
    import keras

    loss: LossFunction = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=float(hyper["label_smoothing"]), reduction=None
    )
    return loss


def _binary_crossentropy(hyper: Mapping[str, Scalar]) -> LossFunction:
    import keras

    loss: LossFunction = keras.losses.BinaryCrossentropy(
        from_logits=True, label_smoothing=float(hyper["label_smoothing"]), reduction=None
    )
    return loss


def _categorical_focal(hyper: Mapping[str, Scalar]) -> LossFunction:
    from keras import ops

    gamma = float(hyper["gamma"])

    def loss(targets: Tensor, logits: Tensor) -> Tensor:
        log_p = ops.log_softmax(logits, axis=-1)
        # log(1 - p_k) is the log-sum-exp of the other classes: exact where 1 - p_k itself would round to 0.
        without_self = ops.expand_dims(logits, 1) - 1e9 * ops.eye(logits.shape[-1], dtype="float32")
        log_rest = ops.logsumexp(without_self, axis=-1) - ops.logsumexp(logits, axis=-1, keepdims=True)
        return -ops.sum(targets * ops.exp(gamma * log_rest) * log_p, axis=-1)

    return loss


def _binary_focal(hyper: Mapping[str, Scalar]) -> LossFunction:
    from keras import ops

    gamma = float(hyper["gamma"])

    def loss(targets: Tensor, logits: Tensor) -> Tensor:
        log_p, log_rest = ops.log_sigmoid(logits), ops.log_sigmoid(-logits)
        positive = targets * ops.exp(gamma * log_rest) * log_p
        negative = (1.0 - targets) * ops.exp(gamma * log_p) * log_rest
        return -ops.mean(positive + negative, axis=-1)

    return loss


def _squared_error_of_softmax(hyper: Mapping[str, Scalar]) -> LossFunction:
    import keras

    error = keras.losses.MeanSquaredError(reduction=None)
    return lambda targets, logits: error(targets, keras.ops.softmax(logits, axis=-1))


def _squared_error_of_sigmoid(hyper: Mapping[str, Scalar]) -> LossFunction:
    import keras

    error = keras.losses.MeanSquaredError(reduction=None)
    return lambda targets, logits: error(targets, keras.ops.sigmoid(logits))


def _absolute_error_of_softmax(hyper: Mapping[str, Scalar]) -> LossFunction:
    import keras

    error = keras.losses.MeanAbsoluteError(reduction=None)
    return lambda targets, logits: error(targets, keras.ops.softmax(logits, axis=-1))


def _absolute_error_of_sigmoid(hyper: Mapping[str, Scalar]) -> LossFunction:
    import keras

    error = keras.losses.MeanAbsoluteError(reduction=None)
    return lambda targets, logits: error(targets, keras.ops.sigmoid(logits))


def _x_log_x(values: Tensor) -> Tensor:
    from keras import ops

    return values * ops.log(ops.maximum(values, 1e-30))  # 0 log 0 = 0


def _categorical_divergence(hyper: Mapping[str, Scalar]) -> LossFunction:
    from keras import ops

    def loss(targets: Tensor, logits: Tensor) -> Tensor:
        return ops.sum(_x_log_x(targets) - targets * ops.log_softmax(logits, axis=-1), axis=-1)

    return loss


def _bernoulli_divergence(hyper: Mapping[str, Scalar]) -> LossFunction:
    from keras import ops

    def loss(targets: Tensor, logits: Tensor) -> Tensor:
        negatives = 1.0 - targets
        crossed = targets * ops.log_sigmoid(logits) + negatives * ops.log_sigmoid(-logits)
        return ops.mean(_x_log_x(targets) + _x_log_x(negatives) - crossed, axis=-1)

    return loss


def _categorical_hinge(hyper: Mapping[str, Scalar]) -> LossFunction:
    import keras

    loss: LossFunction = keras.losses.CategoricalHinge(reduction=None)
    return loss


def _binary_hinge(hyper: Mapping[str, Scalar]) -> LossFunction:
    import keras

    loss: LossFunction = keras.losses.Hinge(reduction=None)
    return loss


def _categorical_generalized(hyper: Mapping[str, Scalar]) -> LossFunction:
    from keras import ops

    q = float(hyper["q"])

    def loss(targets: Tensor, logits: Tensor) -> Tensor:
        log_p = ops.sum(targets * ops.log_softmax(logits, axis=-1), axis=-1)
        return -ops.expm1(q * log_p) / q

    return loss


def _binary_generalized(hyper: Mapping[str, Scalar]) -> LossFunction:
    from keras import ops

    q = float(hyper["q"])

    def loss(targets: Tensor, logits: Tensor) -> Tensor:
        log_p = targets * ops.log_sigmoid(logits) + (1.0 - targets) * ops.log_sigmoid(-logits)
        return ops.mean(-ops.expm1(q * log_p) / q, axis=-1)

    return loss


LOSSES: dict[str, LossRow] = {
    "categorical_crossentropy": LossRow(
        _categorical_crossentropy,
        _binary_crossentropy,
        ("label_smoothing",),
        "Cross-entropy; `label_smoothing` moves that share of the target evenly onto all classes.",
    ),
    "focal": LossRow(
        _categorical_focal,
        _binary_focal,
        ("gamma",),
        "Cross-entropy times (1 - p)^gamma: well-classified samples weigh less (Lin et al., 2017; no alpha: "
        "class weights are a parameter of their own).",
    ),
    "mean_squared_error": LossRow(
        _squared_error_of_softmax,
        _squared_error_of_sigmoid,
        (),
        "Mean over the classes of the squared error of the probabilities (Brier, 1950, up to a factor).",
    ),
    "mean_absolute_error": LossRow(
        _absolute_error_of_softmax,
        _absolute_error_of_sigmoid,
        (),
        "Mean over the classes of the absolute error of the probabilities: robust to wrong labels, slow to learn "
        "(Ghosh et al., 2017).",
    ),
    "kl_divergence": LossRow(
        _categorical_divergence,
        _bernoulli_divergence,
        (),
        "Kullback-Leibler divergence from prediction to target; for one-hot targets it equals cross-entropy without "
        "smoothing.",
    ),
    "categorical_hinge": LossRow(
        _categorical_hinge,
        _binary_hinge,
        (),
        "How far the true class's logit falls short of the largest other one (at least 0) plus a margin of 1, as Keras "
        "defines it; several labels: the hinge of each logit.",
    ),
    "generalized_cross_entropy": LossRow(
        _categorical_generalized,
        _binary_generalized,
        ("q",),
        "(1 - p^q) / q: cross-entropy as q nears 0, absolute error at q = 1 (Zhang & Sabuncu, 2018).",
    ),
}


def build_loss(name: str, hyper: Mapping[str, Scalar], task: str) -> LossFunction:
    """The loss `name` for a task.

    Args:
        name: a row of `LOSSES`.
        hyper: exactly the row's hyperparameters.
        task: binary, multiclass, ordinal (all three one-hot, K ≥ 2) or multilabel.

    Returns:
        A function of targets (B, K) float32 and logits (B, K) float32, giving the loss of each sample (B,) float32.

    Raises:
        ParamsError: an unknown name, or hyperparameters that are not the row's.
    """
    if name not in LOSSES:
        raise unknown_name("loss", name, list(LOSSES), where=WHERE)
    row = LOSSES[name]
    check_hyperparameters(row.hyperparameters, hyper, where=f"{WHERE}.{name}")
    return row.multilabel(hyper) if task == "multilabel" else row.multiclass(hyper)


def target_matrix(labels: NDArray[Any], n_classes: int, task: str) -> NDArray[np.float32]:
    """Labels as a loss reads them.

    Args:
        labels: (N,) class indices, or for a multi-label task (N, K) zeros and ones.
        n_classes: K.
        task: binary, multiclass, ordinal or multilabel.

    Returns:
        (N, K) float32 zeros and ones; one 1 a row unless the task is multi-label.

    Raises:
        DataError: a label is outside the classes.
    """
    if task == "multilabel":
        if labels.ndim != 2 or labels.shape[1] != n_classes or not np.isin(labels, (0, 1)).all():
            raise DataError(f"multi-label labels must be zeros and ones in {n_classes} columns.")
        return labels.astype(np.float32)
    if labels.ndim != 1 or ((labels < 0) | (labels >= n_classes)).any():
        raise DataError(f"labels must be class indices from 0 to {n_classes - 1}.")
    targets = np.zeros((len(labels), n_classes), np.float32)
    targets[np.arange(len(labels)), labels] = 1.0
    return targets
