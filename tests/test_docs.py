"""The documentation names every key, row, setting and check that there is, and nothing in it leads nowhere."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from medsweep import params
from medsweep.explain.methods import METHODS
from medsweep.imaging.dicom import SYNTAXES
from medsweep.imaging.dicom_values import PRESETS
from medsweep.imaging.transforms import TRANSFORMS
from medsweep.params import Params, Section
from medsweep.prepare.checks.catalog import CHECKS
from medsweep.sources.catalog import SOURCES
from medsweep.sources.dicom import DERIVED_TAGS, KEPT_TAGS, DicomSettings
from medsweep.sources.folder import FolderSettings
from medsweep.sources.medmnist import MedmnistSettings
from medsweep.sources.medmnist_catalog import MEDMNIST
from medsweep.sources.phantom import PhantomSettings
from medsweep.sources.table import TableSettings
from medsweep.statistics.objective import OBJECTIVES
from medsweep.statistics.operating_points import THRESHOLD_RULES
from medsweep.train import presets
from medsweep.train.backbones import ACTIVATIONS, BACKBONES, POOLINGS, STANDARDIZATIONS
from medsweep.train.hyperparameters import HYPERPARAMETERS
from medsweep.train.losses import LOSSES
from medsweep.train.optimizers import OPTIMIZERS
from medsweep.train.schedules import SCHEDULES

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.glob("*.md"), *(ROOT / "data").rglob("*.md")])
SETTINGS: dict[str, type[Section]] = {
    "phantom": PhantomSettings,
    "folder": FolderSettings,
    "table": TableSettings,
    "medmnist": MedmnistSettings,
    "dicom": DicomSettings,
}


def section(page: str, title: str) -> str:
    """The text below a heading, up to the next one of its level or above."""
    text = (DOCS / page).read_text(encoding="utf-8")
    match = re.search(rf"^(#+) {re.escape(title)}$(.*?)(?=^#{{1,2}} |\Z)", text, re.MULTILINE | re.DOTALL)
    assert match, f"docs/{page} has no section '{title}'"
    body = match[2]
    return body if match[1] == "##" else re.split(r"^#+ ", body, flags=re.MULTILINE)[0]


def rows(text: str) -> dict[str, list[str]]:
    """The tables' rows by the name in their first cell."""
    found = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells and (name := re.fullmatch(r"`([^`]+)`", cells[0])):
            found[name[1]] = cells
    return found


