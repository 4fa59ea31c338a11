"""The table of augmenting transforms: what each may be set to, what it draws, and what a draw does to an image.

Drawing and applying are apart: an image is changed by its recorded draw alone, so a view replays from its draws.
The table lies here, below the verbs, because augment draws from it and train renders from it as it reads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import cv2
import numpy as np
from numpy.random import PCG64, Generator
from numpy.typing import NDArray
from pydantic import Field, model_validator

from medsweep.params import Section

Interval = tuple[float, float]
Drawn = NDArray[np.float64]
Values = Sequence[float]
Pixels = NDArray[np.float32]

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Part = Annotated[float, Field(ge=0.01, le=1.0)]
Ratio = Annotated[float, Field(ge=0.1, le=10.0)]
Factor = Annotated[float, Field(ge=0.0, le=10.0)]
Sigma = Annotated[float, Field(ge=0.0, le=32.0)]

_SEEDS = 2.0**32


class Chance(Section):
    """A transform without a strength: it applies with `probability`, or it does not.

    Every other transform has its probability, and settings that say between what its values are drawn.
    """

    probability: Share

    def intervals(self) -> tuple[Interval, ...]:
        """Between what each value after the first is drawn evenly, in the order in which the transform reads them."""
        return ()

    def draw(self, rng: Generator, n: int) -> Drawn:
        """Draw for `n` images.

        Returns:
            (n, 1 + number of intervals) float64: 1 where the transform applies and 0 where it does not, then its
            values (drawn in both cases). The first rows do not depend on `n`.
        """
        low, high = np.array([(0.0, 1.0), *self.intervals()], dtype=np.float64).T
        even = rng.random((n, len(low)))
        drawn: Drawn = low + even * (high - low)
        drawn[:, 0] = even[:, 0] < self.probability
        return drawn


class Between(Chance):
    """One value, drawn from `low` to `high`."""

    low: float
    high: float

    @model_validator(mode="after")
    def _ordered(self) -> Between:
        if self.low > self.high:
            raise ValueError("low must not exceed high")
        return self

    def intervals(self) -> tuple[Interval, ...]:
        return ((self.low, self.high),)


class Rotate(Chance):
    """Turn about the centre by up to `degrees` either way; a drawn angle is counter-clockwise."""

    degrees: Annotated[float, Field(ge=0.0, le=180.0)]

    def intervals(self) -> tuple[Interval, ...]:
        return ((-self.degrees, self.degrees),)


class Crop(Chance):
    """Random resized crop (Szegedy et al., 2015): cut out a part and resize it to the whole.

    The part's share of the area is drawn from `low` to 1; its width over height, relative to the image's, from
    1/`aspect` to `aspect`, evenly on the logarithmic scale. A side that would exceed the image is cut to it. The
    part's place is drawn evenly among those inside the image.
    """

    low: Part
    aspect: Annotated[float, Field(ge=1.0, le=10.0)]

    def intervals(self) -> tuple[Interval, ...]:
        stretch = math.log(self.aspect)
        return ((self.low, 1.0), (-stretch, stretch), (0.0, 1.0), (0.0, 1.0))

    def draw(self, rng: Generator, n: int) -> Drawn:
        """As `Chance.draw`; the values are the part's width and height, and its left and top edge, as shares of the
        image's width and height."""
        applied, area, log_aspect, across, down = super().draw(rng, n).T
        width = np.minimum(1.0, np.sqrt(area * np.exp(log_aspect)))
        height = np.minimum(1.0, np.sqrt(area / np.exp(log_aspect)))
        return np.stack([applied, width, height, across * (1 - width), down * (1 - height)], axis=1)


class Translate(Chance):
    """Shift right and down, each by up to `share` of width or height either way."""

    share: Share

    def intervals(self) -> tuple[Interval, ...]:
        return ((-self.share, self.share), (-self.share, self.share))


class Scale(Between):
    """Magnify about the centre by a factor; above 1 things grow."""

    low: Ratio
    high: Ratio


class Shear(Chance):
    """Slant horizontally about the centre by up to `degrees` from the vertical either way; a drawn angle moves the
    lower part to the right."""

    degrees: Annotated[float, Field(ge=0.0, le=60.0)]

    def intervals(self) -> tuple[Interval, ...]:
        return ((-self.degrees, self.degrees),)


class Brightness(Chance):
    """Add a constant of up to `delta` either way, as a share of the value range."""

    delta: Share

    def intervals(self) -> tuple[Interval, ...]:
        return ((-self.delta, self.delta),)


