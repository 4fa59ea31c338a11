"""The page by itself: well-formed, accessible as far as a parser sees, self-contained, bounded, the same each time."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from medsweep.artifacts.evaluation import Estimate
from medsweep.artifacts.section import Figure, Section, Table
from medsweep.evaluate.parts import PARTS
from medsweep.evaluate.report import page, pictures
from medsweep.evaluate.report.inputs import ReportInputs

Make = Callable[..., ReportInputs]
Check = Callable[[str], Any]
EVIL = '<b>"& co'


FINDINGS = (
    Section(
        "calibration",
        "Calibration",
        ("It is too sure.", f"A second paragraph {EVIL}."),
        (f"Few patients {EVIL}.",),
        (Table(f"Parts {EVIL}", ("part", "value"), ((f"a {EVIL}", 1.5), ("b", None), ("c", 1234567))),),
        (Figure("plots/roc.svg", f"A line {EVIL}", f"Shares {EVIL}"), Figure("plots/none.svg", "Nothing", "Not drawn")),
    ),
    Section("something_new", "Something new", ("Nobody told the page of it.",)),
    Section("operating_points", "Operating points", (), (), (Table("Many", ("n",), tuple((n,) for n in range(40))),)),
)


@pytest.mark.parametrize("task", ["binary", "multiclass", "ordinal", "multilabel"])
@pytest.mark.parametrize("patients", [True, False])
def test_every_task_has_a_sound_page(check_page: Check, make_inputs: Make, task: str, patients: bool) -> None:
    inputs = make_inputs(task, patients=patients, sections=FINDINGS, parts=("calibration", "subgroups"))
    found = check_page(page.report_page(inputs))
    assert "AUROC 0.800; 95 % interval 0.700 to 0.900" in found.words
    assert "2 files are damaged." in found.words
    assert "Not looked at in this evaluation: subgroups" in found.words
    assert ("No patient ids." in found.words) != patients
    assert inputs.manifest.model_digest in found.words


def test_sections_stand_in_their_chapters_and_nothing_is_lost(check_page: Check, make_inputs: Make) -> None:
    text = page.report_page(make_inputs(sections=FINDINGS))
    found = check_page(text)
    for section in FINDINGS:
        for words in (*section.words, *section.warnings):
            assert words in found.words
    assert found.words.count("It is too sure.") == 2, "the first paragraph stands in the summary too"
    assert "1 234 567" in found.words.replace("\u202f", " ")
    assert "reports/plots/none.svg" in found.words, "a figure that is missing is named"
    assert EVIL not in text, "it must be escaped"
    places = [
        text.index(f'<section id="{name}"') for name in ("results", "decisions", "calibration", "more", "lineage")
    ]
    assert places == sorted(places)
    chapter = text[text.index('<section id="decisions"') : text.index('<section id="calibration"')]
    assert "40 rows</summary>" in chapter and "<h3" in chapter
    assert "Nobody told the page of it." in text[text.index('<section id="more"') :]


def test_every_part_has_its_chapter() -> None:
    parts = [part for each in page.CHAPTERS for part in each.parts]
    assert len(parts) == len(set(parts))
    assert set(PARTS) <= set(parts), "name its chapter in CHAPTERS"


def test_class_names_are_only_text(check_page: Check, make_inputs: Make) -> None:
    names = (f"benign {EVIL}", "a name | with a pipe, and so long that no box in the flow chart could ever hold it")
    found = check_page(page.report_page(make_inputs(class_names=names)))
    assert names[0] in found.words and names[1] in found.words


@pytest.mark.parametrize("k", [12, 45])
def test_many_classes(check_page: Check, make_inputs: Make, k: int) -> None:
    names = tuple(f"class {index}" for index in range(k))
    found = check_page(page.report_page(make_inputs("multiclass", class_names=names)))
    assert f"{k} classes" in found.words


def test_synthetic_images_are_called_so_everywhere(check_page: Check, make_inputs: Make) -> None:
    text = page.report_page(make_inputs(synthetic=True, oracle_auroc=0.97, sections=FINDINGS))
    found = check_page(text)
    assert found.words.startswith("Synthetic: evaluation")
    assert 'class="banner"' in text and "0.970" in found.words
    for caption in re.findall(r"<figcaption>(.*?)</figcaption>", text, re.DOTALL):
        assert "Synthetic images" in caption or "true:" in caption
    for tag, known in found.attributes:
        if tag == "img" and known["src"].startswith("data:image/png"):
            assert known["alt"].startswith("Synthetic image")
    assert "ynthetic" not in page.report_page(make_inputs(folder="real"))


def test_what_is_undefined_is_said(check_page: Check, make_inputs: Make) -> None:
    why = "no test image is 'malignant'"
    inputs = make_inputs(undefined={"auroc": why})
    nothing = Estimate(None, None, None)
    metrics = dict(inputs.report.metrics) | {"auroc": nothing, "sensitivity": nothing}
    found = check_page(page.report_page(replace(inputs, report=replace(inputs.report, metrics=metrics))))
    assert f"Undefined: AUROC, because {why}." in found.words
    assert "cannot be told" in found.words
    assert not re.search(r"\b(None|nan)\b", found.words)


def test_a_model_without_mistakes_is_told(check_page: Check, make_inputs: Make) -> None:
    found = check_page(page.report_page(make_inputs(n_mistakes=0)))
    assert "decided every test image right" in found.words


def test_the_same_inputs_give_the_same_bytes_wherever_they_lie(check_page: Check, make_inputs: Make) -> None:
    one, other = (page.report_page(make_inputs(folder=name, sections=FINDINGS)) for name in ("one", "another place"))
    assert one == other
    assert not re.search(r"\d\d:\d\d:\d\d|/tmp|/home|20\d\d-\d\d-\d\d", re.sub(r"data:image[^\"]+", "", one))


def test_the_page_stays_small_however_much_there_is(check_page: Check, make_inputs: Make) -> None:
    inputs = make_inputs(n_mistakes=200, size=256)
    noise = np.random.default_rng(0).integers(0, 256, (900, 1500, 3), dtype=np.uint8)
    import cv2

    figures = []
    for index in range(12):
        cv2.imwrite(str(inputs.folder / "plots" / f"{index}.png"), np.roll(noise, index, axis=0))
        figures.append(Figure(f"plots/{index}.png", "Noise.", f"Figure {index}"))
    section = Section("robustness", "Robustness", ("Many figures.",), figures=tuple(figures))
    text = page.report_page(replace(inputs, report=replace(inputs.report, sections=(section,))))
    found = check_page(text)
    assert len(text.encode()) < 6_000_000
    assert 0 < found.words.count("with it the page would be too large") < 12
    assert found.tags["img"] > 48


def test_large_pictures_become_jpeg_and_small_pixels_stay_apart(check_page: Check, make_inputs: Make) -> None:
    import cv2

    inputs = make_inputs(size=16)
    album = pictures.Album()
    tiles = album.tiles(inputs.mistakes, 255, synthetic=False)
    content = np.frombuffer(base64.b64decode(tiles[0].src.partition(",")[2]), dtype=np.uint8)
    shown = cv2.imdecode(content, cv2.IMREAD_GRAYSCALE)
    np.testing.assert_array_equal(shown, inputs.mistakes[0].pixels[..., 0])
    picture = album.own(inputs.folder, "plots/roc.svg", "ROC")
    assert picture is not None and picture.alt == "ROC curve <of> the test."
    assert (picture.width, picture.height) == (288, 288), "three inches at 96 pixels each"
