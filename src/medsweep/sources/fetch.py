"""Downloads a MedMNIST set into the project; no stage ever does."""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from medsweep.errors import DataError, MedsweepError, unknown_name
from medsweep.sources.medmnist_catalog import MEDMNIST, SIZES, MedmnistSet, file_name

_BLOCK = 1 << 20
_TIMEOUT_SECONDS = 30


def fetch(
    name: str, size: int, folder: Path, console: Console, *, catalog: Mapping[str, MedmnistSet] = MEDMNIST
) -> Path:
    """Download a set and verify its md5.

    Args:
        name: a name of `medmnist_catalog.MEDMNIST`.
        size: 28, 64, 128 or 224 pixels.
        folder: where the file goes.
        console: shows the progress.
        catalog: the sets that can be had.

    Returns:
        The file. It has its name only once it is whole and verified.

    Raises:
        MedsweepError: the name or size is unknown, there is no network, or what arrived is not the set.
    """
    row = catalog.get(name)
    if row is None:
        raise unknown_name("MedMNIST set", name, list(catalog), where="fetch")
    if size not in SIZES:
        raise unknown_name("size", str(size), [str(each) for each in SIZES], where="fetch")
    path = folder / file_name(name, size)
    if path.exists():
        if _md5(path) != row.md5[size]:
            raise DataError(
                "is already there, and its md5 is not the published one.",
                where=str(path),
                fix="Move it away and fetch again, or use it as it is.",
            )
        console.print(f"{path} is already there, and its md5 is right.", highlight=False, soft_wrap=True)
        return path
    folder.mkdir(parents=True, exist_ok=True)
    url = row.url(name, size)
    part = path.with_name(f".{path.name}.part")
    try:
        found = _download(url, part, path.name, console)
        if found != row.md5[size]:
            raise MedsweepError(
                f"what arrived from {url} has the md5 {found}, and {row.md5[size]} was published.",
                where=path.name,
                fix="It was deleted; try again later.",
            )
        part.replace(path)
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise MedsweepError(
            f"could not be downloaded from {url} ({reason or type(error).__name__}).",
            where=path.name,
            fix=f"Check the network, or download it by hand and put it at {path}.",
        ) from None
    finally:
        part.unlink(missing_ok=True)
    console.print(f"{path} is complete, and its md5 is right.", highlight=False, soft_wrap=True)
    return path


def _download(url: str, part: Path, shown: str, console: Console) -> str:
    """Write what `url` gives to `part` in blocks; return its md5."""
    digest = hashlib.md5(usedforsecurity=False)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with (
        urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as answer,
        part.open("wb") as stream,
        Progress(*columns, console=console, transient=True) as progress,
    ):
        length = int(answer.headers.get("Content-Length") or 0)
        bar = progress.add_task(shown, total=length or None)
        arrived = 0
        while block := answer.read(_BLOCK):
            stream.write(block)
            digest.update(block)
            arrived += len(block)
            progress.advance(bar, len(block))
    if length and arrived != length:
        raise http.client.HTTPException(f"the connection ended after {arrived} of {length} bytes")
    return digest.hexdigest()


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
