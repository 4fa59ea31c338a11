"""Where trials are fitted: a `concurrent.futures.Executor`, and what happens when one of its workers dies."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from typing import TypeVar

from medsweep.processes import ctrl_c_kept_from_children, end_with_parent

Task = TypeVar("Task")
Answer = TypeVar("Answer")

# A worker that died with a task is most often the machine's doing (memory, an impatient person); dying again with the
# same task alone is the task's.
_TRIES = 2
# TensorFlow never frees a traced training function (tensorflow#62854): some 25 MB a trial at 28×28. New processes do.
# They take about six seconds to import TensorFlow again, which as many tasks make up for.
_TASKS_A_LIFE = 40


@dataclass(frozen=True)
class WorkerDied:
    """The answer of a task whose worker died each time it was tried."""

    reason: str = "its worker process died twice (out of memory?)"


class Workers:
    """Keeps `count` workers busy, and replaces them when they die.

    Args:
        make: makes the executor; called again after a worker's death.
        count: tasks in flight at a time.
        tasks_a_life: after as many tasks for each worker all are replaced, between two calls; None: never.
    """

    def __init__(self, make: Callable[[], Executor], count: int, *, tasks_a_life: int | None = None) -> None:
        self._make = make
        self._executor = make()
        self.count = count
        self._life = None if tasks_a_life is None else tasks_a_life * count
        self._submitted = 0

    def map_unordered(
        self, function: Callable[[Task], Answer], tasks: Sequence[Task]
    ) -> Iterator[tuple[int, Answer | WorkerDied]]:
        """The answers as they come, each with its task's index. An exception that `function` raises is raised here."""
        waiting = deque(range(len(tasks)))
        suspects: deque[int] = deque()
        deaths: Counter[int] = Counter()
        running: dict[Future[Answer], int] = {}
        if self._life is not None and self._submitted >= self._life:
            self._restart()
        self._submitted += len(tasks)
        while waiting or suspects or running:
            broken: set[int] = set()
            down = False
            try:
                while waiting and len(running) < self.count:
                    with ctrl_c_kept_from_children():
                        future = self._executor.submit(function, tasks[waiting[0]])
                    running[future] = waiting.popleft()
                if not running and suspects:
                    # Alone, so that another death tells whose fault it was.
                    with ctrl_c_kept_from_children():
                        future = self._executor.submit(function, tasks[suspects[0]])
                    running[future] = suspects.popleft()
            except BrokenExecutor:
                down = True
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                index = running.pop(future)
                try:
                    yield index, future.result()
                except BrokenExecutor:
                    down = True
                    broken.add(index)
            if down:
                # Whatever was in flight went down with the pool.
                for future, index in list(running.items()):
                    if future.done() and future.exception() is None:
                        yield index, future.result()
                    else:
                        broken.add(index)
                running.clear()
                self._restart()
                for index in sorted(broken):
                    deaths[index] += 1
                    if deaths[index] >= _TRIES and len(broken) == 1:
                        yield index, WorkerDied()
                    else:
                        suspects.append(index)

    def run(self, function: Callable[[Task], Answer], task: Task) -> Answer | WorkerDied:
        """One task's answer."""
        return next(answer for _, answer in self.map_unordered(function, [task]))

    def close(self, *, kill: bool = False) -> None:
        """End the workers; with `kill`, in the midst of their work."""
        if kill:
            for process in list(getattr(self._executor, "_processes", None) or {}):
                _kill(process)
        self._executor.shutdown(wait=not kill, cancel_futures=True)

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.close(kill=kind is not None)

    def _restart(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._executor = self._make()
        self._submitted = 0


def local_workers(count: int, prepare: Callable[[], None]) -> Workers:
    """Spawned processes on this machine, kept warm from task to task.

    Args:
        count: how many.
        prepare: called once in each new process (to set the number of threads and import what is slow to import).
    """
    context = multiprocessing.get_context("spawn")
    return Workers(
        lambda: ProcessPoolExecutor(count, mp_context=context, initializer=_start, initargs=(prepare,)),
        count,
        tasks_a_life=_TASKS_A_LIFE,
    )


def _start(prepare: Callable[[], None]) -> None:
    end_with_parent()
    prepare()


def _kill(process: int) -> None:
    import signal

    try:
        os.kill(process, signal.SIGTERM if os.name == "nt" else signal.SIGKILL)
    except ProcessLookupError:
        return
