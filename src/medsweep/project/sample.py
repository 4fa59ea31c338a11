"""What some of the images look like. They are read in a process of their own, which a hostile file may take down."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

from medsweep.artifacts.record import ImageRecord
from medsweep.errors import DataError
from medsweep.params import Limits
from medsweep.sources.protocol import ImageSource

# Apart by more than compression makes of grey pixels.
_COLOUR = 12


@dataclass(frozen=True)
class Sample:
    """Args:
    images: how many could be read.
    height, width: their medians, in pixels.
    coloured: whether any of them has colours.
    """

    images: int
    height: int
    width: int
    coloured: bool


def look_at(source: ImageSource, records: Sequence[ImageRecord], limits: Limits) -> Sample:
    """Read `records`; what cannot be read is passed over, for `medsweep check` to tell."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            return pool.submit(_look, source, list(records), limits).result()
        except BrokenProcessPool:
            return Sample(0, 0, 0, coloured=False)


def _look(source: ImageSource, records: list[ImageRecord], limits: Limits) -> Sample:
    import numpy as np

    from medsweep.imaging.decode import Decoder

    decoder = Decoder(limits, "file")
    sizes: list[tuple[int, int]] = []
    coloured = False
    for record in records:
        try:
            raw = source.read(record) or decoder.decode(record.path, record.frame)
        except DataError:
            continue
        sizes.append((raw.pixels.shape[0], raw.pixels.shape[1]))
        if raw.pixels.ndim == 3 and not coloured:
            values = raw.pixels.astype(np.int32)
            spread = values.max(axis=2) - values.min(axis=2)
            coloured = bool(np.percentile(spread, 99) > _COLOUR * raw.largest / 255)
    if not sizes:
        return Sample(0, 0, 0, coloured=False)
    height, width = np.median(np.array(sizes), axis=0).astype(int).tolist()
    return Sample(len(sizes), height, width, coloured)
