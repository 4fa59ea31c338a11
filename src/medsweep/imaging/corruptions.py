"""TABLE: what acquisition, transfer and storage do to images, each at five severities; and images of something else.

Five severities as in Hendrycks & Dietterich (2019, *Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations*); lengths are shares of the image's shorter side, so that a severity means the same at any size. The same
seed, record and corruption give the same pixels, and draw the same at all severities.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Pixels = NDArray[np.float32]
Apply = Callable[[Pixels, float, Generator], Pixels]

SEVERITIES = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Corruption:
    """One corruption.

    Args:
        apply: (image (H, W, C) float32 from 0 to 1, strength, rng) → such an image; what leaves 0 to 1 is clipped.
        strengths: one for each severity, from slight to severe.
        kind: 'general', 'ultrasound' or 'x-ray'.
        what: what it is and what its strengths mean.
    """

    apply: Apply
    strengths: tuple[float, float, float, float, float]
    kind: str
    what: str


def _side(image: Pixels) -> int:
    return int(min(image.shape[0], image.shape[1]))


def _blurred(image: Pixels, sigma: float) -> Pixels:
    if sigma <= 0:
        return image
    blurred = cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101)
    return np.asarray(blurred, dtype=np.float32).reshape(image.shape)


def _normal(image: Pixels, rng: Generator, *, channels: bool) -> Pixels:
    """Standard normal noise; one value a pixel where channels shall agree."""
    shape = image.shape if channels else (*image.shape[:2], 1)
    return np.asarray(rng.standard_normal(shape, dtype=np.float32))


def _noise(image: Pixels, strength: float, rng: Generator) -> Pixels:
    return image + np.float32(strength) * _normal(image, rng, channels=True)


def _blur(image: Pixels, strength: float, rng: Generator) -> Pixels:
    return _blurred(image, strength * _side(image))


def _jpeg(image: Pixels, strength: float, rng: Generator) -> Pixels:
    eight_bit = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    # OpenCV's channels are blue first; a grey image has one.
    flag = cv2.IMREAD_COLOR if image.shape[2] == 3 else cv2.IMREAD_GRAYSCALE
    _, coded = cv2.imencode(".jpg", eight_bit[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(strength)])
    decoded = np.asarray(cv2.imdecode(coded, flag)).reshape(image.shape)[..., ::-1]
    return np.asarray(decoded / np.float32(255), dtype=np.float32)


def _contrast(image: Pixels, strength: float, rng: Generator) -> Pixels:
    mean = np.float32(image.mean(dtype=np.float64))
    return (image - mean) * np.float32(strength) + mean


def _brightness(image: Pixels, strength: float, rng: Generator) -> Pixels:
    return image + np.float32(strength)


def _motion(image: Pixels, strength: float, rng: Generator) -> Pixels:
    angle, length = float(rng.uniform(0, math.pi)), max(1.0, strength * _side(image))
    size = 2 * math.ceil(length / 2) + 3
    kernel, middle = np.zeros((size, size), np.float64), (size - 1) / 2
    # Points along a line, each shared among its four neighbours: an even smear in any direction.
    for step in np.linspace(-0.5, 0.5, 4 * size):
        x, y = middle + step * length * math.cos(angle), middle + step * length * math.sin(angle)
        left, top = int(x), int(y)
        for across, share_x in ((left, 1 - (x - left)), (left + 1, x - left)):
            for down, share_y in ((top, 1 - (y - top)), (top + 1, y - top)):
                if share_x > 0 and share_y > 0:
                    kernel[down, across] += share_x * share_y
    smeared = cv2.filter2D(image, -1, (kernel / kernel.sum()).astype(np.float32), borderType=cv2.BORDER_REFLECT_101)
    return np.asarray(smeared, dtype=np.float32).reshape(image.shape)


def _pixelate(image: Pixels, strength: float, rng: Generator) -> Pixels:
    height, width = image.shape[:2]
    small = (max(2, round(width * strength)), max(2, round(height * strength)))
    coarse = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
    large = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST)
    return np.asarray(large, dtype=np.float32).reshape(image.shape)


def _intensity_shift(image: Pixels, strength: float, rng: Generator) -> Pixels:
    return np.asarray(np.power(np.clip(image, 0, 1), np.float32(strength), dtype=np.float32))


def _speckle(image: Pixels, strength: float, rng: Generator) -> Pixels:
    """Multiplicative, and alike over neighbouring pixels, as interference makes it (Goodman, 1976)."""
    grain = _blurred(_normal(image, rng, channels=False), 0.012 * _side(image))
    grain = grain / np.float32(max(1e-6, float(grain.std())))
    return image * (1 + np.float32(strength) * grain)


def _shadow(image: Pixels, strength: float, rng: Generator) -> Pixels:
    """A dark wedge below a point, as behind bone or a stone: `strength` is how much it swallows."""
    height, width = image.shape[:2]
    centre, top = rng.uniform(0.2, 0.8) * width, rng.uniform(0.1, 0.4) * height
    rows, columns = np.arange(height)[:, None], np.arange(width)[None, :]
    half = (0.08 + 0.12 * np.clip(rows - top, 0, None) / height) * width
    inside = np.clip((half - np.abs(columns - centre)) / (0.04 * width) + 0.5, 0, 1)
    below = np.clip((rows - top) / (0.06 * height), 0, 1)
    shade = 1.0 - strength * inside * below
    return np.asarray(image * shade[..., None].astype(np.float32))


def _gain(image: Pixels, strength: float, rng: Generator) -> Pixels:
    """Time-gain compensation set wrongly: too dark above, too bright below, by up to `strength` of the value."""
    ramp = np.linspace(-1.0, 1.0, image.shape[0], dtype=np.float32)[:, None, None]
    return image * (1 + np.float32(strength) * ramp)


def _grid_lines(image: Pixels, strength: float, rng: Generator) -> Pixels:
    """The lines of an anti-scatter grid that did not move."""
    height, width = image.shape[:2]
    period = max(2.5, 0.045 * _side(image))
    phase, upright = rng.uniform(0, 2 * math.pi), rng.random() < 0.5
    along = np.arange(width)[None, :] if upright else np.arange(height)[:, None]
    lines = 1.0 - strength * (0.5 + 0.5 * np.cos(2 * math.pi * along / period + phase))
    return image * np.broadcast_to(lines, (height, width))[..., None].astype(np.float32)


def _collimation(image: Pixels, strength: float, rng: Generator) -> Pixels:
    """A dark border where the beam was stopped: `strength` is its share of each side, give or take a half."""
    height, width = image.shape[:2]
    covered = image.copy()
    for axis, size in ((0, height), (1, width)):
        for end in (0, 1):
            border = round(strength * rng.uniform(0.5, 1.5) * size)
            place = [slice(None)] * 3
            place[axis] = slice(0, border) if end == 0 else slice(size - border, size)
            covered[tuple(place)] *= np.float32(0.03)
    return covered


CORRUPTIONS: dict[str, Corruption] = {
    "noise": Corruption(
        _noise,
        (0.03, 0.06, 0.10, 0.15, 0.22),
        "general",
        "Gaussian noise; its deviation as a share of the value range.",
    ),
    "blur": Corruption(
        _blur, (0.010, 0.018, 0.028, 0.040, 0.055), "general", "Gaussian blur; its deviation as a share of the side."
    ),
    "jpeg": Corruption(_jpeg, (60, 40, 25, 15, 8), "general", "JPEG compression; its quality."),
    "contrast": Corruption(
        _contrast, (0.75, 0.6, 0.45, 0.3, 0.2), "general", "Less contrast; the factor on the distance from the mean."
    ),
    "brightness": Corruption(
        _brightness,
        (0.08, 0.15, 0.22, 0.30, 0.40),
        "general",
        "Brighter; what is added, as a share of the value range.",
    ),
    "motion": Corruption(
        _motion,
        (0.05, 0.08, 0.12, 0.17, 0.24),
        "general",
        "A smear in a drawn direction; its length as a share of the side.",
    ),
    "pixelate": Corruption(
        _pixelate, (0.70, 0.55, 0.42, 0.32, 0.22), "general", "Fewer pixels; the share of each side's that is left."
    ),
    "intensity_shift": Corruption(
        _intensity_shift,
        (1.3, 1.6, 2.0, 2.6, 3.4),
        "general",
        "Another detector curve; the exponent (gamma), darkening.",
    ),
    "speckle": Corruption(
        _speckle, (0.15, 0.25, 0.4, 0.6, 0.85), "ultrasound", "Multiplicative grainy noise; its deviation."
    ),
    "shadow": Corruption(
        _shadow,
        (0.3, 0.45, 0.6, 0.75, 0.9),
        "ultrasound",
        "An acoustic shadow at a drawn place; the share it swallows.",
    ),
    "gain": Corruption(
        _gain, (0.2, 0.35, 0.5, 0.7, 0.9), "ultrasound", "Gain that rises with depth; by up to which share."
    ),
    "grid_lines": Corruption(
        _grid_lines, (0.08, 0.14, 0.22, 0.32, 0.45), "x-ray", "Lines of an anti-scatter grid; how dark they are."
    ),
    "collimation": Corruption(
        _collimation, (0.04, 0.07, 0.11, 0.15, 0.20), "x-ray", "A dark border; its share of each side."
    ),
}
"""The corruptions by name, in the order of the report."""


def _static(shape: tuple[int, int, int], rng: Generator, example: Pixels) -> Pixels:
    return np.asarray(rng.random(shape, dtype=np.float32))


def _clouds(shape: tuple[int, int, int], rng: Generator, example: Pixels) -> Pixels:
    height, width, _ = shape
    found = np.zeros((height, width), np.float32)
    for octave in (2, 4, 8, 16):
        size = (min(octave, width), min(octave, height))
        coarse = rng.random((size[1], size[0]), dtype=np.float32)
        found += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) / np.float32(octave)
    spread = max(1e-6, float(found.max() - found.min()))
    return np.repeat(((found - found.min()) / np.float32(spread))[..., None], shape[2], axis=2)


def _blank(shape: tuple[int, int, int], rng: Generator, example: Pixels) -> Pixels:
    return np.full(shape, rng.uniform(0, 1), np.float32)


def _shapes(shape: tuple[int, int, int], rng: Generator, example: Pixels) -> Pixels:
    height, width, _ = shape
    found = np.full((height, width), rng.uniform(0, 0.3), np.float32)
    rows, columns = np.arange(height)[:, None] / height, np.arange(width)[None, :] / width
    for _ in range(6):
        x, y, size, value = rng.uniform(0, 1), rng.uniform(0, 1), rng.uniform(0.05, 0.25), rng.uniform(0.3, 1)
        round_one = rng.random() < 0.5
        far = np.hypot(columns - x, rows - y) if round_one else np.maximum(abs(columns - x), abs(rows - y))
        found[far < size] = value
    return np.repeat(found[..., None], shape[2], axis=2)


def _bars(shape: tuple[int, int, int], rng: Generator, example: Pixels) -> Pixels:
    height, width, _ = shape
    angle, period = rng.uniform(0, math.pi), rng.uniform(0.08, 0.3) * min(height, width)
    along = np.arange(width)[None, :] * math.cos(angle) + np.arange(height)[:, None] * math.sin(angle)
    found = (np.sin(2 * math.pi * along / period) > 0).astype(np.float32)
    return np.repeat(found[..., None], shape[2], axis=2)


def _inverted(shape: tuple[int, int, int], rng: Generator, example: Pixels) -> Pixels:
    return 1 - example


def _shuffled(shape: tuple[int, int, int], rng: Generator, example: Pixels) -> Pixels:
    height, width, _ = shape
    tile_height, tile_width = height // 4, width // 4
    places = [(i * tile_height, j * tile_width) for i in range(4) for j in range(4)]
    found = example.copy()
    for (top, left), index in zip(places, rng.permutation(16), strict=True):
        down, across = places[index]
        found[top : top + tile_height, left : left + tile_width] = example[
            down : down + tile_height, across : across + tile_width
        ]
    return found


FOREIGN: dict[str, tuple[Callable[[tuple[int, int, int], Generator, Pixels], Pixels], str]] = {
    "static": (_static, "Every pixel drawn by itself."),
    "clouds": (_clouds, "Smooth random clouds, with structure at all scales."),
    "blank": (_blank, "One grey all over."),
    "shapes": (_shapes, "Bright circles and squares."),
    "bars": (_bars, "Black and white stripes in a drawn direction."),
    "inverted": (_inverted, "The test image's negative, as a wrong photometric interpretation makes it."),
    "shuffled": (_shuffled, "The test image's sixteen tiles in a drawn order: its texture without its anatomy."),
}
"""Images of something else, drawn (the last two made of a test image), by name: how, and what they are."""


def generator(seed: int, record_id: str, name: str) -> Generator:
    """What is drawn for a record: the same for the same three, whatever else is drawn."""
    return np.random.default_rng([seed, zlib.crc32(record_id.encode()), zlib.crc32(name.encode())])


def corrupted(
    images: NDArray[Any], record_ids: Sequence[str], name: str, severity: int, *, value_range: int, seed: int
) -> NDArray[Any]:
    """Images under one corruption, as the detector's or the file's whole numbers.

    Args:
        images: (N, H, W, C) uint8 or uint16.
        record_ids: (N,) whose draws they get.
        name: a row of `CORRUPTIONS`.
        severity: 1 to 5.
        value_range: the value that stands for 1.
        seed: of the draws.
    """
    row = CORRUPTIONS[name]
    strength = row.strengths[severity - 1]
    found = np.empty_like(images)
    for index, image in enumerate(images):
        pixels = image.astype(np.float32) / np.float32(value_range)
        changed = row.apply(pixels, strength, generator(seed, str(record_ids[index]), name))
        found[index] = _whole(changed, value_range, images.dtype)
    return found


def foreign(images: NDArray[Any], record_ids: Sequence[str], name: str, *, value_range: int, seed: int) -> NDArray[Any]:
    """As many images of something else, each drawn for (or made of) one of `images`; takes what `corrupted` does."""
    make, _ = FOREIGN[name]
    found = np.empty_like(images)
    for index, image in enumerate(images):
        pixels = image.astype(np.float32) / np.float32(value_range)
        drawn = make(image.shape, generator(seed, str(record_ids[index]), name), pixels)
        found[index] = _whole(drawn, value_range, images.dtype)
    return found


def _whole(pixels: Pixels, value_range: int, dtype: Any) -> NDArray[Any]:
    whole: NDArray[Any] = np.rint(np.clip(pixels, np.float32(0), np.float32(1)) * np.float32(value_range)).astype(dtype)
    return whole
