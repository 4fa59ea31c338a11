from __future__ import annotations

from typing import get_args

import pytest

from medsweep.params import Search
from medsweep.statistics.metrics import METRICS
from medsweep.statistics.objective import OBJECTIVES
from medsweep.train.network import VALIDATION_METRICS


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_is_a_metric_of_every_epoch_and_agrees_which_way_is_better(name: str) -> None:
    metric = name.removeprefix("val_")
    assert metric in VALIDATION_METRICS
    assert (OBJECTIVES[name].direction == "maximize") == METRICS[metric].higher_is_better


def test_the_parameters_offer_the_same_objectives() -> None:
    assert set(get_args(Search.model_fields["objective"].annotation)) == set(OBJECTIVES)
