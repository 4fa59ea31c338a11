"""What images may tell of persons: identifying elements in headers, and text in the pixels. Nothing is cleaned."""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from medsweep.prepare.checks.finding import Examined, Finding, counted

_TOLD = 5
# Told first: whom everybody would recognise by.
_FIRST = ("PatientName", "PatientID", "PatientBirthDate", "PatientAddress", "AccessionNumber")
_SAYS_NOTHING = "BurnedInAnnotation not stated"
_SAYS_YES = "BurnedInAnnotation YES"
_TEXT = "text-like regions"


def identifying_tags(examined: Examined) -> list[Finding]:
    """DICOM images whose header carries elements that the Basic Application Confidentiality Profile takes out."""
    carried = np.array([bool(each.identifying) for each in examined.audits], dtype=np.bool_)
    rows = _rows(examined, carried)
    if not len(rows):
        return []
    counts: Counter[str] = Counter()
    times = np.bincount(examined.table.audits, minlength=len(examined.audits)).tolist()
    for audit, images in zip(examined.audits, times, strict=True):
        counts.update(dict.fromkeys(audit.identifying, images))
    ordered = dict(sorted(counts.items(), key=lambda item: (_place(item[0]), -item[1], item[0])))
    told = ", ".join(list(ordered)[:_TOLD])
    more = f" and {len(ordered) - _TOLD} more" if len(ordered) > _TOLD else ""
    dicom = int(sum(n for audit, n in zip(examined.audits, times, strict=True) if audit.dicom))
    verb = "carries" if len(rows) == 1 else "carry"
    message = (
        f"{len(rows)} of {counted(dicom, 'DICOM image')} {verb} elements that the Basic Application Confidentiality "
        f"Profile takes out: {told}{more}."
    )
    details = tuple(" ".join(examined.audits[code].identifying) for code in examined.table.audits[rows].tolist())
    return [Finding("identifying_tags", message, len(rows), rows, counts=ordered, details=details)]


def burned_in_text(examined: Examined) -> list[Finding]:
    """Images whose BurnedInAnnotation is not NO, or that have regions like lines of text."""
    signs = [_signs(examined, code) for code in range(len(examined.audits))]
    rows = _rows(examined, np.array([bool(each) for each in signs], dtype=np.bool_))
    if not len(rows):
        return []
    codes = examined.table.audits[rows].tolist()
    counts = Counter(sign for code in codes for sign in signs[code])
    ordered = {name: counts[name] for name in (_SAYS_YES, _TEXT, _SAYS_NOTHING) if counts[name]}
    told = ", ".join(f"{name} in {count}" for name, count in ordered.items())
    message = f"{counted(len(rows), 'image')} may hold text in the pixels ({told}): look at them."
    # Those with a sign of text come first: they are what the console and the page show.
    order = np.argsort([_weight(signs[code]) for code in codes], kind="stable")
    details = tuple(", ".join(signs[codes[each]]) for each in order.tolist())
    return [Finding("burned_in_text", message, len(rows), rows[order], counts=ordered, details=details)]


def _rows(examined: Examined, chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
    return np.flatnonzero(chosen[examined.table.audits]) if chosen.any() else np.empty(0, dtype=np.int64)


def _place(keyword: str) -> int:
    return _FIRST.index(keyword) if keyword in _FIRST else len(_FIRST)


def _signs(examined: Examined, code: int) -> tuple[str, ...]:
    audit = examined.audits[code]
    found = []
    if audit.dicom and audit.burned_in != "NO":
        found.append(_SAYS_YES if audit.burned_in == "YES" else _SAYS_NOTHING)
    if audit.text:
        found.append(_TEXT)
    return tuple(found)


def _weight(signs: tuple[str, ...]) -> int:
    return -2 * (_TEXT in signs) - 2 * (_SAYS_YES in signs)
