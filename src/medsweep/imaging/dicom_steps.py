"""Stepping through the usual kinds of DICOM files, element by element.

pydicom takes more than a millisecond for a header and its pixels' description, which is as long as all the rest of
reading a plain slice. Most files are of few kinds: little endian, their elements in rising order, each with a length.
These are stepped through here; for all others, and for whatever is odd, the answer is None, and pydicom reads them.

The slices of a series mostly have the same elements in the same places: where all that decides about the steps is the
same as in an earlier file, so are the steps.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
# Files whose steps are remembered: lengths of UIDs and numbers differ even within a series.
_REMEMBERED = 32
_MOST_DECIDING = 1 << 16


@dataclass(frozen=True, slots=True)
class Steps:
    """Where elements stand in a file.

    Args:
        syntax: the transfer syntax, as the file meta information names it.
        places: by tag the VR (empty where the file does not say), the beginning and the end of the value; of a sequence
            of undefined length without its end mark.
    """

    syntax: str
    places: Mapping[int, tuple[bytes, int, int]]


@dataclass(frozen=True, slots=True)
class _Walk:
    """A file that was stepped through, and what decided about it.

    Args:
        steps: what was found.
        deciding: the places of the bytes that were looked at: tags, VRs, lengths and the transfer syntax.
        content: those bytes.
        last: where the last four of them stand, which mostly tell at once that another file is of another kind.
        size: how many bytes a file must have to be stepped through likewise: just so many if `whole`, else at least.
        whole: whether it was stepped through to its end.
    """

    steps: Steps
    deciding: NDArray[np.intp]
    content: bytes
    last: int
    size: int
    whole: bool

    def repeats(self, data: bytes) -> bool:
        """Whether another file gives the same steps."""
        if len(data) < self.size or (self.whole and len(data) > self.size):
            return False
        if data[self.last : self.last + 4] != self.content[-4:]:
            return False
        return bytes(np.frombuffer(data, dtype=np.uint8)[self.deciding]) == self.content


# By what was wanted; replaced as a whole, so that threads do not meet.
_WALKED: dict[frozenset[int] | None, tuple[_Walk, ...]] = {}


def step_through(data: bytes, wanted: Collection[int] | None) -> Steps | None:
    """The places of elements, or None where the file is not of the simple kind.

    Args:
        data: the file, or its beginning.
        wanted: tags of the data set's top level; what follows the last of them is not looked at. None for all: then
            the file must be sound to its end.
    """
    key = None if wanted is None else frozenset(wanted)
    walked = _WALKED.get(key, ())
    for walk in walked:
        if walk.repeats(data):
            return walk.steps
    visited: list[tuple[int, int]] = []
    steps = _walk(data, key, visited)
    if steps is not None:
        walk = _remembered(data, steps, visited, whole=key is None)
        if len(walk.content) <= _MOST_DECIDING:
            _WALKED[key] = (walk, *walked[: _REMEMBERED - 1])
    return steps


def _remembered(data: bytes, steps: Steps, visited: list[tuple[int, int]], *, whole: bool) -> _Walk:
    """What `_walk` found, and what it looked at, which is given as pairs of beginning and end."""
    starts, ends = np.array(visited, dtype=np.intp).T
    lengths = ends - starts
    deciding = np.repeat(starts - np.cumsum(lengths) + lengths, lengths) + np.arange(lengths.sum())
    content = bytes(np.frombuffer(data, dtype=np.uint8)[deciding])
    last = int(ends[-1]) - 4
    # A walk that was not to the end has looked whether a whole element follows.
    return _Walk(steps, deciding, content, last, len(data) if whole else last + _ELEMENT.size, whole)


def _walk(data: bytes, wanted: frozenset[int] | None, visited: list[tuple[int, int]]) -> Steps | None:
    """Step from element to element; `visited` is told the beginning and the end of all that is looked at."""
    if data[PREFIX_AT : PREFIX_AT + 4] != PREFIX:
        return None
    visited.append((PREFIX_AT, PREFIX_AT + 4))
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
        began = place
        if tag > last:
            visited.append((began, began + 4))
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
        visited.append((began, place))
        if length == _UNDEFINED:
            # Encapsulated pixels look alike, and what is in an unknown element is encoded otherwise.
            stop = None if group == 0x7FE0 or vr == b"UN" else _after_items(data, place, end, bool(implicit), 1)
            if stop is None:
                return None
            visited.append((place, stop))
            after, length = stop, stop - 8 - place
        else:
            after = place + length
        if after > end:
            return None
        if tag == _TRANSFER_SYNTAX:
            visited.append((place, after))
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
