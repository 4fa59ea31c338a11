"""EvaluationReport: what the test split said about a model, reports/evaluation.json and reports/metrics.json."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medsweep.artifacts import files
from medsweep.artifacts.section import Section
from medsweep.errors import ArtifactError

_MADE_BY = "evaluate"


@dataclass(frozen=True)
class Estimate:
    """A value with its interval; None where it is undefined (one class only in the test split, say)."""

    value: float | None
    low: float | None
    high: float | None

    def __post_init__(self) -> None:
        given = [each for each in (self.value, self.low, self.high) if each is not None]
        if not all(map(math.isfinite, given)):
            raise ArtifactError("an estimate must be finite, or None where it is undefined.", where="evaluation")


@dataclass(frozen=True)
class EvaluationReport:
    """The test split's verdict.

    Args:
        metrics: by name, each with its interval.
        per_class: by class name, then by metric name (one class against the rest).
        confusion: (K, K) counts, rows true; (L, 2, 2) for multi-label.
        class_names: (K,).
        task: binary, multiclass, multilabel or ordinal.
        n_images, n_patients: in the test split; patients None where the source names none.
        confidence: of the intervals, for example 0.95.
        resampled: 'patients' or 'images': what the bootstrap drew.
        threshold: the operating point that train stored.
        oracle_auroc: for phantoms, the AUROC of an oracle that reads the latent descriptors.
        digests: of the model, the test split and the parameters.
        key: names this evaluation in the run log and in MLflow.
        synthetic: True where the images are synthetic.
        cautions: what makes the figures say less than they seem to, a sentence each.
        drawn_auroc: the AUROC with the interval that resampling gives, where that of `metrics` is from its variance;
            None where `metrics` has that of resampling.
        sections: what the parts of `evaluate.parts` found, in the order of the report.
    """

    metrics: Mapping[str, Estimate]
    per_class: Mapping[str, Mapping[str, float | None]]
    confusion: Any
    class_names: tuple[str, ...]
    task: str
    n_images: int
    n_patients: int | None
    confidence: float
    resampled: str
    threshold: tuple[float, ...]
    oracle_auroc: float | None
    digests: Mapping[str, str]
    key: str
    synthetic: bool
    cautions: tuple[str, ...] = ()
    drawn_auroc: Estimate | None = None
    sections: tuple[Section, ...] = ()

    def save(self, path: Path, *, metrics_path: Path) -> None:
        """Write the whole report, and the short form that DVC shows as metrics."""
        files.write_json(path, asdict(self))
        short: dict[str, Any] = {"test": {name: asdict(each) for name, each in self.metrics.items()}}
        if self.oracle_auroc is not None:
            short["test"]["oracle_auroc"] = {"value": self.oracle_auroc}
        files.write_json(metrics_path, short | {"n_images": self.n_images, "n_patients": self.n_patients})

    @classmethod
    def load(cls, path: Path) -> EvaluationReport:
        """Read a report.

        Raises:
            ArtifactError: the file is missing or damaged.
        """
        found = files.read_json(path, made_by=_MADE_BY)
        try:
            found["metrics"] = {name: Estimate(**each) for name, each in found["metrics"].items()}
            drawn = found["drawn_auroc"]
            found["drawn_auroc"] = drawn if drawn is None else Estimate(**drawn)
            for name in ("class_names", "threshold", "cautions"):
                found[name] = tuple(found[name])
            found["sections"] = tuple(Section.of(each) for each in found["sections"])
            return cls(**found)
        except (KeyError, TypeError) as error:
            raise files.damaged(path, f"is not a report of this version ({error}).", made_by=_MADE_BY) from None
