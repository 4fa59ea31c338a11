"""Prepare's reading against a bare loop over the same files: images a second, and memory as the files get more.

The bare loop is what one would write first: `pydicom.dcmread(path).pixel_array`, or `numpy.asarray(Image.open(path))`,
in one process. Prepare's reading also checks, hashes, windows, scales and resizes each image, and with DICOM it first
reads every header. Both read the same files, in turn. CPU time is that of all processes, with the start of the workers.

Example: python bench/reading.py --images 2000 20000 --kind dicom --workers 2
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import os
import struct
import tempfile
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pydicom
from PIL import Image
from pydicom.data import get_testdata_file

from medsweep import params
from medsweep.prepare.observed import Wanted
from medsweep.prepare.reading import AUDITS, Reader
from medsweep.prepare.workers import read_all
from medsweep.sources.catalog import open_source
from prepare import _PeakOfChildren
from project import REPOSITORY, cpu_seconds, peak_memory, show, spread, write_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[2000, 20000])
    parser.add_argument("--kind", choices=["dicom", "png"], nargs="+", default=["dicom", "png"])
    parser.add_argument("--workers", type=int, nargs="+", default=[2])
    parser.add_argument("--size", type=int, default=512, help="pixels along each side of the files")
    parser.add_argument("--audits", action="store_true", help="also look for identifying elements and burned-in text")
    parser.add_argument("--notes", action="store_true", help="also note what params.yaml's other checks look at later")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where to write the files, 10 GB of DICOM; default: temporary")
    parser.add_argument("--json", type=Path, help="write all measurements here")
    given = parser.parse_args()
    found: list[dict[str, Any]] = []
    for kind in given.kind:
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            root = Path(folder)
            write(root, kind, max(given.images), given.size)
            for _ in range(given.rounds):
                for images in given.images:
                    found.append({"kind": kind, "reader": "bare", "workers": 1, **alone(bare, root, kind, images)})
                    for workers in given.workers:
                        run = alone(prepared, root, kind, images, workers, given.audits, given.notes)
                        found.append({"kind": kind, "reader": "prepare", "workers": workers, **run})
    rows = []
    for kind, images, reader, workers in dict.fromkeys(map(_case, found)):
        runs = [each for each in found if _case(each) == (kind, images, reader, workers)]
        bares = [each for each in found if _case(each) == (kind, images, "bare", 1)]
        rows.append(
            [
                kind,
                str(images),
                reader,
                str(workers),
                spread([each["rate"] for each in runs], 0),
                spread([run["rate"] / other["rate"] for run, other in zip(runs, bares, strict=True)]),
                spread([each["cpu_ms"] for each in runs]),
                spread([each["driver_mb"] for each in runs], 0),
                spread([each["worker_mb"] for each in runs], 0) if reader == "prepare" else "–",
            ]
        )
    columns = ["files", "images", "reader", "processes", "images/s", "× bare", "CPU ms", "driver MB", "worker MB"]
    show(f"reading {given.size}x{given.size} files; median (range) of {given.rounds}", columns, rows)
    write_json(given.json, found)


def _case(run: dict[str, Any]) -> tuple[str, int, str, int]:
    return run["kind"], run["images"], run["reader"], run["workers"]


def alone(function: Any, *arguments: Any) -> dict[str, Any]:
    """Run a measurement in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        found: dict[str, Any] = pool.submit(function, *arguments).result()
    return found


