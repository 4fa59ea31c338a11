"""A Keras model's file: the same bytes whenever and wherever the same model is saved."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medsweep.artifacts import files

if TYPE_CHECKING:
    import keras

_ZIP_DATE = (1980, 1, 1, 0, 0, 0)


def save_model(model: keras.Model, path: Path) -> None:
    """Write a `.keras` archive whose bytes depend on the model alone: no dates, no state of the process."""
    with files.replacing(path) as temporary:
        raw = temporary.with_suffix(".raw.keras")
        try:
            model.save(raw, include_optimizer=False)
            _normalize(raw, temporary)
        finally:
            raw.unlink(missing_ok=True)


def _normalize(raw: Path, target: Path) -> None:
    with zipfile.ZipFile(raw) as source, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(source.namelist()):
            content = source.read(name)
            if name == "metadata.json":
                content = json.dumps({**json.loads(content), "date_saved": "1980-01-01@00:00:00"}).encode()
            elif name == "config.json":
                content = json.dumps(_renumbered(json.loads(content), {})).encode()
            archive.writestr(zipfile.ZipInfo(name, _ZIP_DATE), content)


def _renumbered(config: Any, known: dict[int, int]) -> Any:
    """The same configuration with Keras's ids of shared objects, which are addresses in memory, counted from 1."""
    if isinstance(config, dict):
        return {
            key: known.setdefault(value, len(known) + 1) if key == "shared_object_id" else _renumbered(value, known)
            for key, value in config.items()
        }
    return [_renumbered(each, known) for each in config] if isinstance(config, list) else config
