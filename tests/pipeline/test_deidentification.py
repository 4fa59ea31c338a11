"""Nothing that names a person leaves the raw data: planted names, ids, dates and UIDs are looked for byte by byte.

A project is made with `medsweep new` around DICOM files of seeded persons, `dvc repro` runs to a registered version,
and then the bytes of all that medsweep and DVC wrote are searched: also as UTF-16 and UTF-32, and inside archives,
databases and pictures of pages. The same follows for a table of PNG files. `--persons 1000` is the larger form.
"""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import random
import re
import shutil
import sqlite3
import string
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML

from medsweep.params import load_yaml

ROOT = Path(__file__).resolve().parents[2]
SEED = 20261126


# What is planted ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Person:
    """Everything here would tell who somebody is."""

    family: str
    given: str
    id: str
    born: str
    accession: str
    study: str
    image: str

    @property
    def secrets(self) -> tuple[str, ...]:
        return (self.family, self.given, self.id, self.born, self.accession, self.study, self.image)


def persons(count: int) -> list[Person]:
    rng = random.Random(SEED)

    def name(length: int) -> str:
        return rng.choice(string.ascii_uppercase) + "".join(rng.choices(string.ascii_lowercase + "äöüßé", k=length))

    def digits(length: int) -> str:
        return "".join(rng.choices(string.digits, k=length))

    return [
        Person(
            family=name(9),
            given=name(7),
            id=f"MRN-{digits(7)}",
            born=f"{rng.randint(1920, 2009)}{rng.randint(1, 12):02d}{rng.randint(1, 28):02d}",
            accession=f"ACC{digits(9)}",
            study=f"1.2.826.0.1.3680043.8.498.{digits(18)}",
            image=f"1.2.826.0.1.3680043.8.498.{digits(20)}",
        )
        for _ in range(count)
    ]


def picture(number: int, ill: bool) -> np.ndarray:
    rng = np.random.default_rng(number)
    pixels = rng.normal(90, 25, (24, 24))
    if ill:
        pixels[6:15, 6:15] += 70
    return np.clip(pixels, 0, 255).astype(np.uint8)


def plant_dicom(folder: Path, people: list[Person], write: Callable[..., Path]) -> None:
    """A file a person, below folders named after them; some damaged, some of other kinds."""
    for number, person in enumerate(people):
        label = ("ill", "well")[number % 2]
        elements = {
            "PatientName": f"{person.family}^{person.given}",
            "PatientID": person.id,
            "PatientBirthDate": person.born,
            "AccessionNumber": person.accession,
            "StudyInstanceUID": person.study,
            "SOPInstanceUID": person.image,
            "InstitutionName": f"Clinic {person.family}",
            "StudyDescription": f"knee of {person.given} {person.family}",
            "OtherPatientIDs": person.id,
            "ReferringPhysicianName": person.family,
            "SpecificCharacterSet": "ISO_IR 192",
        }
        path = folder / label / f"{person.family} {person.given}" / f"{person.id}_{person.born}.dcm"
        write(path, picture(number, label == "ill"), **elements)
    first, second, third = people[:3]
    whole = next((folder / "ill").rglob("*.dcm")).read_bytes()
    (folder / "ill" / f"{first.family}_cut.dcm").write_bytes(whole[:-200])
    (folder / "well" / f"{second.family}.dcm").write_text(f"report about {second.given} {second.family}")
    (folder / f"{third.family}.dcm").write_bytes(whole)  # in no class


def plant_table(folder: Path, people: list[Person]) -> None:
    """A PNG a person, with text chunks, and a CSV that names them all."""
    from PIL.PngImagePlugin import PngInfo

    rows = []
    for number, person in enumerate(people):
        label = ("ill", "well")[number % 2]
        name = f"{person.family}/{person.id}_{person.given}.png"
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        info = PngInfo()
        info.add_text("Patient", f"{person.family} {person.born}")
        Image.fromarray(picture(number, label == "ill")).save(path, pnginfo=info)
        rows.append([name, label, person.id, person.born, person.accession, f"{person.given} {person.family}"])
    rows[0][1] = people[0].family  # a name in the wrong column
    (folder / rows[1][0]).write_bytes((folder / rows[1][0]).read_bytes()[:-40])
    with (folder / f"list of {people[0].family}.csv").open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(["path", "label", "patient_id", "born", "accession", "name"])
        writer.writerows(rows)


# How it is looked for -------------------------------------------------------------------------------------------------


