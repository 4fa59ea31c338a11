"""`medsweep new`: a project of one's own around one's data, under Git and DVC."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from medsweep import params as parameters
from medsweep.artifacts import files
from medsweep.errors import MedsweepError
from medsweep.project import template
from medsweep.project.code import code_text, installed
from medsweep.project.discover import Found, Place, discover
from medsweep.project.template import CODE
from medsweep.sources.dicom import DICOMDIR

_RAW = "data/raw"
# Data come into the project under a name that tells of nobody: DVC and Git keep it, and it is in every clone.
_IMAGES, _LABELS = f"{_RAW}/images", f"{_RAW}/labels.csv"
_FILES = ("params.yaml", "dvc.yaml", CODE, ".gitignore", ".dvcignore")
_DVC_CONFIG = "[core]\n    analytics = false\n    check_update = false\n"
_FIRST_COMMIT = "A medsweep project"


@dataclass(frozen=True)
class NewProject:
    """What was made.

    Args:
        root: the project.
        found: what is known of the data; None where there are none, and the project starts with phantoms.
        added: what DVC keeps now, from the root.
        committed: whether all of it is in Git's history.
        next: the commands to type next.
    """

    root: Path
    found: Found | None
    added: tuple[str, ...]
    committed: bool
    next: tuple[str, ...]


def create(
    root: Path, data: Path | None, *, labels: Path | None, in_place: bool, given: Mapping[str, Any]
) -> NewProject:
    """Make the project; nothing that exists is overwritten, and nothing is written before the data are understood.

    Args:
        root: its folder, new or without any of the files of a project.
        data: a folder, CSV, npz or DICOMDIR; None for data that lie in `root`/data/raw already, or phantoms.
        labels: a CSV outside `data`.
        in_place: leave data outside of the project where they are, unknown to DVC's cache.
        given: keys of `prepare.source` that are not to be guessed.

    Raises:
        MedsweepError: `root` is a project or lies in the data; Git or DVC is missing or fails.
        DataError, ParamsError: the data cannot be used, or need a key that was not given.
    """
    root = root.resolve()
    _refuse_existing(root)
    data = data.resolve() if data is not None else _already_there(root)
    if data is not None and data.is_file() and data.suffix.lower() == ".csv":
        # It names files beside it: the data are the folder.
        given = {"kind": "table", "file": data.name, **given}
        data = data.parent
    place, copied = _places(root, data, labels.resolve() if labels is not None else None, in_place=in_place)
    shipped = parameters.parse(_shipped(), where="params.yaml")
    found = discover(place, shipped, given) if place is not None else None
    renamed: dict[str, str] = {}
    if found is not None and place is not None and place.data in copied and place.data.is_dir():
        found, renamed = _without_the_tables_name(found, place)
    more = _watched(found, place)
    source = found.source if found is not None else {"kind": "phantom", "path": _RAW}
    texts = {
        "params.yaml": template.params_text(_experiment(root.name), source, found.image if found is not None else {}),
        "dvc.yaml": template.dvc_text(more),
        CODE: code_text(installed()),
        ".gitignore": template.text_of(".gitignore"),
        ".dvcignore": template.text_of(".dvcignore"),
    }
    (root / _RAW).mkdir(parents=True, exist_ok=True)
    own = _begin_git(root)
    _begin_dvc(root)
    for name, text in texts.items():
        # DVC's own first .dvcignore holds nothing but remarks.
        files.write_text(root / name, text)
    if not any((root / _RAW).iterdir()) and place is None:
        (root / _RAW / ".gitignore").touch()  # an empty folder is not kept by Git, and DVC watches this one
    added = _keep_data(root, place, copied, renamed)
    committed = own and _commit(root)
    then = () if committed else ("git add -A", f"git commit -m '{_FIRST_COMMIT}'")
    return NewProject(root, found, added, committed, (*((f"cd {_quoted(root)}",)), *then, "dvc repro"))


def _shipped() -> Mapping[str, Any]:
    from ruamel.yaml import YAML

    shipped: Mapping[str, Any] = YAML(typ="safe", pure=True).load(template.text_of("params.yaml"))
    return shipped


def _refuse_existing(root: Path) -> None:
    if root.is_file():
        raise MedsweepError("is a file.", where=str(root), fix="Name a new folder.")
    for name in _FILES:
        if (root / name).exists():
            raise MedsweepError(
                f"there is a {name} already, and nothing is overwritten.",
                where=str(root),
                fix="Name a new folder, or go there and edit params.yaml.",
            )
    for parent in root.parents:
        if (parent / "params.yaml").is_file() and (parent / "dvc.yaml").is_file():
            raise MedsweepError(
                f"lies inside the project {parent}.", where=str(root), fix="Name a folder outside of it."
            )


def _already_there(root: Path) -> Path | None:
    """Data that lie in data/raw: the only thing there, or all of it."""
    raw = root / _RAW
    there = [each for each in raw.iterdir() if not each.name.startswith(".")] if raw.is_dir() else []
    if not there:
        return None
    return there[0] if len(there) == 1 else raw


def _places(
    root: Path, data: Path | None, labels: Path | None, *, in_place: bool
) -> tuple[Place | None, dict[Path, str]]:
    """Where the data are and will be, and what has to be brought in."""
    if data is None:
        if labels is not None:
            raise MedsweepError("labels need images.", where="--labels", fix="Name them: --from DATA.")
        return None, {}
    if not data.exists():
        raise MedsweepError("does not exist.", where=str(data))
    if data == root or root.is_relative_to(data):
        raise MedsweepError(
            "the project would lie inside the data.", where=str(root), fix="Name a folder beside the data."
        )
    copied: dict[Path, str] = {}

    def name_of(path: Path, inside: str) -> str:
        if path.is_relative_to(root):
            return path.relative_to(root).as_posix()
        if in_place:
            return path.as_posix()
        copied[path] = inside
        return inside

    # A DICOMDIR names files beside it: what comes in is the folder.
    if data.is_file() and data.suffix.lower() != ".npz":
        folder = data.parent
        if root.is_relative_to(folder):
            raise MedsweepError(
                "the project would lie inside the data.", where=str(root), fix="Name a folder beside the data."
            )
        data_name = f"{name_of(folder, _IMAGES)}/{data.name}"
    else:
        data_name = name_of(data, _IMAGES + (".npz" if data.is_file() else ""))
    if labels is not None and not labels.is_file():
        raise MedsweepError("is no file.", where=str(labels), fix="--labels names a CSV.")
    labels_name = name_of(labels, _LABELS) if labels is not None else None
    return Place(data, data_name, labels, labels_name), copied


def _watched(found: Found | None, place: Place | None) -> list[str]:
    """What prepare depends on besides the source's path."""
    if found is None or place is None:
        return []
    path = str(found.source["path"])
    others = [str(found.source[key]) for key in ("labels", "images") if isinstance(found.source.get(key), str)]
    if place.data.name.upper() == DICOMDIR:
        others.append(place.data_name.rpartition("/")[0])
    return sorted({each for each in others if each != path and not each.startswith(f"{path}/")})


