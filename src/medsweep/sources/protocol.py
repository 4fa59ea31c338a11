"""What each kind of source must offer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from medsweep.artifacts.record import ImageRecord, RawImage, Task


@dataclass(frozen=True)
class UnknownLabel:
    """A file whose label is outside the classes: listed for the check `unknown_labels`, never silently dropped."""

    name: str
    label: str


class ImageSource(Protocol):
    """Labelled images of one kind. Opening one reads names and labels, never pixels. Sources can be pickled.

    Attributes:
        class_names: (K,) in label order; for a binary task the second is the positive class.
        task: binary, multiclass, multilabel or ordinal.
        synthetic: True where images are made, not acquired.
        settings: every key that was used, with its value, for the log and the data-quality report.
        unknown_labels: what carries a label outside the classes.
    """

    class_names: tuple[str, ...]
    task: Task
    synthetic: bool
    settings: Mapping[str, Any]
    unknown_labels: tuple[UnknownLabel, ...]

    def __len__(self) -> int:
        """The number of records."""
        ...

    def records(self) -> Iterator[ImageRecord]:
        """Every labelled image, in an order that depends on the source alone."""
        ...

    def read(self, record: ImageRecord) -> RawImage | None:
        """The pixels of a record that this source itself holds, or None: then `imaging` decodes `record.path`."""
        ...
