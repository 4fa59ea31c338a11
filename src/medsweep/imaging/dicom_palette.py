"""PALETTE COLOR → RGB (PS3.3 C.7.6.3.1.5, C.7.6.3.1.6, C.7.9).

pydicom's own lookup lets indices beyond 255 wrap round in palettes of 8 bits, takes the bytes of big endian palettes in
the wrong order, and follows a segment that repeats others wherever it leads, also to itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medsweep.errors import DataError

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset

_COLOURS = ("Red", "Green", "Blue")
_DISCRETE, _LINEAR, _INDIRECT = 0, 1, 2


def coloured(stored: NDArray[Any], dataset: FileDataset) -> tuple[NDArray[Any], int]:
    """The colours of stored values.

    Args:
        stored: (h, w) whole numbers of at most 16 bits.
        dataset: the header with the palette.

    Returns:
        (h, w, 3) uint8 or uint16, and the value of full colour.

    Raises:
        DataError: the palette is missing or damaged.
    """
    count, first, bits = _descriptor(dataset, signed=stored.dtype.kind == "i")
    little = bool(dataset.original_encoding[1])
    tables = [_table(dataset, colour, count, bits, little=little) for colour in _COLOURS]
    # Entries of 8 bits may stand in 16.
    deep = any(each.dtype.itemsize > 1 and (bits > 8 or each.max() > 255) for each in tables)
    found = np.empty((*stored.shape, 3), dtype=np.uint16 if deep else np.uint8)
    places = np.clip(stored.astype(np.int32) - first, 0, count - 1)
    for number, table in enumerate(tables):
        found[:, :, number] = table.astype(found.dtype)[places]
    return found, 65535 if deep else 255


def _descriptor(dataset: FileDataset, *, signed: bool) -> tuple[int, int, int]:
    """Entries, the first value that is mapped, bits of an entry; all colours have the same."""
    found = set()
    for colour in _COLOURS:
        value = dataset.get(f"{colour}PaletteColorLookupTableDescriptor")
        if value is None or len(value) != 3 or int(value[2]) not in (8, 16):
            raise DataError("has a palette without a valid descriptor.")
        found.add(tuple(int(each) for each in value))
    if len(found) > 1:
        raise DataError("has palettes of different kinds for red, green and blue.")
    count, first, bits = found.pop()
    return count % (1 << 16) or 1 << 16, first - (1 << 16) if signed and first >= 1 << 15 else first, bits


def _table(dataset: FileDataset, colour: str, count: int, bits: int, *, little: bool) -> NDArray[Any]:
    name = f"{colour}PaletteColorLookupTableData"
    plain, segmented = dataset.get(name), dataset.get(f"Segmented{name}")
    data = segmented if plain is None else plain
    if not isinstance(data, bytes):
        raise DataError("has no palette.")
    wide = np.dtype("<u2" if little else ">u2")
    if plain is None:
        code = np.dtype(np.uint8) if bits == 8 else wide
        words = np.frombuffer(data, dtype=code, count=len(data) // code.itemsize).tolist()
        return np.asarray(_unfolded(words, count, code.itemsize, little=little), dtype=code.newbyteorder("="))
    # A padding byte makes an odd number even.
    code = np.dtype(np.uint8) if len(data) in (count, count + count % 2) else wide
    if len(data) < count * code.itemsize:
        raise DataError("has a palette that is shorter than it says.")
    return np.frombuffer(data, dtype=code, count=count).astype(code.newbyteorder("="))


def _unfolded(words: list[int], count: int, size: int, *, little: bool) -> list[int]:
    """The entries of a segmented palette; `size` is the bytes of a word."""
    found: list[int] = []

    def follow(place: int, segments: int, *, nested: bool) -> None:
        # An odd byte may fill the data up.
        while place + 1 < len(words) and segments > 0:
            kind, length = words[place], words[place + 1]
            place, segments = place + 2, segments - 1
            if length == 0:
                raise DataError("has a palette with an empty segment.")
            if kind == _DISCRETE:
                found.extend(words[place : place + length])
                place += length
            elif kind == _LINEAR and found and place < len(words):
                start, end = found[-1], words[place]
                found.extend(np.around(np.linspace(start, end, length + 1)[1:]).astype(int).tolist())
                place += 1
            elif kind == _INDIRECT and found and not nested and place + 4 // size <= len(words):
                low, high = _offset(words[place : place + 4 // size], size, little)
                follow((high << 16 | low) // size, length, nested=True)
                place += 4 // size
            else:
                raise DataError("has a palette with an unknown segment, or with one out of place.")
            if len(found) > count:
                raise DataError(f"has a palette that is longer than the {count} entries that it announces.")

    follow(0, len(words), nested=False)
    if len(found) < count:
        raise DataError(f"has a palette of {len(found)} entries where its header says {count}.")
    return found


def _offset(words: list[int], size: int, little: bool) -> tuple[int, int]:
    """The least and the most significant 16 bits of an offset in bytes."""
    if size == 2:
        return words[0], words[1]
    order = "little" if little else "big"
    return int.from_bytes(words[:2], order), int.from_bytes(words[2:], order)  # type: ignore[arg-type]
