"""Figures of the machine while a stage works."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType


class SystemSampler:
    """A thread that measures the machine every few seconds until it is stopped.

    Each measurement is a mapping of `cpu_percent` (of all cores together, 0-100), `memory_percent` (of the machine),
    `processes_memory_mb` (resident memory of this process and those below it, in MB of 10⁶ bytes; pages that they
    share count once each) and `processes` (how many they are).

    Args:
        append: takes one measurement: the `values` of a run log's `system` event. It is called from another thread.
        seconds: between two measurements.
    """

    def __init__(self, append: Callable[[dict[str, float]], None], seconds: float) -> None:
        self._append = append
        self._seconds = seconds
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="medsweep-system", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns when no further measurement can arrive."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def __enter__(self) -> SystemSampler:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self) -> None:
        import psutil

        psutil.cpu_percent()  # the first call only starts the clock
        while not self._stopped.wait(self._seconds):
            self._append(_measure())


def _measure() -> dict[str, float]:
    import psutil

    here = psutil.Process()
    sizes = []
    for process in (here, *here.children(recursive=True)):
        try:
            sizes.append(process.memory_info().rss)
        except psutil.Error:  # it ended meanwhile
            continue
    return {
        "cpu_percent": psutil.cpu_percent(),
        "memory_percent": psutil.virtual_memory().percent,
        "processes_memory_mb": round(sum(sizes) / 1e6, 1),
        "processes": float(len(sizes)),
    }
