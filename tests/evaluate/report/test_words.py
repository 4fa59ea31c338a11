"""What the report says of the data, the search and the model, against what it was told."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from medsweep.artifacts.evaluation import Estimate
from medsweep.artifacts.section import Section
from medsweep.errors import ArtifactError
from medsweep.evaluate.report import documents, lineage_facts, search_tables, words
from medsweep.evaluate.report.claim import ITEMS
from medsweep.evaluate.report.flow import WIDTH, flow
from medsweep.evaluate.report.inputs import Before, ReportInputs
from medsweep.evaluate.report.page import report_page
from medsweep.layout import Layout

Make = Callable[..., ReportInputs]


def test_the_summary_speaks_of_a_hundred_images(make_inputs: Make) -> None:
    found = " ".join(words.summary(make_inputs()))
    assert "one malignant and one benign, it gives the malignant one the higher score in 80 of 100" in found
    assert "it finds 80 of 100 malignant images (sensitivity 0.800; 95 % interval 0.700 to 0.900)" in found
    assert "calls 20 of 100 benign images malignant by mistake" in found
    assert "interval is wide" not in found
    wide = make_inputs(
        folder="wide", metrics=make_inputs(folder="x").report.metrics | {"auroc": Estimate(0.8, 0.5, 0.9)}
    )
    assert "as poor as 0.50 or as good as 0.90" in " ".join(words.summary(wide))


def test_cautions_are_said_once_whether_or_not_their_part_is_on(make_inputs: Make) -> None:
    few = "The test split has only 5 patients."
    off = make_inputs(folder="off", cautions=(few,))
    on = make_inputs(folder="on", cautions=(few,), sections=(Section("intervals", "Sure", ("It is.",), (few,)),))
    for inputs in (off, on):
        assert [each.text for each in words.caveats(inputs, {})].count(few) == 1
        # In the summary, and once more in the chapter of the results.
        assert report_page(inputs).count(few) == 2
    assert "BCa" in words.intervals_by(on) and "2\u202f000 times" in words.intervals_by(on)


def test_the_flow_adds_up(make_inputs: Make) -> None:
    inputs = make_inputs("multiclass")
    found = flow(inputs.quality, n_images=120, n_patients=60)
    lines = [" / ".join(box.lines) for box in found.boxes]
    assert "Listed by the source / 363 images" in lines
    assert any(line.startswith("Left out / 2 unreadable: damaged") and "1 with an unknown" in line for line in lines)
    assert "Prepared / 360 images / 180 patients" in lines
    assert any(line.startswith("Test / 120 images / 60 patients / normal 40") for line in lines)
    assert "Evaluated / 120 images / 60 patients" in lines
    for box in found.boxes:
        assert box.x >= 0 and box.x + box.width <= WIDTH and box.y + box.height <= found.height
        assert all(box.y < y < box.y + box.height for _, y, _ in box.texts)
    assert "363 images listed" in found.description and "evaluated: 120 images of 60 patients" in found.description


def test_the_heat_map_has_median_range_and_count(make_inputs: Make) -> None:
    found = search_tables.heat(make_inputs())
    assert found is not None and found.columns == ("focal", "all")
    rows = dict(found.rows)
    # Trials 0, 4 and 6 are adam's with a value: .80, .84 and .86.
    assert rows["adam"][0] == search_tables.HeatCell("0.840", "0.800 to 0.860", 3, 5)
    assert rows["sgd"][0] is not None and (rows["sgd"][0].trials, rows["sgd"][0].level) == (2, 0)
    assert rows["all"][1] is not None and rows["all"][1].trials == 5


def test_the_best_trials_are_completed_ones_first(make_inputs: Make) -> None:
    found = search_tables.best(make_inputs())
    assert [row[0] for row in found.rows] == ["6", "3", "0 (in the model)", "4", "1"]
    assert [row[1] for row in found.rows] == ["complete"] * 3 + ["pruned"] * 2
    assert found.rows[0][5] == "adam 0.007" and found.rows[1][8] == "geometric × 2"


def test_what_was_tried_is_counted(make_inputs: Make) -> None:
    inputs = make_inputs()
    rows = {row[0]: row[1:] for row in (*search_tables.tried(inputs).rows, *search_tables.tried_settings(inputs).rows)}
    assert rows["optimizer"] == ("adam (4), sgd (3)", "adam", "75 %")
    assert rows["optimizer.adam.learning_rate"][1:] == ("0.001", "25 %")
    assert search_tables.failures(inputs.before.trials) == ["2 × the loss was NaN"]


def test_the_commands_name_the_model(make_inputs: Make) -> None:
    import hashlib

    commands = lineage_facts.commands(make_inputs())
    assert f"-S {hashlib.md5(b'a model').hexdigest()} -- dvc.lock" in commands
    assert "1" * 64 in commands


@pytest.mark.parametrize("task", ["binary", "multiclass", "ordinal", "multilabel"])
def test_the_checklist_has_all_items_and_leaves_blanks(make_inputs: Make, task: str) -> None:
    text = documents.claim_checklist(make_inputs(task))
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ") and line[2].isdigit()]
    assert [int(row[0].strip("| ")) for row in rows] == [item.number for item in ITEMS] == list(range(1, 45))
    assert all(len(row) == 6 for row in rows), "a cell holds an unescaped pipe"
    for item, row in zip(ITEMS, rows, strict=True):
        assert ("____" in row[4]) == bool(item.author)
        assert row[3] != "–" or "____" in row[4], f"item {item.number} says nothing and asks nobody"
    assert "None" not in text


def test_the_model_card_has_mitchells_headings_and_the_numbers(make_inputs: Make) -> None:
    text = documents.model_card(make_inputs(class_names=("benign", "a | b")))
    headings = [line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")]
    assert headings == [
        "Model details",
        "Intended use",
        "Factors",
        "Metrics",
        "Evaluation data",
        "Training data",
        "Quantitative analyses",
        "Ethical considerations",
        "Caveats and recommendations",
    ]
    assert "| AUROC | 0.800 | 0.700 | 0.900 |" in text
    assert r"a \| b" in text and "for the author" in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in tables)


def test_missing_and_damaged_inputs_are_named(make_inputs: Make, tmp_path: Path) -> None:
    make_inputs()
    layout = Layout(tmp_path / "project", tmp_path / "project")
    layout.trials.write_text("number,status\n1,complete\n")
    with pytest.raises(ArtifactError, match=r"not a table of trials.*dvc repro -f train"):
        Before.read(layout)
    layout.trials.unlink()
    with pytest.raises(ArtifactError, match="dvc repro train"):
        Before.read(layout)
    layout.data_quality.write_text("[]")
    with pytest.raises(ArtifactError, match="not a data-quality report"):
        Before.read(layout)


def test_a_search_too_short_for_importances_is_no_error(make_inputs: Make, tmp_path: Path) -> None:
    make_inputs()
    layout = Layout(tmp_path / "project", tmp_path / "project")
    (layout.search_plots / "importance.csv").unlink()
    assert Before.read(layout).importances == {}
    with layout.trials.open(newline="") as stream:
        assert len(Before.read(layout).trials) == len(list(csv.DictReader(stream)))
