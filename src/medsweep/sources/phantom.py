"""Synthetic B-mode-ultrasound-like phantoms of breast lesions: the default data, and the scale test.

Each lesion is drawn from six latent descriptors (shape, margin and acoustic features of the ACR BI-RADS ultrasound
lexicon: Mendelson et al., ACR BI-RADS Ultrasound, 2013). A class shifts their means; `difficulty` sets by how much, so
that classes overlap. The image then follows from the descriptors by simulated acquisition: fully developed speckle
(Wagner et al., IEEE Trans. Sonics Ultrason. 30, 1983) from complex Gaussian scatterers and a depth-dependent
point-spread function, attenuation along the beam, receiver noise, envelope and log compression. Acquisition loses part
of the descriptors, so nothing that reads pixels can do better than an oracle that reads the descriptors.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from medsweep.artifacts.record import ORACLE_COLUMN, ImageRecord, RawImage, Task
from medsweep.params import Positive, Section, Seed, Source
from medsweep.sources.protocol import UnknownLabel

cv2.setNumThreads(1)  # parallel work is whole images; threads inside one would only compete

Floats = NDArray[np.float32]

# Relative weight of each latent descriptor in telling malignant from benign. All are standard normal around means that
# differ by weight · separation; a higher value looks more malignant.
_WEIGHTS = {
    "taller": 0.8,  # taller than wide
    "irregularity": 0.9,  # lobulated, angular outline
    "spiculation": 1.0,  # lines that radiate from the margin
    "shadow": 1.0,  # posterior shadow; a low value is posterior enhancement
    "hypoechoic": 0.6,  # darker than the tissue around it
    "blur": 0.6,  # indistinct margin
}
_DIRECTION = np.array(list(_WEIGHTS.values())) / np.linalg.norm(list(_WEIGHTS.values()))
_SMALLEST_GRID = 64  # below this many pixels a side the speckle would be coarser than the lesion's margin
_LOOKS = 2  # spatial compounding: the mean power of this many independent speckle patterns
_NOT_MALIGNANT = -1000.0
_STREAM_LABELS, _STREAM_PATIENT, _STREAM_VIEW = 0, 1, 2


class PhantomSettings(Section):
    """The phantom's keys below `prepare.source`; any may be left out.

    Args:
        patients: number of patients, one lesion each; classes come in equal shares.
        images_per_patient: views of each patient.
        difficulty: 0 (classes nearly apart) to 1 (nearly alike).
        size: height and width in pixels.
        seed: everything is drawn from it.
        normal: adds a third class without a lesion.
    """

    patients: Annotated[int, Field(ge=2, le=10_000_000)] = 300
    images_per_patient: Positive = 2
    difficulty: Annotated[float, Field(ge=0.0, le=1.0)] = 0.4
    size: Annotated[int, Field(ge=16, le=512)] = 64
    seed: Seed = 7
    normal: bool = False


def separation(difficulty: float) -> float:
    """The distance between the means of benign and malignant descriptors, in standard deviations (d').

    The oracle's expected AUROC is Φ(d' / √2): .998 at difficulty 0, .97 at 0.4, .64 at 1.
    """
    return 4.2 - 3.7 * difficulty


@dataclass(frozen=True)
class _Patient:
    """What all views of a patient share; lengths are shares of the field of view, levels in decibel."""

    lesion: bool
    latents: NDArray[np.float64]
    radius: float
    outline: Floats
    tilt: float
    skin: float
    fat: float
    muscle: float
    waves: list[list[float]]
    fat_level: float
    muscle_level: float
    texture: float
    gain: float
    dynamic_range: float
    slope: float
    focus: float
    spread: float


class PhantomSource:
    """Phantoms, each made when it is read, from (seed, patient, view) alone: any subset in any order is the same.

    `read` gives the lesion mask, and in the column `oracle_score` the log-likelihood ratio of malignant to benign given
    the latent descriptors: the score of an ideal reader that sees them. An image without a lesion scores -1000, so that
    with three classes the score ranks malignant against the rest.
    """

    unknown_labels: tuple[UnknownLabel, ...] = ()
    synthetic = True

    def __init__(self, source: Source, root: Path) -> None:
        settings = PhantomSettings.model_validate(source.settings)
        self._path = root / source.path
        self._settings = settings
        self.settings: Mapping[str, Any] = {"kind": source.kind, "path": source.path, **settings.model_dump()}
        self.class_names: tuple[str, ...] = (
            ("normal", "benign", "malignant") if settings.normal else ("benign", "malignant")
        )
        self.task: Task = "multiclass" if settings.normal else "binary"

    def __len__(self) -> int:
        return self._settings.patients * self._settings.images_per_patient

    def records(self) -> Iterator[ImageRecord]:
        """Every phantom, patient by patient."""
        for patient in range(self._settings.patients):
            label = self._label(patient)
            for view in range(self._settings.images_per_patient):
                frame = patient * self._settings.images_per_patient + view
                yield ImageRecord(self._path, label, f"phantom-{patient:07d}", None, "phantom", frame)

    def read(self, record: ImageRecord) -> RawImage:
        """Make one phantom: (size, size) uint8 with its lesion mask."""
        assert record.frame is not None
        number, view = divmod(record.frame, self._settings.images_per_patient)
        name = self.class_names[self._label(number)]
        rng = np.random.default_rng([self._settings.seed, _STREAM_PATIENT, number])
        patient = _draw_patient(rng, name, separation(self._settings.difficulty))
        rng = np.random.default_rng([self._settings.seed, _STREAM_VIEW, number, view])
        pixels, mask = _render(patient, rng, self._settings.size)
        score = separation(self._settings.difficulty) * float(_DIRECTION @ patient.latents)
        return RawImage(
            pixels=pixels,
            largest=255,
            content=self._content(number, view),
            mask=mask,
            columns={ORACLE_COLUMN: repr(score if patient.lesion else _NOT_MALIGNANT)},
        )

    def _content(self, patient: int, view: int) -> str:
        """The digest of what the phantom is made from. That of its pixels would differ where a processor rounds one of
        them otherwise, and with it the order of the records and the splits."""
        of_all = self._settings.model_dump(exclude={"patients", "images_per_patient"})
        made_from = {**of_all, "patient": patient, "view": view}
        return hashlib.sha256(f"phantom {sorted(made_from.items())}".encode()).hexdigest()

    def _label(self, patient: int) -> int:
        # Permuted blocks: every class has its share in any run of patients, in an order nobody can guess.
        classes = len(self.class_names)
        block, place = divmod(patient, classes)
        order = np.random.default_rng([self._settings.seed, _STREAM_LABELS, block]).permutation(classes)
        return int(order[place])


def _draw_patient(rng: np.random.Generator, name: str, distance: float) -> _Patient:
    sign = {"malignant": 0.5, "benign": -0.5, "normal": 0.0}[name]
    latents = rng.standard_normal(len(_WEIGHTS)) + sign * distance * _DIRECTION
    _, irregularity, spiculation, *_ = latents
    return _Patient(
        lesion=name != "normal",
        latents=latents,
        radius=rng.uniform(0.13, 0.20),
        outline=_outline(rng, irregularity, spiculation),
        tilt=rng.normal(0.0, 0.2),
        skin=rng.uniform(0.03, 0.06),
        fat=rng.uniform(0.17, 0.30),
        muscle=rng.uniform(0.76, 0.90),
        waves=rng.uniform(0.0, 1.0, (3, 4)).tolist(),
        fat_level=rng.uniform(-9.0, -5.0),
        muscle_level=rng.uniform(-8.0, -4.0),
        texture=rng.uniform(1.0, 2.5),
        gain=rng.normal(0.0, 2.5),
        dynamic_range=rng.uniform(48.0, 60.0),
        slope=rng.normal(-5.0, 3.0),
        focus=rng.uniform(0.3, 0.6),
        spread=rng.uniform(0.85, 1.25),
    )


_ANGLES = np.linspace(-np.pi, np.pi, 360, endpoint=False)


def _outline(rng: np.random.Generator, irregularity: float, spiculation: float) -> Floats:
    """The margin's radius by angle, relative to the ellipse: undulations, and narrow spikes."""
    undulation = min(0.10 * math.exp(0.6 * irregularity), 0.30)
    orders = np.arange(2, 8)
    sizes = rng.normal(0.0, 1.0, len(orders)) / np.sqrt(orders)
    phases = rng.uniform(0.0, 2 * np.pi, len(orders))
    waves = (sizes[:, None] * np.cos(orders[:, None] * _ANGLES + phases[:, None])).sum(axis=0)
    radius = 1.0 + undulation * waves / max(float(np.abs(waves).max()), 1e-6) * 1.2
    length = min(0.16 * math.exp(0.7 * spiculation), 0.80)
    count = int(rng.integers(7, 13))
    at = 2 * np.pi * (np.arange(count) + rng.uniform(-0.35, 0.35, count)) / count - np.pi
    away = np.abs((_ANGLES[None, :] - at[:, None] + np.pi) % (2 * np.pi) - np.pi)
    width = rng.uniform(0.09, 0.18, count)[:, None]
    spikes = (rng.uniform(0.3, 1.0, count)[:, None] * np.clip(1.0 - away / width, 0.0, None)).sum(axis=0)
    radius += length * spikes
    return np.asarray(np.clip(radius, 0.6, 1.7), dtype=np.float32)


