"""What an evaluation consists of beyond its metrics: one row a part, each a function to a Section of the report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medsweep.artifacts import files
from medsweep.artifacts.evaluation import EvaluationReport
from medsweep.artifacts.prepared import PreparedSplit
from medsweep.artifacts.section import Section
from medsweep.artifacts.trained import TrainedModel
from medsweep.artifacts.validation import ValidationPredictions
from medsweep.drawing.figure import Signature
from medsweep.evaluate import certainty, explanations, note, power, subgroups
from medsweep.evaluate.abstention import abstention
from medsweep.evaluate.calibration import calibration
from medsweep.evaluate.conformal import conformal
from medsweep.evaluate.decision_curve import decision_curve
from medsweep.evaluate.operating_points import operating_points
from medsweep.evaluate.out_of_distribution import out_of_distribution
from medsweep.evaluate.robustness import robustness
from medsweep.layout import Layout
from medsweep.params import Params


@dataclass(frozen=True)
class Evaluated:
    """What a part may look at. A part changes none of it, and what it finds steers nothing.

    Args:
        params: `evaluate` decides what a part does; `runtime` only how fast.
        layout: where the inputs are.
        split: the test split, (N, H, W, C).
        manifest: of the model.
        probabilities: (N, K).
        decisions: (N,) or (N, L).
        report: the metrics with their intervals.
        plots: the folder for figures, which becomes reports/plots.
        advance: told a part's progress: the share done (0 to 1).
    """

    params: Params
    layout: Layout
    split: PreparedSplit
    manifest: TrainedModel
    probabilities: NDArray[np.float64]
    decisions: NDArray[Any]
    report: EvaluationReport
    plots: Path
    advance: Callable[[float], None]

    @property
    def signature(self) -> Signature:
        """What stands below a part's figures."""
        return Signature(f"test split: {note.size_of(self.report)}", self.report.synthetic)

    @property
    def validation(self) -> ValidationPredictions:
        """What the model says about the validation images, on which alone anything is fitted.

        Raises:
            ArtifactError: train did not write it, or it was changed since.
        """
        path = self.layout.validation
        expected = {path.name: self.manifest.files[path.name]} if path.name in self.manifest.files else {}
        files.check_digests(path.parent, expected, made_by="train")
        return ValidationPredictions.load(path, class_names=self.manifest.class_names, task=self.manifest.task)


Part = Callable[[Evaluated], Section]

PARTS: dict[str, Part] = {
    "intervals": certainty.intervals,
    "subgroups": subgroups.subgroups,
    "power": power.power,
    "operating_points": operating_points,
    "decision_curve": decision_curve,
    "calibration": calibration,
    "conformal": conformal,
    "abstention": abstention,
    "robustness": robustness,
    "out_of_distribution": out_of_distribution,
    explanations.NAME: explanations.explanations,
}
"""The parts by name, in the order of the report. `evaluate.parts` lists those to run."""
