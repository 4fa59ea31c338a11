"""Stage 4: the trained model on the test split, once. Reads that split, the model and its manifest, nothing else."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medsweep.artifacts import files
from medsweep.artifacts.evaluation import Estimate, EvaluationReport
from medsweep.artifacts.predicted import PredictedSplit
from medsweep.artifacts.prepared import PreparedSplit
from medsweep.artifacts.record import ORACLE_COLUMN
from medsweep.artifacts.run_log import RunLog
from medsweep.artifacts.trained import TrainedModel
from medsweep.errors import ArtifactError, DataError, unknown_name
from medsweep.evaluate import figures, note, plot_data, usage
from medsweep.evaluate.cautions import cautions
from medsweep.evaluate.parts import PARTS, Evaluated
from medsweep.evaluate.predict import batch_for, predict
from medsweep.evaluate.report import documents
from medsweep.evaluate.report.inputs import Before, ReportInputs
from medsweep.layout import Layout
from medsweep.params import Params, dotted
from medsweep.statistics import intervals, metrics
from medsweep.statistics.areas import auroc_intervals
from medsweep.statistics.operating_points import decide
from medsweep.statistics.weighted import Ranking
from medsweep.tracking.lineage import code_digest, dataset, lineage
from medsweep.tracking.progress import progress_bar
from medsweep.tracking.system import SystemSampler

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

_CODE = ("artifacts", "backend", "drawing", "evaluate", "explain", "imaging", "pages", "statistics")
_SYSTEM_SECONDS = 5.0
# Resampling repeats images, which widens every bin's gap: a percentile interval of ECE lies above the value itself.
_WITHOUT_INTERVAL = ("ece",)
# What lies between 0 and 1 and is better when it is higher: drawn together.
_SHARES = frozenset({"auroc", "average_precision", "accuracy", "balanced_accuracy", "sensitivity", "specificity", "f1"})
_HIDDEN = ("accuracy_at_half", "log_loss")


@dataclass(frozen=True)
class EvaluateSummary:
    """What the stage found.

    Args:
        report: as it was written.
        decided: how probabilities became decisions, in words.
        undefined: why a metric has no value, by its name.
        evaluations: different models evaluated on this test split so far, this one included.
    """

    report: EvaluationReport
    decided: str
    undefined: Mapping[str, str]
    evaluations: int

    def lines(self) -> list[str]:
        """The summary in plain words, and what to do next."""
        known = self.report
        kind = "synthetic test split" if known.synthetic else "test split"
        found = [
            f"Evaluated on the {kind}: {note.size_of(known)}; decisions by {self.decided}.",
            f"Intervals are {100 * known.confidence:g} %, {note.intervals_by(known, f'resampling {known.resampled}')}."
            if known.metrics["accuracy"].low is not None
            else f"No intervals: there are fewer than two {known.resampled} to resample.",
        ]
        width = max(len(title) for title in note.HEADLINES.values())
        for name, title in note.HEADLINES.items():
            each = known.metrics.get(name)
            if each is not None and name not in _HIDDEN and each.value is not None:
                found.append(f"  {title:<{width}}  {note.shown(each)}")
        found += [f"Caution: {each}" for each in known.cautions]
        for why in dict.fromkeys(self.undefined.values()):
            names = ", ".join(note.HEADLINES[name] for name, reason in self.undefined.items() if reason == why)
            found.append(f"Undefined: {names}, because {why}.")
        if known.oracle_auroc is not None:
            found.append(f"An oracle that reads the phantoms' latent descriptors has AUROC {known.oracle_auroc:.3f}.")
        if self.evaluations == 1:
            found.append("This is the first model evaluated on this test split.")
        else:
            found.append(
                f"{self.evaluations} different models were evaluated on this test split so far: "
                "the best of them looks better than it is."
            )
        found.append("Report: reports/report.html. Model card and CLAIM checklist beside it.")
        found.append("Figures: reports/plots. Every image's probabilities: reports/predictions.csv.")
        found.append("Next: medsweep ui shows runs and versions; medsweep promote VERSION --to staging promotes one.")
        return found


def run(params: Params, layout: Layout, console: Console) -> EvaluateSummary:
    """Evaluate models/model.keras on data/prepared/test and write reports/.

    `loss` is the mean cross-entropy of the model's probabilities (so it equals `log_loss`), whatever loss trained it:
    losses of different kinds could not be compared. An oracle's AUROC is given for binary phantoms alone, where it is
    a ceiling of the same quantity.

    Args:
        params: `evaluate` decides the result; `runtime.workers` only how fast it comes.
        layout: where to read and write.
        console: for the progress bar.

    Raises:
        ArtifactError: an input is missing, was changed since it was written, or model and split do not fit.
        DataError: the test split is empty, or a probability is NaN.
    """
    started = time.monotonic()
    for name in params.evaluate.parts:
        if name not in PARTS:
            raise unknown_name("part", name, list(PARTS), where="evaluate.parts")
    manifest = TrainedModel.load(layout.trained, model=layout.model)
    split = PreparedSplit.load(layout.prepared_split("test"))
    _check_fit(manifest, split, layout)
    before = Before.read(layout)

    digests = {
        "model": manifest.model_digest,
        "manifest": files.digest_file(layout.trained),
        "test": split.digest,
        "params": files.digest_of(params.evaluate.model_dump()),
        "code": code_digest(_CODE),
        **before.digests,
    }
    key = files.digest_of(digests)
    work = layout.work("evaluate", key)
    shutil.rmtree(work, ignore_errors=True)
    (work / "plots").mkdir(parents=True)

    tags = {**lineage(layout), **{f"medsweep.{name}_digest": digests[name] for name in ("model", "test")}}
    with RunLog(work / layout.evaluation_log.name) as log:
        log.append(
            "begin",
            kind="evaluation",
            key=key,
            title=f"final · {key[:8]}",
            params={**dotted(params.evaluate, "evaluate"), **manifest.trial},
            tags=tags,
            datasets=[dataset(layout, split, "test")],
        )
        # The sampler logs from its own thread; this one logs nothing meanwhile.
        with SystemSampler(lambda values: log.append("system", values=values), _SYSTEM_SECONDS):
            probabilities = _predict(params, layout, split, console)
            decisions = decide(split.task, probabilities, manifest.threshold)
            report = _report(params, manifest, split, probabilities, decisions, digests, key)
            report = _with_parts(params, layout, work, manifest, split, probabilities, decisions, report, console)
            undefined = _undefined(report, split, decisions)
            _write(work, params, manifest, before, split, probabilities, decisions, report, undefined)
        _move_in(work, layout)

        evaluations = usage.record_evaluation(
            layout.state / usage.NAME,
            test_digest=split.digest,
            model_digest=manifest.model_digest,
            params_digest=digests["params"],
        )
        _log_results(log, layout, report, manifest, undefined=undefined, evaluations=evaluations, tags=tags)
        log.append("end", seconds=round(time.monotonic() - started, 3))
    files.copy_file(log.path, layout.evaluation_log)
    shutil.rmtree(work)
    return EvaluateSummary(report, note.decided_by(report, manifest.threshold_rule), undefined, evaluations)


def _check_fit(manifest: TrainedModel, split: PreparedSplit, layout: Layout) -> None:
    """Refuse a model and a test split that were not made for each other."""
    for what, of_model, of_split in (
        ("classes", ", ".join(manifest.class_names), ", ".join(split.class_names)),
        ("task", manifest.task, split.task),
        ("image shape", manifest.input_shape, split.images.shape[1:]),
        ("value range", manifest.value_range, split.value_range),
    ):
        if of_model != of_split:
            raise ArtifactError(
                f"the model was trained for another {what} than the test split has: {of_model}, not {of_split}.",
                where=layout.relative(layout.trained),
                fix="Train on the data as it is prepared now: dvc repro.",
            )
    if not len(split):
        raise DataError(
            "the test split has no image, so there is nothing to evaluate on.",
            where=layout.relative(layout.prepared_split("test")),
            fix="Raise prepare.split.test, or give the source a test split.",
        )


def _predict(params: Params, layout: Layout, split: PreparedSplit, console: Console) -> NDArray[np.float64]:
    _, height, width, _ = split.images.shape
    with progress_bar(console) as bar:
        task = bar.add_task("evaluate", total=len(split), detail="test images")
        return predict(
            layout.model,
            split.images,
            batch_for(height, width),
            n_classes=len(split.class_names),
            workers=params.runtime.workers,
            advance=lambda images: bar.advance(task, images),
        )


def _report(
    params: Params,
    manifest: TrainedModel,
    split: PreparedSplit,
    probabilities: NDArray[np.float64],
    decisions: NDArray[np.int64],
    digests: Mapping[str, str],
    key: str,
) -> EvaluationReport:
    known = params.evaluate.bootstrap
    found = intervals.bootstrap_intervals(
        split.task,
        split.labels,
        probabilities,
        decisions,
        split.groups,
        samples=known.samples,
        confidence=known.confidence,
        seed=known.seed,
        method=known.method,
    )
    estimates = {
        name: Estimate(_finite(each.value), None, None) if name in _WITHOUT_INTERVAL else _estimate(each)
        for name, each in found.items()
    }
    analytic = auroc_intervals(split.task, split.labels, probabilities, split.groups, known.confidence)[0]
    drawn = estimates["auroc"] if math.isfinite(analytic.low) else None
    estimates["auroc"] = _by_variance(estimates["auroc"], analytic)
    each_class = metrics.per_class(split.task, split.labels, probabilities, decisions)
    return EvaluationReport(
        metrics={"loss": estimates["log_loss"], **estimates},
        per_class={
            name: {metric: _finite(value) for metric, value in each_class[k].items()}
            for k, name in enumerate(split.class_names)
        },
        confusion=metrics.confusion(split.labels, decisions, len(split.class_names)).tolist(),
        class_names=split.class_names,
        task=split.task,
        n_images=len(split),
        n_patients=split.n_patients,
        confidence=known.confidence,
        resampled="patients" if split.has_patients else "images",
        threshold=manifest.threshold,
        oracle_auroc=_oracle_auroc(split),
        digests=dict(digests),
        key=key,
        synthetic=split.synthetic or manifest.synthetic,
        cautions=cautions(split, probabilities, decisions, estimates["auroc"]),
        drawn_auroc=drawn,
    )


def _with_parts(
    params: Params,
    layout: Layout,
    work: Path,
    manifest: TrainedModel,
    split: PreparedSplit,
    probabilities: NDArray[np.float64],
    decisions: NDArray[np.int64],
    report: EvaluationReport,
    console: Console,
) -> EvaluationReport:
    """The report with what each wanted part found, in the table's order."""
    sections = []
    wanted = [name for name in PARTS if name in params.evaluate.parts]
    with progress_bar(console) as bar:
        for name in wanted:
            task = bar.add_task("evaluate", total=1.0, detail=name)

            def advance(done: float, task: TaskID = task) -> None:
                bar.update(task, completed=done)

            evaluated = Evaluated(
                params, layout, split, manifest, probabilities, decisions, report, work / "plots", advance
            )
            sections.append(PARTS[name](evaluated))
            advance(1.0)
    return replace(report, sections=tuple(sections))


