"""Reading with worker processes: order, rejects, and workers that die."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from medsweep.errors import MedsweepError
from medsweep.prepare.reading import Reader
from medsweep.prepare.workers import read_all

# Spawned workers import the source's module by name, so it lies in a file of its own.
SOURCE = '''
import os
import time
from pathlib import Path
import numpy as np
from medsweep.artifacts.record import ImageRecord, RawImage
from medsweep.errors import DataError, MedsweepError

class Numbers:
    """Images whose first pixel is their number; some cannot be read, one kills its reader."""
    class_names, task, settings, unknown_labels = ("a", "b"), "binary", {}, ()

    def __init__(self, n, deadly=None, once=None, hanging=None, greedy=None, missing_package=None,
                 unreadable_in_worker=False, synthetic=True):
        self.n, self.deadly, self.once = n, deadly, once
        self.hanging, self.greedy, self.missing_package = hanging, greedy, missing_package
        self.unreadable_in_worker, self.synthetic = unreadable_in_worker, synthetic

    def __setstate__(self, state):
        if state["unreadable_in_worker"]:
            os._exit(9)
        self.__dict__ = state

    def __len__(self):
        return self.n

    def records(self):
        for frame in range(self.n):
            yield ImageRecord(Path("pack"), frame % 2, None, None, "numbers", frame)

    def read(self, record):
        if record.frame == self.deadly and not (self.once and os.path.exists(self.once)):
            if self.once:
                open(self.once, "w").close()
            os._exit(9)
        if record.frame == self.hanging:
            time.sleep(100)
        if record.frame == self.greedy:
            bytearray(2 << 30)
        if record.frame == self.missing_package:
            raise MedsweepError("a package is not installed.")
        if record.frame % 10 == 3:
            raise DataError("is torn.", where="pack")
        pixels = np.full((16, 16), record.frame % 256, np.uint8)
        return RawImage(pixels=pixels, largest=255, content=f"{record.frame:064x}")
'''


@pytest.fixture
def numbers(tmp_path, monkeypatch):
    (tmp_path / "numbers_source.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    import numbers_source

    yield numbers_source.Numbers
    sys.modules.pop("numbers_source")


@pytest.fixture
def reader(project):
    def make(source, limits=None):
        return Reader(
            source,
            project.params.prepare.image,
            project.params.prepare.intensity,
            limits or project.params.prepare.limits,
        )

    return make


@pytest.mark.parametrize("workers", [1, 2])
def test_records_come_in_order_and_add_up(numbers, reader, workers):
    source = numbers(1000)
    read, rejected = [], []
    for records, chunk in read_all(reader(source), source.records(), workers=workers):
        frames = [record.frame for record in records]
        read += [frames[index] for index in chunk.kept.tolist()]
        rejected += [frames[index] for index, _ in chunk.rejected]
        np.testing.assert_array_equal(chunk.images[:, 0, 0, 0], np.array(read[len(read) - len(chunk.kept) :]) % 256)
        assert chunk.constant.all()
    assert read == [frame for frame in range(1000) if frame % 10 != 3]
    assert rejected == list(range(3, 1000, 10))


def outcome(reader, source, workers):
    """The numbers that were read, and the reasons by number of those that were not."""
    read, rejected = [], {}
    for records, chunk in read_all(reader, source.records(), workers=workers):
        read += [records[index].frame for index in chunk.kept.tolist()]
        rejected |= {records[index].frame: reason for index, reason in chunk.rejected}
    assert len(read) + len(rejected) == len(source)
    return read, rejected


@pytest.mark.parametrize("workers", [1, 2])
def test_a_file_that_kills_its_reader_is_rejected_and_the_others_are_read(numbers, reader, workers):
    source = numbers(300, deadly=200, synthetic=False)
    read, rejected = outcome(reader(source), source, workers)
    assert rejected.pop(200) == "a process that reads it dies."
    assert set(rejected) == set(range(3, 300, 10))
    assert read == [frame for frame in range(300) if frame % 10 != 3 and frame != 200]


def test_a_file_that_kills_its_reader_once_is_read_the_second_time(numbers, reader, tmp_path):
    source = numbers(300, deadly=200, once=str(tmp_path / "died"))
    read, rejected = outcome(reader(source), source, 2)
    assert (tmp_path / "died").exists()
    assert 200 in read
    assert 200 not in rejected


def test_a_file_that_hangs_its_reader_is_rejected_when_its_time_is_over(numbers, reader, project):
    source = numbers(60, hanging=21)
    limits = project.params.prepare.limits.model_copy(update={"seconds": 1.0})
    read, rejected = outcome(reader(source, limits), source, 2)
    assert rejected[21] == "reading it takes longer than 1 seconds."
    assert len(read) == 60 - 6 - 1


def test_a_file_that_asks_for_all_memory_is_rejected(numbers, reader, project):
    source = numbers(20, greedy=5)
    limits = project.params.prepare.limits.model_copy(update={"memory_mb": 64})
    _, rejected = outcome(reader(source, limits), source, 2)
    assert rejected[5] == "needs more than 64 MiB once decoded."


def test_an_error_that_is_no_files_fault_stops_the_reading(numbers, reader):
    source = numbers(20, missing_package=5)
    with pytest.raises(MedsweepError, match="not installed"):
        outcome(reader(source), source, 2)


def test_processes_that_cannot_live_are_told(numbers, reader):
    source = numbers(20, unreadable_in_worker=True)
    with pytest.raises(MedsweepError, match="processes that read images die"):
        outcome(reader(source), source, 2)
