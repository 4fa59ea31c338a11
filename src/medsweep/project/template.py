"""The files that a new project starts with, made from those of medsweep's own repository: there is one of each.

`params.yaml`, `dvc.yaml`, `.gitignore` and `.dvcignore` stand at the repository's root; the build copies them into the
package (setup.py). A project of its own has no `src`: its stages depend on `code.yaml` instead, which holds a digest of
the code of each stage.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from importlib.resources import files as package_files
from pathlib import Path, PurePosixPath
from typing import Any

import medsweep
from medsweep.errors import MedsweepError

CODE = "code.yaml"
_SOURCE_TREE = "src/medsweep/"
_PARAMS_HEAD = """\
# Every knob of the pipeline: docs/parameters.md of medsweep has them all. `dvc repro` runs what a change here touches.
# Try one thing without editing: dvc exp run -S train.search.trials=50
"""


def text_of(name: str) -> str:
    """A template's text.

    Raises:
        MedsweepError: medsweep was installed without its templates.
    """
    # A source checkout has them at its root, and an installed package beside this file.
    for place in (package_files("medsweep.project") / "templates" / name, Path(medsweep.__file__).parents[2] / name):
        if place.is_file():
            return place.read_text(encoding="utf-8")
    raise MedsweepError(f"the installed medsweep lacks its template {name}.", fix="Install medsweep anew.")


def params_text(experiment: str, source: Mapping[str, Any], image: Mapping[str, Any]) -> str:
    """params.yaml as the repository has it, comments and all, with another experiment, source and image size."""
    document = _load(text_of("params.yaml"))
    document["experiment"] = experiment
    section = document["prepare"]["source"]
    for key in [key for key in section if key not in source]:
        del section[key]
    for key, value in source.items():
        section[key] = value
    # Its remark is about phantoms.
    section.ca.items.pop("path", None)
    section.ca.items.pop("kind", None)
    for key, value in image.items():
        document["prepare"]["image"][key] = value
    lines = _dump(document).splitlines(keepends=True)
    while lines[0].startswith("#"):
        del lines[0]
    return _PARAMS_HEAD + "".join(lines)


def dvc_text(more: Sequence[str] = ()) -> str:
    """dvc.yaml as the repository has it, with the code's digests in place of its source tree.

    Args:
        more: further dependencies of prepare: labels that lie outside the source's path, say.
    """
    document = _load(text_of("dvc.yaml"))
    for name, stage in document["stages"].items():
        for index in reversed(range(len(stage["deps"]))):
            if str(stage["deps"][index]).startswith(_SOURCE_TREE):
                del stage["deps"][index]
        stage["params"].append({CODE: [name]})
    document["stages"]["prepare"]["deps"].extend(more)
    return _dump(document)


def code_of_stages() -> dict[str, tuple[str, ...]]:
    """By stage the parts of medsweep, as paths below the package, that dvc.yaml says its result depends on."""
    return {
        str(name): tuple(
            PurePosixPath(str(each)).relative_to(_SOURCE_TREE).as_posix()
            for each in stage["deps"]
            if str(each).startswith(_SOURCE_TREE)
        )
        for name, stage in _load(text_of("dvc.yaml"))["stages"].items()
    }


def with_missing_keys(text: str) -> tuple[str, list[str]]:
    """A project's params.yaml with the keys that it lacks, as the template has them, and their dotted names.

    Sections that are the user's to fill (sources, policies, spaces) are left as they are.
    """
    document, template = _load(text), _load(text_of("params.yaml"))
    added = _fill(document, template, "")
    return (_dump(document) if added else text), added


def with_missing_parts(text: str) -> tuple[str, list[str]]:
    """A project's dvc.yaml with the dependencies, outputs, metrics and plots that it lacks, and what these are."""
    document, template = _load(text), _load(dvc_text())
    added: list[str] = []
    for name, wanted in template["stages"].items():
        stage = document["stages"].setdefault(name, wanted)
        for part in ("deps", "outs", "metrics"):
            added += [f"{name}.{part}: {each}" for each in _append(stage, wanted, part)]
    added += [
        f"plots: {each if isinstance(each, str) else next(iter(each))}" for each in _append(document, template, "plots")
    ]
    return (_dump(document) if added else text), added


def _append(document: Any, template: Any, part: str) -> list[Any]:
    had = [str(each) for each in document.get(part) or []]
    lacking = [each for each in template.get(part) or [] if str(each) not in had]
    if lacking:
        document[part] = [*(document.get(part) or []), *lacking]
    return lacking


_USERS_OWN = frozenset({"prepare.source", "augment.policies", "train.space.optimizer", "train.space.loss"}) | {
    "train.space.backbone",
    "train.space.schedule",
}


def _fill(document: Any, template: Any, prefix: str) -> list[str]:
    added: list[str] = []
    for key, value in template.items():
        name = f"{prefix}{key}"
        if name in _USERS_OWN and key in document:
            continue
        if key not in document:
            document[key] = value
            added.append(name)
        elif isinstance(value, Mapping) and isinstance(document[key], Mapping):
            added += _fill(document[key], value, f"{name}.")
    return added


def _yaml() -> Any:
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def _load(text: str) -> Any:
    return _yaml().load(text)


def _dump(document: Any) -> str:
    out = io.StringIO()
    _yaml().dump(document, out)
    return out.getvalue()
