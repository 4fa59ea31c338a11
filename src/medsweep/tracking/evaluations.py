"""What a store keeps of each registered version's evaluation, and where a comparison of them is left."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from medsweep.layout import Layout
from medsweep.tracking.projection import KEY, KIND
from medsweep.tracking.store import Store, open_store, store_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient

_GROUP = "evaluation"
_COMPARISON = "comparison"
_GONE = "RESOURCE_DOES_NOT_EXIST"
_FILES = ("predictions.csv", "evaluation.json")


@dataclass(frozen=True)
class EvaluatedVersion:
    """One registry version whose evaluation can be compared.

    Args:
        version: its number.
        created: when it was registered, ISO 8601 in UTC.
        aliases: that point at it now, sorted.
        search_key: names the search that its model came from.
        run_id: of its evaluation.
    """

    version: int
    created: str
    aliases: tuple[str, ...]
    search_key: str
    run_id: str


class Evaluations:
    """The versions of one registered model.

    Args:
        layout: the project.
        experiment: the registered model.

    Raises:
        StoreError: the store is away.
    """

    def __init__(self, layout: Layout, experiment: str) -> None:
        self._store: Store = open_store(layout)
        self._client: MlflowClient = self._store.client()
        self._experiment = experiment

    def versions(self) -> list[EvaluatedVersion]:
        """All of them, newest first; none where nothing was registered."""
        name = self._experiment
        with store_errors(self._store):
            found = self._client.search_model_versions(f"name = '{name}'", max_results=10_000)
            pointed = self._client.get_registered_model(name).aliases if found else {}
            rows = []
            for each in found:
                number = int(each.version)
                created = datetime.fromtimestamp(each.creation_timestamp / 1000, UTC)
                rows.append(
                    EvaluatedVersion(
                        version=number,
                        created=created.isoformat(timespec="seconds"),
                        aliases=tuple(sorted(alias for alias, its in pointed.items() if int(its) == number)),
                        search_key=each.tags.get("medsweep.search_key", ""),
                        run_id=each.run_id or "",
                    )
                )
        return sorted(rows, key=lambda row: -row.version)

    def settings(self, version: EvaluatedVersion) -> dict[str, str]:
        """What a version's model was trained with, by dotted name; nothing where its run was deleted for good."""
        from mlflow.exceptions import MlflowException

        with store_errors(self._store):
            try:
                return dict(self._client.get_run(version.run_id).data.params) if version.run_id else {}
            except MlflowException as error:
                if error.error_code != _GONE:
                    raise
                return {}

    def download(self, version: EvaluatedVersion, folder: Path) -> Path | None:
        """Bring a version's predictions (and its evaluation, where there is one) into a folder of its own.

        Returns:
            the path of predictions.csv; None where the version has none, or its run was deleted for good.
        """
        from mlflow.exceptions import MlflowException

        target = folder / str(version.version)
        target.mkdir(parents=True, exist_ok=True)
        with store_errors(self._store):
            try:
                found = self._client.list_artifacts(version.run_id, _GROUP) if version.run_id else []
            except MlflowException as error:
                if error.error_code != _GONE:
                    raise
                return None
            there = {Path(each.path).name for each in found}
            for name in _FILES:
                if name in there:
                    local = Path(self._client.download_artifacts(version.run_id, f"{_GROUP}/{name}", str(target)))
                    # Stores differ in whether they keep the artifact's folder; the files must lie side by side.
                    if local.parent != target:
                        shutil.copyfile(local, target / name)
        path = target / _FILES[0]
        return path if path.is_file() else None

    def leave(self, search_keys: Collection[str], paths: Iterable[Path]) -> int:
        """Log files to the runs of these searches, below `comparison`; those of an earlier comparison are replaced.

        Returns:
            how many runs have them now.
        """
        wanted, left = list(paths), 0
        with store_errors(self._store):
            experiment = self._client.get_experiment_by_name(self._experiment)
            for key in sorted(set(search_keys) - {""}) if experiment is not None else ():
                runs = self._client.search_runs(
                    [experiment.experiment_id], f"tags.`{KEY}` = '{key}' AND tags.`{KIND}` = 'search'", max_results=1
                )
                for run in runs:
                    for path in wanted:
                        self._client.log_artifact(run.info.run_id, str(path), _COMPARISON)
                    left += 1
        return left
