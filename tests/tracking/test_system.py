from __future__ import annotations

import threading

from medsweep.tracking.system import SystemSampler


def test_measurements_arrive_until_it_is_stopped() -> None:
    found: list[dict[str, float]] = []
    enough = threading.Event()

    def append(values: dict[str, float]) -> None:
        found.append(values)
        if len(found) == 2:
            enough.set()

    with SystemSampler(append, 0.01):
        assert enough.wait(30)
    count = len(found)
    threading.Event().wait(0.05)
    assert len(found) == count
    for values in found:
        assert set(values) == {"cpu_percent", "memory_percent", "processes_memory_mb", "processes"}
        assert 0 <= values["memory_percent"] <= 100 and values["processes"] >= 1
        assert values["processes_memory_mb"] > 5  # this Python itself
