"""All that is written for people: the page, the model card and the CLAIM checklist, with blanks for the author."""

from __future__ import annotations

from pathlib import Path

from medsweep.artifacts import files
from medsweep.evaluate.report import lineage_facts, page, words
from medsweep.evaluate.report.claim import ITEMS
from medsweep.evaluate.report.inputs import ReportInputs
from medsweep.pages.page import cell, plain, render_markdown

REPORT, MODEL_CARD, CLAIM_CHECKLIST = "report.html", "model_card.md", "claim_checklist.md"
_PACKAGE = "medsweep.evaluate.report"


def write(folder: Path, inputs: ReportInputs) -> None:
    """Write all three into `folder`."""
    files.write_text(folder / REPORT, page.report_page(inputs))
    files.write_text(folder / MODEL_CARD, model_card(inputs))
    files.write_text(folder / CLAIM_CHECKLIST, claim_checklist(inputs))


def model_card(inputs: ReportInputs) -> str:
    """The model card, under the headings of Mitchell et al., Model Cards for Model Reporting (FAT* 2019)."""
    return render_markdown(
        _PACKAGE,
        "model_card.md",
        {
            "report": inputs.report,
            "manifest": inputs.manifest,
            "quality": inputs.quality,
            "summary": words.summary(inputs),
            "caveats": words.caveats(inputs, {}),
            "architecture": words.architecture(inputs),
            "training": words.training(inputs),
            "selection": words.selection(inputs),
            "preprocessing": words.preprocessing(inputs.quality, inputs.manifest.trial),
            "split_origin": words.split_origin(inputs.quality),
            "left_out": words.left_out(inputs.quality),
            "intervals_by": words.intervals_by(inputs),
            "decided": inputs.decided,
            "columns": words.factors(inputs),
            "subgroups": inputs.section("subgroups"),
            "metrics": page.metric_table(inputs),
            "per_class": page.per_class_table(inputs),
            "classes": page.class_table(inputs),
            "versions": lineage_facts.versions(),
        },
    )


def claim_checklist(inputs: ReportInputs) -> str:
    """The CLAIM checklist, 2024 update: each item with what was found, or blank for the author."""
    rows = []
    for item in ITEMS:
        found = item.found(inputs) if item.found is not None else ""
        rows.append((item, plain(found), item.author if item.author else ""))
    return render_markdown(
        _PACKAGE,
        "claim_checklist.md",
        {
            "report": inputs.report,
            "rows": rows,
            "n_found": cell(sum(1 for _, found, _ in rows if found)),
            "n_author": cell(sum(1 for _, _, author in rows if author)),
        },
    )
