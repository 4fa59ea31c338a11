"""Pixels and names on the disk while the stage runs: memory does not grow with the number of images.

Both spools are files without a name: the system frees them when the process ends, however it ends.
"""

from __future__ import annotations

import json
import tempfile
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BLOCK_BYTES = 1 << 20


class PixelSpool:
    """Arrays of one shape and type, appended in any order and read back by row.

    Plain reads instead of a memory map: mapped pages would count as this process's memory.
    """

    def __init__(self, folder: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._stream = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - closed by `close`
        self.shape = shape
        self.dtype = dtype
        self._row_bytes = int(np.prod(shape)) * dtype.itemsize

    def append(self, block: NDArray[Any]) -> None:
        """Add rows; `block` is (n, *shape)."""
        view = np.ascontiguousarray(block, dtype=self.dtype).data.cast("B")
        while len(view):
            view = view[self._stream.write(view) :]

    def blocks(self, rows: NDArray[np.int64]) -> Iterator[NDArray[Any]]:
        """The given rows in their order, some megabytes at a time; call after the last `append`."""
        step = max(1, _BLOCK_BYTES // max(1, self._row_bytes))
        for start in range(0, len(rows), step):
            wanted = rows[start : start + step]
            block = np.empty((len(wanted), *self.shape), dtype=self.dtype)
            for place, row in enumerate(wanted.tolist()):
                self._stream.seek(row * self._row_bytes)
                self._stream.readinto(block[place].data.cast("B"))
            yield block

    def row(self, row: int) -> NDArray[Any]:
        """One row; call after the last `append`."""
        found = np.empty(self.shape, dtype=self.dtype)
        self._stream.seek(row * self._row_bytes)
        self._stream.readinto(found.data.cast("B"))
        return found

    def close(self) -> None:
        self._stream.close()


class _LineSpool:
    """Values as lines of JSON, by row."""

    def __init__(self, folder: Path) -> None:
        self._stream = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by `close`
        self._starts = array("Q")
        self._end = 0

    def _append(self, value: Any) -> None:
        line = json.dumps(value).encode() + b"\n"
        self._starts.append(self._end)
        self._stream.seek(self._end)
        self._stream.write(line)
        self._end += len(line)

    def _read(self, row: int) -> Any:
        self._stream.seek(self._starts[row])
        return json.loads(self._stream.readline())

    def close(self) -> None:
        self._stream.close()


class NameSpool(_LineSpool):
    """File and patient names, by row: for the console and the private folder only."""

    def append(self, name: str, patient: str | None) -> None:
        self._append([name, patient])

    def read(self, row: int) -> tuple[str, str | None]:
        """An image's name, and its patient's where the source names one."""
        name, patient = self._read(row)
        return name, patient


class MetadataSpool(_LineSpool):
    """What each image's file says of itself, by row."""

    def append(self, metadata: Mapping[str, str]) -> None:
        self._append(metadata)

    def read(self, row: int) -> dict[str, str]:
        """An image's metadata, by field."""
        found: dict[str, str] = self._read(row)
        return found
