"""Files damaged at random, and bombs: each is read or refused with a reason; nothing crashes, hangs or eats the memory.

`pytest tests/faults/test_damaged_files.py --mutants 1000` damages as many of each format, and tells what became of them
and how long it took to refuse each bomb.
"""

from __future__ import annotations

import io
import json
import pickle
import resource
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image

from medsweep import params
from medsweep.errors import MedsweepError
from medsweep.imaging import dicom
from medsweep.imaging.decode import Decoder
from medsweep.imaging.dicom_plain import plain_header
from medsweep.prepare.reading import Reader
from medsweep.sources.catalog import open_source

SHIPPED = Path(pydicom.__file__).parent / "data" / "test_files"
# One of each way that pixels are stored in.
DICOM = (
    "CT_small.dcm",
    "MR_small_implicit.dcm",
    "MR_small_bigendian.dcm",
    "MR_small_RLE.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "MR_small_jp2klossless.dcm",
    "SC_rgb_jpeg_dcmtk.dcm",
    "SC_rgb_jpeg_gdcm.dcm",
    "SC_rgb_rle_2frame.dcm",
    "SC_rgb_small_odd.dcm",
    "SC_ybr_full_422_uncompressed.dcm",
    "JPGExtended.dcm",
    "image_dfl.dcm",
    "liver_1frame.dcm",
    "rtdose_1frame.dcm",
)
LIMITS = params.Limits(megapixels=64, file_mb=64, memory_mb=512, seconds=10)
IMAGE = params.Image(height=32, width=32, channels=1, fit="pad")
INTENSITY = params.Intensity(
    window="file",
    method="full_range",
    percentiles=(0.5, 99.5),
    clahe=params.Clahe(clip_limit=2.0, tiles=8),
    bits=8,
)
GREY = np.random.default_rng(0).integers(0, 256, (40, 50)).astype(np.uint8)
Mutate = Callable[[bytes, np.random.Generator], bytes]


