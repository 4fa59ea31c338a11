"""A new project's files are the repository's own, apart from what makes them the project's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from medsweep import params
from medsweep.project import template

ROOT = Path(__file__).resolve().parents[2]
SOURCE = {"kind": "folder", "path": "data/raw/images", "positive": "ill"}
IMAGE = {"height": 64, "width": 48, "channels": 3}


def loaded(text):
    return YAML(typ="safe", pure=True).load(text)


def test_params_have_every_key_of_the_repositorys_and_its_remarks():
    text = template.params_text("mine", SOURCE, IMAGE)
    mine, theirs = loaded(text), params.load_yaml(ROOT / "params.yaml")
    parsed = params.parse(mine, where="params.yaml")
    assert parsed.experiment == "mine" and parsed.prepare.source.model_dump() == SOURCE
    assert (parsed.prepare.image.height, parsed.prepare.image.width, parsed.prepare.image.channels) == (64, 48, 3)
    for found in (mine, theirs):
        found["experiment"] = found["prepare"]["source"] = None
        found["prepare"]["image"] |= IMAGE
    assert mine == theirs
    remarks = [line.partition(" # ")[2] for line in (ROOT / "params.yaml").read_text().splitlines() if " # " in line]
    assert len([each for each in remarks if each in text]) >= len(remarks) - 2


def test_keys_of_the_kind_before_are_gone():
    assert set(loaded(template.params_text("a", {"kind": "phantom", "path": "data/raw"}, {}))["prepare"]["source"]) == {
        "kind",
        "path",
    }


def test_dvc_stages_depend_on_code_yaml_instead_of_a_source_tree():
    mine, theirs = loaded(template.dvc_text(["data/raw/labels.csv"])), loaded((ROOT / "dvc.yaml").read_text())
    assert "src/" not in template.dvc_text()
    assert mine["plots"] == theirs["plots"] and mine["artifacts"] == theirs["artifacts"]
    for name, stage in theirs["stages"].items():
        own = mine["stages"][name]
        data = [each for each in stage["deps"] if not each.startswith("src/")]
        assert own["deps"] == data + (["data/raw/labels.csv"] if name == "prepare" else [])
        assert own["params"] == [name, {"code.yaml": [name]}]
        assert {key: value for key, value in own.items() if key not in ("deps", "params")} == {
            key: value for key, value in stage.items() if key not in ("deps", "params")
        }


def test_the_code_of_a_stage_is_what_dvc_yaml_names():
    parts = template.code_of_stages()
    assert set(parts) == {"prepare", "augment", "train", "evaluate"}
    for stage, names in parts.items():
        assert stage in names and all((ROOT / "src" / "medsweep" / name).exists() for name in names)


def test_missing_keys_are_added_and_nothing_else_is_changed():
    whole = template.params_text("mine", SOURCE, IMAGE)
    lines = whole.splitlines(keepends=True)
    older = "".join(line for line in lines if "burned_in_text" not in line and "calibration_bins" not in line)
    text, added = template.with_missing_keys(older)
    assert added == ["prepare.checks.burned_in_text", "evaluate.calibration_bins"]
    assert loaded(text) == loaded(whole)
    assert template.with_missing_keys(whole) == (whole, [])


def test_what_is_the_users_own_is_left_alone():
    mine = loaded(template.params_text("mine", SOURCE, IMAGE))
    mine["augment"]["policies"] = {"mine": {}}
    mine["train"]["space"]["optimizer"] = {"adam": {"learning_rate": 0.1}}
    import io

    out = io.StringIO()
    YAML().dump(mine, out)
    assert template.with_missing_keys(out.getvalue())[1] == []


def test_the_build_takes_the_templates_along(tmp_path):
    setuptools = pytest.importorskip("setuptools", minversion="77", reason="the build needs setuptools 77")
    assert setuptools
    command = [sys.executable, "setup.py", "-q", "egg_info", "-e", str(tmp_path), "build", "-b", str(tmp_path / "b")]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    for name in ("params.yaml", "dvc.yaml", ".gitignore", ".dvcignore"):
        built = tmp_path / "b" / "lib" / "medsweep" / "project" / "templates" / name
        assert built.read_bytes() == (ROOT / name).read_bytes()
