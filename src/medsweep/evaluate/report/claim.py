"""The items of CLAIM's 2024 update, and what an evaluation says to each.

Tejani et al., Checklist for Artificial Intelligence in Medical Imaging (CLAIM): 2024 Update. Radiology: Artificial
Intelligence 6(4), e240300, 2024. https://doi.org/10.1148/ryai.240300
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from medsweep.evaluate.note import HEADLINES, shown, size_of
from medsweep.evaluate.report import lineage_facts, words
from medsweep.evaluate.report.inputs import SPACE, ReportInputs
from medsweep.layout import SPLITS
from medsweep.pages.page import count

Found = Callable[[ReportInputs], str]


@dataclass(frozen=True)
class Item:
    """One item.

    Args:
        number: 1 to 44.
        group: the checklist's heading.
        text: of the item.
        found: what medsweep knows, '' where this evaluation has nothing to say; None where no machine can know.
        author: what a person must add; '' where nothing is missing.
    """

    number: int
    group: str
    text: str
    found: Found | None
    author: str


def _technology(inputs: ReportInputs) -> str:
    return f"Supervised deep learning (convolutional neural network), {inputs.report.task} classification of images."


def _sources(inputs: ReportInputs) -> str:
    source = inputs.quality["parameters"]["source"]
    kind = (
        "synthetic phantoms made by medsweep" if inputs.report.synthetic else f"a source of the kind '{source['kind']}'"
    )
    return f"{count(inputs.quality['images']['listed'], 'image')} from {kind}."


def _exclusion(inputs: ReportInputs) -> str:
    out = words.left_out(inputs.quality)
    return f"By medsweep: {'; '.join(out)}." if out else "medsweep left no image out."


def _deidentification(inputs: ReportInputs) -> str:
    return (
        "Outputs name images by the digest of their content and patients by a pseudonym; file names and patient ids "
        "are in none of them."
    )


def _missing(inputs: ReportInputs) -> str:
    patients = inputs.quality["patients"]
    if not patients["known"]:
        who = "No image names a patient: each counts as a patient of its own."
    elif patients["images_without_patient"]:
        who = (
            f"{count(patients['images_without_patient'], 'image')} without a patient id count as patients of their own."
        )
    else:
        who = "Every image has a patient id."
    return f"{who} Nothing was imputed."


def _acquisition(inputs: ReportInputs) -> str:
    sizes = inputs.quality["original_sizes"]
    height, width = sizes["height"], sizes["width"]
    return (
        f"Original sizes: height {height['low']} to {height['high']}, width {width['low']} to {width['high']} pixels."
    )


def _test_labels(inputs: ReportInputs) -> str:
    return "The test labels come from the source, as those of the other splits do; medsweep changed none."


def _partitions(inputs: ReportInputs) -> str:
    splits = inputs.quality["splits"]
    shares = ", ".join(f"{name} {100 * splits[name]['share']:.1f} %" for name in SPLITS)
    seed = inputs.quality["parameters"]["split"]["seed"]
    return f"{words.split_origin(inputs.quality)} {shares}{f'; seed {seed}' if splits['carved'] else ''}."


def _disjoint(inputs: ReportInputs) -> str:
    if not inputs.quality["patients"]["known"]:
        return "At the level of images: the source names no patients."
    state = inputs.quality["checks"].get("patient_overlap", "off")
    return {
        "passed": "At the level of patients: checked, none is in two splits.",
        "found": "Not disjoint: patients are in more than one split (see the data-quality report).",
    }.get(state, "Not checked: prepare.checks.patient_overlap is off.")


def _sample_size(inputs: ReportInputs) -> str:
    return f"Test: {size_of(inputs.report)}. {_first_words(inputs, 'power')}"


def _software(inputs: ReportInputs) -> str:
    return ", ".join(f"{name} {version}" for name, version in lineage_facts.versions()) + "."


def _initialization(inputs: ReportInputs) -> str:
    if "warm_start" in inputs.manifest.digests:
        return (
            f"Layers of an earlier model (SHA-256 {inputs.manifest.digests['warm_start']}) where they fit, else random."
        )
    return (
        "Random (He, or Glorot for sigmoid and tanh), from a seed that is drawn anew for each trial; no pre-training."
    )


def _ensembling(inputs: ReportInputs) -> str:
    members = inputs.manifest.members
    if len(members) > 1:
        return (
            f"The logits of {len(members)} trials' networks ({', '.join(map(str, members))}) are averaged, calibrated."
        )
    return "No ensemble: the model is one network."


def _metrics(inputs: ReportInputs) -> str:
    return ", ".join(HEADLINES.get(name, name) for name in inputs.report.metrics) + "."


def _robustness(inputs: ReportInputs) -> str:
    return " ".join(filter(None, (_first_words(inputs, name) for name in ("robustness", "out_of_distribution"))))


def _explanations(inputs: ReportInputs) -> str:
    return _first_words(inputs, "explanations")


def _internal(inputs: ReportInputs) -> str:
    return f"The test split of the same source: {size_of(inputs.report)}. {words.selection(inputs)}"


def _included(inputs: ReportInputs) -> str:
    quality = inputs.quality
    images, splits = quality["images"], quality["splits"]
    each = "; ".join(
        f"{name} {count(splits[name]['images'], 'image')}"
        + (f" of {count(splits[name]['patients'], 'patient')}" if quality["patients"]["known"] else "")
        for name in SPLITS
    )
    excluded = images["listed"] - images["prepared"]
    included = f"Listed {images['listed']}, included {images['prepared']}, excluded {excluded} images"
    return f"{included}; {each}. Flow: report.html."


def _characteristics(inputs: ReportInputs) -> str:
    splits = inputs.quality["splits"]
    names = inputs.quality["class_names"]
    if len(names) > 6:
        return "Classes in each split: table in report.html."
    each = "; ".join(
        f"{split} " + ", ".join(f"{name} {splits[split]['classes'][name]['images']}" for name in names)
        for split in SPLITS
    )
    return f"Classes: {each}. {words.factors(inputs)}"


def _performance(inputs: ReportInputs) -> str:
    report = inputs.report
    chosen = ("auroc", "average_precision", "accuracy", "balanced_accuracy", "brier")
    found = "; ".join(f"{HEADLINES[name]} {shown(report.metrics[name])}" for name in chosen if name in report.metrics)
    objective = f"{inputs.manifest.objective} {inputs.manifest.objective_value:.3f}"
    return f"Test ({100 * report.confidence:g} % intervals): {found}. Validation, where it was chosen: {objective}."


def _accuracy(inputs: ReportInputs) -> str:
    report = inputs.report
    chosen = ("sensitivity", "specificity", "ppv", "npv")
    found = "; ".join(f"{HEADLINES[name]} {shown(report.metrics[name])}" for name in chosen if name in report.metrics)
    return f"By {inputs.decided}: {found}."


def _failures(inputs: ReportInputs) -> str:
    if not inputs.n_mistakes:
        return "No decision on the test split was wrong."
    return (
        f"{count(inputs.n_mistakes, 'wrong decision')}; the {len(inputs.mistakes)} that the model was surest of are "
        "shown "
        "in report.html, all are in predictions.csv."
    )


def _limitations(inputs: ReportInputs) -> str:
    return " ".join(each.text for each in words.caveats(inputs, {}))


def _details(inputs: ReportInputs) -> str:
    return "Parameters, code and data by digest: report.html, 'Environment and lineage' and 'How to reproduce it'."


def _availability(inputs: ReportInputs) -> str:
    return f"Software: medsweep (Apache-2.0). Model: SHA-256 {inputs.manifest.model_digest[:16]}…."


def _first_words(inputs: ReportInputs, name: str) -> str:
    section = inputs.section(name)
    return section.words[0] if section is not None and section.words else ""


def _intervals(inputs: ReportInputs) -> str:
    return words.intervals_by(inputs)


def _preprocessing(inputs: ReportInputs) -> str:
    return words.preprocessing(inputs.quality, inputs.manifest.trial)


def _subsets(inputs: ReportInputs) -> str:
    return "Whole images: medsweep selected no region of them."


def _training(inputs: ReportInputs) -> str:
    trials = count(len(inputs.before.trials), "trial")
    chosen = ", ".join(f"{name.removeprefix(SPACE)} {value}" for name, value in inputs.manifest.trial.items())
    return f"{trials} were trained. {words.training(inputs)} All values of the chosen one: {chosen}."


_TITLE, _ABSTRACT, _INTRODUCTION = "Title / abstract", "Abstract", "Introduction"
_DESIGN, _DATA, _STANDARD = "Methods: study design", "Methods: data", "Methods: reference standard"
_PARTITIONS, _TESTING, _MODEL = "Methods: data partitions", "Methods: testing data", "Methods: model"
_TRAINING, _EVALUATION = "Methods: training", "Methods: evaluation"
_RESULTS, _PERFORMANCE = "Results: data", "Results: model performance"
_DISCUSSION, _OTHER = "Discussion", "Other information"

ITEMS = (
    Item(
        1,
        _TITLE,
        "Identification as a study of AI methodology, specifying the category of technology used (e.g., deep learning)",
        _technology,
        "Say so in the title or abstract.",
    ),
    Item(2, _ABSTRACT, "Summary of study design, methods, results, and conclusions", None, "Write it."),
    Item(
        3,
        _INTRODUCTION,
        "Scientific and/or clinical background, including the intended use and role of the AI approach",
        None,
        "Write it.",
    ),
    Item(4, _INTRODUCTION, "Study aims, objectives, and hypotheses", None, "State them."),
    Item(5, _DESIGN, "Prospective or retrospective study", None, "State which."),
    Item(6, _DESIGN, "Study goal", None, "State it (model creation, feasibility, non-inferiority, …)."),
    Item(7, _DATA, "Data sources", _sources, "Institutions, dates, access, licence."),
    Item(
        8,
        _DATA,
        "Inclusion and exclusion criteria",
        _exclusion,
        "Criteria that were applied before the files came here.",
    ),
    Item(9, _DATA, "Data pre-processing", _preprocessing, "What was done to the files before."),
    Item(10, _DATA, "Selection of data subsets", _subsets, "Whether views, slices or series were selected before."),
    Item(
        11, _DATA, "De-identification methods", _deidentification, "How the source was de-identified, also its pixels."
    ),
    Item(12, _DATA, "How missing data were handled", _missing, "Missing clinical data, if any."),
    Item(13, _DATA, "Image acquisition protocol", _acquisition, "Devices, protocols, contrast, positioning."),
    Item(
        14,
        _STANDARD,
        "Definition of method(s) used to obtain reference standard",
        None,
        "Define how labels were obtained.",
    ),
    Item(15, _STANDARD, "Rationale for choosing the reference standard", None, "Say why."),
    Item(
        16,
        _STANDARD,
        "Source of reference standard annotations",
        None,
        "Who annotated, with which qualification and tool.",
    ),
    Item(17, _STANDARD, "Annotation of test set", _test_labels, "How the test labels were obtained."),
    Item(
        18,
        _STANDARD,
        "Measures of inter- and intra-rater variability of features described by the annotators",
        None,
        "Report agreement between and within annotators.",
    ),
    Item(19, _PARTITIONS, "How data were assigned to partitions", _partitions, ""),
    Item(20, _PARTITIONS, "Level at which partitions are disjoint", _disjoint, ""),
    Item(21, _TESTING, "Intended sample size", _sample_size, "How it was determined beforehand."),
    Item(22, _MODEL, "Detailed description of model", words.architecture, ""),
    Item(23, _MODEL, "Software libraries, frameworks, and packages", _software, ""),
    Item(24, _MODEL, "Initialization of model parameters", _initialization, ""),
    Item(25, _TRAINING, "Details of training approach", _training, ""),
    Item(26, _TRAINING, "Method of selecting the final model", words.selection, ""),
    Item(27, _TRAINING, "Ensembling techniques", _ensembling, ""),
    Item(28, _EVALUATION, "Metrics of model performance", _metrics, "Why these, for this use."),
    Item(29, _EVALUATION, "Statistical measures of significance and uncertainty", _intervals, ""),
    Item(
        30, _EVALUATION, "Robustness or sensitivity analysis", _robustness, "What else was varied, or that nothing was."
    ),
    Item(
        31,
        _EVALUATION,
        "Methods for explainability or interpretability",
        _explanations,
        "What was concluded from them.",
    ),
    Item(32, _EVALUATION, "Evaluation on internal data", _internal, ""),
    Item(33, _EVALUATION, "Testing on external data", None, "Test on data of another source, or state that none were."),
    Item(34, _EVALUATION, "Clinical trial registration", None, "Number and registry, or not applicable."),
    Item(35, _RESULTS, "Numbers of patients or examinations included and excluded", _included, "Exclusions before."),
    Item(
        36,
        _RESULTS,
        "Demographic and clinical characteristics of cases in each partition",
        _characteristics,
        "Age, sex, severity, comorbidity in each partition.",
    ),
    Item(37, _PERFORMANCE, "Performance metrics and measures of statistical uncertainty", _performance, ""),
    Item(38, _PERFORMANCE, "Estimates of diagnostic performance and their precision", _accuracy, ""),
    Item(39, _PERFORMANCE, "Failure analysis of incorrect results", _failures, "What the mistakes have in common."),
    Item(40, _DISCUSSION, "Study limitations", _limitations, "Further limitations, bias, generalizability."),
    Item(
        41,
        _DISCUSSION,
        "Implications for practice, including intended use and/or clinical role",
        None,
        "Write it.",
    ),
    Item(
        42,
        _OTHER,
        "Provide a reference to the full study protocol or to additional technical details",
        _details,
        "Where the protocol is.",
    ),
    Item(
        43,
        _OTHER,
        "Statement about the availability of software, trained model, and/or data",
        _availability,
        "Where model and data can be had.",
    ),
    Item(44, _OTHER, "Sources of funding and other support; role of funders", None, "State them."),
)
"""All 44 items, in the checklist's order and words."""
