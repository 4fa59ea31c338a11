"""MedMNIST's npz layout from a local file: train_images, train_labels, and the same for val and test."""

from __future__ import annotations

import hashlib
import math
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from medsweep.artifacts.record import ImageRecord, RawImage, Task
from medsweep.errors import DataError, ParamsError, unknown_name
from medsweep.layout import SPLITS
from medsweep.params import Section, Source
from medsweep.sources.labels import choose_task, in_order, shortened
from medsweep.sources.medmnist_catalog import MEDMNIST
from medsweep.sources.protocol import UnknownLabel
from medsweep.sources.tree import leaving

# The largest set, PathMNIST at 224, unpacks to 16 GB; one label array has at most some millions of values.
_MAX_IMAGE_BYTES = 32 << 30
_MAX_LABEL_BYTES = 256 << 20
_BLOCK_BYTES = 16 << 20
_MAX_PIXELS = 64_000_000
# Deflate packs a constant array a thousand to one, and images hardly ten to one.
_MAX_RATIO = 200
_SMALL_BYTES = 32 << 20


class MedmnistSettings(Section):
    """The medmnist keys below `prepare.source`; any may be left out.

    Args:
        name: a set of `medmnist_catalog`, which gives class names and task. Default: what the file's name says.
        classes: names in label order, for a file that is not in the catalogue. Default: the label values.
        task: for a file that is not in the catalogue. Default: multilabel for (N, L) labels, else by the number of
            classes.
    """

    name: str | None = None
    classes: list[str] | None = None
    task: Literal["binary", "multiclass", "ordinal", "multilabel"] | None = None


@dataclass(frozen=True)
class _Member:
    """One array in the archive; its data starts at byte `start` of the unpacked member."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    start: int

    @property
    def row_bytes(self) -> int:
        return math.prod(self.shape[1:]) * self.dtype.itemsize


class MedmnistSource:
    """The images of one npz file, unpacked block by block: memory does not grow with the file.

    Reading in the order of `records()` unpacks each image once; going back further than a block unpacks anew.

    Raises:
        DataError: the file is missing, damaged, larger than the limits, or laid out otherwise.
    """

    synthetic = False

    def __init__(self, source: Source, root: Path) -> None:
        settings = MedmnistSettings.model_validate(source.settings)
        self._path = _npz(root / source.path, shown=source.path, name=settings.name)
        name = settings.name if settings.name is not None else re.sub(r"_\d+$", "", self._path.stem)
        if settings.name is not None and settings.name not in MEDMNIST:
            raise unknown_name("MedMNIST set", settings.name, list(MEDMNIST), where="prepare.source.name")
        known = MEDMNIST.get(name)
        if known and (settings.classes is not None or settings.task is not None):
            raise ParamsError(
                f"the catalogue has classes and task of '{name}'.",
                where="prepare.source",
                fix="Leave prepare.source.classes and prepare.source.task out, or rename the file.",
            )
        with _opened(self._path) as archive:
            self._images, labels = _members(archive, self._path)
        self.class_names: tuple[str, ...]
        self.task: Task
        if known:
            self.class_names, self.task = known.class_names, known.task
            values = [str(index) for index in range(len(known.class_names))]
        else:
            self.class_names, self.task, values = _inferred(labels, settings, self._path)
        self._labels: dict[str, NDArray[np.int64]] = {}
        unknown: list[UnknownLabel] = []
        for split, found in labels.items():
            several = self.task == "multilabel"
            if several != (found.shape[1] > 1) or (several and found.shape[1] != len(self.class_names)):
                raise DataError(
                    f"{split}_labels has {found.shape[1]} columns, which does not fit a {self.task} task with "
                    f"{len(self.class_names)} classes.",
                    where=str(self._path),
                )
            indices, bad = _indices(found, several, [int(value) for value in values])
            self._labels[split] = indices
            unknown.extend(
                UnknownLabel(f"{self._path}[{split} {row}]", "|".join(map(str, found[row].tolist()))) for row in bad
            )
        self.unknown_labels = tuple(unknown)
        self.settings: Mapping[str, Any] = {
            "kind": source.kind,
            "path": source.path,
            "name": name if known else None,
            "classes": list(self.class_names),
            "task": self.task,
        }
        self._readers: dict[str, _Reader] = {}

    def __len__(self) -> int:
        return int(sum((labels[:, 0] >= 0).sum() for labels in self._labels.values()))

    def records(self) -> Iterator[ImageRecord]:
        """Train, then val, then test, each in the file's order; `frame` counts through all of them."""
        first = 0
        for split, labels in self._labels.items():
            for row, label in enumerate(labels):
                if label[0] >= 0:
                    value = tuple(map(int, label)) if self.task == "multilabel" else int(label[0])
                    yield ImageRecord(self._path, value, None, split, "medmnist", first + row)
            first += len(labels)

    def read(self, record: ImageRecord) -> RawImage:
        """Unpack one image.

        Raises:
            DataError: the archive is damaged here.
        """
        assert record.frame is not None
        split, row = self._place(record.frame)
        if split not in self._readers:
            self._readers[split] = _Reader(self._path, self._images[split])
        pixels = self._readers[split].row(row)
        if pixels.ndim == 3 and pixels.shape[2] == 1:
            pixels = pixels[:, :, 0]
        content = hashlib.sha256(repr((pixels.shape, str(pixels.dtype))).encode() + pixels.tobytes()).hexdigest()
        return RawImage(pixels, int(np.iinfo(pixels.dtype).max), content)

    def _place(self, frame: int) -> tuple[str, int]:
        for split, labels in self._labels.items():
            if frame < len(labels):
                return split, frame
            frame -= len(labels)
        raise DataError(f"has no image {frame}.", where=str(self._path))

    def __getstate__(self) -> dict[str, Any]:
        # Open files stay behind: the receiving process opens its own.
        return {**self.__dict__, "_readers": {}}


