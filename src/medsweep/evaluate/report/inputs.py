"""What the report is made from, read once: the same inputs give the same bytes."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medsweep.artifacts import files
from medsweep.artifacts.evaluation import EvaluationReport
from medsweep.artifacts.section import Section
from medsweep.artifacts.trained import TrainedModel
from medsweep.evaluate.figures import Mistake
from medsweep.layout import Layout

SPACE = "train.space."
_FACTS = ("parameters", "multiply_adds", "file_bytes")


@dataclass(frozen=True)
class TriedTrial:
    """A row of models/trials.csv.

    Args:
        number: of the trial, from 0.
        status: complete, pruned or failed.
        objective: None where it failed.
        epochs: that were trained.
        error: why it failed, or ''.
        values: what was chosen, by dotted name; only what this trial has.
        metrics: validation figures after the last epoch, by name.
        parameters: weights of its network, None where it failed.
    """

    number: int
    status: str
    objective: float | None
    epochs: int
    error: str
    values: Mapping[str, str]
    metrics: Mapping[str, float]
    parameters: int | None


@dataclass(frozen=True)
class Before:
    """What the stages before evaluate left, beside the model: read before anything is computed.

    Args:
        quality: reports/data_quality.json.
        trials: every trial of the search.
        importances: the share of each hyperparameter in the objective's variance; empty where too few trials tell.
        search_plots: the folder with the search's figures.
        digests: of these files.
        model_md5: of models/model.keras: what dvc.lock knows it by.
    """

    quality: Mapping[str, Any]
    trials: Sequence[TriedTrial]
    importances: Mapping[str, float]
    search_plots: Path
    digests: Mapping[str, str]
    model_md5: str

    @classmethod
    def read(cls, layout: Layout) -> Before:
        """Read them.

        Raises:
            ArtifactError: a file is missing or damaged.
        """
        quality = files.read_json(layout.data_quality, made_by="prepare")
        if not isinstance(quality, dict) or not {"images", "patients", "splits", "findings"} <= quality.keys():
            raise files.damaged(layout.data_quality, "is not a data-quality report.", made_by="prepare")
        trials = _trials(layout.trials)
        importances = _importances(layout.search_plots / "importance.csv")
        digests = {
            "data_quality": files.digest_file(layout.data_quality),
            "trials": files.digest_file(layout.trials),
            "search_plots": files.digest_folder(layout.search_plots),
        }
        return cls(quality, trials, importances, layout.search_plots, digests, files.digest_file(layout.model, "md5"))


@dataclass(frozen=True)
class ReportInputs:
    """All that the pages show.

    Args:
        report: the evaluation.
        manifest: of the model.
        before: what the earlier stages left.
        settings: `evaluate`'s parameters by dotted name.
        undefined: why a metric has no value, by its name.
        mistakes: the wrong decisions to show, the surest first.
        n_mistakes: how many there are.
        decided: how probabilities became decisions, in words.
        parts: the names of all parts that there are, in the report's order.
        folder: what the paths of figures are relative to.
    """

    report: EvaluationReport
    manifest: TrainedModel
    before: Before
    settings: Mapping[str, Any]
    undefined: Mapping[str, str]
    mistakes: Sequence[Mistake]
    n_mistakes: int
    decided: str
    parts: Sequence[str]
    folder: Path

    @property
    def quality(self) -> Mapping[str, Any]:
        return self.before.quality

    def section(self, name: str) -> Section | None:
        """What a part found, None where it was switched off."""
        return next((each for each in self.report.sections if each.name == name), None)


def _trials(path: Path) -> list[TriedTrial]:
    if not path.is_file():
        raise files.missing(path, made_by="train")
    with path.open(encoding="utf-8", newline="") as stream:
        try:
            return [_trial(row) for row in csv.DictReader(stream)]
        except (KeyError, ValueError, TypeError, UnicodeDecodeError, csv.Error) as error:
            raise files.damaged(path, f"is not a table of trials ({error}).", made_by="train") from None


def _trial(row: Mapping[str, str]) -> TriedTrial:
    return TriedTrial(
        number=int(row["number"]),
        status=row["status"],
        objective=float(row["objective"]) if row["objective"] else None,
        epochs=int(row["epochs"]),
        error=row["error"],
        values={name: value for name, value in row.items() if name.startswith(SPACE) and value},
        metrics={name: float(value) for name, value in row.items() if name.startswith("val_") and value},
        parameters=int(float(row["parameters"])) if row.get("parameters") else None,
    )


def _importances(path: Path) -> dict[str, float]:
    """The search may have been too short to tell any."""
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8", newline="") as stream:
        try:
            return {row["hyperparameter"]: float(row["share"]) for row in csv.DictReader(stream)}
        except (KeyError, ValueError, TypeError, UnicodeDecodeError, csv.Error) as error:
            raise files.damaged(path, f"is not a table of importances ({error}).", made_by="train") from None
