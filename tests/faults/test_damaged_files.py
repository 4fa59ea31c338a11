"""Files damaged at random, and bombs: each is read or refused with a reason; nothing crashes, hangs or eats the memory.

`pytest tests/faults/test_damaged_files.py --mutants 1000` damages as many of each format.
"""

from __future__ import annotations

import io
import resource
import struct
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
from medsweep.imaging.decode import Decoder
from medsweep.prepare.reading import Reader
from medsweep.prepare.workers import read_all
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


@pytest.mark.parametrize("kind", ["dicom", "png", "jpeg", "tiff"])
def test_damaged_files_are_read_or_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], mutate: Mutate, pytestconfig: pytest.Config, kind: str
) -> None:
    n = pytestconfig.getoption("mutants")
    rng = np.random.default_rng([7, len(kind), ord(kind[0])])
    whole = originals(kind)
    for name in ("a", "b"):
        (tmp_path / "raw" / name).mkdir(parents=True)
    for index in range(n):
        # What a file is, is told by its content.
        path = tmp_path / "raw" / "ab"[index % 2] / f"{index:05d}.png"
        path.write_bytes(mutate(whole[index % len(whole)], rng))
    source = open_source(params.Source(kind="folder", path="raw"), tmp_path)
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    read, reasons = 0, []
    for _, chunk in read_all(Reader(source, IMAGE, INTENSITY, LIMITS), source.records(), workers=2):
        read += len(chunk.kept)
        reasons += [reason for _, reason in chunk.rejected]
        assert chunk.images.dtype == np.uint8
    assert read + len(reasons) == n
    assert reasons
    assert all(reason and "\n" not in reason and "Traceback" not in reason for reason in reasons)
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss <= max(before, 1 << 20), "more than 1 GiB"
    assert capfd.readouterr() == ("", "")
    if n >= 1000:
        lost = [each for each in reasons if "a process that" in each or "longer" in each]
        most = max(before, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) >> 10
        with capfd.disabled():
            print(f"\n{kind}: {read} read, {len(reasons)} refused, {most} MiB at most; lost: {lost}")


def test_damaged_archives_are_read_or_refused(
    tmp_path: Path, mutate: Mutate, pytestconfig: pytest.Config, capfd: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(8)
    path = tmp_path / "some.npz"
    n = pytestconfig.getoption("mutants")
    read = refused = 0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(n):
        path.write_bytes(mutate(originals("npz")[0], rng))
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
    if n >= 1000:
        with capfd.disabled():
            print(f"\nnpz: {read} read, {refused} refused")


# Bombs ----------------------------------------------------------------------------------------------------------------


def png_header(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))


def png_bomb(rows: int = 20_000) -> bytes:
    """20 000 × 20 000 black pixels in 400 kB."""
    packer = zlib.compressobj(9)
    row = bytes(20_001)
    content = b"".join(packer.compress(row) for _ in range(rows)) + packer.flush()
    chunks = [b"IDAT" + content, b"IEND"]
    body = b"".join(struct.pack(">I", len(each) - 4) + each + struct.pack(">I", zlib.crc32(each)) for each in chunks)
    return png_header(20_000, rows) + body


def bombs() -> dict[str, bytes]:
    tiff = bytearray(saved(GREY, "TIFF"))
    jpeg = bytearray(saved(GREY, "JPEG"))
    start = jpeg.index(b"\xff\xc0")
    jpeg[start + 5 : start + 9] = b"\xff\xff\xff\xff"
    bmp = bytearray(saved(GREY, "BMP"))
    bmp[18:26] = struct.pack("<ii", 65535, 65535)
    for tag in (256, 257):  # width and height
        place = tiff.index(struct.pack("<HH", tag, 4))
        tiff[place + 8 : place + 12] = struct.pack("<I", 65535)
    npy = io.BytesIO()
    np.lib.format.write_array_header_1_0(npy, {"descr": "|u1", "fortran_order": False, "shape": (65535, 65535)})
    dicom = (SHIPPED / "CT_small.dcm").read_bytes()
    for element in (0x10, 0x11):  # Rows, Columns
        tag = struct.pack("<HH", 0x28, element) + b"US\x02\0"
        dicom = dicom.replace(tag + struct.pack("<H", 128), tag + b"\xff\xff")
    return {
        "png": png_bomb(),
        "png header": png_header(65535, 65535) + png_bomb(rows=1)[33:],
        "jpeg header": bytes(jpeg),
        "tiff header": bytes(tiff),
        "bmp header": bytes(bmp),
        "npy header": npy.getvalue(),
        "dicom header": dicom,
    }


@pytest.mark.parametrize("name", bombs())
def test_bombs_are_refused_from_their_header_in_under_a_second(name: str) -> None:
    started = time.process_time()
    with pytest.raises(MedsweepError, match="more than 64 megapixels"):
        Decoder(LIMITS, "file").decode_bytes(bombs_made[name], name=name)
    assert time.process_time() - started < 1


bombs_made = bombs()


def test_an_archive_bomb_is_refused_from_its_header_in_under_a_second(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for split in ("train",):
            header = io.BytesIO()
            shape = (2560, 224, 224)
            np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
            with archive.open(f"{split}_images.npy", "w") as stream:
                stream.write(header.getvalue())
                for _ in range(shape[0] // 64):
                    stream.write(bytes(64 * 224 * 224))
            labels = io.BytesIO()
            np.save(labels, np.arange(shape[0]) % 2)
            archive.writestr(f"{split}_labels.npy", labels.getvalue())
    assert path.stat().st_size < 1 << 20
    started = time.process_time()
    with pytest.raises(MedsweepError, match=r"unpacks to \d+ times its size"):
        open_source(params.Source(kind="medmnist", path="bomb.npz"), tmp_path)
    assert time.process_time() - started < 1
