from __future__ import annotations

import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from medsweep import params
from medsweep.errors import DataError, MedsweepError, ParamsError
from medsweep.imaging.decode import Decoder
from medsweep.sources.catalog import SOURCES, ImageSource, open_source
from medsweep.sources.tree import LEAVES, LINKED_FOLDER

SHARED = Path(__file__).parents[3] / "shared" / "data"


def opened(root: Path, **settings: Any) -> ImageSource:
    return open_source(params.Source.model_validate({"kind": "folder", "path": "raw", **settings}), root)


def fill(root: Path, *names: str) -> Path:
    for name in names:
        path = root / "raw" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return root


def told(source: ImageSource) -> list[tuple[str, Any, str | None, str | None]]:
    return [(record.path.name, record.label, record.split, record.patient_id) for record in source.records()]


def test_one_folder_a_class(tmp_path: Path) -> None:
    fill(tmp_path, "b/2.PNG", "b/1.jpg", "a/sub/3.tiff", "a/0.npy", "a/.hidden.png", "a/notes.txt", "readme.md")
    source = opened(tmp_path)
    assert told(source) == [
        ("0.npy", 0, None, None),
        ("3.tiff", 0, None, None),
        ("1.jpg", 1, None, None),
        ("2.PNG", 1, None, None),
    ]
    assert (source.class_names, source.task, len(source)) == (("a", "b"), "binary", 4)
    assert source.read(next(source.records())) is None
    assert told(pickle.loads(pickle.dumps(source))) == told(source)
    assert source.settings["classes"] == ["a", "b"]


@pytest.mark.parametrize("val", ["val", "valid", "validation", "Val"])
def test_split_folders_are_kept(tmp_path: Path, val: str) -> None:
    fill(tmp_path, "train/a/1.png", f"{val}/a/2.png", f"{val}/b/3.png", "train/b/4.png", "test/b/5.png")
    assert told(opened(tmp_path)) == [
        ("1.png", 0, "train", None),
        ("4.png", 1, "train", None),
        ("2.png", 0, "val", None),
        ("3.png", 1, "val", None),
        ("5.png", 1, "test", None),
    ]


def test_numbers_are_sorted_by_value(tmp_path: Path) -> None:
    fill(tmp_path, "10/1.png", "2/1.png", "1/1.png")
    assert opened(tmp_path, task="ordinal").class_names == ("1", "2", "10")
    assert opened(tmp_path).task == "multiclass"


