"""Copies that were planted are found, different images are not taken for one, and nothing is compared with each."""

from __future__ import annotations

import importlib.util
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from medsweep.imaging.fingerprint import hashes, thumbnail
from medsweep.layout import SPLITS
from medsweep.params import Checks, load_yaml
from medsweep.prepare import stage
from medsweep.prepare.checks.finding import Examined
from medsweep.prepare.checks.hash_search import candidates
from medsweep.prepare.checks.near_duplicates import find_alike, near_duplicates
from medsweep.prepare.spool import PixelSpool

ROOT = Path(__file__).parents[2]
_SPEC = importlib.util.spec_from_file_location("planted", Path(__file__).with_name("planted.py"))
planted = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(planted)
N = 250


@pytest.fixture(scope="module")
def originals():
    return planted.originals(N)


@pytest.fixture
def find(make_table, tmp_path):
    """Runs the check on images, each with its label and split."""
    with closing(PixelSpool(tmp_path, (64, 64), np.dtype(np.uint8))) as spool:

        def run(images, labels, splits):
            small = np.stack([thumbnail(each) for each in images])
            spool.append(small)
            rows = [
                (index, label, None, split) for index, (label, split) in enumerate(zip(labels, splits, strict=True))
            ]
            table = make_table(rows)
            found = replace(table, hashes=np.stack([hashes(small[row]) for row in table.rows]))
            settings = Checks.model_validate(load_yaml(ROOT / "params.yaml")["prepare"]["checks"])
            alike = find_alike(found, spool, settings.near_duplicate_similarity)
            return near_duplicates(Examined(found, ("no", "yes"), (), (), (), settings, spool, None, alike)), found

        yield run


@pytest.mark.parametrize("change", list(planted.CHANGES))
def test_copies_are_found_and_different_images_are_not_taken_for_one(change, originals, find):
    rng = np.random.default_rng(len(change))
    copies = [planted.CHANGES[change](each, rng) for each in originals]
    (finding,), table = find([*originals, *copies], [0] * 2 * N, ["train"] * N + ["test"] * N)
    numbers = table.rows[finding.rows]
    together = [set(numbers[finding.groups == group].tolist()) for group in np.unique(finding.groups)]
    right = sum(group == {min(group), min(group) + N} for group in together)
    assert right >= 0.95 * N
    assert len(together) - right <= 2 * N / 1000
    assert finding.alarm and finding.figures["groups_with_test"] == len(together)


def test_copies_within_a_split_are_counted_and_no_alarm(originals, find):
    rng = np.random.default_rng(3)
    copies = [planted.everything(each, rng) for each in originals[:8]]
    (finding,), _ = find([*originals[:40], *copies], [0] * 40 + [1] * 8, ["train"] * 40 + ["train"] * 8)
    assert not finding.alarm
    assert finding.figures["groups_within_a_split"] == 8 == finding.figures["groups_with_different_labels"]
    assert "8 further groups (16 images; in 8 of all the labels differ)" in finding.message


def test_different_images_give_no_finding(originals, find):
    (finding,), _ = find(originals, [0] * N, [SPLITS[index % 3] for index in range(N)])
    assert not finding.alarm and finding.message == "No two images are near-identical."


def test_the_search_finds_what_comparing_all_pairs_finds():
    rng = np.random.default_rng(1)
    found = rng.integers(0, 2**64, (300, 7, 2), dtype=np.uint64)
    for index in range(0, 40):  # seven bits at most: then a band is always shared
        found[300 - 1 - index, :, :] = found[index, 0]
        for bit in rng.choice(128, index % 8, replace=False):
            found[300 - 1 - index, :, bit // 64] ^= np.uint64(1) << np.uint64(bit % 64)
    pairs = candidates(found, most_bits=7)
    assert {(int(a), int(b)) for a, b in zip(pairs.first, pairs.second, strict=True)} == {
        (index, 299 - index) for index in range(40)
    }
    assert sorted(pairs.bits.tolist()) == sorted(index % 8 for index in range(40))


def test_very_many_alike_do_not_take_quadratic_work():
    rng = np.random.default_rng(2)
    found = np.repeat(rng.integers(0, 2**64, (1, 1, 2), dtype=np.uint64), 1000, axis=0)
    found[:, 0, 1] ^= np.uint64(1) << rng.integers(0, 8, 1000).astype(np.uint64)
    pairs = candidates(found)
    assert 1000 <= len(pairs) < 1000 * 1000 / 10
    assert len(np.unique(np.concatenate([pairs.first, pairs.second]))) == 1000


def test_the_stage_warns_lists_the_files_and_shows_the_pair(project, originals):
    for index, each in enumerate(originals[:60]):
        path = project.root / "data/raw" / SPLITS[index % 3] / "ab"[index // 3 % 2] / f"secret-{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), each)
    copy = planted.everything(originals[0], np.random.default_rng(0))
    cv2.imwrite(str(project.root / "data/raw/test/b/secret-copy.jpg"), copy)
    summary = stage.run(project.params, project.layout, project.console)
    assert any(each.startswith("1 group of near-identical images lies in more") for each in summary.warnings)
    assert "secret-0.png" in project.output.getvalue() and "secret-copy.jpg" in project.output.getvalue()
    assert "two images of each side by side" in project.layout.data_quality_page.read_text()
    listed = (project.layout.private / "findings.csv").read_text()
    assert "near_duplicates" in listed and "secret-copy.jpg" in listed
    assert not any(b"secret" in content for content in project.outputs().values())


def test_copies_stay_together_where_the_splits_are_carved(project, originals):
    rng = np.random.default_rng(5)
    for index, each in enumerate(originals[:60]):
        for name, picture in (("first", each), ("again", planted.mirrored(each, rng))):
            path = project.root / "data/raw" / "ab"[index % 2] / f"{name}-{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), picture)
    summary = stage.run(project.params, project.layout, project.console)
    assert {each.name: each.images % 2 for each in summary.splits} == dict.fromkeys(SPLITS, 0)
    assert any("within splits there are 60 further groups (120 images)" in each for each in summary.notes)
    assert not any("near-identical" in each for each in summary.warnings)
