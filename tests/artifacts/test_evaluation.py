from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from medsweep.artifacts.evaluation import Estimate, EvaluationReport
from medsweep.errors import ArtifactError


def make(**changes: Any) -> EvaluationReport:
    known: dict[str, Any] = {
        "metrics": {"auroc": Estimate(0.9, 0.8, 0.95), "mcc": Estimate(None, None, None)},
        "per_class": {"benign": {"sensitivity": 0.5, "ppv": None}},
        "confusion": [[3, 1], [0, 2]],
        "class_names": ("benign", "malignant"),
        "task": "binary",
        "n_images": 6,
        "n_patients": None,
        "confidence": 0.95,
        "resampled": "images",
        "threshold": (0.4,),
        "oracle_auroc": 0.97,
        "digests": {"model": "m"},
        "key": "k",
        "synthetic": True,
    }
    return EvaluationReport(**(known | changes))


def test_a_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    make().save(path, metrics_path=tmp_path / "metrics.json")
    assert EvaluationReport.load(path) == make()
    content = path.read_bytes()
    make().save(path, metrics_path=tmp_path / "metrics.json")
    assert path.read_bytes() == content


def test_dvcs_metrics_hold_each_value_with_its_interval(tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.json"
    make().save(tmp_path / "evaluation.json", metrics_path=metrics)
    assert json.loads(metrics.read_text()) == {
        "test": {
            "auroc": {"value": 0.9, "low": 0.8, "high": 0.95},
            "mcc": {"value": None, "low": None, "high": None},
            "oracle_auroc": {"value": 0.97},
        },
        "n_images": 6,
        "n_patients": None,
    }
    make(oracle_auroc=None).save(tmp_path / "evaluation.json", metrics_path=metrics)
    assert "oracle_auroc" not in json.loads(metrics.read_text())["test"]


@pytest.mark.parametrize("values", [(float("nan"), 0, 1), (0.5, float("-inf"), 1.0), (0.5, 0.0, float("inf"))])
def test_what_is_undefined_is_none_and_never_nan(values: tuple[float, float, float]) -> None:
    with pytest.raises(ArtifactError, match="finite"):
        Estimate(*values)


@pytest.mark.parametrize("change", [{"metrics": {"auroc": {"value": 1}}}, {"threshold": None}, {"surprise": 1}])
def test_a_report_of_another_version_is_one_line(change: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    make().save(path, metrics_path=tmp_path / "metrics.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ArtifactError, match="is not a report of this version"):
        EvaluationReport.load(path)
