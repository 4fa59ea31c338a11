"""Parts of an evaluation: an unknown name is answered with the valid ones, and a section survives its file."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from medsweep.artifacts import files
from medsweep.artifacts.section import Figure, Section, Table
from medsweep.errors import ArtifactError

SECTION = Section(
    name="demo",
    title="A demonstration",
    words=("It is so.",),
    warnings=("Few patients.",),
    tables=(Table("Counts", ("class", "n"), (("a", 1), ("b", None))),),
    figures=(Figure("plots/demo.svg", "A line that rises.", "Time, in s"),),
    values={"share": 0.5},
)


def test_a_section_comes_back_from_its_file_as_it_was(tmp_path: Path) -> None:
    files.write_json(tmp_path / "section.json", asdict(SECTION))
    assert Section.of(files.read_json(tmp_path / "section.json", made_by="evaluate")) == SECTION


def test_a_section_of_another_version_is_refused() -> None:
    found = asdict(SECTION)
    del found["words"]
    with pytest.raises(ArtifactError, match="not a section of this version"):
        Section.of(found)


def test_a_row_must_fill_its_columns() -> None:
    with pytest.raises(ArtifactError, match="2 cells"):
        Table("Counts", ("class", "n"), (("a",),))
