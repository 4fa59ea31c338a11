from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medsweep import params
from medsweep.errors import DataError, MedsweepError, ParamsError
from medsweep.sources import medmnist as module
from medsweep.sources.catalog import ImageSource, open_source
from medsweep.sources.medmnist_catalog import MEDMNIST, SIZES

SHARED = Path(__file__).parents[3] / "shared" / "data"
RNG = np.random.default_rng(0)


def opened(root: Path, path: str, **settings: Any) -> ImageSource:
    return open_source(params.Source.model_validate({"kind": "medmnist", "path": path, **settings}), root)


def arrays(classes: int = 2, shape: tuple[int, ...] = (28, 28), width: int = 1, **sizes: int) -> dict[str, np.ndarray]:
    found = {}
    for split, size in (sizes or {"train": 8, "val": 3, "test": 4}).items():
        found[f"{split}_images"] = RNG.integers(0, 256, (size, *shape), dtype=np.uint8)
        labels = RNG.integers(0, 2, (size, width)) if width > 1 else (np.arange(size) % classes)[:, None]
        found[f"{split}_labels"] = labels.astype(np.uint8)
    return found


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_images_labels_and_splits_come_back_exactly(tmp_path: Path, save: Any) -> None:
    stored = arrays()
    save(tmp_path / "pneumoniamnist.npz", **stored)
    source = opened(tmp_path, "pneumoniamnist.npz")
    records = list(source.records())
    assert (source.class_names, source.task, len(source)) == (("normal", "pneumonia"), "binary", 15)
    assert [record.split for record in records] == ["train"] * 8 + ["val"] * 3 + ["test"] * 4
    every = np.concatenate([stored[f"{split}_images"] for split in ("train", "val", "test")])
    labels = np.concatenate([stored[f"{split}_labels"][:, 0] for split in ("train", "val", "test")])
    assert [record.label for record in records] == labels.tolist()
    for record in [*records, *reversed(records)]:
        image = source.read(record)
        assert image is not None
        np.testing.assert_array_equal(image.pixels, every[record.frame])
        assert image.largest == 255
    assert len({source.read(record).content for record in records}) == 15
    copy = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(copy.read(records[9]).pixels, every[9])


def test_reading_goes_block_by_block_in_any_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK_BYTES", 3 * 64 * 64 * 3)
    stored = arrays(classes=9, shape=(64, 64, 3), train=20)
    np.savez_compressed(tmp_path / "pathmnist_64.npz", **stored)
    source = opened(tmp_path, "pathmnist_64.npz")
    records = list(source.records())
    for index in (0, 1, 5, 19, 2, 18, 0):
        np.testing.assert_array_equal(source.read(records[index]).pixels, stored["train_images"][index])
    assert (len(source.class_names), source.task) == (9, "multiclass")


def test_multilabel_and_ordinal_sets_are_known(tmp_path: Path) -> None:
    stored = arrays(width=14)
    np.savez(tmp_path / "chestmnist.npz", **stored)
    source = opened(tmp_path, "chestmnist.npz")
    assert (source.task, len(source.class_names)) == ("multilabel", 14)
    assert next(source.records()).label == tuple(stored["train_labels"][0].tolist())
    np.savez(tmp_path / "retinamnist.npz", **arrays(classes=5, shape=(28, 28, 3)))
    assert opened(tmp_path, "retinamnist.npz").task == "ordinal"


