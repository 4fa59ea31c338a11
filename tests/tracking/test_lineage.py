from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from medsweep.layout import Layout
from medsweep.tracking.lineage import lineage

PARAMS = """experiment: demo
runtime: {workers: 2}
prepare: {source: {kind: folder, path: data/raw/}}
train: {seed: 7}
"""
LOCK = """schema: '2.0'
stages:
  prepare:
    cmd: medsweep prepare
    deps:
    - path: data/raw
      hash: md5
      md5: aaaa.dir
      nfiles: 3
    outs:
    - path: data/prepared/train
      md5: bbbb.dir
    - path: data/prepared/val
      md5: cccc.dir
    - path: reports/data_quality.json
      md5: dddd
  augment:
    cmd: medsweep augment
    outs:
    - path: data/augmented
      md5: eeee.dir
"""


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    monkeypatch.delenv("DVC_EXP_NAME", raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    (tmp_path / "params.yaml").write_text(PARAMS)
    return Layout(tmp_path, tmp_path)


def _git(layout: Layout, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    done = subprocess.run(["git", *identity, *arguments], cwd=layout.root, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_without_git_and_dvc_only_the_parameters_are_known(layout: Layout) -> None:
    assert set(lineage(layout)) == {"medsweep.params_digest", "medsweep.version"}


def test_dvc_lock_names_data_and_outputs(layout: Layout) -> None:
    layout.dvc_lock.write_text(LOCK)
    found = lineage(layout)
    assert found["medsweep.data_digest"] == "aaaa.dir"
    layout.dvc_lock.write_text(LOCK.replace("dddd", "0000"))
    assert lineage(layout) == found  # the report is no prepared data
    layout.dvc_lock.write_text(LOCK.replace("cccc", "0000"))
    changed = lineage(layout)
    assert {name for name in found if found[name] != changed[name]} == {"medsweep.prepared_digest"}
    layout.dvc_lock.write_text(LOCK.replace("eeee", "0000"))
    changed = lineage(layout)
    assert {name for name in found if found[name] != changed[name]} == {"medsweep.augmented_digest"}


def test_what_changes_no_result_is_not_in_the_parameters_digest(layout: Layout) -> None:
    before = lineage(layout)
    layout.params.write_text(PARAMS.replace("demo", "other").replace("workers: 2", "workers: 9"))
    assert lineage(layout) == before
    layout.params.write_text(PARAMS.replace("seed: 7", "seed: 8"))
    assert lineage(layout) != before


def test_only_code_makes_a_commit_dirty(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    _git(layout, "init", "-q")
    (layout.root / "src").mkdir()
    (layout.root / "src/code.py").write_text("1")
    _git(layout, "add", ".")
    _git(layout, "commit", "-q", "-m", "first")
    layout.params.write_text(PARAMS.replace("seed: 7", "seed: 8"))
    found = lineage(layout)
    assert found["medsweep.git_sha"] == _git(layout, "rev-parse", "HEAD")
    assert found["medsweep.git_dirty"] == "false"
    (layout.root / "src/code.py").write_text("2")
    assert lineage(layout)["medsweep.git_dirty"] == "true"
    monkeypatch.setenv("DVC_EXP_NAME", "sunny-otter")
    assert lineage(layout)["medsweep.dvc_experiment"] == "sunny-otter"
    monkeypatch.setenv("PATH", str(layout.root))  # no git there
    assert "medsweep.git_sha" not in lineage(layout)
