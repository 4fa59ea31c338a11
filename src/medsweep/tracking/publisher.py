"""The run logs → MLflow. What is there already is left as it is, so publishing may stop anywhere and start again."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from medsweep.artifacts.files import digest_file
from medsweep.artifacts.run_log import read_log, read_log_from
from medsweep.artifacts.trained import TrainedModel
from medsweep.errors import ArtifactError, StoreError
from medsweep.layout import Layout
from medsweep.tracking.projection import KEY, RUNNING, Point, ProjectedRun, Projection
from medsweep.tracking.store import Store, open_store, store_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from rich.console import Console

CANDIDATE = "candidate"
# So that the UI shows training runs and models first, not the pages for language models.
_EXPERIMENT_KIND = "mlflow.experimentKind"
# A run that carries this is complete, files and all: a later publish need not look further.
_PUBLISHED = "medsweep.published"
_MODEL_NAME = "model"
_DESCRIPTION_LENGTH = 5000
_DATASET_DIGEST_LENGTH = 36
# MLflow's limits on one log_batch: 1000 values in all, of which 100 parameters and 100 tags.
_BATCH, _BATCH_SMALL = 800, 100


@dataclass
class PublishSummary:
    """What a publish did.

    Args:
        experiment: the MLflow experiment and the registered model.
        store: the store's URI, fit to print.
        created: runs that are new in the store.
        version: the registry version that the workspace's evaluation is, if it is one.
        version_is_new: whether this publish registered it.
        candidate_moved: whether alias `candidate` pointed elsewhere before.
        skipped: files that could not be published, each with the reason.
    """

    experiment: str
    store: str
    created: int = 0
    version: int | None = None
    version_is_new: bool = False
    candidate_moved: bool = False
    skipped: list[str] = field(default_factory=list)

    @property
    def sentence(self) -> str:
        """The summary in one sentence."""
        parts = [f"{self.created} new run{'' if self.created == 1 else 's'}"]
        if self.version is not None:
            new = "new " if self.version_is_new else ""
            moved = ", which is the candidate " + ("now" if self.candidate_moved else "still")
            parts.append(f"{new}version {self.version} of '{self.experiment}'{moved}")
        if self.skipped:
            parts.append(f"{len(self.skipped)} left out: {'; '.join(self.skipped)}")
        return f"{self.store}: {'; '.join(parts)}."


@dataclass
class _Known:
    """A run as the store has it, and how much of the projection it has been sent."""

    run_id: str
    name: str
    status: str
    params: set[str]
    tags: dict[str, str]
    has_datasets: bool
    # Points that another log of the same run, or this one before an interruption, has already told.
    logged: set[tuple[str, int]] = field(default_factory=set)
    sent: int = 0

    @property
    def settled(self) -> bool:
        # The status is set last of all, so it vouches for the rest.
        return self.status != RUNNING


def publish(layout: Layout, experiment: str, console: Console | None = None) -> PublishSummary:
    """Make MLflow show what the workspace's two run logs say, and `candidate` the model that the workspace holds.

    Runs and versions are known by their key: what was published before is not published again, and what an
    interruption left half done is completed.

    Args:
        layout: the project.
        experiment: MLflow's experiment and registered model.
        console: hears of what was left out; nothing else is printed.

    Raises:
        StoreError: the store is away or refuses.
        ArtifactError: a log is damaged.
    """
    projections = []
    for path in (layout.search_log, layout.evaluation_log):
        projection = Projection()
        projection.feed(read_log(path))
        projections.append(projection)
    store = open_store(layout)
    summary = PublishSummary(experiment, store.shown)
    with store.alone():
        publisher = _Publisher(store, experiment, summary)
        for projection in projections:
            publisher.synchronise(projection, with_files=True)
            publisher.register(projection)
    if console is not None:
        for each in summary.skipped:
            console.print(f"not published: {each}", style="yellow", markup=False)
    return summary


def follow(
    layout: Layout, experiment: str, log_path: Path, stop: Callable[[], bool], *, poll_seconds: float = 1.0
) -> PublishSummary:
    """Publish a log while it grows, until its last line has come or `stop()` says that its writer is gone.

    Figures and parameters appear as they are logged. Files and the registry version are left to `publish`, for they
    take their places only when the stage is done. While the store is away the follower tries again, ever more
    rarely; it never harms the run that it follows.

    Args:
        layout: the project.
        experiment: MLflow's experiment.
        log_path: the growing log; it need not exist yet.
        stop: asked after each look at the log.
        poll_seconds: between two looks.

    Raises:
        StoreError: the store was still away at the end.
        ArtifactError: the log is damaged.
    """
    projection = Projection()
    publisher: _Publisher | None = None
    offset = 0
    pending = False
    wait_until = 0.0
    pause = poll_seconds
    while True:
        over = stop()  # asked first: what the writer told before it went is then read below
        events, offset = read_log_from(log_path, offset)
        projection.feed(events)
        pending = pending or bool(events)
        over = over or projection.ended
        if pending and (over or time.monotonic() >= wait_until):
            try:
                if publisher is None:
                    store = open_store(layout)
                    publisher = _Publisher(store, experiment, PublishSummary(experiment, store.shown))
                with publisher.store.alone():
                    publisher.synchronise(projection, with_files=False)
                pending, pause = False, poll_seconds
            except StoreError:
                if over:
                    raise
                pause = min(2 * pause + 1.0, 60.0)
                wait_until = time.monotonic() + pause
        if over:
            break
        time.sleep(poll_seconds)
    return publisher.summary if publisher is not None else PublishSummary(experiment, "")


def gone(process_id: int) -> Callable[[], bool]:
    """A `stop` for `follow`: whether that process, and not another that got its number, has ended."""
    import psutil

    try:
        process = psutil.Process(process_id)
    except psutil.NoSuchProcess:
        return lambda: True

    def ended() -> bool:
        try:
            return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    return ended


class _Publisher:
    """Makes one experiment of a store agree with projections."""

    def __init__(self, store: Store, experiment: str, summary: PublishSummary) -> None:
        self.store = store
        self.summary = summary
        self._experiment = experiment
        self._client: MlflowClient = store.client()
        self._known: dict[str, _Known] = {}
        with store_errors(store):
            self._experiment_id = self._find_experiment()

    def synchronise(self, projection: Projection, *, with_files: bool) -> None:
        """Bring the store up to the projection.

        The log's own run is created first, for trials are nested in it, and settled last.
        """
        main = projection.main
        if main is None:
            return
        with store_errors(self.store):
            if any(key not in self._known for key in projection.runs):
                self._look_up(main.key)
            known = self._known.get(main.key)
            if known is None or not known.settled:
                known = self._tell(main)
                for run in projection.runs.values():
                    if run is not main:
                        self._settle(run, self._tell(run))
            complete = _PUBLISHED in known.tags or (with_files and self._send_files(main, known))
            self._settle(main, known)
            if main.status != RUNNING and complete and _PUBLISHED not in known.tags:
                self._client.set_tag(known.run_id, _PUBLISHED, "true")
                known.tags[_PUBLISHED] = "true"

    def register(self, projection: Projection) -> None:
        """Make the log's `version` event a registry version, unless it is one, and point `candidate` at it."""
        main = projection.main
        if main is None or projection.version is None or not projection.ended:
            return
        with store_errors(self.store):
            number = self._version_of(main.key)
            if number is None:
                number = self._new_version(main, projection.version)
            if number is None:
                return
            self.summary.version = number
            aliases = self._client.get_registered_model(self._experiment).aliases
            if str(aliases.get(CANDIDATE)) != str(number):
                self._client.set_registered_model_alias(self._experiment, CANDIDATE, str(number))
                self.summary.candidate_moved = True

    # Runs

    def _find_experiment(self) -> str:
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(self._experiment)
        if found is None:
            try:
                return str(
                    self._client.create_experiment(
                        self._experiment,
                        artifact_location=self.store.artifact_location(self._experiment),
                        tags={_EXPERIMENT_KIND: "custom_model_development"},
                    )
                )
            except MlflowException:
                # On a shared server another machine may have been a moment quicker.
                found = self._client.get_experiment_by_name(self._experiment)
                if found is None:
                    raise
        if found.lifecycle_stage != "active":
            raise StoreError(
                f"the experiment '{self._experiment}' was deleted.",
                where=self.store.shown,
                fix="Restore it with 'mlflow experiments restore', or choose another name in params.yaml: experiment.",
            )
        return str(found.experiment_id)

    def _look_up(self, key: str) -> None:
        """Learn which runs of this key, and of trials below it, the store has."""
        token: str | None = None
        while True:
            page = self._client.search_runs(
                [self._experiment_id],
                filter_string=f"tags.`{KEY}` LIKE '{key}%'",
                max_results=1000,
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )
            for run in page:
                name = run.data.tags[KEY]
                if name not in self._known and (name == key or name.startswith(f"{key}/")):
                    self._known[name] = self._as_known(run)
            token = page.token
            if not token:
                return

    def _as_known(self, run: Run) -> _Known:
        known = _Known(
            run_id=run.info.run_id,
            name=run.info.run_name,
            status=run.info.status,
            params=set(run.data.params),
            tags=dict(run.data.tags),
            has_datasets=bool(run.inputs and run.inputs.dataset_inputs),
        )
        if not known.settled:
            for metric in run.data.metrics:
                history = self._client.get_metric_history(known.run_id, metric)
                known.logged.update((metric, point.step) for point in history)
        return known

    def _tell(self, run: ProjectedRun) -> _Known:
        """Create the run if it is new; send what it lacks, except its end."""
        known = self._known.get(run.key)
        if known is None:
            parent = {"mlflow.parentRunId": self._known[run.parent].run_id} if run.parent is not None else {}
            tags = run.tags | parent
            created = self._client.create_run(self._experiment_id, start_time=run.start, tags=tags, run_name=run.name)
            known = _Known(created.info.run_id, run.name, RUNNING, set(), dict(tags), has_datasets=False)
            self._known[run.key] = known
            self.summary.created += 1
        if known.settled:
            return known
        self._send(run, known)
        return known

    def _send(self, run: ProjectedRun, known: _Known) -> None:
        from mlflow.entities import Metric, Param, RunTag

        if known.name != run.name:
            self._client.update_run(known.run_id, name=run.name)
            known.name = run.name
        params = [Param(name, value) for name, value in run.params.items() if name not in known.params]
        tags = [RunTag(name, value) for name, value in run.tags.items() if known.tags.get(name) != value]
        total = len(run.metrics)
        points = [each for each in run.metrics[known.sent :] if (each.name, each.step) not in known.logged]
        metrics = [_metric(Metric, point) for point in points]
        while params or tags or metrics:
            self._client.log_batch(
                known.run_id, metrics=metrics[:_BATCH], params=params[:_BATCH_SMALL], tags=tags[:_BATCH_SMALL]
            )
            metrics, params, tags = metrics[_BATCH:], params[_BATCH_SMALL:], tags[_BATCH_SMALL:]
        known.params.update(run.params)
        known.tags.update(run.tags)
        known.sent = total
        if run.datasets and not known.has_datasets:
            self._client.log_inputs(known.run_id, datasets=[_dataset(each) for each in run.datasets])
            known.has_datasets = True

    def _settle(self, run: ProjectedRun, known: _Known) -> None:
        if run.status != RUNNING and not known.settled:
            self._client.set_terminated(known.run_id, run.status, end_time=run.end)
            known.status = run.status

    # Files

    def _send_files(self, run: ProjectedRun, known: _Known) -> bool:
        """Log the run's files; False where one had to be left out."""
        complete = True
        for picture in run.pictures.values():
            path, problem = self._checked(picture["path"], picture["digest"])
            if problem is None:
                self._client.log_artifact(known.run_id, str(path), picture["group"] or None)
            else:
                self.summary.skipped.append(problem)
                complete = False
        return complete

    def _checked(self, name: str, digest: str) -> tuple[Path, str | None]:
        """A logged path's file, and why it can't be used if it can't."""
        pure = PurePosixPath(name)
        path = self.store.layout.root / pure
        if pure.is_absolute() or ".." in pure.parts:
            return path, f"{name} (outside the project)"
        if not path.is_file():
            return path, f"{name} (missing; dvc checkout or dvc pull restores it)"
        if digest_file(path) != digest:
            return path, f"{name} (not the file that was logged; dvc checkout restores it)"
        return path, None

    # Registry

    def _version_of(self, key: str) -> int | None:
        """The lowest registry version with this key."""
        found = self._client.search_model_versions(f"name = '{self._experiment}' and tags.`{KEY}` = '{key}'")
        return min((int(each.version) for each in found), default=None)

    def _new_version(self, main: ProjectedRun, event: Mapping[str, Any]) -> int | None:
        from mlflow.exceptions import MlflowException

        model_path, problem = self._checked(event["model"], event["model_digest"])
        if problem is not None:
            self.summary.skipped.append(f"the version's model {problem}")
            return None
        try:
            manifest = TrainedModel.load(self.store.layout.root / event["manifest"])
        except ArtifactError as error:
            self.summary.skipped.append(f"the version's manifest ({error})")
            return None
        if manifest.model_digest != event["model_digest"]:
            self.summary.skipped.append("the version's manifest (belongs to another model)")
            return None
        run_id = self._known[main.key].run_id
        model_id = self._logged_model(main, run_id, model_path, manifest)
        try:
            self._client.create_registered_model(
                self._experiment, description=f"The models that medsweep evaluated in experiment '{self._experiment}'."
            )
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        with self.store.as_default():
            created = self._client.create_model_version(
                self._experiment,
                source=f"models:/{model_id}",
                run_id=run_id,
                model_id=model_id,
                tags=self._version_tags(main, event),
                description=event["description"][:_DESCRIPTION_LENGTH],
            )
        self.summary.version_is_new = True
        return int(created.version)

    def _version_tags(self, main: ProjectedRun, event: Mapping[str, Any]) -> dict[str, str]:
        metrics = main.latest()
        figures = {
            f"medsweep.{name}": f"{metrics[name]:.6g}"
            for name in ("test_auroc", "test_auroc_low", "test_auroc_high")
            if name in metrics
        }
        return {
            **{name: str(value) for name, value in event["tags"].items()},
            **figures,
            KEY: main.key,
            "medsweep.search_key": event["source_key"],
            "medsweep.model_digest": event["model_digest"],
        }

    def _logged_model(self, main: ProjectedRun, run_id: str, model_path: Path, manifest: TrainedModel) -> str:
        """The logged model of this key: found, completed or made."""
        from mlflow.entities import LoggedModelOutput, Metric
        from mlflow.models import Model

        from medsweep.tracking.models import save_mlflow_model

        found = self._client.search_logged_models([self._experiment_id], filter_string=f"tags.`{KEY}` = '{main.key}'")
        ready = [each for each in found if str(each.status) == "READY"]
        if ready:
            return str(ready[0].model_id)
        model = (
            found[0]
            if found
            else self._client.create_logged_model(
                self._experiment_id,
                name=_MODEL_NAME,
                source_run_id=run_id,
                tags={KEY: main.key, "medsweep.model_digest": manifest.model_digest},
                params={name: str(value) for name, value in manifest.trial.items()},
                model_type="keras",
            )
        )
        outputs = self._client.get_run(run_id).outputs
        if model.model_id not in {each.model_id for each in (outputs.model_outputs if outputs else [])}:
            self._client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / _MODEL_NAME
            head = Model(
                artifact_path=model.artifact_location,
                run_id=run_id,
                model_uuid=model.model_id,
                model_id=model.model_id,
            )
            save_mlflow_model(model_path, manifest, folder, mlflow_model=head)
            self._client.log_model_artifacts(model.model_id, str(folder))
        points = [each for each in main.metrics if each.name.startswith("test_")]
        for batch in _batches(points):
            self._client.log_batch(
                run_id, metrics=[_metric(Metric, each, run_id=run_id, model_id=model.model_id) for each in batch]
            )
        self._client.finalize_logged_model(model.model_id, "READY")
        return str(model.model_id)


def _metric(make: Callable[..., Any], point: Point, **more: str) -> Any:
    return make(point.name, point.value, point.time, point.step, **more)


def _batches(points: list[Point]) -> Iterator[list[Point]]:
    for start in range(0, len(points), _BATCH):
        yield points[start : start + _BATCH]


def _dataset(described: Mapping[str, Any]) -> Any:
    """An MLflow dataset input: name, digest (cut to what MLflow keeps), context, and all else as its profile."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    more = {name: value for name, value in described.items() if name not in ("name", "digest", "context")}
    return DatasetInput(
        Dataset(
            name=str(described["name"]),
            digest=str(described["digest"])[:_DATASET_DIGEST_LENGTH],
            source_type="local",
            source=json.dumps({"uri": str(more.get("path", described["name"]))}),
            profile=json.dumps(more, ensure_ascii=False) if more else None,
        ),
        tags=[InputTag("mlflow.data.context", str(described["context"]))],
    )
