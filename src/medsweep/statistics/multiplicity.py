"""Several tests at once: p-values that still mean what they say."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values (Holm, 1979): below α, they keep the chance of any false alarm below α.

    Args:
        p_values: one a test; NaN is no test, stays NaN and does not count.
    """
    raw = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(len(raw), np.nan)
    tested = np.flatnonzero(np.isfinite(raw))
    order = tested[np.argsort(raw[tested], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(raw[order] * factors))
    return [float(each) for each in adjusted]
