"""One trial's network with its optimizer, traced once for all trials that share its architecture."""

from __future__ import annotations

import gc
import math
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medsweep.artifacts import files
from medsweep.artifacts.prepared import PreparedSplit
from medsweep.artifacts.trial import Epoch, TrialConfig
from medsweep.statistics.metrics import evaluate_all
from medsweep.train.backbones import build_network, logits_model, multiply_adds, reseed
from medsweep.train.examples import Examples, OpenData, OpenSplits, Part, TrainingData
from medsweep.train.losses import build_loss, target_matrix
from medsweep.train.model_file import save_model
from medsweep.train.optimizers import (
    OPTIMIZERS,
    GradientAccumulator,
    PolyakMean,
    build_optimizer,
    set_weight_decay,
    variables_to_average,
)
from medsweep.train.schedules import multiplier
from medsweep.train.space import derived_seed
from medsweep.train.warm_start import take_over

if TYPE_CHECKING:
    import keras

# Steps that one call into TensorFlow takes: enough to hide the call's cost, bounded by the memory of their images.
_STEPS_A_CALL = 16
_BYTES_A_CALL = 32 << 20
_VALIDATION_BATCH = 256
_VALIDATION_BYTES = 32 << 20
# Networks that stay traced in a worker, for the trials that come back to it after a rung.
_KEPT_NETWORKS = 4
# What is logged of the validation split after each epoch.
VALIDATION_METRICS = ("auroc", "average_precision", "log_loss", "accuracy", "balanced_accuracy")


class TrialFailedError(Exception):
    """A trial cannot go on; the message is the reason, the same wherever it is trained."""


_OPEN_ARRAYS: dict[TrainingData, OpenSplits] = {}
_OPEN_NETWORKS: OrderedDict[tuple[TrainingData, Part, str], Network] = OrderedDict()


def _arrays(data: TrainingData) -> OpenSplits:
    if data not in _OPEN_ARRAYS:
        _OPEN_ARRAYS.clear()
        _OPEN_NETWORKS.clear()
        _OPEN_ARRAYS[data] = OpenSplits(data)
    return _OPEN_ARRAYS[data]


def open_network(config: TrialConfig, data: TrainingData, part: Part, max_epochs: int) -> Network:
    """The trial's network, not begun: a traced one of the same architecture where this process has one, else a new one.

    Args:
        config: the trial.
        data: the arrays.
        part: what is trained on and looked at.
        max_epochs: of a whole training.
    """
    arrays = _arrays(data).part(part)
    key = (data, part, _architecture(config))
    if key in _OPEN_NETWORKS:
        _OPEN_NETWORKS.move_to_end(key)
    else:
        while len(_OPEN_NETWORKS) >= _KEPT_NETWORKS:
            _OPEN_NETWORKS.popitem(last=False)
            gc.collect()  # a network and its traced functions refer to each other
        if not _OPEN_NETWORKS:
            import keras

            keras.backend.clear_session()
        _OPEN_NETWORKS[key] = Network(config, arrays, data.warm_start)
    network = _OPEN_NETWORKS[key]
    network.adopt(config, max_epochs)
    return network


def forget_networks() -> None:
    """Trace anew from here on: after an error nothing is known of the state of what was traced."""
    _OPEN_NETWORKS.clear()


def _architecture(config: TrialConfig) -> str:
    """What a traced training step depends on. The rest is variables inside it or comes with each call: the seed, the
    learning rate and its schedule, weight decay, where averaging begins, batch size, class weights, images."""
    inside = {**config.optimizer.settings}
    for name in ("learning_rate", "average_from"):
        inside.pop(name, None)
    return repr(
        (
            (config.backbone, config.activation, config.pooling, config.standardize),
            (config.optimizer.name, sorted(inside.items()), config.weight_decay > 0, config.loss),
        )
    )