class Search:
    """Finds any of many texts in bytes, in every encoding in which a program may have written them."""

    _WINDOW = 5

    def __init__(self, secrets: list[str]) -> None:
        self._patterns: dict[bytes, list[tuple[bytes, str]]] = {}
        for secret in dict.fromkeys(secrets):
            spellings = {secret, secret.lower(), secret.upper(), json.dumps(secret)[1:-1], _percent(secret)}
            for spelling in spellings:
                for encoding in ("utf-8", "latin-1", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"):
                    pattern = spelling.encode(encoding)
                    self._patterns.setdefault(pattern[: self._WINDOW], []).append((pattern, secret))
        self._keys = np.unique([self._key(each) for each in self._patterns])
        self.searched = 0

    def _key(self, window: bytes) -> int:
        return int.from_bytes(window, "little")

    def in_bytes(self, data: bytes) -> set[str]:
        self.searched += len(data)
        found: set[str] = set()
        step = 1 << 20
        for start in range(0, len(data), step):
            # Blocks overlap by a window, so that nothing is cut in two.
            block = np.frombuffer(data[start : start + step + self._WINDOW], dtype=np.uint8).astype(np.uint64)
            n = len(block) - self._WINDOW + 1
            if n <= 0:
                continue
            keys = np.zeros(n, dtype=np.uint64)
            for place in range(self._WINDOW):
                keys |= block[place : place + n] << np.uint64(8 * place)
            places = np.searchsorted(self._keys, keys)
            hits = np.flatnonzero(self._keys[np.minimum(places, len(self._keys) - 1)] == keys) + start
            for at in hits.tolist():
                for pattern, secret in self._patterns[data[at : at + self._WINDOW]]:
                    end = at + len(pattern)
                    if data[at:end] == pattern and not _in_a_digest(
                        secret, data[max(0, at - 1) : at], data[end : end + 1]
                    ):
                        found.add(secret)
        return found

    def in_file(self, path: Path) -> set[str]:
        """In a file's own bytes and name, and in what it packs."""
        found = self.in_bytes(path.name.encode())
        return found | self._inside(path.read_bytes())

    def _inside(self, data: bytes) -> set[str]:
        found = self.in_bytes(data)
        if data[:4] == b"PK\x03\x04":
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                for name in archive.namelist():
                    found |= self.in_bytes(name.encode()) | self._inside(archive.read(name))
        elif data[:16] == b"SQLite format 3\0":
            found |= self._in_database(data)
        elif data[:8] == b"\x89PNG\r\n\x1a\n":
            with Image.open(io.BytesIO(data)) as image:
                for key, value in image.info.items():
                    found |= self.in_bytes(f"{key} {value}".encode())
        for packed in re.findall(rb"data:[\w/+.-]+;base64,([A-Za-z0-9+/=]+)", data):
            found |= self._inside(base64.b64decode(packed))
        return found

    def _in_database(self, data: bytes) -> set[str]:
        """Values that are too long for a page lie in pieces in the file's own bytes."""
        found: set[str] = set()
        with closing(sqlite3.connect(":memory:")) as database:
            database.deserialize(data)
            for line in database.iterdump():
                found |= self.in_bytes(line.encode())
        return found


def _in_a_digest(secret: str, before: bytes, after: bytes) -> bool:
    """Eight digits of a date turn up in long hexadecimal digests by chance."""
    hexadecimal = b"0123456789abcdef"
    return secret.isdigit() and bool(before) and bool(after) and before in hexadecimal and after in hexadecimal


def _percent(text: str) -> str:
    from urllib.parse import quote

    return quote(text)


def test_the_search_finds_what_is_there_in_every_form(tmp_path: Path) -> None:
    [person] = persons(1)
    search = Search(list(person.secrets))
    (tmp_path / "a.npz").touch()
    np.savez_compressed(tmp_path / "a.npz", names=np.array([person.family]))
    with closing(sqlite3.connect(tmp_path / "a.db")) as database:
        database.execute("create table t (x)")
        database.execute("insert into t values (?)", ("·" * 9000 + person.given + "·" * 9000,))
        database.commit()
    png = io.BytesIO()
    Image.fromarray(picture(1, True)).save(png, "PNG")
    (tmp_path / "page.html").write_text(f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}")
    (tmp_path / "page16.txt").write_bytes(f"x{person.id}".encode("utf-16-le"))
    (tmp_path / "page.json").write_text(json.dumps({"name": person.family}))
    (tmp_path / f"{person.accession}.txt").touch()
    (tmp_path / "digest.txt").write_text(f"a{person.born}f")
    assert search.in_file(tmp_path / "a.npz") == {person.family}
    assert search.in_file(tmp_path / "a.db") == {person.given}
    assert search.in_file(tmp_path / "page16.txt") == {person.id}
    assert search.in_file(tmp_path / "page.json") == {person.family}
    assert search.in_file(tmp_path / f"{person.accession}.txt") == {person.accession}
    assert search.in_file(tmp_path / "page.html") == search.in_file(tmp_path / "digest.txt") == set()
    assert search.in_bytes(f"born {person.born}.".encode()) == {person.born}
    # At the edge of two blocks.
    assert search.in_bytes(b"." * ((1 << 20) - 3) + person.study.encode()) == {person.study}


# The run --------------------------------------------------------------------------------------------------------------


class Run:
    """A project of its own, and the commands as they are typed there."""

    def __init__(self, home: Path) -> None:
        self.root = home / "study"
        self.home = home
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "DVC_", "GIT_"))},
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": str(ROOT / "src"),
            "HOME": str(home),
            "DVC_SITE_CACHE_DIR": str(home / "site"),
            "DVC_NO_ANALYTICS": "1",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_AUTHOR_NAME": "A. Tester",
            "GIT_AUTHOR_EMAIL": "a@example.org",
            "GIT_COMMITTER_NAME": "A. Tester",
            "GIT_COMMITTER_EMAIL": "a@example.org",
        }

    def __call__(self, *command: str, below: Path | None = None) -> str:
        done = subprocess.run(
            command, cwd=below or self.root, env=self._environment, capture_output=True, text=True, timeout=900
        )
        assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def reduce(self) -> None:
        """The smallest search that still goes all the way."""
        path = self.root / "params.yaml"
        found = load_yaml(path)
        found["runtime"]["workers"] = 1
        found["prepare"]["image"] |= {"height": 16, "width": 16}
        found["prepare"]["checks"] |= {"unreadable": "warn", "unknown_labels": "warn", "min_images_per_class": 2}
        found["augment"] |= {"views": 1, "policies": {"geometric": {"horizontal_flip": {"probability": 0.5}}}}
        found["train"]["search"] |= {
            "trials": 2,
            "generation": 2,
            "min_epochs": 1,
            "max_epochs": 1,
            "startup_trials": 1,
            "keep_checkpoints": 1,
        }
        found["train"]["space"] |= {
            "optimizer": {"adam": {"learning_rate": 0.003}},
            "loss": {"categorical_crossentropy": {"label_smoothing": 0.0}},
            "backbone": {"tutorial": {"dropout": 0.0}},
            "schedule": {"constant": {}},
            "policy": ["none", "geometric"],
            "views": 1,
        }
        found["evaluate"]["bootstrap"]["samples"] = 100
        with path.open("w") as stream:
            YAML().dump(found, stream)

    def searched(self) -> Iterator[Path]:
        """All that a run wrote, apart from the raw data, what DVC keeps of them, and what never leaves the clone."""
        raw = self._raw_in_cache()
        for path in sorted(self.root.rglob("*")):
            inside = path.relative_to(self.root)
            if not path.is_file() or path.is_symlink() or inside.parts[0] == ".git":
                continue
            if inside.parts[:2] in (("data", "raw"), (".medsweep", "private")) and path.suffix != ".dvc":
                continue
            if inside.parts[:3] == (".dvc", "cache", "files") and "".join(inside.parts[-2:]) in raw:
                continue
            yield path

    def _raw_in_cache(self) -> set[str]:
        raw: set[str] = set()
        for pointer in (self.root / "data" / "raw").glob("*.dvc"):
            for out in load_yaml(pointer)["outs"]:
                digest = str(out["md5"])
                raw.add(digest)
                listing = self.root / ".dvc" / "cache" / "files" / "md5" / digest[:2] / digest[2:]
                if digest.endswith(".dir"):
                    raw |= {each["md5"] for each in json.loads(listing.read_text())}
        return raw

    def leaks(self, search: Search) -> Mapping[str, set[str]]:
        found = {path.relative_to(self.root).as_posix(): search.in_file(path) for path in self.searched()}
        return {name: secrets for name, secrets in found.items() if secrets}


