"""Workers that answer, raise, die once and die always: real processes, each task a Python expression for `eval`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from medsweep.train.executor import WorkerDied, Workers, local_workers

DIE = "__import__('os').kill(__import__('os').getpid(), 9)"


def die_once(mark: Path) -> str:
    return f"1000 if __import__('os').path.exists({str(mark)!r}) else (open({str(mark)!r}, 'x'), {DIE})"


def answers(workers: Workers, tasks: list[str]) -> dict[int, Any]:
    found: dict[int, Any] = {}
    for index, answer in workers.map_unordered(eval, tasks):
        assert index not in found, "a task was answered twice"
        found[index] = answer
    return found


@pytest.mark.parametrize("count", [1, 2, 3])
def test_every_task_is_answered_once(count: int) -> None:
    with Workers(lambda: ThreadPoolExecutor(count), count) as workers:
        assert answers(workers, [f"{n} * {n}" for n in range(20)]) == {n: n * n for n in range(20)}
        assert answers(workers, []) == {}
        assert workers.run(eval, "6 * 7") == 42


def test_no_more_tasks_in_flight_than_workers() -> None:
    lock, now, most = threading.Lock(), [0], [0]

    def busy(_: int) -> None:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.005)
        with lock:
            now[0] -= 1

    with Workers(lambda: ThreadPoolExecutor(8), 3) as workers:
        assert len(list(workers.map_unordered(busy, list(range(30))))) == 30
    assert most[0] == 3


def test_an_exception_of_the_task_is_raised_here() -> None:
    with Workers(lambda: ThreadPoolExecutor(2), 2) as workers, pytest.raises(ZeroDivisionError):
        answers(workers, ["1", "1 / 0", "2"])


@pytest.mark.parametrize("count", [1, 2])
def test_deaths_are_the_task_s_own_whatever_else_was_in_flight(count: int, tmp_path: Path) -> None:
    tasks = ["1 + 1", DIE, "2 + 1", die_once(tmp_path / "a"), DIE, "3 + 1", die_once(tmp_path / "b")]
    with local_workers(count, os.getpid) as workers:  # type: ignore[arg-type]
        assert answers(workers, tasks) == {
            0: 2,
            1: WorkerDied(),
            2: 3,
            3: 1000,
            4: WorkerDied(),
            5: 4,
            6: 1000,
        }
        assert answers(workers, ["5"]) == {0: 5}, "the workers were not replaced"


def test_workers_are_replaced_after_a_life_of_tasks() -> None:
    made: list[Executor] = []

    def make() -> Executor:
        made.append(ThreadPoolExecutor(2))
        return made[-1]

    with Workers(make, 2, tasks_a_life=3) as workers:
        for number in range(12):
            assert answers(workers, [f"{number}", "7"]) == {0: number, 1: 7}
    assert len(made) == 4  # after six tasks each time, while nothing is in flight


class BrokenWhenIdle(Executor):
    """A pool whose worker died between two tasks: it breaks when the next task is handed in."""

    def submit(self, *_: Any, **__: Any) -> Future[Any]:  # type: ignore[override]
        raise BrokenExecutor


def test_a_worker_that_died_idle_is_no_task_s_fault() -> None:
    pools: list[Executor] = [BrokenWhenIdle(), BrokenWhenIdle(), ThreadPoolExecutor(1)]
    with Workers(lambda: pools.pop(0), 1) as workers:
        assert answers(workers, ["1", "2"]) == {0: 1, 1: 2}


def test_leaving_by_an_exception_ends_busy_workers() -> None:
    before = {each.pid for each in psutil.Process().children(recursive=True)}
    with pytest.raises(KeyboardInterrupt), local_workers(2, os.getpid) as workers:  # type: ignore[arg-type]
        for _ in workers.map_unordered(eval, ["1", "__import__('time').sleep(600)"]):
            raise KeyboardInterrupt
    mine = [each for each in psutil.Process().children() if each.pid not in before and "spawn_main" in _line(each)]
    _, alive = psutil.wait_procs(mine, timeout=20)
    assert not alive


def _line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


DRIVER = """
import os
from medsweep.train.executor import local_workers
if __name__ == "__main__":
    with local_workers(2, os.getpid) as workers:
        tasks = ["__import__('os').getpid()"] * 2 + ["__import__('time').sleep(600)"] * 2
        for index, pid in workers.map_unordered(eval, tasks):
            print(pid, flush=True)
"""


def test_workers_leave_when_their_driver_was_killed(tmp_path: Path) -> None:
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None
        pids = {int(driver.stdout.readline()) for _ in range(2)}
        driver.send_signal(signal.SIGKILL)
    workers = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert not [each for each in alive if each.status() != psutil.STATUS_ZOMBIE]
