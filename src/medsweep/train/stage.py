"""Stage 3: search, then write the winner. What an interruption left is taken up; what is finished is never repeated."""

from __future__ import annotations

import csv
import io
import os
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from medsweep.artifacts import files
from medsweep.artifacts.augmented import AugmentedViews
from medsweep.artifacts.prepared import PreparedSplit
from medsweep.artifacts.run_log import RunLog, read_log
from medsweep.artifacts.trained import TrainedModel
from medsweep.artifacts.trial import TrialOutcome
from medsweep.errors import ArtifactError, DataError, MedsweepError
from medsweep.layout import Layout
from medsweep.params import Params, Runtime, Train, WarmStart, dotted, load_yaml, without_names
from medsweep.tracking.lineage import code_digest, dataset, lineage
from medsweep.tracking.progress import progress_bar
from medsweep.tracking.system import SystemSampler
from medsweep.train import note
from medsweep.train.archive import Workplace, family_of
from medsweep.train.backbones import check_size
from medsweep.train.cluster import dask_workers
from medsweep.train.composition import Composition, compose
from medsweep.train.examples import TrainingData
from medsweep.train.executor import Workers, local_workers
from medsweep.train.final import build, facts_of
from medsweep.train.fit import prepare_worker
from medsweep.train.past import outcomes_of, stop_in
from medsweep.train.presets import presets_in_space
from medsweep.train.refit import FinalModel
from medsweep.train.search import Search
from medsweep.train.selection import Selection, Told, select
from medsweep.train.space import check_space, part_of
from medsweep.train.validation import Validation, validation_of

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

# What may change a result of this stage besides data and parameters.
_CODE = ("artifacts", "backend", "drawing", "imaging", "statistics", "train")
_SAMPLE_SECONDS = 10.0
# Kept in models/trials.csv: what a clock measured is not.
_FACTS = ("parameters", "multiply_adds", "file_bytes")


@dataclass(frozen=True)
class TrainSummary:
    """What the stage found.

    Args:
        manifest: of the model that was written.
        winner: its trial.
        outcomes: all trials.
        fitted: how many trials this run fitted itself (the others were finished before).
        extended: how many trials were taken over from the same search with another budget.
        seconds: the stage took.
    """

    manifest: TrainedModel
    winner: TrialOutcome
    outcomes: Sequence[TrialOutcome]
    fitted: int
    extended: int
    seconds: float

    def lines(self) -> list[str]:
        """The summary in plain words."""
        counts = ", ".join(f"{count} {status}" for status, count in self.manifest.n_trials.items())
        config = self.winner.config
        found = [
            f"{len(self.outcomes)} trials in {self.seconds:.0f} s: {counts}.",
            f"Winner: {config.title}, {self.manifest.objective} {self.manifest.objective_value:.4f} "
            "(chosen as the best of many, so it flatters; the test split tells).",
            *note.selection_lines(self.manifest),
        ]
        found.append(note.calibration_line(self.manifest))
        if self.manifest.stopped:
            found.insert(1, f"The search ended there: {self.manifest.stopped}.")
        if self.extended:
            found.append(f"{self.extended} trials were taken over from the same search with another budget.")
        taken_up = len(self.outcomes) - self.fitted - self.extended
        if taken_up:
            found.append(f"{taken_up} of them were finished before an interruption and not repeated.")
        reasons = Counter(each.error for each in self.outcomes if each.error is not None)
        found += [f"Failed {count}×: {reason}." for reason, count in reasons.most_common(3)]
        found.append("Next: dvc repro evaluates it on the test split; medsweep ui shows the trials.")
        return found


