"""Reading with worker processes: order, rejects, and workers that die."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from medsweep.errors import DataError
from medsweep.prepare.reading import Reader, read_all

# Spawned workers import the source's module by name, so it lies in a file of its own.
SOURCE = '''
import os
from pathlib import Path
import numpy as np
from medsweep.artifacts.record import ImageRecord, RawImage
from medsweep.errors import DataError

class Numbers:
    """Images whose first pixel is their number; some cannot be read, one kills its reader."""
    class_names, task, synthetic, settings, unknown_labels = ("a", "b"), "binary", True, {}, ()

    def __init__(self, n, deadly=None, once=None):
        self.n, self.deadly, self.once = n, deadly, once

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
    def make(source):
        return Reader(source, project.params.prepare.image, project.params.prepare.intensity)

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


def test_a_worker_that_dies_is_told_with_its_image(numbers, reader):
    source = numbers(500, deadly=200)
    with pytest.raises(DataError, match=r"pack\[200\]: a worker process dies"):
        list(read_all(reader(source), source.records(), workers=2))


def test_a_worker_that_dies_once_is_told_with_the_candidates(numbers, reader, tmp_path):
    source = numbers(500, deadly=200, once=str(tmp_path / "died"))
    with pytest.raises(DataError, match=r"one of \d+ images, from pack\[\d+\] to pack\[\d+\].*memory"):
        list(read_all(reader(source), source.records(), workers=2))
    assert (tmp_path / "died").exists()
