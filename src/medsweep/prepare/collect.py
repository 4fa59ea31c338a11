"""A source's images, read once from the first to the last: pixels to the spools, the rest to an ImageTable."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medsweep.artifacts.files import digest_file
from medsweep.artifacts.record import ImageRecord
from medsweep.errors import DataError
from medsweep.layout import SPLITS
from medsweep.prepare.reading import Audit, Chunk, Reader
from medsweep.prepare.spool import MetadataSpool, NameSpool, PixelSpool
from medsweep.prepare.table import NO_SPLIT, ImageTable
from medsweep.prepare.workers import read_all

_ID_LENGTH = 16


@dataclass(frozen=True)
class Rejected:
    """A record that could not be read: its name (console and private folder only), why, and its id, a digest of its
    bytes, or empty where not even those can be read."""

    name: str
    reason: str
    record_id: str


@dataclass(frozen=True)
class Collected:
    """All images of a source: the table in reading order, the distinct audits that it refers to, what was rejected, and
    the spools."""

    table: ImageTable
    audits: tuple[Audit, ...]
    rejected: tuple[Rejected, ...]
    masks: PixelSpool | None


def collect(
    reader: Reader,
    *,
    root: Path,
    workers: int,
    names: NameSpool,
    pixels: PixelSpool | None,
    thumbnails: PixelSpool,
    metadata: MetadataSpool,
    new_mask_spool: Callable[[], PixelSpool] | None,
    advance: Callable[[int], None],
) -> Collected:
    """Read every image of `reader.source`.

    Args:
        reader: decodes and prepares.
        root: file names below it are named from there.
        workers: processes to read with.
        names: takes a name an image.
        pixels: takes the prepared pixels, or None to keep none (a mere check).
        thumbnails, metadata: take what the reader notes for the checks.
        new_mask_spool: makes the spool for masks, where the source knows them; None to keep none.
        advance: is told how many more records are done.

    Raises:
        DataError: no image could be read; some records have a split and others none; a worker process died.
    """
    parts: dict[str, list[NDArray[Any]]] = {}
    columns: list[dict[str, NDArray[np.str_]]] = []
    learnt: set[str] = set()
    rejected: list[Rejected] = []
    masks: PixelSpool | None = None
    audits: dict[Audit, int] = {}
    n = 0
    for records, chunk in read_all(reader, _of_one_mind(reader.source.records(), root), workers=workers):
        kept = [records[index] for index in chunk.kept.tolist()]
        for record in kept:
            names.append(shown_name(record, root), record.patient_id)
        rejected += [_rejected(records[index], reason, reader, root) for index, reason in chunk.rejected]
        if kept:
            if n == 0 and chunk.masks is not None and new_mask_spool is not None:
                masks = new_mask_spool()
            if pixels is not None:
                pixels.append(chunk.images)
            if masks is not None:
                masks.append(np.zeros(chunk.images.shape[:3], np.uint8) if chunk.masks is None else chunk.masks)
            for key, values in _compact(kept, chunk, n, audits).items():
                parts.setdefault(key, []).append(values)
            columns.append(_columns(kept, chunk))
            learnt.update(name for each in chunk.columns for name in each)
            if reader.wanted.fingerprints:
                thumbnails.append(chunk.observed.thumbnails)
            for each in chunk.observed.metadata:
                metadata.append(each)
            n += len(kept)
        advance(len(records))
    if n == 0:
        first = rejected[0] if rejected else None
        raise DataError(
            f"none of the {len(rejected)} images can be read" + (f"; the first: {first.reason}" if first else "."),
            where=first.name if first else "prepare.source",
        )
    arrays = {key: np.concatenate(values) for key, values in parts.items()}
    lengths = [len(each) for each in parts["rows"]]
    table = ImageTable(**arrays, columns=_joined(columns, lengths), learnt=frozenset(learnt))
    return Collected(table, tuple(audits), tuple(rejected), masks)


def shown_name(record: ImageRecord, root: Path) -> str:
    """How the console and the private folder name an image: from the project's root where it lies below."""
    path = record.path.relative_to(root) if record.path.is_relative_to(root) else record.path
    return path.as_posix() if record.frame is None else f"{path.as_posix()}[{record.frame}]"


def _of_one_mind(records: Iterator[ImageRecord], root: Path) -> Iterator[ImageRecord]:
    """The records as they come, as long as all of them have a split or none has."""
    first: ImageRecord | None = None
    for record in records:
        first = first or record
        if (record.split is None) != (first.split is None):
            with_one, without = (first, record) if record.split is None else (record, first)
            raise DataError(
                f"has no split, while {shown_name(with_one, root)} has the split '{with_one.split}'.",
                where=shown_name(without, root),
                fix="Give every image a split or none; splits that have no image at all are carved out.",
            )
        yield record


def _compact(
    kept: Sequence[ImageRecord], chunk: Chunk, start: int, audits: dict[Audit, int]
) -> dict[str, NDArray[Any]]:
    several = isinstance(kept[0].label, tuple)
    return {
        "rows": np.arange(start, start + len(kept), dtype=np.int64),
        "contents": chunk.contents,
        "pixels": chunk.pixels,
        "labels": np.array([record.label for record in kept], dtype=np.uint8 if several else np.int64),
        "patients": np.array([_name_digest(record.patient_id) for record in kept], dtype="S32"),
        "splits": np.array([_split_code(record.split) for record in kept], dtype=np.int8),
        "sizes": chunk.sizes,
        "sums": chunk.sums,
        "squares": chunk.squares,
        "constant": chunk.constant,
        # Files of one scanner carry the same elements: each kind of audit is kept once.
        "audits": np.array([audits.setdefault(each, len(audits)) for each in chunk.audits], dtype=np.int32),
        "hashes": chunk.observed.hashes,
        "traits": chunk.observed.traits,
    }


def _split_code(split: str | None) -> int:
    return NO_SPLIT if split is None else SPLITS.index(split)


def _name_digest(patient: str | None) -> bytes:
    return b"" if patient is None else hashlib.blake2b(patient.encode(), digest_size=16).hexdigest().encode()


def _columns(kept: Sequence[ImageRecord], chunk: Chunk) -> dict[str, NDArray[np.str_]]:
    values: list[Mapping[str, str]] = [
        {**record.columns, **learnt} for record, learnt in zip(kept, chunk.columns, strict=True)
    ]
    found = dict.fromkeys(name for each in values for name in each)
    return {name: np.array([each.get(name, "") for each in values], dtype=np.str_) for name in found}


def _joined(columns: Sequence[Mapping[str, NDArray[np.str_]]], lengths: Sequence[int]) -> dict[str, NDArray[np.str_]]:
    found = dict.fromkeys(name for each in columns for name in each)
    return {
        name: np.concatenate(
            [each[name] if name in each else np.full(n, "") for each, n in zip(columns, lengths, strict=True)]
        )
        for name in found
    }


def _rejected(record: ImageRecord, reason: str, reader: Reader, root: Path) -> Rejected:
    record_id = ""
    # What was refused for leading elsewhere, for its size or for being no file at all is not read for its digest.
    with suppress(OSError):
        path = record.path
        own = record.frame is None and path.is_file() and not path.is_symlink()
        if own and path.stat().st_size <= reader.limits.file_bytes:
            record_id = digest_file(path)[:_ID_LENGTH]
    return Rejected(shown_name(record, root), reason, record_id)