def build_trial_network(config: TrialConfig, train: PreparedSplit | Examples) -> keras.Model:
    """The untrained network of a trial, its initial weights drawn from the trial's seed."""
    if train.standardization is None:
        raise TrialFailedError("the training split lacks its standardization")
    return build_network(
        backbone=config.backbone.name,
        hyper=config.backbone.settings,
        activation=config.activation,
        pooling=config.pooling,
        standardize=config.standardize,
        input_shape=train.images.shape[1:],
        n_outputs=len(train.class_names),
        task=train.task,
        value_range=train.value_range,
        mean=train.standardization.mean,
        deviation=train.standardization.deviation,
        seed=config.seed,
    )


class Network:
    """A network with its optimizer and traced steps, for one trial after another.

    Args:
        config: the first of the trials; the others share its architecture.
        arrays: what is trained on and looked at.
        warm_start: an earlier model whose weights it begins with.
    """

    def __init__(self, config: TrialConfig, arrays: OpenData, warm_start: Path | None) -> None:
        import tensorflow as tf

        self.arrays = arrays
        self.epochs_done = 0
        self._warm_start = warm_start
        self._warm: int | None = None
        self._seen: tuple[int, NDArray[np.float64]] | None = None
        train = arrays.train
        self.model = build_trial_network(config, train)
        self._logits = logits_model(self.model)
        row = OPTIMIZERS[config.optimizer.name]
        self._optimizer = build_optimizer(
            config.optimizer.name, config.optimizer.settings, weight_decay=config.weight_decay
        )
        self._optimizer.build(self.model.trainable_variables)
        set_weight_decay(self._optimizer, config.weight_decay)
        self._loss = build_loss(config.loss.name, config.loss.settings, train.task)
        self._targets = target_matrix(train.labels, len(train.class_names), train.task)
        self._full_batch = row.full_batch
        self._accumulator = GradientAccumulator(self.model.trainable_variables) if row.full_batch else None
        self._mean = PolyakMean(variables_to_average(self.model), skip=0) if row.averaged else None
        # Layers without a random part, and the optimizer, begin alike in every trial.
        self._blank = [tf.identity(each.value) for each in (*self.model.variables, *self._optimizer.variables)]
        self._trace()

    def adopt(self, config: TrialConfig, max_epochs: int) -> None:
        """Become the network of a trial of the same architecture.

        Args:
            config: the trial.
            max_epochs: of a whole training, which schedules are drawn over.
        """
        train = self.arrays.train
        self.config, self.max_epochs = config, max_epochs
        self._weights = class_weights(self._targets, config.class_weights, train.task)
        self._steps_an_epoch = 1 if self._full_batch else math.ceil(len(train) / config.batch_size)
        self._base_rate = float(config.optimizer.settings["learning_rate"])
        if self._mean is not None:
            share = float(config.optimizer.settings["average_from"])
            self._mean.begin_after(int(share * self._steps_an_epoch * max_epochs))

    # -- state ---------------------------------------------------------------------------------------------------------

    def _state(self) -> list[NDArray[Any]]:
        """Everything that the next step depends on; the order of images is drawn from the seed and the epoch."""
        state = [np.asarray(each.numpy()) for each in (*self.model.variables, *self._optimizer.variables)]
        return [*state, *self._mean.state()] if self._mean is not None else state

    def _restore(self, state: list[NDArray[Any]]) -> None:
        variables = [*self.model.variables, *self._optimizer.variables]
        for variable, value in zip(variables, state, strict=False):
            variable.assign(value)
        if self._mean is not None:
            self._mean.restore(state[len(variables) :])

    def begin(self, checkpoint: Path | None) -> None:
        """Take up the trial from its initial weights, or from a checkpoint.

        With a checkpoint too it first begins anew: the file of the model names the seeds, which no checkpoint holds.
        """
        variables = [*self.model.variables, *self._optimizer.variables]
        for variable, value in zip(variables, self._blank, strict=True):
            variable.value.assign(value, read_value=False)  # past Keras's conversions, which take longer
        self._optimizer.learning_rate.assign(self._base_rate)
        set_weight_decay(self._optimizer, self.config.weight_decay)
        reseed(self.model, self.config.seed)
        self._warm = None if self._warm_start is None else take_over(self.model, self._warm_start)
        if self._mean is not None:
            self._mean.begin()
        if self._accumulator is not None:
            self._accumulator.clear()
        self._seen, self.epochs_done = None, 0
        if checkpoint is None:
            return
        with np.load(checkpoint, allow_pickle=False) as saved:
            self._restore([saved[f"v{index:04d}"] for index in range(len(saved.files) - 1)])
            self.epochs_done = int(saved["epochs"])

    def save(self, path: Path) -> None:
        """Write a checkpoint, whole or not at all."""
        with files.replacing(path) as temporary:
            arrays = {f"v{index:04d}": value for index, value in enumerate(self._state())}
            with temporary.open("wb") as stream:
                np.savez(stream, **arrays, epochs=np.asarray(self.epochs_done))  # type: ignore[arg-type]

    def save_predictions(self, path: Path) -> None:
        """Write what the network says of the images that it is looked at with."""
        if self._seen is None or self._seen[0] != self.epochs_done:
            with self.deployed():
                self._seen = (self.epochs_done, self.probabilities(self.arrays.val.images))
        with files.replacing(path) as temporary, temporary.open("wb") as stream:
            np.save(stream, self._seen[1].astype(np.float32), allow_pickle=False)

    # -- training ------------------------------------------------------------------------------------------------------

    def _trace(self) -> None:
        import tensorflow as tf

        train = self.arrays.train
        pixel = tf.as_dtype(train.images.dtype)
        shape, outputs = tuple(train.images.shape[1:]), len(train.class_names)
        multilabel = train.task == "multilabel"
        logits_of, optimizer, loss_of, mean, accumulator = (
            self._logits,
            self._optimizer,
            self._loss,
            self._mean,
            self._accumulator,
        )
        variables = self.model.trainable_variables

        def losses(images: Any, targets: Any) -> tuple[Any, Any]:
            logits = logits_of(tf.cast(images, tf.float32), training=True)
            if multilabel:
                right = tf.reduce_mean(tf.cast((logits > 0) == (targets > 0.5), tf.float32), axis=1)
            else:
                right = tf.cast(tf.argmax(logits, axis=1) == tf.argmax(targets, axis=1), tf.float32)
            return loss_of(targets, logits), right

        signature = [
            tf.TensorSpec((None, None, *shape), pixel),
            tf.TensorSpec((None, None, outputs), tf.float32),
            tf.TensorSpec((None, None), tf.float32),
            tf.TensorSpec((None,), tf.float32),
        ]

        @tf.function(input_signature=signature, autograph=False)  # type: ignore[untyped-decorator]
        def steps(images: Any, targets: Any, weights: Any, rates: Any) -> Any:
            def one(index: Any, sums: Any) -> tuple[Any, Any]:
                with tf.GradientTape() as tape:
                    each, right = losses(images[index], targets[index])
                    weighted = each * weights[index]
                    aim = tf.reduce_sum(weighted) if accumulator is not None else tf.reduce_mean(weighted)
                gradients = tape.gradient(aim, variables)
                if accumulator is not None:
                    accumulator.add(gradients, tf.cast(tf.shape(each)[0], tf.float32))
                else:
                    optimizer.learning_rate.assign(rates[index])
                    optimizer.apply(gradients, variables)
                    if mean is not None:
                        mean.update()
                return index + 1, sums + tf.stack([tf.reduce_sum(weighted), tf.reduce_sum(right)])

            count = tf.shape(images)[0]
            return tf.while_loop(
                lambda index, _: index < count, one, (tf.constant(0), tf.zeros(2)), parallel_iterations=1
            )[1]

        @tf.function(autograph=False)  # type: ignore[untyped-decorator]
        def apply_accumulated(rate: Any) -> None:
            if accumulator is not None:
                optimizer.learning_rate.assign(rate)
                accumulator.apply(optimizer)

        @tf.function(input_signature=[tf.TensorSpec((None, *shape), pixel)], autograph=False)  # type: ignore[untyped-decorator]
        def forward(images: Any) -> Any:
            return self.model(tf.cast(images, tf.float32), training=False)

        self._steps, self._apply_accumulated, self._forward = steps, apply_accumulated, forward

    def _rate(self, step: int) -> float:
        schedule = self.config.schedule
        total = self._steps_an_epoch * self.max_epochs
        return self._base_rate * multiplier(schedule.name, schedule.settings, step, total)

    def train_epoch(self, number: int) -> Epoch:
        """Train one epoch (numbered from 1) and look at the validation split.

        Raises:
            TrialFailedError: the loss, the weights or a validation metric is not finite.
        """
        import tensorflow as tf

        sums = np.zeros(2)
        first_step = (number - 1) * self._steps_an_epoch
        for images, rows, step in self._batches(number):
            rates = [0.0 if self._full_batch else self._rate(first_step + step + each) for each in range(len(rows))]
            sums += self._steps(images, self._targets[rows], self._weights[rows], np.asarray(rates, np.float32)).numpy()
            if not np.isfinite(sums[0]):
                raise TrialFailedError(f"the loss is not finite in epoch {number}")
        if self._full_batch:
            self._apply_accumulated(tf.constant(self._rate(first_step), tf.float32))
        self.epochs_done = number
        with self.deployed():
            validation = self._validate(number)
        n = len(self.arrays.train)
        return Epoch(number, float(sums[0] / n), float(sums[1] / n), validation)

    def _batches(self, epoch: int) -> Iterator[tuple[NDArray[Any], NDArray[np.int64], int]]:
        """Images (S, B, H, W, C), the training rows they show (S, B), and the first step's number in the epoch.

        Each epoch shows each training image once: as itself, or as one of its views in turn.
        """
        config, train = self.config, self.arrays.train
        n, size = len(train), config.batch_size
        order = np.random.default_rng([derived_seed("order", config.seed), epoch]).permutation(n)
        show = self._shown(epoch)
        bytes_a_step = size * int(np.prod(train.images.shape[1:])) * train.images.itemsize
        group = max(1, min(_STEPS_A_CALL, _BYTES_A_CALL // bytes_a_step))
        whole = n // size
        for step in range(0, whole, group):
            count = min(group, whole - step)
            rows = order[step * size : (step + count) * size].reshape(count, size)
            yield show(rows.ravel()).reshape(count, size, *train.images.shape[1:]), rows, step
        if n % size:
            rows = order[whole * size :].reshape(1, -1)
            yield show(rows.ravel())[np.newaxis], rows, whole

    def _shown(self, epoch: int) -> Callable[[NDArray[np.int64]], NDArray[Any]]:
        config, train = self.config, self.arrays.train
        if config.policy == "none":
            return lambda rows: np.asarray(train.images[rows])
        views = self.arrays.views(config.policy)
        n = len(train)
        offsets = np.random.default_rng(derived_seed("views", config.seed)).integers(0, config.views + 1, n)
        chosen = (offsets + epoch) % (config.views + 1)  # config.views stands for the image itself

        def show(rows: NDArray[np.int64]) -> NDArray[Any]:
            images = np.asarray(train.images[rows])
            seen = chosen[rows]
            varied = seen < config.views
            if varied.any():
                images[varied] = views.rows(seen[varied] * n + rows[varied])
            return images

        return show

    # -- looking -------------------------------------------------------------------------------------------------------

    @contextmanager
    def deployed(self) -> Iterator[None]:
        """Inside the `with` block the model has the weights that it would be saved with."""
        with self._mean.swapped() if self._mean is not None else nullcontext():
            yield

    def probabilities(self, images: NDArray[Any]) -> NDArray[np.float64]:
        """(N, K) for raw images (N, H, W, C)."""
        parts = [self._forward(block).numpy() for block in _blocks(images)]
        return np.concatenate(parts).astype(np.float64)

    def outputs(self, model: keras.Model, images: NDArray[Any]) -> Iterator[list[NDArray[np.float64]]]:
        """What another model over this network's layers gives for raw images (N, H, W, C): block by block, in order,
        a list of its outputs."""
        forward = self._forward_of(model, images)
        for block in _blocks(images):
            found = forward(block)
            yield [each.numpy().astype(np.float64) for each in (found if isinstance(found, list) else [found])]

    def _validate(self, number: int) -> dict[str, float]:
        val = self.arrays.val
        if not len(val):
            return {}
        found = self.probabilities(val.images)
        self._seen = (number, found)
        if not np.isfinite(found).all():
            raise TrialFailedError(f"the weights are not finite in epoch {number}")
        values = evaluate_all(val.task, val.labels, found, plain_decisions(val, found))
        # What a split cannot tell (AUROC with one class, say) is left out; the search decides whether it needs it.
        return {f"val_{name}": float(values[name]) for name in VALIDATION_METRICS if np.isfinite(values[name])}

    def measure(self, folder: Path, model: keras.Model | None = None) -> dict[str, float]:
        """Parameters, multiply-adds, the saved model's bytes, and the milliseconds that one image takes.

        Args:
            folder: where it may write.
            model: another model over the same images; None: this network.
        """
        path = folder / f".measure-{os.getpid()}.keras"
        measured = model if model is not None else self.model
        try:
            save_model(measured, path)
            size = path.stat().st_size
        finally:
            path.unlink(missing_ok=True)
        image = np.asarray(self.arrays.train.images[:1])
        forward = self._forward if model is None else self._forward_of(model, image)
        forward(image)
        times = []
        for _ in range(20):
            start = time.perf_counter()
            np.asarray(forward(image))
            times.append(time.perf_counter() - start)
        warm = {} if self._warm is None else {"warm_parameters": float(self._warm)}
        return warm | {
            "parameters": float(measured.count_params()),
            "multiply_adds": float(multiply_adds(measured)),
            "file_bytes": float(size),
            "latency_ms": 1000 * float(np.median(times)),
        }

    def _forward_of(self, model: keras.Model, images: Any) -> Callable[[Any], Any]:
        import tensorflow as tf

        pixel = tf.as_dtype(images.dtype)

        @tf.function(input_signature=[tf.TensorSpec((None, *images.shape[1:]), pixel)], autograph=False)  # type: ignore[untyped-decorator]
        def forward(block: Any) -> Any:
            return model(tf.cast(block, tf.float32), training=False)

        found: Callable[[Any], Any] = forward
        return found


def _blocks(images: NDArray[Any]) -> Iterator[NDArray[Any]]:
    size = max(1, min(_VALIDATION_BATCH, _VALIDATION_BYTES // (int(np.prod(images.shape[1:])) * images.itemsize)))
    for start in range(0, len(images), size):
        yield np.asarray(images[start : start + size])


def plain_decisions(split: PreparedSplit | Examples, probabilities: NDArray[np.float64]) -> NDArray[np.int64]:
    """Decisions before any threshold is fitted: at 0.5, or for the most probable class."""
    from medsweep.statistics.operating_points import decide

    half = [0.5] * (len(split.class_names) if split.task == "multilabel" else 1)
    return decide(split.task, probabilities, half)


def class_weights(targets: NDArray[np.float32], kind: str, task: str) -> NDArray[np.float32]:
    """A weight a training image, mean 1.

    Args:
        targets: (N, K) zeros and ones.
        kind: 'none', or 'balanced': inversely to the frequency of the image's class; for multi-label, the mean over
            labels of the weight of the side (present or absent) that the image is on.
        task: binary, multiclass, multilabel or ordinal.

    Returns:
        (N,) float32.
    """
    if kind == "none":
        return np.ones(len(targets), np.float32)
    share = np.clip(targets.mean(axis=0, dtype=np.float64), 1e-9, 1 - 1e-9)
    if task != "multilabel":
        weights = (targets / share).sum(axis=1)
    else:
        weights = np.where(targets > 0.5, 0.5 / share, 0.5 / (1 - share)).mean(axis=1)
    scaled: NDArray[np.float32] = (weights / weights.mean()).astype(np.float32)
    return scaled
