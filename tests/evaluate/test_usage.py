"""The count of models that were evaluated on a test split."""

from __future__ import annotations

from pathlib import Path

from medsweep.evaluate.usage import record_evaluation


def record(path: Path, test: str, model: str, params: str = "p") -> int:
    return record_evaluation(path, test_digest=test, model_digest=model, params_digest=params)


def test_counts_models_of_one_split(tmp_path: Path) -> None:
    path = tmp_path / "state" / "test_evaluations.jsonl"
    assert [record(path, "t", "a"), record(path, "t", "b"), record(path, "t", "a")] == [1, 2, 2]
    assert record(path, "t", "a", "other") == 2
    assert record(path, "another split", "a") == 1
    assert len(path.read_text().splitlines()) == 4, "an evaluation that is known adds no line"


def test_a_torn_line_costs_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "test_evaluations.jsonl"
    record(path, "t", "a")
    with path.open("a") as stream:
        stream.write('{"test": "t", "mod')
    assert record(path, "t", "b") == 2
    assert record(path, "t", "c") == 3
