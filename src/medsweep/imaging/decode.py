"""One image file → its pixels, upright. PNG, JPEG, BMP, TIFF, npy and DICOM; nothing else is opened.

What a file asks for is read from its header and held against the limits before anything is decoded.
"""

from __future__ import annotations

import hashlib
import io
import math
import stat
import struct
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from medsweep import params
from medsweep.artifacts.record import RawImage
from medsweep.errors import DataError
from medsweep.imaging.dicom import DicomImage
from medsweep.imaging.dicom_header import looks_like_dicom

cv2.setNumThreads(1)  # parallel work is whole images; threads inside one would only compete

_FORMATS = ("PNG", "JPEG", "BMP", "TIFF")
_NPY_MAGIC, _PNG_MAGIC = b"\x93NUMPY", b"\x89PNG\r\n\x1a\n"
_ORIENTATION, _BITS_PER_SAMPLE, _PHOTOMETRIC = 274, 258, 262
_WHITE_IS_ZERO = 0
_PNG_HEADER, _PNG_GREY, _PNG_RGB = struct.Struct(">IIBB"), 0, 2
# `tEXt` may hold an orientation too, in a raw profile.
_PLAIN_CHUNKS = frozenset({b"IHDR", b"IDAT", b"IEND", b"pHYs", b"gAMA", b"cHRM", b"sRGB", b"sBIT", b"tIME", b"bKGD"})
_COLOUR = frozenset({"RGB", "P", "YCbCr"})
_ALPHA = frozenset({"RGBA", "RGBa", "LA", "La", "PA"})
_WIDE_GREY = frozenset({"I;16", "I;16L", "I;16B", "I;16N"})
_ENTRIES = {"adobe", "chromaticity", "comment", "compression", "dpi", "exif", "gamma", "icc_profile", "interlace"}
_ENTRIES |= {"jfif", "jfif_density", "jfif_unit", "jfif_version", "progression", "progressive", "resolution", "srgb"}
_PNG_CHUNKS = {
    b"tEXt",
    b"iTXt",
    b"zTXt",
    b"pHYs",
    b"gAMA",
    b"sRGB",
    b"cHRM",
    b"iCCP",
    b"eXIf",
    b"tIME",
    b"bKGD",
    b"sBIT",
}
_REFUSED = {
    "CMYK": "CMYK colours have no one RGB value",
    "LAB": "CIELAB colours are not supported",
    "HSV": "HSV colours are not supported",
    "I": "32-bit or signed integers have no known white; store 8 or 16 bits without a sign",
    "F": "floating-point values have no known white; store 8 or 16 bits without a sign",
}


class _PngHeader(NamedTuple):
    width: int
    height: int
    depth: int
    colour: int