def test_classes_choose_order_and_what_is_left_over_is_listed(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.png", "b/2.png", "c/3.png")
    source = opened(tmp_path, classes=["c", "a"])
    assert source.class_names == ("c", "a")
    assert [record.label for record in source.records()] == [1, 0]
    assert [(Path(each.name).name, each.label) for each in source.unknown_labels] == [("2.png", "b")]
    assert opened(tmp_path, classes=["a", "b"], positive="a").class_names == ("b", "a")


def test_patients_are_read_from_file_names(tmp_path: Path) -> None:
    fill(tmp_path, "a/p12_1.png", "b/p7_1.png")
    assert [record.patient_id for record in opened(tmp_path, patient_pattern=r"^(p\d+)_").records()] == ["p12", "p7"]
    fill(tmp_path, "b/other.png")
    with pytest.raises(DataError, match=r"other\.png: the file name tells no patient"):
        list(opened(tmp_path, patient_pattern=r"^(p\d+)_").records())


@pytest.mark.parametrize(
    ("names", "settings", "said"),
    [
        ([], {}, r"raw: does not exist"),
        (["readme.md"], {}, r"raw: holds no folders"),
        (["a/1.png", "b/notes.txt"], {}, r"raw/b: the folder of the class 'b' holds no images"),
        (["train/a/1.png", "train/b/1.png", "test/a/1.png", "test/b/x"], {}, r"raw/test/b: .* 'b' holds no images"),
        (["a/1.png"], {}, r"raw: 1 class was found"),
        (["train/1.png"], {}, r"raw/train: holds no class folders"),
        (["train/a/1.png", "extra/1.png"], {}, r"raw: the folders extra stand beside"),
        (["val/a/1.png", "valid/a/1.png"], {}, r"raw: two folders stand for the same split"),
        (["a/1.png", "b/1.png"], {"classes": ["a", "z"]}, r"raw: there is no class 'z'.*Found: a, b"),
        (["a/1.png", "b/1.png"], {"positive": "z"}, r"prepare\.source\.positive: 'z' must be one of"),
        (["a/1.png", "b/1.png"], {"classes": ["a", "a"]}, r"prepare\.source\.classes: names a class twice"),
        (["a/1.png", "b/1.png", "c/1.png"], {"task": "binary"}, r"prepare\.source\.task: a binary task has two"),
        (["a/1.png", "b/1.png"], {"task": "ordinal"}, r"prepare\.source\.task: an ordinal task needs"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(
    tmp_path: Path, names: list[str], settings: dict[str, Any], said: str
) -> None:
    fill(tmp_path, *names)
    with pytest.raises(MedsweepError, match=said) as caught:
        opened(tmp_path, **settings)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"klasses": []}, r"prepare\.source\.klasses: unknown key"),
        ({"task": "regression"}, r"prepare\.source\.task: "),
        ({"patient_pattern": "("}, r"prepare\.source\.patient_pattern: is no regular expression"),
        ({"patient_pattern": r"p\d+"}, r"prepare\.source\.patient_pattern: must have exactly one group"),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ParamsError, match=rf"params\.yaml: {said}"):
        opened(tmp_path, **settings)


def refused(source: ImageSource) -> dict[str, str]:
    found = {}
    for record in source.records():
        try:
            source.read(record)
        except DataError as error:
            found[record.path.as_posix().partition("/raw/")[2]] = error.message
    return found


def test_links_may_not_lead_out(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.png", "b/2.png")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "3.png").write_bytes(b"x")
    link = tmp_path / "raw" / "b" / "3.png"
    link.symlink_to(tmp_path / "raw" / "a" / "1.png")
    assert refused(opened(tmp_path)) == {}
    link.unlink()
    link.symlink_to(outside / "3.png")
    assert refused(opened(tmp_path)) == {"b/3.png": LEAVES}
    link.unlink()
    link.symlink_to(link)
    (tmp_path / "raw" / "c").symlink_to(outside)
    (tmp_path / "raw" / "a" / "more").symlink_to(outside)
    source = opened(tmp_path)
    assert refused(source) == {"a/more": LINKED_FOLDER, "b/3.png": "is a link that leads nowhere.", "c": LEAVES}
    assert len(source) == 5  # what is refused is counted


def test_links_into_a_dvc_cache_are_followed(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.png", "b/2.png")
    stored = tmp_path / "cache" / "files" / "md5" / "ab" / ("0" * 30)
    stored.parent.mkdir(parents=True)
    stored.write_bytes(b"x")
    (tmp_path / "raw" / "b" / "3.png").symlink_to(stored)
    assert len(opened(tmp_path)) == 3


def test_an_unknown_kind_is_answered_with_the_valid_ones(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=rf"prepare\.source\.kind: .*'zip'.*{', '.join(SOURCES)}"):
        open_source(params.Source(kind="zip", path="raw"), tmp_path)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real images of ../shared/data are absent")
def test_real_folders() -> None:
    chest = opened(SHARED, path="cxr_kermany_224")
    counts = Counter((record.split, record.label) for record in chest.records())
    assert chest.class_names == ("NORMAL", "PNEUMONIA")
    assert counts == {("train", 0): 1341, ("train", 1): 3875, ("test", 0): 234, ("test", 1): 390}
    decode = Decoder(params.Limits(megapixels=1, file_mb=1, memory_mb=64, seconds=60), "file").decode
    assert decode(next(chest.records()).path).pixels.shape == (224, 224, 3)
    six = opened(SHARED, path="mednist_64_subset")
    assert (len(six), len(six.class_names), six.task) == (1800, 6, "multiclass")
    assert decode(next(six.records()).path).pixels.shape == (64, 64)