def _render(patient: _Patient, rng: np.random.Generator, size: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """One view: the scanner's position, its speckle and its noise are new, the patient is the same."""
    grid = max(size, _SMALLEST_GRID)
    steps = ((np.arange(grid) + 0.5) / grid).astype(np.float32)
    lateral, depth = (steps - 0.5)[None, :], steps[:, None]

    level = _tissue(patient, rng, lateral, depth, grid)
    beam = np.broadcast_to(patient.slope * depth, (grid, grid))
    mask = np.zeros((grid, grid), dtype=np.uint8)
    if patient.lesion:
        taller, _, _, shadow, hypoechoic, blur = patient.latents.tolist()
        inside = _signed_distance(patient, rng, taller, lateral, depth)
        mask = (inside > 0).astype(np.uint8)
        softness = min(0.006 * math.exp(0.6 * blur), 0.04)
        cover = 1.0 / (1.0 + np.exp(-np.clip(inside / softness, -30, 30)))
        darker = min(max(14.0 + 3.0 * hypoechoic, 3.0), 26.0) + rng.normal(0.0, 0.7)
        level = level * (1.0 - cover) - cover * darker
        # Two-way loss accumulates along the part of each beam that crosses the lesion, relative to tissue.
        path = np.cumsum(cv2.GaussianBlur(mask.astype(np.float32), (0, 0), grid * 0.012), axis=0) / grid
        beam = beam - min(max(2.0 + 20.0 * shadow, -36.0), 60.0) * path
    pixels = _acquire(patient, rng, level + beam, depth, grid)
    if grid != size:
        pixels = cv2.resize(pixels, (size, size), interpolation=cv2.INTER_AREA)
        mask = (cv2.resize(mask.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA) >= 0.5).astype(np.uint8)
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8), mask


