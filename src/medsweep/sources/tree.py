"""Folders of images on the disk: class folders, the files below them, and links that would lead out of them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from medsweep.errors import DataError
from medsweep.sources.labels import shortened

SPLIT_FOLDERS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
LEAVES = "is a link that leads out of the source's folder."
OUTSIDE = "lies outside the source's folder."
LINKED_FOLDER = "is a link to a folder, which is not followed."
_IGNORED = "__MACOSX"


def class_folders(root: Path, *, shown: str) -> dict[tuple[str | None, str], Path]:
    """The class folders by split (None where there are no split folders) and class name, in sorted order.

    Raises:
        DataError: there are none, or class folders stand beside those of splits.
    """
    top = _folders(root)
    if not top:
        raise DataError("holds no folders.", where=shown, fix="The source needs one folder a class.")
    by_split = {folder: SPLIT_FOLDERS[folder.name.lower()] for folder in top if folder.name.lower() in SPLIT_FOLDERS}
    if not by_split:
        return {(None, folder.name): folder for folder in top}
    others = [folder.name for folder in top if folder not in by_split]
    if others:
        raise DataError(
            f"the folders {shortened(others)} stand beside folders of splits.",
            where=shown,
            fix="Keep either class folders here, or train, val and test alone.",
        )
    if len(set(by_split.values())) != len(by_split):
        raise DataError("two folders stand for the same split.", where=shown, fix="Keep one of val and validation.")
    found: dict[tuple[str | None, str], Path] = {}
    for split in ("train", "val", "test"):
        for folder in (each for each, name in by_split.items() if name == split):
            classes = _folders(folder)
            if not classes:
                raise DataError("holds no class folders.", where=str(folder), fix="It needs one folder a class.")
            found.update({(split, each.name): each for each in classes})
    return found


def files_below(folder: Path, inside: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, str | None]]:
    """The files below `folder` in sorted order, as paths relative to it, each with the reason to refuse it or None.

    Hidden files and folders are left out. A link is followed as long as it stays below `inside`; links to folders
    are refused.

    Args:
        folder: where to look.
        inside: the source's folder, resolved.
        wanted: by a file's name, whether it counts.
    """
    if (problem := leaving(folder, inside)) is not None:
        yield ".", problem
        return
    for parent, folders, names in os.walk(folder):
        below = Path(parent)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != _IGNORED)
        for name in folders:
            if (below / name).is_symlink():
                yield (below / name).relative_to(folder).as_posix(), LINKED_FOLDER
        for name in sorted(names):
            if name.startswith(".") or not wanted(name):
                continue
            path = below / name
            yield path.relative_to(folder).as_posix(), leaving(path, inside)


def leaving(path: Path, inside: Path) -> str | None:
    """The reason to refuse a link that leads out of `inside`, or None."""
    return outside(path, inside) if path.is_symlink() else None


def outside(path: Path, inside: Path) -> str | None:
    """The reason to refuse a file that a list names and that lies outside `inside`, by its path or through a link."""
    try:
        target = path.resolve()
    except (OSError, RuntimeError):  # a link to itself
        return "is a link that leads nowhere."
    # DVC may check files out as links into its cache, .../files/md5/xx/<30 hex digits>.
    if target.is_relative_to(inside) or re.search(r"/files/md5/[0-9a-f]{2}/[0-9a-f]{30}$", target.as_posix()):
        return None
    return LEAVES if path.is_symlink() else OUTSIDE


def _folders(parent: Path) -> list[Path]:
    return sorted(
        each for each in parent.iterdir() if each.is_dir() and not each.name.startswith(".") and each.name != _IGNORED
    )
