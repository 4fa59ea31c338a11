"""Labels that contradict each other, lie outside the classes, or are too few."""

from __future__ import annotations

import numpy as np

from medsweep.layout import SPLITS
from medsweep.prepare.checks.finding import Examined, Finding, counted, spread_groups
from medsweep.prepare.table import label_codes


def label_conflicts(examined: Examined) -> list[Finding]:
    """Images with identical prepared pixels and different labels."""
    table = examined.table
    _, pixels = np.unique(table.pixels, return_inverse=True)
    rows, groups = spread_groups(pixels, label_codes(table.labels))
    if not len(rows):
        return []
    count = len(np.unique(groups))
    verb = "has" if count == 1 else "have"
    message = (
        f"{counted(count, 'group')} of identical images {verb} labels that differ ({counted(len(rows), 'image')})."
    )
    return [Finding("label_conflicts", message, count, rows, groups)]


def missing_class(examined: Examined) -> list[Finding]:
    """Classes without an image in a split."""
    members = examined.table.members(len(examined.class_names))
    holes = [
        f"'{name}' in {split}"
        for split, counts in zip(SPLITS, members, strict=True)
        for name, count in zip(examined.class_names, counts.tolist(), strict=True)
        if count == 0
    ]
    if not holes:
        return []
    return [Finding("missing_class", f"No image of {', '.join(holes)}.", len(holes))]


def unknown_labels(examined: Examined) -> list[Finding]:
    """Images whose label is outside the classes; they are left out."""
    found = examined.unknown_labels
    if not found:
        return []
    values = {each.label for each in found}
    verb = "carries" if len(found) == 1 else "carry"
    # What is no label may be anything, a person's name among it: the report has how many, the console which.
    message = (
        f"{counted(len(found), 'image')} {verb} a label outside the classes ({counted(len(values), 'value')}) and "
        "cannot take part."
    )
    names = tuple(f"{each.name} ('{each.label}')" for each in found)
    return [Finding("unknown_labels", message, len(found), names=names)]


def few_images(examined: Examined) -> list[Finding]:
    """Classes with fewer training images than asked for."""
    least = examined.settings.min_images_per_class
    train = examined.table.members(len(examined.class_names))[SPLITS.index("train")]
    small = [
        f"'{name}' has {count}"
        for name, count in zip(examined.class_names, train.tolist(), strict=True)
        if count < least
    ]
    if not small:
        return []
    message = f"Fewer than {counted(least, 'training image')} in a class: {', '.join(small)}."
    return [Finding("few_images", message, len(small))]