def saved(pixels: np.ndarray, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


def originals(kind: str) -> list[bytes]:
    if kind == "dicom":
        return [(SHIPPED / name).read_bytes() for name in DICOM]
    rgb = np.stack([GREY, GREY.T.reshape(GREY.shape), 255 - GREY], axis=2)
    deep = GREY.astype(np.uint16) * 256
    if kind == "png":
        return [saved(each, "PNG") for each in (GREY, rgb, deep)]
    if kind == "jpeg":
        return [saved(GREY, "JPEG"), saved(rgb, "JPEG", progressive=True), saved(rgb, "JPEG", subsampling=2)]
    if kind == "tiff":
        packings = ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")
        return [saved(rgb, "TIFF", compression=each) for each in packings] + [saved(deep, "TIFF")]
    stream = io.BytesIO()
    labels = np.arange(6).reshape(6, 1) % 2
    images = np.stack([GREY] * 6)
    np.savez_compressed(
        stream,
        **{f"{split}_images": images for split in ("train", "val", "test")},
        **{f"{split}_labels": labels for split in ("train", "val", "test")},
    )
    return [stream.getvalue()]


def summed_up(png: bytes) -> bytes:
    """A PNG whose check sums are right, so that damage reaches the decoder."""
    data = bytearray(png)
    place = 8
    while place + 12 <= len(data):
        end = place + 8 + int.from_bytes(data[place : place + 4], "big")
        data[end : end + 4] = struct.pack(">I", zlib.crc32(data[place + 4 : end]))
        place = end + 4
    return bytes(data)


def repacked(archive: bytes, mutate: Mutate, rng: np.random.Generator) -> bytes:
    """An archive of which one array is damaged, with right check sums."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as new:
        chosen = int(rng.integers(len(old.namelist())))
        for number, name in enumerate(old.namelist()):
            new.writestr(name, mutate(old.read(name), rng) if number == chosen else old.read(name))
    return stream.getvalue()


# In a process of its own: the peak of this one's children counts those of other tests, and never falls.
READ_ALL = """
import json, pickle, resource, sys
from pathlib import Path
from medsweep.prepare.workers import read_all
reader = pickle.loads(Path(sys.argv[1]).read_bytes())
read, reasons = 0, []
for _, chunk in read_all(reader, reader.source.records(), workers=2):
    assert chunk.images.dtype == "uint8"
    read += len(chunk.kept)
    reasons += [reason for _, reason in chunk.rejected]
print(json.dumps([read, reasons, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss]))
"""


@pytest.mark.parametrize("kind", ["dicom", "png", "jpeg", "tiff"])
def test_damaged_files_are_read_or_refused(
    tmp_path: Path,
    mutate: Mutate,
    pytestconfig: pytest.Config,
    tell: Callable[[str], None],
    kind: str,
) -> None:
    n = pytestconfig.getoption("mutants")
    rng = np.random.default_rng([7, len(kind), ord(kind[0])])
    whole = originals(kind)
    for name in ("a", "b"):
        (tmp_path / "raw" / name).mkdir(parents=True)
    for index in range(n):
        # What a file is, is told by its content.
        path = tmp_path / "raw" / "ab"[index % 2] / f"{index:05d}.png"
        data = mutate(whole[index % len(whole)], rng)
        path.write_bytes(summed_up(data) if kind == "png" and rng.random() < 0.5 else data)
    source = open_source(params.Source(kind="folder", path="raw"), tmp_path)
    reader = tmp_path / "reader.pickle"
    reader.write_bytes(pickle.dumps(Reader(source, IMAGE, INTENSITY, LIMITS)))
    done = subprocess.run([sys.executable, "-c", READ_ALL, str(reader)], capture_output=True, text=True, timeout=3000)
    assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", 1), done.stderr
    read, reasons, peak = json.loads(done.stdout)
    assert read + len(reasons) == n
    assert reasons
    assert all(reason and "\n" not in reason and "Traceback" not in reason for reason in reasons)
    assert peak <= 1 << 20, "more than 1 GiB"
    lost = [each for each in reasons if "a process that" in each or "longer" in each]
    tell(f"{kind}: {read} read, {len(reasons)} refused, {peak >> 10} MiB at most; lost: {lost}")


def test_damaged_archives_are_read_or_refused(
    tmp_path: Path,
    mutate: Mutate,
    pytestconfig: pytest.Config,
    capfd: pytest.CaptureFixture[str],
    tell: Callable[[str], None],
) -> None:
    rng = np.random.default_rng(8)
    path = tmp_path / "some.npz"
    n = pytestconfig.getoption("mutants")
    read = refused = 0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    whole = originals("npz")[0]
    for index in range(n):
        path.write_bytes(repacked(whole, mutate, rng) if index % 2 else mutate(whole, rng))
        try:
            source = open_source(params.Source(kind="medmnist", path="some.npz"), tmp_path)
            records = list(source.records())
            chunk = Reader(source, IMAGE, INTENSITY, LIMITS).read(records, {}, lambda index: None)
        except MedsweepError as error:
            assert "\n" not in str(error)
            refused += 1
            continue
        assert len(chunk.kept) + len(chunk.rejected) == len(records)
        read += 1
    assert (read + refused, refused > 0) == (n, True)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10
    assert capfd.readouterr() == ("", "")
    tell(f"npz: {read} read, {refused} refused")


# Bombs ----------------------------------------------------------------------------------------------------------------


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, content: bytes, extra: bytes = b"") -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + png_chunk(b"IDAT", content) + png_chunk(b"IEND", b"")


def png_bomb() -> bytes:
    """20 000 × 20 000 black pixels in 400 kB."""
    packer = zlib.compressobj(9)
    row = bytes(20_001)
    return png(20_000, 20_000, b"".join(packer.compress(row) for _ in range(20_000)) + packer.flush())


def png_text() -> bytes:
    """A few pixels, and 200 MB of text in 200 kB."""
    text = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(200 << 20), 9))
    return png(4, 4, zlib.compress(bytes(20)), text)


def jpeg_header() -> bytes:
    data = bytearray(saved(GREY, "JPEG"))
    start = data.index(b"\xff\xc0")
    data[start + 5 : start + 9] = b"\xff\xff\xff\xff"
    return bytes(data)


def tiff_header(packing: str = "raw") -> bytes:
    data = bytearray(saved(GREY, "TIFF", compression=packing))
    for tag in (256, 257):  # width and height
        place = next(
            data.index(struct.pack("<HH", tag, kind)) for kind in (4, 3) if struct.pack("<HH", tag, kind) in data
        )
        data[place + 2 : place + 4] = struct.pack("<H", 4)
        data[place + 8 : place + 12] = struct.pack("<I", 65535)
    return bytes(data)


def tiff_pages() -> bytes:
    """300 000 pages, each of which names the next one; all have the first one's pixels."""
    page = saved(np.zeros((2, 2), np.uint8), "TIFF")
    start = struct.unpack("<I", page[4:8])[0]
    (entries,) = struct.unpack("<H", page[start : start + 2])
    directory = page[start : start + 2 + 12 * entries]
    step = len(directory) + 4
    first = len(page) + len(page) % 2
    count = 300_000
    body = b"".join(directory + struct.pack("<I", first + step * (n + 1)) for n in range(count - 1))
    return page[:4] + struct.pack("<I", first) + page[8:].ljust(first - 8, b"\0") + body + directory + bytes(4)


def bmp_header() -> bytes:
    data = bytearray(saved(GREY, "BMP"))
    data[18:26] = struct.pack("<ii", 65535, 65535)
    return bytes(data)


def npy_header() -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": (65535, 65535)})
    return stream.getvalue()


def dicom_header() -> bytes:
    data = (SHIPPED / "CT_small.dcm").read_bytes()
    for element in (0x10, 0x11):  # Rows, Columns
        tag = struct.pack("<HH", 0x28, element) + b"US\x02\0"
        data = data.replace(tag + struct.pack("<H", 128), tag + b"\xff\xff")
    return data


def dicom_deflated(rows: int = 128) -> bytes:
    """A small picture, or one that says it were large, and 200 MB of zeros in 200 kB behind it."""
    dataset = pydicom.dcmread(SHIPPED / "CT_small.dcm")
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    dataset.Rows = rows
    dataset.add_new(0xFFFCFFFC, "OB", bytes(200 << 20))
    stream = io.BytesIO()
    dataset.save_as(stream)
    return stream.getvalue()


TOO_LARGE = "more than 64 megapixels"
BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "png": (png_bomb, TOO_LARGE),
    "png header": (lambda: png(65535, 65535, zlib.compress(b"")), TOO_LARGE),
    "png text": (png_text, "damaged or truncated"),
    "jpeg header": (jpeg_header, TOO_LARGE),
    "tiff header": (tiff_header, TOO_LARGE),
    "tiff header, deflated": (lambda: tiff_header("tiff_adobe_deflate"), TOO_LARGE),
    "tiff pages": (tiff_pages, "several pages"),
    "bmp header": (bmp_header, TOO_LARGE),
    "npy header": (npy_header, TOO_LARGE),
    "dicom header": (dicom_header, TOO_LARGE),
    "dicom deflated": (dicom_deflated, "than the 3[0-9]{4} bytes that its header announces"),
    "dicom deflated, announced": (lambda: dicom_deflated(65535), "than the 16[0-9]{6} bytes that its header announces"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused(name: str, tell: Callable[[str], None]) -> None:
    make, why = BOMBS[name]
    bomb = make()
    started = time.perf_counter()
    with pytest.raises(MedsweepError, match=why):
        Decoder(LIMITS, "file").decode_bytes(bomb, name=name)
    tell(f"{name}: {len(bomb)} bytes refused in {time.perf_counter() - started:.3f} s")


def test_an_archive_bomb_is_refused_from_its_header(tmp_path: Path, tell: Callable[[str], None]) -> None:
    path = tmp_path / "bomb.npz"
    shape = (2560, 224, 224)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
        with archive.open("train_images.npy", "w") as stream:
            stream.write(header.getvalue())
            for _ in range(shape[0] // 64):
                stream.write(bytes(64 * 224 * 224))
        labels = io.BytesIO()
        np.save(labels, np.arange(shape[0]) % 2)
        archive.writestr("train_labels.npy", labels.getvalue())
    assert path.stat().st_size < 1 << 20
    started = time.perf_counter()
    with pytest.raises(MedsweepError, match=r"unpacks to \d+ times its size"):
        open_source(params.Source(kind="medmnist", path="bomb.npz"), tmp_path)
    tell(f"npz: {path.stat().st_size} bytes refused in {time.perf_counter() - started:.3f} s")


@pytest.fixture
def tell(pytestconfig: pytest.Config, capfd: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Prints a fact where the long test was asked for."""

    def write(fact: str) -> None:
        if pytestconfig.getoption("mutants") >= 1000:
            with capfd.disabled():
                print(f"\n{fact}")

    return write


# Two ways to read -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small_implicit.dcm", "rtdose_1frame.dcm"])
@pytest.mark.filterwarnings("ignore")
def test_a_damaged_plain_file_is_read_as_with_pydicom(
    mutate: Mutate, pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    rng = np.random.default_rng(9)
    whole = (SHIPPED / name).read_bytes()
    plain = 0

    def pixels(data: bytes) -> bytes | None:
        try:
            return Decoder(LIMITS, "file").decode_bytes(data, name=name).pixels.tobytes()
        except MedsweepError:
            return None

    for _ in range(2 * pytestconfig.getoption("mutants")):
        data = mutate(whole, rng)
        if plain_header(data) is None:
            continue
        plain += 1
        quick = pixels(data)
        with monkeypatch.context() as patch:
            patch.setattr(dicom, "plain_header", lambda data: None)
            assert pixels(data) == quick
    assert plain > 5
