"""Compressed DICOM frames: each transfer syntax against what was encoded, or against a second decoder."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_color_lut
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from medsweep import params
from medsweep.errors import DataError
from medsweep.imaging.dicom import SYNTAXES, DicomImage, stream_size
from medsweep.imaging.dicom_header import DEFLATED

LIMITS = params.Limits(megapixels=64, file_mb=64, memory_mb=512, seconds=60)
STREAMS = Path(__file__).parent / "streams"
SHIPPED = Path(pydicom.__file__).parent / "data" / "test_files"
RNG = np.random.default_rng(4)
Make = Callable[..., Path]


def opened(path: Path) -> DicomImage:
    return DicomImage.open(path.read_bytes(), name=path.name, limits=LIMITS)


def picture(bits: int, samples: int = 1) -> np.ndarray:
    """24 × 20 pixels that use all values of `bits` from end to end."""
    y, x = np.mgrid[:24, :20]
    planes = [
        ((x * (7 + 3 * c) + y * (11 - 2 * c) + (x * y) % (5 + c)) % 97) * ((1 << bits) - 1) // 96
        for c in range(samples)
    ]
    stacked = np.stack(planes, axis=2) if samples > 1 else planes[0]
    return stacked.astype(np.uint8 if bits <= 8 else np.uint16)


def wrapped(path: Path, make_dicom: Make, streams: list[bytes], like: np.ndarray, syntax: str, **elements: Any) -> Path:
    """A DICOM file of compressed frames whose header fits pixels `like` these."""
    make_dicom(path, like, **elements)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = syntax
    if len(streams) > 1:
        dataset.NumberOfFrames = len(streams)
    dataset.PixelData = encapsulate(streams)
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path)
    return path


# High-Throughput JPEG 2000 --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stream", "bits", "samples"), [("htj2k_grey8", 8, 1), ("htj2k_grey16", 16, 1), ("htj2k_rgb8", 8, 3)]
)
@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.4.203"])
def test_high_throughput_jpeg_2000(
    tmp_path: Path, make_dicom: Make, syntax: str, stream: str, bits: int, samples: int
) -> None:
    pixels = picture(bits, samples)
    elements = {"PhotometricInterpretation": "YBR_RCT" if samples == 3 else "MONOCHROME2"}
    data = (STREAMS / f"{stream}.j2c").read_bytes()
    path = wrapped(tmp_path / "a.dcm", make_dicom, [data, data], pixels, syntax, **elements)
    image = opened(path)
    assert image.frames == 2
    np.testing.assert_array_equal(image.stored(1), pixels)


def test_lossy_high_throughput_jpeg_2000(tmp_path: Path, make_dicom: Make) -> None:
    pixels = picture(16)
    data = (STREAMS / "htj2k_lossy_grey16.j2c").read_bytes()
    path = wrapped(tmp_path / "a.dcm", make_dicom, [data], pixels, "1.2.840.10008.1.2.4.203")
    # What the encoder's own decoder finds is as far from the picture.
    assert 0 < np.abs(opened(path).stored(0).astype(int) - pixels).max() <= 75


# JPEG Extended --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["JPGExtended.dcm", "JPEG-lossy.dcm"])
def test_jpeg_extended_of_12_bits_that_pydicom_refuses(name: str) -> None:
    found = opened(SHIPPED / name).stored(0)
    assert (found.dtype, found.shape) == (np.uint16, (1024, 256))
    # As pydicom's tests have them from a decoder under the GPL; the rest as libjpeg-turbo decodes it.
    assert (found[420, 140], found[230, 120], found.max()) == (244, 95, 264)
    assert found.mean() == pytest.approx(14.36999, abs=1e-5)


def test_jpeg_extended_of_12_bits_frame_by_frame(tmp_path: Path, make_dicom: Make) -> None:
    ramp = np.add.outer(np.arange(24) * 100, np.arange(20) * 80).astype(np.uint16)
    data = (STREAMS / "jpeg_12_bits.jpg").read_bytes()
    syntax = "1.2.840.10008.1.2.4.51"
    image = opened(wrapped(tmp_path / "a.dcm", make_dicom, [data, data], ramp, syntax, BitsStored=12))
    for frame in (0, 1):
        np.testing.assert_array_equal(image.stored(frame), ramp)
    torn = opened(wrapped(tmp_path / "b.dcm", make_dicom, [data[:200]], ramp, syntax, BitsStored=12))
    with pytest.raises(DataError, match="damaged"):
        torn.frame(0, "file")


def test_jpeg_extended_of_12_bits_in_colour_is_refused(tmp_path: Path, make_dicom: Make) -> None:
    data = bytearray((STREAMS / "jpeg_12_bits.jpg").read_bytes())
    data[data.index(b"\xff\xc1") + 9] = 3
    assert stream_size(bytes(data)) == (24, 20, 3, 12)
    colour = np.zeros((24, 20, 3), np.uint16)
    elements = {"PhotometricInterpretation": "YBR_FULL", "BitsStored": 12}
    path = wrapped(tmp_path / "a.dcm", make_dicom, [bytes(data)], colour, "1.2.840.10008.1.2.4.51", **elements)
    with pytest.raises(DataError, match="JPEG Extended with 3 samples of 12 bits"):
        opened(path).stored(0)


# The older ones -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0", "4:1:1"])
@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"])
def test_jpeg_of_every_subsampling(tmp_path: Path, make_dicom: Make, syntax: str, subsampling: str) -> None:
    y, x = np.mgrid[:40, :48]
    pixels = np.stack([x * 5, y * 6, 255 - x - y], axis=2).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=95, subsampling=subsampling)
    photometric = "YBR_FULL" if subsampling == "4:4:4" else "YBR_FULL_422"
    path = wrapped(
        tmp_path / "a.dcm", make_dicom, [stream.getvalue()], pixels, syntax, PhotometricInterpretation=photometric
    )
    found = opened(path).stored(0)
    assert found.shape == pixels.shape
    assert np.abs(found.astype(int) - pixels).mean() < 4
    np.testing.assert_allclose(found, np.asarray(Image.open(io.BytesIO(stream.getvalue()))), atol=2)


@pytest.mark.parametrize("compress", [RLELossless, JPEGLSLossless, JPEG2000Lossless], ids=lambda uid: uid.name)
@pytest.mark.parametrize("kind", ["grey8", "grey12", "grey16", "signed8", "signed16", "rgb"])
def test_lossless_compression_loses_nothing(tmp_path: Path, make_dicom: Make, compress: Any, kind: str) -> None:
    elements: dict[str, Any] = {}
    if kind == "rgb":
        pixels = RNG.integers(0, 256, (40, 50, 3)).astype(np.uint8)
        elements = {"PhotometricInterpretation": "RGB"}
    elif kind.startswith("signed"):
        dtype = np.dtype(f"i{int(kind[6:]) // 8}")
        pixels = RNG.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, (40, 50), dtype=dtype, endpoint=True)
    else:
        bits = int(kind[4:])
        pixels = RNG.integers(0, 1 << bits, (40, 50)).astype(np.uint8 if bits == 8 else np.uint16)
        elements = {"BitsStored": bits}
    plain = make_dicom(tmp_path / "plain.dcm", pixels, **elements)
    packed = make_dicom(tmp_path / "packed.dcm", pixels, compress=compress, **elements)
    np.testing.assert_array_equal(opened(packed).stored(0), pixels)
    np.testing.assert_array_equal(opened(packed).frame(0, "file").pixels, opened(plain).frame(0, "file").pixels)


def test_jpeg_lossless_of_16_bits(tmp_path: Path, make_dicom: Make) -> None:
    gdcm = pytest.importorskip("gdcm")
    pixels = RNG.integers(0, 65536, (20, 30)).astype(np.uint16)
    plain = make_dicom(tmp_path / "plain.dcm", pixels)
    for process, uid in (("14", "57"), ("14_1", "70")):
        reader = gdcm.ImageReader()
        reader.SetFileName(str(plain))
        assert reader.Read()
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, f"JPEGLosslessProcess{process}")))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer = gdcm.ImageWriter()
        writer.SetFileName(str(tmp_path / "packed.dcm"))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
        image = opened(tmp_path / "packed.dcm")
        assert image.syntax == f"1.2.840.10008.1.2.4.{uid}"
        np.testing.assert_array_equal(image.stored(0), pixels)


def test_a_compressed_frame_larger_than_its_header_says_meets_no_decoder(tmp_path: Path, make_dicom: Make) -> None:
    path = make_dicom(tmp_path / "a.dcm", np.zeros((64, 64), np.uint8), compress=JPEG2000Lossless)
    data = bytearray(path.read_bytes())
    place = data.index(b"\xff\x4f\xff\x51")
    assert stream_size(bytes(data[place:])) == (64, 64, 1, 8)
    data[place + 8 : place + 16] = (65535).to_bytes(4, "big") * 2
    path.write_bytes(data)
    with pytest.raises(DataError, match="65535×65535 pixels and 1 samples where its header says 64×64"):
        opened(path).stored(0)


def test_every_plugin_of_the_table_is_installed_and_is_no_gpl_one() -> None:
    from pydicom.pixels import get_decoder

    for syntax, (_, name) in SYNTAXES.items():
        if name:
            assert name in get_decoder(syntax).available_plugins
    assert "libjpeg" not in sys.modules


def test_the_documentation_lists_every_syntax() -> None:
    text = (Path(__file__).parents[2] / "docs" / "dicom.md").read_text()
    listed = {line.split("`")[1]: line.split(" | ")[1] for line in text.splitlines() if line.startswith("| `1.2.840")}
    assert listed == {uid: name for uid, (name, _) in SYNTAXES.items()}
    assert DEFLATED in listed


# Palettes -------------------------------------------------------------------------------------------------------------


def palette(bits: int, segmented: bool) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Elements of a palette with 64 entries from the value 10 on, and its colours one by one."""
    elements: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    expanded = []
    code = "<u2" if bits == 16 else "u1"
    largest = (1 << bits) - 1
    for number, colour in enumerate(("Red", "Green", "Blue")):
        first, end = largest // 8 * number, largest - 20 * number
        # A discrete segment of 4, a linear one of 28 up to `end`, and both again by an indirect one; an offset that is
        # not 0 needs a first segment that is not repeated.
        discrete = [first, first + 3, first + 1, first + 7]
        linear = [int(first + 7 + (end - first - 7) * step / 27 + 0.5) for step in range(1, 28)]
        expanded.append(np.array([5, 6, *[*discrete, *linear] * 2]))
        if segmented:
            offset = [8, 0] if bits == 16 else [4, 0, 0, 0]  # in bytes
            words = [0, 2, 5, 6, 0, 4, *discrete, 1, 27, end, 2, 2, *offset]
        else:
            words = expanded[-1].tolist()
        data = np.array(words, dtype=code).tobytes()
        elements[f"{colour}PaletteColorLookupTableDescriptor"] = [64, 10, bits]
        name = f"{'Segmented' if segmented else ''}{colour}PaletteColorLookupTableData"
        elements[name] = data + b"\0" * (len(data) % 2)
    return elements, expanded


