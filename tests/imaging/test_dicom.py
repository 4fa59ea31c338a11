"""DICOM pixels against pydicom's own handling of them, and what is refused instead."""

from __future__ import annotations

import sys
import tracemalloc
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut, apply_windowing
from pydicom.sequence import Sequence

from medsweep import params
from medsweep.errors import DataError, MedsweepError
from medsweep.imaging.decode import Decoder
from medsweep.imaging.dicom import DicomImage
from medsweep.imaging.dicom_header import looks_like_dicom
from medsweep.imaging.pipeline import to_array

LIMITS = params.Limits(megapixels=64, file_mb=64, memory_mb=512, seconds=60)
IMAGE = params.Image(height=32, width=32, channels=1, fit="pad")
SHIPPED = Path(pydicom.__file__).parent / "data"
RNG = np.random.default_rng(4)
Make = Callable[..., Path]


def opened(path: Path) -> DicomImage:
    return DicomImage.open(path.read_bytes(), name=path.name, limits=LIMITS)


def shown(path: Path, window: Any = "file", frame: int | None = None) -> np.ndarray:
    """Values from 0 to 1."""
    raw = Decoder(LIMITS, window).decode(path, frame)
    return raw.pixels / raw.largest


def prepared(path: Path, window: Any = "file") -> np.ndarray:
    intensity = params.Intensity.model_validate(
        {
            "window": window,
            "method": "full_range",
            "percentiles": (0.5, 99.5),
            "clahe": {"clip_limit": 2.0, "tiles": 8},
            "bits": 8,
        }
    )
    return to_array(Decoder(LIMITS, intensity.window).decode(path), IMAGE, intensity)[0]


# Every file that pydicom brings along ---------------------------------------------------------------------------------


def shipped() -> list[Path]:
    return [
        path
        for path in sorted(SHIPPED.rglob("*"))
        if path.is_file() and path.suffix != ".py" and looks_like_dicom(path.open("rb").read(132))
    ]


def test_pydicom_ships_enough_files_to_mean_something() -> None:
    assert len(shipped()) > 150


# Decoded where pydicom has no decoder; test_dicom_streams compares their values.
BEYOND_PYDICOM = frozenset({"JPEG-lossy.dcm", "JPGExtended.dcm"})


def by_pydicom(path: Path) -> tuple[Any, np.ndarray | None]:
    dataset = pydicom.dcmread(path, force=True)
    if "TransferSyntaxUID" not in dataset.file_meta:
        dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2"
    try:
        return dataset, dataset.pixel_array
    except Exception:
        return dataset, None


@pytest.mark.parametrize("path", shipped(), ids=lambda path: path.relative_to(SHIPPED).as_posix())
@pytest.mark.filterwarnings("ignore")
def test_a_shipped_file_is_read_as_pydicom_reads_it_or_refused_with_a_reason(path: Path) -> None:
    if path.name in BEYOND_PYDICOM:
        assert opened(path).frame(0, "file").pixels.any()
        return
    dataset, reference = by_pydicom(path)
    if reference is None:
        with pytest.raises(DataError) as caught:
            opened(path).stored(0)
        assert len(caught.value.message) > 10
        return
    image = opened(path)
    frames = reference if image.frames > 1 else reference[None]
    assert image.frames == len(frames)
    for index, frame in enumerate(frames):
        np.testing.assert_array_equal(image.stored(index), frame)
    found = image.frame(0, "file")
    share = found.pixels / found.largest
    if image.photometric == "PALETTE COLOR":
        np.testing.assert_array_equal(found.pixels, apply_color_lut(frames[0], dataset)[..., :3])
    elif image.samples == 3:
        np.testing.assert_allclose(share, frames[0] / (2.0**image.bits - 1), atol=1 / 65535)
    elif "WindowWidth" in dataset and "PixelPaddingValue" not in dataset:
        values = apply_voi_lut(apply_modality_lut(frames[0], dataset), dataset)
        # pydicom windows onto the range of the stored bits after the modality transform.
        dataset.PixelRepresentation, signed = int(frames.dtype.kind == "i"), frames.dtype.kind == "i"
        ends = (-(2.0 ** (image.bits - 1)), 2.0 ** (image.bits - 1) - 1) if signed else (0.0, 2.0**image.bits - 1)
        low, high = apply_modality_lut(np.array(ends), dataset)
        expected = (values - low) / (high - low)
        expected = 1 - expected if image.photometric == "MONOCHROME1" else expected
        np.testing.assert_allclose(share, expected, atol=2 / 65535)


