"""The data-quality report: reports/data_quality.json and its page. Neither holds a file's or a patient's name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medsweep.artifacts.prepared import PreparedSplit
from medsweep.layout import SPLITS
from medsweep.pages.page import data_url, render_page
from medsweep.params import Prepare, without_names
from medsweep.prepare.checks.catalog import CHECKS
from medsweep.prepare.checks.duplicates import repeats
from medsweep.prepare.checks.finding import Bars, Examined, Finding
from medsweep.prepare.checks.quality import by_reason
from medsweep.prepare.figures import bars, contact_sheet, histogram, intensity_histogram, sheet_layout, size_histogram
from medsweep.prepare.split import Splitting
from medsweep.prepare.table import has_class
from medsweep.sources.protocol import ImageSource

BINS = 64
_MOST_IDS = 100
_IDS_ON_PAGE = 12
_MOST_SIZES = 10
_PAIRS_SHOWN, _PAIRS_ABREAST, _IMAGES_SHOWN = 12, 3, 16
NO_PATIENTS = (
    "The source names no patients: each image counts as a patient of its own, so images of one person may lie in two "
    "splits, and results may come out too good."
)


class IntensityCounts:
    """Counts of pixel values by class, gathered while a split's blocks pass by on their way to the disk."""

    def __init__(self, labels: NDArray[Any], n_classes: int, value_range: int) -> None:
        self.counts = np.zeros((n_classes, BINS), dtype=np.int64)
        self._labels = labels
        self._value_range = value_range

    def watch(self, blocks: Iterator[NDArray[Any]]) -> Iterator[NDArray[Any]]:
        """The blocks, unchanged."""
        start = 0
        for block in blocks:
            labels = self._labels[start : start + len(block)]
            for index in range(len(self.counts)):
                values = block[has_class(labels, index)].ravel()
                # Each bin holds as many of the possible values as the next.
                self.counts[index] += np.bincount(values, minlength=self._value_range + 1).reshape(BINS, -1).sum(axis=1)
            start += len(block)
            yield block


@dataclass(frozen=True)
class Facts:
    """What the report is made from."""

    prepare: Prepare
    source: ImageSource
    examined: Examined
    splitting: Splitting
    findings: Sequence[Finding]
    notes: Sequence[Finding]
    written: Mapping[str, PreparedSplit]
    intensities: Mapping[str, IntensityCounts]


def data_quality(facts: Facts) -> dict[str, Any]:
    """The report as JSON: the same for the same images and parameters."""
    table, source = facts.examined.table, facts.source
    severities = facts.prepare.checks.model_dump()
    found = {each.check for each in facts.findings}
    train = facts.written["train"].standardization
    has_patients = bool((table.patient_ids != "").any())
    without = int((table.patient_ids == "").sum())
    n_unreadable, n_unknown = len(facts.examined.rejected), len(facts.examined.unknown_labels)
    return {
        "synthetic": source.synthetic,
        "task": source.task,
        "class_names": list(source.class_names),
        "images": {
            "listed": len(table) + n_unreadable + n_unknown,
            "prepared": len(table),
            "unreadable": n_unreadable,
            "unreadable_by_reason": by_reason(facts.examined.rejected),
            "unknown_label": n_unknown,
        },
        "patients": {
            "known": has_patients,
            "count": len(np.unique(table.patient_ids[table.patient_ids != ""])) if has_patients else None,
            "images_without_patient": without,
            "statement": None if has_patients else NO_PATIENTS,
        },
        "splits": {
            "given": list(facts.splitting.given),
            "carved": list(facts.splitting.carved),
            **{name: _split_counts(facts.written[name], len(table)) for name in SPLITS},
        },
        "findings": [
            {
                "check": each.check,
                "severity": severities[each.check],
                "message": each.message,
                "count": each.count,
                "counts": dict(each.counts),
                "record_ids": _ids(each, facts)[:_MOST_IDS],
                "figures": dict(each.figures),
            }
            for each in facts.findings
        ],
        "notes": [
            {
                "check": each.check,
                "message": each.message,
                "record_ids": _ids(each, facts)[:_MOST_IDS],
                "figures": dict(each.figures),
            }
            for each in facts.notes
        ],
        "checks": {
            name: "off" if severities[name] == "off" else "found" if name in found else "passed" for name in CHECKS
        },
        "duplicates": asdict(repeats(table)),
        "original_sizes": _sizes(table.sizes),
        "intensity": {
            "bins": BINS,
            "pixels": {
                split: dict(zip(source.class_names, each.counts.tolist(), strict=True))
                for split, each in facts.intensities.items()
            },
            "standardization": asdict(train) if train else None,
        },
        "parameters": {
            "source": without_names({**facts.prepare.source.model_dump(), **source.settings}),
            "image": facts.prepare.image.model_dump(),
            "intensity": facts.prepare.intensity.model_dump(),
            "limits": facts.prepare.limits.model_dump(),
            "split": facts.prepare.split.model_dump(),
            "checks": severities,
        },
        "digests": {name: facts.written[name].digest for name in SPLITS},
    }


