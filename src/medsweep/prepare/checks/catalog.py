"""The checks of the data. To add one: a function in a file beside this one, a row here, a key in `params.Checks`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from medsweep.prepare.checks import (
    duplicates,
    label_noise,
    labels,
    leakage,
    near_duplicates,
    privacy,
    quality,
    shift,
    shortcuts,
)
from medsweep.prepare.checks.finding import Examined, Finding


@dataclass(frozen=True)
class Check:
    """A check: its function, a title for the page, and why it matters and what to do, for the page."""

    find: Callable[[Examined], list[Finding]]
    title: str
    meaning: str


CHECKS: dict[str, Check] = {
    "patient_overlap": Check(
        leakage.patient_overlap,
        "Patients in one split only",
        "A model can recognise a patient instead of the disease: test results come out too good. Move each patient's "
        "images into one split.",
    ),
    "exact_duplicates": Check(
        duplicates.exact_duplicates,
        "No test image in another split",
        "An image seen in training and met again in the test is answered from memory. Keep one copy.",
    ),
    "validation_duplicates": Check(
        duplicates.validation_duplicates,
        "No image both in training and in validation",
        "It flatters the validation figures that the search compares, though not the test's. Keep one copy.",
    ),
    "near_duplicates": Check(
        near_duplicates.near_duplicates,
        "No image saved anew in another split",
        "A resized, compressed, cropped or mirrored copy is answered from memory as an identical one is. Look at the "
        "pairs, and keep one of each; or give the copies one patient, so that they stay together.",
    ),
    "label_conflicts": Check(
        labels.label_conflicts,
        "Identical images agree in their label",
        "At most one of two labels for the same picture can be right. Ask whoever labelled them.",
    ),
    "missing_class": Check(
        labels.missing_class,
        "Every class in every split",
        "What is not in training cannot be learnt, and what is not in the test cannot be measured.",
    ),
    "unreadable": Check(
        quality.unreadable,
        "Every file can be read",
        "Missing, damaged or truncated files are left out. Copy them anew from where they came.",
    ),
    "constant_images": Check(
        quality.constant_images,
        "No constant images",
        "A constant image shows nothing. It is often a failed export.",
    ),
    "unknown_labels": Check(
        labels.unknown_labels,
        "Every label is one of the classes",
        "A misspelt label takes an image away from its class. Correct it, or list the class in prepare.source.classes.",
    ),
    "few_images": Check(
        labels.few_images,
        "Enough training images in every class",
        "With few images of a class, its figures rest on chance.",
    ),
    "shortcuts": Check(
        shortcuts.shortcuts,
        "Metadata do not tell the classes apart",
        "What differs between the files of the classes besides the disease (machine, size, format, settings) can be "
        "learnt instead of it, wherever it leaves a trace in the pixels. Find out why it differs; take images of all "
        "classes from the same sources; or, where it is none, name the field in prepare.checks.shortcuts_accepted.",
    ),
    "label_noise": Check(
        label_noise.label_noise,
        "No label looks wrong",
        "A simple model, fitted on other patients, is nearly sure of another label. Have somebody look at the images; "
        "nothing is deleted or changed.",
    ),
    "shift": Check(
        shift.shift,
        "Splits and sites look alike",
        "Where test images look different, results tell of the difference too: good validation figures promise more "
        "than the test keeps. Compare how the images were made, or split anew, so that every site is in every split.",
    ),
    "identifying_tags": Check(
        privacy.identifying_tags,
        "No identifying elements in DICOM headers",
        "The Basic Application Confidentiality Profile (DICOM PS3.15) takes these elements out. medsweep copies none "
        "of them, but whoever gets the files gets them too: de-identify before you share the data.",
    ),
    "burned_in_text": Check(
        privacy.burned_in_text,
        "No text burned into the pixels",
        "Text in an image may name a person, and a model may read it instead of the disease. Look at these images with "
        "medsweep show; nothing is cleaned.",
    ),
}


def run_checks(
    examined: Examined, severities: Mapping[str, str], *, begin: Callable[[str], None] = lambda title: None
) -> list[Finding]:
    """What the checks find that are not off, in the table's order; also what they measured without an alarm.

    Args:
        examined: the data.
        severities: 'error', 'warn' or 'off' by the check's name, as in `prepare.checks`.
        begin: is told each check's title before it runs.
    """
    found = []
    for name, check in CHECKS.items():
        if severities[name] != "off":
            begin(check.title)
            found += check.find(examined)
    return found
