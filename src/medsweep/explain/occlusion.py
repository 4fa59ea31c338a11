"""Occlusion (Zeiler & Fergus, Visualizing and Understanding Convolutional Networks, 2014)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medsweep.explain.method import Settings
from medsweep.explain.network import Member

Floats = NDArray[np.float32]


def occlusion(member: Member, z: Floats, classes: NDArray[np.int64], settings: Settings) -> Floats:
    """By how much the log-odds fall when a square patch is set to z = 0 (mean grey).

    The patch moves by half its side, also over the edges; a pixel has the mean over the patches that covered it.
    """
    height, width, _ = member.shape
    patches = _patches(height, width, settings.patch)
    whole = member.log_odds(z, classes)
    total = np.zeros((len(z), height, width), dtype=np.float64)
    count = np.zeros((height, width), dtype=np.float64)
    for rows, columns in patches:
        count[rows, columns] += 1
    # Many patches of one image at a time, or one patch of many images: as many as a batch holds.
    at_once = max(1, member.batch // max(1, len(z)))
    for start in range(0, len(patches), at_once):
        chunk = patches[start : start + at_once]
        covered = np.repeat(z[None], len(chunk), axis=0)
        for each, (rows, columns) in zip(covered, chunk, strict=True):
            each[:, rows, columns] = 0.0
        scores = member.log_odds(covered.reshape(-1, *member.shape), np.tile(classes, len(chunk)))
        for (rows, columns), own in zip(chunk, scores.reshape(len(chunk), -1), strict=True):
            total[:, rows, columns] += (whole - own)[:, None, None]
    return np.asarray(total / count, dtype=np.float32)


def _patches(height: int, width: int, share: float) -> list[tuple[slice, slice]]:
    side = max(2, round(share * min(height, width)))
    stride = (side + 1) // 2

    def along(length: int) -> list[slice]:
        return [slice(max(0, at), at + side) for at in range(stride - side, length, stride)]

    return [(rows, columns) for rows in along(height) for columns in along(width)]
