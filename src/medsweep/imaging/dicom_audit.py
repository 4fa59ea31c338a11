"""What of a DICOM header may still identify a person: which elements are there, never what they say.

The elements are those of the Basic Application Confidentiality Profile (DICOM PS3.15, table E.1-1), from the table that
the package dicom-anonymizer keeps.
"""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from medsweep.artifacts.record import HeaderAudit
from medsweep.errors import MedsweepError
from medsweep.imaging.dicom_header import is_sequence

if TYPE_CHECKING:
    from pydicom.dataset import Dataset as PydicomDataset

    from medsweep.imaging.dicom_plain import PlainElements

    Dataset = PydicomDataset | PlainElements

PRIVATE = "private elements"
UNREADABLE = "elements that cannot be read"
_REMOVED, _REPLACED = 1, 2
_IDENTITY_REMOVED = 0x00120062
_BURNED_IN = 0x00280301
# Curves and overlays are the only groups that repeat.
_REPEATING = 0x50000000
_DEEPEST = 16


def audit_header(dataset: Dataset) -> HeaderAudit:
    """Which elements of a DICOM file the Basic Application Confidentiality Profile would have taken out.

    An element counts that has a value and that the profile removes (action X), at any depth of sequences; in a file
    that does not say PatientIdentityRemoved YES also one that the profile empties or replaces by a dummy (Z, D and
    their combinations), since in a file that does say so its value is such a dummy. UIDs (U) never count: a replaced
    one cannot be told from an original. Private elements count: the profile removes all of them.

    Args:
        dataset: the whole header.

    Returns:
        The keywords in the order of their tags, `gggg,eeee` for what has none, then `PRIVATE` for all private elements
        together, and `UNREADABLE`.

    Raises:
        MedsweepError: the extra `dicom` is not installed.
    """
    found: set[int | str] = set()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's remarks on odd values
        claims = _text(dataset, _IDENTITY_REMOVED) == "YES"
        _walk(dataset, _REMOVED if claims else _REMOVED | _REPLACED, found, _DEEPEST)
        stated = _text(dataset, _BURNED_IN)
    named = [_keyword(tag) for tag in sorted(each for each in found if isinstance(each, int))]
    said = [each for each in (PRIVATE, UNREADABLE) if each in found]
    return HeaderAudit((*named, *said), stated if stated in ("YES", "NO") else "")


def _walk(dataset: Dataset, actions: int, found: set[int | str], depth: int) -> None:
    exact, masked = _profile()
    for known, element in dataset.items():
        tag = int(known)
        if not _has_value(element.value):
            continue
        action = exact.get(tag, 0)
        if tag & 0x10000:
            found.add(PRIVATE)
        elif action & actions or (tag >= _REPEATING and any(tag & mask == value for value, mask in masked)):
            found.add(tag)
        elif not action and (is_sequence(tag) if element.VR is None else element.VR == "SQ"):
            try:
                if depth == 0:
                    raise RecursionError
                for item in dataset[known].value:
                    _walk(item, actions, found, depth - 1)
            except Exception:  # pydicom raises nearly anything on damaged items
                found.add(UNREADABLE)


def _has_value(value: Any) -> bool:
    if isinstance(value, bytes):
        # Padding is no value; what is longer than padding may be is one.
        return len(value) > 64 or bool(value.strip(b" \0"))
    return value is not None and value != "" and not (hasattr(value, "__len__") and len(value) == 0)


def _keyword(tag: int) -> str:
    from pydicom.datadict import keyword_for_tag

    return keyword_for_tag(tag) or f"{tag >> 16:04x},{tag & 0xFFFF:04x}"


def _text(dataset: Dataset, tag: int) -> str:
    try:
        return str(dataset[tag].value or "").strip().upper() if tag in dataset else ""
    except Exception:  # a damaged value says nothing
        return ""


@lru_cache(maxsize=1)
def _profile() -> tuple[dict[int, int], tuple[tuple[int, int], ...]]:
    """What the profile does to each element: by tag, and what it removes by (value, mask) of repeating groups."""
    try:
        from dicomanonymizer.dicom_anonymization_databases import dicomfields_2026c as table
    except ImportError:
        raise MedsweepError(
            "looking for identifying elements needs a package that is not installed.",
            fix="Run: pip install 'medsweep[dicom]', or set prepare.checks.identifying_tags to off.",
        ) from None
    exact: dict[int, int] = {}
    masked: list[tuple[int, int]] = []
    for action, tags in (
        (_REPLACED, (*table.D_TAGS, *table.Z_TAGS, *table.Z_D_TAGS)),
        (_REPLACED, (*table.X_Z_TAGS, *table.X_D_TAGS, *table.X_Z_D_TAGS)),
        (_REMOVED, table.X_TAGS),
    ):
        for each in tags:
            if len(each) == 2:
                exact[each[0] << 16 | each[1]] = action
            else:  # repeating groups: group, element, and the bits of each that count
                masked.append((each[0] << 16 | each[1], each[2] << 16 | each[3]))
    return exact, tuple(masked)
