"""Choosing among candidates: the correction on candidates whose worth is known, and the rules by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from medsweep.statistics.intervals import resample_weights
from medsweep.statistics.metrics import evaluate_all
from medsweep.statistics.operating_points import decide
from medsweep.statistics.selection import (
    Resampled,
    choose,
    grown,
    remaining_distance,
    resampled,
    scores_of,
    selection_bias,
    standard_error,
    survivors,
)

N = 60
GROUPS = np.array([f"p{index // 2}" for index in range(N)])
LABELS = (np.arange(N) // 2 % 2).astype(np.int64)


def guesses(rng: np.random.Generator, signal: float, n: int = N, labels: np.ndarray = LABELS) -> np.ndarray:
    scores = 1 / (1 + np.exp(-(signal * (2 * labels - 1) + rng.normal(0, 1, n))))
    return np.stack([1 - scores, scores], axis=1)


@pytest.mark.parametrize("objective", ["val_auroc", "val_log_loss", "val_average_precision"])
def test_scores_are_the_metrics(objective: str) -> None:
    rng = np.random.default_rng(3)
    repeats = np.stack([guesses(rng, 0.5) for _ in range(2)])
    plain = scores_of(objective, "binary", LABELS, repeats)(np.ones((N, 1)))
    each = [evaluate_all("binary", LABELS, p, decide("binary", p, [0.5]))[objective[4:]] for p in repeats]
    assert plain[0] == pytest.approx(np.mean(each))
    many = np.eye(3)[np.arange(N) % 3] * 0.6 + 0.4 / 3
    labels = np.arange(N, dtype=np.int64) % 3
    value = scores_of(objective, "multiclass", labels, many)(np.ones((N, 1)))[0]
    assert value == pytest.approx(evaluate_all("multiclass", labels, many, many.argmax(axis=1))[objective[4:]])


def test_the_correction_sees_through_the_best_of_many_guesses() -> None:
    """Forty candidates that know nothing: the best promises much, and is worth .5."""
    promised, corrected = [], []
    for repeat in range(8):
        rng = np.random.default_rng(repeat)
        candidates = [scores_of("val_auroc", "binary", LABELS, guesses(rng, 0.0)) for _ in range(40)]
        found = resampled(candidates, GROUPS, samples=60, seed=1)
        chosen = choose(found.values, "val_auroc")
        bias = selection_bias(found, "val_auroc", chosen=chosen)
        assert bias is not None and bias.value == found.values.max() and bias.inflation == bias.value - bias.corrected
        assert bias.low <= bias.corrected <= bias.high
        promised.append(bias.value)
        corrected.append(bias.corrected)
    assert np.mean(promised) > 0.62
    assert abs(np.mean(corrected) - 0.5) < 0.05


def test_one_candidate_flatters_nobody() -> None:
    rng = np.random.default_rng(0)
    found = resampled([scores_of("val_auroc", "binary", LABELS, guesses(rng, 1.0))], GROUPS, samples=300, seed=1)
    bias = selection_bias(found, "val_auroc", chosen=0)
    assert bias is not None and abs(bias.inflation) < 0.01


def test_resamples_are_of_whole_patients_and_share_no_image_with_what_is_left() -> None:
    met = []

    def scores(weights: np.ndarray) -> np.ndarray:
        met.append(weights)
        return np.zeros(weights.shape[1])

    resampled([scores], GROUPS, samples=20, seed=1)
    plain, drawn, left = met
    assert (plain == 1).all() and ((drawn > 0) ^ (left > 0)).all()
    assert all((each[::2] == each[1::2]).all() for each in (drawn, left))


def test_the_standard_error_is_the_bootstraps() -> None:
    """Of a mean of independent images it is known: deviation by root n."""
    rng = np.random.default_rng(5)
    values = rng.normal(0, 1, 400)
    groups = np.array([str(index) for index in range(400)])
    mean = resampled([lambda w: (values[:, None] * w).sum(axis=0) / w.sum(axis=0)], groups, samples=400, seed=2)
    assert standard_error(mean.drawn[0]) == pytest.approx(values.std() / 20, rel=0.15)
    assert np.isnan(standard_error(np.array([np.nan, 1.0])))


def test_the_rules_of_choosing() -> None:
    values, cost = np.array([0.90, 0.95, 0.94, 0.93, np.nan]), np.array([1.0, 9.0, 5.0, 5.0, 0.0])
    assert choose(values, "val_auroc") == 1
    assert choose(values, "val_log_loss") == 0
    assert choose(values, "val_auroc", cost=cost, standard_error=0.0) == 1
    assert choose(values, "val_auroc", cost=cost, standard_error=0.021) == 2, "of equal costs the better"
    assert choose(values, "val_auroc", cost=cost, standard_error=0.051) == 0
    assert choose(values, "val_log_loss", cost=-cost, standard_error=0.041) == 3
    assert choose(np.array([np.nan]), "val_auroc") == -1


def test_a_rule_that_prefers_the_small_is_corrected_as_it_chooses() -> None:
    found = Resampled(
        values=np.array([0.9, 0.89]), drawn=np.array([[0.9, 0.9], [0.89, 0.8]]), left=np.array([[0.1, 0.2], [0.7, 0.8]])
    )
    cost = np.array([2.0, 1.0])
    bias = selection_bias(found, "val_auroc", chosen=1, cost=cost, standard_error=0.02)
    assert bias is not None and bias.corrected == pytest.approx((0.7 + 0.2) / 2) and bias.value == 0.89


def test_nothing_is_told_where_no_resample_can_tell() -> None:
    labels = np.zeros(N, np.int64)
    found = resampled(
        [scores_of("val_auroc", "binary", labels, guesses(np.random.default_rng(0), 0.0))], GROUPS, samples=5, seed=1
    )
    assert selection_bias(found, "val_auroc", chosen=0) is None


def halved(values: np.ndarray, generations: list[int], reduction: int) -> tuple[list[int], list[str]]:
    """Successive halving as the search does it: how many rungs each trial (T, E) comes to, and what becomes of it."""
    reached, status = [0] * len(values), [""] * len(values)
    pools: list[list[float]] = [[] for _ in values[0]]
    for generation in dict.fromkeys(generations):
        alive = [trial for trial, each in enumerate(generations) if each == generation]
        for rung in range(values.shape[1]):
            pools[rung] += [float(values[trial, rung]) for trial in alive]
            bar = sorted(pools[rung], reverse=True)[int(np.ceil(len(pools[rung]) / reduction)) - 1] if alive else 0.0
            stays = []
            for trial in alive:
                reached[trial] = rung + 1
                if rung == values.shape[1] - 1:
                    status[trial] = "complete"
                elif values[trial, rung] >= bar:
                    stays.append(trial)
                else:
                    status[trial] = "pruned"
            alive = stays
    return reached, status


@pytest.mark.parametrize("seed", range(4))
def test_on_the_images_themselves_those_are_left_that_were_completed(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(17, 3))
    generations = [trial // 5 for trial in range(17)]
    reached, status = halved(values, generations, 2)
    told = [values[:, rung, None] for rung in range(3)]
    left = survivors(told, reached, generations, reduction=2, maximize=True)
    assert left[:, 0].tolist() == [each == "complete" for each in status]
    downward = survivors([-each for each in told], reached, generations, reduction=2, maximize=False)
    assert (left == downward).all()
    # Two resamples at once are what each is alone.
    other = [each + rng.normal(size=each.shape) for each in told]
    both = survivors(
        [np.hstack(pair) for pair in zip(told, other, strict=True)], reached, generations, reduction=2, maximize=True
    )
    alone = survivors(other, reached, generations, reduction=2, maximize=True)
    assert (both == np.hstack([left, alone])).all()


def test_what_stopped_candidates_would_have_come_to() -> None:
    scores = remaining_distance([np.array([0.6, 0.8]), np.array([0.8, 0.9]), np.array([0.9, 0.9])], maximize=True)
    assert scores == pytest.approx([1 / 3, 2 / 3, 1.0])
    assert grown(np.array([0.7, 1.0]), scores[0], maximize=True) == pytest.approx([0.9, 1.0])
    losses = remaining_distance([np.array([0.6, 0.4]), np.array([0.3, 0.2])], maximize=False)
    assert losses == pytest.approx([0.5, 1.0])
    assert grown(np.array([0.7]), losses[0], maximize=False) == pytest.approx([0.35])
    # Where there is nothing left to gain, nothing is gained.
    assert remaining_distance([np.ones(2), np.ones(2)], maximize=True) == pytest.approx([1.0, 1.0])


def test_who_would_have_gone_on_is_left_with_what_is_known_of_it() -> None:
    # The last two were stopped at the first rung; in the resample the third would have gone on and the first not.
    first = np.array([[0.9, 0.5], [0.8, 0.8], [0.7, 0.9], [0.1, 0.1]])
    second = np.array([[0.9, 0.9], [0.8, 0.7], [np.nan, np.nan], [np.nan, np.nan]])
    left = survivors([first, second], [2, 2, 1, 1], [0, 0, 0, 0], reduction=2, maximize=True)
    assert left.T.tolist() == [[True, True, False, False], [False, True, True, False]]


def test_the_luck_at_a_rung_is_taken_off() -> None:
    """Sixteen trials that are equally good; at each rung the luckier half goes on, and becomes better for it."""
    corrected: dict[bool, list[float]] = {False: [], True: []}
    for repeat in range(12):
        rng = np.random.default_rng(repeat)
        noise = [rng.normal(0, 1, N) for _ in range(16)]
        said = [[signal * (2 * LABELS - 1) + each for each in noise] for signal in (0.1, 0.2, 0.3)]
        scores = [[scores_of("val_auroc", "binary", LABELS, _probabilities(each)) for each in rung] for rung in said]
        plain = np.ones((N, 1))
        values = np.array([[each(plain)[0] for each in rung] for rung in scores]).T
        reached, status = halved(values, [0] * 16, 2)
        last = [scores[reached[trial] - 1][trial] for trial in range(16)]
        found = resampled(last, GROUPS, samples=100, seed=1)
        complete = [trial for trial in range(16) if status[trial] == "complete"]
        chosen = complete[int(np.argmax([found.values[trial] for trial in complete]))]
        weights = np.concatenate(list(resample_weights(GROUPS, samples=100, seed=1)), axis=1)
        told = [np.stack([each(weights) for each in rung]) for rung in scores]
        among = survivors(told, reached, [0] * 16, reduction=2, maximize=True)
        remaining = remaining_distance([values[complete, rung] for rung in range(3)], maximize=True)
        share = remaining[np.asarray(reached) - 1][:, None]
        later = Resampled(found.values, *(grown(each, share, maximize=True) for each in (found.drawn, found.left)))
        for again in (False, True):
            pair = (later, among) if again else (found, None)
            bias = selection_bias(pair[0], "val_auroc", chosen=chosen, among=pair[1])
            assert bias is not None
            corrected[again].append(bias.corrected)
    truth = norm.cdf(0.3 * np.sqrt(2))
    assert np.mean(corrected[False]) - truth > np.mean(corrected[True]) - truth + 0.01
    assert abs(np.mean(corrected[True]) - truth) < 0.03


def _probabilities(scores: np.ndarray) -> np.ndarray:
    p = 1 / (1 + np.exp(-scores))
    return np.stack([1 - p, p], axis=1)