class _Reader:
    """Rows of one array in the archive, through a block that moves forward."""

    def __init__(self, path: Path, member: _Member) -> None:
        self._path = path
        self._member = member
        self._per_block = max(1, _BLOCK_BYTES // member.row_bytes)
        self._archive = _opened(path)
        self._stream: IO[bytes] = self._archive.open(member.name)
        self._block = -1
        self._rows = np.empty(0, dtype=member.dtype)

    def row(self, index: int) -> NDArray[Any]:
        block, place = divmod(index, self._per_block)
        if block != self._block:
            self._load(block)
        return np.array(self._rows[place])

    def _load(self, block: int) -> None:
        first = block * self._per_block
        rows = min(self._per_block, self._member.shape[0] - first)
        try:
            # Seeking back makes zipfile start the member again.
            self._stream.seek(self._member.start + first * self._member.row_bytes)
            data = self._stream.read(rows * self._member.row_bytes)
        except (OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
            raise _damaged(self._path, f"{self._member.name}: {error}") from None
        if len(data) != rows * self._member.row_bytes:
            raise _damaged(self._path, f"{self._member.name} ends early")
        shaped = np.frombuffer(data, dtype=self._member.dtype).reshape(rows, *self._member.shape[1:])
        self._rows = shaped.astype(self._member.dtype.newbyteorder("="), copy=False)
        self._block = block


def _npz(path: Path, *, shown: str, name: str | None) -> Path:
    """`path`, or in a folder the npz that is meant."""
    if path.is_file():
        return path
    if not path.is_dir():
        raise DataError("does not exist.", where=shown, fix="Get a set with: medsweep fetch NAME.")
    found = sorted(path.glob("*.npz"))
    if name is not None:
        found = [each for each in found if re.fullmatch(rf"{re.escape(name)}(_\d+)?", each.stem)]
    if len(found) != 1:
        held = shortened([each.name for each in found]) or "no such npz file"
        raise DataError(f"is a folder and holds {held}.", where=shown, fix="Name one file in prepare.source.path.")
    if (problem := leaving(found[0], path.resolve())) is not None:
        raise DataError(
            problem, where=str(found[0]), fix="Copy the file itself here, or name it in prepare.source.path."
        )
    return found[0]


def _opened(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except Exception as error:  # of a damaged directory, zipfile raises more than BadZipFile
        raise _damaged(path, str(error)) from None


def _damaged(path: Path, why: str) -> DataError:
    return DataError(f"is damaged or is no npz file ({why}).", where=str(path), fix="Get it again.")


def _members(archive: zipfile.ZipFile, path: Path) -> tuple[dict[str, _Member], dict[str, NDArray[Any]]]:
    """The image arrays' places and the (N, L) labels, by split; only labels are read."""
    names = set(archive.namelist())
    images: dict[str, _Member] = {}
    labels: dict[str, NDArray[Any]] = {}
    for split in SPLITS:
        if f"{split}_images.npy" not in names:
            continue
        member = _header(archive, f"{split}_images.npy", path, _MAX_IMAGE_BYTES)
        grey_or_rgb = len(member.shape) == 3 or (len(member.shape) == 4 and member.shape[3] in (1, 3))
        if not grey_or_rgb or 0 in member.shape or member.dtype.kind != "u" or member.dtype.itemsize > 2:
            raise DataError(
                f"{member.name} has the shape {member.shape} and type {member.dtype}; images must be (N, H, W) or "
                "(N, H, W, 3) of uint8 or uint16.",
                where=str(path),
            )
        if member.shape[1] * member.shape[2] > _MAX_PIXELS:
            raise DataError(
                f"{member.name} holds images of more than {_MAX_PIXELS // 10**6} megapixels.", where=str(path)
            )
        images[split] = member
        if f"{split}_labels.npy" not in names:
            raise DataError(f"has {split}_images but no {split}_labels.", where=str(path))
        labels[split] = _read_labels(archive, f"{split}_labels.npy", path)
        if len(labels[split]) != member.shape[0]:
            raise DataError(
                f"has {member.shape[0]} {split}_images and {len(labels[split])} {split}_labels.", where=str(path)
            )
    if not images:
        raise DataError(
            "is not laid out as MedMNIST's files are.",
            where=str(path),
            fix=f"It holds: {shortened(sorted(names))}; train_images and train_labels are needed.",
        )
    return images, labels


def _header(archive: zipfile.ZipFile, name: str, path: Path, most: int) -> _Member:
    """Check one array's announced size and read its header; nothing is ever unpickled."""
    info = archive.getinfo(name)
    size = info.file_size
    if size > _SMALL_BYTES and size > _MAX_RATIO * info.compress_size:
        raise DataError(
            f"{name} unpacks to {size // max(1, info.compress_size)} times its size, which no images do.",
            where=str(path),
            fix="Is this a damaged file, or a bomb?",
        )
    if size > most:
        raise DataError(f"{name} announces {size} bytes; at most {most} are allowed.", where=str(path))
    try:
        with archive.open(name) as stream:
            version = np.lib.format.read_magic(stream)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = read(stream)
            start = stream.tell()
    except Exception as error:  # NumPy parses the header as Python: a damaged one raises nearly anything
        raise _damaged(path, f"{name}: {error}") from None
    member = _Member(name, shape, dtype, start)
    if dtype.hasobject or fortran or not shape:
        raise DataError(f"{name} must be a plain C-ordered array, not {dtype} {shape}.", where=str(path))
    if start + shape[0] * member.row_bytes != size:
        raise _damaged(path, f"{name} announces {shape} in {size} bytes")
    return member


def _read_labels(archive: zipfile.ZipFile, name: str, path: Path) -> NDArray[Any]:
    member = _header(archive, name, path, _MAX_LABEL_BYTES)
    if len(member.shape) not in (1, 2) or 0 in member.shape or member.dtype.kind not in "ui":
        raise DataError(f"{name} must hold whole numbers, (N, 1) or (N, L).", where=str(path))
    try:
        with archive.open(name) as stream:
            data = stream.read()[member.start :]
    except Exception as error:  # as above
        raise _damaged(path, f"{name}: {error}") from None
    return np.frombuffer(data, dtype=member.dtype).reshape(member.shape[0], -1).astype(np.int64)


def _inferred(
    labels: Mapping[str, NDArray[Any]], settings: MedmnistSettings, path: Path
) -> tuple[tuple[str, ...], Task, list[str]]:
    """Class names, task and label values of a file that is not in the catalogue."""
    width = next(iter(labels.values())).shape[1]
    if (width > 1) != (settings.task == "multilabel") and settings.task is not None:
        raise ParamsError(f"the labels are (N, {width}).", where="prepare.source.task", fix="Leave it out.")
    if width > 1:
        names = tuple(settings.classes or [f"label_{index}" for index in range(width)])
        return names, "multilabel", ["0", "1"]
    values = in_order({str(value) for found in labels.values() for value in np.unique(found)})
    names = tuple(settings.classes) if settings.classes is not None else values
    if settings.classes is not None:
        values = tuple(str(index) for index in range(len(names)))
    if len(names) < 2 or len(set(names)) < len(names):
        raise DataError(f"has the classes {shortened(names)}; two different ones are needed.", where=str(path))
    task = None if settings.task == "multilabel" else settings.task
    return names, choose_task(task, names, ordered=True), list(values)


def _indices(labels: NDArray[Any], several: bool, values: list[int]) -> tuple[NDArray[np.int64], list[int]]:
    """Labels as class indices (or zeros and ones), -1 through a row whose label is unknown; and those rows."""
    known = np.isin(labels, [0, 1] if several else values).all(axis=1)
    indices = labels.copy() if several else np.searchsorted(np.sort(values), labels).astype(np.int64)
    if not several:
        order = np.argsort(values, kind="stable")
        indices = order[np.minimum(indices, len(values) - 1)]
    indices[~known] = -1
    return indices.astype(np.int64), np.flatnonzero(~known).tolist()
