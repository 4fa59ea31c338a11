"""What each method of explanation is: its settings, and the row that the table has of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medsweep.explain.network import Member

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Settings:
    """How closely methods look; the keys of `evaluate.explanations` of the same names.

    Args:
        steps: of integrated gradients.
        samples: of SmoothGrad.
        noise: of SmoothGrad, as a share of each image's range.
        patch: of occlusion, as a share of the shorter side.
        seed: of SmoothGrad's noise.
    """

    steps: int
    samples: int
    noise: float
    patch: float
    seed: int


Explain = Callable[[Member, Floats, NDArray[np.int64], Settings], Floats]


@dataclass(frozen=True)
class Method:
    """One method.

    Args:
        explain: (member, z (n, H, W, C), classes (n,), settings) → maps (n, H, W), in proportion to the log-odds.
        title: as it is written.
        signed: True where negative values speak against the class; else maps are 0 or more.
        what: one sentence.
        source: the paper.
    """

    explain: Explain
    title: str
    signed: bool
    what: str
    source: str
