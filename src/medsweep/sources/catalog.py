"""The kinds of sources. To add one: a file beside this one, and a row here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from medsweep import params
from medsweep.errors import unknown_name
from medsweep.sources.dicom import DicomSource
from medsweep.sources.folder import FolderSource
from medsweep.sources.medmnist import MedmnistSource
from medsweep.sources.phantom import PhantomSource
from medsweep.sources.protocol import ImageSource, UnknownLabel
from medsweep.sources.table import TableSource

__all__ = ["SOURCES", "ImageSource", "UnknownLabel", "open_source"]

SOURCES: dict[str, Callable[[params.Source, Path], ImageSource]] = {
    "phantom": PhantomSource,  # synthetic lesions; `path` is not read
    "folder": FolderSource,  # one folder a class
    "table": TableSource,  # a CSV that names files and labels
    "medmnist": MedmnistSource,  # MedMNIST's npz layout
    "dicom": DicomSource,  # DICOM files; labels from folder names or a CSV
}


def open_source(source: params.Source, root: Path) -> ImageSource:
    """Open what `prepare.source` names.

    Args:
        source: the section of params.yaml.
        root: the project's root, which a relative `path` starts from.

    Raises:
        ParamsError: the kind or one of its keys is unknown, or a value has the wrong type or range.
        DataError: the files are not what the kind of source needs.
    """
    kind = SOURCES.get(source.kind)
    if kind is None:
        raise unknown_name("kind of source", source.kind, list(SOURCES), where="prepare.source.kind")
    try:
        return kind(source, root)
    except ValidationError as error:
        raise params.explain(error, where="params.yaml", prefix="prepare.source") from None
