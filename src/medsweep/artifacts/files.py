"""How artifacts reach the disk: whole or not at all, and with the same bytes for the same content."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medsweep.errors import ArtifactError

_BLOCK = 1 << 20


def canonical_json(value: Any) -> str:
    """Compact JSON with sorted keys: what digests are taken of."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest_of(value: Any) -> str:
    """A SHA-256 (hex) of a JSON-like value."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def digest_file(path: Path, kind: str = "sha256") -> str:
    """The SHA-256 (hex) of a file's bytes, read in blocks; `kind` 'md5' gives what DVC knows a file by."""
    found = hashlib.new(kind, usedforsecurity=False)
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            found.update(block)
    return found.hexdigest()


def digest_folder(folder: Path, pattern: str = "**/*") -> str:
    """A SHA-256 (hex) of the relative names and contents of a folder's files that match `pattern`."""
    files = sorted(path for path in folder.glob(pattern) if path.is_file())
    return digest_of([[path.relative_to(folder).as_posix(), digest_file(path)] for path in files])


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`; when the block ends well, its file is fsynced and renamed to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        _fsync(temporary)
        temporary.replace(path)
        _fsync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder`; when the block ends well, it is fsynced and takes its place."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        for path in temporary.rglob("*"):
            if path.is_file():
                _fsync(path)
        if folder.exists():
            shutil.rmtree(folder)
        temporary.replace(folder)
        _fsync(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def copy_file(source: Path, target: Path) -> None:
    """Copy a file to its place, whole or not at all."""
    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)


def copy_folder(source: Path, target: Path) -> None:
    """Copy a folder to its place, whole or not at all."""
    with replacing_folder(target) as temporary:
        shutil.copytree(source, temporary, dirs_exist_ok=True)


def write_text(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Readable JSON: two spaces, keys in the order given, a newline at the end. NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path, *, made_by: str) -> Any:
    """The JSON in `path`.

    Raises:
        ArtifactError: the file is missing (then the message names the stage `made_by`) or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise missing(path, made_by=made_by) from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise damaged(path, f"is damaged ({error}).", made_by=made_by) from None


def write_head(path: Path, head: Mapping[str, Any]) -> None:
    """What tells of a folder's files: JSON that also holds its own digest, under `digest`."""
    write_json(path, {**head, "digest": digest_of(head)})


def read_head(path: Path, *, made_by: str) -> dict[str, Any]:
    """What `write_head` wrote, its digest compared.

    Raises:
        ArtifactError: the file is missing, damaged, or was changed since it was written.
    """
    found: dict[str, Any] = read_json(path, made_by=made_by)
    if not isinstance(found, dict) or found.get("digest") != digest_of({k: found[k] for k in found if k != "digest"}):
        raise damaged(path, "is not what the stage wrote: its digest differs.", made_by=made_by)
    return found


def missing(path: Path, *, made_by: str) -> ArtifactError:
    return ArtifactError(
        "does not exist.", where=str(path), fix=f"The stage '{made_by}' writes it: run dvc repro {made_by}."
    )


def damaged(path: Path, why: str, *, made_by: str) -> ArtifactError:
    return ArtifactError(why, where=str(path), fix=f"Run the stage '{made_by}' again: dvc repro -f {made_by}.")


def write_npy(path: Path, array: NDArray[Any]) -> str:
    """Write one array and return the SHA-256 of the file."""
    np.save(path, array, allow_pickle=False)
    return digest_file(path)


def write_npy_blocks(
    path: Path, blocks: Iterable[NDArray[Any]], *, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> str:
    """Write one array that arrives in blocks along its first axis, in memory that does not grow; return its SHA-256.

    Raises:
        ArtifactError: the blocks do not add up to `shape`.
    """
    with path.open("wb") as stream:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(stream, header)
        rows = 0
        for block in blocks:
            if block.dtype != dtype or block.shape[1:] != shape[1:]:
                raise ArtifactError(
                    f"a block of {block.dtype} {block.shape} does not fit {dtype} {shape}.", where=str(path)
                )
            stream.write(np.ascontiguousarray(block).tobytes())
            rows += len(block)
    if rows != shape[0]:
        raise ArtifactError(f"{rows} rows were written where {shape[0]} were announced.", where=str(path))
    return digest_file(path)


def read_npy(path: Path, *, made_by: str, memory_map: bool = False) -> NDArray[Any]:
    """One array, never unpickling; memory-mapped and read-only on request.

    Raises:
        ArtifactError: the file is missing or damaged.
    """
    try:
        loaded: NDArray[Any] = np.load(path, mmap_mode="r" if memory_map else None, allow_pickle=False)
    except FileNotFoundError:
        raise missing(path, made_by=made_by) from None
    except (ValueError, EOFError, OSError) as error:
        raise damaged(path, f"is damaged ({error}).", made_by=made_by) from None
    return loaded


def check_digests(folder: Path, expected: Mapping[str, str], *, made_by: str) -> None:
    """Compare the SHA-256 of each named file in `folder` with what was recorded when it was written.

    Raises:
        ArtifactError: a file is missing or was changed since.
    """
    for name, digest in expected.items():
        path = folder / name
        if not path.is_file():
            raise missing(path, made_by=made_by)
        if digest_file(path) != digest:
            raise damaged(path, "is not what the stage wrote: its digest differs.", made_by=made_by)


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:
        if path.is_file():
            raise  # some systems can't sync a folder; a file they can
    finally:
        os.close(handle)
