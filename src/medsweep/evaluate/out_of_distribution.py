"""Part: whether the model can tell that an image is none of its kind, and whether the test images are of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medsweep.artifacts import files
from medsweep.artifacts.features import FeatureStatistics
from medsweep.artifacts.section import Cell, Figure, Section, Table
from medsweep.drawing.figure import COLOURS, GREY, bare, figure, title
from medsweep.evaluate import shown
from medsweep.evaluate.drawn_images import drawn, ids_of, images_of, told
from medsweep.evaluate.predict import Inner, Predictor, batch_for
from medsweep.imaging.corruptions import CORRUPTIONS, FOREIGN, SEVERITIES, corrupted, foreign
from medsweep.statistics.areas import area_interval, areas
from medsweep.statistics.conformal import expected_coverage
from medsweep.statistics.features import energy, mahalanobis
from medsweep.statistics.intervals import Interval, independent
from medsweep.statistics.proportions import Proportion, proportion

if TYPE_CHECKING:
    from medsweep.evaluate.parts import Evaluated

NAME = "out_of_distribution"
_SCORES = ("distance", "energy", "confidence")
_FLAGGED = 0.95
_USELESS = 0.6


@dataclass(frozen=True)
class _Row:
    """One set of other images.

    Args:
        name: a row of `CORRUPTIONS` (at the highest severity) or of `FOREIGN`.
        kind: 'corrupted' or 'foreign'.
        aurocs: of each score, these against the test images.
        flagged: the share farther away than 95 % of the validation images.
    """

    name: str
    kind: str
    aurocs: dict[str, Interval]
    flagged: float


def out_of_distribution(at: Evaluated) -> Section:
    """AUROC of three scores at telling corrupted and foreign images from test images, and how far test images lie."""
    known = at.params.evaluate.out_of_distribution
    shape = at.split.images.shape[1:]
    predictor = Predictor(
        at.layout.model, shape, n_classes=len(at.split.class_names), workers=at.params.runtime.workers
    )
    if not predictor.has_inner:
        return _without(at)
    path = at.layout.features
    expected = {path.name: at.manifest.files[path.name]} if path.name in at.manifest.files else {}
    files.check_digests(path.parent, expected, made_by="train")
    statistics = FeatureStatistics.load(path)
    rows = drawn(at.split, known.images, known.seed)
    ids, batch = ids_of(at.split, rows), batch_for(*shape[:2])
    sets = [(name, "corrupted") for name in CORRUPTIONS] + [(name, "foreign") for name in FOREIGN]

    def scores(name: str, kind: str) -> dict[str, NDArray[np.float64]]:
        def block(start: int, stop: int) -> NDArray[Any]:
            own, records = images_of(at.split, rows, start, stop), ids[start:stop]
            settings = {"value_range": at.split.value_range, "seed": known.seed}
            if kind == "corrupted":
                return corrupted(own, records, name, SEVERITIES[-1], **settings)
            return foreign(own, records, name, **settings) if kind == "foreign" else own

        inner = predictor.inner(len(rows), batch, block, lambda _: None)
        return _scores(at, inner, statistics)

    own = scores("", "as they are")
    validation = at.validation
    cut = float(np.quantile(validation.distances, _FLAGGED)) if len(validation) else math.inf
    found = []
    for index, (name, kind) in enumerate(sets):
        others = scores(name, kind)
        found.append(_row(at, name, kind, rows, own, others, cut))
        at.advance((index + 1) / len(sets))
    far = proportion(own["distance"] > cut, at.split.groups[rows], at.report.confidence)
    patients = np.where(validation.patient_ids == "", validation.record_ids, validation.patient_ids)
    effect = proportion(validation.distances > cut, patients, at.report.confidence).design_effect
    kept = expected_coverage(len(validation) / effect, far.n / far.design_effect, _FLAGGED, level=at.report.confidence)
    allowed = (1.0 - kept[1], 1.0 - kept[0])
    return Section(
        name=NAME,
        title="Out of distribution",
        words=_words(at, rows, found, far, allowed),
        warnings=_warnings(at, found, far, allowed),
        tables=(_table(at, found),),
        figures=(_figure(at, found),),
        values={
            "images": len(rows),
            "flagged": {**shown.values(far.interval), "expected": [shown.value(each) for each in allowed]},
            "sets": {
                each.name: {
                    "kind": each.kind,
                    "flagged": shown.value(each.flagged),
                    **{name: shown.values(interval) for name, interval in each.aurocs.items()},
                }
                for each in found
            },
        },
    )


def _without(at: Evaluated) -> Section:
    return Section(
        name=NAME,
        title="Out of distribution",
        words=("The model has no layer 'logits', so its features cannot be looked at.",),
        warnings=(),
    )


def _scores(at: Evaluated, inner: Inner, statistics: FeatureStatistics) -> dict[str, NDArray[np.float64]]:
    """Each (N,), the higher the stranger; infinite where the model gave no number."""
    found = {
        "distance": mahalanobis(inner.features, statistics.means, statistics.covariance),
        "energy": energy(at.split.task, inner.logits),
        "confidence": 1.0 - inner.probabilities.max(axis=1),
    }
    # An image without a score is strange beyond all others; a finite stand-in, for ranks are all that counts.
    return {name: np.nan_to_num(each, nan=1e300, posinf=1e300, neginf=-1e300) for name, each in found.items()}


def _row(
    at: Evaluated,
    name: str,
    kind: str,
    rows: NDArray[np.int64],
    own: dict[str, NDArray[np.float64]],
    others: dict[str, NDArray[np.float64]],
    cut: float,
) -> _Row:
    n = len(rows)
    strange = np.tile((np.arange(2 * n) >= n)[:, None], (1, len(_SCORES)))
    ranked = np.stack([np.concatenate([own[score], others[score]]) for score in _SCORES], axis=1)
    # An image and what was made of it belong to one patient.
    groups = np.concatenate([at.split.groups[rows]] * 2)
    known, patients = areas(strange, ranked, groups), independent(groups)
    intervals = {
        score: area_interval(float(known.values[index]), float(known.errors[index]), at.report.confidence, patients)
        for index, score in enumerate(_SCORES)
    }
    return _Row(name, kind, intervals, float(np.mean(others["distance"] > cut)))


def _words(
    at: Evaluated, rows: NDArray[np.int64], found: list[_Row], far: Proportion, allowed: tuple[float, float]
) -> tuple[str, ...]:
    share = far.successes / max(1, far.n)
    first = (
        f"{shown.percent(share)} of {told(at.split, rows)} lie farther from the training images, in the network's "
        f"features, than 95 % of the validation images do"
    )
    if _seen(at):
        first += ". The model was trained on those too, so they lie nearer than new ones would: that says nothing."
    else:
        low, high = (shown.percent(each) for each in allowed)
        first += f"; chance would leave it between {low} and {high} if they were alike"
        first += ": the test images are not like the validation images." if share > allowed[1] + 1e-9 else "."
    means = {
        kind: {
            score: float(np.mean([each.aurocs[score].value for each in found if each.kind == kind]))
            for score in _SCORES
        }
        for kind in ("foreign", "corrupted")
    }
    names = {"distance": "Mahalanobis distance", "energy": "energy", "confidence": "the largest probability"}
    second = " ".join(
        f"Images of something else are told from test images with a mean AUROC of {means[kind]['distance']:.3f} by "
        f"{names['distance']}, {means[kind]['energy']:.3f} by {names['energy']} and {means[kind]['confidence']:.3f} by "
        f"{names['confidence']}."
        if kind == "foreign"
        else f"For test images corrupted at the highest severity that is {means[kind]['distance']:.3f}, "
        f"{means[kind]['energy']:.3f} and {means[kind]['confidence']:.3f}."
        for kind in ("foreign", "corrupted")
    )
    best = max(_SCORES, key=lambda score: means["foreign"][score] + means["corrupted"][score])
    third = f"On the whole {names[best]} tells them best here. 0.5 is guessing; below it, strange images look familiar."
    return (
        first,
        second,
        third,
        "A network says something of every image, also of a photograph of a cat: where no score tells such images "
        "apart, somebody else must.",
    )


def _seen(at: Evaluated) -> bool:
    """Whether the network was trained on the validation images too, so that their distances are no new images'."""
    return at.manifest.final.get("trained_on") == "training and validation"