def test_what_else_pydicom_ships_is_refused_with_a_reason() -> None:
    others = [path for path in sorted(SHIPPED.rglob("*")) if path.is_file() and path not in set(shipped())]
    assert {"no_meta.dcm", "zipMR.gz", "ExplVR_BigEndNoMeta.dcm"} <= {path.name for path in others}
    for path in others:
        with pytest.raises(DataError, match="is not a PNG, JPEG"):
            Decoder(LIMITS, "file").decode(path)


# Encodings ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32])
@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"])
def test_values_of_all_widths_and_signs_come_back(tmp_path: Path, make_dicom: Make, dtype: Any, syntax: str) -> None:
    ends = np.iinfo(dtype)
    pixels = RNG.integers(ends.min, ends.max, (6, 9), dtype=dtype, endpoint=True)
    pixels[0, :2] = ends.min, ends.max
    path = make_dicom(tmp_path / "a.dcm", pixels, syntax=pydicom.uid.UID(syntax))
    np.testing.assert_array_equal(opened(path).stored(0), pixels)
    share = (pixels.astype(np.float64) - ends.min) / (float(ends.max) - ends.min)
    np.testing.assert_allclose(shown(path, "full_range"), share, atol=0.6 / 65535)
    np.testing.assert_allclose(shown(path, "min_max"), share, atol=0.6 / 65535)


def deflated(path: Path, tail: bytes = b"") -> bytes:
    """The file with its data set deflated, and `tail` after the data set before that."""
    data = path.read_bytes()
    dataset = pydicom.dcmread(path)
    start = 132 + 12 + dataset.file_meta.FileMetaInformationGroupLength
    meta = data[:start].replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99")
    meta = meta.replace(b"\x02\0\x10\0UI\x14\0", b"\x02\0\x10\0UI\x16\0")
    meta = meta[:140] + (int.from_bytes(meta[140:144], "little") + 2).to_bytes(4, "little") + meta[144:]
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return meta + packer.compress(data[start:]) + packer.compress(tail) + packer.flush()


def test_a_deflated_file_is_read(tmp_path: Path, make_dicom: Make) -> None:
    pixels = RNG.integers(0, 256, (40, 50)).astype(np.uint8)
    path = make_dicom(tmp_path / "a.dcm", pixels)
    path.write_bytes(deflated(path))
    assert opened(path).syntax == "1.2.840.10008.1.2.1.99"
    np.testing.assert_array_equal(opened(path).stored(0), pixels)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(DataError, match="truncated: its deflated data end early"):
        opened(path)


def test_deflated_bombs_end_where_their_header_says(tmp_path: Path, make_dicom: Make) -> None:
    path = make_dicom(tmp_path / "a.dcm", np.zeros((8, 8), np.uint8))
    bomb = deflated(path, bytes(100 << 20))
    assert len(bomb) < 1 << 20
    header = len(path.read_bytes()) - 132 - 12 - pydicom.dcmread(path).file_meta.FileMetaInformationGroupLength
    with inflated_at_most(2 << 20), pytest.raises(DataError, match=f"inflates to more than the {header} bytes"):
        DicomImage.open(bomb, name="bomb", limits=LIMITS)
    # One that announces all of it.
    path = make_dicom(tmp_path / "b.dcm", np.zeros((1, 8, 8), np.uint8), Rows=8000, Columns=8000, NumberOfFrames=100)
    bomb = deflated(path, bytes(100 << 20))
    with inflated_at_most(2 << 20), pytest.raises(DataError, match="inflates to more than 512 MiB"):
        DicomImage.open(bomb, name="bomb", limits=LIMITS)
    # One whose header never ends.
    path = make_dicom(tmp_path / "c.dcm", np.zeros((8, 8), np.uint8))
    dataset = pydicom.dcmread(path)
    dataset.private_block(0x0009, "X", create=True).add_new(1, "OB", bytes(100 << 20))
    dataset.save_as(path)
    bomb = deflated(path)
    with inflated_at_most(33 << 20), pytest.raises(DataError, match="a header of more than 32 MiB"):
        DicomImage.open(bomb, name="bomb", limits=LIMITS)


