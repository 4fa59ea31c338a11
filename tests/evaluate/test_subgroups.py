"""Subgroups: how columns part the images, who is flagged, who is too small, and what is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from medsweep.errors import ParamsError
from medsweep.evaluate.parts import Evaluated
from medsweep.evaluate.subgroups import groupings, subgroups
from medsweep.params import Subgroups

Make = Callable[..., Any]
ALL = Subgroups(columns="all", min_patients=10, bands={"age": [18, 40, 65]})


def parted(values: Any, name: str = "column", wanted: Subgroups = ALL) -> dict[str, list[int]]:
    [found], _ = groupings({name: np.asarray(values, dtype=np.str_)}, wanted)
    return {each: np.flatnonzero(found.member == k).tolist() for k, each in enumerate(found.names)}


def test_words_numbers_and_gaps() -> None:
    assert parted(["b", "a", "", "b"]) == {"(not stated)": [2], "a": [1], "b": [0, 3]}
    assert list(parted(["10", "9", "", "9"])) == ["9", "10", "(not stated)"]
    assert parted(["17", "18", "64.5", "", "90"], "Age") == {
        "below 18": [0],
        "18 to below 40": [1],
        "40 to below 65": [2],
        "65 and above": [4],
        "(not stated)": [3],
    }
    quartiles = parted([str(each) for each in range(100)])
    assert [len(each) for each in quartiles.values()] == [25, 25, 25, 25]
    many = parted([f"scanner {k:02d}" for k in range(30) for _ in range(1 + (k < 19))])
    assert len(many) == 20 and len(many["11 other values"]) == 11


def test_columns_that_part_nothing_are_passed_over_and_unknown_ones_refused() -> None:
    columns = {"site": np.array(["x", "x"]), "sex": np.array(["F", "M"]), "oracle_score": np.array(["0.1", "0.2"])}
    found, passed_over = groupings(columns, ALL)
    assert [each.column for each in found] == ["sex"] and passed_over == ["'site' is the same for all test images."]
    only, _ = groupings(columns, Subgroups(columns=["sex"], min_patients=1, bands={}))
    assert [each.column for each in only] == ["sex"]
    with pytest.raises(ParamsError, match=r"evaluate\.subgroups\.columns.*'scanner'.*site, sex"):
        groupings(columns, Subgroups(columns=["scanner"], min_patients=1, bands={}))


def test_a_bad_site_is_flagged_and_a_small_one_is_not_judged(make_evaluated: Make, example: Make) -> None:
    patients = np.arange(320) // 2
    site = np.where(patients % 8 < 2, "east", "north")
    site[patients >= 156] = "tiny"
    labels, p = example(n=320, strength=np.where(site == "east", -0.5, 3.0))
    sex = np.array(["F", "M"])[patients // 8 % 2]
    evaluated: Evaluated = make_evaluated(labels, p, columns={"site": site, "sex": sex})
    section = subgroups(evaluated)
    rows = {(row["column"], row["group"]): row for row in section.values["rows"]}
    assert list(rows) == [("site", "east"), ("site", "north"), ("site", "tiny"), ("sex", "F"), ("sex", "M")]
    assert "auroc" in rows["site", "east"]["worse"]
    assert all(not rows[key]["worse"] for key in rows if key != ("site", "east"))
    assert rows["site", "tiny"]["too_small"] and rows["site", "tiny"]["metrics"]["auroc"]["p"] is None
    assert (rows["site", "east"]["n_images"], rows["site", "east"]["n_patients"]) == (80, 40)
    assert "site = east" in section.words[0] and "1 of 5 subgroups" in section.words[0]
    assert any("Too small" in each and "site = tiny (4)" in each for each in section.warnings)
    from sklearn.metrics import roc_auc_score

    east = site == "east"
    assert rows["site", "east"]["metrics"]["auroc"]["value"] == pytest.approx(roc_auc_score(labels[east], p[east, 1]))
    [figure] = section.figures
    assert "site east" in figure.alt and (evaluated.plots / "subgroups.svg").is_file()
    json.dumps(section.values, allow_nan=False)
    before = (evaluated.plots / "subgroups.svg").read_bytes()
    assert subgroups(evaluated) == section and (evaluated.plots / "subgroups.svg").read_bytes() == before


@pytest.mark.parametrize("task", ["multiclass", "ordinal", "multilabel"])
def test_other_tasks(make_evaluated: Make, example: Make, task: str) -> None:
    site = np.where(np.arange(200) // 2 % 5 < 2, "a", "b")
    labels, p = example(task, n=200, strength=np.where(site == "a", 0.0, 4.0))
    section = subgroups(make_evaluated(labels, p, task=task, columns={"site": site}, threshold=[0.5] * 3))
    a, b = section.values["rows"]
    assert "auroc" in a["worse"] and b["worse"] == []


def test_a_subgroup_of_one_class_says_undefined(make_evaluated: Make, example: Make) -> None:
    labels, p = example()
    subtype = np.array(["normal", "virus"])[labels]
    section = subgroups(make_evaluated(labels, p, columns={"subtype": subtype}))
    assert [row[4] for row in section.tables[0].rows] == ["undefined", "undefined"]
    assert section.values["rows"][0]["metrics"]["auroc"]["value"] is None


def test_nothing_to_part_is_said(make_evaluated: Make, example: Make) -> None:
    section = subgroups(make_evaluated(*example()))
    assert "keeps no column" in section.words[0] and not section.tables and not section.figures
    same = subgroups(make_evaluated(*example(), columns={"site": ["x"] * 160}))
    assert "'site' is the same" in same.words[0]


def test_five_patients(make_evaluated: Make, example: Make) -> None:
    labels, p = example(n=10)
    section = subgroups(make_evaluated(labels, p, columns={"site": ["a"] * 4 + ["b"] * 6}))
    assert section.words[0] == "No subgroup is large enough to be judged."
    assert all(row[-1] == "too few to judge" for row in section.tables[0].rows)