def _tissue(patient: _Patient, rng: np.random.Generator, lateral: Floats, depth: Floats, grid: int) -> Floats:
    """The echogenicity of skin, fat, gland and muscle in decibel, with undulating borders and a smooth texture."""
    shift = float(rng.normal(0.0, 0.05))

    def border(row: int, at: float, swing: float) -> Any:
        one, two, first, second = patient.waves[row]
        wave = np.sin(2 * np.pi * (lateral * (0.6 + one) + first + shift)) + 0.5 * np.sin(
            2 * np.pi * (lateral * (1.5 + 2 * two) + second + shift)
        )
        return at + swing * wave

    def beyond(edge: Any, softness: float) -> Any:
        return 1.0 / (1.0 + np.exp(np.clip((edge - depth) / softness, -30, 30)))

    below_skin = beyond(border(0, patient.skin, 0.004), 0.005)
    below_fat = beyond(border(1, patient.fat, 0.030), 0.012)
    chest_wall = border(2, patient.muscle, 0.015)
    below_gland = beyond(chest_wall, 0.008)
    coarse = rng.standard_normal((2, 8, 8)).astype(np.float32)
    smooth = cv2.resize(coarse[0], (grid, grid), interpolation=cv2.INTER_CUBIC)
    # Septa and muscle fibres run sideways.
    strands = cv2.resize(rng.standard_normal((20, 5)).astype(np.float32), (grid, grid), interpolation=cv2.INTER_CUBIC)
    fat = patient.fat_level + 6.0 * np.clip(strands - 0.6, 0.0, 2.0)
    muscle = patient.muscle_level + 3.0 * strands
    fascia = 7.0 * np.exp(-(((depth - chest_wall) / 0.012) ** 2))
    gland = patient.texture * smooth + 1.5 * strands
    level = 6.0 * (1 - below_skin) + below_skin * (
        fat * (1 - below_fat) + below_fat * (gland * (1 - below_gland) + below_gland * muscle)
    )
    return np.asarray(level + fascia, dtype=np.float32)


