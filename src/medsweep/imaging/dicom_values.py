"""Stored DICOM values → displayed ones: modality transform, window or VOI LUT, padding (PS3.3 C.7.5.1, C.11)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from medsweep import params
from medsweep.errors import DataError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset as PydicomDataset

    from medsweep.imaging.dicom_plain import PlainHeader

    Dataset = PydicomDataset | PlainHeader

Floats = NDArray[np.float64]
DISPLAYED = 65535
# Centre and width in Hounsfield units, as radiology workstations offer them.
PRESETS = {
    "lung": (-600.0, 1500.0),
    "bone": (400.0, 1800.0),
    "soft_tissue": (50.0, 400.0),
    "brain": (40.0, 80.0),
}
_MOST_TABLE = 1 << 16


@dataclass(frozen=True)
class Stored:
    """One grey frame as it is stored.

    Args:
        pixels: (h, w) integers or floating-point values.
        bits: BitsStored, or 0 for floating-point values.
        signed: PixelRepresentation.
        inverted: MONOCHROME1: the lowest value is white.
    """

    pixels: NDArray[Any]
    bits: int
    signed: bool
    inverted: bool

    @property
    def span(self) -> tuple[float, float]:
        """The lowest and the highest value that the stored bits can hold; of floating-point values, those there are."""
        if not self.bits:
            return float(self.pixels.min()), float(self.pixels.max())
        return (-(2.0 ** (self.bits - 1)), 2.0 ** (self.bits - 1) - 1) if self.signed else (0.0, 2.0**self.bits - 1)


@dataclass(frozen=True)
class _Lut:
    """A lookup table: `entries` from the value `first` on; values outside get the first or the last entry."""

    first: int
    entries: Floats
    largest: float

    def apply(self, values: Floats) -> Floats:
        places = np.clip(np.rint(values) - self.first, 0, len(self.entries) - 1).astype(np.int64)
        found: Floats = self.entries[places]
        return found


def displayed(stored: Stored, dataset: Dataset, frame: int, window: params.Window) -> tuple[NDArray[Any], int]:
    """The frame as a grey image, black to white.

    Args:
        stored: the frame.
        dataset: its header.
        frame: which one it is, from 0: enhanced multi-frame files have a transform for each.
        window: `file` takes the file's VOI LUT, else its first window, else what the next says; `full_range` the
            range of the stored bits; `min_max` the lowest and highest value of this frame, without padding (so does
            `file` beyond 8 bits where the file says nothing); a preset or a window in modality units by the function
            LINEAR.

    Returns:
        (h, w) uint8 or uint16 and the value of white. Padding is black.

    Raises:
        DataError: the header contradicts itself.
    """
    # Looking up goes by bit patterns: in this machine's order of bytes.
    pixels = stored.pixels.astype(stored.pixels.dtype.newbyteorder("="), copy=False)
    padding = _padding(stored, dataset)
    inside = pixels if padding is None else pixels[~padding]
    if not inside.size:
        return np.zeros(pixels.shape, dtype=np.uint8), 255
    low, high = inside.min(), inside.max()
    rule = window
    unsaid = _item(dataset, frame, "FrameVOILUTSequence") is None
    if rule == "file" and unsaid:
        rule = "full_range" if 0 < stored.bits <= 8 else "min_max"
    plain = rule == "full_range" and 0 < stored.bits <= 16 and not stored.signed and _unchanged(dataset, frame)
    if plain:
        # Not spread over 16 bits: an 8-bit frame gives the very values that a PNG of it would.
        largest = (1 << stored.bits) - 1
        if high > largest:
            raise DataError(f"has values beyond its {stored.bits} stored bits.")
        found = pixels.astype(np.uint8 if stored.bits <= 8 else np.uint16)
        found = (largest - found).astype(found.dtype) if stored.inverted else found
    else:
        largest = DISPLAYED
        whole = np.issubdtype(pixels.dtype, np.integer)
        if whole and int(high) - int(low) < min(_MOST_TABLE, 4 * pixels.size):
            # The transforms of each value that occurs, once; then each pixel is looked up.
            values = np.arange(int(low), int(high) + 1)
            shown = _shown(values.astype(np.float64), stored, dataset, frame, rule, float(low), float(high))
            found = _looked_up(pixels, values, shown)
        else:
            if not whole and not np.isfinite(inside).all():
                raise DataError("holds values that are not finite.")
            found = _shown(pixels.astype(np.float64), stored, dataset, frame, rule, float(low), float(high))
    if padding is not None:
        found = np.where(padding, 0, found).astype(found.dtype)
    return found, largest


def _looked_up(pixels: NDArray[Any], values: NDArray[np.int64], shown: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """`shown` at the place of each pixel in `values`, which rise by one; a pixel outside gets anything."""
    if pixels.dtype.itemsize > 2:
        with np.errstate(over="ignore"):
            places, values = (pixels - pixels.dtype.type(values[0])).astype(np.uint16), values - values[0]
    else:
        places = np.ascontiguousarray(pixels).view(f"u{pixels.dtype.itemsize}")
    # A table of all places there can be: signed values are found by their bit pattern.
    table = np.zeros(1 << 8 * places.dtype.itemsize, dtype=np.uint16)
    table[values & (len(table) - 1)] = shown
    return np.asarray(cv2.LUT(places, table))


def _shown(
    values: Floats, stored: Stored, dataset: Dataset, frame: int, rule: params.Window, low: float, high: float
) -> NDArray[np.uint16]:
    """Values → 0 to 65535, rounded."""
    units = _modality(values, dataset, frame)
    item = _item(dataset, frame, "FrameVOILUTSequence")
    if rule == "file" and item is not None and item.get("VOILUTSequence"):
        # What a VOI LUT maps has a sign where the modality's units have one (PS3.3 C.11.2.1.1).
        lut = _lut(item.get("VOILUTSequence")[0], bool(_modality(np.array(stored.span), dataset, frame).min() < 0))
        entries = lut.apply(units)
        share = (lut.largest - entries if stored.inverted else entries) / lut.largest
    elif rule in ("full_range", "min_max"):
        ends = _modality(np.array(stored.span if rule == "full_range" else (low, high)), dataset, frame)
        black, white = float(ends.min()), float(ends.max())
        if black == white:
            return np.zeros(values.shape, dtype=np.uint16)
        share = (white - units if stored.inverted else units - black) / (white - black)
    else:
        share = _windowed(units, *_window(rule, item), inverted=stored.inverted)
    found: NDArray[np.uint16] = np.rint(np.clip(share, 0.0, 1.0) * DISPLAYED).astype(np.uint16)
    return found


def _window(rule: params.Window, item: Dataset | None) -> tuple[float, float, str]:
    """Centre, width and function."""
    if isinstance(rule, params.GivenWindow):
        return rule.center, rule.width, "LINEAR"
    if rule in PRESETS:
        return *PRESETS[rule], "LINEAR"
    assert item is not None
    function = str(item.get("VOILUTFunction") or "LINEAR").strip().upper()
    return _first(item, "WindowCenter"), _first(item, "WindowWidth"), function


def _windowed(units: Floats, center: float, width: float, function: str, *, inverted: bool) -> Floats:
    """PS3.3 C.11.2.1.2 and C.11.2.1.3, on 0 to 1. Inverted, distances from the centre change their sign, so that
    MONOCHROME1 gives the very values of its MONOCHROME2 twin."""
    if width <= 0 or (function == "LINEAR" and width < 1):
        raise DataError(f"has a window of the width {width:g}.")
    distance = units - (center - 0.5 if function == "LINEAR" else center)
    distance = -distance if inverted else distance
    if function == "LINEAR":
        # A width of 1 is a threshold.
        return np.asarray(distance > 0, dtype=np.float64) if width == 1 else distance / (width - 1) + 0.5
    if function == "LINEAR_EXACT":
        return distance / width + 0.5
    if function == "SIGMOID":
        return np.asarray(1 / (1 + np.exp(np.clip(-4 * distance / width, -700, 700))), dtype=np.float64)
    raise DataError("names an unknown VOI LUT function.")


def _modality(values: Floats, dataset: Dataset, frame: int) -> Floats:
    """Stored values in modality units (Hounsfield units in CT)."""
    if dataset.get("ModalityLUTSequence"):
        return _lut(dataset.get("ModalityLUTSequence")[0], bool(dataset.get("PixelRepresentation"))).apply(values)
    item = _item(dataset, frame, "PixelValueTransformationSequence")
    if item is None:
        return values
    slope, intercept = _first(item, "RescaleSlope"), _first(item, "RescaleIntercept")
    if slope == 0:
        raise DataError("has a rescale slope of 0.")
    return values * slope + intercept


def _unchanged(dataset: Dataset, frame: int) -> bool:
    """Whether the modality transform changes nothing but the unit: a rising straight line."""
    if dataset.get("ModalityLUTSequence"):
        return False
    item = _item(dataset, frame, "PixelValueTransformationSequence")
    return item is None or _first(item, "RescaleSlope") > 0


_FILLED = {
    "PixelValueTransformationSequence": (("RescaleSlope", "RescaleIntercept"),),
    "FrameVOILUTSequence": (("VOILUTSequence",), ("WindowCenter", "WindowWidth")),
}


def _item(dataset: Dataset, frame: int, macro: str) -> Dataset | None:
    """Where the transform of a frame stands: its own functional group, the shared one, or the data set itself."""
    places: list[Dataset] = []
    own, shared = dataset.get("PerFrameFunctionalGroupsSequence"), dataset.get("SharedFunctionalGroupsSequence")
    if own and frame < len(own):
        places += list(own[frame].get(macro) or [])[:1]
    if shared:
        places += list(shared[0].get(macro) or [])[:1]
    for place in (*places, dataset):
        if any(all(place.get(name) not in (None, "") for name in names) for names in _FILLED[macro]):
            return place
    return None


def _first(item: Dataset, keyword: str) -> float:
    value: Any = item.get(keyword)
    if value is not None and not isinstance(value, str | bytes) and hasattr(value, "__len__"):
        value = value[0] if len(value) else None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not np.isfinite(number):
        raise DataError(f"has a {keyword} that is no number.")
    return number


def _lut(item: Dataset, signed: bool) -> _Lut:
    """PS3.3 C.11.1.1: the number of entries, the first value mapped, the bits of an entry."""
    descriptor = [int(each) for each in item.get("LUTDescriptor") or []]
    if len(descriptor) != 3 or not 1 <= descriptor[2] <= 16:
        raise DataError("has a lookup table without a valid descriptor.")
    count, first, bits = descriptor[0] % (1 << 16) or 1 << 16, descriptor[1], descriptor[2]
    if signed and first >= 1 << 15:
        first -= 1 << 16
    data: Any = item.get("LUTData")
    if isinstance(data, bytes):
        data = np.frombuffer(data, dtype=np.uint8 if len(data) in (count, count + count % 2) and bits <= 8 else "<u2")
    entries = np.atleast_1d(np.asarray([] if data is None else data, dtype=np.float64))
    if len(entries) < count:
        raise DataError("has a lookup table that is shorter than it says.")
    return _Lut(first, entries[:count], float((1 << bits) - 1))


def _padding(stored: Stored, dataset: Dataset) -> NDArray[np.bool_] | None:
    """(h, w) True where a pixel stands for nothing: PixelPaddingValue, up to PixelPaddingRangeLimit."""
    value = dataset.get("PixelPaddingValue")
    if value in (None, "") or not stored.bits:
        return None
    ends = [_as_stored(value, stored)]
    limit = dataset.get("PixelPaddingRangeLimit")
    ends.append(ends[0] if limit in (None, "") else _as_stored(limit, stored))
    low, high = int(stored.pixels.min()), int(stored.pixels.max())
    if max(ends) < low or min(ends) > high:
        return None
    # Padding is mostly the lowest or the highest value of all: one comparison will do.
    if min(ends) <= low:
        mask = stored.pixels <= max(ends)
    elif max(ends) >= high:
        mask = stored.pixels >= min(ends)
    else:
        mask = (stored.pixels >= min(ends)) & (stored.pixels <= max(ends))
    return mask if mask.any() else None


def _as_stored(value: Any, stored: Stored) -> int:
    """A header's value in the sign of the pixels: writers mix up US and SS."""
    try:
        number = int(value)
    except (TypeError, ValueError):
        raise DataError("has a PixelPaddingValue that is no number.") from None
    bits = 8 * stored.pixels.dtype.itemsize
    if stored.signed and number >= 1 << (bits - 1):
        return number - (1 << bits)
    if not stored.signed and number < 0:
        return number + (1 << bits)
    return number