class Contrast(Between):
    """Multiply the distance from the image's mean by a factor."""

    low: Factor
    high: Factor


class Gamma(Between):
    """Raise intensities on the scale 0 to 1 to a power; above 1 the image darkens."""

    low: Ratio
    high: Ratio


class Noise(Chance):
    """Add Gaussian noise, independent from pixel to pixel and channel to channel, with a standard deviation of up to
    `deviation`, as a share of the value range."""

    deviation: Share

    def intervals(self) -> tuple[Interval, ...]:
        return ((0.0, self.deviation), (0.0, _SEEDS))

    def draw(self, rng: Generator, n: int) -> Drawn:
        """As `Chance.draw`; the values are the deviation and the seed (a whole number) that the noise replays from."""
        drawn = super().draw(rng, n)
        drawn[:, 2] = np.floor(drawn[:, 2])
        return drawn


class Blur(Between):
    """Gaussian blur; its standard deviation in pixels of the prepared image."""

    low: Sigma
    high: Sigma


class Cutout(Chance):
    """Cover a rectangle of the image's aspect ratio (DeVries and Taylor, 2017) and of `share` of its area.

    It lies wholly inside the image and is filled with each channel's mean, so that it adds no black or white
    that could be taken for a finding.
    """

    share: Part

    def intervals(self) -> tuple[Interval, ...]:
        return ((self.share, self.share), (0.0, 1.0), (0.0, 1.0))


# Geometry: affine maps that take a point of the image to its new place. Points are (x, y) in pixels from the image's
# upper left corner (not from the centre of the first pixel), so the image covers 0..width and 0..height.
# Plain floats: for six numbers they are several times faster than arrays.


class Affine(NamedTuple):
    """The map (x, y) → (xx·x + xy·y + x0, yx·x + yy·y + y0)."""

    xx: float
    xy: float
    x0: float
    yx: float
    yy: float
    y0: float

    def then(self, after: Affine) -> Affine:
        """This map, and `after` applied to its result."""
        return Affine(
            after.xx * self.xx + after.xy * self.yx,
            after.xx * self.xy + after.xy * self.yy,
            after.xx * self.x0 + after.xy * self.y0 + after.x0,
            after.yx * self.xx + after.yy * self.yx,
            after.yx * self.xy + after.yy * self.yy,
            after.yx * self.x0 + after.yy * self.y0 + after.y0,
        )


def _about_centre(xx: float, xy: float, yx: float, yy: float, width: int, height: int) -> Affine:
    x, y = width / 2, height / 2
    return Affine(xx, xy, x - xx * x - xy * y, yx, yy, y - yx * x - yy * y)


def _mirror_columns(drawn: Values, width: int, height: int) -> Affine:
    return _about_centre(-1, 0, 0, 1, width, height)


def _mirror_rows(drawn: Values, width: int, height: int) -> Affine:
    return _about_centre(1, 0, 0, -1, width, height)


def _rotate(drawn: Values, width: int, height: int) -> Affine:
    angle = math.radians(drawn[1])
    cosine, sine = math.cos(angle), math.sin(angle)
    return _about_centre(cosine, sine, -sine, cosine, width, height)


def _crop(drawn: Values, width: int, height: int) -> Affine:
    _, part_width, part_height, left, top = drawn
    return Affine(1 / part_width, 0, -left * width / part_width, 0, 1 / part_height, -top * height / part_height)


def _translate(drawn: Values, width: int, height: int) -> Affine:
    return Affine(1, 0, drawn[1] * width, 0, 1, drawn[2] * height)


def _scale(drawn: Values, width: int, height: int) -> Affine:
    return _about_centre(drawn[1], 0, 0, drawn[1], width, height)


def _shear(drawn: Values, width: int, height: int) -> Affine:
    return _about_centre(1, math.tan(math.radians(drawn[1])), 0, 1, width, height)


# Intensities: (H, W, C) float32 on the scale 0 to 1; what leaves the scale is clipped by the caller.


def _brightness(image: Pixels, drawn: Values) -> Pixels:
    return image + np.float32(drawn[1])


def _contrast(image: Pixels, drawn: Values) -> Pixels:
    mean = np.float32(image.mean(dtype=np.float64))
    return (image - mean) * np.float32(drawn[1]) + mean


