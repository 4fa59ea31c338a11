"""One figure in one file, SVG or PNG: no date, no version, no font of the machine in its bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medsweep.errors import ArtifactError

# Okabe and Ito's palette, which colour-blind eyes tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31")
LINES = ("-", "--", ":")
GREY = "#777777"
WARNING = "#B00020"
DOTTED = (0, (1, 2))


@dataclass(frozen=True)
class Signature:
    """What stands below every figure.

    Args:
        words: what it was drawn from ('test split: 120 images of 60 patients').
        synthetic: True where the images are made, not acquired: the figure then says so.
    """

    words: str
    synthetic: bool


@contextmanager
def figure(path: Path, signature: Signature, *, alt: str = "", size: tuple[float, float] = (6.2, 4.2)) -> Iterator[Any]:
    """A new `matplotlib.figure.Figure`, written when the block ends well.

    The user's matplotlibrc has no say, text is drawn as outlines (so it looks alike wherever it is opened), a `$` in a
    name is a dollar sign, and the constrained layout makes room for what stands outside the axes.

    Args:
        path: a `.svg` or `.png` file.
        signature: what stands below it.
        alt: what a reader who cannot see it needs to know; it becomes an SVG's title. Needed for SVG.
        size: width and height in inches.

    Raises:
        ArtifactError: another kind of file, or an SVG without `alt`.
    """
    kind = path.suffix.removeprefix(".")
    if kind not in ("svg", "png"):
        raise ArtifactError(f"'{path.suffix}' is neither .svg nor .png.", where=path.name)
    if kind == "svg" and not alt:
        raise ArtifactError("an SVG needs an alternative text.", where=path.name)

    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(
            {"font.size": 9.5, "text.parse_math": False, "svg.hashsalt": "medsweep", "svg.fonttype": "path"}
        )
        drawn = Figure(figsize=size, dpi=110, layout="constrained")
        yield drawn
        _sign(drawn, signature)
        about = {"Software": None} if kind == "png" else {"Date": None, "Creator": None, "Title": alt}
        drawn.savefig(path, format=kind, metadata=about)


def bare(axes: Any) -> None:
    """Leave out the frame's upper and right side."""
    axes.spines[["top", "right"]].set_visible(False)


def title(axes: Any, words: str) -> None:
    """The axes' title, at the left."""
    axes.set_title(words, loc="left", fontweight="bold")


def shortened(text: str, longest: int) -> str:
    """The text, cut to `longest` characters with an ellipsis."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _sign(drawn: Any, signature: Signature) -> None:
    words, colour = signature.words, GREY
    if signature.synthetic:
        words, colour = f"SYNTHETIC IMAGES  ·  {words}", WARNING
    drawn.supxlabel(words, x=0.01, ha="left", fontsize=8, color=colour)
