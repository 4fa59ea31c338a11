"""A figure's bytes are the same wherever it is drawn, and an SVG says in words what it shows."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from medsweep.drawing.figure import WARNING, Signature, bare, figure, shortened, title
from medsweep.errors import ArtifactError

PLAIN, MADE = Signature("test split: 8 images", synthetic=False), Signature("test split: 8 images", synthetic=True)


def draw(path: Path, signature: Signature = PLAIN) -> bytes:
    with figure(path, signature, alt="A line that rises from 0 to 1, & a point.") as drawn:
        axes = drawn.add_subplot()
        title(axes, "$cost$ of <waiting>")
        axes.plot([0, 1], [0, 1], label="a_b^c")
        axes.fill_between([0, 1], [0, 1], alpha=0.2)
        axes.legend()
        bare(axes)
    return path.read_bytes()


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_same_content_same_bytes_whatever_the_users_style(tmp_path: Path, kind: str) -> None:
    import matplotlib

    first = draw(tmp_path / f"first.{kind}")
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.fonttype": "none"}):
        second = draw(tmp_path / f"second.{kind}")
    assert first == second
    for word in (b"date", b"Date", b"Matplotlib v", b"Software"):
        assert word not in first


def test_an_svg_carries_its_alternative_text(tmp_path: Path) -> None:
    root = ElementTree.fromstring(draw(tmp_path / "line.svg"))
    [found] = [each.text for each in root if each.tag.endswith("}title")]
    assert found == "A line that rises from 0 to 1, & a point."


def test_synthetic_images_are_called_so(tmp_path: Path) -> None:
    colour = WARNING.lower().encode()
    assert colour in draw(tmp_path / "made.svg", MADE).lower()
    assert colour not in draw(tmp_path / "plain.svg").lower()


def test_an_svg_without_words_and_other_kinds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="alternative text"), figure(tmp_path / "x.svg", PLAIN):
        pass
    with pytest.raises(ArtifactError, match=r"neither \.svg nor \.png"), figure(tmp_path / "x.pdf", PLAIN, alt="x"):
        pass
    assert not list(tmp_path.iterdir())


def test_nothing_is_written_where_the_drawing_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), figure(tmp_path / "x.svg", PLAIN, alt="x"):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_long_names_are_cut() -> None:
    assert shortened("abcdef", 6) == "abcdef"
    assert shortened("abcdefg", 6) == "abcde…"
