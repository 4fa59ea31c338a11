"""What a person reads about an evaluation: the run's note and the version's description, in markdown."""

from __future__ import annotations

from collections.abc import Mapping

from medsweep.artifacts.evaluation import Estimate, EvaluationReport
from medsweep.artifacts.trained import TrainedModel

HEADLINES: Mapping[str, str] = {
    "auroc": "AUROC",
    "average_precision": "average precision",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "ppv": "PPV",
    "npv": "NPV",
    "f1": "F1",
    "mcc": "MCC",
    "cohen_kappa": "Cohen's kappa",
    "accuracy_at_half": "accuracy at 0.5",
    "loss": "loss (cross-entropy)",
    "log_loss": "log-loss",
    "brier": "Brier score",
    "ece": "ECE",
}
"""How each metric is called where a person reads it, in the order that they are shown."""


def size_of(report: EvaluationReport) -> str:
    """The test split's size: '132 images of 44 patients'."""
    images = f"{report.n_images} image{'' if report.n_images == 1 else 's'}"
    if report.n_patients is None:
        return f"{images} (the source names no patients)"
    return f"{images} of {report.n_patients} patient{'' if report.n_patients == 1 else 's'}"


def shown(each: Estimate) -> str:
    """'0.912 (0.871 to 0.948)', without brackets where there is no interval."""
    if each.value is None:
        return "undefined"
    if each.low is None or each.high is None:
        return f"{each.value:.3f}"
    return f"{each.value:.3f} ({each.low:.3f} to {each.high:.3f})"


def decided_by(report: EvaluationReport, rule: str) -> str:
    """How probabilities became decisions."""
    if report.task in ("multiclass", "ordinal"):
        return "the most probable class"
    cuts = ", ".join(f"{each:.4g}" for each in report.threshold)
    how = "" if rule == "half" else f" ({rule}, fitted on validation)"
    return f"threshold{'s' if len(report.threshold) > 1 else ''} {cuts}{how}"


def intervals_by(report: EvaluationReport, resampling: str) -> str:
    """How the figures got their intervals: all 'by {resampling}', but for an AUROC that has a variance."""
    if report.drawn_auroc is None:
        return f"by {resampling}"
    clustered = report.n_patients is not None and report.n_patients < report.n_images
    return f"of the AUROC by {'Obuchowski' if clustered else 'DeLong'}'s variance, of all else by {resampling}"


def run_note(
    report: EvaluationReport, manifest: TrainedModel, *, undefined: Mapping[str, str], evaluations: int
) -> str:
    """The run's note: what was evaluated on what, and what came out."""
    chosen = ", ".join(
        f"{name} `{manifest.trial[path]}`"
        for name in ("backbone", "optimizer", "loss")
        if (path := f"train.space.{name}") in manifest.trial
    )
    members = ", ".join(map(str, manifest.members))
    trials = f"trial{'s' if len(manifest.members) > 1 else ''} {members}"
    lines = [
        "# Final model on the test split",
        "",
        *(["**Synthetic images**: nothing here holds for real ones.", ""] if report.synthetic else []),
        f"- model: {trials}{f' ({chosen})' if chosen else ''}; {manifest.objective} {manifest.objective_value:.4g}",
        f"- test split: {size_of(report)}; intervals {100 * report.confidence:g} %, "
        f"{intervals_by(report, f'resampling {report.resampled}')}",
        f"- decisions: {decided_by(report, manifest.threshold_rule)}",
        f"- different models evaluated on this test split so far: **{evaluations}**"
        f"{' (choosing among them by these figures makes the best look too good)' if evaluations > 1 else ''}",
    ]
    if report.oracle_auroc is not None:
        lines.append(f"- ceiling: an oracle that reads the phantoms' latent descriptors has AUROC {_oracle(report)}")
    lines += ["", "| metric | value | low | high |", "| --- | --- | --- | --- |"]
    for name, title in _in_order(report):
        each = report.metrics[name]
        lines.append(f"| {title} | {_cell(each.value)} | {_cell(each.low)} | {_cell(each.high)} |")
    if report.task != "binary":
        heads = ("auroc", "average_precision", "sensitivity", "specificity", "ppv", "f1")
        lines += ["", f"| class | images | {' | '.join(HEADLINES[name] for name in heads)} |"]
        lines.append("| --- " * (len(heads) + 2) + "|")
        for name, own in report.per_class.items():
            cells = " | ".join(_cell(own[head]) for head in heads)
            lines.append(f"| {_safe(name)} | {own['support'] or 0:.0f} | {cells} |")
    if report.cautions:
        lines += ["", "Cautions:", *(f"- {each}" for each in report.cautions)]
    if undefined:
        lines += ["", "Undefined:", *(f"- {HEADLINES.get(name, name)}: {why}" for name, why in undefined.items())]
    return "\n".join(lines) + "\n"


def version_description(report: EvaluationReport, manifest: TrainedModel) -> str:
    """The registry version's description: what it tells apart, how well, and what it takes."""
    height, width, channels = manifest.input_shape
    kind = "synthetic images" if report.synthetic else "images"
    main = [
        name
        for name in ("auroc", "accuracy", "balanced_accuracy", "sensitivity", "specificity")
        if name in report.metrics
    ]
    return "\n".join(
        [
            f"Tells apart **{', '.join(map(_safe, report.class_names))}** ({report.task}) on {kind}.",
            "",
            f"Test split of {size_of(report)}, {100 * report.confidence:g} % intervals:",
            "",
            *(f"- {HEADLINES[name]}: {shown(report.metrics[name])}" for name in main),
            *([f"- oracle's AUROC (the ceiling): {_oracle(report)}"] if report.oracle_auroc is not None else []),
            "",
            f"Takes raw pixels (n, {height}, {width}, {channels}), float32 from 0 to {manifest.value_range}, and gives "
            f"one probability a class. Decides by {decided_by(report, manifest.threshold_rule)}.",
        ]
    )


def _in_order(report: EvaluationReport) -> list[tuple[str, str]]:
    known = [(name, title) for name, title in HEADLINES.items() if name in report.metrics]
    return known + [(name, name) for name in report.metrics if name not in HEADLINES]


def _oracle(report: EvaluationReport) -> str:
    return "undefined" if report.oracle_auroc is None else f"{report.oracle_auroc:.3f}"


def _cell(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _safe(name: str) -> str:
    return name.replace("|", "\\|")