@pytest.fixture(scope="module")
def people(request: pytest.FixtureRequest) -> list[Person]:
    return persons(request.config.getoption("--persons"))


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory, people: list[Person], make_dicom: Callable[..., Path]) -> Run:
    """DICOM files of all persons, from `medsweep new` to a registered version."""
    home = tmp_path_factory.mktemp("scans")
    data = home / f"scans of {people[0].family}"
    plant_dicom(data, people, make_dicom)
    run = Run(home)
    run("medsweep", "new", "study", "--from", str(data), below=home)
    run.reduce()
    run("git", "commit", "-qam", "A small search")
    run("dvc", "repro")
    return run


def test_a_project_around_dicom_runs_to_a_registered_version(scans: Run, people: list[Person]) -> None:
    assert (scans.root / "reports" / "metrics.json").is_file()
    [version] = json.loads(scans("medsweep", "history", "--json"))
    assert version["aliases"] == ["candidate"]
    assert "Data and pipelines are up to date." in scans("dvc", "repro")
    quality = json.loads((scans.root / "reports" / "data_quality.json").read_text())
    assert quality["patients"]["count"] == len(people)
    images = quality["images"]
    assert (images["unreadable"], images["unknown_label"]) == (2, 1)
    assert images["listed"] == images["prepared"] + images["unreadable"] + images["unknown_label"]
    assert scans("git", "status", "--porcelain").split() == ["??", "dvc.lock"]


