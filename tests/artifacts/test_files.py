from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from medsweep.artifacts import files
from medsweep.errors import ArtifactError


class Pulled(BaseException):
    """What a plug that was pulled looks like from inside."""


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "a.txt"
    files.write_text(path, "old")
    with pytest.raises(Pulled), files.replacing(path) as temporary:
        temporary.write_text("half of the n")
        raise Pulled
    assert path.read_text() == "old"
    assert [each.name for each in path.parent.iterdir()] == ["a.txt"]


def test_an_interrupted_folder_leaves_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "split"
    with files.replacing_folder(folder) as temporary:
        (temporary / "inner").mkdir()
        (temporary / "inner" / "old.txt").write_text("old")
    with pytest.raises(Pulled), files.replacing_folder(folder) as temporary:
        (temporary / "new.txt").write_text("half")
        raise Pulled
    assert [each.name for each in tmp_path.iterdir()] == ["split"]
    assert (folder / "inner" / "old.txt").read_text() == "old"
    with files.replacing_folder(folder) as temporary:
        (temporary / "new.txt").write_text("whole")
    assert [each.name for each in folder.iterdir()] == ["new.txt"]


def test_a_folder_that_a_killed_process_left_half_written_is_cleared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Pulled), files.replacing_folder(tmp_path / "split") as temporary:
        left = temporary
        raise Pulled
    left.mkdir()
    (left / "stale.txt").write_text("stale")
    with files.replacing_folder(tmp_path / "split") as temporary:
        (temporary / "new.txt").write_text("new")
    assert [each.name for each in (tmp_path / "split").iterdir()] == ["new.txt"]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_json_has_no_words_for_nan_and_infinity(value: float, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    files.write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="JSON compliant"):
        files.write_json(path, {"a": [value]})
    with pytest.raises(ValueError, match="JSON compliant"):
        files.digest_of(value)
    assert files.read_json(path, made_by="train") == {"a": 1}


def test_json_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    value = {"z": [1, 2.5, None, True], "ä": {"b": "–"}}
    files.write_json(path, value)
    assert files.read_json(path, made_by="train") == value
    assert path.read_bytes().endswith(b"}\n") and "ä" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe", b'{"a": 1}}'])
def test_damaged_json_names_the_file_and_the_stage_to_run_again(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"a\.json: is damaged .* dvc repro -f evaluate") as raised:
        files.read_json(path, made_by="evaluate")
    assert "\n" not in str(raised.value)


def test_a_missing_file_names_the_stage_that_writes_it(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"does not exist.*dvc repro prepare"):
        files.read_json(tmp_path / "a.json", made_by="prepare")
    with pytest.raises(ArtifactError, match=r"does not exist.*dvc repro prepare"):
        files.read_npy(tmp_path / "a.npy", made_by="prepare")


def test_digests_depend_on_content_alone(tmp_path: Path) -> None:
    assert files.digest_of({"a": 1, "b": [2.5, "ä"]}) == files.digest_of({"b": [2.5, "ä"], "a": 1})
    assert files.digest_of({"a": 1}) != files.digest_of({"a": 2}) != files.digest_of({"a": "2"})
    for name in ("one", "two"):
        for inner in ("b/z.py", "a.py") if name == "one" else ("a.py", "b/z.py"):
            path = tmp_path / name / inner
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(inner)
    one, two = tmp_path / "one", tmp_path / "two"
    assert files.digest_folder(one) == files.digest_folder(two)
    (two / "notes.txt").write_text("not code")
    assert files.digest_folder(one, "**/*.py") == files.digest_folder(two, "**/*.py")
    assert files.digest_folder(one) != files.digest_folder(two)
    (two / "a.py").rename(two / "c.py")
    assert files.digest_folder(one, "**/*.py") != files.digest_folder(two, "**/*.py")
    # SHA-256 of nothing, as every other tool has it; and of a file longer than one block.
    empty = tmp_path / "empty"
    empty.write_bytes(b"")
    assert files.digest_file(empty) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float64])
def test_an_array_in_blocks_has_the_bytes_of_one_in_a_piece(dtype: type, tmp_path: Path) -> None:
    array = np.arange(7 * 3 * 2).reshape(7, 3, 2).astype(dtype)
    blocks = (array[start : start + 3] for start in range(0, 7, 3))
    digest = files.write_npy_blocks(tmp_path / "a.npy", blocks, shape=array.shape, dtype=array.dtype)
    assert digest == files.write_npy(tmp_path / "b.npy", array)
    for memory_map in (False, True):
        found = files.read_npy(tmp_path / "a.npy", made_by="prepare", memory_map=memory_map)
        assert np.array_equal(found, array) and found.dtype == dtype
    with pytest.raises(ValueError, match="read-only"):
        files.read_npy(tmp_path / "a.npy", made_by="prepare", memory_map=True)[0] = 0


@pytest.mark.parametrize(
    ("blocks", "said"),
    [
        ([(2, 3)], "2 rows were written where 4 were announced"),
        ([(2, 3), (2, 3), (1, 3)], "5 rows"),
        ([(4, 2)], "does not fit"),
    ],
)
def test_blocks_that_do_not_add_up_are_refused(blocks: list[tuple[int, int]], said: str, tmp_path: Path) -> None:
    made = [np.zeros(shape, np.uint8) for shape in blocks]
    with pytest.raises(ArtifactError, match=said):
        files.write_npy_blocks(tmp_path / "a.npy", made, shape=(4, 3), dtype=np.dtype(np.uint8))
    with pytest.raises(ArtifactError, match="does not fit"):
        wide = [np.zeros((4, 3), np.uint16)]
        files.write_npy_blocks(tmp_path / "a.npy", wide, shape=(4, 3), dtype=np.dtype(np.uint8))


@pytest.mark.parametrize("memory_map", [False, True])
@pytest.mark.parametrize("content", ["empty", "text", "cut", "pickle"])
def test_a_damaged_array_is_one_line_and_never_unpickled(content: str, memory_map: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    if content == "pickle":
        np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    else:
        np.save(path, np.zeros((50, 4)))
        path.write_bytes({"empty": b"", "text": b"what?", "cut": path.read_bytes()[:200]}[content])
    with pytest.raises(ArtifactError, match="is damaged") as raised:
        files.read_npy(path, made_by="prepare", memory_map=memory_map)
    assert "\n" not in str(raised.value)


def test_changed_and_missing_files_are_found_by_their_digests(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"abc")
    recorded = {"a.bin": files.digest_file(path)}
    files.check_digests(tmp_path, recorded, made_by="train")
    path.write_bytes(b"abd")
    with pytest.raises(ArtifactError, match=r"a\.bin: is not what the stage wrote"):
        files.check_digests(tmp_path, recorded, made_by="train")
    path.unlink()
    with pytest.raises(ArtifactError, match="does not exist"):
        files.check_digests(tmp_path, recorded, made_by="train")


@pytest.mark.parametrize("content", ["[]", "{}", '{"a": 1}', "null"])
def test_a_head_without_its_digest_is_none(content: str, tmp_path: Path) -> None:
    path = tmp_path / "head.json"
    files.write_head(path, {"a": 0.1, "b": ["ü"]})
    assert files.read_head(path, made_by="prepare")["a"] == 0.1
    path.write_text(content)
    with pytest.raises(ArtifactError, match="is not what the stage wrote"):
        files.read_head(path, made_by="prepare")
