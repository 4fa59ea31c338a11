"""Plain DICOM files are read without pydicom, and exactly as with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from medsweep import params
from medsweep.errors import DataError
from medsweep.imaging import dicom
from medsweep.imaging.dicom import DicomImage
from medsweep.imaging.dicom_header import SHOWN, looks_like_dicom
from medsweep.imaging.dicom_plain import LOOKED_FOR, plain_header

LIMITS = params.Limits(megapixels=64, file_mb=64, memory_mb=512, seconds=60)
SHIPPED = Path(pydicom.__file__).parent / "data"
RNG = np.random.default_rng(5)
Make = Callable[..., Path]


def answer(data: bytes) -> tuple[str, Any]:
    """Frames as they are shown and what the header carries, or the reason of the refusal."""
    try:
        image = DicomImage.open(data, name="it", limits=LIMITS, audit=True)
        shown = [image.frame(index, "file") for index in range(min(image.frames, 3))]
    except DataError as error:
        return error.message, None
    return "read", [
        (each.pixels.tobytes(), each.pixels.dtype, each.largest, each.content, each.header) for each in shown
    ]


def both(data: bytes, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    quick = answer(data)
    with monkeypatch.context() as patch:
        patch.setattr(dicom, "plain_header", lambda data: None)
        return quick, answer(data)


@pytest.mark.filterwarnings("ignore")
def test_shipped_files_are_read_as_with_pydicom(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = 0
    for path in sorted(SHIPPED.rglob("*")):
        if path.is_file() and path.suffix != ".py" and looks_like_dicom(path.open("rb").read(132)):
            data = path.read_bytes()
            if plain_header(data) is not None:
                plain += 1
                quick, reference = both(data, monkeypatch)
                assert quick == reference, path.name
    assert plain > 40


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32])
@pytest.mark.parametrize(
    "elements",
    [
        {},
        {"BitsStored": 5},
        {"WindowCenter": [40, 400], "WindowWidth": [80.5, 2000], "RescaleSlope": "1.5e0", "RescaleIntercept": "-1024"},
        {
            "WindowCenter": 40,
            "WindowWidth": 90,
            "VOILUTFunction": "SIGMOID",
            "PhotometricInterpretation": "MONOCHROME1",
        },
        {"WindowCenter": "", "WindowWidth": "", "PixelPaddingValue": 3, "PixelPaddingRangeLimit": 7},
        {"NumberOfFrames": "2"},
    ],
)
def test_made_files_are_plain_and_read_as_with_pydicom(
    tmp_path: Path, make_dicom: Make, monkeypatch: pytest.MonkeyPatch, elements: dict[str, Any], dtype: Any, syntax: str
) -> None:
    bits = elements.get("BitsStored", 8 * np.dtype(dtype).itemsize)
    low, high = (0, 1 << bits) if np.dtype(dtype).kind == "u" else (-(1 << bits - 1), 1 << bits - 1)
    pixels = RNG.integers(low, high, (2, 6, 9) if "NumberOfFrames" in elements else (6, 9), dtype=np.int64)
    path = make_dicom(tmp_path / "a.dcm", pixels.astype(dtype), syntax=pydicom.uid.UID(syntax), **elements)
    data = path.read_bytes()
    assert plain_header(data) is not None
    quick, reference = both(data, monkeypatch)
    assert quick == reference
    assert quick[0] == "read"


def test_sequences_are_stepped_over(tmp_path: Path, make_dicom: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = Dataset()
    inner.ReferencedSOPInstanceUID = "1.2.3"
    middle = Dataset()
    middle.ReferencedImageSequence = Sequence([inner, inner])
    middle.StudyDescription = "x" * 3
    middle.PatientName = "Doe^Jane"
    for syntax in ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1"):
        path = make_dicom(
            tmp_path / "a.dcm",
            RNG.integers(0, 4096, (6, 9)).astype(np.uint16),
            syntax=pydicom.uid.UID(syntax),
            ReferencedStudySequence=Sequence([middle, middle]),
            OtherPatientIDsSequence=Sequence([]),
            PatientIdentityRemoved="YES",
            BurnedInAnnotation="NO",
            BitsStored=12,
        )
        for outer, items in ((False, False), (True, False), (False, True), (True, True)):
            dataset = pydicom.dcmread(path)
            for element in (
                dataset["ReferencedStudySequence"],
                *(m["ReferencedImageSequence"] for m in dataset.ReferencedStudySequence),
            ):
                element.is_undefined_length = outer
                for item in element.value:
                    item.is_undefined_length_sequence_item = items
            dataset.save_as(tmp_path / "b.dcm")
            data = (tmp_path / "b.dcm").read_bytes()
            assert plain_header(data) is not None
            quick, reference = both(data, monkeypatch)
            assert quick == reference
            for cut in (data[:-20], data[: data.index(b"1.2.3") + 3]):
                quick, reference = both(cut, monkeypatch)
                assert quick == reference


@pytest.mark.parametrize(
    "elements",
    [
        {"PhotometricInterpretation": "RGB"},
        {"VOILUTSequence": Sequence([Dataset()])},
        {"RescaleSlope": "1", "RescaleIntercept": "0\\0"},
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_what_is_not_plain_is_left_to_pydicom(tmp_path: Path, make_dicom: Make, elements: dict[str, Any]) -> None:
    shape = (6, 9, 3) if "PhotometricInterpretation" in elements else (6, 9)
    path = make_dicom(tmp_path / "a.dcm", np.zeros(shape, np.uint8), **elements)
    if "RescaleSlope" not in elements:
        assert plain_header(path.read_bytes()) is None
    assert plain_header(path.read_bytes()[:-8]) is None


def test_all_that_changes_a_picture_is_looked_for() -> None:
    # Palettes have a photometric interpretation of their own.
    without_effect = {"SOPClassUID", "PlanarConfiguration", "PixelPresentation"}
    without_effect |= {"SmallestImagePixelValue", "LargestImagePixelValue"}
    left = {name for name in SHOWN if tag_for_keyword(name) not in LOOKED_FOR and "Palette" not in name}
    assert left == without_effect
