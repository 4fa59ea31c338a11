"""Schedules: their values by hand, their limits and their errors."""

from __future__ import annotations

import subprocess
import sys

import pytest

from medsweep.errors import ParamsError
from medsweep.train.schedules import SCHEDULES, multiplier

HYPER: dict[str, dict[str, float]] = {"constant": {}, "cosine": {"floor": 0.1}, "step": {"drops": 2, "factor": 0.1}}


def test_every_row_starts_at_one_and_never_rises() -> None:
    assert set(HYPER) == set(SCHEDULES)
    for name, hyper in HYPER.items():
        values = [multiplier(name, hyper, step, 30) for step in range(30)]
        assert values[0] == 1.0
        assert values == sorted(values, reverse=True)


def test_cosine_values() -> None:
    found = [multiplier("cosine", {"floor": 0.2}, step, 4) for step in range(4)]
    assert found == pytest.approx([1.0, 0.2 + 0.8 * 0.853553, 0.6, 0.2 + 0.8 * 0.146447], abs=1e-6)
    assert multiplier("cosine", {"floor": 0.2}, 9999, 10000) == pytest.approx(0.2, abs=1e-6)


@pytest.mark.parametrize("total", [3, 9, 21, 300])
def test_step_drops_after_equal_thirds(total: int) -> None:
    found = [multiplier("step", {"drops": 2, "factor": 0.5}, step, total) for step in range(total)]
    assert found == [1.0] * (total // 3) + [0.5] * (total // 3) + [0.25] * (total // 3)


def test_mistakes() -> None:
    with pytest.raises(ParamsError, match=r"train\.space\.schedule: unknown schedule 'linear'.*constant, cosine, step"):
        multiplier("linear", {}, 0, 1)
    with pytest.raises(ParamsError, match=r"train\.space\.schedule\.step\.drops: must be a whole number"):
        multiplier("step", {"drops": 1.5, "factor": 0.1}, 0, 1)
    with pytest.raises(ParamsError, match=r"train\.space\.schedule\.cosine\.floor: is missing"):
        multiplier("cosine", {}, 0, 1)
    with pytest.raises(ValueError, match="step 5"):
        multiplier("constant", {}, 5, 5)


def test_tables_are_read_without_tensorflow() -> None:
    code = (
        "import sys, medsweep.train.optimizers, medsweep.train.losses, medsweep.train.backbones, "
        "medsweep.train.schedules; sys.exit(any(name in sys.modules for name in ('tensorflow', 'keras')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
