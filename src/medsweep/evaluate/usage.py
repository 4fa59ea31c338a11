"""How often a test split was looked at: each model chosen by its test figures makes the best of them look better."""

from __future__ import annotations

import json
import os
from pathlib import Path

NAME = "test_evaluations.jsonl"


def record_evaluation(path: Path, *, test_digest: str, model_digest: str, params_digest: str) -> int:
    """Note that a model was evaluated on a test split, and count the different models that were so far.

    Evaluating the same model again, with whatever parameters, adds nothing to the count.

    Args:
        path: the append-only list, one JSON object a line; a line torn by a crash is passed over.
        test_digest, model_digest, params_digest: what was evaluated on what, and how.

    Returns:
        the number of different models evaluated on this test split, this one included.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    entry = {"test": test_digest, "model": model_digest, "params": params_digest}
    known = _entries(path)
    if entry not in known:
        # One write in append mode: evaluations that run side by side don't tear each other's lines.
        with path.open("ab", buffering=0) as stream:
            torn = path.stat().st_size > 0 and not path.read_bytes().endswith(b"\n")
            stream.write((b"\n" if torn else b"") + json.dumps(entry).encode() + b"\n")
            os.fsync(stream.fileno())
        known = _entries(path)
    return len({each["model"] for each in known if each["test"] == test_digest})


def _entries(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    found = []
    for line in path.read_bytes().splitlines():
        try:
            each = json.loads(line)
        except (UnicodeDecodeError, json.JSONDecodeError):
            continue
        if isinstance(each, dict) and {"test", "model", "params"} <= each.keys():
            found.append(each)
    return found