def _oracle_auroc(split: PreparedSplit) -> float | None:
    if split.task != "binary" or not split.synthetic or ORACLE_COLUMN not in split.columns:
        return None
    scores = split.columns[ORACLE_COLUMN].astype(np.float64)
    return _finite(Ranking(split.labels == 1, scores).areas(np.ones((len(split), 1)))[0][0])


def _undefined(report: EvaluationReport, split: PreparedSplit, decisions: NDArray[np.int64]) -> dict[str, str]:
    """Why each metric that has no value has none."""
    missing: list[str] = []
    never: list[str] = []
    for k, name in enumerate(split.class_names):
        labels, decided = (
            (each[:, k] == 1 if split.task == "multilabel" else each == k) for each in (split.labels, decisions)
        )
        for what, of_class in ((missing, labels), (never, decided)):
            if not of_class.any():
                what.append(f"'{name}'")
            elif of_class.all() and split.task == "multilabel":
                what.append(f"not '{name}'")
    causes = {
        "probabilities": [f"no test image is {' or '.join(missing)}"] if missing else [],
        "decisions": [f"no test image was decided to be {' or '.join(never)}"] if never else [],
    }
    found = {}
    for name, each in report.metrics.items():
        if each.value is None:
            needs = metrics.METRICS[name].needs if name in metrics.METRICS else "probabilities"
            why = causes["probabilities"] + (causes["decisions"] if needs == "decisions" else [])
            found[name] = " and ".join(why) or "it divides by 0 here"
    return found


