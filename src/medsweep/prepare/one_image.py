"""One image on request: a prepared record, or a raw file read as prepare would read it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medsweep.artifacts.prepared import PreparedImage, PreparedSplit
from medsweep.errors import DataError
from medsweep.imaging.decode import Decoder
from medsweep.imaging.pipeline import to_array
from medsweep.layout import SPLITS, Layout
from medsweep.params import Params


def find_image(what: str, params: Params, layout: Layout, *, frame: int | None = None) -> PreparedImage:
    """An image by its record id (or how it begins) in data/prepared, or a raw file, read as prepare would read it.

    Args:
        what: a path, or at least six characters of a record id.
        params: `prepare` says how a raw file becomes an array.
        layout: where the prepared splits are.
        frame: which frame of a DICOM file that has several, from 0.

    Raises:
        DataError: neither a file nor a record is called so, several records are, or the file can't be read.
    """
    path = Path(what)
    if path.is_file():
        known = params.prepare
        raw = Decoder(known.limits, known.intensity.window).decode(path, frame)
        pixels, mask = to_array(raw, known.image, known.intensity)
        return PreparedImage(path.name, pixels, mask, int(np.iinfo(pixels.dtype).max), synthetic=False)
    found: list[tuple[PreparedSplit, int]] = []
    for name in SPLITS:
        folder = layout.prepared_split(name)
        if len(what) >= 6 and (folder / "split.json").is_file():
            split = PreparedSplit.load(folder, verify=False)
            found += [(split, int(row)) for row in np.flatnonzero(np.char.startswith(split.record_ids, what))]
    if len(found) > 1:
        raise DataError(f"{len(found)} records begin so.", where=what, fix="Give more characters of the record id.")
    if not found:
        raise DataError(
            "is neither a file nor the beginning (six characters or more) of a prepared record's id.",
            where=what,
            fix="reports/predictions.csv lists the record ids of the test split.",
        )
    split, row = found[0]
    return PreparedImage(
        f"record {str(split.record_ids[row])[:12]} of the {split.name} split",
        np.asarray(split.images[row]),
        None if split.masks is None else np.asarray(split.masks[row]),
        split.value_range,
        split.synthetic,
    )
