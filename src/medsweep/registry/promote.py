"""A person says where a version goes: an alias, and MLflow's older stages beside it."""

from __future__ import annotations

import contextlib
import getpass
import warnings
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from medsweep.errors import StoreError, unknown_name
from medsweep.layout import Layout
from medsweep.tracking.store import Store, open_store, store_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

# Alias → the legacy stage of the same meaning.
PLACES = {"staging": "Staging", "production": "Production"}
PROMOTED = "medsweep.promoted."
PROMOTED_BY = "medsweep.promoted_by."


def promote(layout: Layout, experiment: str, version: int, to: str) -> str:
    """Point an alias at a version, and move it to the legacy stage of the same name while MLflow has stages.

    The version that held the stage before is archived there, so that `models:/NAME@staging` and
    `models:/NAME/Staging` mean the same version. A version has one legacy stage only: one that is in Production stays
    there when it is promoted to staging, and only the alias is set. Who promoted it, and when, goes into the
    version's tags.

    Args:
        layout: the project.
        experiment: the registered model.
        version: its number.
        to: 'staging' or 'production'.

    Returns:
        The URI to load it by.

    Raises:
        ParamsError: `to` is neither.
        StoreError: there is no such version (the message lists those there are), or the store is away.
    """
    if to not in PLACES:
        raise unknown_name("place", to, list(PLACES), where="--to")
    store = open_store(layout)
    client = store.client()
    with store.alone(), store_errors(store):
        chosen = find_version(client, store, experiment, version)
        client.set_registered_model_alias(experiment, to, str(version))
        _move_stage(client, chosen, PLACES[to])
        client.set_model_version_tag(experiment, str(version), f"{PROMOTED}{to}", _now())
        client.set_model_version_tag(experiment, str(version), f"{PROMOTED_BY}{to}", _who())
    return f"models:/{experiment}@{to}"


def find_version(client: MlflowClient, store: Store, experiment: str, version: int) -> ModelVersion:
    """A version by its number.

    Raises:
        StoreError: there is none; the message lists those there are.
    """
    versions = {int(each.version): each for each in client.search_model_versions(f"name = '{experiment}'")}
    if version not in versions:
        there = ", ".join(map(str, sorted(versions)))
        raise StoreError(
            f"'{experiment}' has no version {version}.",
            where=store.shown,
            fix=f"Choose from: {there}." if there else "It has no version yet: dvc repro, then medsweep publish.",
        )
    return versions[version]


def _move_stage(client: MlflowClient, version: ModelVersion, stage: str) -> None:
    if version.current_stage == "Production":
        return
    # MLflow 4 may have no stages: then there is only the alias.
    with contextlib.suppress(AttributeError), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        client.transition_model_version_stage(version.name, str(version.version), stage, archive_existing_versions=True)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container may run as a user without a name
        return "unknown"
