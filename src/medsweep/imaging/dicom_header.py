"""DICOM headers: read within limits, without pixels; and what of them may be looked at."""

from __future__ import annotations

import hashlib
import io
import logging
import math
import struct
import warnings
import zlib
from collections.abc import Iterable
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medsweep.errors import DataError, MedsweepError

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset

PREFIX_AT, PREFIX = 128, b"DICM"
DEFLATED = "1.2.840.10008.1.2.1.99"
# A header longer than this is no header; pixel data begin before.
HEADER_BYTES = 32 << 20
_INFLATE_STEP = 1 << 20
# What may follow the pixels of a deflated data set: signatures and padding.
_AFTER_PIXELS = 1 << 20
_SIZES = ["Rows", "Columns", "SamplesPerPixel", "NumberOfFrames", "BitsAllocated"]
_ABSENT = (1, 1, 1, 1, 8)
_VALUE_LENGTH = 64
_SHORT = 64  # bytes of a value that is worth remembering

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
# What decoding and showing pixels needs; the rest of a header is passed over.
SHOWN = (
    "SpecificCharacterSet",
    "SOPClassUID",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "SmallestImagePixelValue",
    "LargestImagePixelValue",
    "PixelPresentation",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "VOILUTSequence",
    "RescaleIntercept",
    "RescaleSlope",
    "ModalityLUTSequence",
    "RedPaletteColorLookupTableDescriptor",
    "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor",
    "AlphaPaletteColorLookupTableDescriptor",
    "RedPaletteColorLookupTableData",
    "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData",
    "AlphaPaletteColorLookupTableData",
    "SegmentedRedPaletteColorLookupTableData",
    "SegmentedGreenPaletteColorLookupTableData",
    "SegmentedBluePaletteColorLookupTableData",
    "SegmentedAlphaPaletteColorLookupTableData",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "PixelDataProviderURL",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    "FloatPixelData",
    "DoubleFloatPixelData",
    "PixelData",
)
_NUMBER_VRS = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d", "UV": "Q", "SV": "q"}


def metadata_of(path: Path) -> dict[str, str]:
    """The header of a DICOM file as text, without anything that names a person: for looking for shortcuts.

    The keys are DICOM keywords (`gggg,eeee` for what has none, as private elements). The values are: coded strings,
    numbers and ages as they are (at most 64 characters); other text (station, institution, descriptions …) and all
    private values as `#` and a short digest, so that they can be compared and not read; `present` for names,
    identifiers, UIDs, dates, times, sequences and binary values; an empty string where the element is there without a
    value. What is absent has no key. Pixels are neither read nor described. A file that is no DICOM gives an empty
    mapping.

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
    # Iterating over the data set itself would convert every value.
    items = ((tag, dataset.get_item(tag)) for tag in dataset.keys())  # noqa: SIM118
    elements = ((int(tag), item.VR, item.value) for tag, item in items if item is not None)
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    return described(
        elements, little=bool(dataset.original_encoding[1]), syntax=None if syntax is None else str(syntax)
    )


def described(elements: Iterable[tuple[int, str | None, Any]], *, little: bool, syntax: str | None) -> dict[str, str]:
    """The same from a file's elements.

    Args:
        elements: tag, VR where the file says it, and the value, converted or not.
        little: whether numbers are little endian.
        syntax: the transfer syntax.
    """
    found: dict[str, str] = {}
    for tag, given, value in elements:
        # Most elements say in one file what they say in the next.
        tell = _told_again if type(value) is bytes and len(value) <= _SHORT else _told
        name, text = tell(tag, given, value, little)
        found[name] = text
    found.pop("", None)
    if syntax is not None:
        found["TransferSyntaxUID"] = syntax
    return found


def _told(tag: int, given: str | None, value: Any, little: bool) -> tuple[str, str]:
    """What an element is called, and what it says; an empty name for what is not described."""
    if tag >> 16 in (0x7FE0, 0xFFFC, 0xFFFA):
        return "", ""
    keyword, name, usual = _known(tag)
    return name, _shown(keyword, str(given or usual)[:2], value, little)


_told_again = lru_cache(maxsize=8192)(_told)


@lru_cache(maxsize=8192)
def _known(tag: int) -> tuple[str, str, str]:
    """A tag's keyword (may be empty), what it is called here, and its usual VR."""
    from pydicom.datadict import dictionary_VR, keyword_for_tag

    keyword = keyword_for_tag(tag)
    try:
        usual = dictionary_VR(tag)
    except KeyError:
        usual = "UN"
    return keyword, keyword or f"{tag >> 16:04x},{tag & 0xFFFF:04x}", usual


def _shown(keyword: str, vr: str, value: Any, little: bool) -> str:
    if value is None or value in ("", b"") or (isinstance(value, bytes) and not value.strip(b" ")):
        return ""
    if keyword in _PRESENT_ONLY or (vr in _PRESENT_ONLY_VRS and keyword not in _OPEN_TEXT):
        return "present"
    if vr in _NUMBER_VRS and isinstance(value, bytes):
        text = _numbers(value, ("<" if little else ">") + _NUMBER_VRS[vr])
    elif isinstance(value, bytes):
        text = value.decode("latin-1").strip(" \0")
    else:
        text = "\\".join(map(str, value)) if isinstance(value, list | tuple) else str(value).strip()
    if keyword and (vr in _OPEN_VRS or keyword in _OPEN_TEXT):
        return text[:_VALUE_LENGTH]
    return "#" + hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def _numbers(value: bytes, code: str) -> str:
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