class Decoder:
    """Decodes files by their content (not their name).

    Args:
        limits: what a file may ask for.
        window: which values of a DICOM file become black and white.
        audit: whether a DICOM file's pixels come with what its header carries.
        metadata: whether images come with what their file says of itself.
    """

    def __init__(
        self, limits: params.Limits, window: params.Window, *, audit: bool = False, metadata: bool = False
    ) -> None:
        self._limits = limits
        self._window = window
        self._audit = audit
        self._noted = metadata
        # Frames of one file follow each other: it is parsed once for all of them.
        self._kept: tuple[Path, DicomImage] | None = None
        self._metadata: Mapping[str, str] = {}

    def decode(self, path: Path, frame: int | None = None) -> RawImage:
        """The pixels of a file, or of one frame of a DICOM file.

        Grey images come back as (h, w), all others as RGB (h, w, 3). Depths below 8 bits are spread over 0 to 255;
        12-bit TIFF keeps its values with `largest` 4095; 16 bits are kept. Palettes are looked up, EXIF orientation is
        applied, transparent pixels are composited on black. DICOM is decoded as `DicomImage.frame` says. `content` is
        the SHA-256 of the file.

        Args:
            path: the file.
            frame: which frame, from 0; None for a file that must hold one only.

        Raises:
            DataError: the file is missing, of another kind, damaged, truncated, larger than the limits (read from its
                header), animated or of several pages, or has values without a known white.
            MedsweepError: this is DICOM, and the extra `dicom` is not installed.
        """
        if self._kept is not None and self._kept[0] == path:
            return self._frame(self._kept[1], frame)
        data = self._read(path)
        if looks_like_dicom(data[:132]):
            image = DicomImage.open(
                data, name=str(path), limits=self._limits, audit=self._audit, whole_header=self._noted
            )
            self._metadata = self._dicom_metadata(image, len(data))
            if image.frames > 1:
                self._kept = (path, image)
            return self._frame(image, frame)
        return self.decode_bytes(data, name=str(path))

    def decode_bytes(self, data: bytes, *, name: str) -> RawImage:
        """Decode a file's content as `decode` does; messages call it `name`."""
        if not data:
            raise DataError("is empty.", where=name)
        if looks_like_dicom(data[:132]):
            return self._frame(DicomImage.open(data, name=name, limits=self._limits, audit=self._audit), None)
        self._metadata = {"file format": "npy", "file size": str(len(data))} if self._noted else {}
        try:
            pixels, largest = self._npy(data, name) if data.startswith(_NPY_MAGIC) else self._raster(data, name)
        except DataError:
            raise
        except UnidentifiedImageError:
            raise DataError("is not a PNG, JPEG, BMP, TIFF, npy or DICOM image.", where=name) from None
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            raise self._too_large(name) from None
        except MemoryError:
            raise self._too_much(name) from None
        except Exception as error:  # decoders raise nearly anything on damaged files
            raise DataError(f"is damaged or truncated ({error or type(error).__name__}).", where=name) from None
        return RawImage(
            np.ascontiguousarray(pixels), largest, hashlib.sha256(data).hexdigest(), metadata=self._metadata
        )

    def _frame(self, image: DicomImage, frame: int | None) -> RawImage:
        if frame is None and image.frames > 1:
            raise DataError(
                f"holds {image.frames} frames; one image a file is needed.",
                where=image.name,
                fix="The source of the kind dicom reads frames.",
            )
        found = image.frame(frame or 0, self._window)
        return replace(found, metadata=self._metadata) if self._noted else found

    def _dicom_metadata(self, image: DicomImage, size: int) -> Mapping[str, str]:
        if not self._noted:
            return {}
        tags = {f"DICOM {keyword}": value for keyword, value in image.described().items()}
        return {"file format": "DICOM", "file size": str(size), **tags}

    def _read(self, path: Path) -> bytes:
        try:
            found = path.stat()
            if not stat.S_ISREG(found.st_mode):  # devices and pipes have no end
                raise DataError("is not a file.", where=str(path))
            if found.st_size > self._limits.file_bytes:
                raise DataError(f"is larger than {self._limits.file_mb} MiB.", where=str(path))
            return path.read_bytes()
        except OSError as error:
            raise DataError(f"cannot be read ({error.strerror or error}).", where=str(path)) from None

    def _too_large(self, name: str) -> DataError:
        return DataError(f"has more than {self._limits.megapixels:g} megapixels.", where=name)

    def _too_much(self, name: str) -> DataError:
        return DataError(f"needs more than {self._limits.memory_mb} MiB once decoded.", where=name)

    def _check_size(self, rows: int, columns: int, bytes_a_pixel: int, name: str) -> None:
        if rows * columns > self._limits.pixels:
            raise self._too_large(name)
        if rows * columns * bytes_a_pixel > self._limits.memory_bytes:
            raise self._too_much(name)

    def _npy(self, data: bytes, name: str) -> tuple[NDArray[Any], int]:
        """A uint8 or uint16 array (h, w), (h, w, 1) or (h, w, 3); nothing is unpickled."""
        stream = io.BytesIO(data)
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(stream)
        if dtype.kind != "u" or dtype.itemsize > 2:
            raise DataError(f"holds values of the type {dtype}; uint8 or uint16 is needed.", where=name)
        if not (len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3))) or 0 in shape:
            raise DataError(f"has the shape {shape}; (h, w) or (h, w, 3) is needed.", where=name)
        count = math.prod(shape)
        self._check_size(shape[0], shape[1], count // (shape[0] * shape[1]) * dtype.itemsize, name)
        start = stream.tell()
        if len(data) - start != count * dtype.itemsize:
            raise DataError(f"is truncated: the shape {shape} does not fit its size.", where=name)
        pixels = np.frombuffer(data, dtype=dtype, offset=start).reshape(shape, order="F" if fortran else "C")
        if pixels.ndim == 3 and pixels.shape[2] == 1:
            pixels = pixels[:, :, 0]
        return pixels.astype(dtype.newbyteorder("=")), int(np.iinfo(dtype).max)

    def _raster(self, data: bytes, name: str) -> tuple[NDArray[Any], int]:
        if data.startswith(_PNG_MAGIC) and data[12:16] == b"IHDR":
            header = _PngHeader._make(_PNG_HEADER.unpack_from(data, 16))
            self._check_size(header.height, header.width, 1 if header.colour == _PNG_GREY else 3, name)
            plain = _check_sums(data)
            if self._noted:
                self._metadata = {**self._metadata, **_png_metadata(data)}
            if plain and header.depth == 8 and header.colour in (_PNG_GREY, _PNG_RGB):
                return _decode_plain_png(data, header), 255
        with warnings.catch_warnings():
            # Pillow's own limit, 89 megapixels, only warns; ours is checked below, before anything is decoded.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            warnings.filterwarnings("ignore", category=UserWarning)  # Pillow's remarks on odd metadata
            with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
                self._check_size(image.height, image.width, len(image.getbands()) * _sample_bytes(image.mode), name)
                if image.mode in _REFUSED:
                    raise DataError(f"cannot be used: {_REFUSED[image.mode]}.", where=name)
                if _several(image):
                    raise DataError("holds several pages or frames; one image a file is needed.", where=name)
                deep = _bits(image, data)
                if self._noted and image.format != "PNG":
                    self._metadata = {**self._metadata, **_metadata(image, deep)}
                image.load()
                if deep == 16 and image.mode not in _WIDE_GREY:
                    return _decode_deep_colour(data, image), 65535
                return _decode_upright(image, deep, name)


def _several(image: Image.Image) -> bool:
    """Whether there are more pages or frames than one."""
    if image.format == "TIFF":
        # Counting pages would step through all of them, and there may be millions.
        return bool(image.tag_v2.next)  # type: ignore[attr-defined]
    return getattr(image, "n_frames", 1) > 1


def _sample_bytes(mode: str) -> int:
    return 2 if mode in _WIDE_GREY else 4 if mode in ("I", "F") else 1


def _metadata(image: Image.Image, bits: int) -> Mapping[str, str]:
    """What a JPEG, BMP or TIFF says of itself: how it was written, and which further entries it has, not what they
    say."""
    found = {"file format": str(image.format), "pixel format": image.mode, "bits a sample": str(bits)}
    tables = getattr(image, "quantization", None)
    if tables:  # they tell a JPEG's quality, and often the program that wrote it
        found["JPEG tables"] = "#" + hashlib.blake2b(repr(sorted(tables.items())).encode(), digest_size=6).hexdigest()
    for name in image.info:
        # Other entries may be called anything.
        found[f"{image.format} {name if name in _ENTRIES else 'text'}"] = "present"
    for tag in image.getexif():
        found[f"EXIF {ExifTags.TAGS.get(tag, f'{tag:#06x}')}"] = "present"
    return found


def _png_metadata(data: bytes) -> Mapping[str, str]:
    """The same of a PNG, from its header and the types of its chunks."""
    found = {"file format": "PNG", "pixel format": f"PNG colour type {data[25]}", "bits a sample": str(data[24])}
    place = len(_PNG_MAGIC)
    while place + 12 <= len(data):
        kind = data[place + 4 : place + 8]
        if kind in _PNG_CHUNKS:
            found[f"PNG {kind.decode()}"] = "present"
        place += 12 + int.from_bytes(data[place : place + 4], "big")
    return found


def _check_sums(data: bytes) -> bool:
    """Compare the check sums of a PNG's chunks; Pillow does so for those of the header only when it decodes.

    Returns:
        Whether there are none that change anything of its pixels: no orientation, no transparency.
    """
    whole = memoryview(data)
    place = len(_PNG_MAGIC)
    plain = True
    while place + 12 <= len(data):
        end = place + 8 + int.from_bytes(data[place : place + 4], "big")
        if zlib.crc32(whole[place + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            raise ValueError("a check sum is wrong")
        kind = data[place + 4 : place + 8]
        plain = plain and (kind in _PLAIN_CHUNKS or (kind == b"tEXt" and not data.startswith(b"Raw", place + 8)))
        if kind == b"IEND":
            return plain
        place = end + 4
    raise ValueError("its last chunk is missing")


def _bits(image: Image.Image, data: bytes) -> int:
    """The true bit depth of a sample."""
    if image.format == "PNG":
        return data[24]  # the header chunk always comes first
    if image.format == "TIFF":
        bits = image.tag_v2.get(_BITS_PER_SAMPLE, 1)  # type: ignore[attr-defined]
        return int(max(bits)) if isinstance(bits, tuple) else int(bits)
    return 8


def _decode_upright(image: Image.Image, bits: int, name: str) -> tuple[NDArray[Any], int]:
    # A TIFF of more than 8 bits that says white is zero: Pillow inverts only up to 8 bits.
    inverted = image.format == "TIFF" and image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO  # type: ignore[attr-defined]
    transparent = "transparency" in image.info
    # Transposing copies the image, also where there is nothing to turn.
    upright = ImageOps.exif_transpose(image) if image.getexif().get(_ORIENTATION, 1) != 1 else image
    if upright.mode in _WIDE_GREY:
        largest = (1 << bits) - 1
        pixels = np.asarray(upright).astype(np.uint16)
        if transparent:
            pixels = np.where(pixels == image.info["transparency"], 0, pixels).astype(np.uint16)
        return (largest - pixels if inverted else pixels), largest
    if upright.mode in _ALPHA or (transparent and upright.mode in ("P", "RGB", "L", "1")):
        grey = upright.mode in ("LA", "La", "L", "1")
        layered = np.asarray(upright.convert("RGBA"))
        return _on_black(layered[:, :, 0] if grey else layered[:, :, :3], layered[:, :, 3], 255), 255
    if upright.mode in ("L", "1"):
        return np.asarray(upright if upright.mode == "L" else upright.convert("L")), 255
    if upright.mode in _COLOUR:
        return np.asarray(upright if upright.mode == "RGB" else upright.convert("RGB")), 255
    raise DataError(f"has the pixel format '{upright.mode}', which is not supported.", where=name)


def _decode_plain_png(data: bytes, header: _PngHeader) -> NDArray[Any]:
    """Grey or RGB of 8 bits: OpenCV decodes faster than Pillow, and refuses the same."""
    stored: Any = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    expected = (header.height, header.width) if header.colour == _PNG_GREY else (header.height, header.width, 3)
    if stored is None or stored.dtype != np.uint8 or stored.shape != expected:
        raise ValueError("its pixels cannot be decoded")
    return np.asarray(stored if stored.ndim == 2 else cv2.cvtColor(stored, cv2.COLOR_BGR2RGB))


def _decode_deep_colour(data: bytes, image: Image.Image) -> NDArray[Any]:
    """Colour or alpha at 16 bits a sample, which Pillow would cut to 8; OpenCV keeps them."""
    stored: Any = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    if stored is None or stored.dtype != np.uint16:
        raise ValueError("its 16-bit samples cannot be decoded")
    if image.format == "PNG":  # of a TIFF, OpenCV applies the orientation itself
        stored = _turned(stored, image.getexif().get(_ORIENTATION, 1))
    if stored.ndim == 2:
        return np.asarray(stored)
    if stored.shape[2] == 4:
        grey = image.format == "PNG" and data[25] == 4  # grey with alpha
        colour = stored[:, :, 0] if grey else stored[:, :, 2::-1]
        return _on_black(colour, stored[:, :, 3], 65535)
    return np.asarray(stored[:, :, ::-1])


def _on_black(colour: NDArray[Any], alpha: NDArray[Any], largest: int) -> NDArray[Any]:
    """Composite on black: colour · alpha, rounded to the nearest value."""
    if colour.ndim == 3:
        alpha = alpha[:, :, None]
    product = colour.astype(np.uint64) * alpha
    return np.asarray((product + largest // 2) // largest, dtype=colour.dtype)


def _turned(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Pixels made upright by their EXIF orientation, 1 to 8."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels
