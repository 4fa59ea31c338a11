"""Patients who are in more than one split."""

from __future__ import annotations

import numpy as np

from medsweep.prepare.checks.finding import Examined, Finding, counted, spread_groups


def patient_overlap(examined: Examined) -> list[Finding]:
    """Patients with images in two splits or three."""
    table = examined.table
    known = np.flatnonzero(table.patient_ids != "")
    if not len(known):
        return []
    _, patients = np.unique(table.patient_ids[known], return_inverse=True)
    rows, groups = spread_groups(patients, table.splits[known])
    if not len(rows):
        return []
    count = len(np.unique(groups))
    verb = "has" if count == 1 else "have"
    message = f"{counted(count, 'patient')} {verb} images in more than one split ({counted(len(rows), 'image')})."
    return [Finding("patient_overlap", message, count, known[rows], groups)]
