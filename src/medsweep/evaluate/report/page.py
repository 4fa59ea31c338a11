"""reports/report.html: everything about one evaluation in one file that needs no network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from medsweep.artifacts.section import Cell, Section, Table
from medsweep.evaluate.note import HEADLINES, size_of
from medsweep.evaluate.report import lineage_facts, search_tables, words
from medsweep.evaluate.report.flow import flow
from medsweep.evaluate.report.inputs import ReportInputs
from medsweep.evaluate.report.pictures import Album, Picture, Tile
from medsweep.layout import SPLITS
from medsweep.pages.page import render_page

_LONG_TABLE = 30
_STRIP = (
    "auroc",
    "average_precision",
    "accuracy",
    "balanced_accuracy",
    "sensitivity",
    "specificity",
    "ppv",
    "npv",
    "f1",
)


@dataclass(frozen=True)
class Chapter:
    """A chapter of the page, with the parts whose sections belong to it.

    Args:
        anchor: its id.
        title: its heading.
        meaning: what it is for, in one sentence for a clinician.
        parts: names of `evaluate.parts`.
    """

    anchor: str
    title: str
    meaning: str
    parts: tuple[str, ...] = ()


CHAPTERS = (
    Chapter("summary", "Summary", "What was found, in plain words; everything below explains it."),
    Chapter("data", "The data and its problems", "A model is only as good as the images it was made and tested with."),
    Chapter("flow", "From files to splits", "Which images and patients took part, and which were left out and why."),
    Chapter(
        "search", "The search", "What was tried before this model was chosen, all judged on validation images alone."
    ),
    Chapter(
        "results",
        "Results on the test split",
        "How often the model is right on images that took no part in its making, and how sure that is.",
        ("intervals", "power"),
    ),
    Chapter(
        "decisions",
        "Decisions",
        "What acting on the model's answer would mean: how many are found, and how many alarms are false.",
        ("operating_points", "decision_curve", "conformal", "abstention"),
    ),
    Chapter(
        "calibration",
        "Calibration",
        "Whether what the model calls 80 % probable comes true 80 times in 100.",
        ("calibration",),
    ),
    Chapter("subgroups", "Subgroups", "Whether the model is worse for some patients than for others.", ("subgroups",)),
    Chapter(
        "robustness",
        "Robustness",
        "How much worse it gets on noisy, blurred or foreign images, and whether it notices.",
        ("robustness", "out_of_distribution"),
    ),
    Chapter(
        "explanations",
        "Explanations",
        "Which parts of an image the answer rests on, and whether pictures that claim to show it can be believed.",
        ("explanations",),
    ),
    Chapter("failures", "Failures", "The mistakes that the model was surest of: what they share is worth a look."),
    Chapter("more", "Further findings", "What else was looked at."),
    Chapter("lineage", "Environment and lineage", "What this result was made from, to the byte."),
    Chapter("reproduce", "How to reproduce it", "The commands that bring this very result back."),
)
_PAGES = ("summary", "data", "flow", "search", "results", "calibration", "failures", "lineage", "reproduce")
"""Chapters with a template of their own; the others consist of sections alone."""
_ANCHORS = {part: each.anchor for each in CHAPTERS for part in each.parts}


@dataclass(frozen=True)
class Shown:
    """A section as the page shows it: its figures embedded, long tables folded."""

    section: Section
    pictures: tuple[Picture, ...]
    folded: tuple[Table, ...]
    open: tuple[Table, ...]


@dataclass(frozen=True)
class StripRow:
    """A metric in the strip of intervals: places 0 to 1, None where undefined."""

    name: str
    value: float
    low: float | None
    high: float | None


def report_page(inputs: ReportInputs) -> str:
    """The page."""
    report = inputs.report
    album = Album()
    tiles: list[Tile] = album.tiles(inputs.mistakes, inputs.manifest.value_range, synthetic=report.synthetic)
    own = {
        name: picture
        for name, caption in {
            "roc": "ROC: sensitivity against false-positive rate at every threshold. The dot: as decided.",
            "precision_recall": "Precision against recall at every threshold; precision depends on how common a class "
            "is.",
            "confusion": "True classes in rows, decided ones in columns: images, and the share of each row.",
            "calibration": "Observed share against claimed probability; below, how often each claim was made.",
        }.items()
        if (picture := album.own(inputs.folder, f"plots/{name}.svg", _synthetic(caption, report.synthetic))) is not None
    }
    searches = [
        picture
        for name, caption in {
            "history": f"{inputs.manifest.objective} of each trial, in the order they were tried.",
            "learning_curves": f"{inputs.manifest.objective} after each epoch, a line a trial.",
            "importance": "How much of the objective's variance each hyperparameter explains.",
        }.items()
        if (picture := album.own(inputs.before.search_plots, f"{name}.svg", _synthetic(caption, report.synthetic)))
        is not None
    ]
    by_chapter: dict[str, list[Shown]] = {}
    for section in report.sections:
        by_chapter.setdefault(_ANCHORS.get(section.name, "more"), []).append(_shown(section, inputs, album))
    off = [name for name in inputs.parts if inputs.section(name) is None]
    chapters = [
        each
        for each in CHAPTERS
        if each.anchor in _PAGES or each.anchor in by_chapter or any(part in off for part in each.parts)
    ]
    title = (
        f"{' and '.join(report.class_names)}" if len(report.class_names) == 2 else f"{len(report.class_names)} classes"
    )
    return render_page(
        "medsweep.evaluate.report",
        "report.html",
        {
            "synthetic": report.synthetic,
            "title": f"{'Synthetic: evaluation' if report.synthetic else 'Evaluation'} of a model for {title}",
            "size": size_of(report),
            "report": report,
            "manifest": inputs.manifest,
            "quality": inputs.quality,
            "splits": SPLITS,
            "chapters": chapters,
            "titles": {each.anchor: each.title for each in CHAPTERS},
            "pages": _PAGES,
            "sections": by_chapter,
            "off": {each.anchor: [part for part in each.parts if part in off] for each in CHAPTERS},
            "keys": words.keys(inputs),
            "summary": words.summary(inputs),
            "caveats": words.caveats(inputs, _ANCHORS),
            "first_words": [(each, _ANCHORS.get(each.name, "more")) for each in report.sections if each.words],
            "split_origin": words.split_origin(inputs.quality),
            "left_out": words.left_out(inputs.quality),
            "preprocessing": words.preprocessing(inputs.quality, inputs.manifest.trial),
            "class_table": class_table(inputs),
            "flow": flow(inputs.quality, n_images=report.n_images, n_patients=report.n_patients),
            "selection": words.selection(inputs),
            "failed_trials": search_tables.failures(inputs.before.trials),
            "tried": search_tables.tried(inputs),
            "tried_settings": search_tables.tried_settings(inputs),
            "heat": search_tables.heat(inputs),
            "best": search_tables.best(inputs),
            "searches": searches,
            "cautions": () if inputs.section("intervals") is not None else report.cautions,
            "intervals_by": words.intervals_by(inputs),
            "decided": inputs.decided,
            "metrics": metric_table(inputs),
            "strip": _strip(inputs),
            "per_class": per_class_table(inputs),
            "confusions": _confusions(inputs),
            "own": own,
            "tiles": tiles,
            "n_mistakes": inputs.n_mistakes,
            "small": max(inputs.manifest.input_shape[:2]) <= 64,
            "architecture": words.architecture(inputs),
            "training": words.training(inputs),
            "versions": lineage_facts.versions(),
            "digests": lineage_facts.digests(inputs),
            "commands": lineage_facts.commands(inputs),
            "settings": {**inputs.settings, **inputs.manifest.trial},
        },
    )


def metric_table(inputs: ReportInputs) -> Table:
    """Every metric with its interval."""
    report = inputs.report
    known = [*HEADLINES, *(name for name in report.metrics if name not in HEADLINES)]
    rows: list[tuple[Cell, ...]] = []
    for name in known:
        each = report.metrics.get(name)
        # The loss of the training figures is the log-loss once more.
        if each is not None and name != "loss":
            rows.append((HEADLINES.get(name, name), each.value, each.low, each.high))
    kind = "synthetic test images" if report.synthetic else "test images"
    return Table(
        f"Metrics on {size_of(report)} ({kind}) with {100 * report.confidence:g} % intervals",
        ("metric", "value", "low", "high"),
        tuple(rows),
    )


def per_class_table(inputs: ReportInputs) -> Table | None:
    """Each class against the rest; None for a binary task, which has its figures above."""
    report = inputs.report
    if report.task == "binary":
        return None
    names = ("auroc", "average_precision", "sensitivity", "specificity", "ppv", "f1")
    return Table(
        "Each class against the rest, without intervals",
        ("class", "images", *(HEADLINES[name] for name in names)),
        tuple(
            (name, int(own.get("support") or 0), *(own.get(each) for each in names))
            for name, own in report.per_class.items()
        ),
    )


def class_table(inputs: ReportInputs) -> Table:
    """Images (and patients) of each class in each split."""
    quality = inputs.quality
    known = quality["patients"]["known"]

    def row(name: str, each: Sequence[Any]) -> tuple[Cell, ...]:
        cells: list[Cell] = [name]
        for split in each:
            cells.append(int(split["images"]))
            if known:
                cells.append(split["patients"])
        return tuple(cells)

    splits = [quality["splits"][name] for name in SPLITS]
    columns = ["class"]
    for name in SPLITS:
        columns += [f"{name} images", f"{name} patients"] if known else [f"{name} images"]
    rows = [row(name, [split["classes"][name] for split in splits]) for name in quality["class_names"]]
    kind = "Synthetic images" if quality["synthetic"] else "Images"
    return Table(
        f"{kind}{' and patients' if known else ''} of each class in each split",
        tuple(columns),
        (*rows, row("all", splits)),
    )


def _confusions(inputs: ReportInputs) -> list[Table]:
    """The confusion matrix as a table, for those who cannot see the figure; one a label for multi-label."""
    report = inputs.report
    if report.task == "multilabel":
        return [
            Table(
                f"Decisions on '{name}'",
                ("true", "decided no", "decided yes"),
                tuple((word, *row) for word, row in zip(("no", "yes"), counts, strict=True)),
            )
            for name, counts in zip(report.class_names, report.confusion, strict=True)
        ]
    rows = tuple((name, *row) for name, row in zip(report.class_names, report.confusion, strict=True))
    columns = ("true", *(f"decided {name}" for name in report.class_names))
    return [Table("Decisions: true classes in rows", columns, rows)]


def _strip(inputs: ReportInputs) -> list[StripRow]:
    found = []
    for name in _STRIP:
        each = inputs.report.metrics.get(name)
        if each is not None and each.value is not None:
            found.append(StripRow(HEADLINES[name], each.value, each.low, each.high))
    return found


def _shown(section: Section, inputs: ReportInputs, album: Album) -> Shown:
    return Shown(
        section,
        tuple(
            album.figure(inputs.folder, replace(each, caption=_synthetic(each.caption, inputs.report.synthetic)))
            for each in section.figures
        ),
        tuple(each for each in section.tables if len(each.rows) > _LONG_TABLE),
        tuple(each for each in section.tables if len(each.rows) <= _LONG_TABLE),
    )


def _synthetic(caption: str, synthetic: bool) -> str:
    if not synthetic or "ynthetic" in caption:
        return caption
    return f"{caption.rstrip('.')}. Synthetic images."