def run(
    params: Params, layout: Layout, console: Console, *, on_log: Callable[[Path], None] | None = None
) -> TrainSummary:
    """Search `train.space` and write models/.

    Args:
        params: `train` decides the result; `runtime` only how fast it comes.
        layout: where to read and write.
        console: for the progress bar.
        on_log: told once where the log of this search grows, for whoever wants to follow it.

    Raises:
        ParamsError: the space names what no table has.
        ArtifactError: an input is missing or was changed since it was written.
        DataError: the validation split cannot tell the objective.
        SearchError: no trial was completed.
    """
    started = time.monotonic()
    job = _Job.open(params, layout)
    with _alone(layout, job.family, console), _leave_with_dvc(console):
        place = Workplace.of(layout, job.family)
        work = place.work
        beginning = job.beginning(layout, lineage(layout))
        past, interrupted = place.take_up(job.key, beginning, params.train.search)
        with RunLog(place.log) as log:
            finished_before = sum(event["event"] == "trial" for event in past)
            # Told by the first line after `begin`, when the log was made: later runs of it are resumptions.
            extended = sum(event["trials"] for event in past if event["event"] == "extended")
            # Cut off while it put its outputs in their places: the log is complete, the outputs are made again.
            ended = bool(past) and past[-1]["event"] == "end"
            if not past:
                log.append("begin", **beginning)
            elif interrupted and not ended:
                log.append("resumed", finished_trials=finished_before)
                console.print(f"Taking up an interrupted search: {finished_before} trials are finished.")
            elif extended:
                console.print(f"Going on from the same search with another budget: {extended} trials are the same.")
            if on_log is not None:
                on_log(place.log)
            networks = len(job.validation.parts)
            with (
                _bar(console, params.train, networks) as watch,
                _workers(params.runtime) as workers,
            ):
                # Nothing may follow the line `end`.
                sampler = SystemSampler(lambda values: log.append("system", values=values), _SAMPLE_SECONDS)
                with nullcontext() if ended else sampler:
                    search = Search(
                        params.train,
                        job.open_data(work),
                        log,
                        past,
                        place.checkpoints,
                        workers,
                        watch,
                        job.validation.parts,
                        place.predictions,
                    )
                    outcomes = search.run()
                    watch.end("choosing")
                    told = _told(search, outcomes, job.validation)
                    selection = select(params.train, job.train.task, told, job.validation)
                    composition = compose(params.train, job.train.task, selection, told, job.validation)
                    watch.say("writing the model")
                    with _writer(params.runtime, workers) as writer:
                        final = build(search, composition, told, job.validation, job.train.task, writer, work, layout)
            winner = selection.winner
            stop = stop_in(list(read_log(place.log)))
            manifest = job.manifest(outcomes, selection, composition, final, stop.reason if stop else None)
            told.save(work / layout.trial_predictions.name, job.validation)
            write_pictures(work / "plots", params.train, outcomes, synthetic=job.train.synthetic)
            manifest.save(work / layout.trained.name)
            files.write_text(work / layout.trials.name, trials_csv(outcomes))
            _move_in(work, layout)
            seconds = time.monotonic() - started
            if not ended:
                _log_results(log, layout, params.train, manifest, winner, outcomes, final, seconds)
        files.copy_file(place.log, layout.search_log)
        place.finish()
    return TrainSummary(manifest, winner, outcomes, len(outcomes) - finished_before, extended, seconds)


def _workers(runtime: Runtime) -> Workers:
    """Where trials are fitted."""
    if runtime.executor == "dask":
        return dask_workers(runtime.dask, _CODE)
    return local_workers(runtime.workers, prepare_worker)


@contextmanager
def _writer(runtime: Runtime, workers: Workers) -> Iterator[Workers]:
    """Where the model is written: on this machine, which keeps it."""
    if runtime.executor == "local":
        yield workers
        return
    with local_workers(1, prepare_worker) as here:
        yield here