def _warnings(at: Evaluated, found: list[_Row], far: Proportion, allowed: tuple[float, float]) -> tuple[str, ...]:
    warnings = list(shown.few_patients(at.split))
    if far.n and far.successes / far.n > allowed[1] + 1e-9 and not _seen(at):
        warnings.append(
            "More test images lie far from the training images than chance allows: they may come from another scanner, "
            "hospital or group of patients, and what was fitted on validation may not hold for them."
        )
    blind = [each.name for each in found if each.kind == "foreign" and each.aurocs["distance"].value < _USELESS]
    if blind:
        warnings.append(
            f"By their distance, images of something else ({shown.listed(list(map(_title, blind)))}) look like test "
            "images to this model: it would answer them without a sign of doubt."
        )
    return tuple(warnings)


def _title(name: str) -> str:
    return name.replace("_", " ")


def _table(at: Evaluated, found: list[_Row]) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (
            _title(each.name),
            each.kind if each.kind == "foreign" else "corrupted, severity 5",
            *(shown.interval(each.aurocs[score]) for score in _SCORES),
            round(each.flagged, 3),
        )
        for each in found
    ]
    heads = ("images", "kind", "AUROC by Mahalanobis distance", "by energy", "by the largest probability")
    caption = (
        "How well scores tell other images from test images (0.5: not at all); in brackets "
        f"{100 * at.report.confidence:g} % intervals. Flagged: farther away than 95 % of the validation images"
    )
    return Table(caption, (*heads, "share flagged by distance"), tuple(rows))


def _figure(at: Evaluated, found: list[_Row]) -> Figure:
    alt = "AUROC of three scores at telling other images from test images. " + " ".join(
        f"{_title(each.name)}: distance {each.aurocs['distance'].value:.2f}, energy {each.aurocs['energy'].value:.2f}."
        for each in found
    )
    labels = ("Mahalanobis distance", "energy", "largest probability")
    with figure(at.plots / f"{NAME}.svg", at.signature, alt=alt, size=(7.2, 1.4 + 0.28 * len(found))) as drawn_figure:
        axes = drawn_figure.add_subplot()
        places = np.arange(len(found))[::-1]
        for index, score in enumerate(_SCORES):
            values = [each.aurocs[score].value for each in found]
            axes.plot(values, places, "osD"[index], color=COLOURS[index], label=labels[index], alpha=0.85)
        axes.axvline(0.5, color=GREY, linestyle=":", linewidth=1.2)
        axes.set_yticks(places, [f"{_title(each.name)} ({each.kind})" for each in found])
        axes.set(
            xlim=(-0.02, 1.02), ylim=(-0.6, len(found) - 0.4), xlabel="AUROC against test images (0.5: not told apart)"
        )
        axes.grid(axis="both", color="#EEEEEE")
        axes.set_axisbelow(True)
        title(axes, "Out of distribution")
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), fontsize=8, frameon=False)
        bare(axes)
    return Figure(f"plots/{NAME}.svg", alt, "AUROC of each score, a row a set of other images")