def _write(
    work: Path,
    params: Params,
    manifest: TrainedModel,
    before: Before,
    split: PreparedSplit,
    probabilities: NDArray[np.float64],
    decisions: NDArray[np.int64],
    report: EvaluationReport,
    undefined: Mapping[str, str],
) -> None:
    """Everything but the log, into the work folder under its final names."""
    report.save(work / "evaluation.json", metrics_path=work / "metrics.json")
    PredictedSplit.of(split, probabilities, decisions).save(work / "predictions.csv")

    plots = work / "plots"
    curves = plot_data.curves_of(
        split, probabilities, report.per_class, _areas(params, split, probabilities, decisions, report)
    )
    reliabilities = plot_data.reliabilities_of(split, probabilities, params.evaluate.calibration_bins)
    plot_data.write_plot_data(plots, split, decisions, curves, reliabilities)
    shares = {
        title: report.metrics[name] for name, title in note.HEADLINES.items() if name in _SHARES & report.metrics.keys()
    }
    plot_data.write_intervals(plots / "intervals.csv", shares)

    caption = figures.Caption(f"test split: {note.size_of(report)}", report.confidence, report.synthetic)
    figures.roc(plots / "roc.svg", curves, caption)
    figures.precision_recall(plots / "precision_recall.svg", curves, caption)
    figures.calibration(
        plots / "calibration.svg", reliabilities, caption, report.metrics["ece"], report.metrics["brier"]
    )
    figures.confusion(plots / "confusion.svg", np.asarray(report.confusion), split.class_names, caption)
    shown, total = _mistakes(split, probabilities, decisions, params.evaluate.worst_mistakes)
    if params.evaluate.worst_mistakes:
        figures.worst_mistakes(plots / "worst_mistakes.png", shown, total, split.value_range, caption)
    documents.write(
        work,
        ReportInputs(
            report=report,
            manifest=manifest,
            before=before,
            settings=dotted(params.evaluate, "evaluate"),
            undefined=undefined,
            mistakes=shown,
            n_mistakes=total,
            decided=note.decided_by(report, manifest.threshold_rule),
            parts=tuple(PARTS),
            folder=work,
        ),
    )


