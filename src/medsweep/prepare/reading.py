"""Records to prepared pixels: a chunk of records in, what became of them out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medsweep.artifacts.record import ImageRecord, RawImage
from medsweep.errors import DataError, MedsweepError
from medsweep.imaging.decode import Decoder
from medsweep.imaging.pipeline import to_array
from medsweep.imaging.text_regions import has_text
from medsweep.params import Image, Intensity, Limits
from medsweep.prepare.observed import Observed, Wanted
from medsweep.sources.protocol import ImageSource

_CHUNK_BYTES = 4 << 20
_LARGEST_CHUNK = 64


@dataclass(frozen=True, slots=True)
class Audit:
    """What one image may tell of a person; what was not asked for stays empty.

    Args:
        dicom: whether it has a DICOM header that was looked at.
        identifying: keywords of elements that the Basic Application Confidentiality Profile takes out.
        burned_in: BurnedInAnnotation: YES, NO, or an empty string.
        text: whether it has regions that look like lines of text.
    """

    dicom: bool
    identifying: tuple[str, ...]
    burned_in: str
    text: bool


# The checks that need an `Audit` of every image.
AUDITS = frozenset({"identifying_tags", "burned_in_text"})


@dataclass(frozen=True)
class Chunk:
    """What became of some consecutive records.

    Args:
        kept: (n,) which of the records could be read, rising.
        images: (n, H, W, C) uint8 or uint16.
        masks: (n, H, W) uint8, or None where the source knows none.
        contents, pixels, sizes, sums, squares, constant: as in `ImageTable`.
        columns: what was learnt with the pixels, a mapping an image.
        audits: what each image may tell of a person.
        observed: what was noted of the images for the checks.
        rejected: for each record that could not be read, its index and the reason.
    """

    kept: NDArray[np.int64]
    images: NDArray[Any]
    masks: NDArray[np.uint8] | None
    contents: NDArray[np.bytes_]
    pixels: NDArray[np.bytes_]
    sizes: NDArray[np.int32]
    sums: NDArray[np.int64]
    squares: NDArray[np.int64]
    constant: NDArray[np.bool_]
    columns: tuple[Mapping[str, str], ...]
    audits: tuple[Audit, ...]
    observed: Observed
    rejected: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class Reader:
    """A pure function from records to a `Chunk`; it is sent to every worker once.

    Args:
        source: what is read.
        image, intensity, limits: as in params.yaml.
        audits: which of `AUDITS` to look for.
        wanted: what to note of each image for the other checks.
    """

    source: ImageSource
    image: Image
    intensity: Intensity
    limits: Limits
    audits: frozenset[str] = frozenset()
    wanted: Wanted = field(default_factory=Wanted)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.uint8 if self.intensity.bits == 8 else np.uint16)

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.image.height, self.image.width, self.image.channels

    @property
    def chunk_size(self) -> int:
        return int(np.clip(_CHUNK_BYTES // (int(np.prod(self.shape)) * self.dtype.itemsize), 1, _LARGEST_CHUNK))

    def read(self, records: Sequence[ImageRecord], refused: Mapping[int, str], at: Callable[[int], None]) -> Chunk:
        """Decode and prepare `records`; what cannot be read is listed, not raised.

        Args:
            records: in order.
            refused: by index the reason why a record is not to be touched.
            at: is told the index of each record before it is read.
        """
        decoder = Decoder(self.limits, self.intensity.window, audit=bool(self.audits), metadata=self.wanted.metadata)
        n, channels = len(records), self.image.channels
        images = np.empty((n, *self.shape), dtype=self.dtype)
        masks = np.zeros((n, *self.shape[:2]), dtype=np.uint8)
        contents, pixels = np.empty(n, dtype="S64"), np.empty(n, dtype="S32")
        sizes, constant = np.empty((n, 2), dtype=np.int32), np.empty(n, dtype=np.bool_)
        sums, squares = np.empty((n, channels), dtype=np.int64), np.empty((n, channels), dtype=np.int64)
        observed = Observed(n, self.wanted)
        kept: list[int] = []
        columns: list[Mapping[str, str]] = []
        audits: list[Audit] = []
        rejected: list[tuple[int, str]] = []
        masked = False
        for index, record in enumerate(records):
            if index in refused:
                rejected.append((index, refused[index]))
                continue
            at(index)
            try:
                raw = self.source.read(record)
                if raw is None:
                    raw = decoder.decode(record.path, record.frame)
                prepared, mask = to_array(raw, self.image, self.intensity)
                audit = self._audit(raw)
                observed.note(len(kept), record, raw, prepared)
            except DataError as error:
                rejected.append((index, error.message))
                continue
            except MemoryError:
                reason = f"needs more than {self.limits.memory_mb} MiB once decoded."
                rejected.append((index, reason))
                continue
            except MedsweepError:
                raise  # a package that is not installed, say: no file's fault
            except Exception as error:  # whatever a strange image makes a library raise, it costs that image alone
                rejected.append((index, f"cannot be prepared ({type(error).__name__}: {error})."))
                continue
            place = len(kept)
            images[place] = prepared
            if mask is not None:
                masks[place], masked = mask, True
            values = prepared.reshape(-1, channels).astype(np.int64)
            contents[place] = raw.content.encode()
            pixels[place] = hashlib.blake2b(prepared.tobytes(), digest_size=16).hexdigest().encode()
            sizes[place] = raw.pixels.shape[:2]
            sums[place], squares[place] = values.sum(axis=0), (values * values).sum(axis=0)
            constant[place] = _is_constant(raw.pixels) or _is_constant(prepared)
            kept.append(index)
            columns.append(raw.columns)
            audits.append(audit)
        n = len(kept)
        return Chunk(
            kept=np.array(kept, dtype=np.int64),
            images=images[:n],
            masks=masks[:n] if masked else None,
            contents=contents[:n],
            pixels=pixels[:n],
            sizes=sizes[:n],
            sums=sums[:n],
            squares=squares[:n],
            constant=constant[:n],
            columns=tuple(columns),
            audits=tuple(audits),
            observed=observed.first(n),
            rejected=tuple(rejected),
        )

    def _audit(self, raw: RawImage) -> Audit:
        header = raw.header
        return Audit(
            dicom=header is not None,
            identifying=header.identifying if header is not None and "identifying_tags" in self.audits else (),
            burned_in=header.burned_in if header is not None else "",
            text="burned_in_text" in self.audits and has_text(raw.pixels),
        )


def _is_constant(pixels: NDArray[Any]) -> bool:
    if (pixels[0] != pixels[0, 0]).any():
        return False  # nearly every image: the rest need not be looked at
    return bool((pixels == pixels[0, 0]).all()) if pixels.ndim == 3 else bool(pixels.min() == pixels.max())
