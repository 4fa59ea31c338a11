from __future__ import annotations

import hashlib
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medsweep import params
from medsweep.artifacts.record import RawImage
from medsweep.errors import DataError
from medsweep.imaging.decode import Decoder

LIMITS = params.Limits(megapixels=100, file_mb=3, memory_mb=768, seconds=60)
DECODER = Decoder(LIMITS, "file")
RNG = np.random.default_rng(0)
GREY8 = RNG.integers(0, 256, (5, 7), dtype=np.uint8)
GREY16 = RNG.integers(0, 65536, (5, 7), dtype=np.uint16)
RGB8 = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)
RGB16 = RNG.integers(0, 65536, (5, 7, 3), dtype=np.uint16)
RGBA8 = RNG.integers(0, 256, (5, 7, 4), dtype=np.uint8)
RGBA16 = RNG.integers(0, 65536, (5, 7, 4), dtype=np.uint16)
# What a viewer does with each EXIF orientation of stored rows and columns (EXIF 2.32, tag 274).
UPRIGHT = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: np.rot90(x, 2).swapaxes(0, 1),
    8: lambda x: np.rot90(x),
}
SUFFIX = {"PNG": ".png", "BMP": ".bmp", "TIFF": ".tiff", "JPEG": ".jpg"}


def decode(path: Path) -> RawImage:
    return Decoder(LIMITS, "file").decode(path)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(values: np.ndarray, depth: int, colour: int, extra: bytes = b"") -> bytes:
    """A PNG by its specification: values (h, w, samples), most significant byte first."""

    height, width = values.shape[:2]
    if depth == 16:
        rows = [row.astype(">u2").tobytes() for row in values]
    elif depth == 8:
        rows = [row.astype("u1").tobytes() for row in values]
    else:
        bits = np.unpackbits(values.astype(np.uint8)[..., None], axis=-1)[..., -depth:].reshape(height, -1)
        rows = [np.packbits(row).tobytes() for row in bits]
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def exif_chunk(orientation: int) -> bytes:
    data = b"MM\0*\0\0\0\x08" + struct.pack(">HHHIHHI", 1, 274, 3, 1, orientation, 0, 0)
    return struct.pack(">I", len(data)) + b"eXIf" + data + struct.pack(">I", zlib.crc32(b"eXIf" + data))


def tiff(data: bytes, width: int, height: int, bits: list[int], tags: dict[int, int]) -> bytes:
    """An uncompressed little-endian TIFF of one strip by its specification."""
    fields = {256: width, 257: height, 259: 1, 262: 1, 273: 8, 277: len(bits), 278: height, 279: len(data)} | tags
    start = 8 + len(data) + len(data) % 2
    beyond = start + 2 + 12 * (len(fields) + 1) + 4
    out = b"II*\0" + struct.pack("<I", start) + data.ljust(start - 8, b"\0") + struct.pack("<H", len(fields) + 1)
    for tag, value in sorted((fields | {258: 0}).items()):
        if tag == 258 and len(bits) > 2:
            out += struct.pack("<HHII", tag, 3, len(bits), beyond)
        elif tag == 258:
            out += struct.pack("<HHIHH", tag, 3, len(bits), *[*bits, 0][:2])
        else:
            out += struct.pack("<HHII", tag, 4, 1, value)
    return out + struct.pack("<I", 0) + struct.pack(f"<{len(bits)}H", *bits)


def on_black(layered: np.ndarray, largest: int) -> np.ndarray:
    exact = layered[..., :-1].astype(np.float64) * layered[..., -1:] / largest
    return np.floor(exact + 0.5).astype(layered.dtype).squeeze()


def written(folder: Path, data: bytes, name: str = "image.bin") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
@pytest.mark.parametrize("stored", [GREY8, RGB8], ids=["grey", "rgb"])
def test_8_bits_come_back_exactly(tmp_path: Path, kind: str, stored: np.ndarray) -> None:
    path = tmp_path / f"image{SUFFIX[kind]}"
    Image.fromarray(stored).save(path, kind)
    found = decode(path)
    np.testing.assert_array_equal(found.pixels, stored)
    assert (found.pixels.dtype, found.largest, found.mask) == (np.uint8, 255, None)
    assert found.content == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("stored", [GREY8, RGB8], ids=["grey", "rgb"])
def test_jpeg_is_what_pillow_decodes(tmp_path: Path, stored: np.ndarray) -> None:
    path = tmp_path / "image.jpeg"
    Image.fromarray(np.full_like(stored, 77)).save(path, "JPEG", quality=95)
    found = decode(path)
    assert found.pixels.shape == stored.shape
    assert np.abs(found.pixels.astype(int) - 77).max() <= 1