def test_a_name_overrules_the_file_name_and_a_folder_with_one_file_will_do(tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", **arrays())
    assert opened(tmp_path, "mine.npz", name="breastmnist").class_names == ("malignant", "normal, benign")
    assert opened(tmp_path, ".").class_names == ("0", "1")
    np.savez(tmp_path / "breastmnist_64.npz", **arrays())
    assert opened(tmp_path, ".", name="breastmnist").settings["name"] == "breastmnist"
    with pytest.raises(DataError, match=r"holds breastmnist_64\.npz, mine\.npz"):
        opened(tmp_path, ".")


def test_a_link_in_the_folder_may_not_lead_out(tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", **arrays())
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "mine.npz").symlink_to(tmp_path / "mine.npz")
    with pytest.raises(DataError, match=r"raw/mine\.npz: is a link that leads out"):
        opened(tmp_path, "raw")


def test_nothing_of_an_archive_is_unpacked_to_the_disk(tmp_path: Path) -> None:
    folder = tmp_path / "raw"
    folder.mkdir()
    np.savez(folder / "mine.npz", **arrays())
    with zipfile.ZipFile(folder / "mine.npz", "a") as archive:
        for name in ("../evil.npy", "/evil.npy", "evil.npy"):
            archive.writestr(name, b"evil")
    source = opened(tmp_path, "raw")
    for record in source.records():
        source.read(record)
    assert sorted(tmp_path.rglob("*")) == [folder, folder / "mine.npz"]


def test_unknown_files_take_their_classes_from_the_labels_or_from_params(tmp_path: Path) -> None:
    stored = arrays(classes=3)
    stored["train_labels"] = stored["train_labels"] * 5
    stored["val_labels"] = stored["val_labels"] * 5
    stored["test_labels"] = stored["test_labels"] * 5
    np.savez(tmp_path / "mine.npz", **stored)
    source = opened(tmp_path, "mine.npz")
    assert (source.class_names, source.task) == (("0", "5", "10"), "multiclass")
    assert [record.label for record in source.records()][:4] == [0, 1, 2, 0]
    assert opened(tmp_path, "mine.npz", task="ordinal").task == "ordinal"
    np.savez(tmp_path / "named.npz", **arrays(classes=3))
    source = opened(tmp_path, "named.npz", classes=["x", "y"])
    assert (source.class_names, len(source)) == (("x", "y"), 11)
    assert [each.label for each in source.unknown_labels] == ["2"] * 4


def test_16_bits_and_missing_splits(tmp_path: Path) -> None:
    images = RNG.integers(0, 65536, (6, 20, 20), dtype=np.uint16)
    np.savez(tmp_path / "mine.npz", train_images=images, train_labels=np.arange(6) % 2)
    source = opened(tmp_path, "mine.npz")
    image = source.read(list(source.records())[4])
    np.testing.assert_array_equal(image.pixels, images[4])
    assert image.largest == 65535


def forged(path: Path, announced: tuple[int, ...]) -> None:
    """An npz whose image header announces more than it holds."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": announced})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("train_images.npy", stream.getvalue() + b"\0" * 100)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"train_labels": None}, "has train_images but no train_labels"),
        ({"train_labels": np.zeros((5, 1), np.uint8)}, "has 8 train_images and 5 train_labels"),
        ({"train_labels": np.zeros((8, 3), np.uint8)}, "train_labels has 3 columns"),
        ({"train_labels": np.zeros((8, 1))}, "train_labels.npy must hold whole numbers"),
        ({"train_labels": np.array([{}] * 8, dtype=object)}, "train_labels.npy must be a plain"),
        ({"train_images": np.zeros((8, 28, 28), np.float32)}, "train_images.npy has the shape"),
        ({"train_images": np.zeros((8, 28, 28, 28), np.uint8)}, "train_images.npy has the shape"),
        ({"train_images": np.array([{}] * 8, dtype=object)}, "train_images.npy must be a plain"),
    ],
)
def test_another_layout_is_refused_in_one_line(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    stored = {name: value for name, value in (arrays() | change).items() if value is not None}
    np.savez(tmp_path / "pneumoniamnist.npz", **stored)
    with pytest.raises(DataError, match=said) as caught:
        opened(tmp_path, "pneumoniamnist.npz")
    assert "\n" not in str(caught.value)
    assert "pneumoniamnist.npz" in str(caught.value)


def test_damaged_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    with pytest.raises(DataError, match=r"x\.npz: does not exist.*medsweep fetch"):
        opened(tmp_path, "x.npz")
    path.write_bytes(b"PK\x03\x04 not a zip")
    with pytest.raises(DataError, match=r"x\.npz: is damaged or is no npz"):
        opened(tmp_path, "x.npz")
    np.savez(path, something=np.zeros(3))
    with pytest.raises(DataError, match=r"is not laid out as MedMNIST.*something\.npy"):
        opened(tmp_path, "x.npz")
    forged(path, (1000, 28, 28))
    with pytest.raises(DataError, match=r"train_images\.npy announces \(1000, 28, 28\)"):
        opened(tmp_path, "x.npz")
    np.savez_compressed(path, **arrays(train=500))
    data = bytearray(path.read_bytes())
    data[2000:60_000] = bytes(58_000)
    path.write_bytes(bytes(data))
    source = opened(tmp_path, "x.npz")
    with pytest.raises(DataError, match="is damaged"):
        for record in source.records():
            source.read(record)


def test_announced_sizes_are_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "bomb.npz", **arrays())
    monkeypatch.setattr(module, "_MAX_IMAGE_BYTES", 1000)
    with pytest.raises(DataError, match=r"train_images\.npy announces \d+ bytes; at most 1000"):
        opened(tmp_path, "bomb.npz")


def test_wrong_settings_are_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "pneumoniamnist.npz", **arrays())
    for settings, said in (
        ({"nam": "x"}, r"prepare\.source\.nam: unknown key"),
        ({"name": "x"}, r"prepare\.source\.name: unknown MedMNIST set 'x'.*retinamnist"),
        ({"classes": ["a", "b"]}, r"prepare\.source: the catalogue has classes"),
    ):
        with pytest.raises(ParamsError, match=said):
            opened(tmp_path, "pneumoniamnist.npz", **settings)
    with pytest.raises(MedsweepError, match=r"prepare\.source\.task: the labels are \(N, 1\)"):
        np.savez(tmp_path / "mine.npz", **arrays())
        opened(tmp_path, "mine.npz", task="multilabel")


def test_the_catalogue_is_complete() -> None:
    assert len(MEDMNIST) == 12
    for name, row in MEDMNIST.items():
        assert tuple(row.md5) == SIZES
        assert all(len(md5) == 32 and int(md5, 16) for md5 in row.md5.values())
        assert (len(row.class_names) == 2) == (row.task == "binary")
        assert row.url(name, 28).endswith(f"/{name}.npz?download=1")
        assert row.url(name, 224).endswith(f"/{name}_224.npz?download=1")
    assert len({md5 for row in MEDMNIST.values() for md5 in row.md5.values()}) == 48


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real images of ../shared/data are absent")
def test_the_real_set() -> None:
    source = opened(SHARED, "pneumoniamnist/pneumoniamnist.npz")
    records = list(source.records())
    assert len(records) == sum(MEDMNIST["pneumoniamnist"].counts)
    with np.load(SHARED / "pneumoniamnist" / "pneumoniamnist.npz") as stored:
        for index in (0, 4707, 4708, 5855):
            every = [stored[f"{split}_images"] for split in ("train", "val", "test")]
            np.testing.assert_array_equal(source.read(records[index]).pixels, np.concatenate(every)[index])