def _experiment(name: str) -> str:
    """The folder's name as an experiment may be called."""
    plain = re.sub(r"[^A-Za-z0-9 ._-]+", "-", name).lstrip(" ._-")[:100]
    return plain or "study"


# Git and DVC ----------------------------------------------------------------------------------------------------------


def _begin_git(root: Path) -> bool:
    """Whether the repository is the project's own (then its first commit may be made)."""
    if _run(root, "git", "rev-parse", "--is-inside-work-tree", check=False).returncode == 0:
        return False
    _run(root, "git", "init", "--quiet")
    return True


def _begin_dvc(root: Path) -> None:
    if (root / ".dvc").is_dir():
        return
    top = _run(root, "git", "rev-parse", "--show-toplevel").stdout.strip()
    below = [] if Path(top).resolve() == root else ["--subdir"]
    _dvc(root, "init", "--quiet", *below)
    files.write_text(root / ".dvc" / "config", _DVC_CONFIG)
    _run(root, "git", "add", ".dvc/config")


def _without_the_tables_name(found: Found, place: Place) -> tuple[Found, dict[str, str]]:
    """A CSV in a copied folder gets a usual name there: its own may name somebody, and params.yaml would have it."""
    source = dict(found.source)
    if source["kind"] == "table" and "/" not in str(source.get("file", "/")):
        before, after = f"{source['path']}/{source.pop('file')}", f"{source['path']}/manifest.csv"
    elif source["kind"] == "dicom" and str(source.get("labels")).rpartition("/")[0] == source["path"]:
        before, after = str(source["labels"]), f"{source['path']}/labels.csv"
        source["labels"] = after
    else:
        return found, {}
    if (place.data / PurePosixPath(after).name).exists():
        return found, {}
    return replace(found, source=source), {before: after}


def _keep_data(
    root: Path, place: Place | None, copied: Mapping[Path, str], renamed: Mapping[str, str]
) -> tuple[str, ...]:
    if place is None:
        return ()
    added = []
    for path, inside in copied.items():
        # `dvc add --out` would do both, and leave a second copy of each file in the cache.
        _copy(path, root / inside)
        for before, after in renamed.items():
            if before.startswith(f"{inside}/"):
                (root / before).rename(root / after)
        _dvc(root, "add", inside, shown=True)
        added.append(inside)
    for path in filter(None, (place.data, place.labels)):
        if not path.is_relative_to(root):
            continue
        pointer = path is place.data and path.is_file() and path.suffix.lower() != ".npz"
        kept = path.parent if pointer else path
        inside = kept.relative_to(root).as_posix()
        if inside not in added and not (root / f"{inside}.dvc").exists():
            _dvc(root, "add", inside, shown=True)
            added.append(inside)
    return tuple(added)


def _copy(path: Path, target: Path) -> None:
    """Copy data, links as links: what they lead to is not the project's to take."""
    try:
        if path.is_dir():
            shutil.copytree(path, target, symlinks=True)
        else:
            shutil.copyfile(path, target)
    except (OSError, shutil.Error) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else "some files cannot be read"
        raise MedsweepError(
            f"cannot be copied ({why}).",
            where=str(path),
            fix="Make room or mend it, remove the project, and try again.",
        ) from None


def _commit(root: Path) -> bool:
    _run(root, "git", "add", "--all")
    return _run(root, "git", "commit", "--quiet", "-m", _FIRST_COMMIT, check=False).returncode == 0


def _dvc(root: Path, *arguments: str, shown: bool = False) -> None:
    # The DVC of this environment, whatever is on the path. What takes long shows its progress.
    command = [sys.executable, "-m", "dvc", *arguments]
    if not shown:
        _run(root, *command)
        return
    if subprocess.run(command, cwd=root, stdout=subprocess.DEVNULL).returncode:
        raise MedsweepError(
            "DVC could not keep the data.", where=" ".join(["dvc", *arguments[:2]]), fix="It has said why above."
        )


def _run(root: Path, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    except OSError:
        raise MedsweepError(f"{command[0]} is not installed.", fix="A project needs Git.") from None
    if check and done.returncode:
        why = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise MedsweepError(f"failed: {' '.join(why)}", where=" ".join(command[-3:]))
    return done


def _quoted(path: Path) -> str:
    import shlex

    here = Path.cwd()
    return shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) else path))
