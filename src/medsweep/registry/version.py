"""A registered version's model, brought back from the registry."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from medsweep.artifacts.record import Task
from medsweep.errors import StoreError
from medsweep.layout import Layout
from medsweep.params import load_yaml
from medsweep.registry.promote import find_version
from medsweep.tracking.store import open_store, store_errors


@dataclass(frozen=True)
class RegisteredModel:
    """One version, as its model file and what it says of itself.

    Args:
        model: the `.keras` file; it is there until the `with` block ends.
        class_names: (K,).
        task: binary, multiclass, multilabel or ordinal.
        threshold: one value for a binary task, one a label for multi-label, empty otherwise.
        value_range: the largest raw pixel value.
        synthetic: True where it was trained on synthetic images.
        digest: of the model file.
    """

    model: Path
    class_names: tuple[str, ...]
    task: Task
    threshold: tuple[float, ...]
    value_range: int
    synthetic: bool
    digest: str


@contextmanager
def registered_model(layout: Layout, experiment: str, version: int) -> Iterator[RegisteredModel]:
    """Bring a version's model here for the length of the block.

    Args:
        layout: the project.
        experiment: the registered model.
        version: its number.

    Raises:
        StoreError: there is no such version (the message lists those there are), the store is away, or the version was
            not registered by medsweep.
    """
    store = open_store(layout)
    client = store.client()
    with TemporaryDirectory() as folder:
        with store_errors(store), store.as_default():
            import mlflow.artifacts

            found = find_version(client, store, experiment, version)
            uri = f"models:/{experiment}/{found.version}"
            path = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=folder))
        known: dict[str, Any] = load_yaml(path / "MLmodel").get("metadata") or {}
        try:
            model = RegisteredModel(
                model=path / "data" / "model.keras",
                class_names=tuple(known["class_names"]),
                task=known["task"],
                threshold=tuple(known["threshold"]),
                value_range=int(known["value_range"]),
                synthetic=bool(known["synthetic"]),
                digest=str(known["model_digest"]),
            )
        except KeyError as error:
            raise StoreError(
                f"version {version} of '{experiment}' does not say its {error}: it was not registered by medsweep.",
                where=store.shown,
            ) from None
        yield model
