from __future__ import annotations

import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from medsweep import params
from medsweep.errors import DataError, MedsweepError, ParamsError
from medsweep.sources.catalog import ImageSource, open_source
from medsweep.sources.tree import LEAVES, OUTSIDE

SHARED = Path(__file__).parents[3] / "shared" / "data"


def opened(root: Path, **settings: Any) -> ImageSource:
    return open_source(params.Source.model_validate({"kind": "table", "path": "raw", **settings}), root)


def write(root: Path, *lines: str, name: str = "manifest.csv", images: int = 4) -> Path:
    folder = root / "raw"
    folder.mkdir(exist_ok=True)
    for index in range(images):
        (folder / f"{index}.png").write_bytes(b"x")
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8-sig")
    return root


def test_columns_with_the_usual_names_need_no_keys(tmp_path: Path) -> None:
    write(
        tmp_path,
        "path,label,patient_id,split,sex",
        "0.png,sick,p1,train,f",
        "1.png,fine,p2,Validation,m",
        "2.png,sick,,test,f",
        "3.png,fine,p1,,",
    )
    source = opened(tmp_path, columns=["sex"])
    records = list(source.records())
    assert [record.label for record in records] == [1, 0, 1, 0]
    assert [record.patient_id for record in records] == ["p1", "p2", None, "p1"]
    assert [record.split for record in records] == ["train", "val", "test", None]
    assert [dict(record.columns) for record in records] == [{"sex": "f"}, {"sex": "m"}, {"sex": "f"}, {"sex": ""}]
    assert records[0].path == tmp_path / "raw" / "0.png"
    assert (source.class_names, source.task, len(source)) == (("fine", "sick"), "binary", 4)
    assert (source.settings["patient_column"], source.settings["split_column"]) == ("patient_id", "split")
    assert [each.label for each in pickle.loads(pickle.dumps(source)).records()] == [1, 0, 1, 0]
    assert {record.split for record in opened(tmp_path, split_column="").records()} == {None}


def test_every_column_can_be_named(tmp_path: Path) -> None:
    write(tmp_path, "file,dx,person,part,hospital", "0.png,x,p1,train,A", "1.png,y,p2,test,B", name="list.csv")
    (tmp_path / "list.csv").write_text((tmp_path / "raw" / "list.csv").read_text())
    source = opened(
        tmp_path,
        path="list.csv",
        images="raw",
        image_column="file",
        label_column="dx",
        positive="x",
        patient_column="person",
        split_column="part",
        site_column="hospital",
    )
    first, second = source.records()
    assert first.path == tmp_path / "raw" / "0.png"
    assert source.class_names == ("y", "x")
    assert (first.label, first.patient_id, first.split, first.columns) == (1, "p1", "train", {"hospital": "A"})
    assert (second.label, second.split) == (0, "test")
    assert len(opened(tmp_path, file="list.csv", image_column="file", label_column="dx")) == 2


def test_labels_outside_the_classes_are_listed(tmp_path: Path) -> None:
    write(tmp_path, "path,label", "0.png,a", "1.png,b", "2.png,", "3.png,c")
    source = opened(tmp_path, classes=["b", "a"])
    assert [record.label for record in source.records()] == [1, 0]
    assert len(source) == 2
    assert [(each.name, each.label) for each in source.unknown_labels] == [("2.png", ""), ("3.png", "c")]


def test_several_labels_in_one_column(tmp_path: Path) -> None:
    write(tmp_path, "path,label", "0.png,mass|edema", "1.png,", "2.png,nodule", "3.png,edema | mass")
    source = opened(tmp_path, label_separator="|")
    assert (source.class_names, source.task) == (("edema", "mass", "nodule"), "multilabel")
    assert [record.label for record in source.records()] == [(1, 1, 0), (0, 0, 0), (0, 0, 1), (1, 1, 0)]
    source = opened(tmp_path, label_separator="|", classes=["mass", "edema"])
    assert [record.label for record in source.records()] == [(1, 1), (0, 0), (1, 1)]
    assert [each.label for each in source.unknown_labels] == ["nodule"]


def test_one_column_a_label(tmp_path: Path) -> None:
    write(tmp_path, "path,mass,edema", "0.png,1,0", "1.png,0,1.0", "2.png,-1,0", "3.png,0,0")
    source = opened(tmp_path, label_columns=["edema", "mass"])
    assert (source.class_names, source.task) == (("edema", "mass"), "multilabel")
    assert [record.label for record in source.records()] == [(0, 1), (1, 0), (0, 0)]
    assert [(each.name, each.label) for each in source.unknown_labels] == [("2.png", "mass=-1")]


