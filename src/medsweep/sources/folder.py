"""One folder a class, with or without train, val and test folders above."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator

from medsweep.artifacts.record import ImageRecord, RawImage
from medsweep.errors import DataError
from medsweep.params import Section, Source
from medsweep.sources.labels import SingleLabelTask, choose_classes, choose_task, in_order
from medsweep.sources.protocol import UnknownLabel
from medsweep.sources.tree import class_folders, files_below

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".npy"})


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
        DataError: a folder is missing or empty, or a file name does not match `patient_pattern`.
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
        found = class_folders(self._path, shown=source.path)
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
        # Links that lead out of the source: listed with what cannot be read.
        self._refused: dict[Path, str] = {}
        for (split, name), folder in found.items():
            files = []
            for each, problem in files_below(folder, inside, _is_image):
                files.append(each)
                if problem is not None:
                    self._refused[folder / each] = problem
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
        """None: the pixels are in the file.

        Raises:
            DataError: the file is a link that leads out of the source.
        """
        if record.path in self._refused:
            raise DataError(self._refused[record.path], where=str(record.path), fix="Copy the image itself here.")
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


def _is_image(name: str) -> bool:
    return Path(name).suffix.lower() in SUFFIXES
