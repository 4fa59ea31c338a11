"""Pictures inside the page: figures and image tiles as data URIs, bounded so that the page stays small."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import unescape

import numpy as np

from medsweep.artifacts.section import Figure
from medsweep.evaluate.figures import Mistake
from medsweep.pages.page import data_url

LIMIT = 5_000_000
"""Characters of pictures in the page: with its text it stays below 6 MB."""
_MOST_RASTER = 350_000
_RASTER_WIDTH = 1400
_TILE = 160
_MOST_TILES = 48
_CSS_PIXELS = 4 / 3  # of a point
_RASTER_DENSITY = 110  # of our PNG figures, dots an inch


@dataclass(frozen=True)
class Picture:
    """A figure as the page shows it.

    Args:
        src: a data URI; None where the figure is left out, then `absent` says why.
        path: of the file, relative to reports/.
        width, height: in CSS pixels.
        alt, caption: for those who cannot see it, and for all.
    """

    src: str | None
    path: str
    width: int
    height: int
    alt: str
    caption: str
    absent: str = ""


@dataclass(frozen=True)
class Tile:
    """One image with what was decided about it."""

    src: str
    alt: str
    lines: tuple[str, ...]


class Album:
    """Embeds figures until the page's limit is reached; what comes later is named instead."""

    def __init__(self) -> None:
        self._left = LIMIT

    def figure(self, folder: Path, each: Figure) -> Picture:
        """A figure whose path is relative to `folder`."""
        path = folder / each.path
        if path.suffix not in (".svg", ".png", ".jpg", ".jpeg") or not path.is_file():
            return Picture(None, each.path, 0, 0, each.alt, each.caption, "it was not drawn as SVG, PNG or JPEG.")
        content = path.read_bytes()
        if path.suffix == ".svg":
            width, height, kind = *_svg_size(content), "svg+xml"
        else:
            content, kind, width, height = _raster(content, path.suffix)
        source = data_url(content, kind)
        if len(source) > self._left:
            return Picture(None, each.path, 0, 0, each.alt, each.caption, "with it the page would be too large.")
        self._left -= len(source)
        return Picture(source, each.path, width, height, each.alt, each.caption)

    def own(self, folder: Path, path: str, caption: str) -> Picture | None:
        """A figure that carries its alternative text as its SVG's title; None where it was not drawn."""
        file = folder / path
        if not file.is_file():
            return None
        title = re.search(rb"<title>(.*?)</title>", file.read_bytes()[:20_000], re.DOTALL)
        return self.figure(folder, Figure(path, _text(title[1]) if title else caption, caption))

    def tiles(self, mistakes: Sequence[Mistake], value_range: int, *, synthetic: bool) -> list[Tile]:
        """The mistakes' images, as many as fit."""
        found = []
        kind = "Synthetic image" if synthetic else "Image"
        for each in mistakes[:_MOST_TILES]:
            source = _tile(each, value_range)
            if len(source) > self._left:
                break
            self._left -= len(source)
            alt = f"{kind} {each.record_id[:12]}: true {each.label}, decided {each.decision}."
            lines = (
                f"true: {each.label}",
                f"decided: {each.decision}",
                f"at probability {each.probability:.3f}",
                each.record_id[:12],
            )
            found.append(Tile(source, alt, lines))
        return found


def _svg_size(content: bytes) -> tuple[int, int]:
    """Width and height in CSS pixels, from the view box in points (Matplotlib's unit)."""
    box = re.search(rb'viewBox="\s*[\d.eE+-]+[\s,]+[\d.eE+-]+[\s,]+([\d.eE+-]+)[\s,]+([\d.eE+-]+)', content)
    if box is None:
        return 640, 480
    scale = _CSS_PIXELS if re.search(rb'width="[\d.]+pt"', content[:2000]) else 1.0
    return max(1, round(scale * float(box[1]))), max(1, round(scale * float(box[2])))


def _raster(content: bytes, suffix: str) -> tuple[bytes, str, int, int]:
    """A PNG or JPEG, made smaller where it is large; its kind, width and height in CSS pixels."""
    import cv2

    kind = "png" if suffix == ".png" else "jpeg"
    pixels: Any = cv2.imdecode(np.frombuffer(content, dtype=np.uint8), cv2.IMREAD_COLOR)
    height, width = pixels.shape[:2]
    shown = round(width * 96 / _RASTER_DENSITY), round(height * 96 / _RASTER_DENSITY)
    if len(content) > _MOST_RASTER:
        scale = min(1.0, _RASTER_WIDTH / width)
        if scale < 1.0:
            size = max(1, round(width * scale)), max(1, round(height * scale))
            pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
        content, kind = bytes(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes()), "jpeg"
    return content, kind, *shown


def _tile(mistake: Mistake, value_range: int) -> str:
    """An image at most `_TILE` pixels along its longer side: PNG, which keeps small images' pixels apart."""
    import cv2

    pixels = np.asarray(mistake.pixels, dtype=np.float32) * (255 / value_range)
    height, width, channels = pixels.shape
    scale = min(1.0, _TILE / max(height, width))
    if scale < 1.0:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA).reshape(size[1], size[0], channels)
    shown = np.rint(pixels).astype(np.uint8)
    if channels == 3:
        shown = shown[:, :, ::-1]
    return data_url(bytes(cv2.imencode(".png", shown, [cv2.IMWRITE_PNG_COMPRESSION, 9])[1].tobytes()), "png")


def _text(content: bytes) -> str:
    entities: Mapping[str, str] = {"&quot;": '"', "&apos;": "'", "&#x27;": "'"}
    return " ".join(unescape(content.decode(), dict(entities)).split())
