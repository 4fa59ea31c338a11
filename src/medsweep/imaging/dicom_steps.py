"""Stepping through the usual kinds of DICOM files, element by element.

pydicom takes more than a millisecond for a header and its pixels' description, which is as long as all the rest of
reading a plain slice. Most files are of few kinds: little endian, their elements in rising order, each with a length.
These are stepped through here; for all others, and for whatever is odd, the answer is None, and pydicom reads them.
"""

from __future__ import annotations

import struct
from collections.abc import Collection
from dataclasses import dataclass

from medsweep.imaging.dicom_header import DEFLATED, PREFIX, PREFIX_AT

IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
_BIG = "1.2.840.10008.1.2.2"
_LONG_VRS = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
_SHORT_VRS = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
# Group, element, VR and the two places that a length may stand in.
_ELEMENT = struct.Struct("<HH2sHI")
_ITEM = struct.Struct("<HHI")
_TRANSFER_SYNTAX = 0x00020010
_UNDEFINED = 0xFFFFFFFF
_START, _END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_DEEPEST = 8


@dataclass(frozen=True, slots=True)
class Steps:
    """Where elements stand in a file.

    Args:
        syntax: the transfer syntax, as the file meta information names it.
        places: by tag the VR (empty where the file does not say), the beginning and the end of the value; of a sequence
            of undefined length without its end mark.
    """

    syntax: str
    places: dict[int, tuple[bytes, int, int]]


def step_through(data: bytes, wanted: Collection[int] | None) -> Steps | None:
    """The places of elements, or None where the file is not of the simple kind.

    Args:
        data: the file, or its beginning.
        wanted: tags of the data set's top level; what follows the last of them is not looked at. None for all: then
            the file must be sound to its end.
    """
    if data[PREFIX_AT : PREFIX_AT + 4] != PREFIX:
        return None
    last, place, end = _UNDEFINED if wanted is None else max(wanted), PREFIX_AT + 4, len(data)
    implicit: bool | None = None
    syntax = ""
    before = -1
    found: dict[int, tuple[bytes, int, int]] = {}
    unpack, short = _ELEMENT.unpack_from, _SHORT_VRS  # some 250 times a file, and for all files
    while place + 12 <= end:
        group, element, vr, length, longer = unpack(data, place)
        tag = group << 16 | element
        if tag <= before:
            return None
        before = tag
        if implicit is None and group != 2:
            if not syntax or syntax in (_BIG, DEFLATED):
                return None
            implicit = syntax == IMPLICIT
        if tag > last:
            return Steps(syntax, found)
        if implicit:
            length = int.from_bytes(vr, "little") | length << 16
            vr = b""
            place += 8
        elif vr in short:
            place += 8
        elif vr in _LONG_VRS:
            length = longer
            place += 12
        else:
            return None
        if length == _UNDEFINED:
            # Encapsulated pixels look alike, and what is in an unknown element is encoded otherwise.
            stop = None if group == 0x7FE0 or vr == b"UN" else _after_items(data, place, end, bool(implicit), 1)
            if stop is None:
                return None
            after, length = stop, stop - 8 - place
        else:
            after = place + length
        if after > end:
            return None
        if tag == _TRANSFER_SYNTAX:
            syntax = data[place:after].strip(b"\0 ").decode("latin-1")
        elif group != 2 if wanted is None else tag in wanted:
            found[tag] = vr, place, place + length
        place = after
    return Steps(syntax, found) if wanted is None and place == end else None


def _after_items(data: bytes, place: int, end: int, implicit: bool, depth: int) -> int | None:
    """Where a sequence of undefined length ends that begins at `place`."""
    while place + 8 <= end and depth <= _DEEPEST:
        group, element, length = _ITEM.unpack_from(data, place)
        tag = group << 16 | element
        place += 8
        if tag == _SEQUENCE_END:
            return place if length == 0 else None
        if tag != _START:
            return None
        if length == _UNDEFINED:
            after = _after_item(data, place, end, implicit, depth)
            if after is None:
                return None
            place = after
        else:
            place += length
    return None


def _after_item(data: bytes, place: int, end: int, implicit: bool, depth: int) -> int | None:
    """Where an item of undefined length ends whose first element stands at `place`."""
    while place + 8 <= end:
        group, element, length = _ITEM.unpack_from(data, place)
        if group << 16 | element == _END:
            return place + 8 if length == 0 else None
        vr = data[place + 4 : place + 6]
        if implicit:
            place += 8
        else:
            if vr in _SHORT_VRS:
                length >>= 16
                place += 8
            elif vr in _LONG_VRS and place + 12 <= end:
                length = int.from_bytes(data[place + 8 : place + 12], "little")
                place += 12
            else:
                return None
        if length == _UNDEFINED:
            after = None if not implicit and vr == b"UN" else _after_items(data, place, end, implicit, depth + 1)
            if after is None:
                return None
            place = after
        else:
            place += length
    return None
