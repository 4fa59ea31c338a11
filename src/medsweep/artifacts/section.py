"""Section: one part of an evaluation in words, tables and figures, as the report shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from medsweep.errors import ArtifactError

Cell = str | float | int | None
"""What a table's cell holds; None is shown as a dash."""


@dataclass(frozen=True)
class Figure:
    """A picture of a section.

    Args:
        path: of an SVG or PNG file, relative to reports/, with forward slashes.
        alt: what a reader who cannot see it needs to know, in a sentence or two.
        caption: what it shows, with units.
    """

    path: str
    alt: str
    caption: str


@dataclass(frozen=True)
class Table:
    """A table of a section.

    Args:
        caption: what it shows, with units and the intervals' confidence.
        columns: (C,) headings.
        rows: each of C cells.

    Raises:
        ArtifactError: a row has another number of cells.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def __post_init__(self) -> None:
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ArtifactError(f"each row must have {len(self.columns)} cells.", where=f"table '{self.caption}'")


@dataclass(frozen=True)
class Section:
    """One part of an evaluation.

    Args:
        name: its key in `evaluate.parts`.
        title: its heading.
        words: paragraphs in plain words, the most important first; the first stands alone in the report's summary.
        warnings: what a reader must not overlook (a method that failed its check, too few patients), a sentence each.
        tables: in the order to be shown.
        figures: in the order to be shown.
        values: the numbers for programs: JSON values without NaN.
    """

    name: str
    title: str
    words: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> Section:
        """What `dataclasses.asdict` and JSON made of a section, as a section again.

        Raises:
            ArtifactError: it is not one of this version.
        """
        try:
            return cls(
                name=found["name"],
                title=found["title"],
                words=tuple(found["words"]),
                warnings=tuple(found["warnings"]),
                tables=tuple(
                    Table(each["caption"], tuple(each["columns"]), tuple(tuple(row) for row in each["rows"]))
                    for each in found["tables"]
                ),
                figures=tuple(Figure(**each) for each in found["figures"]),
                values=dict(found["values"]),
            )
        except (KeyError, TypeError) as error:
            raise ArtifactError(f"is not a section of this version ({error}).", where="evaluation") from None
