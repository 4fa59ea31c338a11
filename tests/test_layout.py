from __future__ import annotations

from pathlib import Path

import pytest

from medsweep.errors import MedsweepError
from medsweep.layout import SPLITS, Layout


def _project(root: Path) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    (root / "params.yaml").write_text("experiment: demo\n")
    (root / "dvc.yaml").write_text("stages: {}\n")
    return root.resolve()


def test_it_is_found_from_any_folder_below(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = _project(tmp_path / "a project")
    below = root / "data" / "raw"
    below.mkdir(parents=True)
    assert Layout.find(root) == Layout.find(below) == Layout(root, root)
    monkeypatch.chdir(below)
    assert Layout.find().root == root
    monkeypatch.chdir(root)
    assert Layout.find(Path("data")).root == root


def test_the_nearest_project_counts(tmp_path: Path) -> None:
    _project(tmp_path)
    inner = _project(tmp_path / "inner")
    assert Layout.find(inner).root == inner


@pytest.mark.parametrize("present", ["params.yaml", "dvc.yaml", None])
def test_half_a_project_is_none(present: str | None, tmp_path: Path) -> None:
    if present is not None:
        (tmp_path / present).write_text("{}\n")
    with pytest.raises(MedsweepError, match=r"no medsweep project .* params\.yaml and dvc\.yaml") as raised:
        Layout.find(tmp_path)
    assert raised.value.where == str(tmp_path.resolve())


def test_a_throw_away_copy_keeps_its_work_in_the_project_it_was_made_from(tmp_path: Path) -> None:
    home = _project(tmp_path / "project")
    copy = _project(home / ".dvc" / "tmp" / "exps" / "tmp1234")
    found = Layout.find(copy)
    assert (found.root, found.home) == (copy, home)
    inside_home = (found.store, found.store_artifacts, found.state, found.private, found.lock("train"))
    assert all(path.is_relative_to(home) and not path.is_relative_to(copy) for path in inside_home)
    inside_copy = (found.params, found.model, found.metrics, found.prepared_split("train"), found.search_log)
    assert all(path.is_relative_to(copy) for path in inside_copy)
    # A folder that merely looks alike is its own home.
    other = _project(tmp_path / "dvc" / "tmp" / "exps" / "tmp1")
    assert Layout.find(other).home == other


def test_no_two_things_share_a_path(tmp_path: Path) -> None:
    layout = Layout(tmp_path, tmp_path)
    paths = [value for name in dir(Layout) if isinstance(value := getattr(layout, name), Path) and name != "home"]
    assert len(paths) > 20
    assert len({*paths}) == len(paths)
    assert len({layout.prepared_split(split) for split in SPLITS}) == 3
    assert layout.work("train", "a") != layout.work("train", "b") != layout.work("evaluate", "b")


def test_paths_are_told_from_the_root(tmp_path: Path) -> None:
    layout = Layout(tmp_path.resolve(), tmp_path.resolve())
    assert layout.relative(layout.model) == "models/model.keras"
    assert layout.relative(tmp_path / "data" / ".." / "params.yaml") == "params.yaml"
    assert layout.relative(Path("/elsewhere/x.png")) == "/elsewhere/x.png"
