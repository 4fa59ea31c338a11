"""Mean and deviation equal NumPy's on the pixels themselves."""

from __future__ import annotations

import numpy as np
import pytest

from medsweep.prepare.standardize import standardization


@pytest.mark.parametrize(("dtype", "value_range"), [(np.uint8, 255), (np.uint16, 65535)])
def test_equals_the_mean_and_deviation_of_all_pixels(dtype, value_range):
    images = np.random.default_rng(1).integers(0, value_range, (9, 5, 7, 3), endpoint=True).astype(dtype)
    values = images.reshape(9, -1, 3).astype(np.int64)
    found = standardization(values.sum(axis=1), (values**2).sum(axis=1), pixels_per_image=35, value_range=value_range)
    scaled = images / value_range
    np.testing.assert_allclose(found.mean, scaled.mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(found.deviation, scaled.std(axis=(0, 1, 2)), rtol=1e-12)
