"""One folder a class, with or without train, val and test folders above."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator

from medsweep.artifacts.record import ImageRecord, RawImage
from medsweep.errors import DataError
from medsweep.params import Section, Source
from medsweep.sources.labels import SingleLabelTask, choose_classes, choose_task, in_order, shortened
from medsweep.sources.protocol import UnknownLabel

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".npy"})
SPLIT_FOLDERS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_IGNORED = "__MACOSX"


def _one_group(pattern: str) -> str:
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"is no regular expression ({error})") from None
    if groups != 1:
        raise ValueError(f"must have exactly one group in parentheses and has {groups}")
    return pattern


Pattern = Annotated[str, AfterValidator(_one_group)]


class FolderSettings(Section):
    """The folder's keys below `prepare.source`; any may be left out.

    Args:
        classes: class folders in label order; images in others count as unknown labels. Default: all, sorted.
        positive: of two classes, the positive one (it is then the second). Default: the second.
        task: binary, multiclass or ordinal. Default: by the number of classes.
        patient_pattern: a regular expression searched for in each file's path below its class folder; its one group
            is the patient. Default: patients are not known.
    """

    classes: list[str] | None = None
    positive: str | None = None
    task: SingleLabelTask | None = None
    patient_pattern: Pattern | None = None


class FolderSource:
    """Images in class folders, which may have subfolders. Hidden files and other kinds of files are left out.

    Raises:
        DataError: a folder is missing or empty, a link leaves the source, or a file name does not match
            `patient_pattern`.
    """

    synthetic = False

    def __init__(self, source: Source, root: Path) -> None:
        settings = FolderSettings.model_validate(source.settings)
        self._path = root / source.path
        if not self._path.is_dir():
            raise DataError(
                "is not a folder." if self._path.exists() else "does not exist.",
                where=source.path,
                fix="prepare.source.path names the folder that holds one folder a class.",
            )
        found = _class_folders(self._path, shown=source.path)
        names = in_order(name for _, name in found)
        self.class_names = choose_classes(names, settings.classes, settings.positive, where=source.path)
        self.task = choose_task(settings.task, self.class_names, ordered=settings.classes is not None)
        self.settings: Mapping[str, Any] = {
            "kind": source.kind,
            "path": source.path,
            **settings.model_dump(),
            "classes": list(self.class_names),
            "task": self.task,
        }
        self._pattern = re.compile(settings.patient_pattern) if settings.patient_pattern else None
        inside = self._path.resolve()
        unknown: list[UnknownLabel] = []
        # Only names are kept: 200 000 of them take some 20 MB.
        self._files: list[tuple[str | None, str, Path, list[str]]] = []
        for (split, name), folder in found.items():
            files = list(_images(folder, inside))
            if name not in self.class_names:
                unknown.extend(UnknownLabel(str(folder / each), name) for each in files)
            elif not files:
                raise DataError(
                    f"the folder of the class '{name}' holds no images.",
                    where=str(folder),
                    fix=f"Kinds of files that count: {', '.join(sorted(SUFFIXES))}.",
                )
            else:
                self._files.append((split, name, folder, files))
        self.unknown_labels = tuple(unknown)

    def __len__(self) -> int:
        return sum(len(files) for *_, files in self._files)

    def records(self) -> Iterator[ImageRecord]:
        """Split by split, class by class, sorted by path."""
        for split, name, folder, files in self._files:
            label = self.class_names.index(name)
            for each in files:
                yield ImageRecord(folder / each, label, self._patient(folder, each), split, "folder")

    def read(self, record: ImageRecord) -> RawImage | None:
        """None: the pixels are in the file."""
        return None

    def _patient(self, folder: Path, name: str) -> str | None:
        if self._pattern is None:
            return None
        match = self._pattern.search(name)
        if match is None or not match.group(1):
            raise DataError(
                "the file name tells no patient.",
                where=str(folder / name),
                fix=f"It does not match prepare.source.patient_pattern, {self._pattern.pattern!r}.",
            )
        return match.group(1)


def _class_folders(root: Path, *, shown: str) -> dict[tuple[str | None, str], Path]:
    """The class folders by split (None where there are no split folders) and class name, in sorted order."""
    top = _folders(root)
    if not top:
        raise DataError("holds no folders.", where=shown, fix="A folder source needs one folder a class.")
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


def _folders(parent: Path) -> list[Path]:
    return sorted(
        each for each in parent.iterdir() if each.is_dir() and not each.name.startswith(".") and each.name != _IGNORED
    )


def _images(folder: Path, inside: Path) -> Iterator[str]:
    """The image files below `folder`, as sorted paths relative to it.

    Raises:
        DataError: a link leads out of `inside`.
    """
    _refuse_leaving(folder, inside)
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != _IGNORED)
        for name in folders:
            if (Path(parent) / name).is_symlink():
                raise DataError(
                    "is a link to a folder.", where=str(Path(parent) / name), fix="Move the images themselves here."
                )
        for name in sorted(names):
            path = Path(parent) / name
            if name.startswith(".") or path.suffix.lower() not in SUFFIXES:
                continue
            _refuse_leaving(path, inside)
            yield path.relative_to(folder).as_posix()


def _refuse_leaving(path: Path, inside: Path) -> None:
    if not path.is_symlink():
        return
    target = path.resolve()
    # DVC may check files out as links into its cache, .../files/md5/xx/<30 hex digits>.
    if target.is_relative_to(inside) or re.search(r"/files/md5/[0-9a-f]{2}/[0-9a-f]{30}$", target.as_posix()):
        return
    raise DataError(
        "is a link that leads out of the source's folder.", where=str(path), fix="Copy the images into it instead."
    )
