"""What names a model: a path, the workspace, a Git revision through DVC's cache, or nothing."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from hashlib import md5
from pathlib import Path
from typing import Any

import pytest

from medsweep.artifacts.predicted import PredictedSplit
from medsweep.compare.address import WORKSPACE, find, needs_store
from medsweep.errors import ArtifactError, DataError, ParamsError
from medsweep.layout import Layout

Make = Callable[..., PredictedSplit]


def git(root: Path, *arguments: str) -> None:
    subprocess.run(["git", "-c", "user.name=n", "-c", "user.email=e@x", *arguments], cwd=root, check=True, timeout=60)


@pytest.fixture
def revisions(project: Any, predict: Make) -> Layout:
    """A project whose first commit has predictions in DVC's cache; the workspace has others."""
    layout: Layout = project().layout
    layout.reports.mkdir()
    predict(1.0).save(layout.predictions)
    content = layout.predictions.read_bytes()
    digest = md5(content).hexdigest()
    cached = layout.root / ".dvc" / "cache" / "files" / "md5" / digest[:2] / digest[2:]
    cached.parent.mkdir(parents=True)
    cached.write_bytes(content)
    (layout.root / ".dvc" / "config").write_text("[core]\n    analytics = false\n")
    layout.dvc_lock.write_text(
        f"stages:\n  evaluate:\n    outs:\n    - path: reports/predictions.csv\n      md5: {digest}\n"
    )
    git(layout.root, "init", "-q")
    git(layout.root, "add", "dvc.lock")
    git(layout.root, "commit", "-qm", "first")
    git(layout.root, "tag", "v1")
    predict(3.0).save(layout.predictions)
    return layout


def test_workspace_paths_and_revisions(
    revisions: Layout, predict: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def value(address: str) -> float:
        return float(find(address, revisions, "demo", tmp_path).predicted.probabilities[0, 0])

    old, new = (float(predict(strength).probabilities[0, 0]) for strength in (1.0, 3.0))
    assert value(WORKSPACE) == value(str(revisions.reports)) == value(str(revisions.predictions)) == pytest.approx(new)
    git(revisions.root, "update-ref", "refs/exps/12/3456/wavy-sunn", "HEAD")
    assert value("v1") == value("HEAD") == value("wavy-sunn") == pytest.approx(old)
    # A cache of its own place.
    moved = revisions.root / "elsewhere"
    (revisions.root / ".dvc" / "cache").rename(moved)
    with pytest.raises(DataError, match="not in DVC's cache"):
        value("v1")
    (revisions.root / ".dvc" / "config.local").write_text("[cache]\n    dir = ../elsewhere\n")
    assert value("v1") == pytest.approx(old)


def test_what_names_nothing_is_refused(revisions: Layout, tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="'nothing' is no version, alias, path, Git revision or experiment"):
        find("nothing", revisions, "demo", tmp_path)
    with pytest.raises(ParamsError, match="is no version"):
        find("--output=x", revisions, "demo", tmp_path)
    with pytest.raises(ArtifactError, match="does not exist"):
        find(str(tmp_path), revisions, "demo", tmp_path)
    assert not needs_store(WORKSPACE) and not needs_store(str(tmp_path)) and needs_store("3") and needs_store("HEAD~1")


def test_a_revision_that_recorded_no_predictions(revisions: Layout, tmp_path: Path) -> None:
    revisions.dvc_lock.write_text("stages: {}\n")
    git(revisions.root, "commit", "-qam", "second")
    with pytest.raises(DataError, match="names no reports"):
        find("HEAD", revisions, "demo", tmp_path)
