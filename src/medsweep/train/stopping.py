"""When a search ends before its last trial."""

from __future__ import annotations

from collections.abc import Sequence

from medsweep.artifacts.trial import TrialOutcome
from medsweep.params import Train
from medsweep.statistics.objective import OBJECTIVES
from medsweep.train.past import Stop


def stop_after(train: Train, outcomes: Sequence[TrialOutcome]) -> Stop | None:
    """Whether the search ends after these trials, and why. Asked between generations.

    The time is that which the trials' log lines tell, so that it is the same fact for whoever reads them again.
    """
    search = train.search
    if search.max_minutes is not None and sum(each.seconds for each in outcomes) >= 60.0 * search.max_minutes:
        reason = f"the {search.max_minutes:g} CPU minutes of train.search.max_minutes were used up"
        return Stop(len(outcomes), "time", reason)
    if search.patience is None or len(outcomes) <= search.patience:
        return None
    sign = 1.0 if OBJECTIVES[search.objective].direction == "maximize" else -1.0
    before, now = (_best(each, sign) for each in (outcomes[: len(outcomes) - search.patience], outcomes))
    if before is None or now is None or now > before + search.min_improvement:
        return None
    reason = (
        f"none of the last {search.patience} trials (train.search.patience) improved {search.objective} "
        f"by more than {search.min_improvement:g} (train.search.min_improvement)"
    )
    return Stop(len(outcomes), "patience", reason)


def _best(outcomes: Sequence[TrialOutcome], sign: float) -> float | None:
    values = [sign * each.objective for each in outcomes if each.status == "complete" and each.objective is not None]
    return max(values, default=None)
