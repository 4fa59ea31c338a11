"""Stage 1: read the source, check it, split it, and write data/prepared and the data-quality report."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape

from medsweep.artifacts import files
from medsweep.artifacts.prepared import PreparedSplit, write_split
from medsweep.errors import DataError
from medsweep.imaging.fingerprint import SIDE
from medsweep.layout import SPLITS, Layout
from medsweep.params import Params, Prepare
from medsweep.prepare.checks.catalog import CHECKS, run_checks
from medsweep.prepare.checks.finding import Examined, Finding, counted
from medsweep.prepare.checks.near_duplicates import find_alike
from medsweep.prepare.collect import collect
from medsweep.prepare.identity import named
from medsweep.prepare.observed import Wanted
from medsweep.prepare.private import write_map
from medsweep.prepare.reading import AUDITS, Reader
from medsweep.prepare.report import NO_PATIENTS, Facts, IntensityCounts, data_quality, page
from medsweep.prepare.split import Splitting, assign_splits
from medsweep.prepare.spool import MetadataSpool, NameSpool, PixelSpool
from medsweep.prepare.standardize import standardization
from medsweep.prepare.table import ImageTable
from medsweep.sources.catalog import ImageSource, open_source
from medsweep.tracking.progress import progress_bar

_EXAMPLES = 3
# Checks of what cannot take part.
_LEFT_OUT = ("unreadable", "unknown_labels")


@dataclass(frozen=True)
class SplitSummary:
    """One split's size: its images, its patients (None where none are named) and its images of each class."""

    name: str
    images: int
    patients: int | None
    classes: Mapping[str, int]


