"""reports/predictions.csv: what the model said about every image of the test split."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medsweep.artifacts.prepared import PreparedSplit


def write_predictions(
    path: Path, split: PreparedSplit, probabilities: NDArray[np.float64], decisions: NDArray[np.int64]
) -> None:
    """Write one row an image, in the split's order.

    Columns: `record_id`, `patient` (a pseudonym, empty where unknown), `label` and `decision` (class names; for
    multi-label `label_NAME` and `decision_NAME`, 0 or 1), `probability_NAME` for each class with the nine digits that
    tell float32 values apart, then the kept columns (with `_kept` behind a name that is taken).

    Args:
        path: the file to write.
        split: N images.
        probabilities: (N, K).
        decisions: (N,) class indices or (N, L) zeros and ones.
    """
    names = split.class_names
    if split.task == "multilabel":
        labels = {f"label_{name}": split.labels[:, k].astype(str) for k, name in enumerate(names)}
        decided = {f"decision_{name}": decisions[:, k].astype(str) for k, name in enumerate(names)}
    else:
        words = np.asarray(names, dtype=np.str_)
        labels, decided = {"label": words[split.labels]}, {"decision": words[decisions]}
    table: dict[str, Iterable[str]] = {"record_id": split.record_ids, "patient": split.patient_ids, **labels}
    table |= {f"probability_{name}": [f"{p:.9g}" for p in probabilities[:, k]] for k, name in enumerate(names)}
    table |= decided
    for name, values in split.columns.items():
        table[f"{name}_kept" if name in table else name] = values
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(table)
        writer.writerows(zip(*table.values(), strict=True))
