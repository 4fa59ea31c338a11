"""Every check finds what was planted, and nothing in clean data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medsweep.params import Checks, load_yaml
from medsweep.prepare.checks.catalog import CHECKS, run_checks
from medsweep.prepare.checks.duplicates import repeats
from medsweep.prepare.checks.finding import Alike, Examined
from medsweep.prepare.collect import Rejected
from medsweep.sources.protocol import UnknownLabel

ROOT = Path(__file__).parents[2]
SEVERITIES = [Checks.model_fields["patient_overlap"].annotation]
CLEAN = [
    (f"{split}-{label}-{index}", label, f"{split}-{label}-{index}", split)
    for split in ("train", "val", "test")
    for label in (0, 1)
    for index in range(3)
]


class Nothing:
    """Files that say nothing of themselves."""

    def read(self, row):
        return {}


def examined(table, **changes):
    known = {"class_names": ("no", "yes"), "rejected": (), "unknown_labels": (), "audits": ()}
    known |= {"thumbnails": None, "metadata": Nothing()}  # what looks at them has tests of its own
    known["alike"] = Alike(np.arange(len(table)), np.zeros(len(table), dtype=bool))
    settings = load_yaml(ROOT / "params.yaml")["prepare"]["checks"] | {"min_images_per_class": 3}
    settings |= changes.pop("settings", {})
    return Examined(table=table, settings=Checks.model_validate(settings), **(known | changes))


def found(make_table, images, **changes):
    table = make_table(images, constant=changes.pop("constant", None))
    severities = dict.fromkeys(CHECKS, "error")
    return [each for each in run_checks(examined(table, **changes), severities) if each.alarm]


def test_the_table_and_the_parameters_name_the_same_checks():
    assert set(CHECKS) == {name for name, field in Checks.model_fields.items() if field.annotation in SEVERITIES}


def test_clean_data_give_no_finding(make_table):
    assert found(make_table, CLEAN) == []


def plant(content, label, patient, split):
    return [*CLEAN, (content, label, patient, split)]


@pytest.mark.parametrize(
    ("images", "changes", "check", "count", "rows"),
    [
        (plant("new", 0, "train-0-0", "test"), {}, "patient_overlap", 1, 2),
        (plant("train-0-0", 0, "new", "test"), {}, "exact_duplicates", 1, 2),
        (plant("train-0-0/pixels", 0, "new", "test"), {}, "exact_duplicates", 1, 2),
        (plant("train-0-0/pixels", 0, "new", "val"), {}, "validation_duplicates", 1, 2),
        (plant("train-0-0", 1, "new", "train"), {}, "label_conflicts", 1, 2),
        ([each for each in CLEAN if each[1:4:2] != (1, "val")], {}, "missing_class", 1, 0),
        (CLEAN, {"rejected": (Rejected("a.png", "is damaged", "1234"),)}, "unreadable", 1, 0),
        (CLEAN, {"constant": [True, True] + [False] * 16}, "constant_images", 2, 2),
        (CLEAN, {"unknown_labels": (UnknownLabel("b.png", "mabe"),)}, "unknown_labels", 1, 0),
        (CLEAN, {"settings": {"min_images_per_class": 4}}, "few_images", 2, 0),
    ],
)
def test_what_is_planted_is_found_and_nothing_else(make_table, images, changes, check, count, rows):
    (finding,) = found(make_table, images, **changes)
    assert (finding.check, finding.count, len(finding.rows)) == (check, count, rows)


def test_a_check_that_is_off_does_not_run(make_table):
    table = make_table(plant("train-0-0", 0, "new", "test"))
    found = run_checks(examined(table), dict.fromkeys(CHECKS, "error") | {"exact_duplicates": "off"})
    assert not any(each.alarm for each in found)


def test_duplicates_tell_files_from_pixels(make_table):
    images = [*plant("train-0-0", 0, "x", "test"), ("val-0-0/pixels", 0, "y", "test")]
    (finding,) = found(make_table, images)
    assert finding.message.startswith("2 groups of identical images") and "1 byte for byte" in finding.message
    groups = dict.fromkeys(finding.groups.tolist())
    assert len(groups) == 2 and len(finding.rows) == 4


def test_repeats_within_a_split_are_counted_but_no_finding(make_table):
    images = [*plant("train-0-0", 0, "x", "train"), ("train-0-1/pixels", 0, "y", "train")]
    assert found(make_table, images) == []
    counts = repeats(make_table(images))
    assert (counts.identical_files, counts.identical_pixels, counts.surplus_images) == (1, 2, 2)


def test_multilabel_conflicts_and_missing_labels(make_table):
    images = [
        ("a", (1, 0), None, "train"),
        ("a/2", (1, 1), None, "train"),
        ("b", (0, 0), None, "val"),
        ("c", (1, 1), None, "test"),
    ]
    checks = {each.check: each for each in found(make_table, images, settings={"min_images_per_class": 1})}
    assert set(checks) == {"label_conflicts", "missing_class"}
    assert checks["missing_class"].message == "No image of 'no' in val, 'yes' in val."