def _signed_distance(
    patient: _Patient, rng: np.random.Generator, taller: float, lateral: Floats, depth: Floats
) -> Floats:
    """How far inside the lesion's outline each point lies (negative outside), as a share of the field of view."""
    ratio = min(max(-0.16 + 0.30 * taller + rng.normal(0.0, 0.05), -0.75), 0.55)
    half_width, half_height = patient.radius * math.exp(-ratio / 2), patient.radius * math.exp(ratio / 2)
    at_x = rng.uniform(-0.10, 0.10)
    at_z = rng.uniform(0.40, 0.50)
    angle = patient.tilt * 0.5 + rng.normal(0.0, 0.06)
    cos, sin = math.cos(angle), math.sin(angle)
    along, across = lateral - at_x, depth - at_z
    u = (cos * along + sin * across) / half_width
    v = (cos * across - sin * along) / half_height
    away = np.sqrt(u * u + v * v)
    index = ((np.arctan2(v, u) + np.pi) * (len(patient.outline) / (2 * np.pi))).astype(np.int32) % len(patient.outline)
    return np.asarray((patient.outline[index] - away) * patient.radius, dtype=np.float32)


def _acquire(patient: _Patient, rng: np.random.Generator, level: Floats, depth: Floats, grid: int) -> Floats:
    """Scatterers to grey values from 0 to 255: point-spread function, receiver noise, envelope, log compression."""
    scatterers = rng.standard_normal((grid, grid, _LOOKS * 2), dtype=np.float32)
    scatterers *= np.power(np.float32(10), level / np.float32(20))[:, :, None]
    unit = patient.spread * grid / 64
    sharp, wide = (_blurred(scatterers, 0.6 * unit, lateral * unit) for lateral in (0.8, 1.6))
    # The beam is narrowest at its focus.
    defocus = np.clip(np.abs(depth - patient.focus) / 0.5, 0.0, 1.0)[:, :, None]
    echo = sharp + (wide - sharp) * defocus
    echo += 10 ** (-34 / 20) * rng.standard_normal((grid, grid, _LOOKS * 2), dtype=np.float32)
    power = np.maximum(np.einsum("ijk,ijk->ij", echo, echo) / _LOOKS, 1e-12)
    decibel = 10.0 * np.log10(power) + patient.gain - 3.0
    return np.asarray(255.0 * np.clip(0.66 + decibel / patient.dynamic_range, 0.0, 1.0), dtype=np.float32)


def _blurred(field: Floats, axial: float, lateral: float) -> Floats:
    """A Gaussian point-spread function with unit energy, so that blurring leaves the mean echo power as it was."""
    kernels = []
    for sigma in (lateral, axial):
        half = int(np.ceil(3 * sigma))
        kernel = np.exp(-0.5 * (np.arange(-half, half + 1) / sigma) ** 2)
        kernels.append((kernel / np.linalg.norm(kernel)).astype(np.float32))
    return np.asarray(cv2.sepFilter2D(field, -1, kernels[0], kernels[1], borderType=cv2.BORDER_REFLECT))
