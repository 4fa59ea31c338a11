"""The run note of a search: markdown that sums it up for a person, shown by MLflow beside the run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from medsweep.artifacts.trained import TrainedModel
from medsweep.artifacts.trial import Scalar, TrialOutcome
from medsweep.params import Train
from medsweep.statistics.objective import OBJECTIVES
from medsweep.train.ranking import ranking

_SHOWN_TRIALS = 5


def search_note(train: Train, manifest: TrainedModel, winner: TrialOutcome, outcomes: Sequence[TrialOutcome]) -> str:
    """What was searched, what was found, and how far to believe it."""
    search = train.search
    counts = ", ".join(f"{count} {status}" for status, count in manifest.n_trials.items() if count)
    classes = ", ".join(manifest.class_names)
    lines = [
        f"# Search of {len(outcomes)} trials",
        "",
        *(["**Synthetic images.**", ""] if manifest.synthetic else []),
        f"{manifest.task} task ({classes}), images of {' × '.join(map(str, manifest.input_shape))}. "
        f"Trials are compared by `{search.objective}` on validation at epochs {_listed(search.rungs)}: {counts}.",
        "",
        *([f"**Ended early**: {manifest.stopped}.", ""] if manifest.stopped else []),
        f"**Winner: {winner.config.title}**, {search.objective} {manifest.objective_value:.4f}. "
        f"It is the best of {manifest.n_trials['complete']} completed trials on the same validation images, so this "
        "value flatters; the evaluation run of this search has the test split's verdict.",
        "",
        *(line for each in selection_lines(manifest) for line in (each, "")),
        f"| trial | {search.objective} | log-loss | accuracy | optimizer | loss | backbone | parameters |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for each in ranking(train, outcomes)[:_SHOWN_TRIALS]:
        last = each.history[-1].validation
        lines.append(
            f"| {each.config.number} | {each.objective:.4f} | {last['val_log_loss']:.4f} | {last['val_accuracy']:.4f} "
            f"| {each.config.optimizer.name} | {each.config.loss.name} | {each.config.backbone.name} "
            f"| {each.facts.get('parameters', 0):,.0f} |"
        )
    lines += ["", "Winner's values:", ""]
    lines += [f"- `{name}`: {_shown(value)}" for name, value in winner.config.dotted().items()]
    lines += ["", calibration_line(manifest)]
    if manifest.threshold:
        shown = _listed([f"{each:.4f}" for each in manifest.threshold])
        lines += ["", f"Threshold by `{manifest.threshold_rule}` on validation: {shown}."]
    failures = Counter(each.error for each in outcomes if each.error is not None)
    if failures:
        lines += ["", "Failed trials:", ""]
        lines += [f"- {count}×: {reason}" for reason, count in failures.most_common()]
    return "\n".join(lines) + "\n"


def selection_lines(manifest: TrainedModel) -> list[str]:
    """How the winner was chosen, how much its value flatters, and what the model is made of."""
    chosen, final = manifest.selection, manifest.final
    found = []
    if chosen.get("validation") == "cross_validation":
        found.append(
            f"Trials were compared by {chosen['repeats']} × {chosen['folds']} folds of the patients of training and "
            f"validation ({chosen['why']})."
        )
    if chosen.get("corrected") is not None:
        error = chosen["standard_error"]
        shown = "" if error is None else f" Its standard error is {error:.4f}."
        found.append(
            f"Chosen among {chosen['compared']} trials, {manifest.objective} is {abs(chosen['inflation']):.4f} "
            f"{_flattered(chosen['inflation'], manifest.objective)}: {chosen['corrected']:.4f} "
            f"({chosen['low']:.4f} to {chosen['high']:.4f}) is what such a choice is worth on patients that it did not "
            f"see (bootstrap bias correction).{shown}"
        )
    if chosen.get("choose") == "one_standard_error":
        found.append(f"The smallest model within one standard error of the best (trial {chosen['best']}) was chosen.")
    if final:
        of = ", ".join(f"trial {number} ({weight:.0%})" for number, weight in final["weights"].items())
        seeds = f", {final['seeds']} seeds each" if final["seeds"] > 1 else ""
        found.append(f"Model: {final['kind']} of {of}{seeds}, trained on {final['trained_on']} ({final['why']}).")
    if final.get("value") is not None:
        found.append(
            f"Together their {manifest.objective} is {final['value']:.4f} on validation; such an ensemble is worth "
            f"{_figure(final['ensemble'])} on patients that the choice did not see, a single network "
            f"{_figure(final['single'])} (chosen anew in resamples of the patients)."
        )
    return found


def _flattered(inflation: float, objective: str) -> str:
    up = inflation >= 0 if OBJECTIVES[objective].direction == "maximize" else inflation <= 0
    return "too good" if up else "less than expected"


def calibration_line(manifest: TrainedModel) -> str:
    """What the temperature did on validation, in a sentence."""
    facts = manifest.calibration
    if not facts:
        return "The probabilities are as the network was trained to give them: no temperature."
    before, after = (_figure(facts[f"ece_{when}"]) for when in ("before", "after"))
    if manifest.temperature == 1.0 and facts["temperature_fitted"] != 1.0:
        return (
            f"No temperature: the one fitted on validation ({facts['temperature_fitted']:.4g}) would not have lowered "
            f"its ECE ({before}) and log-loss."
        )
    return (
        f"Temperature {manifest.temperature:.4g}, fitted on validation and built into the model: ECE there {before} "
        f"before, {after} after; log-loss {_figure(facts['log_loss_before'])} and {_figure(facts['log_loss_after'])}."
    )


def _figure(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"


def _shown(value: Scalar) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _listed(values: Sequence[object]) -> str:
    return ", ".join(map(str, values))