def test_grades_are_ordinal_by_value(tmp_path: Path) -> None:
    write(tmp_path, "path,label", "0.png,10", "1.png,2", "2.png,1")
    source = opened(tmp_path, task="ordinal")
    assert (source.class_names, source.task) == (("1", "2", "10"), "ordinal")


@pytest.mark.parametrize(
    ("lines", "settings", "said"),
    [
        (
            ["path,dx", "0.png,a"],
            {},
            r"manifest\.csv: has no column 'label', which prepare\.source\.label_column .*"
            r"Its columns are: path, dx",
        ),
        (["file,label", "0.png,a"], {}, r"no column 'path', which prepare\.source\.image_column"),
        (["path,label", "0.png,a"], {"patient_column": "who"}, r"no column 'who', which prepare\.source\.patient_col"),
        (["path,label", "0.png,a"], {"columns": ["age"]}, r"no column 'age', which prepare\.source\.columns"),
        (
            ["path,label", "away.png,a", "gone.png,b"],
            {},
            r"manifest\.csv: names image files that do not exist.*gone\.png",
        ),
        (["path,label", "gone.png,a", ",b"], {}, r"empty, data row 2"),
        (["path,label", "0.png,a", "1.png,a"], {}, r"column 'label': 1 class was found"),
        (["path,label", "0.png,a", "1.png"], {}, r"data row 2 has 1 fields where the header has 2"),
        (["path,label,split", "0.png,a,train", "1.png,b,holdout"], {}, r"data row 2 has 'holdout' in the column 'spl"),
        (["path,label,label", "0.png,a,b"], {}, r"names the column 'label' twice"),
        (["path,label", "0.png,a", "1.png,b"], {"classes": ["a", "z"]}, r"there is no class 'z'.*Found: a, b"),
        (["path,label", "0.png,a", "1.png,b"], {"file": "other.csv"}, r"raw/other\.csv: does not exist"),
        (["path,label", '0.png,"a', "1.png,b"], {}, r"is not a CSV"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(
    tmp_path: Path, lines: list[str], settings: dict[str, Any], said: str
) -> None:
    write(tmp_path, *lines)
    with pytest.raises(MedsweepError, match=said) as caught:
        opened(tmp_path, **settings)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, DataError)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"lable_column": "x"}, r"prepare\.source\.lable_column: unknown key"),
        ({"label_separator": "|", "label_columns": ["a", "b"]}, r"prepare\.source: label_separator and label_columns"),
        ({"task": "multilabel"}, r"prepare\.source: a multilabel task needs"),
        ({"label_columns": ["a"]}, r"prepare\.source: label_columns must name two"),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ParamsError, match=rf"params\.yaml: {said}"):
        opened(tmp_path, **settings)


def test_single_missing_files_are_left_to_the_reader_to_refuse(tmp_path: Path) -> None:
    write(tmp_path, "path,label", "0.png,a", "gone.png,b", ",b")
    source = opened(tmp_path)
    assert [record.path.is_file() for record in source.records()] == [True, False, False] and len(source) == 3


def test_a_missing_or_binary_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"raw: does not exist"):
        opened(tmp_path)
    (tmp_path / "raw").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"raw: is not a CSV in UTF-8"):
        opened(tmp_path)
    (tmp_path / "raw").write_bytes(b"")
    with pytest.raises(DataError, match=r"raw: is empty"):
        opened(tmp_path)


def test_images_outside_the_folder_are_refused(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "5.png").write_bytes(b"x")
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "folder").symlink_to(outside)
    (raw / "link.png").symlink_to(outside / "5.png")
    (raw / "inside.png").symlink_to(raw / "0.png")
    names = ["0.png", "inside.png", str(raw / "1.png"), "x/../2.png"]
    away = ["../outside/5.png", str(outside / "5.png"), "folder/5.png", "link.png"]
    (raw / "x").mkdir()
    write(tmp_path, "path,label", *(f"{name},{'ab'[index % 2]}" for index, name in enumerate([*names, *away])))
    source = opened(tmp_path)
    refused = {}
    for record in source.records():
        try:
            source.read(record)
        except DataError as error:
            refused[record.path] = error.message
    assert refused == {raw / name: LEAVES if name == "link.png" else OUTSIDE for name in away}


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real images of ../shared/data are absent")
def test_the_real_table() -> None:
    source = opened(SHARED, path="cxr_kermany_224", columns=["subtype"])
    records = list(source.records())
    assert (len(records), source.class_names, source.task) == (5840, ("NORMAL", "PNEUMONIA"), "binary")
    assert Counter(record.split for record in records) == {"train": 5216, "test": 624}
    assert len({record.patient_id for record in records}) == 4082
    assert {record.columns["subtype"] for record in records} == {"normal", "bacteria", "virus"}
