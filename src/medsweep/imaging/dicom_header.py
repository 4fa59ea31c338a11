"""DICOM headers: read within limits, without pixels; and what of them may be looked at."""

from __future__ import annotations

import hashlib
import io
import warnings
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medsweep.errors import DataError

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset

PREFIX_AT, PREFIX = 128, b"DICM"
DEFLATED = "1.2.840.10008.1.2.1.99"
# A header longer than this is no header; pixel data begin before.
HEADER_BYTES = 32 << 20
_INFLATE_STEP = 1 << 20
_VALUE_LENGTH = 64

# Text that names a kind of machine, examination or setting, never a person. All other text is shown as a digest.
_OPEN_TEXT = frozenset(
    {
        "AcquisitionDeviceProcessingDescription",
        "BitsAllocated",
        "ContrastBolusAgent",
        "ConvolutionKernel",
        "FilterType",
        "Manufacturer",
        "ManufacturerModelName",
        "PatientAge",
        "PatientSex",
        "SequenceName",
        "SoftwareVersions",
        "SOPClassUID",
        "SpecificCharacterSet",
        "TransducerData",
    }
)
# What these hold belongs to one person or one moment: all that may be said is that it is there.
_PRESENT_ONLY_VRS = frozenset({"PN", "UI", "DA", "TM", "DT", "SQ", "OB", "OW", "OD", "OF", "OL", "OV", "UN", "AT"})
_PRESENT_ONLY = frozenset(
    {"PatientID", "AccessionNumber", "OtherPatientIDs", "PatientBirthName", "StudyID", "IssuerOfPatientID"}
)
_OPEN_VRS = frozenset({"CS", "AS", "DS", "IS", "US", "SS", "UL", "SL", "FL", "FD", "UV", "SV"})
_NUMBER_VRS = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d", "UV": "Q", "SV": "q"}


