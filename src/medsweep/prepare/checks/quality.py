"""Files that cannot be read, and images without content."""

from __future__ import annotations

import numpy as np

from medsweep.prepare.checks.finding import Examined, Finding, counted


def unreadable(examined: Examined) -> list[Finding]:
    """Files that are missing, damaged, truncated or of a kind that is not read; they are left out."""
    found = examined.rejected
    if not found:
        return []
    message = f"{counted(len(found), 'file')} cannot be read as an image."
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
