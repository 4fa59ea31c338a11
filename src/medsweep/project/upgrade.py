"""`medsweep upgrade`: a project takes up the medsweep that is installed."""

from __future__ import annotations

from dataclasses import dataclass

from medsweep.artifacts import files
from medsweep.errors import MedsweepError
from medsweep.layout import Layout
from medsweep.project import template
from medsweep.project.code import code_text, installed, recorded
from medsweep.project.template import CODE


@dataclass(frozen=True)
class Upgrade:
    """What was changed.

    Args:
        before, after: versions.
        stages: those whose code differs, so that `dvc repro` runs them.
        keys: of params.yaml, by dotted name, that were missing and now have the template's values.
        parts: of dvc.yaml, such as `evaluate.outs: reports/report.html`, that were missing.
    """

    before: str
    after: str
    stages: tuple[str, ...]
    keys: tuple[str, ...]
    parts: tuple[str, ...]

    def lines(self) -> list[str]:
        said = [f"medsweep {self.before} → {self.after}." if self.before != self.after else f"medsweep {self.after}."]
        if self.keys:
            said.append(f"params.yaml has new keys, with their usual values: {', '.join(self.keys)}.")
        if self.parts:
            said.append(f"dvc.yaml has new entries: {', '.join(self.parts)}.")
        said.append(
            f"Other code: {', '.join(self.stages)}. Next: dvc repro" if self.stages else "The code is the same."
        )
        return said


def upgrade(layout: Layout) -> Upgrade:
    """Record the installed code in code.yaml, and add what params.yaml and dvc.yaml lack. Nothing else is changed.

    Raises:
        MedsweepError: this is medsweep's own repository.
        ParamsError: a file is missing or no YAML.
    """
    known = recorded(layout)
    if known is None:
        raise MedsweepError(
            "there is none: medsweep new makes it, and medsweep's own repository has its source instead.", where=CODE
        )
    now = installed()
    text, keys = template.with_missing_keys(layout.params.read_text(encoding="utf-8"))
    if keys:
        files.write_text(layout.params, text)
    pipeline = layout.root / "dvc.yaml"
    text, parts = template.with_missing_parts(pipeline.read_text(encoding="utf-8"))
    if parts:
        files.write_text(pipeline, text)
    stages = tuple(name for name in template.code_of_stages() if known.get(name) != now[name])
    if known != now:
        files.write_text(layout.root / CODE, code_text(now))
    return Upgrade(str(known.get("version", "?")), now["version"], stages, tuple(keys), tuple(parts))
