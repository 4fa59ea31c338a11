"""Where a run came from: the code's commit, and the digests of the data and parameters that DVC recorded."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import medsweep
from medsweep.artifacts.files import digest_folder, digest_of
from medsweep.artifacts.prepared import PreparedSplit
from medsweep.errors import MedsweepError
from medsweep.layout import Layout
from medsweep.params import load_yaml

# What may change a result besides data and parameters, which count by digest: they change in every normal use.
_CODE = ("src", "pyproject.toml", "constraints.txt", "dvc.yaml", "code.yaml")
# Templates of pages and documents decide a stage's outputs as Python does.
_SOURCES = ("**/*.py", "**/*.html", "**/*.css", "**/*.md")
_NO_PARAMETERS = ("experiment", "runtime")


def lineage(layout: Layout) -> dict[str, str]:
    """The tags that say what a run was made from.

    Tags of things that are not known (no Git, nothing in dvc.lock yet) are left out.

    Returns:
        `medsweep.git_sha`; `medsweep.git_dirty` ('true' where code differs from that commit);
        `medsweep.data_digest`, `medsweep.prepared_digest` and `medsweep.augmented_digest` from dvc.lock;
        `medsweep.params_digest`, of all that params.yaml says but `experiment` and `runtime`; `medsweep.version`; and
        `medsweep.dvc_experiment` inside `dvc exp run`.
    """
    found: dict[str, str | None] = {"medsweep.git_sha": _git(layout, "rev-parse", "HEAD")}
    if found["medsweep.git_sha"] is not None:
        changed = _git(layout, "status", "--porcelain", "--", *_CODE)
        found["medsweep.git_dirty"] = None if changed is None else str(bool(changed)).lower()
    params = _mapping(layout.params)
    if params:
        found["medsweep.params_digest"] = digest_of({k: v for k, v in params.items() if k not in _NO_PARAMETERS})
    stages = _mapping(layout.dvc_lock).get("stages") or {}
    source = ((params.get("prepare") or {}).get("source") or {}).get("path")
    found["medsweep.data_digest"] = _recorded(stages, "prepare", "deps").get(str(source).rstrip("/"))
    for tag, stage, folder in (
        ("medsweep.prepared_digest", "prepare", layout.prepared),
        ("medsweep.augmented_digest", "augment", layout.augmented),
    ):
        inside = layout.relative(folder)
        outputs = {
            path: digest
            for path, digest in _recorded(stages, stage, "outs").items()
            if path == inside or path.startswith(f"{inside}/")
        }
        found[tag] = digest_of(outputs) if outputs else None
    found["medsweep.version"] = medsweep.__version__
    found["medsweep.dvc_experiment"] = os.environ.get("DVC_EXP_NAME") or None
    return {name: value for name, value in found.items() if value is not None}


def dataset(layout: Layout, split: PreparedSplit, context: str) -> dict[str, Any]:
    """A split as a run log's `begin` event names it; `context` says what it was used for."""
    return {
        "name": split.name,
        "digest": split.digest,
        "context": context,
        "path": layout.relative(layout.prepared_split(split.name)),
        "n_images": len(split),
        "n_patients": split.n_patients,
        "class_names": list(split.class_names),
        "shape": list(split.images.shape[1:]),
        "synthetic": split.synthetic,
    }


def code_digest(packages: Sequence[str]) -> str:
    """The SHA-256 of medsweep's own code in these packages: what a stage's result depends on besides its inputs."""
    here = Path(medsweep.__file__).parent
    return digest_of({f"{name}/{kind}": digest_folder(here / name, kind) for name in packages for kind in _SOURCES})


def _recorded(stages: Mapping[str, Any], stage: str, part: str) -> dict[str, str]:
    entries = (stages.get(stage) or {}).get(part) or []
    return {str(each["path"]).rstrip("/"): str(each["md5"]) for each in entries if "md5" in each}


def _mapping(path: Path) -> dict[str, Any]:
    try:
        return load_yaml(path)
    except MedsweepError:
        return {}


def _git(layout: Layout, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=layout.root, capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