@pytest.mark.parametrize("segmented", [False, True], ids=["plain", "segmented"])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("stored", ["u1", "u2", "i2"])
def test_palettes_are_looked_up(tmp_path: Path, make_dicom: Make, stored: str, bits: int, segmented: bool) -> None:
    ends = np.iinfo(stored)
    pixels = RNG.integers(max(ends.min, -300), min(ends.max, 300), (20, 30)).astype(stored)
    elements, colours = palette(bits, segmented)
    path = make_dicom(tmp_path / "a.dcm", pixels, **elements)
    found = opened(path).frame(0, "file")
    assert found.largest == (1 << bits) - 1
    places = np.clip(pixels.astype(int) - 10, 0, 63)
    expected = np.stack([each[places] for each in colours], axis=2)
    np.testing.assert_array_equal(found.pixels, expected)
    if not segmented and (stored == "u1" or bits == 16):  # elsewhere pydicom wraps round
        np.testing.assert_array_equal(found.pixels, apply_color_lut(pixels, pydicom.dcmread(path)))


def test_a_palette_of_8_bits_in_16_and_one_of_big_endian(tmp_path: Path, make_dicom: Make) -> None:
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    for syntax, code in (("1.2.840.10008.1.2.1", "<u2"), ("1.2.840.10008.1.2.2", ">u2")):
        for bits in (8, 16):
            colours = RNG.integers(0, 1 << bits, (3, 64))
            elements: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
            for name, entries in zip(("Red", "Green", "Blue"), colours, strict=True):
                elements[f"{name}PaletteColorLookupTableDescriptor"] = [64, 0, bits]
                elements[f"{name}PaletteColorLookupTableData"] = entries.astype(code).tobytes()
            path = make_dicom(tmp_path / "a.dcm", pixels, syntax=pydicom.uid.UID(syntax), **elements)
            found = opened(path).frame(0, "file")
            assert found.largest == (1 << bits) - 1
            np.testing.assert_array_equal(found.pixels, np.moveaxis(colours[:, pixels], 0, 2))


@pytest.mark.parametrize(
    ("words", "why"),
    [
        # Copy 65535 segments from the first on, which are themselves copies, again and again.
        ([0, 1, 7, *[2, 65535, 0, 0] * 2000], "out of place"),
        ([0, 60, *range(60), *[2, 1, 0, 0] * 2000], "longer than the 64 entries"),
        ([0, 1, 7, 1, 65535, 7], "longer than the 64 entries"),
        ([0, 1, 7, *[0, 0] * 2000], "empty segment"),
        ([1, 3, 7], "out of place"),
        ([0, 3, 1, 2, 3], "a palette of 3 entries where its header says 64"),
    ],
)
def test_a_palette_that_repeats_itself_for_ever_or_ends_early_is_refused(
    tmp_path: Path, make_dicom: Make, words: list[int], why: str
) -> None:
    elements, _ = palette(16, segmented=True)
    for colour in ("Red", "Green", "Blue"):
        elements[f"Segmented{colour}PaletteColorLookupTableData"] = np.array(words, "<u2").tobytes()
    path = make_dicom(tmp_path / "a.dcm", np.zeros((8, 8), np.uint8), **elements)
    with pytest.raises(DataError, match=why):
        opened(path).frame(0, "file")