@dataclass(frozen=True)
class _Job:
    """The inputs of one search, the key that they determine, and its family (the key without the budget)."""

    params: Params
    train: PreparedSplit
    val: PreparedSplit
    data: TrainingData
    digests: Mapping[str, str]
    key: str
    family: str
    validation: Validation

    @classmethod
    def open(cls, params: Params, layout: Layout) -> _Job:
        check_space(params.train, max_views=params.augment.views)
        presets_in_space(params.train)
        train = PreparedSplit.load(layout.prepared_split("train"))
        val = PreparedSplit.load(layout.prepared_split("val"))
        for backbone in part_of(params.train.space, "backbone"):
            check_size(backbone, *train.images.shape[1:3])
        validation = validation_of(params.train, train, val)
        _check_splits(train, val, params.train.search.objective, folded=validation.folds is not None)
        views = {}
        for policy in sorted({str(each) for each in params.train.space.policy} - {"none"}):
            found = AugmentedViews.load(layout.augmented_policy(policy))
            if found.prepared_digest != train.digest:
                raise ArtifactError(
                    "belongs to other training images than data/prepared/train holds.",
                    where=layout.relative(layout.augmented_policy(policy)),
                    fix="Run dvc repro augment.",
                )
            views[policy] = found.digest
        digests = {
            "prepared_train": train.digest,
            "prepared_val": val.digest,
            "augmented": files.digest_of(views),
            "params": files.digest_of(params.train.model_dump()),
            "code": code_digest(_CODE),
            **({"warm_start": params.train.warm_start.sha256} if params.train.warm_start else {}),
        }
        key = files.digest_of(digests)
        family = files.digest_of({**digests, "params": family_of(params.train)})
        data = TrainingData(layout.prepared_split("train"), layout.prepared_split("val"), layout.augmented, key)
        if params.train.warm_start is not None:
            data = replace(data, warm_start=_warm_start(layout, params.train.warm_start))
        return cls(params, train, val, data, digests, key, family, validation)

    def open_data(self, work: Path) -> TrainingData:
        """The arrays, and the folds where there are any, which every worker reads from one file."""
        if self.validation.folds is None:
            return self.data
        path = work / "folds.npy"
        with files.replacing(path) as temporary, temporary.open("wb") as stream:
            np.save(stream, self.validation.folds, allow_pickle=False)
        return replace(self.data, folds=path)

    def beginning(self, layout: Layout, tags: Mapping[str, str]) -> dict[str, Any]:
        source = without_names(self.params.prepare.source.model_dump())
        settings = {**dotted(self.params), **dotted(source, "prepare.source")}
        return {
            "kind": "search",
            "key": self.key,
            "title": f"search · {self.key[:8]}",
            # `experiment` and `runtime` change no result.
            "params": {k: v for k, v in settings.items() if k.split(".")[0] in ("prepare", "augment", "train")},
            "tags": {
                **tags,
                **{f"medsweep.{name}_digest": value for name, value in self.digests.items() if name not in ("params",)},
            },
            "datasets": [dataset(layout, self.train, "training"), dataset(layout, self.val, "validation")],
        }

    def manifest(
        self,
        outcomes: Sequence[TrialOutcome],
        selection: Selection,
        composition: Composition,
        final: FinalModel,
        stopped: str | None,
    ) -> TrainedModel:
        winner = selection.winner
        height, width, channels = self.train.images.shape[1:]
        counts = Counter(each.status for each in outcomes)
        return TrainedModel(
            model_digest=final.digest,
            members=tuple(composition.weights),
            class_names=self.train.class_names,
            task=self.train.task,
            input_shape=(height, width, channels),
            value_range=self.train.value_range,
            objective=self.params.train.search.objective,
            objective_value=float(winner.objective or 0.0),
            threshold=final.decisions.threshold,
            threshold_rule=self.params.train.threshold,
            temperature=final.calibration.temperature,
            trial=winner.config.dotted(),
            facts={name: final.facts[name] for name in _FACTS},
            n_trials={status: counts[status] for status in ("complete", "pruned", "failed")},
            digests=self.digests,
            search_key=self.key,
            synthetic=self.train.synthetic,
            calibration=final.calibration.facts,
            operating_points=final.decisions.operating_points,
            files=final.files,
            stopped=stopped,
            selection=self._chosen(selection),
            final=facts_of(composition, self.params.train, self.validation),
        )

    def _chosen(self, selection: Selection) -> dict[str, Any]:
        search, bias = self.params.train.search, selection.bias
        folded = self.validation.folds is not None
        return {
            "validation": self.validation.kind,
            "why": self.validation.why,
            "folds": search.cross_validation.folds if folded else None,
            "repeats": search.cross_validation.repeats if folded else None,
            "choose": search.choose,
            "best": selection.best.config.number,
            "standard_error": selection.standard_error,
            "value": bias.value if bias else None,
            "corrected": bias.corrected if bias else None,
            "low": bias.low if bias else None,
            "high": bias.high if bias else None,
            "inflation": bias.inflation if bias else None,
            "compared": selection.compared,
        }


def _warm_start(layout: Layout, known: WarmStart) -> Path:
    path = layout.root / known.path
    if not path.is_file():
        raise ArtifactError("does not exist.", where=f"train.warm_start.path: {known.path}")
    found = files.digest_file(path)
    if found != known.sha256:
        raise ArtifactError(
            f"is another file: its SHA-256 is {found}.",
            where=f"train.warm_start.path: {known.path}",
            fix="If it is the right one, write that into train.warm_start.sha256.",
        )
    return path


def _told(search: Search, outcomes: Sequence[TrialOutcome], validation: Validation) -> Told:
    valued = tuple(each for each in outcomes if each.status != "failed")
    files_of = search.predictions_of(valued)
    # At a rung that a trial did not come to stands what it said last.
    rungs = [
        np.stack([validation.predictions(found[min(rung, len(found) - 1)]) for found in files_of])
        for rung in range(max(map(len, files_of)))
    ]
    return Told(valued, tuple(rungs), tuple(len(found) for found in files_of))