@dataclass(frozen=True)
class PrepareSummary:
    """What the stage found and made.

    Args:
        listed: images that the source lists; prepared + unreadable + unknown_label.
        prepared: images that take part.
        unreadable, unknown_label: images that were left out.
        patients: distinct patients, None where the source names none.
        splits: train, val and test.
        given, carved: which splits came from the source, and which were carved out.
        warnings: what the checks found, in plain words.
        notes: what the checks measured that is no warning.
        synthetic: True where the images are made, not acquired.
        page: the data-quality page, from the project's root; None where none was written.
    """

    listed: int
    prepared: int
    unreadable: int
    unknown_label: int
    patients: int | None
    splits: tuple[SplitSummary, ...]
    given: tuple[str, ...]
    carved: tuple[str, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    synthetic: bool
    page: str | None

    def lines(self) -> list[str]:
        """What a person reads at the end."""
        kind = "synthetic images" if self.synthetic else "images"
        found = [f"{self.prepared} of {self.listed} {kind} " + ("prepared." if self.page else "can be prepared.")]
        left_out = [
            f"{n} {why}" for n, why in ((self.unreadable, "unreadable"), (self.unknown_label, "unknown label")) if n
        ]
        if left_out:
            found.append(f"Left out: {', '.join(left_out)}.")
        found.append(f"{self.patients} patients." if self.patients is not None else NO_PATIENTS)
        for each in self.splits:
            classes = ", ".join(f"{name} {n}" for name, n in each.classes.items())
            patients = f", {counted(each.patients, 'patient')}" if each.patients is not None else ""
            origin = "given" if each.name in self.given and each.name not in self.carved else "carved"
            found.append(f"{each.name} ({origin}): {counted(each.images, 'image')}{patients} ({classes}).")
        found.append(f"Checks: {counted(len(self.warnings), 'warning')}." if self.warnings else "Checks: all passed.")
        if self.page:
            found.append(f"Data quality: {self.page}.")
        return found


@dataclass(frozen=True)
class _Examination:
    examined: Examined
    splitting: Splitting
    findings: tuple[Finding, ...]
    notes: tuple[Finding, ...]
    masks: PixelSpool | None
    refusal: DataError | None


def run(params: Params, layout: Layout, console: Console) -> PrepareSummary:
    """Prepare the source's images.

    Writes data/prepared/{train,val,test}, reports/data_quality.{json,html} and, outside of all outputs,
    .medsweep/private/{records,findings}.csv. Memory does not grow with the number of images, apart from less than a
    kilobyte each; pixels wait in a file below .medsweep/work that is gone when the stage ends, however it ends.

    Raises:
        ParamsError: the source's settings are wrong.
        DataError: the source cannot be used, or a check that is an error found something; then all such findings are
            told at once, with their pictures in .medsweep/private/data_quality.html, and no output is written.
    """
    prepare = params.prepare
    source = open_source(prepare.source, layout.root)
    reader = _reader(source, prepare)
    with _spools(params, layout) as (folder, closes):
        names = closes.enter_context(closing(NameSpool(folder)))
        pixels = closes.enter_context(closing(PixelSpool(folder, reader.shape, reader.dtype)))

        def new_mask_spool() -> PixelSpool:
            return closes.enter_context(closing(PixelSpool(folder, reader.shape[:2], np.dtype(np.uint8))))

        found = _examine(params, layout, console, reader, folder, closes, names, pixels, new_mask_spool)
        if found.refusal is not None:
            _show_refused(prepare, reader, found, pixels, folder, layout)
            raise found.refusal
        _refused_page(layout).unlink(missing_ok=True)
        write_map(layout, _private_rows(found.examined.table, names))
        places = {name: layout.prepared_split(name) for name in SPLITS}
        facts = _write(prepare, reader, found, pixels, places)
        report = data_quality(facts)
        files.write_json(layout.data_quality, report)
        files.write_text(layout.data_quality_page, page(report, facts))
    return _summary(reader, found, page=layout.relative(layout.data_quality_page))


def _write(
    prepare: Prepare, reader: Reader, found: _Examination, pixels: PixelSpool, places: Mapping[str, Path]
) -> Facts:
    """Write the splits, each to its place, and say what the report needs to know of them."""
    table, value_range = found.examined.table, int(np.iinfo(reader.dtype).max)
    written, intensities = {}, {}
    for code, name in enumerate(SPLITS):
        part = table.take(np.flatnonzero(table.splits == code))
        intensities[name] = IntensityCounts(part.labels, len(reader.source.class_names), value_range)
        split = _split(name, part, reader, masked=found.masks is not None, value_range=value_range)
        written[name] = write_split(
            places[name],
            split,
            image_blocks=intensities[name].watch(pixels.blocks(part.rows)),
            mask_blocks=found.masks.blocks(part.rows) if found.masks is not None else None,
        )
    return Facts(
        prepare, reader.source, found.examined, found.splitting, found.findings, found.notes, written, intensities
    )


def _show_refused(
    prepare: Prepare, reader: Reader, found: _Examination, pixels: PixelSpool, folder: Path, layout: Layout
) -> None:
    """The page of data that are refused: whoever has to correct them wants to see them. No output of the stage."""
    places = {name: folder / "refused" / name for name in SPLITS}
    try:
        facts = _write(prepare, reader, found, pixels, places)
        files.write_text(_refused_page(layout), page(data_quality(facts), facts))
    finally:
        shutil.rmtree(folder / "refused", ignore_errors=True)


def inspect(params: Params, layout: Layout, console: Console) -> PrepareSummary:
    """Read and check everything as `run` does, and write no output of the stage.

    Raises:
        ParamsError, DataError: as `run` raises them.
    """
    source = open_source(params.prepare.source, layout.root)
    reader = _reader(source, params.prepare)
    with _spools(params, layout) as (folder, closes):
        names = closes.enter_context(closing(NameSpool(folder)))
        found = _examine(params, layout, console, reader, folder, closes, names, None, None)
    if found.refusal is not None:
        raise found.refusal
    return _summary(reader, found, page=None)


def _reader(source: ImageSource, prepare: Prepare) -> Reader:
    severities = prepare.checks.model_dump()
    audits = frozenset(name for name in AUDITS if severities[name] != "off" and not source.synthetic)
    wanted = Wanted.by(prepare.checks)
    return Reader(source, prepare.image, prepare.intensity, prepare.limits, audits, wanted)


@contextmanager
def _spools(params: Params, layout: Layout) -> Iterator[tuple[Any, ExitStack]]:
    """A folder for the spools, and what closes them."""
    folder = layout.work("prepare", files.digest_of(params.prepare.model_dump())[:16])
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with ExitStack() as closes:
            yield folder, closes
    finally:
        # Another run with the same parameters may still be using it.
        with suppress(OSError):
            folder.rmdir()


def _examine(
    params: Params,
    layout: Layout,
    console: Console,
    reader: Reader,
    folder: Path,
    closes: ExitStack,
    names: NameSpool,
    pixels: PixelSpool | None,
    new_mask_spool: Any,
) -> _Examination:
    source, prepare = reader.source, params.prepare
    thumbnails = closes.enter_context(closing(PixelSpool(folder, (SIDE, SIDE), np.dtype(np.uint8))))
    metadata = closes.enter_context(closing(MetadataSpool(folder)))
    with progress_bar(console) as progress:
        task = progress.add_task("reading images", total=len(source), detail="")
        collected = collect(
            reader,
            root=layout.root,
            workers=params.runtime.workers,
            names=names,
            pixels=pixels,
            thumbnails=thumbnails,
            metadata=metadata,
            new_mask_spool=new_mask_spool,
            advance=lambda n: progress.advance(task, n),
        )
    table = named(collected.table)
    alike = None
    if prepare.checks.near_duplicates != "off":
        with progress_bar(console) as progress:
            task = progress.add_task("comparing images", total=len(table), detail="near-duplicates")
            alike = find_alike(table, thumbnails, prepare.checks.near_duplicate_similarity)
            progress.update(task, completed=len(table))
    splitting = assign_splits(
        table, prepare.split, n_classes=len(source.class_names), alike=None if alike is None else alike.codes
    )
    examined = Examined(
        table=replace(table, splits=splitting.codes),
        class_names=source.class_names,
        rejected=collected.rejected,
        unknown_labels=source.unknown_labels,
        audits=collected.audits,
        settings=prepare.checks,
        thumbnails=thumbnails,
        metadata=metadata,
        alike=alike,
    )
    severities = prepare.checks.model_dump()
    with progress_bar(console) as progress:
        task = progress.add_task("checking the data", total=len(CHECKS), detail="")
        found = run_checks(
            examined, severities, begin=lambda title: progress.update(task, advance=1, detail=title.lower())
        )
    findings = tuple(each for each in found if each.alarm)
    # What is left out is listed, whatever the checks are set to.
    unasked = {
        name: "warn" if name in _LEFT_OUT and severity == "off" else "off" for name, severity in severities.items()
    }
    _write_findings(layout, examined.table, (*found, *run_checks(examined, unasked)), names)
    refusal = _tell(console, layout, examined.table, findings, severities, names, pictured=pixels is not None)
    notes = tuple(each for each in found if not each.alarm)
    return _Examination(examined, splitting, findings, notes, collected.masks, refusal)


def _tell(
    console: Console,
    layout: Layout,
    table: ImageTable,
    findings: Sequence[Finding],
    severities: Mapping[str, Any],
    names: NameSpool,
    *,
    pictured: bool,
) -> DataError | None:
    """Warnings to the console; all errors at once as one DataError, where there are any."""
    errors = [each for each in findings if severities[each.check] == "error"]
    for each in findings:
        if each not in errors:
            text = f"{each.check}: {each.message}{_examples(each, table, names)}"
            console.print(f"[yellow]warning[/] {escape(text)}", highlight=False, soft_wrap=True)
    if not errors:
        return None
    told = " ".join(f"{each.check}: {each.message}{_examples(each, table, names)}" for each in errors)
    listed = any(len(each.rows) or each.names for each in errors)
    where = f" Full lists: {layout.relative(_findings_file(layout))}." if listed else ""
    if pictured:
        where += f" Pictures: {layout.relative(_refused_page(layout))}."
    keys = ", ".join(f"prepare.checks.{each.check}" for each in errors)
    return DataError(
        f"{counted(len(errors), 'check')} of the data failed. {told}{where}",
        where="prepare.source",
        fix=f"Correct the data, or set {keys} to warn.",
    )


def _examples(finding: Finding, table: ImageTable, names: NameSpool) -> str:
    """The first few files of a finding, for the console: ' E.g. a.png = b.png; c.png = d.png.'"""
    if len(finding.groups):
        first = list(dict.fromkeys(finding.groups.tolist()))[:_EXAMPLES]
        shown = [
            " = ".join(_name(row, table, names) for row in finding.rows[finding.groups == group][:_EXAMPLES].tolist())
            for group in first
        ]
    else:
        shown = [_name(row, table, names) for row in finding.rows[:_EXAMPLES].tolist()]
        shown += finding.names[:_EXAMPLES]
    return f" E.g. {'; '.join(shown)}." if shown else ""


def _name(row: int, table: ImageTable, names: NameSpool) -> str:
    return names.read(int(table.rows[row]))[0]


def _findings_file(layout: Layout) -> Any:
    return layout.private / "findings.csv"


def _refused_page(layout: Layout) -> Path:
    return layout.private / "data_quality.html"


def _write_findings(layout: Layout, table: ImageTable, findings: Sequence[Finding], names: NameSpool) -> None:
    """Which files each finding is about, for whoever has the raw data."""
    with files.replacing(_findings_file(layout)) as temporary, temporary.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(["check", "group", "record_id", "split", "file", "patient", "detail"])
        for each in findings:
            groups = each.groups.tolist() if len(each.groups) else [""] * len(each.rows)
            details = each.details or ("",) * len(each.rows)
            for row, group, detail in zip(each.rows.tolist(), groups, details, strict=True):
                name, patient = names.read(int(table.rows[row]))
                split = SPLITS[int(table.splits[row])]
                writer.writerow([each.check, group, table.record_ids[row], split, name, patient or "", detail])
            for name in each.names:
                writer.writerow([each.check, "", "", "", name, "", ""])


def _private_rows(table: ImageTable, names: NameSpool) -> Iterator[tuple[str, str, str, str, str]]:
    for index in range(len(table)):
        name, patient = names.read(int(table.rows[index]))
        split = SPLITS[int(table.splits[index])]
        yield table.record_ids[index], split, name, table.patient_ids[index], patient or ""


def _split(name: str, part: ImageTable, reader: Reader, *, masked: bool, value_range: int) -> PreparedSplit:
    """One split without its pixels: arrays of the right shape that take no memory stand in for them."""
    height, width, _ = reader.shape
    known = None
    if name == "train":
        known = standardization(part.sums, part.squares, pixels_per_image=height * width, value_range=value_range)
    return PreparedSplit(
        name=name,
        images=np.broadcast_to(np.zeros((), dtype=reader.dtype), (len(part), *reader.shape)),
        labels=part.labels,
        record_ids=part.record_ids,
        patient_ids=part.patient_ids,
        class_names=reader.source.class_names,
        task=reader.source.task,
        value_range=value_range,
        columns=part.columns,
        masks=np.broadcast_to(np.zeros((), dtype=np.uint8), (len(part), height, width)) if masked else None,
        standardization=known,
        synthetic=reader.source.synthetic,
    )


def _summary(reader: Reader, found: _Examination, *, page: str | None) -> PrepareSummary:
    table, class_names = found.examined.table, reader.source.class_names
    members = table.members(len(class_names))
    has_patients = bool((table.patient_ids != "").any())

    def patients(rows: Any) -> int | None:
        ids = table.patient_ids[rows]
        return len(np.unique(ids[ids != ""])) if has_patients else None

    n_unreadable, n_unknown = len(found.examined.rejected), len(found.examined.unknown_labels)
    return PrepareSummary(
        listed=len(table) + n_unreadable + n_unknown,
        prepared=len(table),
        unreadable=n_unreadable,
        unknown_label=n_unknown,
        patients=patients(slice(None)),
        splits=tuple(
            SplitSummary(
                name,
                int((table.splits == code).sum()),
                patients(table.splits == code),
                dict(zip(class_names, members[code].tolist(), strict=True)),
            )
            for code, name in enumerate(SPLITS)
        ),
        given=found.splitting.given,
        carved=found.splitting.carved,
        warnings=tuple(each.message for each in found.findings),
        notes=tuple(each.message for each in found.notes),
        synthetic=reader.source.synthetic,
        page=page,
    )
