"""ImageRecord: one labelled image and where it came from. RawImage: its pixels as they were stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medsweep.errors import DataError

ORACLE_COLUMN = "oracle_score"
"""The kept column in which phantoms carry the score of an oracle that reads their latent descriptors."""
Task = Literal["binary", "multiclass", "multilabel", "ordinal"]
TASKS: tuple[Task, ...] = ("binary", "multiclass", "multilabel", "ordinal")


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One labelled image before its pixels are read.

    Args:
        path: the file that holds it (for a packed file, the pack; for a phantom, the source's path).
        label: a class index, or for multi-label data one 0/1 a class.
        patient_id: as the source names the patient, or None where it does not say.
        split: 'train', 'val' or 'test' where the source fixes it.
        source: the kind of source that it came from.
        frame: the index inside a packed or multi-frame file.
        columns: subgroup columns kept from the source (site, sex, scanner …), by name.
    """

    path: Path
    label: int | tuple[int, ...]
    patient_id: str | None
    split: str | None
    source: str
    frame: int | None = None
    columns: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.split not in (None, "train", "val", "test"):
            raise DataError(
                f"'{self.split}' is not a split.", where=self.name, fix="Use train, val or test, or leave it empty."
            )

    @property
    def name(self) -> str:
        """How messages on the console name this image."""
        return str(self.path) if self.frame is None else f"{self.path}[{self.frame}]"


@dataclass(frozen=True, slots=True)
class HeaderAudit:
    """What a DICOM header still carries: which elements, never what they say.

    Args:
        identifying: keywords of elements with a value that the Basic Application Confidentiality Profile takes out.
        burned_in: BurnedInAnnotation: YES, NO, or an empty string where the header does not say.
    """

    identifying: tuple[str, ...]
    burned_in: str


@dataclass(frozen=True, slots=True)
class RawImage:
    """One image's pixels before any intensity work.

    Args:
        pixels: (h, w) grey or (h, w, 3) RGB; unsigned integers of at most 16 bits, upright (EXIF orientation applied).
        largest: the largest value that the true bit depth can hold (255, 4095, 65535 …).
        content: SHA-256 (hex) of what was read: the file's bytes, or the stored array's.
        mask: (h, w) uint8 lesion mask where the source knows it, 1 inside.
        columns: columns known only once the pixels are made (a phantom's oracle score).
        header: what its header carries, where it has one and that was asked for.
        metadata: what the file says of itself besides its pixels, by field, where that was asked for; it names nobody.
    """

    pixels: NDArray[Any]
    largest: int
    content: str
    mask: NDArray[np.uint8] | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    header: HeaderAudit | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = self.pixels.shape
        if not (len(shape) == 2 or (len(shape) == 3 and shape[2] == 3)) or 0 in shape:
            raise DataError(f"an image of the shape {shape} is neither grey (h, w) nor RGB (h, w, 3).")
        if self.pixels.dtype not in (np.dtype(np.uint8), np.dtype(np.uint16)):
            raise DataError(f"pixels of the type {self.pixels.dtype} are neither uint8 nor uint16.")