def _check_splits(train: PreparedSplit, val: PreparedSplit, objective: str, *, folded: bool) -> None:
    if train.class_names != val.class_names or train.images.shape[1:] != val.images.shape[1:]:
        raise ArtifactError("train and val were not prepared together.", where="data/prepared", fix="Run dvc repro.")
    if objective == "val_log_loss" or folded:
        return
    for k, name in enumerate(val.class_names):
        there = val.labels[:, k] == 1 if val.task == "multilabel" else val.labels == k
        if not there.any() or there.all():
            lack = "no image" if not there.any() else "only images"
            raise DataError(
                f"the validation split has {lack} of class '{name}', so {objective} is undefined.",
                where="train.search.objective",
                fix="Use val_log_loss, or give the validation split images of every class (prepare.split).",
            )


@contextmanager
def _alone(layout: Layout, key: str, console: Console) -> Iterator[None]:
    """One process at a time works on a search; a second one waits for it."""
    from filelock import FileLock, Timeout

    path = layout.lock(f"train-{key[:16]}")
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        console.print("Another process is at work on this very search; waiting until it is done.")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _leave_with_dvc(console: Console) -> Iterator[None]:
    """Stop when the `dvc` that started this stage is gone: it would run on unseen, and be in the way of the next."""
    import psutil

    ancestors = psutil.Process().parents() if "DVC_ROOT" in os.environ else []
    dvc = next((each for each in ancestors if _is_dvc(each)), None)
    over = threading.Event()

    def watch() -> None:
        while dvc is not None and not over.wait(2.0):
            if not dvc.is_running() or dvc.status() == psutil.STATUS_ZOMBIE:
                os.kill(os.getpid(), signal.SIGINT)
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()


def _is_dvc(process: Any) -> bool:
    import psutil

    try:
        return any(Path(part).stem == "dvc" or part == "dvc" for part in process.cmdline()[:3])
    except psutil.Error:
        return False


class _Watch:
    """Shows how far the search is: every trial counts its epochs to the last rung, however early it stops."""

    def __init__(self, bar: Progress, task: TaskID, total: int, max_epochs: int) -> None:
        self._bar, self._task, self._total, self._max_epochs = bar, task, total, max_epochs
        self._trained: Counter[int] = Counter()

    def segment(self, trial: int, epochs: int) -> None:
        self._trained[trial] += epochs
        self._bar.advance(self._task, epochs)

    def finished(self, outcome: TrialOutcome, best: TrialOutcome | None) -> None:
        self._bar.advance(self._task, self._max_epochs - self._trained[outcome.config.number])
        if best is not None:
            self.say(f"best: trial {best.config.number}, {best.objective:.4f}")

    def end(self, detail: str) -> None:
        """All trials that will be are done."""
        self._bar.update(self._task, completed=self._total, detail=detail)

    def say(self, detail: str) -> None:
        self._bar.update(self._task, detail=detail)


@contextmanager
def _bar(console: Console, train: Train, networks: int) -> Iterator[_Watch]:
    with progress_bar(console) as bar:
        epochs = train.search.max_epochs * networks
        total = train.search.trials * epochs
        yield _Watch(bar, bar.add_task("train (epochs)", total=total, detail=""), total, epochs)


def write_pictures(folder: Path, train: Train, outcomes: Sequence[TrialOutcome], *, synthetic: bool) -> None:
    """Draw the search's pictures and write what DVC plots from."""
    from medsweep.train import study_figures

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    study_figures.draw_all(folder, train, outcomes, synthetic=synthetic)
    files.write_text(folder / "epochs.csv", _epochs_csv(outcomes))


def _epochs_csv(outcomes: Sequence[TrialOutcome]) -> str:
    names = sorted({name for each in outcomes for epoch in each.history for name in epoch.validation})
    rows = [
        {
            "trial": outcome.config.number,
            "epoch": epoch.number,
            "loss": epoch.loss,
            "accuracy": epoch.accuracy,
            **epoch.validation,
        }
        for outcome in outcomes
        for epoch in outcome.history
    ]
    return _csv(["trial", "epoch", "loss", "accuracy", *names], rows)


