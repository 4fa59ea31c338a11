"""Reading in worker processes. The results come in the records' order, whatever a file does to its reader.

A file can make a decoder crash, hang or ask for all memory. So files are read in processes of their own, which say
where they are: one that dies or takes too long costs the file at hand, not the stage.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from medsweep.artifacts.record import ImageRecord
from medsweep.errors import MedsweepError
from medsweep.prepare.reading import Chunk, Reader
from medsweep.processes import ctrl_c_kept_from_children, end_with_parent

_CHUNKS_A_WORKER = 3
# A death or a delay may be the machine's fault: a file is blamed when it happens again.
_ATTEMPTS = 2
_IDLE, _STARTING = -1.0, -2.0
# How long the imports of a fresh process may take.
_START_SECONDS = 300.0
_LOOK_EVERY = 0.25
_PAGE = 4096
# malloc.h: larger blocks than this are given back at once, and beyond that much free memory at the end of the heap.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_BYTES = 32 << 20


@dataclass
class _Task:
    """A chunk on its way: what it holds, and what is known of its files."""

    records: list[ImageRecord]
    refused: dict[int, str] = field(default_factory=dict)
    failures: dict[int, int] = field(default_factory=dict)
    answer: Chunk | None = None


def read_all(
    reader: Reader, records: Iterable[ImageRecord], *, workers: int
) -> Iterator[tuple[list[ImageRecord], Chunk]]:
    """Chunks of records with what became of them, in order.

    A record whose reader dies or takes longer than `limits.seconds`, twice, is rejected with that reason.

    Args:
        reader: reads a chunk.
        records: are drawn as they are needed; a bounded number is in flight.
        workers: spawned processes. With 1, images that are made and not read are made in this one.

    Raises:
        MedsweepError: processes cannot be started, or die before they read anything.
    """
    chunks = _chunks(records, reader.chunk_size)
    if workers == 1 and reader.source.synthetic:
        _one_thread()
        for chunk in chunks:
            yield chunk, reader.read(chunk, {}, lambda index: None)
        return
    waiting: deque[_Task] = deque()
    pool = _Pool(reader, workers)
    try:
        for chunk in chunks:
            task = _Task(chunk)
            waiting.append(task)
            pool.submit(task)
            while len(waiting) >= _CHUNKS_A_WORKER * workers:
                yield _first(pool, waiting)
        while waiting:
            yield _first(pool, waiting)
    finally:
        pool.close()


def _first(pool: _Pool, waiting: deque[_Task]) -> tuple[list[ImageRecord], Chunk]:
    while waiting[0].answer is None:
        pool.look()
    task = waiting.popleft()
    assert task.answer is not None
    return task.records, task.answer


def _chunks(records: Iterable[ImageRecord], size: int) -> Iterator[list[ImageRecord]]:
    iterator = iter(records)
    while chunk := list(islice(iterator, size)):
        yield chunk


class _Pool:
    """Processes that read tasks; each holds one at a time."""

    def __init__(self, reader: Reader, workers: int) -> None:
        self._reader = reader
        self._queue: deque[_Task] = deque()
        self._workers: list[_Worker] = []
        try:
            # Ctrl-C is answered when all are there: a process cut off while it starts would show a traceback.
            with ctrl_c_kept_from_children():
                for _ in range(workers):
                    self._workers.append(_Worker(reader))
        except BaseException:
            self.close()
            raise

    def submit(self, task: _Task) -> None:
        self._queue.append(task)
        self._hand_out()

    def look(self) -> None:
        """Take what workers have finished, wait a little where none has, and replace those that are lost."""
        busy = [each for each in self._workers if each.task is not None]
        ready = set(
            multiprocessing.connection.wait([handle for each in busy for handle in each.handles], timeout=_LOOK_EVERY)
        )
        for worker in busy:
            try:
                if worker.connection in ready:
                    worker.take()
                elif worker.process.sentinel in ready:
                    self._lost(worker, "a process that reads it dies")
                elif worker.seconds > (self._reader.limits.seconds if worker.place >= 0 else _START_SECONDS):
                    self._lost(worker, f"reading it takes longer than {self._reader.limits.seconds:g} seconds")
            except (EOFError, ConnectionError):
                self._lost(worker, "a process that reads it dies")
        self._hand_out()

    def _hand_out(self) -> None:
        for worker in self._workers:
            if worker.task is None and self._queue:
                worker.give(self._queue.popleft())

    def _lost(self, worker: _Worker, what: str) -> None:
        """Replace a worker; its chunk is read again, without the file at hand if that has happened before."""
        task, place = worker.task, worker.place
        assert task is not None
        worker.close()
        task.failures[place] = task.failures.get(place, 0) + 1
        if task.failures[place] >= _ATTEMPTS:
            if place < 0:  # between two files, or before the first: no file's fault
                raise MedsweepError(
                    "the processes that read images die.",
                    where="runtime.workers",
                    fix="The machine may be out of memory: run again, with fewer workers if it happens again.",
                )
            task.refused[place] = f"{what}."
        self._workers[self._workers.index(worker)] = _Worker(self._reader)
        self._queue.appendleft(task)

    def close(self) -> None:
        for each in self._workers:
            each.close()


class _Worker:
    """One process, the pipe to it, and the memory in which it says where it is."""

    def __init__(self, reader: Reader) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        # The index of the record at hand, and since when.
        self._progress: Any = context.RawArray("d", [_STARTING, time.monotonic()])
        self.process = context.Process(target=_work, args=(reader, theirs, self._progress), daemon=True)
        with ctrl_c_kept_from_children():
            self.process.start()
        theirs.close()
        self.task: _Task | None = None

    @property
    def handles(self) -> list[Any]:
        return [self.connection, self.process.sentinel]

    @property
    def place(self) -> int:
        return int(self._progress[0])

    @property
    def seconds(self) -> float:
        """How long it has been at one record; 0 where it only waits for its answer to be taken."""
        return 0.0 if self._progress[0] == _IDLE else time.monotonic() - float(self._progress[1])

    def give(self, task: _Task) -> None:
        self.task = task
        with suppress(OSError):  # a dead one is found out by the next look
            self.connection.send((task.records, task.refused))

    def take(self) -> None:
        assert self.task is not None
        answer = self.connection.recv()
        if isinstance(answer, Exception):
            raise answer
        self.task.answer, self.task = answer, None

    def close(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


def _work(reader: Reader, connection: Any, progress: Any) -> None:
    """What a worker process does until its parent closes the pipe."""
    end_with_parent()
    _one_thread()
    # Decoders write remarks on damaged files straight to the terminal; what matters goes through the pipe.
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    os.close(silence)
    _bound_memory(reader.limits.memory_bytes)
    _keep_freed_memory()

    def at(index: int) -> None:
        progress[1] = time.monotonic()
        progress[0] = float(index)

    progress[0] = _IDLE
    while True:
        try:
            records, refused = connection.recv()
        except (EOFError, OSError):
            return
        answer: Chunk | Exception
        try:
            answer = reader.read(records, refused, at)
        except Exception as error:  # not a file's fault: the parent raises it
            answer = error
        progress[0] = _IDLE
        connection.send(answer)


def _one_thread() -> None:
    import cv2

    cv2.setNumThreads(1)


def _keep_freed_memory() -> None:
    """Let the C library reuse the memory of one image for the next.

    By default glibc gives it back to the system, which then hands it out again and clears it page by page: that takes
    as long as all the rest of reading a plain slice of 512².
    """
    with suppress(OSError, AttributeError):  # no glibc
        import ctypes

        library = ctypes.CDLL(None)
        for parameter, value in ((_M_MMAP_THRESHOLD, _KEPT_BYTES), (_M_TRIM_THRESHOLD, 2 * _KEPT_BYTES)):
            library.mallopt(parameter, value)


def _bound_memory(more: int) -> None:
    """Let this process take `more` bytes besides what it has: beyond, an allocation fails and the file is refused."""
    try:
        import resource
        from pathlib import Path

        taken = int(Path("/proc/self/statm").read_text().split()[0]) * _PAGE
    except (ImportError, OSError):
        return  # no Linux: the limits from headers still hold
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    # What decoders and libraries load later, and the chunk itself, come on top.
    wanted = taken + more + (256 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))