def write(root: Path, kind: str, images: int, size: int) -> None:
    """Files in two class folders, two a patient: 12 bits in DICOM, 8 in PNG (about 4 bits a pixel once packed).

    There are 64 pictures, smooth ones with some noise; what else a file holds is its own.
    """
    rng = np.random.default_rng(7)
    encode = png if kind == "png" else slice_
    encoded = []
    for _ in range(min(64, images)):
        coarse = rng.random((size // 32, size // 32))
        smooth = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
        encoded.append(encode(np.clip(0.8 * smooth + 0.1 + 0.02 * rng.standard_normal((size, size)), 0, 1)))
    for index in range(images):
        path = root / "raw" / "ab"[index // 2 % 2] / f"{index:06d}.{'png' if kind == 'png' else 'dcm'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded[index % len(encoded)](index))


def png(picture: np.ndarray) -> Callable[[int], bytes]:
    """A PNG with a number in its text."""
    stream = io.BytesIO()
    Image.fromarray((picture * 255).astype(np.uint8)).save(stream, "PNG")
    data = stream.getvalue()

    def numbered(index: int) -> bytes:
        text = b"tEXtnumber\0%06d" % index
        chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
        return data[:33] + chunk + data[33:]  # behind the header

    return numbered


def slice_(picture: np.ndarray) -> Callable[[int], bytes]:
    """A CT slice with the elements of the real one that pydicom ships, a patient and a UID of its own."""
    dataset = pydicom.dcmread(str(get_testdata_file("CT_small.dcm", download=False)))
    dataset.Rows, dataset.Columns = picture.shape
    dataset.PatientID = "P000000"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.826.0.1.1.1000000"
    dataset.WindowCenter, dataset.WindowWidth = 1000, 3000
    dataset.PixelData = (picture * 4095).astype(np.int16).tobytes()
    stream = io.BytesIO()
    dataset.save_as(stream)
    data = stream.getvalue()

    def numbered(index: int) -> bytes:
        own = data.replace(b"1.2.826.0.1.1.1000000", b"1.2.826.0.1.1.1%06d" % index)
        return own.replace(b"P000000", b"P%06d" % (index // 2))

    return numbered


def bare(root: Path, kind: str, images: int) -> dict[str, Any]:
    """The loop without medsweep."""
    paths = sorted((root / "raw").rglob("*.*"))[:images]

    def read(path: Path) -> Any:
        return pydicom.dcmread(path).pixel_array if kind == "dicom" else np.asarray(Image.open(path))

    _own_session()
    read(paths[0])
    started, cpu = time.perf_counter(), cpu_seconds()
    for path in paths:
        read(path)
    return _measured(images, time.perf_counter() - started, cpu_seconds() - cpu, 0.0)


def prepared(root: Path, kind: str, images: int, workers: int, audits: bool, notes: bool) -> dict[str, Any]:
    """Opening the source and reading `images` of it as the stage does."""
    _own_session()
    known = params.load(REPOSITORY / "params.yaml").prepare
    image = known.image.model_copy(update={"height": 128, "width": 128})
    with _PeakOfChildren() as children:
        started, cpu = time.perf_counter(), cpu_seconds()
        source = open_source(params.Source(kind="dicom" if kind == "dicom" else "folder", path="raw"), root)
        opened, cpu_opened = time.perf_counter() - started, cpu_seconds() - cpu
        wanted = Wanted.by(known.checks) if notes else Wanted()
        reader = _Reader(source, image, known.intensity, known.limits, AUDITS if audits else frozenset(), wanted)
        records = islice(source.records(), images)
        started, cpu = time.perf_counter(), cpu_seconds()
        read = sum(len(chunk.kept) for _, chunk in read_all(reader, records, workers=workers))
        seconds, cpu = time.perf_counter() - started, cpu_seconds() - cpu
    if read != images:
        raise SystemExit(f"{read} of {images} images were read")
    # All headers were read for some of the images: a share of that time is theirs.
    share = images / len(source)
    return _measured(images, seconds + opened * share, cpu + cpu_opened * share, children.peak)


@dataclass(frozen=True)
class _Reader(Reader):
    """Takes a session of its own in each worker, where it is unpickled."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        _own_session()
        self.__dict__.update(state)


def _own_session() -> None:
    """Linux shares a busy machine out among sessions: two workers in one would get no more of it than the bare loop."""
    with suppress(OSError, AttributeError):  # it has one, or this is Windows
        os.setsid()


def _measured(images: int, seconds: float, cpu: float, worker_mb: float) -> dict[str, Any]:
    return {
        "images": images,
        "rate": images / seconds,
        "cpu_ms": cpu / images * 1e3,
        "driver_mb": peak_memory(),
        "worker_mb": worker_mb,
    }


if __name__ == "__main__":
    main()
