"""Prediction sets by split conformal prediction, over crepes; and how often they may miss by chance."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medsweep.statistics.weighted import Floats

_ROUNDING = 1e-9


def prediction_sets(calibration: Floats, candidates: Floats, confidence: float) -> NDArray[np.bool_]:
    """Which candidates are kept so that the true one is among them with the wanted probability.

    A candidate stays unless it conforms worse than all but a share of 1 - confidence of the calibration images (Vovk et
    al., 2005; without smoothing, so that equal input gives equal sets). That holds for images that are exchangeable
    with those, and for no others.

    Args:
        calibration: (M,) the nonconformity of the true class of each calibration image: 1 - its probability.
        candidates: (N, K) that of every class of every image.
        confidence: above 0 and below 1.

    Returns:
        (N, K) True where the class is in the set. All are where there are too few calibration images to exclude one.
    """
    with warnings.catch_warnings():  # its import changes the filters of the whole process
        from crepes import ConformalClassifier

    known = ConformalClassifier().fit(np.asarray(calibration, dtype=np.float64))
    p_values = known.predict_p(np.asarray(candidates, dtype=np.float64), smoothing=False)
    # Above 1 - confidence, not at it: what rounding makes of 1 - 0.95 must not decide.
    return np.asarray(p_values > 1.0 - confidence + _ROUNDING)


def expected_coverage(n_calibration: float, n: float, confidence: float, *, level: float) -> tuple[float, float]:
    """Between what shares coverage lies, with probability `level`, where the images are exchangeable.

    Given the calibration images, coverage is a draw from a Beta distribution, and what n images show of it a
    beta-binomial one (Angelopoulos & Bates, 2021, section 3.2).

    Args:
        n_calibration: how many calibration images (an effective number, where patients have several).
        n: how many images the coverage is of; likewise.
        confidence: that the sets were made for.
        level: 0.95, say.
    """
    from scipy.stats import betabinom

    m, size = max(1, round(n_calibration)), max(1, round(n))
    missed = int(np.floor((m + 1) * (1.0 - confidence) + _ROUNDING))
    if missed < 1:
        return 1.0, 1.0  # too few calibration images to leave any class out
    law = betabinom(size, m + 1 - missed, missed)
    tail = (1.0 - level) / 2.0
    return float(law.ppf(tail)) / size, float(law.ppf(1.0 - tail)) / size


def nonconformity(probabilities: NDArray[Any]) -> Floats:
    """1 - p (the hinge), rounded to what float32 tells apart: equal probabilities must tie wherever they were read."""
    return np.round(1.0 - np.asarray(probabilities, dtype=np.float64), 7)