def _gamma(image: Pixels, drawn: Values) -> Pixels:
    return np.power(image, np.float32(drawn[1]))


def _noise(image: Pixels, drawn: Values) -> Pixels:
    noise = Generator(PCG64(int(drawn[2]))).standard_normal(image.shape, dtype=np.float32)
    return image + np.float32(drawn[1]) * noise


def _blur(image: Pixels, drawn: Values) -> Pixels:
    if drawn[1] <= 0:
        return image  # OpenCV refuses a sigma of 0
    blurred = cv2.GaussianBlur(image, (0, 0), drawn[1], borderType=cv2.BORDER_REFLECT_101)
    return np.asarray(blurred, dtype=np.float32).reshape(image.shape)


def _cutout(image: Pixels, drawn: Values) -> Pixels:
    height, width = image.shape[:2]
    side = math.sqrt(drawn[1])
    part_height, part_width = max(1, round(side * height)), max(1, round(side * width))
    left, top = round(drawn[2] * (width - part_width)), round(drawn[3] * (height - part_height))
    covered = image.copy()
    covered[top : top + part_height, left : left + part_width] = image.mean(axis=(0, 1), dtype=np.float64)
    return covered


@dataclass(frozen=True)
class Geometric:
    """A transform that moves pixels: `move(drawn, width, height)` says where to."""

    settings: type[Chance]
    move: Callable[[Values, int, int], Affine]
    kind: str = "geometric"


@dataclass(frozen=True)
class Photometric:
    """A transform that changes intensities: `apply(image, drawn)` on (H, W, C) float32 from 0 to 1."""

    settings: type[Chance]
    apply: Callable[[Pixels, Values], Pixels]
    kind: str = "photometric"


Transform = Geometric | Photometric

TRANSFORMS: dict[str, Transform] = {
    "horizontal_flip": Geometric(Chance, _mirror_columns),
    "vertical_flip": Geometric(Chance, _mirror_rows),
    "rotate": Geometric(Rotate, _rotate),
    "crop": Geometric(Crop, _crop),
    "translate": Geometric(Translate, _translate),
    "scale": Geometric(Scale, _scale),
    "shear": Geometric(Shear, _shear),
    "brightness": Photometric(Brightness, _brightness),
    "contrast": Photometric(Contrast, _contrast),
    "gamma": Photometric(Gamma, _gamma),
    "blur": Photometric(Blur, _blur),
    "noise": Photometric(Noise, _noise),
    "cutout": Photometric(Cutout, _cutout),
}


def render(image: NDArray[Any], chain: Sequence[tuple[Transform, Values]], value_range: int) -> NDArray[Any]:
    """Apply a chain of transforms with their drawn values to one image.

    Geometric transforms that follow each other become one affine warp (linear interpolation, borders mirrored), so
    that a long chain does not blur more than a short one. Intensities are clipped after each photometric transform
    and rounded once, at the end.

    Args:
        image: (H, W, C) uint8 or uint16.
        chain: in order, each transform and its drawn values; one whose first value is 0 is passed over.
        value_range: the value that stands for 1 (255 or 65535).

    Returns:
        (H, W, C), of the image's type.
    """
    height, width = image.shape[:2]
    applied = [(transform, drawn) for transform, drawn in chain if drawn[0]]
    if not applied:
        return image
    pixels: Pixels = image.astype(np.float32) / np.float32(value_range)
    move: Affine | None = None
    for transform, drawn in applied:
        if isinstance(transform, Geometric):
            step = transform.move(drawn, width, height)
            move = step if move is None else move.then(step)
        else:
            if move is not None:
                pixels, move = _warp(pixels, move), None
            pixels = np.clip(transform.apply(pixels, drawn), np.float32(0), np.float32(1))
    if move is not None:
        pixels = _warp(pixels, move)
    found: NDArray[Any] = np.rint(pixels * np.float32(value_range)).astype(image.dtype)
    return found


def _warp(image: Pixels, move: Affine) -> Pixels:
    # OpenCV counts from the centre of the first pixel, half a pixel from the corner that `move` counts from.
    x0 = move.x0 + (move.xx + move.xy - 1) / 2
    y0 = move.y0 + (move.yx + move.yy - 1) / 2
    matrix = np.array([[move.xx, move.xy, x0], [move.yx, move.yy, y0]])
    warped = cv2.warpAffine(
        image, matrix, (image.shape[1], image.shape[0]), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    return np.asarray(warped, dtype=np.float32).reshape(image.shape)
