"""What the benchmarks share: a throw-away project, the peak memory of a process, and how figures are shown."""

from __future__ import annotations

import copy
import io
import json
import os
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.table import Table

from medsweep.artifacts.prepared import PreparedSplit
from medsweep.artifacts.trial import TrialOutcome
from medsweep.layout import Layout
from medsweep.params import Params, load_yaml, parse
from medsweep.train.examples import TrainingData

REPOSITORY = Path(__file__).resolve().parent.parent

# One network of middling size: six 3x3 convolutions with batch normalization, about 5 million multiply-adds at 28x28.
ONE_NETWORK: Mapping[str, Any] = {
    "train.space.optimizer": {"adam": {"learning_rate": {"low": 0.0005, "high": 0.005, "log": True}}},
    "train.space.loss": {"categorical_crossentropy": {"label_smoothing": 0.0}},
    "train.space.backbone": {"plain": {"depth": 3, "width": 16, "batch_norm": True, "dropout": 0.3}},
    "train.space.schedule": {"constant": {}},
    "train.space.activation": ["relu"],
    "train.space.pooling": ["max"],
    "train.space.batch_size": 32,
    "train.space.weight_decay": 0.0,
    "train.space.class_weights": ["none"],
    "train.space.standardize": ["dataset"],
    "train.space.policy": ["none"],
    "train.space.views": 1,
}


def phantoms(n_images: int, size: int) -> dict[str, Any]:
    """Changes of params.yaml for `n_images` phantoms of `size` x `size`, two a patient."""
    source = {"kind": "phantom", "path": "data/raw", "patients": n_images // 2, "images_per_patient": 2}
    # Phantoms are made at least at 64x64 and then resized, as in the default experiment.
    source["size"] = max(64, size)
    return {"prepare.source": source, "prepare.image.height": size, "prepare.image.width": size}


@contextmanager
def temporary_project(changes: Mapping[str, Any]) -> Iterator[tuple[Params, Layout]]:
    """A project in a folder that is removed at the end: the repository's params.yaml with `changes` by dotted name."""
    mapping = copy.deepcopy(load_yaml(REPOSITORY / "params.yaml"))
    for name, value in changes.items():
        *parents, key = name.split(".")
        section = mapping
        for parent in parents:
            section = section[parent]
        section[key] = copy.deepcopy(value)
    with TemporaryDirectory(prefix="medsweep-bench-") as folder:
        root = Path(folder).resolve()
        # JSON is YAML.
        (root / "params.yaml").write_text(json.dumps(mapping), encoding="utf-8")
        (root / "dvc.yaml").write_text("stages: {}\n", encoding="utf-8")
        yield parse(mapping, where="params.yaml"), Layout.find(root)


def quiet() -> Console:
    """A console that shows nothing."""
    return Console(file=io.StringIO())


def training_data(layout: Layout) -> TrainingData:
    """The prepared arrays as a worker is told of them."""
    digest = PreparedSplit.load(layout.prepared_split("train")).digest
    return TrainingData(layout.prepared_split("train"), layout.prepared_split("val"), layout.augmented, digest)


class Nobody:
    """Is told of progress and says nothing."""

    def segment(self, trial: int, epochs: int) -> None:
        """Nothing."""

    def finished(self, outcome: TrialOutcome, best: TrialOutcome | None) -> None:
        """Nothing."""


def cpu_seconds() -> float:
    """CPU seconds of this process and of those that it started and that have ended."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def peak_memory(process: int | None = None) -> float:
    """The peak resident memory of a process (by default this one), in MB of 10⁶ bytes.

    From /proc rather than getrusage: there a new process begins with the peak of the one that started it. Where there
    is no /proc, the present resident memory stands in, to be asked for often.
    """
    number = os.getpid() if process is None else process
    status = Path(f"/proc/{number}/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    import psutil

    return float(psutil.Process(number).memory_info().rss / 1e6)


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median and range: '1.02 (0.98–1.07)'."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table, its title above."""
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    table = Table(*columns, title=f"{title} ({os.cpu_count()} cores{load})", title_justify="left", box=None)
    for row in rows:
        table.add_row(*row)
    Console(width=140).print(table)


def write_json(path: Path | None, found: Any) -> None:
    """Write all measurements to `path`, or nothing where it is None."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
