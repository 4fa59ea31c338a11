"""What every process that works for another must keep to: end with it, and leave Ctrl-C to it."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


def end_with_parent() -> None:
    """Called once in a worker process: it leaves as soon as its parent is gone, however that ended.

    A driver that was killed can't stop its workers, and they would wait for work for ever.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    sentinel = parent.sentinel

    def leave() -> None:
        multiprocessing.connection.wait([sentinel])
        os._exit(1)

    threading.Thread(target=leave, daemon=True).start()


@contextmanager
def ctrl_c_kept_from_children() -> Iterator[None]:
    """Ctrl-C reaches every process of a terminal; those started in the `with` block leave it to this one to answer.

    A child inherits which signals are blocked from its first instruction on; this process gets what came meanwhile.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # when it starts, it unblocks SIGINT in this process: so before, not within
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
