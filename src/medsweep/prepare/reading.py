"""Records to prepared pixels, in worker processes; the results come in the records' order with any number of them."""

from __future__ import annotations

import hashlib
import multiprocessing
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medsweep.artifacts.record import ImageRecord
from medsweep.errors import DataError
from medsweep.imaging.decode import decode
from medsweep.imaging.pipeline import to_array
from medsweep.params import Image, Intensity
from medsweep.processes import ctrl_c_kept_from_children, end_with_parent
from medsweep.sources.protocol import ImageSource

_CHUNK_BYTES = 4 << 20
_LARGEST_CHUNK = 64
_CHUNKS_A_WORKER = 3


@dataclass(frozen=True)
class Chunk:
    """What became of some consecutive records.

    Args:
        kept: (n,) which of the records could be read, rising.
        images: (n, H, W, C) uint8 or uint16.
        masks: (n, H, W) uint8, or None where the source knows none.
        contents, pixels, sizes, sums, squares, constant: as in `ImageTable`.
        columns: what was learnt with the pixels, a mapping an image.
        rejected: for each record that could not be read, its index and the reason.
    """

    kept: NDArray[np.int64]
    images: NDArray[Any]
    masks: NDArray[np.uint8] | None
    contents: NDArray[np.bytes_]
    pixels: NDArray[np.bytes_]
    sizes: NDArray[np.int32]
    sums: NDArray[np.int64]
    squares: NDArray[np.int64]
    constant: NDArray[np.bool_]
    columns: tuple[Mapping[str, str], ...]
    rejected: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class Reader:
    """A pure function from records to a `Chunk`; it is sent to every worker once."""

    source: ImageSource
    image: Image
    intensity: Intensity

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.uint8 if self.intensity.bits == 8 else np.uint16)

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.image.height, self.image.width, self.image.channels

    @property
    def chunk_size(self) -> int:
        return int(np.clip(_CHUNK_BYTES // (int(np.prod(self.shape)) * self.dtype.itemsize), 1, _LARGEST_CHUNK))

    def read(self, records: Sequence[ImageRecord]) -> Chunk:
        """Decode and prepare `records`; what cannot be read is listed, not raised."""
        n, channels = len(records), self.image.channels
        images = np.empty((n, *self.shape), dtype=self.dtype)
        masks = np.zeros((n, *self.shape[:2]), dtype=np.uint8)
        contents, pixels = np.empty(n, dtype="S64"), np.empty(n, dtype="S32")
        sizes, constant = np.empty((n, 2), dtype=np.int32), np.empty(n, dtype=np.bool_)
        sums, squares = np.empty((n, channels), dtype=np.int64), np.empty((n, channels), dtype=np.int64)
        kept: list[int] = []
        columns: list[Mapping[str, str]] = []
        rejected: list[tuple[int, str]] = []
        masked = False
        for index, record in enumerate(records):
            try:
                raw = self.source.read(record)
                if raw is None:
                    raw = decode(record.path)
                prepared, mask = to_array(raw, self.image, self.intensity)
            except DataError as error:
                rejected.append((index, error.message))
                continue
            place = len(kept)
            images[place] = prepared
            if mask is not None:
                masks[place], masked = mask, True
            values = prepared.reshape(-1, channels).astype(np.int64)
            contents[place] = raw.content.encode()
            pixels[place] = hashlib.blake2b(prepared.tobytes(), digest_size=16).hexdigest().encode()
            sizes[place] = raw.pixels.shape[:2]
            sums[place], squares[place] = values.sum(axis=0), (values * values).sum(axis=0)
            constant[place] = _is_constant(raw.pixels) or _is_constant(prepared)
            kept.append(index)
            columns.append(raw.columns)
        n = len(kept)
        return Chunk(
            kept=np.array(kept, dtype=np.int64),
            images=images[:n],
            masks=masks[:n] if masked else None,
            contents=contents[:n],
            pixels=pixels[:n],
            sizes=sizes[:n],
            sums=sums[:n],
            squares=squares[:n],
            constant=constant[:n],
            columns=tuple(columns),
            rejected=tuple(rejected),
        )


def read_all(
    reader: Reader, records: Iterable[ImageRecord], *, workers: int
) -> Iterator[tuple[list[ImageRecord], Chunk]]:
    """Chunks of records with what became of them, in order.

    Args:
        reader: reads a chunk.
        records: are drawn as they are needed; a bounded number is in flight.
        workers: spawned processes; with 1 the work is done in this one.

    Raises:
        DataError: a worker process died; the message names the image, or the candidates.
    """
    chunks = _chunks(records, reader.chunk_size)
    if workers == 1:
        _one_thread()
        for chunk in chunks:
            yield chunk, reader.read(chunk)
        return
    waiting: deque[tuple[list[ImageRecord], Future[Chunk]]] = deque()
    with _pool(reader, workers) as pool:
        try:
            for chunk in chunks:
                with ctrl_c_kept_from_children():
                    waiting.append((chunk, pool.submit(_read, chunk)))
                if len(waiting) >= _CHUNKS_A_WORKER * workers:
                    yield _answer(waiting)
            while waiting:
                yield _answer(waiting)
        except BrokenProcessPool:
            raise _death(reader, [record for chunk, _ in waiting for record in chunk]) from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _answer(waiting: deque[tuple[list[ImageRecord], Future[Chunk]]]) -> tuple[list[ImageRecord], Chunk]:
    # Stays in the queue until it is answered, so that a death can be traced to its candidates.
    chunk, future = waiting[0]
    answer = future.result()
    waiting.popleft()
    return chunk, answer


def _chunks(records: Iterable[ImageRecord], size: int) -> Iterator[list[ImageRecord]]:
    iterator = iter(records)
    while chunk := list(islice(iterator, size)):
        yield chunk


def _death(reader: Reader, suspects: Sequence[ImageRecord]) -> DataError:
    """The error for a worker that died: its suspects are read once more, one at a time, to name the one at fault."""
    with _pool(reader, 1) as pool:
        for record in suspects:
            try:
                pool.submit(_read, [record]).result()
            except BrokenProcessPool:
                return DataError(
                    "a worker process dies while it reads this image.",
                    where=record.name,
                    fix="Take the file out of the source, or save it anew with another program.",
                )
    return DataError(
        f"a worker process died while it read one of {len(suspects)} images, from {suspects[0].name} to "
        f"{suspects[-1].name}; read again one at a time, each was fine, so the machine may have run out of memory.",
        fix="Run again, with a lower runtime.workers if it happens again.",
    )


def _is_constant(pixels: NDArray[Any]) -> bool:
    return bool((pixels == pixels[0, 0]).all())


_reader: Reader | None = None


def _pool(reader: Reader, workers: int) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=(reader,))


def _start(reader: Reader) -> None:
    global _reader
    _reader = reader
    _one_thread()
    end_with_parent()


def _one_thread() -> None:
    import cv2

    cv2.setNumThreads(1)


def _read(records: Sequence[ImageRecord]) -> Chunk:
    assert _reader is not None
    return _reader.read(records)
