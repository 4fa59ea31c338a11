"""Part `explanations`: where the model looked on chosen test images, and which methods of saying so can be trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medsweep.artifacts.section import Cell, Figure, Section, Table
from medsweep.errors import ArtifactError
from medsweep.evaluate import explanation_figures
from medsweep.evaluate.explained import KINDS, Case, Decided, cases, decided, sample
from medsweep.explain.method import Settings
from medsweep.explain.pointing import near
from medsweep.params import Explanations

if TYPE_CHECKING:
    from medsweep.evaluate.explanation_checks import Checked
    from medsweep.evaluate.parts import Evaluated
    from medsweep.statistics.intervals import Interval

NAME = "explanations"
TITLE = "Explanations"
OVERLAYS = "explanations.svg"
CURVES = "explanation_curves.svg"

Floats = NDArray[np.float32]


def settings_of(known: Explanations) -> Settings:
    """The settings of the methods in params.yaml."""
    return Settings(known.steps, known.samples, known.noise, known.patch, known.seed)


def explanations(evaluated: Evaluated) -> Section:
    """Explain chosen cases by every method, and make the sanity checks on images drawn from the test split.

    However many images the split has, `3 * cases + images` of them are explained.
    """
    from medsweep.evaluate.explanation_checks import Means, agreement, check
    from medsweep.explain.methods import explain
    from medsweep.explain.network import Network

    known, split = evaluated.params.evaluate.explanations, evaluated.split
    try:
        network = Network.load(evaluated.layout.model)
    except ArtifactError as error:
        words = f"The model could not be explained: {error}"
        return Section(name=NAME, title=TITLE, words=(words,), warnings=(words,))
    found = decided(evaluated.manifest, evaluated.probabilities, split.labels)
    shown = cases(found, split, known.cases)
    drawn = sample(split, known.images, known.seed)
    rows = np.array([*(each.row for each in shown), *drawn], dtype=np.int64)
    images = np.stack([np.asarray(split.images[row]) for row in rows])
    masks = None if split.masks is None else np.stack([np.asarray(split.masks[row]) for row in rows])
    classes, first = found.classes[rows], len(shown)
    means = Means(split.groups[drawn], evaluated.params.evaluate.bootstrap)

    maps: dict[str, Floats] = {}
    checked: list[Checked] = []
    for method in known.methods:
        maps[method] = explain(network, method, images, classes, settings_of(known))
        evaluated.advance((len(checked) + 0.3) / (len(known.methods) + 0.5))
        checked.append(
            check(
                network,
                method,
                images[first:],
                classes[first:],
                maps[method][first:],
                None if masks is None else masks[first:],
                means,
                known,
                settings_of(known),
            )
        )
        evaluated.advance(len(checked) / (len(known.methods) + 0.5))
    agreed = agreement([each[first:] for each in maps.values()])

    _draw(evaluated, shown, found, images, masks, maps, checked)
    return _section(evaluated, found, shown, drawn, checked, agreed, None if masks is None else masks[first:], network)


def _draw(
    evaluated: Evaluated,
    shown: Sequence[Case],
    found: Decided,
    images: NDArray[Any],
    masks: NDArray[np.uint8] | None,
    maps: Mapping[str, Floats],
    checked: Sequence[Checked],
) -> None:
    from medsweep.explain.methods import scaled

    split = evaluated.split
    titles = {each.method: each.title if each.passed else f"{each.title}\n(fails)" for each in checked}
    of_cases = {titles[method]: scaled(values[: len(shown)]) for method, values in maps.items()}
    rows = [
        explanation_figures.Overlay(
            pixels=images[place],
            words=_words_of(evaluated, case, found),
            maps={name: values[place] for name, values in of_cases.items()},
            mask=None if masks is None else masks[place],
        )
        for place, case in enumerate(shown)
    ]
    explanation_figures.overlays(
        evaluated.plots / OVERLAYS,
        rows,
        "What speaks for the class that was decided for, test split",
        split.value_range,
        evaluated.signature,
        _alt(evaluated, shown, checked),
    )
    curves = {each.title: (each.curves.deletion.mean(axis=0), each.curves.insertion.mean(axis=0)) for each in checked}
    control = [each.moved.deletion for each in checked], [each.moved.insertion for each in checked]
    curves["the same maps, moved"] = (np.mean(control[0], axis=(0, 1)), np.mean(control[1], axis=(0, 1)))
    explanation_figures.curves(
        evaluated.plots / CURVES, checked[0].curves.share.tolist(), curves, evaluated.signature, _alt_of_curves(checked)
    )


def _words_of(evaluated: Evaluated, case: Case, found: Decided) -> list[str]:
    split, row, label = evaluated.split, case.row, explanation_figures.label
    names, explained = split.class_names, int(found.classes[case.row])
    if split.task == "multilabel":
        said = bool(evaluated.decisions[row, explained])
        lines = [
            f"label: {label(names[explained])}",
            f"true: {'yes' if split.labels[row, explained] else 'no'}, decided: {'yes' if said else 'no'}",
        ]
    else:
        lines = [f"true: {label(names[split.labels[row]])}", f"decided: {label(names[explained])}"]
    return [KINDS[case.kind], *lines, f"probability {found.probability[row]:.3f}", str(split.record_ids[row])[:12]]


def _section(
    evaluated: Evaluated,
    found: Decided,
    shown: Sequence[Case],
    drawn: NDArray[np.int64],
    checked: Sequence[Checked],
    agreed: NDArray[np.float64],
    masks: NDArray[np.uint8] | None,
    network: Any,
) -> Section:
    passed = [each.title for each in checked if each.passed]
    failed = [each for each in checked if not each.passed]
    percent = f"{100 * evaluated.report.confidence:g} %"
    lead = (
        f"{len(shown)} test images are explained by {len(checked)} methods. "
        + (f"{_listed(passed)} passed the sanity checks" if passed else "No method passed the sanity checks")
        + (
            f"; {_listed([each.title for each in failed])} did not, and must not be read as evidence."
            if failed
            else "."
        )
    )
    words = [
        lead,
        "A map shows where the model's log-odds of a class come from. It does not show whether that is the right "
        "reason, and a plausible map does not make a decision right.",
        "The model-randomisation test compares maps with those of the same network with random weights: a method whose "
        "maps stay alike explains the image and not the model. Deletion and insertion take away and put back the "
        "pixels that a map names first; the control is the same map moved to another place of the image.",
        f"The checks were made on {len(drawn)} images drawn from the test split.",
    ]
    layers = dict.fromkeys(each.layer for each in network.members)
    members = f" Maps are the sum over the {len(network.members)} members." if len(network.members) > 1 else ""
    words.append(f"Grad-CAM and Grad-CAM++ look at the last convolution ({', '.join(layers)}).{members}")
    wrong = int((~found.right).sum())
    if not wrong:
        words.append("No decision on the test split was wrong, so there is no such case to show.")
    return Section(
        name=NAME,
        title=TITLE,
        words=tuple(words),
        warnings=tuple(_warnings(checked)),
        tables=tuple(_tables(checked, agreed, masks, evaluated.split.class_names, percent)),
        figures=(
            Figure(
                f"{evaluated.plots.name}/{OVERLAYS}",
                _alt(evaluated, shown, checked),
                "One image a row, one method a column; vermilion speaks for the class that was decided for, blue "
                "against it. Each map is scaled by its own largest absolute value: colours of two maps are not "
                "comparable.",
            ),
            Figure(
                f"{evaluated.plots.name}/{CURVES}",
                _alt_of_curves(checked),
                f"Mean probability of the explained class over {len(drawn)} test images, while pixels go (deletion) "
                "and come (insertion), in the order of a map's values.",
            ),
        ),
        values={
            "images": len(drawn),
            "cases": [{"kind": case.kind, "record": str(evaluated.split.record_ids[case.row])} for case in shown],
            "methods": {each.method: _values(each) for each in checked},
            "agreement": {
                one.method: {two.method: float(agreed[i, j]) for j, two in enumerate(checked)}
                for i, one in enumerate(checked)
            },
        },
    )


def _warnings(checked: Sequence[Checked]) -> list[str]:
    found = []
    for each in checked:
        if not each.depends_on_weights:
            found.append(
                f"{each.title} failed the model-randomisation test: with random weights its maps are much the same "
                f"(rank correlation {_shown(each.similarity)}). They show the image, not what the model learnt."
            )
        if not each.names_what_counts:
            found.append(
                f"{each.title} failed deletion and insertion: its pixels were not shown to matter more to this model "
                f"than the same map moved elsewhere (difference {_shown(each.gain)})."
            )
    return found


def _tables(
    checked: Sequence[Checked],
    agreed: NDArray[np.float64],
    masks: NDArray[np.uint8] | None,
    class_names: Sequence[str],
    percent: str,
) -> list[Table]:
    rows: list[tuple[Cell, ...]] = [
        (
            each.title,
            each.verdict,
            _shown(each.similarity),
            _shown(each.magnitude),
            f"{each.deletion:.2f}",
            f"{each.insertion:.2f}",
            _shown(each.gain),
        )
        for each in checked
    ]
    tables = [
        Table(
            f"Sanity checks, with {percent} intervals over patients. Rank correlations with random weights: the nearer "
            "to 0, the better. Deletion and insertion: mean probability of the class; the gain is insertion less "
            "deletion, above that of the same maps moved elsewhere.",
            (
                "method",
                "verdict",
                "correlation with random weights",
                "… of absolute values",
                "deletion",
                "insertion",
                "gain over moved maps",
            ),
            tuple(rows),
        )
    ]
    if len(checked) > 1:
        tables.append(
            Table(
                "Agreement: mean rank correlation of two methods' maps of an image, -1 to 1.",
                ("method", *(each.title for each in checked)),
                tuple((each.title, *(f"{value:.2f}" for value in agreed[index])) for index, each in enumerate(checked)),
            )
        )
    known = [each for each in checked if each.localization is not None]
    if known and masks is not None:
        there = masks[masks.any(axis=(1, 2))] > 0
        height, width = there.shape[1:]
        explained = sorted({k for each in known if each.localization for k in each.localization.hits_by_class})
        nothing: list[Cell] = [None] * len(explained)
        lines: list[tuple[Cell, ...]] = []
        for each in known:
            assert each.localization is not None
            at = each.localization
            by_class = [None if (share := at.hits_by_class.get(k)) is None else f"{share:.2f}" for k in explained]
            lines.append((each.title, *map(_shown, (at.hits, at.energy, at.overlap)), *by_class))
            lines.append((f"{each.title}, random weights", *(f"{value:.2f}" for value in at.random), *nothing))
        target = near(there)
        lines.append(("a point at random", f"{target.mean():.2f}", f"{there.mean():.2f}", None, *nothing))
        centre = target[:, height // 2, width // 2].mean()
        lines.append(("the image's centre", f"{centre:.2f}", None, None, *nothing))
        tables.append(
            Table(
                f"Pointing at the known lesions of {len(there)} synthetic images, with {percent} intervals over "
                "patients: hits of the pointing game, share of the map's positive values inside, and IoU with as many "
                "of the highest pixels as the lesion has.",
                (
                    "method",
                    "pointing game",
                    "energy inside",
                    "IoU",
                    *(f"… '{class_names[k]}' explained" for k in explained),
                ),
                tuple(lines),
            )
        )
    return tables


def _values(each: Checked) -> dict[str, Any]:
    found: dict[str, Any] = {
        "passed": each.passed,
        "depends_on_weights": each.depends_on_weights,
        "names_what_counts": each.names_what_counts,
        "similarity": _interval(each.similarity),
        "similarity_of_absolute_values": _interval(each.magnitude),
        "deletion": each.deletion,
        "insertion": each.insertion,
        "gain": _interval(each.gain),
    }
    if each.localization is not None:
        at = each.localization
        for index, (name, value) in enumerate((("pointing_game", at.hits), ("energy", at.energy), ("iou", at.overlap))):
            found[name] = {**_interval(value), "random_weights": at.random[index]}
    return found


def _interval(each: Interval) -> dict[str, float | None]:
    value, low, high, _ = (None if np.isnan(number) else float(number) for number in astuple(each))
    return {"value": value, "low": low, "high": high}


def _shown(each: Interval) -> str:
    if np.isnan(each.low):
        return f"{each.value:.2f}"
    return f"{each.value:.2f} ({each.low:.2f} to {each.high:.2f})"


def _alt(evaluated: Evaluated, shown: Sequence[Case], checked: Sequence[Checked]) -> str:
    kinds = _listed([f"{sum(case.kind == kind for case in shown)} {words}" for kind, words in KINDS.items()])
    return (
        f"Grid of {len(shown)} {'synthetic ' if evaluated.report.synthetic else ''}test images ({kinds}), one a row, "
        f"with heat maps by {_listed([each.title for each in checked])} beside each."
    )


def _alt_of_curves(checked: Sequence[Checked]) -> str:
    areas = _listed([f"{each.title} {each.deletion:.2f} and {each.insertion:.2f}" for each in checked])
    return f"Curves of deletion and insertion by method; areas below them: {areas}."


def _listed(names: Sequence[str]) -> str:
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"