def test_nothing_of_a_person_is_in_what_dicom_files_became(scans: Run, people: list[Person]) -> None:
    secrets = [secret for person in people for secret in person.secrets]
    assert len(set(secrets)) >= 1000
    search = Search(secrets)
    # What is looked through, and that it would be found: the private map has it.
    looked = {path.relative_to(scans.root).parts[0] for path in scans.searched()}
    assert looked >= {"mlflow.db", "mlartifacts", "data", "models", "reports", ".dvc", "dvc.lock", "params.yaml"}
    assert len(search.in_file(scans.root / ".medsweep" / "private" / "records.csv")) >= len(people)
    assert scans.leaks(search) == {}
    assert search.searched > 1_000_000


def test_the_private_folder_is_neither_gits_nor_dvcs(scans: Run) -> None:
    assert scans("git", "check-ignore", ".medsweep/private/records.csv").strip() == ".medsweep/private/records.csv"
    assert ".medsweep" in (scans.root / ".dvcignore").read_text().split()


def test_nothing_of_a_person_is_in_what_a_table_became(
    scans: Run, people: list[Person], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """The other source's own part, in the same project; with `--persons 1000` up to a registered version too."""
    data = tmp_path / f"table of {people[1].family}"
    plant_table(data, people)
    large = request.config.getoption("--persons") >= 1000
    run = Run(tmp_path)
    run(
        "medsweep", "new", "study", "--from", str(data), "-S", "classes=[ill, well]", "-S", "columns=[]", below=tmp_path
    )
    run.reduce()
    run("dvc", "repro", *([] if large else ["prepare"]))
    search = Search([secret for person in people for secret in person.secrets])
    assert run.leaks(search) == {}
    quality = json.loads((run.root / "reports" / "data_quality.json").read_text())
    images = quality["images"]
    assert (images["unknown_label"], images["unreadable"]) == (1, 1) and images["listed"] == len(people)


def test_a_source_named_after_a_person_is_not_named(scans: Run, people: list[Person]) -> None:
    """What its user wrote stays in params.yaml, and in what DVC copies from there."""
    [begin] = [
        event
        for event in map(json.loads, (scans.root / "models" / "run_log.jsonl").read_text().splitlines())
        if event["event"] == "begin"
    ]
    assert begin["params"]["prepare.source.path"] == "data/raw/…"
    family = people[2].family
    named = scans.root / "data" / "raw" / family
    shutil.copytree(scans.root / "data" / "raw" / "images", named)
    path = scans.root / "params.yaml"
    before = path.read_bytes()
    found = load_yaml(path)
    found["prepare"]["source"]["path"] = f"data/raw/{family}"
    with path.open("w") as stream:
        YAML().dump(found, stream)
    try:
        scans("dvc", "repro", "prepare")
        leaks = scans.leaks(Search([family]))
        # DVC's run cache has what dvc.lock has; its list of the raw files, the names of these.
        written = {"params.yaml", "dvc.lock"}
        assert {name for name in leaks if not re.match(r"\.dvc/cache/(runs/|\w\w/\w{30}\.dir$)", name)} == written
    finally:
        path.write_bytes(before)
        shutil.rmtree(named)
