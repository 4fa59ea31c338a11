"""DICOM files → grey or RGB images as a viewer shows them: pydicom decodes, and what it would let pass is refused."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medsweep import params
from medsweep.artifacts.record import HeaderAudit, RawImage
from medsweep.errors import DataError, MedsweepError
from medsweep.imaging.dicom_audit import audit_header
from medsweep.imaging.dicom_header import DEFLATED, damaged, describe, described, parse, require_pydicom
from medsweep.imaging.dicom_palette import coloured
from medsweep.imaging.dicom_plain import PlainHeader, plain_header
from medsweep.imaging.dicom_values import DISPLAYED, Stored, displayed
from medsweep.imaging.jpeg_extended import JPEG_EXTENDED, PRECISION, plugin

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset

NATIVE = ""
_RLE = "1.2.840.10008.1.2.5"
# By transfer syntax, which of pydicom's plugins decodes: always the same one, so that the same file gives the same
# pixels. None of them is under the GPL; Pillow reads JPEG because it withstands damaged files best, and 12 bits, which
# it cannot read, are read by GDCM (`jpeg_extended`).
SYNTAXES: dict[str, tuple[str, str]] = {
    "1.2.840.10008.1.2": ("Implicit VR Little Endian", NATIVE),
    "1.2.840.10008.1.2.1": ("Explicit VR Little Endian", NATIVE),
    DEFLATED: ("Deflated Explicit VR Little Endian", NATIVE),
    "1.2.840.10008.1.2.2": ("Explicit VR Big Endian", NATIVE),
    _RLE: ("RLE Lossless", "pylibjpeg"),
    "1.2.840.10008.1.2.4.50": ("JPEG Baseline (Process 1)", "pillow"),
    JPEG_EXTENDED: ("JPEG Extended (Process 2 and 4)", "pillow"),
    "1.2.840.10008.1.2.4.57": ("JPEG Lossless (Process 14)", "gdcm"),
    "1.2.840.10008.1.2.4.70": ("JPEG Lossless SV1", "gdcm"),
    "1.2.840.10008.1.2.4.80": ("JPEG-LS Lossless", "pyjpegls"),
    "1.2.840.10008.1.2.4.81": ("JPEG-LS Near-Lossless", "pyjpegls"),
    "1.2.840.10008.1.2.4.90": ("JPEG 2000 Lossless", "pylibjpeg"),
    "1.2.840.10008.1.2.4.91": ("JPEG 2000", "pylibjpeg"),
    "1.2.840.10008.1.2.4.201": ("High-Throughput JPEG 2000 Lossless", "pylibjpeg"),
    "1.2.840.10008.1.2.4.202": ("High-Throughput JPEG 2000 Lossless RPCL", "pylibjpeg"),
    "1.2.840.10008.1.2.4.203": ("High-Throughput JPEG 2000", "pylibjpeg"),
}
_GREY = ("MONOCHROME1", "MONOCHROME2")
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_MOST_FRAMES = 100_000


@dataclass(frozen=True)
class DicomImage:
    """A DICOM file whose header makes sense and stays within the limits; its frames are decoded one at a time.

    Args:
        dataset: the file, as pydicom has it, or of a plain one its header.
        name: what messages call it.
        content: SHA-256 (hex) of the file.
        frames: how many it holds.
        header: what its header carries, where that was asked for.
    """

    dataset: FileDataset | PlainHeader
    name: str
    content: str
    frames: int
    rows: int
    columns: int
    samples: int
    bits_allocated: int
    bits: int
    photometric: str
    syntax: str
    header: HeaderAudit | None = None

    @classmethod
    def open(
        cls, data: bytes, *, name: str, limits: params.Limits, audit: bool = False, whole_header: bool = False
    ) -> DicomImage:
        """Read the header and check it; no pixel is decoded.

        Args:
            data: the file.
            name: what messages call it.
            limits: what it may ask for.
            audit: whether frames come with what the header carries.
            whole_header: whether `dataset` is to keep also what showing the pixels does not need.

        Raises:
            DataError: the file is damaged, holds no image, contradicts itself, is larger than the limits, or uses
                what cannot be read.
            MedsweepError: the extra `dicom` is not installed.
        """
        require_pydicom()  # also where this file would not need it: whether it is there is not a file's matter
        dataset = plain_header(data) or parse(
            data, name=name, largest=limits.memory_bytes, pixels=True, everything=audit or whole_header
        )
        content = hashlib.sha256(data).hexdigest()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                checked = cls._checked(dataset, name, content, limits)
                return (
                    replace(
                        checked, header=audit_header(dataset.elements if isinstance(dataset, PlainHeader) else dataset)
                    )
                    if audit
                    else checked
                )
        except DataError as error:
            raise DataError(error.message, where=name) from None
        except (MedsweepError, MemoryError):
            raise
        except Exception as error:
            raise damaged(error, name) from None

    @classmethod
    def _checked(cls, dataset: FileDataset | PlainHeader, name: str, content: str, limits: params.Limits) -> DicomImage:
        if not any(each in dataset for each in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
            raise DataError("holds no pixels.")
        if dataset.get("PixelDataProviderURL") or "Rows" not in dataset or "Columns" not in dataset:
            raise DataError("holds no pixels that can be read.")
        rows, columns = _whole(dataset, "Rows", 1, 65535), _whole(dataset, "Columns", 1, 65535)
        samples = _whole(dataset, "SamplesPerPixel", 1, 4, absent=1)
        frames = _whole(dataset, "NumberOfFrames", 1, _MOST_FRAMES, absent=1)
        allocated = _whole(dataset, "BitsAllocated", 1, 64)
        floating = "PixelData" not in dataset
        bits = 0 if floating else _whole(dataset, "BitsStored", 1, allocated, absent=allocated)
        photometric = str(dataset.get("PhotometricInterpretation") or "").strip().upper()
        if rows * columns > limits.pixels:
            raise DataError(f"has more than {limits.megapixels:g} megapixels.")
        if rows * columns * samples * max(allocated, 8) // 8 > limits.memory_bytes:
            raise DataError(f"needs more than {limits.memory_mb} MiB once decoded.")
        if not floating:
            if allocated not in (1, 8, 16, 32):
                raise DataError(f"has {allocated} bits allocated; 1, 8, 16 and 32 can be read.")
            if _whole(dataset, "HighBit", 0, 63, absent=bits - 1) != bits - 1:
                raise DataError("does not store its values in the lowest bits (HighBit).")
        if photometric in (*_GREY, "PALETTE COLOR"):
            if samples != 1 or (photometric not in _GREY and (floating or allocated > 16)):
                raise DataError(f"is {photometric} and has {samples} samples a pixel of {allocated} bits.")
        elif photometric in _COLOUR:
            if samples != 3 or floating:
                raise DataError(f"is {photometric} and has {samples} samples a pixel.")
        else:
            raise DataError("has a photometric interpretation that cannot be read.")
        syntax = _syntax(dataset)
        found = cls(dataset, name, content, frames, rows, columns, samples, allocated, bits, photometric, syntax)
        if SYNTAXES[syntax][1] == NATIVE and not floating:
            found._check_length()
        return found

    def _check_length(self) -> None:
        """Native pixel data are as long as the header says: pydicom takes the beginning of longer ones."""
        pixels = self.dataset.get("PixelData")
        stored = len(pixels)
        samples: float = 2 if self.photometric == "YBR_FULL_422" else self.samples
        needed = -(-int(self.frames * self.rows * self.columns * samples) * self.bits_allocated // 8)
        if stored < needed:
            raise DataError(f"is truncated: {stored} bytes of pixels where its header says {needed}.")
        # Padding to an even length may be anything, and more of it is harmless as long as it is no picture.
        if any(pixels[needed + needed % 2 :][:4096]):
            raise DataError(f"has {stored} bytes of pixels where its header says {needed}.")

    def frame(self, index: int, window: params.Window) -> RawImage:
        """One frame as a viewer shows it.

        Args:
            index: from 0.
            window: which values become black and white: see `dicom_values.displayed`. Colour has none.

        Raises:
            DataError: there is no such frame, or it cannot be decoded.
        """
        if not 0 <= index < self.frames:
            raise DataError(f"has {self.frames} frames and no frame {index}.", where=self.name)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                pixels, largest = self._shown(self.stored(index), index, window)
        except DataError as error:
            raise DataError(error.message, where=self.name) from None
        except MemoryError:
            raise
        except Exception as error:
            raise damaged(error, self.name) from None
        content = self.content
        if self.frames > 1:
            content = hashlib.sha256(f"{self.content} {index}".encode()).hexdigest()
        return RawImage(np.ascontiguousarray(pixels), largest, content, header=self.header)

    def described(self) -> dict[str, str]:
        """What `dicom_header.described` says of the header; all of it where it was opened with `whole_header`."""
        if isinstance(self.dataset, PlainHeader):
            return described(self.dataset.elements.raw(), little=True, syntax=self.syntax)
        return describe(self.dataset)

    def stored(self, index: int) -> NDArray[Any]:
        """One frame's values as they are stored, decoded by pydicom where the file is not plain; YBR as RGB.

        Returns:
            (h, w) or (h, w, 3), of the type that the header says.
        """
        if isinstance(self.dataset, PlainHeader):
            return self.dataset.stored(index)
        from pydicom.pixels.decoders.base import get_decoder

        by = SYNTAXES[self.syntax][1]
        if by and self._precision(index) == PRECISION and self.syntax == JPEG_EXTENDED:
            by = plugin()
        decoder = get_decoder(self.syntax)
        # What native data need has been checked.
        array, _ = decoder.as_array(self.dataset, index=index, decoding_plugin=by, validate=bool(by))
        expected = (self.rows, self.columns) if self.samples == 1 else (self.rows, self.columns, self.samples)
        if array.shape != expected:
            raise DataError(f"decodes to {array.shape} where its header says {expected}.")
        return array

    def _precision(self, index: int) -> int:
        """The bits of a sample by a compressed frame's own header (of RLE, which has none, by the file's).

        That header agrees with the file's, so that no decoder meets a size nobody checked.
        """
        from pydicom.encaps import get_frame

        stream = get_frame(
            self.dataset.get("PixelData"),
            index,
            number_of_frames=self.frames,
            extended_offsets=self._extended_offsets(),
        )
        size = stream_size(stream)
        if size is None:
            if self.syntax == _RLE:
                # Packed at its worst, a frame grows by a hundredth; what is longer would not stay within its size.
                if len(stream) > 2 * self.rows * self.columns * self.samples * self.bits_allocated // 8 + 1024:
                    raise DataError("has a compressed frame that is longer than its pixels.")
                return self.bits
            raise DataError("has a compressed frame without a readable header.")
        if size[:3] != (self.rows, self.columns, self.samples):
            raise DataError(
                f"has a compressed frame of {size[0]}×{size[1]} pixels and {size[2]} samples where its header says "
                f"{self.rows}×{self.columns} and {self.samples}."
            )
        if size[3] > self.bits_allocated:
            raise DataError(f"has a compressed frame of {size[3]} bits where its header says {self.bits_allocated}.")
        if self.syntax == JPEG_EXTENDED and size[3] != 8 and (size[2], size[3]) != (1, PRECISION):
            raise DataError(f"is JPEG Extended with {size[2]} samples of {size[3]} bits, which cannot be read.")
        return size[3]

    def _extended_offsets(self) -> tuple[bytes, bytes] | None:
        if "ExtendedOffsetTable" not in self.dataset or "ExtendedOffsetTableLengths" not in self.dataset:
            return None
        return self.dataset.get("ExtendedOffsetTable"), self.dataset.get("ExtendedOffsetTableLengths")

    def _shown(self, stored: NDArray[Any], index: int, window: params.Window) -> tuple[NDArray[Any], int]:
        if self.photometric == "PALETTE COLOR" and not isinstance(self.dataset, PlainHeader):
            return coloured(stored, self.dataset)
        if self.samples == 3:
            if stored.dtype.kind != "u":
                raise DataError("has colours with a sign.")
            largest = (1 << self.bits) - 1
            if self.bits <= 16:
                if stored.max() > largest:
                    raise DataError(f"has values beyond its {self.bits} stored bits.")
                return stored.astype(np.uint8 if self.bits <= 8 else np.uint16), largest
            return np.rint(stored * (DISPLAYED / largest)).astype(np.uint16), DISPLAYED
        grey = Stored(stored, self.bits, stored.dtype.kind == "i", self.photometric == "MONOCHROME1")
        return displayed(grey, self.dataset, index, window)


def _whole(dataset: FileDataset | PlainHeader, keyword: str, low: int, high: int, *, absent: int | None = None) -> int:
    value: Any = dataset.get(keyword)
    if (value is None or value == "") and absent is not None:
        return absent
    try:
        number = int(value)
    except (TypeError, ValueError):
        raise DataError(f"has a {keyword} that is no number.") from None
    if not low <= number <= high:
        raise DataError(f"has the {keyword} {number}; {low} to {high} can be read.")
    return number


def _syntax(dataset: FileDataset | PlainHeader) -> str:
    """The transfer syntax, or of a file without file meta information the one that it was parsed by."""
    if isinstance(dataset, PlainHeader):
        return dataset.syntax
    named = dataset.file_meta.get("TransferSyntaxUID")
    if named is None:
        implicit, little = dataset.original_encoding
        return "1.2.840.10008.1.2" if implicit else "1.2.840.10008.1.2.1" if little else "1.2.840.10008.1.2.2"
    if str(named) not in SYNTAXES:
        raise DataError(f"has the transfer syntax {getattr(named, 'name', '')!r}, which cannot be read.")
    return str(named)


_NO_FRAME = (0xC4, 0xC8, 0xCC)


def stream_size(stream: bytes) -> tuple[int, int, int, int] | None:
    """Rows, columns, samples and bits that a JPEG, JPEG-LS or JPEG 2000 stream announces, or None where it is none."""
    if stream[:2] == b"\xff\xd8":
        place = 2
        while place + 9 < len(stream) and stream[place] == 0xFF:
            marker = stream[place + 1]
            if marker == 0xFF:  # fill bytes
                place += 1
            elif (0xC0 <= marker <= 0xCF and marker not in _NO_FRAME) or marker == 0xF7:
                rows, columns = (
                    int.from_bytes(stream[place + 5 : place + 7]),
                    int.from_bytes(stream[place + 7 : place + 9]),
                )
                return rows, columns, stream[place + 9], stream[place + 4]
            else:
                place += 2 + int.from_bytes(stream[place + 2 : place + 4])
        return None
    start = stream.find(b"\xff\x4f\xff\x51", 0, 65536) if stream[:4] in (b"\xff\x4f\xff\x51", b"\0\0\0\x0c") else -1
    if start < 0 or len(stream) < start + 45:
        return None
    width, height, left, top = (int.from_bytes(stream[start + 8 + 4 * n : start + 12 + 4 * n]) for n in range(4))
    samples = int.from_bytes(stream[start + 40 : start + 42])
    return height - top, width - left, samples, (stream[start + 42] & 0x7F) + 1