def page(report: Mapping[str, Any], facts: Facts) -> str:
    """The report as one HTML page with everything inside it."""
    sizes = facts.examined.table.sizes
    varied = bool((sizes != sizes[0]).any())
    n_images, tile, shown = sheet_layout(len(facts.source.class_names), facts.prepare.image.channels)
    context = {
        "synthetic": report["synthetic"],
        "report": report,
        "splits": SPLITS,
        "checks": CHECKS,
        "ids_on_page": _IDS_ON_PAGE,
        "size_figure": data_url(size_histogram(sizes[:, 0], sizes[:, 1]).encode(), "svg+xml") if varied else None,
        "intensity_figures": {name: _intensity_figure(facts, name) for name in SPLITS},
        "sheets": {split: [_sheet(facts, split, index, n_images, tile) for index in shown] for split in SPLITS},
        "pictures": {each.check: _pictures(each, facts) for each in [*facts.notes, *facts.findings]},
        "n_hidden_classes": len(facts.source.class_names) - len(shown),
        "parameters": _flat(report["parameters"]),
    }
    return render_page("medsweep.prepare", "data_quality.html", context)


def _pictures(finding: Finding, facts: Facts) -> list[tuple[str, str]]:
    """What shows a finding, each with its words: a chart, or the first of its images, pairs side by side."""
    chart = finding.chart
    if isinstance(chart, Bars):
        drawn = bars(chart.values, threshold=chart.threshold, axis=chart.axis, marked=chart.marked)
        return [
            (
                data_url(drawn.encode(), "svg+xml"),
                f"{chart.axis}; the line is the threshold, and what is named is orange.",
            )
        ]
    if chart is not None:
        return [
            (
                data_url(histogram(each.title, each.edges, each.shares).encode(), "svg+xml"),
                f"{each.title}: {' and '.join(each.shares)}, one image a patient.",
            )
            for each in chart
        ]
    rows = finding.rows
    if not len(rows):
        return []
    if len(finding.groups):
        firsts = list(dict.fromkeys(finding.groups.tolist()))[:_PAIRS_SHOWN]
        rows = np.concatenate([rows[finding.groups == group][:2] for group in firsts])
        words = f"The first {len(firsts)} of the groups, two images of each side by side."
    else:
        rows = rows[:_IMAGES_SHOWN]
        words = f"The first {len(rows)} of these images."
    images = np.stack([_image(int(row), facts) for row in rows])
    value_range = facts.written["train"].value_range
    columns = 2 * _PAIRS_ABREAST if len(finding.groups) else 8
    return [(data_url(contact_sheet(images, value_range=value_range, columns=columns, tile=96), "png"), words)]


def _image(row: int, facts: Facts) -> NDArray[Any]:
    splits = facts.examined.table.splits
    place = int((splits[:row] == splits[row]).sum())
    return np.asarray(facts.written[SPLITS[int(splits[row])]].images[place])


def _split_counts(split: PreparedSplit, total: int) -> dict[str, Any]:
    classes = {}
    for index, name in enumerate(split.class_names):
        members = has_class(split.labels, index)
        patients = split.patient_ids[members]
        classes[name] = {
            "images": int(members.sum()),
            "patients": len(np.unique(patients[patients != ""])) if split.has_patients else None,
        }
    return {
        "images": len(split),
        "patients": split.n_patients,
        "share": round(len(split) / total, 4),
        "classes": classes,
    }


def _ids(finding: Finding, facts: Facts) -> list[str]:
    return [*facts.examined.table.record_ids[finding.rows].tolist(), *finding.ids]


def _sizes(sizes: NDArray[np.int32]) -> dict[str, Any]:
    pairs, counts = np.unique(sizes, axis=0, return_counts=True)
    most = Counter({(int(h), int(w)): int(n) for (h, w), n in zip(pairs.tolist(), counts.tolist(), strict=True)})
    common = sorted(most.items(), key=lambda item: (-item[1], item[0]))[:_MOST_SIZES]
    return {
        "height": _spread(sizes[:, 0]),
        "width": _spread(sizes[:, 1]),
        "distinct": len(pairs),
        "most_common": [{"height": h, "width": w, "images": n} for (h, w), n in common],
    }


def _spread(lengths: NDArray[np.int32]) -> dict[str, float]:
    return {"low": int(lengths.min()), "median": float(np.median(lengths)), "high": int(lengths.max())}


def _intensity_figure(facts: Facts, split: str) -> str:
    counts = facts.intensities[split].counts
    shares = {
        name: row / row.sum() for name, row in zip(facts.source.class_names, counts, strict=True) if row.sum() > 0
    }
    return data_url(intensity_histogram(shares).encode(), "svg+xml")


def _sheet(facts: Facts, split: str, index: int, n_images: int, tile: int) -> dict[str, Any]:
    prepared = facts.written[split]
    members = np.flatnonzero(has_class(prepared.labels, index))
    chosen = members[:n_images]
    picture = None
    if len(chosen):
        sheet = contact_sheet(prepared.images[chosen], value_range=prepared.value_range, columns=8, tile=tile)
        picture = data_url(sheet, "png")
    return {"class_name": prepared.class_names[index], "images": len(members), "shown": len(chosen), "picture": picture}


def _flat(section: Mapping[str, Any], prefix: str = "prepare") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in section.items():
        if isinstance(value, Mapping):
            found.update(_flat(value, f"{prefix}.{key}"))
        else:
            found[f"{prefix}.{key}"] = value
    return found