def parse(data: bytes, *, name: str, largest: int, pixels: bool, everything: bool = False) -> FileDataset:
    """The data set in a file's bytes.

    Args:
        data: the file, or where `pixels` is false at least its header.
        name: what messages call it.
        largest: how many bytes a deflated data set may inflate to.
        pixels: whether to read on beyond the header.
        everything: whether to keep, with the pixels, also what showing them does not need.

    Raises:
        DataError: this is no DICOM file, or damaged, or too large once inflated.
        MedsweepError: the extra `dicom` is not installed.
    """
    pydicom = require_pydicom()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom's remarks on odd values
            # The UID stands in the file meta information, which is short: others are not parsed twice.
            if data[PREFIX_AT : PREFIX_AT + 4] == PREFIX and DEFLATED.encode() in data[:4096]:
                inflated = _parse_deflated(data, name, largest, pixels=pixels)
                if inflated is not None:
                    return inflated
            wanted = list(SHOWN) if pixels and not everything else None
            found: FileDataset = pydicom.dcmread(
                io.BytesIO(data), force=True, stop_before_pixels=not pixels, specific_tags=wanted
            )
            return found
    except (DataError, MemoryError):
        raise
    except Exception as error:  # on damaged files pydicom raises nearly anything
        raise damaged(error, name) from None


def _parse_deflated(data: bytes, name: str, largest: int, *, pixels: bool) -> FileDataset | None:
    """The data set of a deflated file, or None where the file is not deflated after all.

    pydicom inflates all there is at once. Here zlib is asked for one bounded piece after the other: first for the
    header, and then for as much as the header announces and no more, so that a bomb ends where its picture would.
    """
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.filereader import read_dataset

    stream = io.BytesIO(data)
    stream.seek(PREFIX_AT + 4)
    meta = FileMetaDataset(read_dataset(stream, False, True, stop_when=lambda tag, vr, length: tag.group != 2))
    if meta.get("TransferSyntaxUID") != DEFLATED:
        return None
    inflating = _Inflating(data[stream.tell() :])
    size = _announced(inflating, name)
    if pixels:
        if size > largest:
            raise DataError(f"inflates to more than {largest >> 20} MiB.", where=name)
        inflating.up_to(size + _AFTER_PIXELS + 1)
        if len(inflating) > size + _AFTER_PIXELS:
            raise DataError(f"inflates to more than the {size} bytes that its header announces.", where=name)
        if not inflating.complete:
            raise DataError("is truncated: its deflated data end early.", where=name)
    stop = None if pixels else _at_pixels
    found = read_dataset(inflating.stream(), False, True, stop_when=stop)
    whole = FileDataset(io.BytesIO(), found, data[:PREFIX_AT], meta, False, True)
    whole.set_original_encoding(False, True, found._character_set)
    return whole


def _at_pixels(tag: Any, vr: Any, length: int) -> bool:
    return bool(tag.group == 0x7FE0)


def _announced(inflating: _Inflating, name: str) -> int:
    """The bytes of a deflated data set by what its own header says; no more than a header is inflated for that."""
    from pydicom.filereader import read_dataset
    from pydicom.tag import Tag

    sizes: list[Any] = [Tag(keyword) for keyword in _SIZES]
    for most in (_INFLATE_STEP, HEADER_BYTES):
        inflating.up_to(most)
        stream = inflating.stream()
        try:
            found = read_dataset(stream, False, True, stop_when=_at_pixels, specific_tags=sizes)
        except Exception as error:
            if inflating.finished or most == HEADER_BYTES:
                raise damaged(error, name) from None
            continue  # the piece may end within an element
        place = stream.tell()
        if place < len(inflating) or inflating.finished:
            break
    else:
        raise DataError(f"has a header of more than {HEADER_BYTES >> 20} MiB.", where=name)
    try:
        counts = [int(found.get(keyword) or absent) for keyword, absent in zip(_SIZES, _ABSENT, strict=True)]
    except (TypeError, ValueError):
        return place  # the numbers are damaged, which is told when they are checked
    # The head of the pixels' own element takes 12 bytes.
    return place + 12 + math.prod(counts) // 8 if "Rows" in found else place


class _Inflating:
    """Deflated bytes, inflated as far as was asked for."""

    def __init__(self, data: bytes) -> None:
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        self._rest = data
        self._found = io.BytesIO()
        self._length = 0
        self._stuck = False

    def __len__(self) -> int:
        return self._length

    @property
    def complete(self) -> bool:
        """Whether the end that the data themselves mark has been reached."""
        return self._inflater.eof

    @property
    def finished(self) -> bool:
        """Whether there is nothing more: the data are complete, or end early."""
        return self._inflater.eof or self._stuck

    def up_to(self, length: int) -> None:
        """Inflate on to `length` bytes in all, or to the end."""
        while self._length < length and not self.finished:
            part = self._inflater.decompress(self._rest, min(_INFLATE_STEP, length - self._length))
            self._rest = self._inflater.unconsumed_tail
            self._stuck = not part and not self._rest
            self._found.seek(0, io.SEEK_END)
            self._found.write(part)
            self._length += len(part)

    def stream(self) -> io.BytesIO:
        """What has been inflated, from its beginning."""
        return io.BytesIO(self._found.getvalue())


@lru_cache(maxsize=4096)
def is_sequence(tag: int) -> bool:
    """Whether an element is a sequence, for files that do not say what their elements are."""
    from pydicom.datadict import dictionary_VR

    try:
        return dictionary_VR(tag) == "SQ"
    except KeyError:
        return False


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
        raise MedsweepError(
            "reading DICOM needs packages that are not installed.", fix="Run: pip install 'medsweep[dicom]'"
        ) from None
    _silence()
    return pydicom


@cache  # it costs as much as the rest, for every file
def _silence() -> None:
    """pydicom's remarks quote values of the header, which may be a patient's; what matters is raised."""
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