@contextmanager
def inflated_at_most(most: int) -> Iterator[None]:
    """No more memory than that, and twice as much for the pieces."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < 3 * most
    finally:
        tracemalloc.stop()


# From stored values to displayed ones ---------------------------------------------------------------------------------

WINDOWS: dict[str, dict[str, Any]] = {
    "none": {},
    "linear": {"WindowCenter": 1000, "WindowWidth": 700},
    "linear-even": {"WindowCenter": 1000.5, "WindowWidth": 301},
    "exact": {"WindowCenter": 1000, "WindowWidth": 700, "VOILUTFunction": "LINEAR_EXACT"},
    "sigmoid": {"WindowCenter": 1000, "WindowWidth": 300, "VOILUTFunction": "SIGMOID"},
}


@pytest.mark.parametrize("window", ["file", "full_range", "min_max"])
@pytest.mark.parametrize("kind", WINDOWS)
@pytest.mark.parametrize("bits", [8, 12])
def test_twins_of_monochrome1_and_2_give_identical_arrays(
    tmp_path: Path, make_dicom: Make, kind: str, window: str, bits: int
) -> None:
    most = (1 << bits) - 1
    pixels = RNG.integers(most // 10, most - most // 5, (40, 50)).astype(np.uint8 if bits == 8 else np.uint16)
    elements = {**WINDOWS[kind], "BitsStored": bits}
    if "WindowCenter" in elements and bits == 8:
        elements |= {"WindowCenter": elements["WindowCenter"] / 10, "WindowWidth": elements["WindowWidth"] / 10}
    two = make_dicom(tmp_path / "two.dcm", pixels, **elements)
    if "WindowCenter" in elements:
        # The mirrored window; LINEAR has its middle half a value below its centre (PS3.3 C.11.2.1.2).
        half = 1 if "VOILUTFunction" not in elements else 0
        elements["WindowCenter"] = most - elements["WindowCenter"] + half
    one = make_dicom(
        tmp_path / "one.dcm", (most - pixels).astype(pixels.dtype), PhotometricInterpretation="MONOCHROME1", **elements
    )
    assert len(np.unique(shown(two, window))) > 20
    np.testing.assert_array_equal(shown(one, window), shown(two, window))
    np.testing.assert_array_equal(prepared(one, window), prepared(two, window))


def test_twins_with_lookup_tables_and_padding_give_identical_arrays(tmp_path: Path, make_dicom: Make) -> None:
    pixels = RNG.integers(0, 4096, (40, 50)).astype(np.uint16)
    pixels[0] = 4000
    entries = np.sort(RNG.integers(0, 4096, 4096))
    two = make_dicom(
        tmp_path / "two.dcm",
        pixels,
        BitsStored=12,
        PixelPaddingValue=4000,
        VOILUTSequence=[lut(0, entries.tolist(), 12)],
    )
    one = make_dicom(
        tmp_path / "one.dcm",
        4095 - pixels,
        BitsStored=12,
        PhotometricInterpretation="MONOCHROME1",
        PixelPaddingValue=95,
        VOILUTSequence=[lut(0, (4095 - entries[::-1]).tolist(), 12)],
    )
    np.testing.assert_array_equal(shown(one), shown(two))
    assert not shown(two)[0].any()
    np.testing.assert_array_equal(prepared(one), prepared(two))


def test_a_voi_lut_has_the_sign_of_the_units_that_it_maps(tmp_path: Path, make_dicom: Make) -> None:
    pixels = np.arange(824, 1224, dtype=np.uint16).reshape(20, 20)
    entries = np.sort(RNG.integers(0, 4096, 200))
    path = make_dicom(
        tmp_path / "a.dcm",
        pixels,
        RescaleSlope=1,
        RescaleIntercept=-1024,
        VOILUTSequence=[lut((1 << 16) - 100, entries.tolist(), 12)],  # from -100 on, as an unsigned number
    )
    expected = entries[np.clip(pixels.astype(int) - 1024 + 100, 0, 199)] / 4095
    np.testing.assert_allclose(shown(path), expected, atol=0.6 / 65535)


@pytest.mark.parametrize("kind", ["linear", "linear-even", "exact", "sigmoid"])
def test_windows_are_pydicoms(tmp_path: Path, make_dicom: Make, kind: str) -> None:
    pixels = RNG.integers(0, 4096, (40, 50)).astype(np.uint16)
    elements = {**WINDOWS[kind], "BitsStored": 12, "RescaleSlope": 0.5, "RescaleIntercept": 100}
    path = make_dicom(tmp_path / "a.dcm", pixels, **elements)
    dataset = pydicom.dcmread(path)
    low, high = apply_modality_lut(np.array([0, 4095]), dataset)
    expected = (apply_windowing(apply_modality_lut(pixels, dataset), dataset) - low) / (high - low)
    np.testing.assert_allclose(shown(path), expected, atol=0.6 / 65535)


def lut(first: int, entries: list[int], bits: int) -> Dataset:
    item = Dataset()
    item.LUTDescriptor = [len(entries), first, bits]
    item["LUTDescriptor"].VR = "US"
    item.LUTData = entries
    item["LUTData"].VR = "US"
    return item


@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
def test_lookup_tables_are_applied_one_after_the_other(tmp_path: Path, make_dicom: Make, photometric: str) -> None:
    pixels = RNG.integers(0, 256, (20, 30)).astype(np.uint8)
    modality = lut(10, RNG.integers(0, 200, 100).tolist(), 16)
    voi = lut(20, sorted(RNG.integers(0, 4096, 150).tolist()), 12)
    path = make_dicom(
        tmp_path / "a.dcm",
        pixels,
        PhotometricInterpretation=photometric,
        ModalityLUTSequence=Sequence([modality]),
        VOILUTSequence=Sequence([voi]),
    )
    dataset = pydicom.dcmread(path)
    expected = apply_voi_lut(apply_modality_lut(pixels, dataset), dataset) / 4095
    expected = 1 - expected if photometric == "MONOCHROME1" else expected
    np.testing.assert_allclose(shown(path), expected, atol=0.6 / 65535)


@pytest.mark.parametrize(
    ("window", "center", "width"),
    [("lung", -600, 1500), ("bone", 400, 1800), ("soft_tissue", 50, 400), ("brain", 40, 80)],
)
def test_presets_and_given_windows_are_in_hounsfield_units(
    tmp_path: Path, make_dicom: Make, window: str, center: int, width: int
) -> None:
    pixels = RNG.integers(0, 4096, (20, 30)).astype(np.int16)
    path = make_dicom(tmp_path / "a.dcm", pixels, RescaleSlope=1, RescaleIntercept=-1024, WindowCenter=7, WindowWidth=9)
    units = pixels - 1024.0
    expected = np.clip((units - (center - 0.5)) / (width - 1) + 0.5, 0, 1)
    np.testing.assert_allclose(shown(path, window), expected, atol=0.6 / 65535)
    given = params.GivenWindow(center=center, width=width)
    np.testing.assert_array_equal(shown(path, given), shown(path, window))


@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
def test_padding_is_black_and_counts_for_nothing(tmp_path: Path, make_dicom: Make, photometric: str) -> None:
    pixels = RNG.integers(100, 201, (20, 30)).astype(np.int16)
    pixels[5, 5:7] = 100, 200
    pixels[0], pixels[1] = -2000, -1990
    path = make_dicom(
        tmp_path / "a.dcm",
        pixels,
        PhotometricInterpretation=photometric,
        PixelPaddingValue=-2000,
        PixelPaddingRangeLimit=-1990,
    )
    found = shown(path)
    assert (found[:2] == 0).all()
    expected = (pixels[2:] - 100) / 100
    np.testing.assert_allclose(found[2:], 1 - expected if photometric == "MONOCHROME1" else expected, atol=0.6 / 65535)
    one_value = make_dicom(tmp_path / "b.dcm", pixels[1:], PixelPaddingValue=-1990)
    np.testing.assert_allclose(shown(one_value)[1:], expected, atol=0.6 / 65535)


def test_an_eight_bit_frame_gives_the_values_that_a_png_of_it_gives(tmp_path: Path, make_dicom: Make) -> None:
    from PIL import Image

    pixels = RNG.integers(0, 256, (40, 50)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    dicom = make_dicom(tmp_path / "a.dcm", pixels)
    np.testing.assert_array_equal(prepared(dicom), prepared(tmp_path / "a.png"))


def test_frames_of_an_enhanced_file_have_windows_of_their_own(tmp_path: Path, make_dicom: Make) -> None:
    pixels = np.broadcast_to(np.arange(100, dtype=np.uint16).reshape(10, 10), (2, 10, 10)).copy()
    groups = []
    for center, intercept in ((50, 0), (70, 20)):
        group, voi, modality = Dataset(), Dataset(), Dataset()
        voi.WindowCenter, voi.WindowWidth = center, 40
        modality.RescaleSlope, modality.RescaleIntercept = 1, intercept
        group.FrameVOILUTSequence = Sequence([voi])
        group.PixelValueTransformationSequence = Sequence([modality])
        groups.append(group)
    path = make_dicom(tmp_path / "a.dcm", pixels, NumberOfFrames=2, PerFrameFunctionalGroupsSequence=Sequence(groups))
    # Twenty units more, and a window twenty higher: the same picture.
    np.testing.assert_array_equal(shown(path, frame=0), shown(path, frame=1))
    assert 0 < shown(path, frame=0)[4, 9] < 1
    first, second = (Decoder(LIMITS, "file").decode(path, frame) for frame in (0, 1))
    assert first.content != second.content
    with pytest.raises(DataError, match="2 frames; one image a file"):
        shown(path)
    with pytest.raises(DataError, match="no frame 2"):
        shown(path, frame=2)


# Refusals -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("elements", "why"),
    [
        ({"Rows": 12}, "truncated: 256 bytes of pixels where its header says 384"),
        ({"Columns": 8}, "has 256 bytes of pixels where its header says 128"),
        ({"BitsStored": 20}, "BitsStored 20"),
        ({"HighBit": 15, "BitsStored": 12}, "HighBit"),
        ({"PhotometricInterpretation": "CMYK"}, "photometric interpretation"),
        ({"PhotometricInterpretation": "RGB", "SamplesPerPixel": 1}, "RGB and has 1 samples"),
        ({"SamplesPerPixel": 9}, "SamplesPerPixel 9"),
        ({"WindowCenter": 5, "WindowWidth": 0}, "window of the width 0"),
        ({"WindowCenter": 5, "WindowWidth": 5, "VOILUTFunction": "CUBIC"}, "unknown VOI LUT function"),
        ({"RescaleSlope": 0, "RescaleIntercept": 1}, "slope of 0"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_headers_that_contradict_themselves_are_refused(
    tmp_path: Path, make_dicom: Make, elements: dict[str, Any], why: str
) -> None:
    path = make_dicom(tmp_path / "a.dcm", RNG.integers(1, 4096, (8, 16)).astype(np.uint16), **elements)
    with pytest.raises(DataError, match=why) as caught:
        shown(path)
    assert caught.value.where == str(path)


def test_a_size_beyond_the_limits_is_refused_by_the_header(tmp_path: Path, make_dicom: Make) -> None:
    path = make_dicom(tmp_path / "a.dcm", np.zeros((8, 8), np.uint8), Rows=65535, Columns=65535)
    with pytest.raises(DataError, match="more than 64 megapixels"):
        opened(path)
    wide = make_dicom(tmp_path / "b.dcm", np.zeros((8, 8, 3), np.uint32), PhotometricInterpretation="RGB", Rows=7000)
    data = wide.read_bytes().replace(b"\x28\0\x11\0US\x02\0\x08\0", b"\x28\0\x11\0US\x02\0\x58\x1b")
    with pytest.raises(DataError, match="needs more than 512 MiB once decoded"):
        DicomImage.open(data, name="b.dcm", limits=LIMITS)


def test_without_the_extra_one_message_says_what_to_install(
    tmp_path: Path, make_dicom: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_dicom(tmp_path / "a.dcm", np.zeros((8, 8), np.uint8))
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(MedsweepError, match=r"pip install 'medsweep\[dicom\]'") as caught:
        shown(path)
    assert not isinstance(caught.value, DataError)  # no file's fault: it must not be left out silently


def test_reading_says_nothing_on_its_own(tmp_path: Path, make_dicom: Make, capfd: pytest.CaptureFixture[str]) -> None:
    path = make_dicom(tmp_path / "a.dcm", np.arange(64, dtype=np.uint8).reshape(8, 8), PatientName="Doe^Jane")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shown(path)
    assert capfd.readouterr() == ("", "")
