"""Fits one trial for some epochs: a pure function from configuration, arrays and checkpoint to figures and checkpoint.

It runs in a worker process and knows no Optuna, no MLflow and no DVC.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from medsweep.artifacts.trial import Epoch, TrialConfig
from medsweep.backend.start import start_tensorflow
from medsweep.errors import MedsweepError, SearchError
from medsweep.train.examples import HOLDOUT, Part, TrainingData
from medsweep.train.network import Network, TrialFailedError, forget_networks, open_network


@dataclass(frozen=True)
class FitTask:
    """Train a trial up to an epoch.

    Args:
        config: the trial.
        data: the arrays.
        max_epochs: the epochs of a whole training, which schedules are drawn over.
        until: train up to and including this epoch.
        start: the checkpoint to go on from; None starts anew.
        save_to: where the checkpoint after `until` goes.
        measure: also find out parameters, multiply-adds, file size and latency.
        part: what is trained on and looked at.
        predictions: where the probabilities of what is looked at go after `until`, (N, K) float32; None: nowhere.
    """

    config: TrialConfig
    data: TrainingData
    max_epochs: int
    until: int
    start: Path | None
    save_to: Path
    measure: bool
    part: Part = HOLDOUT
    predictions: Path | None = None


@dataclass(frozen=True)
class FitAnswer:
    """What came of a task: the epochs trained in it, or why it failed; CPU seconds; peak resident bytes; facts."""

    epochs: tuple[Epoch, ...]
    error: str | None
    seconds: float
    peak_rss: int
    facts: dict[str, float]


def prepare_worker() -> None:
    """Set a worker process up: one thread (processes use the machine better), repeatable kernels, slow imports done."""
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["TF_NUM_INTEROP_THREADS"] = "1"
    start_tensorflow()
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()
    # Rewriting the graph costs a second a network and makes small convolutions no faster on a CPU.
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    # It warns of graphs traced in a loop; here each trial is another network.
    tf.get_logger().setLevel("ERROR")


def fit(task: FitTask, on_epoch: Callable[[Epoch], None] | None = None) -> FitAnswer:
    """Train a trial from its checkpoint to `task.until`, and write the next checkpoint.

    A trial that cannot go on (loss not finite, out of memory, an exception while building or training) is an answer
    with an error, not an exception.

    Raises:
        SearchError: a file cannot be read or written: the machine's fault, not the trial's.
        ArtifactError: the arrays are missing or do not belong together.
    """
    import tensorflow as tf

    started = time.process_time()
    epochs: list[Epoch] = []
    facts: dict[str, float] = {}
    error = None
    try:
        network = open_network(task.config, task.data, task.part, task.max_epochs)
        network.begin(task.start)
        for number in range(network.epochs_done + 1, task.until + 1):
            epoch = network.train_epoch(number)
            epochs.append(epoch)
            if on_epoch is not None:
                on_epoch(epoch)
        if task.predictions is not None:
            network.save_predictions(task.predictions)
        network.save(task.save_to)
        if task.measure:
            with network.deployed():
                facts = network.measure(task.save_to.parent)
    except TrialFailedError as failure:
        error = str(failure)
    except (MemoryError, tf.errors.ResourceExhaustedError):
        forget_networks()
        error = "out of memory"
    except OSError as failure:
        raise SearchError(
            f"a trial's files cannot be read or written ({failure}).", fix="Mend that, and run the same command again."
        ) from None
    except MedsweepError:
        raise
    except Exception as failure:  # one bad trial must not end the search; its reason is kept and shown
        forget_networks()
        error = _reason(failure)
    return FitAnswer(tuple(epochs), error, time.process_time() - started, _peak_rss(), facts)


def _reason(failure: Exception) -> str:
    """One line without what differs from worker to worker: addresses, and TensorFlow's running numbers and places."""
    text = " ".join(str(failure).split())
    text = re.sub(r"\{\{.*?\}\}|\[\[.*?\]\]|\[Op:[^\]]*\]", "", text)
    text = re.sub(r"\b0x[0-9a-fA-F]+|(?<=_)\d+\b", "…", text)
    text = re.sub(r"(?<![\w/])(?:/[\w.+-]+)+/(?=[\w.+-])", "", text)  # folders of this machine
    return f"{type(failure).__name__}: {' '.join(text.split())[:300]}"


def _peak_rss() -> int:
    """The process's peak resident memory in bytes."""
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        return int(psutil.Process().memory_info().peak_wset)  # type: ignore[attr-defined]
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@contextmanager
def finished_network(task: FitTask) -> Iterator[Network]:
    """A trial's network as it stands in the checkpoint `task.start`, with its averaged weights where it keeps them."""
    network = open_network(task.config, task.data, task.part, task.max_epochs)
    network.begin(task.start)
    with network.deployed():
        yield network
