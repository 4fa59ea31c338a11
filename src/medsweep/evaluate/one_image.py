"""One image, explained on request: what the model says of it, and where it sees that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medsweep.artifacts.evaluation import EvaluationReport
from medsweep.artifacts.prepared import PreparedImage
from medsweep.artifacts.record import Task
from medsweep.artifacts.trained import TrainedModel
from medsweep.drawing.figure import Signature
from medsweep.errors import ArtifactError, unknown_name
from medsweep.evaluate import explanation_figures, explanations
from medsweep.layout import Layout
from medsweep.params import Params
from medsweep.statistics.operating_points import decide


@dataclass(frozen=True)
class Subject:
    """The model that is asked.

    Args:
        model: the `.keras` file.
        name: how it is called in what is printed.
        class_names: (K,).
        task: binary, multiclass, multilabel or ordinal.
        threshold: one value for a binary task, one a label for multi-label, empty otherwise.
        value_range: the largest raw pixel value.
        synthetic: True where it was trained on synthetic images.
        digest: of the model file.
    """

    model: Path
    name: str
    class_names: tuple[str, ...]
    task: Task
    threshold: tuple[float, ...]
    value_range: int
    synthetic: bool
    digest: str

    @classmethod
    def of_workspace(cls, layout: Layout) -> Subject:
        """The model in models/.

        Raises:
            ArtifactError: it is missing, or not the one that train wrote.
        """
        known = TrainedModel.load(layout.trained, model=layout.model)
        return cls(
            layout.model,
            layout.relative(layout.model),
            known.class_names,
            known.task,
            known.threshold,
            known.value_range,
            known.synthetic,
            known.model_digest,
        )


@dataclass(frozen=True)
class Answer:
    """What the model says of one image.

    Args:
        image: its name.
        model: the model's name.
        probabilities: by class.
        decision: the class decided for; several labels an image: the labels, or an empty tuple.
        threshold: by class, where decisions are made by one.
        explained: the class that the maps are about.
        methods: by which they were made.
        output: the picture.
        failed: the methods that failed their sanity checks on this model, by its evaluation; None where it has none.
        synthetic: True where the image or the model's training images are made, not acquired.
    """

    image: str
    model: str
    probabilities: dict[str, float]
    decision: str | tuple[str, ...]
    threshold: dict[str, float]
    explained: str
    methods: tuple[str, ...]
    output: str
    failed: tuple[str, ...] | None
    synthetic: bool

    def lines(self) -> list[str]:
        """The answer in plain words."""
        decided = self.decision if isinstance(self.decision, str) else (", ".join(self.decision) or "no label")
        cuts = ", ".join(f"{name} from {value:.4g}" for name, value in self.threshold.items())
        how = f"{cuts}, the model's threshold" if cuts else "the most probable class"
        found = [
            f"{self.image}, by {self.model}:",
            f"Probability: {', '.join(f'{name} {value:.4f}' for name, value in self.probabilities.items())}.",
            f"Decision: {decided} ({how}).",
            f"What speaks for '{self.explained}', by {', '.join(self.methods)}: {self.output}",
        ]
        if self.failed is None:
            found.append(
                "No evaluation says whether these methods can be believed for this model: dvc repro makes one."
            )
        elif self.failed:
            found.append(f"Failed the sanity checks on this model, and is no evidence: {', '.join(self.failed)}.")
        if self.synthetic:
            found.append("The images are synthetic.")
        found.append("medsweep is a research tool, not a medical device.")
        return found


def explain_image(
    picture: PreparedImage,
    subject: Subject,
    params: Params,
    layout: Layout,
    *,
    methods: Sequence[str],
    class_name: str | None,
    output: Path,
) -> Answer:
    """Ask the model about one image, and draw where it sees what speaks for a class.

    Args:
        picture: the image.
        subject: the model.
        params: `evaluate.explanations` says how closely methods look.
        layout: where the model's evaluation is, which says what methods failed.
        methods: rows of the table of methods; none for those of params.yaml.
        class_name: the class to explain; None for the one decided for (several labels: the most likely one).
        output: the PNG or SVG to write.

    Raises:
        ParamsError: an unknown method or class.
        ArtifactError: model and image do not fit, the model can't be explained, or `output` is of another kind.
    """
    from medsweep.explain.methods import METHODS, explain, scaled
    from medsweep.explain.network import Network

    known = params.evaluate.explanations
    chosen = tuple(dict.fromkeys(methods)) or tuple(known.methods)
    for method in chosen:
        if method not in METHODS:
            raise unknown_name("method", method, list(METHODS), where="--method")
    names = subject.class_names
    if class_name is not None and class_name not in names:
        raise unknown_name("class", class_name, list(names), where="--class")
    network = Network.load(subject.model)
    if network.input_shape != picture.pixels.shape or subject.value_range != picture.value_range:
        raise ArtifactError(
            f"takes images of {network.input_shape} up to {subject.value_range}, and this one is "
            f"{picture.pixels.shape} up to {picture.value_range}.",
            where=subject.name,
            fix="prepare.image and prepare.intensity in params.yaml must be those that the model was trained with.",
        )
    images = picture.pixels[None]
    probabilities = network.probabilities(images).astype(np.float64)
    decision = decide(subject.task, probabilities, subject.threshold)[0]
    explained = names.index(class_name) if class_name is not None else _explained(subject, probabilities[0], decision)
    maps = {
        METHODS[method].title: scaled(
            explain(network, method, images, np.array([explained]), explanations.settings_of(known))
        )[0]
        for method in chosen
    }
    synthetic = subject.synthetic or picture.synthetic
    answer = Answer(
        image=picture.name,
        model=subject.name,
        probabilities={name: float(value) for name, value in zip(names, probabilities[0], strict=True)},
        decision=_decision(subject, decision),
        threshold=_thresholds(subject),
        explained=names[explained],
        methods=chosen,
        output=str(output),
        failed=_failed(subject, layout, chosen),
        synthetic=synthetic,
    )
    row = explanation_figures.Overlay(
        pixels=picture.pixels,
        words=[
            f"explained: {explanation_figures.label(names[explained])}",
            f"probability {probabilities[0, explained]:.3f}",
            f"decided: {explanation_figures.label(_in_words(answer.decision))}",
        ],
        maps=maps,
        mask=picture.mask,
    )
    explanation_figures.overlays(
        output,
        [row],
        f"What speaks for '{names[explained]}'",
        picture.value_range,
        Signature(picture.name, synthetic),
        f"One image with heat maps by {', '.join(maps)} of what speaks for '{names[explained]}'.",
    )
    return answer


def _explained(subject: Subject, probabilities: NDArray[np.float64], decision: Any) -> int:
    if subject.task == "multilabel":
        return int(np.argmax(probabilities - np.array(subject.threshold)))
    return int(decision)


def _decision(subject: Subject, decision: Any) -> str | tuple[str, ...]:
    if subject.task == "multilabel":
        return tuple(name for name, there in zip(subject.class_names, decision, strict=True) if there)
    return subject.class_names[int(decision)]


def _thresholds(subject: Subject) -> dict[str, float]:
    names = subject.class_names[1:] if subject.task == "binary" else subject.class_names
    return dict(zip(names, subject.threshold, strict=True)) if subject.threshold else {}


def _in_words(decision: str | tuple[str, ...]) -> str:
    return decision if isinstance(decision, str) else (", ".join(decision) or "no label")


def _failed(subject: Subject, layout: Layout, methods: Sequence[str]) -> tuple[str, ...] | None:
    """Which methods failed their checks, by the evaluation of this very model."""
    if not layout.evaluation.is_file():
        return None
    try:
        report = EvaluationReport.load(layout.evaluation)
    except ArtifactError:
        return None
    found = [each.values.get("methods") for each in report.sections if each.name == explanations.NAME]
    if report.digests.get("model") != subject.digest or not found or found[0] is None:
        return None
    return tuple(name for name in methods if name in found[0] and not found[0][name]["passed"])