def _areas(
    params: Params,
    split: PreparedSplit,
    probabilities: NDArray[np.float64],
    decisions: NDArray[np.int64],
    report: EvaluationReport,
) -> dict[int, dict[str, Estimate]]:
    """AUROC and average precision with intervals: of the positive class for a binary task, else of every class."""
    names = ("auroc", "average_precision")
    if split.task == "binary":
        return {1: {name: report.metrics[name] for name in names}}
    known = params.evaluate.bootstrap
    found = intervals.per_class_intervals(
        split.task,
        split.labels,
        probabilities,
        decisions,
        split.groups,
        samples=known.samples,
        confidence=known.confidence,
        seed=known.seed,
        method=known.method,
    )
    each = auroc_intervals(split.task, split.labels, probabilities, split.groups, known.confidence)[1:]
    drawn = {k: {name: _estimate(own[name]) for name in names} for k, own in found.items()}
    return {k: own | {"auroc": _by_variance(own["auroc"], each[k])} for k, own in drawn.items()}


def _by_variance(drawn: Estimate, area: intervals.Interval) -> Estimate:
    """An AUROC with the interval from its variance, where it has one: near 1 resampling promises too much
    (docs/statistics.md)."""
    return Estimate(drawn.value, area.low, area.high) if math.isfinite(area.low) else drawn


