"""A search that is killed twice, and loses a worker, ends with the bytes of one that ran undisturbed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from medsweep.artifacts.run_log import read_log
from medsweep.params import Params

SCRIPT = """
import sys
from pathlib import Path
from rich.console import Console
from medsweep import params
from medsweep.layout import Layout
from medsweep.train import stage, study_figures
if __name__ == "__main__":
    # The pictures have a test of their own.
    study_figures.draw_all = lambda folder, train, outcomes, synthetic: None
    layout = Layout.find(Path(sys.argv[1]))
    known = params.load(layout.params)
    runtime = known.runtime.model_copy(update={"workers": int(sys.argv[2])})
    summary = stage.run(known.model_copy(update={"runtime": runtime}), layout, Console(stderr=True))
    print(*summary.lines(), sep="\\n")
"""
PATIENCE = 240.0


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "train.py"
    path.write_text(SCRIPT)
    return path


def start(script: Path, root: Path, workers: int) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, str(script), str(root), str(workers)], stdout=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> str:
    said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    return said


def log_of(root: Path) -> list[dict[str, Any]]:
    return [event for path in root.glob(".medsweep/work/train/*/run_log.jsonl") for event in read_log(path)]


def wait_for(process: subprocess.Popen[str], holds: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE
    while not holds():
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < until
        time.sleep(0.02)


def kill(process: subprocess.Popen[str]) -> None:
    workers = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    # They notice by themselves that their driver is gone.
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert not [each for each in alive if each.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is a POSIX signal")
def test_killed_twice_and_robbed_of_a_worker(
    write_project: Callable[..., Params], script: Path, tmp_path: Path
) -> None:
    root, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"
    # One trial in four or so diverges: failures must be taken up as well.
    wild = {"momentum": {"learning_rate": [0.01, 100.0], "momentum": 0.9}, "adam": {"learning_rate": 0.005}}
    write_project(root, search={"trials": 6}, space={"optimizer": wild, "loss": {"mean_squared_error": {}}})
    shutil.copytree(root, undisturbed)
    finish(start(script, undisturbed, 1))

    process = start(script, root, 2)
    wait_for(process, lambda: sum(event["event"] == "epochs" for event in log_of(root)) >= 2)
    kill(process)
    first = log_of(root)

    process = start(script, root, 1)
    wait_for(process, lambda: sum(event["event"] == "trial" for event in log_of(root)) >= 3)
    kill(process)
    second = log_of(root)
    finished = {event["trial"] for event in second if event["event"] == "trial"}
    assert 3 <= len(finished) < 6, "it was killed too late to tell"

    process = start(script, root, 1)
    wait_for(process, lambda: len(log_of(root)) > len(second) + 1)
    for worker in psutil.Process(process.pid).children()[-1:]:
        worker.send_signal(signal.SIGKILL)
    said = finish(process)
    assert f"{len(finished)} of them were finished before an interruption" in said

    for name in ("model.keras", "trials.csv", "trained.json", "plots/epochs.csv"):
        assert (root / "models" / name).read_bytes() == (undisturbed / "models" / name).read_bytes(), name
    events = list(read_log(root / "models" / "run_log.jsonl"))
    assert sum(event["event"] == "resumed" for event in events) == 2
    assert max(Counter(event["trial"] for event in events if event["event"] == "trial").values()) == 1
    for before in (first, second):
        # What the log had told was not trained again.
        told = {
            (event["trial"], each["number"])
            for event in before
            if event["event"] == "epochs"
            for each in event["epochs"]
        }
        later = [
            (event["trial"], each["number"])
            for event in events[len(before) :]
            if event["event"] == "epochs"
            for each in event["epochs"]
        ]
        assert not told & set(later)