@pytest.mark.parametrize("stored", [GREY8, RGB8], ids=["grey", "rgb"])
@pytest.mark.parametrize(
    "extra",
    [
        b"",
        chunk(b"gAMA", struct.pack(">I", 45455)),
        chunk(b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)),
        chunk(b"sRGB", b"\0"),
        chunk(b"pHYs", struct.pack(">IIB", 3000, 3000, 1)),
        chunk(b"tEXt", b"Software\0a scanner"),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"),
    ],
    ids=["none", "gAMA", "cHRM", "sRGB", "pHYs", "tEXt", "iTXt"],
)
def test_what_else_a_png_says_changes_no_pixel(tmp_path: Path, stored: np.ndarray, extra: bytes) -> None:
    colour = 2 if stored.ndim == 3 else 0
    data = png(stored if colour else stored[..., None], 8, colour, extra)
    found = decode(written(tmp_path, data))
    np.testing.assert_array_equal(found.pixels, stored)
    np.testing.assert_array_equal(found.pixels, np.asarray(Image.open(tmp_path / "image.bin")))


@pytest.mark.parametrize("where", ["tEXt", "iTXt"])
def test_orientation_may_stand_in_a_text(tmp_path: Path, where: str) -> None:
    if where == "tEXt":
        exif = b"Exif\0\0" + exif_chunk(6)[8:-4]
        extra = chunk(b"tEXt", b"Raw profile type exif\0\nexif\n%d\n%s\n" % (len(exif), exif.hex().encode()))
    else:
        text = b"<x:xmpmeta xmlns:x='adobe:ns:meta/' tiff:Orientation=\"6\"/>"
        extra = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + text)
    found = decode(written(tmp_path, png(GREY8[..., None], 8, 0, extra)))
    np.testing.assert_array_equal(found.pixels, UPRIGHT[6](GREY8))


