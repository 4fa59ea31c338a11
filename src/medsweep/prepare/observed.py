"""What reading notes of every image for the checks, besides its pixels: see `Observed`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medsweep.artifacts.record import ImageRecord, RawImage
from medsweep.imaging import fingerprint
from medsweep.imaging.traits import TRAITS, traits
from medsweep.params import Checks


@dataclass(frozen=True)
class Wanted:
    """What the checks that are on need; the rest is not worked out.

    Args:
        fingerprints: thumbnails and hashes.
        traits: numbers that describe the prepared image.
        metadata: what the file says of itself.
    """

    fingerprints: bool = False
    traits: bool = False
    metadata: bool = False

    @classmethod
    def by(cls, checks: Checks) -> Wanted:
        """What these checks need."""
        similar, noise = checks.near_duplicates != "off", checks.label_noise != "off"
        shortcuts, shift = checks.shortcuts != "off", checks.shift != "off"
        return cls(fingerprints=similar or noise, traits=noise or shortcuts or shift, metadata=shortcuts)


class Observed:
    """Room for what is noted of n images, one after the other.

    Attributes:
        thumbnails: (n, 64, 64) uint8, or (n, 0, 0) where they are not wanted.
        hashes: (n, 7, 2) uint64, or (n, 0, 2).
        traits: (n, 11) float32, or (n, 0).
        metadata: by field, text; one mapping an image, or none at all.
    """

    def __init__(self, n: int, wanted: Wanted) -> None:
        self._wanted = wanted
        side = fingerprint.SIDE if wanted.fingerprints else 0
        self.thumbnails = np.zeros((n, side, side), dtype=np.uint8)
        self.hashes = np.zeros((n, len(fingerprint.WINDOWS) if wanted.fingerprints else 0, 2), dtype=np.uint64)
        self.traits = np.zeros((n, len(TRAITS) if wanted.traits else 0), dtype=np.float32)
        self.metadata: list[Mapping[str, str]] = []

    def note(self, place: int, record: ImageRecord, raw: RawImage, prepared: NDArray[Any]) -> None:
        """Note the image that is kept at `place`; noting another at the same place replaces it."""
        if self._wanted.fingerprints:
            self.thumbnails[place] = fingerprint.thumbnail(raw.pixels)
            self.hashes[place] = fingerprint.hashes(self.thumbnails[place])
        if self._wanted.traits:
            self.traits[place] = traits(prepared)
        if self._wanted.metadata:
            self.metadata[place:] = [_metadata(record, raw)]

    def first(self, n: int) -> Observed:
        """The first n images alone."""
        self.thumbnails, self.hashes, self.traits = self.thumbnails[:n], self.hashes[:n], self.traits[:n]
        return self


def _metadata(record: ImageRecord, raw: RawImage) -> Mapping[str, str]:
    """What a file says of itself, by field; numbers as text. The name itself is not noted, only its pattern."""
    height, width = raw.pixels.shape[:2]
    found = {
        "image height": str(height),
        "image width": str(width),
        "aspect ratio": f"{width / height:.4g}",
        "largest value": str(raw.largest),
        "colour": "RGB" if raw.pixels.ndim == 3 else "grey",
        **raw.metadata,
    }
    if raw.metadata:  # a file of its own
        found["file name pattern"] = name_pattern(record.path.name)
    return found


def name_pattern(name: str) -> str:
    """A file name with all letters taken for one and all digits for one: 'IM-0001-0001.jpeg' is 'a-0-0.a'.

    So a class's name in its files' names is no pattern of its own; another way of naming files is.
    """
    return re.sub(r"[^\W\d_]+", "a", re.sub(r"\d+", "0", name))[:64]