def quoted(text: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", text))


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """The dotted names of a schema's keys."""
    for name, field in model.model_fields.items():
        path = f"{prefix}{name}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from keys(field.annotation, f"{path}.")
        else:
            yield path


def test_parameters_lists_exactly_the_keys_of_the_schema() -> None:
    text = "".join(
        section("parameters.md", title) for title in ("Of no stage", "prepare", "augment", "train", "evaluate")
    )
    assert list(rows(text)) == list(keys(Params))


@pytest.mark.parametrize(
    ("title", "table"),
    [("Optimizers", OPTIMIZERS), ("Losses", LOSSES), ("Backbones", BACKBONES), ("Schedules", SCHEDULES)],
)
def test_every_row_of_a_table_of_train_is_documented_with_its_settings(title: str, table: Mapping[str, object]) -> None:
    found = rows(section("parameters.md", title))
    assert list(found) == list(table)
    for name, row in table.items():
        assert quoted(found[name][1]) == set(row.hyperparameters)  # type: ignore[attr-defined]


def test_every_setting_of_the_rows_is_documented_with_its_range() -> None:
    found = rows(section("parameters.md", "Settings of the rows"))
    assert {name: cells[2] for name, cells in found.items()} == {
        name: str(row) for name, row in HYPERPARAMETERS.items()
    }


@pytest.mark.parametrize(
    ("key", "valid"),
    [
        ("train.space.activation", ACTIVATIONS),
        ("train.space.pooling", POOLINGS),
        ("train.space.standardize", STANDARDIZATIONS),
        ("train.search.objective", OBJECTIVES),
        ("train.threshold", THRESHOLD_RULES),
        ("prepare.source.kind", SOURCES),
        ("evaluate.explanations.methods", METHODS),
    ],
)
def test_every_valid_name_of_a_key_is_documented(key: str, valid: object) -> None:
    text = section("parameters.md", key.partition(".")[0])
    assert quoted(rows(text)[key][2]) == set(valid)  # type: ignore[call-overload]


def test_every_preset_is_documented() -> None:
    found = rows(section("search.md", "Presets"))
    assert {name: cells[1] for name, cells in found.items()} == {
        name: row.what for name, row in presets.PRESETS.items()
    }
    assert quoted(rows(section("parameters.md", "train"))["train.search.presets"][2]) == set(presets.PRESETS)


def test_every_check_is_a_documented_key() -> None:
    found = rows(section("parameters.md", "prepare"))
    assert set(CHECKS) <= {name.removeprefix("prepare.checks.") for name in found}


def test_every_kind_of_source_is_documented() -> None:
    assert set(SETTINGS) == set(SOURCES)
    assert list(rows(section("sources.md", "Sources: where the images come from"))) == list(SOURCES)


@pytest.mark.parametrize("kind", list(SETTINGS))
def test_every_key_of_a_source_is_documented_with_its_default(kind: str) -> None:
    found = rows(section("sources.md", kind))
    fields = SETTINGS[kind].model_fields
    assert [name for name in found if name in fields] == list(fields)
    for name, field in fields.items():
        default = field.default
        if default is None or default is PydanticUndefined:
            continue  # worked out from the data: said in words
        assert found[name][1].strip("`") == (str(default).lower() if isinstance(default, bool) else str(default))


DECODERS = {"": "pydicom", "pillow": "Pillow", "gdcm": "GDCM", "pyjpegls": "pyjpegls"}


def test_every_transfer_syntax_is_documented_with_its_decoder() -> None:
    found = rows(section("dicom.md", "Transfer syntaxes"))
    assert list(found) == list(SYNTAXES)
    for uid, (name, plugin) in SYNTAXES.items():
        assert found[uid][1] == name
        assert found[uid][2].startswith(DECODERS.get(plugin, plugin))


def test_every_element_that_can_be_kept_and_every_preset_is_documented() -> None:
    assert quoted(section("dicom.md", "Subgroups")) >= {*KEPT_TAGS, *DERIVED_TAGS}
    assert {
        name: tuple(map(float, cells[1:3])) for name, cells in rows(section("dicom.md", "Windows")).items()
    } == PRESETS


def test_every_method_of_explanation_is_documented_with_its_source() -> None:
    found = rows(section("explanations.md", "Methods"))
    assert list(found) == list(METHODS)
    for name, row in METHODS.items():
        assert found[name][1] == row.title
        assert row.source in found[name][3]


def test_every_medmnist_set_is_documented_as_in_the_catalogue() -> None:
    found = rows(section("sources.md", "medmnist"))
    for name, row in MEDMNIST.items():
        assert found[name][1:4] == [row.task, str(len(row.class_names)), str(row.channels)]


def test_every_transform_is_documented_in_the_tables_order_with_its_kind_and_settings() -> None:
    found = rows(section("augmentation.md", "Transforms"))
    assert list(found) == list(TRANSFORMS)
    for name, row in TRANSFORMS.items():
        assert found[name][1] == row.kind
        assert quoted(found[name][2]) == set(row.settings.model_fields)


def test_pages_name_only_keys_that_exist() -> None:
    shown = params.load_yaml(ROOT / "params.yaml")
    known = {*params.dotted(shown), *keys(Params)}
    known |= {f"prepare.source.{name}" for settings in SETTINGS.values() for name in settings.model_fields}
    parts = {".".join(name.split(".")[:depth]) for name in known for depth in range(1, name.count(".") + 2)}
    for page in PAGES:
        used = set(re.findall(r"-S\s+['\"]?(?:\+\+|\+|~)?([a-z_.]+)", page.read_text(encoding="utf-8")))
        assert not used - parts, f"{page.name}: {sorted(used - parts)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_inside_the_project_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        linked = (page.parent / name) if name else page
        assert linked.exists(), f"{page.name}: {target}"
        if anchor and linked.suffix == ".md":
            titles = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
            assert anchor in anchors, f"{page.name}: {target}"


def test_contributing_names_files_that_exist() -> None:
    named = re.findall(
        r"`((?:src|scripts|tests|docs)/[\w/.]+)`", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    )
    assert len(named) > 5
    assert not [name for name in named if not (ROOT / name).exists()]