@pytest.mark.parametrize(
    "content",
    [zlib.compress(b"\0" + bytes(7)), zlib.compress(b"\x09" + bytes(39)), zlib.compress(bytes(40))[:-2] + b"xx", b""],
    ids=["short", "filter", "checksum", "empty"],
)
def test_pixels_that_do_not_fill_a_png_are_noticed_behind_right_check_sums(tmp_path: Path, content: bytes) -> None:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 7, 5, 8, 0, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", content) + chunk(b"IEND", b"")
    with pytest.raises(DataError, match="damaged"):
        decode(written(tmp_path, data))


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_png_below_8_bits_is_spread_over_the_full_range(tmp_path: Path, depth: int) -> None:
    stored = RNG.integers(0, 1 << depth, (5, 7), dtype=np.uint8)
    found = decode(written(tmp_path, png(stored[..., None], depth, 0)))
    np.testing.assert_array_equal(found.pixels, stored * (255 // ((1 << depth) - 1)))
    assert found.largest == 255


@pytest.mark.parametrize(
    ("stored", "colour", "expected"),
    [
        (GREY16[..., None], 0, GREY16),
        (RGB16, 2, RGB16),
        (RGBA16, 6, on_black(RGBA16, 65535)),
        (RGBA16[..., :2], 4, on_black(RGBA16[..., :2], 65535)),
    ],
    ids=["grey", "rgb", "rgba", "grey-alpha"],
)
def test_png_keeps_16_bits(tmp_path: Path, stored: np.ndarray, colour: int, expected: np.ndarray) -> None:
    found = decode(written(tmp_path, png(stored, 16, colour)))
    np.testing.assert_array_equal(found.pixels, expected)
    assert (found.pixels.dtype, found.largest) == (np.uint16, 65535)


@pytest.mark.parametrize(("stored", "colour"), [(RGBA8, 6), (RGBA8[..., :2], 4)], ids=["rgba", "grey-alpha"])
def test_transparency_is_composited_on_black(tmp_path: Path, stored: np.ndarray, colour: int) -> None:
    found = decode(written(tmp_path, png(stored, 8, colour)))
    np.testing.assert_array_equal(found.pixels, on_black(stored, 255))


def test_palettes_are_looked_up(tmp_path: Path) -> None:
    palette = RNG.integers(0, 256, (256, 3), dtype=np.uint8)
    image = Image.fromarray(GREY8, "L")
    image.putpalette(palette.tobytes())
    for name in ("image.png", "image.bmp"):
        image.save(tmp_path / name)
        np.testing.assert_array_equal(decode(tmp_path / name).pixels, palette[GREY8])


def test_a_transparent_palette_colour_is_black(tmp_path: Path) -> None:
    image = Image.fromarray(GREY8 % 2, "L")
    image.putpalette([200, 10, 10, 10, 200, 10])
    image.save(tmp_path / "image.png", transparency=0)
    expected = np.where((GREY8 % 2)[..., None] == 0, 0, np.array([10, 200, 10]))
    np.testing.assert_array_equal(decode(tmp_path / "image.png").pixels, expected)


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("depth", [8, 16])
def test_tiff_grey_of_either_polarity(tmp_path: Path, depth: int, inverted: bool) -> None:
    stored = GREY8 if depth == 8 else GREY16
    data = tiff(stored.astype(f"<u{depth // 8}").tobytes(), 7, 5, [depth], {262: 0 if inverted else 1})
    found = decode(written(tmp_path, data))
    largest = (1 << depth) - 1
    np.testing.assert_array_equal(found.pixels, largest - stored if inverted else stored)
    assert found.largest == largest


def test_tiff_of_12_bits_knows_its_largest_value(tmp_path: Path) -> None:
    stored = RNG.integers(0, 4096, (4, 6), dtype=np.uint16)
    pairs = stored.reshape(-1, 2).astype(int)
    packed = bytes(byte for a, b in pairs.tolist() for byte in (a >> 4, (a & 15) << 4 | b >> 8, b & 255))
    found = decode(written(tmp_path, tiff(packed, 6, 4, [12], {})))
    np.testing.assert_array_equal(found.pixels, stored)
    assert found.largest == 4095


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize(
    ("kind", "stored"),
    [(kind, stored) for kind in ("png", "tiff") for stored in (GREY8, GREY16, RGB16)] + [("jpeg", GREY8)],
    ids=["png-grey8", "png-grey16", "png-rgb16", "tiff-grey8", "tiff-grey16", "tiff-rgb16", "jpeg"],
)
def test_orientation_is_applied(tmp_path: Path, kind: str, stored: np.ndarray, orientation: int) -> None:
    tolerance = 0
    if kind == "png":
        colour = 2 if stored.ndim == 3 else 0
        values = stored if stored.ndim == 3 else stored[..., None]
        data = png(values, 8 * stored.itemsize, colour, exif_chunk(orientation))
    elif kind == "tiff":
        samples = stored.shape[2] if stored.ndim == 3 else 1
        tags = {274: orientation, 262: 2 if samples == 3 else 1}
        data = tiff(stored.tobytes(), 7, 5, [8 * stored.itemsize] * samples, tags)
    else:
        stored = np.zeros((16, 24), dtype=np.uint8)
        stored[:8, :8] = 200
        exif = Image.Exif()
        exif[274] = orientation
        Image.fromarray(stored).save(tmp_path / "image.jpg", quality=100, exif=exif)
        data = (tmp_path / "image.jpg").read_bytes()
        tolerance = 2
    found = decode(written(tmp_path, data)).pixels
    expected = UPRIGHT[orientation](stored)
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected.astype(int)).max() <= tolerance


@pytest.mark.parametrize(
    "stored",
    [GREY8, GREY16, RGB8, RGB16, GREY8[..., None], GREY16.astype(">u2"), np.asfortranarray(RGB16)],
    ids=["u1", "u2", "rgb", "rgb16", "one-channel", "big-endian", "fortran"],
)
def test_npy_comes_back_exactly(tmp_path: Path, stored: np.ndarray) -> None:
    np.save(tmp_path / "image.npy", stored)
    found = decode(tmp_path / "image.npy")
    np.testing.assert_array_equal(found.pixels, stored[..., 0] if stored.shape[-1] == 1 else stored)
    assert found.largest == (255 if stored.itemsize == 1 else 65535)
    assert found.pixels.dtype.isnative


@pytest.mark.parametrize(
    ("stored", "what"),
    [
        (GREY8.astype(np.float32), "float32"),
        (GREY8.astype(np.int16), "int16"),
        (np.zeros((2, 3, 4, 5), np.uint8), "shape"),
        (np.zeros((2, 3, 4), np.uint8), "shape"),
        (np.zeros((0, 3), np.uint8), "shape"),
        (np.array([{}], dtype=object), "object"),
    ],
)
def test_npy_of_another_layout_is_refused(tmp_path: Path, stored: np.ndarray, what: str) -> None:
    np.save(tmp_path / "image.npy", stored, allow_pickle=True)
    with pytest.raises(DataError, match=what) as caught:
        decode(tmp_path / "image.npy")
    assert caught.value.where == str(tmp_path / "image.npy")


@pytest.mark.parametrize("keep", [0.3, 0.7, 0.95])
@pytest.mark.parametrize("kind", ["png", "png16", "bmp", "tiff", "tiff16", "jpeg", "npy"])
def test_truncated_files_are_named(tmp_path: Path, kind: str, keep: float) -> None:
    big = RNG.integers(0, 256, (40, 40, 3), dtype=np.uint8)
    whole = tmp_path / "whole"
    if kind == "png16":
        whole.write_bytes(png(big.astype(np.uint16) * 257, 16, 2))
    elif kind == "tiff16":
        whole.write_bytes(tiff((big.astype(np.uint16) * 257).tobytes(), 40, 40, [16] * 3, {262: 2}))
    elif kind == "npy":
        with whole.open("wb") as stream:
            np.save(stream, big)
    else:
        Image.fromarray(big).save(whole, kind.upper())
    decode(whole)
    data = whole.read_bytes()
    path = written(tmp_path, data[: int(len(data) * keep)], "cut.img")
    with pytest.raises(DataError, match=r"cut\.img: .*") as caught:
        decode(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("colour", [0, 2])
def test_a_flipped_bit_in_a_png_is_noticed(tmp_path: Path, colour: int) -> None:
    data = bytearray(png(GREY16[..., None] if colour == 0 else RGB16, 16, colour))
    data[len(data) // 2] ^= 0x10
    with pytest.raises(DataError, match="damaged"):
        decode(written(tmp_path, bytes(data)))


def test_a_bomb_is_refused_by_its_header(tmp_path: Path) -> None:
    tiny = bytearray(png(GREY8[..., None], 8, 0))
    for side in (10_001, 60_000):
        tiny[16:24] = struct.pack(">II", side, 10_000)
        tiny[29:33] = struct.pack(">I", zlib.crc32(bytes(tiny[12:29])))
        with pytest.raises(DataError, match="more than 100 megapixels"):
            decode(written(tmp_path, bytes(tiny)))
    header = b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '|u1', 'fortran_order': False, 'shape': (20000, 20000), }"
    with pytest.raises(DataError, match="more than 100 megapixels"):
        decode(written(tmp_path, header.ljust(127) + b"\n"))


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    with path.open("wb") as stream:
        stream.truncate((3 << 20) + 1)
    with pytest.raises(DataError, match="larger than 3 MiB"):
        decode(path)


def test_several_pages_or_frames_are_refused(tmp_path: Path) -> None:
    pages = [Image.fromarray(GREY8), Image.fromarray(255 - GREY8)]
    for name in ("pages.tiff", "frames.png"):
        pages[0].save(tmp_path / name, save_all=True, append_images=pages[1:])
        with pytest.raises(DataError, match="several pages or frames"):
            decode(tmp_path / name)


@pytest.mark.parametrize(
    ("image", "name", "why"),
    [
        (Image.fromarray(GREY8.astype(np.float32)), "image.tiff", "floating-point"),
        (Image.fromarray(GREY8.astype(np.int32)), "image.tiff", "32-bit or signed"),
        (Image.fromarray(RGB8).convert("CMYK"), "image.tiff", "CMYK"),
        (Image.fromarray(RGB8).convert("CMYK"), "image.jpg", "CMYK"),
        (Image.fromarray(RGB8), "image.gif", "not a PNG, JPEG, BMP, TIFF, npy or DICOM"),
    ],
    ids=["float", "int32", "cmyk-tiff", "cmyk-jpeg", "gif"],
)
def test_what_has_no_known_white_is_refused(tmp_path: Path, image: Image.Image, name: str, why: str) -> None:
    image.save(tmp_path / name)
    with pytest.raises(DataError, match=why):
        decode(tmp_path / name)


@pytest.mark.parametrize(("data", "why"), [(b"", "empty"), (b"hello", "not a PNG"), (b"\x93NUMPY", "damaged")])
def test_what_is_no_image_is_named(tmp_path: Path, data: bytes, why: str) -> None:
    with pytest.raises(DataError, match=rf"image\.bin: is .*{why}"):
        decode(written(tmp_path, data))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.png: cannot be read"):
        decode(tmp_path / "gone.png")


def test_decoding_warns_of_nothing_and_mutations_raise_only_data_errors(tmp_path: Path) -> None:
    originals = []
    for kind in ("PNG", "JPEG", "BMP", "TIFF"):
        Image.fromarray(RGB8).save(tmp_path / "image", kind)
        originals.append((tmp_path / "image").read_bytes())
    originals.append(tiff(RGB16.tobytes(), 7, 5, [16] * 3, {262: 2}))
    rng = np.random.default_rng(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(60):
            for data in originals:
                mutated = bytearray(data)
                for place in rng.integers(0, len(mutated), 4):
                    mutated[place] = rng.integers(256)
                try:
                    found = DECODER.decode_bytes(bytes(mutated), name="mutated")
                except DataError as error:
                    assert "\n" not in str(error)
                else:
                    assert found.pixels.dtype in (np.uint8, np.uint16)
