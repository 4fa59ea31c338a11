"""How TensorFlow begins in a process of ours; called before anything else in it imports TensorFlow or Keras."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress


def tensorflow_environment() -> None:
    """What TensorFlow reads when it is imported; what the user has set stays.

    oneDNN's convolutions are on where TensorFlow itself has them on, and on all other 64-bit x86 processors too:
    TensorFlow leaves them off where there is AVX2 but no AVX-512, and so would train 1.7 times slower there
    (docs/benchmarks.md).
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if platform.machine().lower() in ("x86_64", "amd64"):
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


def start_tensorflow(*, operations_at_once: int = 1) -> None:
    """Import TensorFlow and Keras, one thread an operation: how a sum is cut into parts depends on their number.

    Args:
        operations_at_once: how many operations may run at the same time, each in its thread.
    """
    tensorflow_environment()
    with _greetings_dropped():
        import keras  # noqa: F401  (here, so that no trial's time has its import)
        import tensorflow as tf

    # TensorFlow refuses once it has run anything: then its owner has set them.
    with suppress(RuntimeError):
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(operations_at_once)


@contextmanager
def _greetings_dropped() -> Iterator[None]:
    """TensorFlow says things on standard error as it starts, whatever its log level; they matter only if it fails."""
    if "tensorflow" in sys.modules:
        yield
        return
    sys.stderr.flush()
    before = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        except BaseException:
            said.seek(0)
            os.write(before, said.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(before, 2)
            os.close(before)
