"""What `medsweep compare` takes for a model: a version, an alias, a path, or a Git revision."""

from __future__ import annotations

import configparser
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medsweep.artifacts.predicted import PredictedSplit
from medsweep.errors import DataError, MedsweepError, ParamsError, StoreError
from medsweep.layout import Layout
from medsweep.params import load_yaml
from medsweep.tracking.evaluations import Evaluations

WORKSPACE = "workspace"


@dataclass(frozen=True)
class Side:
    """One of two models.

    Args:
        name: as a person reads it: 'version 3 (candidate)'.
        predicted: what it said about the test images.
    """

    name: str
    predicted: PredictedSplit


def find(address: str, layout: Layout, experiment: str, folder: Path) -> Side:
    """The model that an address names.

    An address is, in this order: `workspace` (what the project holds now); a registry version's number; a path to a
    predictions.csv or to a folder with one; an alias of the registered model; a Git revision or one of DVC's
    experiments, whose predictions.csv is taken from DVC's cache.

    Args:
        address: as it was typed.
        layout: the project.
        experiment: the registered model.
        folder: for downloads.

    Raises:
        ParamsError: it names nothing.
        StoreError: the version has no predictions, or the store is away.
        DataError: the revision's predictions are not in DVC's cache.
        ArtifactError: a file is damaged.
    """
    if address == WORKSPACE:
        return Side("the workspace", PredictedSplit.load(layout.predictions))
    if address.isdigit():
        return _registered(address, layout, experiment, folder)
    path = Path(address)
    if path.is_dir():
        return Side(address, PredictedSplit.load(path / layout.predictions.name))
    if path.is_file():
        return Side(address, PredictedSplit.load(path))
    try:
        return _registered(address, layout, experiment, folder)
    except UnknownVersionError:
        pass
    found = _at_revision(address, layout, folder)
    if found is None:
        raise ParamsError(
            f"'{address}' is no version, alias, path, Git revision or experiment.",
            where="compare",
            fix="medsweep history lists versions and aliases; 'workspace' is what the project holds now.",
        )
    return Side(address, found)


def needs_store(address: str) -> bool:
    """Whether an address may name something in the registry."""
    return address != WORKSPACE and not Path(address).exists()


class UnknownVersionError(StoreError):
    """The registry has nothing of that name."""


def _registered(address: str, layout: Layout, experiment: str, folder: Path) -> Side:
    store = Evaluations(layout, experiment)
    versions = store.versions()
    chosen = [each for each in versions if str(each.version) == address or address in each.aliases]
    if not chosen:
        there = ", ".join(str(each.version) for each in versions)
        raise UnknownVersionError(
            f"'{experiment}' has no version {address}.",
            where="compare",
            fix=f"Choose from: {there}." if there else "It has no version yet: dvc repro, then medsweep publish.",
        )
    path = store.download(chosen[0], folder)
    if path is None:
        raise StoreError(
            f"version {chosen[0].version} of '{experiment}' has no predictions in the store.",
            where="compare",
            fix="They are logged by 'medsweep publish' while the workspace holds that evaluation.",
        )
    return Side(version_name(chosen[0].version, chosen[0].aliases), PredictedSplit.load(path))


def version_name(number: int, aliases: tuple[str, ...]) -> str:
    """'version 3 (candidate, staging)'."""
    return f"version {number}" + (f" ({', '.join(aliases)})" if aliases else "")


def _at_revision(revision: str, layout: Layout, folder: Path) -> PredictedSplit | None:
    """The predictions that dvc.lock names at a revision; None where Git knows no such revision with a dvc.lock."""
    lock = folder / "dvc.lock"
    name = layout.relative(layout.dvc_lock)
    refs = (_git(layout, "for-each-ref", "--format=%(refname)", "refs/exps") or b"").decode().split()
    # DVC keeps an experiment below refs/exps, by the commit that it started from and its name.
    experiments = [each for each in refs if each.startswith("refs/exps/") and each.endswith(f"/{revision}")]
    found = None
    for each in (revision, *experiments):
        found = found or _git(layout, "show", "--end-of-options", f"{each}:./{name}")
    if found is None:
        return None
    lock.write_bytes(found)
    recorded = _recorded(lock)
    target = folder / "revision"
    target.mkdir(exist_ok=True)
    for wanted in (layout.predictions, layout.evaluation):
        name = layout.relative(wanted)
        digest = recorded.get(name)
        cached = None if digest is None else _cache(layout) / "files" / "md5" / digest[:2] / digest[2:]
        if cached is not None and cached.is_file():
            (target / wanted.name).write_bytes(cached.read_bytes())
        elif wanted == layout.predictions:
            raise DataError(
                f"{name} of revision {revision} is not in DVC's cache."
                if digest
                else f"dvc.lock of revision {revision} names no {name}.",
                where="compare",
                fix="dvc fetch --all-commits brings it from the remote." if digest else "Run dvc repro there first.",
            )
    return PredictedSplit.load(target / layout.predictions.name)


def _git(layout: Layout, *arguments: str) -> bytes | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=layout.root, capture_output=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    return None if done.returncode else done.stdout


def _recorded(lock: Path) -> dict[str, str]:
    try:
        stages: Any = load_yaml(lock).get("stages") or {}
    except MedsweepError:
        return {}
    outs = [each for stage in stages.values() for each in stage.get("outs") or []]
    return {str(each["path"]): str(each["md5"]) for each in outs if "md5" in each}


def _cache(layout: Layout) -> Path:
    """DVC's cache: where its configuration says, relative to the configuration's folder, else .dvc/cache."""
    found = layout.home / ".dvc" / "cache"
    for name in ("config", "config.local"):
        config = configparser.ConfigParser(interpolation=None, strict=False)
        try:
            config.read(layout.home / ".dvc" / name, encoding="utf-8")
        except configparser.Error:
            continue
        given = config.get("cache", "dir", fallback=None)
        if given:
            found = (layout.home / ".dvc" / given).resolve()
    return found