def _mistakes(
    split: PreparedSplit, probabilities: NDArray[np.float64], decisions: NDArray[np.int64], wanted: int
) -> tuple[list[figures.Mistake], int]:
    """The wrong decisions that the model gave the highest probability, and how many wrong ones there are.

    Multi-label: every label of an image is a decision of its own.
    """
    if split.task == "multilabel":
        claimed = np.where(decisions == 1, probabilities, 1.0 - probabilities)
        rows, labels = np.nonzero(decisions != split.labels)
        sure = claimed[rows, labels]
    else:
        (rows,) = np.nonzero(decisions != split.labels)
        labels = np.zeros_like(rows)
        sure = probabilities[rows, decisions[rows]]
    surest = np.lexsort((labels, split.record_ids[rows], -sure))[:wanted]
    names, shown = split.class_names, []
    for index in surest:
        row, k = rows[index], labels[index]
        if split.task == "multilabel":
            is_there = bool(split.labels[row, k])
            true, decided = (f"{names[k]}: {'yes' if there else 'no'}" for there in (is_there, not is_there))
        else:
            true, decided = names[split.labels[row]], names[decisions[row]]
        shown.append(
            figures.Mistake(
                np.asarray(split.images[row]), true, decided, float(sure[index]), str(split.record_ids[row])
            )
        )
    return shown, len(rows)


def _move_in(work: Path, layout: Layout) -> None:
    """Put the finished outputs in their places: each is whole or not there."""
    documents_made = (layout.report, layout.model_card, layout.claim_checklist)
    for target in (layout.evaluation, layout.metrics, layout.predictions, *documents_made):
        files.copy_file(work / target.name, target)
    files.copy_folder(work / "plots", layout.evaluation_plots)


def _log_results(
    log: RunLog,
    layout: Layout,
    report: EvaluationReport,
    manifest: TrainedModel,
    *,
    undefined: Mapping[str, str],
    evaluations: int,
    tags: Mapping[str, str],
) -> None:
    for path in sorted(each for kind in ("png", "svg") for each in layout.evaluation_plots.glob(f"*.{kind}")):
        log.append_file(path, root=layout.root, title=path.stem.replace("_", " "), group="figures")
    for path, title in (
        (layout.evaluation, "the whole evaluation"),
        (layout.metrics, "metrics with intervals"),
        (layout.predictions, "every image's probabilities"),
    ):
        log.append_file(path, root=layout.root, title=title, group="evaluation")
    for path, title in (
        (layout.report, "the report"),
        (layout.model_card, "the model card"),
        (layout.claim_checklist, "the CLAIM checklist"),
    ):
        log.append_file(path, root=layout.root, title=title, group="report")
    log.append("metrics", values=_figures_of(report, evaluations))
    log.append("note", text=note.run_note(report, manifest, undefined=undefined, evaluations=evaluations))
    log.append(
        "version",
        model=layout.relative(layout.model),
        model_digest=manifest.model_digest,
        manifest=layout.relative(layout.trained),
        source_key=manifest.search_key,
        description=note.version_description(report, manifest),
        tags={
            **tags,
            "medsweep.task": report.task,
            "medsweep.class_names": json.dumps(list(report.class_names), ensure_ascii=False),
            "medsweep.synthetic": str(report.synthetic).lower(),
        },
    )


def _figures_of(report: EvaluationReport, evaluations: int) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, each in report.metrics.items():
        for end, value in (("", each.value), ("_low", each.low), ("_high", each.high)):
            if value is not None:
                found[f"{name}{end}"] = value
    if report.oracle_auroc is not None:
        found["oracle_auroc"] = report.oracle_auroc
    return found | {"evaluations": float(evaluations), "n_images": float(report.n_images)}


def _estimate(each: intervals.Interval) -> Estimate:
    return Estimate(_finite(each.value), _finite(each.low), _finite(each.high))


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
