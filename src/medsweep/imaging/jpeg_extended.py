"""JPEG Extended with 12 bits a sample, decoded by GDCM: a plugin of pydicom, whose own one for GDCM takes 8 bits only.

pydicom's interface for plugins: `is_available`, `DECODER_DEPENDENCIES` and a function from a frame's bytes to its
samples' (https://pydicom.github.io/pydicom/stable/guides/decoding/decoder_plugins.html).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydicom.pixels.decoders.base import DecodeRunner

JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
PRECISION = 12
DECODER_DEPENDENCIES = {JPEG_EXTENDED: ("python-gdcm>=3.0.24.1",)}
_PLUGIN = "medsweep"
_PIXEL_DATA = (0x7FE0, 0x0010)


def plugin() -> str:
    """The plugin's name in pydicom's decoder of JPEG Extended, which knows it from now on."""
    from pydicom.pixels.decoders.base import get_decoder

    decoder = get_decoder(JPEG_EXTENDED)
    if _PLUGIN not in decoder.available_plugins:
        decoder.add_plugin(_PLUGIN, (__name__, "decode_frame"))
    return _PLUGIN


def is_available(uid: str) -> bool:
    """Whether the transfer syntax can be decoded: GDCM comes with the extra `dicom`."""
    try:
        import gdcm  # noqa: F401
    except ImportError:
        return False
    return uid == JPEG_EXTENDED


def decode_frame(src: bytes, runner: DecodeRunner) -> bytes:
    """One grey frame.

    Args:
        src: a JPEG stream of 12 bits a sample.
        runner: what the file says of it.

    Returns:
        Its samples, 16 bits each, little endian.

    Raises:
        ValueError: GDCM cannot decode it.
    """
    import gdcm

    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(src)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(*_PIXEL_DATA))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((runner.columns, runner.rows, 1))
    image.SetDataElement(element)
    image.SetPhotometricInterpretation(
        gdcm.PhotometricInterpretation(gdcm.PhotometricInterpretation.GetPIType(runner.photometric_interpretation))
    )
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGExtendedProcess2_4))
    image.SetPixelFormat(gdcm.PixelFormat(1, 16, PRECISION, PRECISION - 1, runner.pixel_representation))
    samples: Any = image.GetBuffer()
    if samples is None:
        raise ValueError("GDCM cannot decode the frame")
    # GDCM gives bytes as text.
    return bytes(samples.encode("utf-8", "surrogateescape"))