def metadata_of(path: Path) -> dict[str, str]:
    """The header of a DICOM file as text, without anything that names a person: for looking for shortcuts.

    The keys are DICOM keywords (`gggg,eeee` for what has none, as private elements). The values are: coded strings,
    numbers and ages as they are (at most 64 characters); other text (station, institution, descriptions …) as `#` and
    a short digest, so that it can be compared and not read; `present` for names, identifiers, UIDs, dates, times,
    sequences and binary values; an empty string where the element is there without a value. What is absent has no
    key. Pixels are neither read nor described. A file that is no DICOM gives an empty mapping.

    Raises:
        DataError: the file cannot be read, or its header is damaged.
        MedsweepError: the extra `dicom` is not installed.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(PREFIX_AT + len(PREFIX))
            if not looks_like_dicom(head):
                return {}
            data = head + stream.read(HEADER_BYTES)
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror or error}).", where=str(path)) from None
    return describe(parse(data, name=str(path), largest=HEADER_BYTES, pixels=False))


def describe(dataset: FileDataset) -> dict[str, str]:
    """What `metadata_of` says of a file, from its data set."""
    from pydicom.datadict import dictionary_VR, keyword_for_tag

    found: dict[str, str] = {}
    for tag in dataset.keys():  # noqa: SIM118 - iterating over the data set would convert every value
        if tag.group in (0x7FE0, 0xFFFC, 0xFFFA):
            continue
        item = dataset.get_item(tag)
        keyword = keyword_for_tag(tag)
        vr = str(item.VR or "") if item is not None else ""
        if not vr:
            try:
                vr = dictionary_VR(tag)
            except KeyError:
                vr = "UN"
        little = bool(dataset.original_encoding[1])
        found[keyword or f"{tag.group:04x},{tag.element:04x}"] = _shown(
            keyword, vr[:2], item.value if item else None, little
        )
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax is not None:
        found["TransferSyntaxUID"] = str(syntax)
    return found


def _shown(keyword: str, vr: str, value: Any, little: bool) -> str:
    if value is None or (isinstance(value, bytes | str) and not value.strip(b"\0 " if isinstance(value, bytes) else " ")):
        return ""
    if keyword in _PRESENT_ONLY or (vr in _PRESENT_ONLY_VRS and keyword not in _OPEN_TEXT):
        return "present"
    if vr in _NUMBER_VRS and isinstance(value, bytes):
        text = _numbers(value, ("<" if little else ">") + _NUMBER_VRS[vr])
    elif isinstance(value, bytes):
        text = value.decode("latin-1").strip(" \0")
    else:
        text = "\\".join(map(str, value)) if isinstance(value, list | tuple) else str(value).strip()
    if vr in _OPEN_VRS or keyword in _OPEN_TEXT:
        return text[:_VALUE_LENGTH]
    return "#" + hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def _numbers(value: bytes, code: str) -> str:
    import struct

    size = struct.calcsize(code)
    count = min(len(value) // size, 8)
    return "\\".join(f"{each:g}" for each in struct.unpack_from(code[0] + code[1] * count, value))


def looks_like_dicom(head: bytes) -> bool:
    """Whether a file that begins with `head` (132 bytes or more) is DICOM.

    Files of the standard have `DICM` after a preamble; older ones begin with their first element, which is of the
    group 0002 or 0008 and never of another.
    """
    if head[PREFIX_AT : PREFIX_AT + 4] == PREFIX:
        return True
    return len(head) >= 132 and head[:2] in (b"\x02\0", b"\x08\0") and head[3:4] == b"\0" and head[2] <= 0x18


def parse(data: bytes, *, name: str, largest: int, pixels: bool) -> FileDataset:
    """The data set in a file's bytes.

    Args:
        data: the file, or where `pixels` is false at least its header.
        name: what messages call it.
        largest: how many bytes a deflated data set may inflate to.
        pixels: whether to read on beyond the header.

    Raises:
        DataError: this is no DICOM file, or damaged, or too large once inflated.
        MedsweepError: the extra `dicom` is not installed.
    """
    pydicom = require_pydicom()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom's remarks on odd values
            data = _inflated(data, name, largest, whole=pixels)
            return pydicom.dcmread(io.BytesIO(data), force=True, stop_before_pixels=not pixels)
    except DataError:
        raise
    except Exception as error:  # on damaged files pydicom raises nearly anything
        raise damaged(error, name) from None


def damaged(error: Exception, name: str) -> DataError:
    """The refusal of a file on which pydicom or a decoder failed; its words may quote the header, so they stay out."""
    return DataError(f"is a damaged DICOM file ({type(error).__name__}).", where=name)


def require_pydicom() -> Any:
    """pydicom.

    Raises:
        MedsweepError: it is not installed.
    """
    try:
        import pydicom
    except ImportError:
        from medsweep.errors import MedsweepError

        raise MedsweepError(
            "reading DICOM needs packages that are not installed.", fix="Run: pip install 'medsweep[dicom]'"
        ) from None
    return pydicom


def _inflated(data: bytes, name: str, largest: int, *, whole: bool) -> bytes:
    """A deflated file as it would be without deflation; any other file as it is.

    zlib is asked for a bounded piece at a time: a bomb ends at the limit, not in memory.
    """
    # The UID stands in the file meta information, which is short; searching saves parsing every file twice.
    if data[PREFIX_AT : PREFIX_AT + 4] != PREFIX or DEFLATED.encode() not in data[:4096]:
        return data
    from pydicom.filereader import read_dataset
    from pydicom.uid import ExplicitVRLittleEndian
    from pydicom.filebase import DicomBytesIO
    from pydicom.filewriter import write_file_meta_info

    stream = io.BytesIO(data)
    stream.seek(PREFIX_AT + 4)
    meta = read_dataset(stream, False, True, stop_when=lambda tag, vr, length: tag.group != 2)
    if meta.get("TransferSyntaxUID") != DEFLATED:
        return data
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    rest, parts, total = data[stream.tell() :], [], 0
    while rest and not inflater.eof:
        part = inflater.decompress(rest, _INFLATE_STEP)
        rest = inflater.unconsumed_tail
        total += len(part)
        parts.append(part)
        if total > largest:
            if not whole:
                break
            raise DataError(f"inflates to more than {largest >> 20} MiB.", where=name)
        if not part and not rest:
            break
    if whole and not inflater.eof:
        raise DataError("is truncated: its deflated data end early.", where=name)
    return data
