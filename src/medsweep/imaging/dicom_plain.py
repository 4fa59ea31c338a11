"""Plain DICOM files: grey, uncompressed, little endian, and without lookup tables. Their header is read here directly.

What pydicom answers for such a file is answered in a tenth of its time; whatever is unusual in a header is left to it.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from medsweep.imaging.dicom_header import is_sequence
from medsweep.imaging.dicom_steps import EXPLICIT, IMPLICIT, Steps, step_through

# Tag → keyword and VR of what may stand in a plain file's header and is needed.
_ELEMENTS: dict[int, tuple[str, str]] = {
    0x00080005: ("SpecificCharacterSet", "CS"),
    0x00280002: ("SamplesPerPixel", "US"),
    0x00280004: ("PhotometricInterpretation", "CS"),
    0x00280008: ("NumberOfFrames", "IS"),
    0x00280010: ("Rows", "US"),
    0x00280011: ("Columns", "US"),
    0x00280100: ("BitsAllocated", "US"),
    0x00280101: ("BitsStored", "US"),
    0x00280102: ("HighBit", "US"),
    0x00280103: ("PixelRepresentation", "US"),
    0x00280120: ("PixelPaddingValue", "US|SS"),
    0x00280121: ("PixelPaddingRangeLimit", "US|SS"),
    0x00281050: ("WindowCenter", "DS"),
    0x00281051: ("WindowWidth", "DS"),
    0x00281052: ("RescaleIntercept", "DS"),
    0x00281053: ("RescaleSlope", "DS"),
    0x00281056: ("VOILUTFunction", "CS"),
    0x7FE00010: ("PixelData", "OB|OW"),
}
_PIXELS = 0x7FE0
# What else changes how a file is shown: one of these, and it is not plain.
_OTHERS = frozenset(
    {
        0x00283000,  # ModalityLUTSequence
        0x00283010,  # VOILUTSequence
        0x00287FE0,  # PixelDataProviderURL
        0x52009229,  # SharedFunctionalGroupsSequence
        0x52009230,  # PerFrameFunctionalGroupsSequence
        0x7FE00001,  # ExtendedOffsetTable
        0x7FE00002,  # ExtendedOffsetTableLengths
        0x7FE00008,  # FloatPixelData
        0x7FE00009,  # DoubleFloatPixelData
    }
)
LOOKED_FOR = frozenset(_ELEMENTS) | _OTHERS
_NEEDED = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation")
# Of several values only the character sets' come here: no photometric interpretation or function has a backslash.
_CODE = re.compile(rb"[A-Z0-9_ \\]+")
_NUMBER = re.compile(rb"[-+]?[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?")


class PlainElement(NamedTuple):
    """An element as pydicom has it before it is converted: VR is None where the file does not say."""

    VR: str | None
    value: Any


class PlainElements:
    """All elements of a plain file but its pixels, unconverted: what of a data set of pydicom an audit asks for."""

    def __init__(self, data: bytes, steps: Steps) -> None:
        self._data = data
        self._implicit = steps.syntax == IMPLICIT
        self._places = steps.places

    def items(self) -> Iterator[tuple[int, PlainElement]]:
        for tag, vr, content in self.raw():
            yield tag, PlainElement(vr, content)

    def raw(self) -> Iterator[tuple[int, str | None, bytes]]:
        """Tag, VR and value of each element."""
        data = self._data
        for tag, (vr, start, end) in self._places.items():
            if tag >> 16 != _PIXELS:
                yield tag, vr.decode() or None, data[start:end]

    def __contains__(self, tag: int) -> bool:
        return tag >> 16 != _PIXELS and tag in self._places

    def __getitem__(self, tag: int) -> PlainElement:
        """The element converted: a sequence of pydicom's, or text."""
        vr, start, end = self._places[tag]
        content = self._data[start:end]
        if vr == b"SQ" or (not vr and is_sequence(tag)):
            from pydicom.filereader import read_sequence

            found = read_sequence(io.BytesIO(content), self._implicit, True, len(content), "iso8859")
            return PlainElement("SQ", found)
        return PlainElement(vr.decode(), content.decode("latin-1").strip(" \0"))


@dataclass(frozen=True)
class PlainHeader:
    """A plain file's header and pixels; like a data set of pydicom it is asked by keywords.

    Args:
        syntax: the transfer syntax.
        values: by keyword.
        pixels: the value of PixelData.
        elements: all that the header has.
    """

    syntax: str
    values: dict[str, Any]
    pixels: memoryview
    elements: PlainElements

    def get(self, keyword: str, default: Any = None) -> Any:
        return self.values.get(keyword, default)

    def __contains__(self, keyword: str) -> bool:
        return keyword in self.values

    def stored(self, index: int) -> NDArray[Any]:
        """The values of a frame (h, w) as they are stored; bits beyond BitsStored are none of them (PS3.5 8.1.1)."""
        rows, columns, allocated = (self.values[key] for key in ("Rows", "Columns", "BitsAllocated"))
        count = rows * columns
        code = np.dtype(f"<{'ui'[self.values['PixelRepresentation']]}{allocated // 8}")
        found = np.frombuffer(self.pixels, dtype=code, count=count, offset=index * count * code.itemsize)
        spare = allocated - self.values["BitsStored"]
        return (found << spare >> spare if spare else found).reshape(rows, columns)


def plain_header(data: bytes) -> PlainHeader | None:
    """The header of a plain file, or None where pydicom must read it."""
    steps = step_through(data, None)
    if steps is None or steps.syntax not in (IMPLICIT, EXPLICIT) or not _OTHERS.isdisjoint(steps.places):
        return None
    values: dict[str, Any] = {}
    for tag, (keyword, known) in _ELEMENTS.items():
        if tag not in steps.places:
            continue
        vr, start, end = steps.places[tag]
        if vr and vr.decode() not in known:
            return None
        if keyword == "PixelData":
            values[keyword] = memoryview(data)[start:end]
            continue
        value = _value(data[start:end], vr.decode() or known, signed=bool(values.get("PixelRepresentation")))
        if value is None:
            return None
        values[keyword] = value
    pixels = values.get("PixelData")
    if pixels is None or any(not isinstance(values.get(keyword), int) for keyword in _NEEDED):
        return None
    if values["SamplesPerPixel"] != 1 or values["BitsAllocated"] not in (8, 16, 32):
        return None
    if values["PixelRepresentation"] > 1 or not 1 <= values["BitsStored"] <= values["BitsAllocated"]:
        return None
    if values.get("PhotometricInterpretation") not in ("MONOCHROME1", "MONOCHROME2"):
        return None
    return PlainHeader(steps.syntax, values, pixels, PlainElements(data, steps))


def _value(content: bytes, vr: str, *, signed: bool) -> Any:
    """An element's value as pydicom gives it, '' where it has none; None where that is pydicom's to say."""
    if not content:
        return ""
    if vr in ("US", "SS", "US|SS"):
        signed = vr == "SS" or (vr != "US" and signed)
        return int.from_bytes(content, "little", signed=signed) if len(content) == 2 else None
    text = content.rstrip(b"\0 ")
    if not text:
        return ""
    if vr == "CS":
        return text.decode("ascii").strip() if _CODE.fullmatch(text) else None
    numbers = [each.strip() for each in text.split(b"\\")]
    if any(not _NUMBER.fullmatch(each) for each in numbers):
        return None
    if vr == "IS":
        return int(numbers[0]) if len(numbers) == 1 and numbers[0].isdigit() else None
    return [float(each) for each in numbers]
