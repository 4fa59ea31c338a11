"""code.yaml: which medsweep a project's results come from. It stands in for the source tree that a project lacks.

Each stage depends on its own digest, so an upgrade that leaves a stage's code as it was runs nothing. The file is
tracked by Git and changes only when its user says so: an upgrade of the package must neither be overlooked nor start a
day's search unasked.
"""

from __future__ import annotations

from typing import Any

import medsweep
from medsweep.errors import MedsweepError
from medsweep.layout import Layout
from medsweep.params import load_yaml
from medsweep.project.template import CODE, code_of_stages
from medsweep.tracking.lineage import code_digest

_HEAD = """\
# Which medsweep this project's results come from: its version, and a digest of the code of each stage.
# `medsweep upgrade` records the one that is installed; then `dvc repro` runs the stages whose code differs.
"""


def installed() -> dict[str, str]:
    """The installed medsweep's version, and the SHA-256 of each stage's code."""
    stages = {stage: code_digest(parts) for stage, parts in code_of_stages().items()}
    return {"version": medsweep.__version__, **stages}


def code_text(found: dict[str, str]) -> str:
    return _HEAD + "".join(f"{name}: {value}\n" for name, value in found.items())


def recorded(layout: Layout) -> dict[str, Any] | None:
    """What the project's code.yaml says; None where there is none, as in medsweep's own repository."""
    path = layout.root / CODE
    return load_yaml(path) if path.is_file() else None


def check_code(layout: Layout, stage: str) -> None:
    """Refuse to run a stage by other code than the project records: DVC would keep the result under a wrong name.

    Raises:
        MedsweepError: the installed code of this stage is not what code.yaml says.
    """
    known = recorded(layout)
    if known is None:
        return
    now = installed()
    if known.get(stage) != now[stage]:
        was = known.get("version", "?")
        other = "another state of it" if was == now["version"] else f"medsweep {now['version']}"
        raise MedsweepError(
            f"says that the stage '{stage}' is run by medsweep {was}, and {other} is installed.",
            where=CODE,
            fix=f"Run medsweep upgrade and then dvc repro, or install medsweep {was} again.",
        )
