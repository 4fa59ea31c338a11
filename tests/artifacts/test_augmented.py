from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medsweep.artifacts.augmented import AugmentedViews, write_views
from medsweep.artifacts.files import digest_folder
from medsweep.errors import ArtifactError


def make(**changes: Any) -> AugmentedViews:
    rng = np.random.default_rng(5)
    known: dict[str, Any] = {
        "policy": "geometric",
        "n_images": 3,
        "n_views": 2,
        "transforms": ("rotate", "scale"),
        "settings": {"rotate": {"probability": 0.9, "degrees": 20}, "scale": {"probability": 0.5}},
        "draws": {"rotate": rng.normal(size=(6, 2)), "scale": rng.normal(size=(6, 3))},
        "shards": (),
        "prepared_digest": "d" * 64,
    }
    return AugmentedViews(**(known | changes))


def shards() -> Iterator[Any]:
    for rows in (4, 2):
        yield np.full((rows, 4, 5, 1), rows, np.uint8)


@pytest.mark.parametrize("rendered", [True, False])
def test_views_are_read_as_they_were_written(rendered: bool, tmp_path: Path) -> None:
    views = make()
    written = write_views(tmp_path / "geometric", views, shards=shards() if rendered else ())
    found = AugmentedViews.load(tmp_path / "geometric")
    assert found.digest == written.digest and len(found.digest) == 64
    assert found.rendered is rendered and views.rendered is False
    assert [each.shape for each in found.shards] == ([(4, 4, 5, 1), (2, 4, 5, 1)] if rendered else [])
    assert all(isinstance(each, np.memmap) for each in (*found.shards, *found.draws.values()))
    for name in ("policy", "n_images", "n_views", "transforms", "settings", "prepared_digest"):
        assert getattr(found, name) == getattr(views, name)
    assert all(np.array_equal(found.draws[name], views.draws[name]) for name in views.transforms)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"n_images": 0, "draws": {"rotate": np.zeros((0, 2)), "scale": np.zeros((0, 2))}}, "at least one"),
        ({"n_views": 0}, "at least one"),
        ({"draws": {"rotate": np.zeros((6, 2))}}, "every transform needs its draws"),
        ({"draws": {"rotate": np.zeros((6, 2)), "scale": np.zeros((5, 2))}}, r"\(N·V, P\)"),
        ({"draws": {"rotate": np.zeros((6, 2)), "scale": np.zeros(6)}}, r"\(N·V, P\)"),
        ({"shards": (np.zeros((4, 4, 5, 1), np.uint8),)}, "must be N·V rows"),
    ],
)
def test_views_that_break_a_rule_cannot_be_made(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ArtifactError, match=rf"augmented views 'geometric': .*{said}"):
        make(**changes)


def test_the_same_views_have_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_views(tmp_path / name, make(), shards=shards())
    assert digest_folder(tmp_path / "a") == digest_folder(tmp_path / "b")
    other = write_views(tmp_path / "c", make(prepared_digest="e" * 64), shards=shards())
    assert other.digest != AugmentedViews.load(tmp_path / "a").digest


@pytest.mark.parametrize("name", ["draws-rotate.npy", "views-001.npy"])
def test_a_file_that_was_changed_is_found(name: str, tmp_path: Path) -> None:
    write_views(tmp_path / "geometric", make(), shards=shards())
    path = tmp_path / "geometric" / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=rf"{name}: is not what the stage wrote.*dvc repro -f augment"):
        AugmentedViews.load(tmp_path / "geometric")


@pytest.mark.parametrize("change", [{"n_views": 1}, {"prepared_digest": "e" * 64}, {"digest": ""}])
def test_a_head_that_was_changed_is_found(change: dict[str, Any], tmp_path: Path) -> None:
    write_views(tmp_path / "geometric", make(), shards=())
    head = tmp_path / "geometric" / "views.json"
    head.write_text(json.dumps(json.loads(head.read_text()) | change))
    with pytest.raises(ArtifactError, match=r"views\.json: is not what the stage wrote"):
        AugmentedViews.load(tmp_path / "geometric")


def test_an_interrupted_write_leaves_the_views_that_were_there(tmp_path: Path) -> None:
    before = write_views(tmp_path / "geometric", make(), shards=shards()).digest

    def interrupted() -> Iterator[Any]:
        yield next(shards())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_views(tmp_path / "geometric", make(n_views=2), shards=interrupted())
    assert AugmentedViews.load(tmp_path / "geometric").digest == before
    assert [each.name for each in tmp_path.iterdir()] == ["geometric"]
