"""The stage as a whole: what it writes, that rendered and read-time views are the same pixels, and its bytes."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from medsweep.artifacts.augmented import AugmentedViews
from medsweep.artifacts.prepared import PreparedSplit
from medsweep.augment import stage
from medsweep.errors import ArtifactError, ParamsError
from medsweep.imaging.transforms import TRANSFORMS, render
from medsweep.imaging.views import ViewRenderer
from medsweep.layout import Layout
from medsweep.params import Augment

EVERYTHING = {
    "horizontal_flip": {"probability": 0.5},
    "vertical_flip": {"probability": 0.5},
    "rotate": {"probability": 0.8, "degrees": 20},
    "crop": {"probability": 0.5, "low": 0.6, "aspect": 1.25},
    "gamma": {"probability": 0.5, "low": 0.7, "high": 1.4},
    "translate": {"probability": 0.8, "share": 0.1},
    "scale": {"probability": 0.8, "low": 0.85, "high": 1.15},
    "shear": {"probability": 0.5, "degrees": 5},
    "brightness": {"probability": 0.5, "delta": 0.1},
    "contrast": {"probability": 0.5, "low": 0.8, "high": 1.2},
    "blur": {"probability": 0.3, "low": 0, "high": 1},
    "noise": {"probability": 0.7, "deviation": 0.05},
    "cutout": {"probability": 0.3, "share": 0.1},
}
FLIP = {"horizontal_flip": {"probability": 1.0}}
N = 13


def split(dtype=np.uint8, channels=1, task="binary", n=N):
    rng = np.random.default_rng(3)
    value_range = 255 if dtype is np.uint8 else 65535
    classes = ("benign", "malignant") if task == "binary" else ("nodule", "effusion", "mass")
    labels = np.arange(n) % 2 if task == "binary" else (rng.random((n, 3)) < 0.5).astype(np.uint8)
    return PreparedSplit(
        name="train",
        images=rng.integers(0, value_range, (n, 16, 20, channels), endpoint=True).astype(dtype),
        labels=labels.astype(np.int64) if task == "binary" else labels,
        record_ids=np.array([f"r{index:03d}" for index in range(n)]),
        patient_ids=np.array([""] * n),
        class_names=classes,
        task=task,
        value_range=value_range,
        synthetic=True,
    )


def project(folder: Path, **kind) -> Layout:
    layout = Layout(folder, folder)
    split(**kind).save(layout.prepared_split("train"))
    return layout


def run(layout, policies, *, views=3, limit=100, seed=7):
    augment = Augment(seed=seed, views=views, render_limit_mb=limit, policies=policies)
    return stage.run(SimpleNamespace(augment=augment), layout, Console(file=io.StringIO()))


def contents(layout):
    folders = (layout.augmented, layout.augmentation_previews)
    return {
        path.relative_to(layout.root).as_posix(): path.read_bytes()
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_rendered_views_are_those_rendered_as_they_are_read(tmp_path, monkeypatch, dtype, channels):
    layout = project(tmp_path, dtype=dtype, channels=channels)
    train = PreparedSplit.load(layout.prepared_split("train"))
    run(layout, {"all": EVERYTHING}, limit=0)
    drawn = AugmentedViews.load(layout.augmented_policy("all"))
    monkeypatch.setattr(stage, "_SHARD_BYTES", train.images[0].nbytes * 5)
    run(layout, {"all": EVERYTHING}, limit=100)
    stored = AugmentedViews.load(layout.augmented_policy("all"))

    assert not drawn.rendered
    assert [len(shard) for shard in stored.shards] == [5] * 7 + [4]
    indices = np.random.default_rng(0).permutation(np.tile(np.arange(3 * N), 2))
    from_draws = ViewRenderer(drawn, train.images, train.value_range).rows(indices)
    from_shards = ViewRenderer(stored, train.images, train.value_range).rows(indices)
    assert from_draws.dtype == from_shards.dtype == dtype
    assert np.array_equal(from_draws, from_shards)
    for place, row in enumerate(indices[:10]):
        chain = [(TRANSFORMS[name], stored.draws[name][row].tolist()) for name in stored.transforms]
        assert np.array_equal(from_shards[place], render(train.images[row % N], chain, train.value_range))
    assert len(np.unique(from_shards.reshape(len(indices), -1), axis=0)) == 3 * N, "every view differs"


def test_rows_follow_view_times_n_plus_image(tmp_path):
    layout = project(tmp_path)
    run(layout, {"flip": FLIP}, views=2)
    train = PreparedSplit.load(layout.prepared_split("train"))
    views = AugmentedViews.load(layout.augmented_policy("flip"))
    renderer = ViewRenderer(views, train.images, train.value_range)
    assert len(renderer) == 2 * N
    assert np.array_equal(renderer.rows(np.array([3, N + 3])), train.images[[3, 3]][:, :, ::-1])
    assert renderer.rows(np.array([], dtype=np.int64)).shape == (0, 16, 20, 1)
    for row in (-1, 2 * N):
        with pytest.raises(IndexError):
            renderer.rows(np.array([row]))


def test_same_inputs_same_bytes_and_other_seed_other_bytes(tmp_path):
    policies = {"all": EVERYTHING, "flip": FLIP}
    first = project(tmp_path / "a")
    second = project(tmp_path / "b")
    run(first, policies)
    run(second, policies)
    assert contents(first) == contents(second)
    before = contents(first)
    run(first, policies)
    assert contents(first) == before
    run(first, policies, seed=8)
    changed = contents(first)
    assert changed["data/augmented/all/draws-rotate.npy"] != before["data/augmented/all/draws-rotate.npy"]
    assert changed["data/augmented/all/views-000.npy"] != before["data/augmented/all/views-000.npy"]


def test_another_policy_leaves_the_first_as_it_is_and_stale_ones_go(tmp_path):
    layout = project(tmp_path)
    run(layout, {"all": EVERYTHING})
    alone = contents(layout)
    run(layout, {"all": EVERYTHING, "flip": FLIP})
    both = contents(layout)
    assert {name: both[name] for name in alone} == alone
    assert set(both) - set(alone) == {
        "data/augmented/flip/draws-horizontal_flip.npy",
        "data/augmented/flip/views-000.npy",
        "data/augmented/flip/views.json",
        "reports/augmentation/flip.png",
    }
    (layout.augmented / ".all.123.part").mkdir()
    run(layout, {"all": EVERYTHING})
    assert contents(layout) == alone
    assert [path.name for path in layout.augmented.iterdir()] == ["all"]


def test_more_views_begin_with_the_earlier_ones(tmp_path):
    layout = project(tmp_path)
    run(layout, {"all": EVERYTHING}, views=2)
    few = np.array(AugmentedViews.load(layout.augmented_policy("all")).shards[0])
    run(layout, {"all": EVERYTHING}, views=4)
    many = AugmentedViews.load(layout.augmented_policy("all")).shards[0]
    assert np.array_equal(many[: 2 * N], few)


def test_the_first_policies_are_rendered_up_to_the_limit(tmp_path):
    # 1500 × 3 views × 320 bytes are 1.44 MB a policy.
    layout = project(tmp_path, n=1500)
    one_fits = run(layout, {"b": FLIP, "a": FLIP}, limit=2)
    assert [(each.name, each.rendered) for each in one_fits.policies] == [("a", True), ("b", False)]
    assert AugmentedViews.load(layout.augmented_policy("a")).rendered
    assert not AugmentedViews.load(layout.augmented_policy("b")).rendered
    lines = one_fits.lines()
    assert lines[0] == "3 views of each of 1500 training images."
    assert lines[1] == "a (horizontal_flip): rendered, 1.4 MB."
    assert "draws only" in lines[2]
    assert "augment.render_limit_mb (2)" in lines[2]
    assert lines[3] == "Previews: reports/augmentation."
    assert [each.rendered for each in run(layout, {"b": FLIP, "a": FLIP}, limit=3).policies] == [True, True]
    assert [each.rendered for each in run(layout, {"b": FLIP}, limit=1).policies] == [False]


def test_without_policies_the_outputs_exist_and_are_empty(tmp_path):
    layout = project(tmp_path)
    summary = run(layout, {})
    assert layout.augmented.is_dir()
    assert layout.augmentation_previews.is_dir()
    assert contents(layout) == {}
    assert "No policies" in summary.lines()[0]


def test_the_draws_name_the_training_split_and_refuse_another(tmp_path):
    layout = project(tmp_path)
    run(layout, {"all": EVERYTHING})
    train = PreparedSplit.load(layout.prepared_split("train"))
    views = AugmentedViews.load(layout.augmented_policy("all"))
    assert views.prepared_digest == train.digest
    assert views.settings["rotate"] == {"probability": 0.8, "degrees": 20}
    with pytest.raises(ArtifactError, match="drawn for 13 training images, but there are 12"):
        ViewRenderer(views, train.images[:12], 255)


def test_a_wrong_policy_is_found_before_anything_is_touched(tmp_path):
    layout = project(tmp_path)
    run(layout, {"all": EVERYTHING})
    before = contents(layout)
    with pytest.raises(ParamsError):
        run(layout, {"flip": FLIP, "bad": {"twirl": {}}})
    assert contents(layout) == before


def test_without_prepared_data_the_stage_to_run_is_named(tmp_path):
    with pytest.raises(ArtifactError, match="dvc repro prepare"):
        run(Layout(tmp_path, tmp_path), {"flip": FLIP})


@pytest.mark.parametrize("kind", [{"channels": 3, "task": "multilabel"}, {"dtype": np.uint16, "n": 2}])
def test_previews_are_pictures_for_any_kind_of_split(tmp_path, kind):
    import cv2

    layout = project(tmp_path, **kind)
    run(layout, {"all": EVERYTHING}, views=9)
    picture = cv2.imread(str(layout.augmentation_previews / "all.png"))
    assert picture is not None
    rows = min(kind.get("n", N), 6)
    assert abs(picture.shape[1] - (1.4 * 9 + 1.1) * 100) <= 1, "the original and eight of the nine views"
    lines = 1
    assert abs(picture.shape[0] - (1.4 * 17 / 21 * rows + 0.4 + 0.16 * lines) * 100) <= 1
    assert picture.std() > 10


def test_previews_show_every_class_in_turn():
    from medsweep.augment.figures import _chosen

    train = split()
    assert train.labels[_chosen(train)].tolist() == [0, 1, 0, 1, 0, 1]
    assert _chosen(split(n=3)).tolist() == [0, 1, 2]
    assert _chosen(split(task="multilabel")).tolist() == [0, 2, 5, 7, 10, 12]
