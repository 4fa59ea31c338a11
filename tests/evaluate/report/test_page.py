"""The page by itself: well-formed, accessible as far as a parser sees, self-contained, bounded, the same each time."""

from __future__ import annotations

import base64
import itertools
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from medsweep.artifacts.evaluation import Estimate
from medsweep.artifacts.section import Figure, Section, Table
from medsweep.evaluate.parts import PARTS
from medsweep.evaluate.report import page, pictures
from medsweep.evaluate.report.inputs import ReportInputs

Make = Callable[..., ReportInputs]
VOID = {"meta", "img", "br", "link", "hr", "input", "line", "rect", "circle", "path"}
EVIL = '<b>"& co'


class Page(HTMLParser):
    """Walks a page and notes what a validator and a screen reader would miss."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, dict[str, str]]] = []
        self.children: list[tuple[str, list[str]]] = []
        self.problems: list[str] = []
        self.text: list[str] = []
        self._inside: list[list[str]] = []
        self.feed(text)
        self.close()
        if self.open:
            self.problems.append(f"not closed: {self.open}")

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        known = {name: value or "" for name, value in attrs}
        if len(known) != len(attrs):
            self.problems.append(f"an attribute twice: {tag} {attrs}")
        self.attributes.append((tag, known))
        if self._inside:
            self._inside[-1].append(tag)
        if tag not in VOID:
            self.open.append(tag)
            self._inside.append([])

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        if not self.open or self.open[-1] != tag:
            self.problems.append(f"</{tag}> where {self.open[-1:]} is open")
            return
        self.open.pop()
        self.children.append((tag, self._inside.pop()))

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


def check(text: str) -> Page:
    """All that every page must be."""
    found = Page(text)
    assert not found.problems
    assert text.startswith("<!doctype html>")
    ids = [known["id"] for _, known in found.attributes if "id" in known]
    assert len(ids) == len(set(ids)), [name for name, n in Counter(ids).items() if n > 1]
    for tag, known in found.attributes:
        for name in ("src", "href", "xlink:href", "srcset", "action", "data", "poster"):
            if name in known:
                assert known[name].startswith(("data:image/", "#")), f"{tag} loads {known[name][:60]}"
        if known.get("href", "").startswith("#"):
            assert known["href"][1:] in ids
        for name in ("aria-labelledby", "aria-describedby"):
            assert set(known.get(name, "").split()) <= set(ids)
        assert not any(name.startswith("on") for name in known), "a script"
        if tag == "img":
            assert known.get("alt", "").strip()
            assert known["src"].startswith("data:image/")
            base64.b64decode(known["src"].partition("base64,")[2], validate=True)
        if tag == "svg":
            assert known.get("role") == "img" and known.get("aria-labelledby")
        if tag == "th":
            assert known.get("scope") in ("row", "col")
        if known.get("class") == "scroll":
            assert known.get("tabindex") == "0" and known.get("aria-label")
    for tag, inside in found.children:
        if tag == "svg":
            assert inside[0] == "title"
        if tag == "table":
            assert inside[0] == "caption"
        if tag in ("ul", "ol"):
            assert set(inside) <= {"li"}
    assert not found.tags["script"] and not found.tags["link"] and not found.tags["iframe"]
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style and "@import" not in style
    assert re.search(r"default-src 'none'; img-src data:; style-src 'unsafe-inline'", text)
    levels = [int(tag[1]) for tag, _ in found.attributes if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels)), "a heading is skipped"
    assert ("html", {"lang": "en"}) in found.attributes
    assert all(found.tags[tag] == 1 for tag in ("main", "header", "footer", "nav", "title", "h1") if tag != "title")
    return found


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
def test_every_task_has_a_sound_page(make_inputs: Make, task: str, patients: bool) -> None:
    inputs = make_inputs(task, patients=patients, sections=FINDINGS, parts=("calibration", "subgroups"))
    found = check(page.report_page(inputs))
    assert "AUROC 0.800; 95 % interval 0.700 to 0.900" in found.words
    assert "2 files are damaged." in found.words
    assert "Not looked at in this evaluation: subgroups" in found.words
    assert ("No patient ids." in found.words) != patients
    assert inputs.manifest.model_digest in found.words


def test_sections_stand_in_their_chapters_and_nothing_is_lost(make_inputs: Make) -> None:
    text = page.report_page(make_inputs(sections=FINDINGS))
    found = check(text)
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


def test_class_names_are_only_text(make_inputs: Make) -> None:
    names = (f"benign {EVIL}", "a name | with a pipe, and so long that no box in the flow chart could ever hold it")
    found = check(page.report_page(make_inputs(class_names=names)))
    assert names[0] in found.words and names[1] in found.words


@pytest.mark.parametrize("k", [12, 45])
def test_many_classes(make_inputs: Make, k: int) -> None:
    names = tuple(f"class {index}" for index in range(k))
    found = check(page.report_page(make_inputs("multiclass", class_names=names)))
    assert f"{k} classes" in found.words


def test_synthetic_images_are_called_so_everywhere(make_inputs: Make) -> None:
    text = page.report_page(make_inputs(synthetic=True, oracle_auroc=0.97))
    found = check(text)
    assert found.words.startswith("Synthetic: evaluation")
    assert 'class="banner"' in text and "0.970" in found.words
    for caption in re.findall(r"<figcaption>(.*?)</figcaption>", text, re.DOTALL):
        assert "Synthetic images" in caption or "true:" in caption
    for tag, known in found.attributes:
        if tag == "img" and known["src"].startswith("data:image/png"):
            assert known["alt"].startswith("Synthetic image")
    assert "ynthetic" not in page.report_page(make_inputs(folder="real"))


def test_what_is_undefined_is_said(make_inputs: Make) -> None:
    why = "no test image is 'malignant'"
    inputs = make_inputs(undefined={"auroc": why})
    nothing = Estimate(None, None, None)
    metrics = dict(inputs.report.metrics) | {"auroc": nothing, "sensitivity": nothing}
    found = check(page.report_page(replace(inputs, report=replace(inputs.report, metrics=metrics))))
    assert f"Undefined: AUROC, because {why}." in found.words
    assert "cannot be told" in found.words
    assert not re.search(r"\b(None|nan)\b", found.words)


def test_a_model_without_mistakes_is_told(make_inputs: Make) -> None:
    found = check(page.report_page(make_inputs(n_mistakes=0)))
    assert "decided every test image right" in found.words


def test_the_same_inputs_give_the_same_bytes_wherever_they_lie(make_inputs: Make) -> None:
    one, other = (page.report_page(make_inputs(folder=name, sections=FINDINGS)) for name in ("one", "another place"))
    assert one == other
    assert not re.search(r"\d\d:\d\d:\d\d|/tmp|/home|20\d\d-\d\d-\d\d", re.sub(r"data:image[^\"]+", "", one))


def test_the_page_stays_small_however_much_there_is(make_inputs: Make) -> None:
    inputs = make_inputs(n_mistakes=200, size=256)
    noise = np.random.default_rng(0).integers(0, 256, (900, 1500, 3), dtype=np.uint8)
    import cv2

    figures = []
    for index in range(12):
        cv2.imwrite(str(inputs.folder / "plots" / f"{index}.png"), np.roll(noise, index, axis=0))
        figures.append(Figure(f"plots/{index}.png", "Noise.", f"Figure {index}"))
    section = Section("robustness", "Robustness", ("Many figures.",), figures=tuple(figures))
    text = page.report_page(replace(inputs, report=replace(inputs.report, sections=(section,))))
    found = check(text)
    assert len(text.encode()) < 6_000_000
    assert 0 < found.words.count("with it the page would be too large") < 12
    assert found.tags["img"] > 48


def test_large_pictures_become_jpeg_and_small_pixels_stay_apart(make_inputs: Make) -> None:
    import cv2

    inputs = make_inputs(size=16)
    album = pictures.Album(inputs.folder)
    tiles = album.tiles(inputs.mistakes, 255, synthetic=False)
    content = np.frombuffer(base64.b64decode(tiles[0].src.partition(",")[2]), dtype=np.uint8)
    shown = cv2.imdecode(content, cv2.IMREAD_GRAYSCALE)
    np.testing.assert_array_equal(shown, inputs.mistakes[0].pixels[..., 0])
    picture = album.own("plots/roc.svg", "ROC")
    assert picture is not None and picture.alt == "ROC curve <of> the test."
    assert (picture.width, picture.height) == (288, 288), "three inches at 96 pixels each"
