"""Prepare's reading against a bare loop over the same files: images a second, and memory as the files get more.

The bare loop is what one would write first: `pydicom.dcmread(path).pixel_array`, or `numpy.asarray(Image.open(path))`,
in one process. Prepare's reading also checks, hashes, windows, scales and resizes each image, and with DICOM it first
reads every header. Both read the same files, one after the other, from a warm page cache.

Example: python bench/reading.py --images 20000 --kind dicom --workers 2
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from prepare import _PeakOfChildren
from project import peak_memory, show, spread, write_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20000)
    parser.add_argument("--kind", choices=["dicom", "png"], nargs="+", default=["dicom", "png"])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--size", type=int, default=512, help="pixels along each side of the files")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where to write the files, some 0.5 MB each; default: temporary")
    parser.add_argument("--json", type=Path, help="write all measurements here")
    given = parser.parse_args()
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        for kind in given.kind:
            root = Path(folder) / kind
            write(root, kind, given.images, given.size)
            for _ in range(given.rounds):
                found.append({"kind": kind, "reader": "bare", "workers": 1, **alone(bare, root, kind)})
                for workers in given.workers:
                    for share in (4, 1):  # a quarter of the files first: memory must not grow with their number
                        run = alone(prepared, root, kind, workers, given.images // share)
                        found.append({"kind": kind, "reader": "prepare", "workers": workers, **run})
    rows = []
    for kind in given.kind:
        bare_rate = np.median([each["rate"] for each in found if (each["kind"], each["reader"]) == (kind, "bare")])
        for reader, workers, images in dict.fromkeys(
            (each["reader"], each["workers"], each["images"]) for each in found if each["kind"] == kind
        ):
            runs = [
                each
                for each in found
                if (each["kind"], each["reader"], each["workers"], each["images"]) == (kind, reader, workers, images)
            ]
            rates = [each["rate"] for each in runs]
            rows.append(
                [
                    kind,
                    reader,
                    str(workers),
                    str(images),
                    spread(rates, 0),
                    f"{np.median(rates) / bare_rate:.2f}",
                    spread([each["driver_mb"] for each in runs], 0),
                    spread([each["worker_mb"] for each in runs], 0) if reader == "prepare" else "–",
                ]
            )
    columns = [
        "files",
        "reader",
        "processes",
        "images",
        "images a second",
        "× bare",
        "driver's peak, MB",
        "worker's, MB",
    ]
    show(f"reading {given.size}x{given.size} files; median (range) of {given.rounds}", columns, rows)
    write_json(given.json, found)


def alone(function: Any, *arguments: Any) -> dict[str, Any]:
    """Run a measurement in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        found: dict[str, Any] = pool.submit(function, *arguments).result()
    return found


def write(root: Path, kind: str, images: int, size: int) -> None:
    """Smooth noise with 12 (DICOM) or 8 bits (PNG), in two class folders; a patient has two images."""
    rng = np.random.default_rng(7)
    coarse = rng.random((64, size // 8, size // 8))
    for index in range(images):
        base = np.kron(coarse[index % 64], np.ones((8, 8))) + 0.1 * rng.random((size, size))
        path = root / "raw" / "ab"[index // 2 % 2] / f"{index:06d}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "png":
            from PIL import Image

            Image.fromarray((base / 1.1 * 255).astype(np.uint8)).save(path.with_suffix(".png"))
        else:
            write_slice(path.with_suffix(".dcm"), (base / 1.1 * 4095).astype(np.int16), index)


def write_slice(path: Path, pixels: np.ndarray, index: int) -> None:
    """A CT slice with the elements of the real one that pydicom ships."""
    import pydicom
    from pydicom.data import get_testdata_file

    dataset = pydicom.dcmread(str(get_testdata_file("CT_small.dcm", download=False)))
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.PatientID = f"P{index // 2}"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.826.0.1.1.{index}"
    dataset.WindowCenter, dataset.WindowWidth = 1000, 3000
    dataset.PixelData = pixels.tobytes()
    dataset.save_as(path)


def bare(root: Path, kind: str) -> dict[str, Any]:
    """The loop without medsweep."""
    paths = sorted((root / "raw").rglob("*.*"))
    if kind == "dicom":
        import pydicom

        def read(path: Path) -> Any:
            return pydicom.dcmread(path).pixel_array
    else:
        from PIL import Image

        def read(path: Path) -> Any:
            return np.asarray(Image.open(path))

    read(paths[0])
    started = time.perf_counter()
    for path in paths:
        read(path)
    seconds = time.perf_counter() - started
    return {"images": len(paths), "rate": len(paths) / seconds, "driver_mb": peak_memory(), "worker_mb": 0.0}


def prepared(root: Path, kind: str, workers: int, images: int) -> dict[str, Any]:
    """Opening the source and reading `images` of it as the stage does."""
    from itertools import islice

    from medsweep import params
    from medsweep.prepare.reading import Reader
    from medsweep.prepare.workers import read_all
    from medsweep.sources.catalog import open_source

    known = params.load(Path(__file__).resolve().parent.parent / "params.yaml").prepare
    image = known.image.model_copy(update={"height": 128, "width": 128})
    with _PeakOfChildren() as children:
        started = time.perf_counter()
        source = open_source(params.Source(kind="dicom" if kind == "dicom" else "folder", path="raw"), root)
        opened = time.perf_counter() - started
        reader = Reader(source, image, known.intensity, known.limits)
        read = sum(len(chunk.kept) for _, chunk in read_all(reader, islice(source.records(), images), workers=workers))
        seconds = time.perf_counter() - started - opened
    if read != images:
        raise SystemExit(f"{read} of {images} images were read")
    # All headers were read for some of the images: a share of that time is theirs.
    rate = images / (seconds + opened * images / len(source))
    return {"images": images, "rate": rate, "driver_mb": peak_memory(), "worker_mb": children.peak}


if __name__ == "__main__":
    main()
