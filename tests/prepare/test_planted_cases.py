"""Leaks planted in known numbers into chest X-rays (phantoms where they are absent): all are found, and no other."""

from __future__ import annotations

import csv
import importlib.util
import json
import shutil
from collections import defaultdict
from pathlib import Path

import cv2
import pytest

from medsweep.layout import SPLITS
from medsweep.prepare import stage

_SPEC = importlib.util.spec_from_file_location("planted", Path(__file__).with_name("planted.py"))
planted = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(planted)
N = 240
CHECKS = ("patient_overlap", "exact_duplicates", "validation_duplicates", "label_conflicts")


class Plant:
    """A study of N different images, one a patient, and what is planted into it."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "data" / "raw"
        self.folder.mkdir(parents=True)
        self.rows = []
        self.groups: dict[str, list[set[str]]] = defaultdict(list)
        for index, image in enumerate(planted.originals(N)):
            name = f"original-{index}.jpg"
            cv2.imwrite(str(self.folder / name), image)
            self.add(name, index % 2, f"patient-{index}", SPLITS[index % 3])

    def add(self, name: str, label: int, patient: str, split: str) -> None:
        self.rows.append({"path": name, "label": ("well", "sick")[label], "patient_id": patient, "split": split})

    def same_patient(self, index: int, split: str, number: int) -> None:
        """Another image of the patient, in another split: as different a picture as another patient's."""
        name = f"again-{number}.jpg"
        image = cv2.imread(str(self.folder / self.rows[N - 1 - number]["path"]), cv2.IMREAD_GRAYSCALE)
        cv2.imwrite(str(self.folder / name), cv2.rotate(image, cv2.ROTATE_90_CLOCKWISE))
        self.add(name, index % 2, f"patient-{index}", split)
        self.groups["patient_overlap"].append({self.rows[index]["path"], name})

    def copy(self, index: int, *, check: str, split: str, label: int | None = None, bytewise: bool) -> None:
        """The same image of a patient who is said to be another one: the same file, or the same pixels in a PNG."""
        source = self.folder / self.rows[index]["path"]
        target = self.folder / f"copy-of-{index}{'.jpg' if bytewise else '.png'}"
        if bytewise:
            shutil.copy(source, target)
        else:
            cv2.imwrite(str(target), cv2.imread(str(source), cv2.IMREAD_UNCHANGED))
        self.add(target.name, index % 2 if label is None else label, f"stranger-{index}", split)
        self.groups[check].append({source.name, target.name})

    def write(self) -> None:
        with (self.folder / "manifest.csv").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(self.rows[0]))
            writer.writeheader()
            writer.writerows(self.rows)


def found_in(project) -> dict[str, list[set[str]]]:
    """The groups of files that each check named."""
    groups: dict[tuple[str, str], set[str]] = defaultdict(set)
    with (project.layout.private / "findings.csv").open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            groups[row["check"], row["group"]].add(Path(row["file"]).name)
    found: dict[str, list[set[str]]] = {name: [] for name in CHECKS}
    for (check, _), names in groups.items():
        if check in found:
            found[check].append(names)
    return found


def ordered(groups: list[set[str]]) -> list[list[str]]:
    return sorted(sorted(each) for each in groups)


@pytest.fixture
def warned(project):
    project.prepare["checks"] |= dict.fromkeys(CHECKS, "warn")
    slow = ("near_duplicates", "shortcuts", "label_noise", "shift", "burned_in_text")
    project.prepare["checks"] |= dict.fromkeys(slow, "off")
    project.prepare["image"] |= {"height": 64, "width": 64}
    return project


def test_all_that_was_planted_is_found_and_nothing_else(warned):
    plant = Plant(warned.root)
    for number, index in enumerate(range(0, 21, 3)):  # of training
        plant.same_patient(index, ("val", "test")[number % 2], number)
    for number, index in enumerate(range(30, 60, 3)):
        plant.copy(index, check="exact_duplicates", split="test", bytewise=number % 2 == 0)
    for number, index in enumerate(range(60, 84, 3)):
        plant.copy(index, check="validation_duplicates", split="val", bytewise=number % 2 == 0)
    for number, index in enumerate(range(90, 108)):  # of all splits
        there = plant.rows[index]["split"]
        plant.copy(index, check="label_conflicts", split=there, label=1 - index % 2, bytewise=number % 2 == 0)
    plant.write()
    warned.prepare["source"] = {"kind": "table", "path": "data/raw"}
    stage.run(warned.params, warned.layout, warned.console)
    found = found_in(warned)
    planted_groups = {name: len(groups) for name, groups in plant.groups.items()}
    assert planted_groups == dict(zip(CHECKS, (7, 10, 8, 18), strict=True))
    for check in CHECKS:
        assert ordered(found[check]) == ordered(plant.groups[check]), check
    told = {each["check"]: each["count"] for each in json.loads(warned.layout.data_quality.read_text())["findings"]}
    assert told == planted_groups


@pytest.mark.skipif(not planted.XRAYS.is_dir(), reason="../shared/data/cxr_kermany_224 is not there")
def test_the_groups_of_identical_files_of_a_public_set_are_reported(warned):
    with (planted.XRAYS / "manifest.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    of_md5: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        of_md5[row["md5"]].add(Path(row["path"]).name)
    repeated = [row for row in rows if len(of_md5[row["md5"]]) > 1]
    # All that are repeated and some that are not, each in a split of its own: then the groups are duplicates too.
    chosen = [*repeated, *[row for row in rows if len(of_md5[row["md5"]]) == 1][::20]]
    folder = warned.root / "data" / "raw"
    folder.mkdir(parents=True)
    with (folder / "manifest.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, ["path", "label", "split"])
        writer.writeheader()
        seen: set[str] = set()
        for row in chosen:
            again = row["md5"] in seen
            seen.add(row["md5"])
            shutil.copy(planted.XRAYS / row["path"], folder / Path(row["path"]).name)
            split = "test" if again else ("train", "val")[len(seen) % 2]
            writer.writerow({"path": Path(row["path"]).name, "label": row["label"], "split": split})
    warned.prepare["source"] = {"kind": "table", "path": "data/raw"}
    stage.run(warned.params, warned.layout, warned.console)
    groups = [names for names in of_md5.values() if len(names) > 1]
    assert len(groups) == 30
    assert ordered(found_in(warned)["exact_duplicates"]) == ordered(groups)
    assert json.loads(warned.layout.data_quality.read_text())["duplicates"]["identical_files"] == 30