def trials_csv(outcomes: Sequence[TrialOutcome]) -> str:
    """models/trials.csv: a row a trial, its outcome and every value by dotted name; nothing that a clock measured."""
    metrics = sorted({name for each in outcomes for epoch in each.history[-1:] for name in epoch.validation})
    values = sorted({name for each in outcomes for name in each.config.dotted()})
    rows: list[dict[str, Any]] = []
    for each in outcomes:
        last = each.history[-1] if each.history else None
        row: dict[str, Any] = {
            "number": each.config.number,
            "status": each.status,
            "objective": each.objective,
            "epochs": len(each.history),
            "error": each.error,
            "seed": each.config.seed,
            **each.config.dotted(),
            **{name: int(each.facts[name]) for name in _FACTS if name in each.facts},
        }
        if last is not None:
            row |= {"loss": last.loss, "accuracy": last.accuracy, **last.validation}
        rows.append(row)
    head = ["number", "status", "objective", "epochs", "loss", "accuracy", *metrics, *_FACTS, "error", "seed"]
    return _csv([*head, *values], rows)


def _csv(names: list[str], rows: list[dict[str, Any]]) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, names, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        # repr gives the shortest digits that read back to the same number.
        writer.writerow({k: repr(v) if isinstance(v, float) else v for k, v in row.items()})
    return stream.getvalue()


def _move_in(work: Path, layout: Layout) -> None:
    """Put the finished outputs in their places: each is whole or not there."""
    for target in (
        layout.model,
        layout.trained,
        layout.trials,
        layout.trial_predictions,
        layout.validation,
        layout.features,
    ):
        files.copy_file(work / target.name, target)
    files.copy_folder(work / "plots", layout.search_plots)


def _log_results(
    log: RunLog,
    layout: Layout,
    train: Train,
    manifest: TrainedModel,
    winner: TrialOutcome,
    outcomes: Sequence[TrialOutcome],
    final: FinalModel,
    seconds: float,
) -> None:
    for path in sorted(layout.search_plots.glob("*.svg")):
        log.append_file(path, root=layout.root, title=path.stem.replace("_", " "), group="figures")
    for path, title in ((layout.trials, "every trial"), (layout.trained, "the winner's manifest")):
        log.append_file(path, root=layout.root, title=title, group="search")
    data_pages = [layout.data_quality_page, layout.data_quality, *sorted(layout.augmentation_previews.glob("*.png"))]
    for path in data_pages:
        if path.is_file():
            log.append_file(path, root=layout.root, title=path.stem.replace("_", " "), group="data")
    objectives = np.array([each.objective for each in outcomes if each.status == "complete"], dtype=np.float64)
    values = {f"best_{train.search.objective}": manifest.objective_value}
    values |= {f"n_{status}": float(count) for status, count in manifest.n_trials.items()}
    values |= {f"median_{train.search.objective}": float(np.median(objectives))}
    for name in ("standard_error", "corrected", "inflation"):
        if manifest.selection.get(name) is not None:
            values[f"{name}_{train.search.objective}"] = manifest.selection[name]
    values |= {f"model_{name}": value for name, value in final.facts.items()}
    values |= {"cpu_seconds": round(sum(each.seconds for each in outcomes), 3)}
    log.append("metrics", values=values)
    log.append("note", text=note.search_note(train, manifest, winner, outcomes))
    log.append("end", seconds=round(seconds, 3))


def finished_search(layout: Layout, known: Train) -> tuple[Train, list[TrialOutcome]]:
    """The workspace's search for whoever rebuilds the study: its parameters, and the outcomes that its log tells.

    Args:
        layout: the project.
        known: what params.yaml says now. Where it was edited since the search, dvc.lock tells what it said then.

    Raises:
        MedsweepError: there is no finished search, or its parameters are not known any more.
    """
    events = list(read_log(layout.search_log))
    if not events or events[-1]["event"] != "end":
        raise MedsweepError(
            "tells of no finished search.", where=layout.relative(layout.search_log), fix="Run dvc repro train."
        )
    wanted = TrainedModel.load(layout.trained).digests["params"]
    for train in (known, _locked_params(layout)):
        if train is not None and files.digest_of(train.model_dump()) == wanted:
            return train, outcomes_of(events)
    raise MedsweepError(
        "neither params.yaml nor dvc.lock says what this search was asked.",
        where=layout.relative(layout.search_log),
        fix="Restore the dvc.lock that belongs to it, or run dvc repro train.",
    )


def _locked_params(layout: Layout) -> Train | None:
    """`train` as dvc.lock recorded it when the stage last ran; None where it does not."""
    if not layout.dvc_lock.is_file():
        return None
    found: Any = load_yaml(layout.dvc_lock)
    for key in ("stages", "train", "params", layout.params.name, "train"):
        found = found.get(key) if isinstance(found, Mapping) else None
    try:
        return Train.model_validate(found)
    except ValidationError:  # of another version of the schema
        return None
