"""The evaluation in plain words: what a clinician reads first, and what the model card and the checklist repeat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from medsweep.artifacts.evaluation import Estimate
from medsweep.evaluate import note
from medsweep.evaluate.note import HEADLINES, shown, size_of
from medsweep.evaluate.report.inputs import SPACE, ReportInputs
from medsweep.layout import SPLITS
from medsweep.pages.page import cell, count

_WIDE = 0.2
"""An interval of a share that is wider than this leaves open whether a model is good or poor."""
_KEYS = {
    "binary": ("auroc", "sensitivity", "specificity", "balanced_accuracy"),
    "multiclass": ("auroc", "accuracy", "balanced_accuracy", "cohen_kappa"),
    "ordinal": ("cohen_kappa", "accuracy", "balanced_accuracy", "auroc"),
    "multilabel": ("auroc", "average_precision", "sensitivity", "specificity"),
}


@dataclass(frozen=True)
class Key:
    """A headline number: its name, the value and its interval in words."""

    name: str
    value: str
    interval: str


@dataclass(frozen=True)
class Caveat:
    """What a reader must not overlook, and the chapter that says more (its anchor)."""

    text: str
    anchor: str
    severity: str


def keys(inputs: ReportInputs) -> list[Key]:
    """The numbers that stand on top."""
    found = []
    for name in _KEYS[inputs.report.task]:
        each = inputs.report.metrics[name]
        value = "undefined" if each.value is None else f"{each.value:.3f}"
        found.append(Key(HEADLINES[name], value, _interval(inputs, each) or "no interval"))
    return found


def summary(inputs: ReportInputs) -> list[str]:
    """What was found, in sentences that need no statistics, with the intervals."""
    report = inputs.report
    kind = "synthetic images" if report.synthetic else "images"
    what = {
        "binary": f"tells {_or(report.class_names)} apart",
        "multiclass": f"tells {len(report.class_names)} classes apart ({_listed(report.class_names)})",
        "ordinal": f"grades {kind} from {report.class_names[0]} to {report.class_names[-1]}",
        "multilabel": f"says which of {count(len(report.class_names), 'finding')} an image has "
        f"({_listed(report.class_names)})",
    }[report.task]
    found = [f"The model {what}. It was tested once on {size_of(report)} that took no part in its making."]
    found += {"binary": _binary, "multilabel": _multilabel}.get(report.task, _several)(inputs)
    if report.oracle_auroc is not None:
        found.append(
            f"No model can do much better than an AUROC of {report.oracle_auroc:.3f} here: that is what an oracle "
            "reaches that knows the numbers the synthetic images were drawn from."
        )
    headline = report.metrics["auroc"]
    if headline.low is not None and headline.high is not None and round(headline.high - headline.low, 6) > _WIDE:
        found.append(
            f"With {size_of(report)} the interval is wide: the model may be as poor as {headline.low:.2f} or as good "
            f"as {headline.high:.2f}. More test patients would narrow it."
        )
    return found


def caveats(inputs: ReportInputs, anchors: Mapping[str, str]) -> list[Caveat]:
    """Everything that speaks against believing the numbers, from all chapters.

    Args:
        inputs: of the report.
        anchors: the chapter's anchor for each part's name.
    """
    report, quality = inputs.report, inputs.quality
    found = []
    if report.synthetic:
        found.append(Caveat("The images are synthetic: nothing here holds for patients.", "data", "warn"))
    found += [Caveat(each["message"], "data", each["severity"]) for each in quality["findings"]]
    if not quality["patients"]["known"]:
        found.append(Caveat(str(quality["patients"]["statement"]), "data", "warn"))
    for why in dict.fromkeys(inputs.undefined.values()):
        names = ", ".join(HEADLINES.get(name, name) for name, reason in inputs.undefined.items() if reason == why)
        found.append(Caveat(f"Undefined: {names}, because {why}.", "results", "warn"))
    found += [Caveat(each, "results", "warn") for each in report.cautions]
    for section in report.sections:
        found += [
            Caveat(f"{section.title}: {each}", anchors.get(section.name, "more"), "warn")
            for each in section.warnings
            if each not in report.cautions
        ]
    found.append(
        Caveat(
            "All images come from one source; how the model does elsewhere is not known until it is tested there.",
            "data",
            "warn",
        )
    )
    return found


def split_origin(quality: Mapping[str, Any]) -> str:
    """Where the splits come from and at which level they are disjoint."""
    splits = quality["splits"]
    if len(splits["carved"]) == len(SPLITS):
        found = "The source gives no splits: they were carved out"
    elif splits["carved"]:
        verb = "was" if len(splits["carved"]) == 1 else "were"
        found = (
            f"The source gives {' and '.join(splits['given'])}; {' and '.join(splits['carved'])} {verb} carved out of "
            "its training images"
        )
    else:
        return "All three splits are the source's own."
    by = "grouped by patient and stratified by label" if quality["patients"]["known"] else "stratified by label"
    return f"{found}, {by}."


def left_out(quality: Mapping[str, Any]) -> list[str]:
    """Why images that the source lists take no part: '3 unreadable: the file is truncated (2), …'."""
    images, found = quality["images"], []
    if images["unreadable"]:
        reasons = images.get("unreadable_by_reason") or {}
        why = ", ".join(f"{reason} ({n})" for reason, n in reasons.items())
        found.append(f"{cell(images['unreadable'])} unreadable{f': {why}' if why else ''}")
    if images["unknown_label"]:
        found.append(f"{cell(images['unknown_label'])} with an unknown label")
    return found


def preprocessing(quality: Mapping[str, Any], manifest_trial: Mapping[str, Any]) -> str:
    """What happened to each image before the network saw it."""
    image, intensity = quality["parameters"]["image"], quality["parameters"]["intensity"]
    channels = "grey" if image["channels"] == 1 else "RGB"
    found = (
        f"Resized to {image['height']} × {image['width']} pixels ({image.get('fit', 'pad')}), {channels}, "
        f"{intensity['bits']} bits, intensities by {intensity['method']}"
    )
    standardize = manifest_trial.get(f"{SPACE}standardize")
    if standardize == "image":
        return f"{found}; inside the model each image is standardized by its own mean and deviation."
    if standardize is not None:
        return f"{found}; inside the model images are standardized by the training split's mean and deviation."
    return f"{found}."


def architecture(inputs: ReportInputs) -> str:
    """The network in one sentence."""
    manifest = inputs.manifest
    trial = manifest.trial
    height, width, channels = manifest.input_shape
    backbone = trial.get(f"{SPACE}backbone", "unknown")
    head = f"{SPACE}backbone.{backbone}."
    settings = ", ".join(f"{name.removeprefix(head)} {value}" for name, value in trial.items() if name.startswith(head))
    facts = (("parameters", "weights"), ("multiply_adds", "multiply-adds an image"))
    sizes = ", ".join(f"{cell(int(manifest.facts[name]))} {unit}" for name, unit in facts if name in manifest.facts)
    networks = manifest.final.get("networks", len(manifest.members))
    members = (
        f"the mean of {networks} networks (trials {', '.join(map(str, manifest.members))})"
        if networks > 1
        else f"one network (trial {manifest.members[0]})"
    )
    return (
        f"A convolutional neural network, backbone '{backbone}'{f' ({settings})' if settings else ''}, {members}: "
        f"takes raw pixels ({height} × {width} × {channels}, 0 to {manifest.value_range}), gives one probability a "
        "class"
        f"{f'; {sizes}' if sizes else ''}."
    )


def training(inputs: ReportInputs) -> str:
    """How the network was trained, in one sentence."""
    trial = inputs.manifest.trial

    def value(name: str) -> str:
        return _number(trial.get(f"{SPACE}{name}", "not told"))

    optimizer = value("optimizer")
    rate = trial.get(f"{SPACE}optimizer.{optimizer}.learning_rate")
    policy = value("policy")
    augmentation = "no augmentation" if policy == "none" else f"augmentation '{policy}' with {value('views')} views"
    return (
        f"Optimizer {optimizer}{f' at learning rate {rate:.4g}' if isinstance(rate, float) else ''}, "
        f"loss {value('loss')}, schedule {value('schedule')}, batches of {value('batch_size')}, {augmentation}, class "
        "weights "
        f"{value('class_weights')}, weight decay {value('weight_decay')}."
    )


def selection(inputs: ReportInputs) -> str:
    """How the final model was chosen, and how far to believe the value it was chosen by."""
    manifest = inputs.manifest
    counts = ", ".join(f"{n} {status}" for status, n in manifest.n_trials.items() if n)
    trials = sum(manifest.n_trials.values())
    chosen = f"trials {', '.join(map(str, manifest.members))}" if len(manifest.members) > 1 else "the best one"
    return (
        f"{count(trials, 'trial')} ({counts}) were compared by {manifest.objective} on validation; the model is "
        f"{chosen}, at {manifest.objective_value:.3f}. A value that something was chosen by flatters: only the test "
        "split counts."
    )


def factors(inputs: ReportInputs) -> str:
    """Which columns of the table split the test images into groups."""
    section = inputs.section("subgroups")
    if section is None:
        return "Subgroups were not looked at."
    return f"Subgroups: {section.words[0]}" if section.words else "Subgroups: see report.html."


def intervals_by(inputs: ReportInputs) -> str:
    """How the intervals were made."""
    report = inputs.report
    if report.metrics["accuracy"].low is None:
        return f"There are no intervals: there are fewer than two {report.resampled} to resample."
    samples = inputs.settings.get("evaluate.bootstrap.samples")
    method = {"bca": "BCa (bias-corrected and accelerated)", "percentile": "percentile"}.get(
        str(inputs.settings.get("evaluate.bootstrap.method")), ""
    )
    how = note.intervals_by(report, f"{f'{method} ' if method else ''}bootstrap")
    return (
        f"{100 * report.confidence:g} % intervals {how}: {report.resampled} were drawn with replacement "
        f"{cell(samples)} times."
    )


def _binary(inputs: ReportInputs) -> list[str]:
    report = inputs.report
    negative, positive = report.class_names
    auroc, sensitivity, specificity = (report.metrics[name] for name in ("auroc", "sensitivity", "specificity"))
    found = []
    if auroc.value is None:
        found.append(f"How well it ranks images cannot be told: {inputs.undefined.get('auroc', 'AUROC is undefined')}.")
    else:
        found.append(
            f"Of a pair of test images, one {positive} and one {negative}, it gives the {positive} one the higher "
            f"score in {_of_100(auroc.value)} of 100 such pairs (AUROC {_with_interval(inputs, auroc)}). Guessing "
            "gives 50."
        )
    if sensitivity.value is not None and specificity.value is not None:
        found.append(
            f"Deciding by {inputs.decided}, it finds {_of_100(sensitivity.value)} of 100 {positive} images "
            f"(sensitivity {_with_interval(inputs, sensitivity)}) and calls {_of_100(1 - specificity.value)} of 100 "
            f"{negative} "
            f"images {positive} by mistake (specificity {_with_interval(inputs, specificity)})."
        )
    return found


def _several(inputs: ReportInputs) -> list[str]:
    report = inputs.report
    accuracy, auroc = report.metrics["accuracy"], report.metrics["auroc"]
    supports = {name: own.get("support") or 0.0 for name, own in report.per_class.items()}
    common = max(supports, key=lambda name: supports[name])
    found = []
    if accuracy.value is not None:
        found.append(
            f"It names the right class for {_of_100(accuracy.value)} of 100 test images (accuracy "
            f"{_with_interval(inputs, accuracy)}). Always saying '{common}', the most frequent class, would be right "
            f"for {_of_100(supports[common] / max(1, report.n_images))}."
        )
    if auroc.value is not None:
        found.append(
            f"Averaged over the classes, it gives an image of the class the higher score than one of another class in "
            f"{_of_100(auroc.value)} of 100 pairs (macro AUROC {_with_interval(inputs, auroc)}). Guessing gives 50."
        )
    else:
        found.append(f"How well it ranks images cannot be told: {inputs.undefined.get('auroc', 'AUROC is undefined')}.")
    return found


def _multilabel(inputs: ReportInputs) -> list[str]:
    report = inputs.report
    auroc, sensitivity, specificity = (report.metrics[name] for name in ("auroc", "sensitivity", "specificity"))
    found = []
    if auroc.value is not None:
        found.append(
            f"Averaged over the findings, it gives an image with the finding the higher score than one without it in "
            f"{_of_100(auroc.value)} of 100 pairs (macro AUROC {_with_interval(inputs, auroc)}). Guessing gives 50."
        )
    else:
        found.append(f"How well it ranks images cannot be told: {inputs.undefined.get('auroc', 'AUROC is undefined')}.")
    if sensitivity.value is not None and specificity.value is not None:
        found.append(
            f"Averaged over the findings, it finds {_of_100(sensitivity.value)} of 100 that are there (sensitivity "
            f"{_with_interval(inputs, sensitivity)}) and reports {_of_100(1 - specificity.value)} of 100 that are not "
            f"(specificity {_with_interval(inputs, specificity)})."
        )
    return found


def _with_interval(inputs: ReportInputs, each: Estimate) -> str:
    interval = _interval(inputs, each)
    return f"{shown(Estimate(each.value, None, None))}{f'; {interval}' if interval else ''}"


def _interval(inputs: ReportInputs, each: Estimate) -> str:
    if each.low is None or each.high is None:
        return ""
    return f"{100 * inputs.report.confidence:g} % interval {each.low:.3f} to {each.high:.3f}"


def _of_100(share: float) -> str:
    return f"{100 * share:.0f}"


def _or(names: tuple[str, ...]) -> str:
    return " and ".join(names)


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names) if len(names) <= 8 else f"{', '.join(names[:8])} and {len(names) - 8} more"


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
