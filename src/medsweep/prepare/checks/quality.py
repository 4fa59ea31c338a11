"""Files that cannot be read, and images without content."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

import numpy as np

from medsweep.prepare.checks.finding import Examined, Finding, counted
from medsweep.prepare.collect import Rejected

_REASONS_TOLD = 4


def by_reason(rejected: Iterable[Rejected]) -> dict[str, int]:
    """How many files were rejected for each reason, the most frequent first.

    What a reason quotes of the file, and its numbers, are left out: the rest is the same for files of the same
    trouble, and names nobody.
    """
    kinds = Counter(_kind(each.reason) for each in rejected)
    return dict(sorted(kinds.items(), key=lambda item: (-item[1], item[0])))


def _kind(reason: str) -> str:
    plain = re.sub(r"\s*\(.*\)|\s*'[^']*'|\s*\"[^\"]*\"", "", reason.replace("\n", " "))
    return re.sub(r"\d[\d.,×]*\d|\d", "…", plain).rstrip(".")


def unreadable(examined: Examined) -> list[Finding]:
    """Files that are missing, damaged, truncated or of a kind that is not read; they are left out."""
    found = examined.rejected
    if not found:
        return []
    kinds = by_reason(found)
    told = "; ".join(f"{n} × {kind}" for kind, n in list(kinds.items())[:_REASONS_TOLD])
    more = f"; and {len(kinds) - _REASONS_TOLD} more reasons" if len(kinds) > _REASONS_TOLD else ""
    message = f"{counted(len(found), 'file')} cannot be read as an image: {told}{more}."
    return [
        Finding(
            "unreadable",
            message,
            len(found),
            names=tuple(f"{each.name} ({each.reason.rstrip('.')})" for each in found),
            ids=tuple(sorted(each.record_id for each in found if each.record_id)),
        )
    ]


def constant_images(examined: Examined) -> list[Finding]:
    """Images whose pixels are all the same."""
    rows = np.flatnonzero(examined.table.constant)
    if not len(rows):
        return []
    verb = "is" if len(rows) == 1 else "are"
    message = f"{counted(len(rows), 'image')} {verb} constant: every pixel has the same value."
    return [Finding("constant_images", message, len(rows), rows)]
