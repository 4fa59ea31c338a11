"""The search for near-duplicates: how long 100 000 hashes take, and with --images how many planted copies are found.

Without images, the thumbnails are smooth noise around one common picture, so that their hashes are as alike as those of
chest X-rays (the table shows how many images share a band), and one in a hundred is a copy of another.

Example: python bench/near_duplicates.py --hashes 100000
         python bench/near_duplicates.py --images data/raw/chest
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from medsweep.imaging.fingerprint import FLIPS, SIDE, hashes, thumbnail
from medsweep.imaging.similarity import similarity
from medsweep.params import load
from medsweep.prepare.checks.hash_search import Candidates, candidates
from project import REPOSITORY, peak_memory, show, write_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hashes", type=int, default=100_000)
    parser.add_argument("--images", type=Path, help="a folder with images: measure recall and false pairs on them")
    parser.add_argument("--copies", type=int, default=500, help="how many of the images are copied in each way")
    parser.add_argument("--size", type=int, help="shrink the images to this size first")
    parser.add_argument("--json", type=Path, help="write all measurements here")
    given = parser.parse_args()
    write_json(given.json, of_images(given) if given.images else of_hashes(given.hashes))


def of_hashes(n: int) -> dict[str, Any]:
    """Seconds and memory of the search alone."""
    rng = np.random.default_rng(7)
    common = smooth(rng)
    made = np.empty((n, 7, 2), dtype=np.uint64)
    small = np.empty((SIDE, SIDE), dtype=np.uint8)
    for index in range(n):
        if index % 100 == 1:  # a copy of the one before, with a little noise
            small = np.clip(small + rng.normal(0, 3, small.shape), 0, 255).astype(np.uint8)
        else:
            small = thumbnail(cv2.normalize(common + 1.5 * smooth(rng), None, 0, 255, cv2.NORM_MINMAX).astype("u1"))
        made[index] = hashes(small)
    planted = np.arange(1, n, 100)
    before = peak_memory()
    started = time.perf_counter()
    pairs = candidates(made)
    seconds = time.perf_counter() - started
    found = np.isin(planted, pairs.second[pairs.first == pairs.second - 1]).mean()
    bands = made[:, 0].copy().view(np.uint16)
    sharing = np.mean([(np.bincount(each, minlength=1 << 16) ** 2).sum() / n for each in bands.T])
    row = {
        "hashes": n,
        "seconds": seconds,
        "candidates": len(pairs),
        "found": float(found),
        "sharing": float(sharing),
        "more_mb": peak_memory() - before,
    }
    columns = ["hashes", "seconds", "share a band with", "candidate pairs", "planted pairs found", "memory, MB"]
    cells = [str(n), f"{seconds:.1f}", f"{sharing:.1f}", str(len(pairs)), f"{found:.1%}", f"{row['more_mb']:.0f}"]
    show("search for hashes that differ in few bits", columns, [cells])
    return row


def smooth(rng: np.random.Generator) -> np.ndarray:
    """Noise of two scales."""
    coarse = [rng.standard_normal((waves, waves)).astype(np.float32) for waves in (8, 16)]
    return np.sum([cv2.resize(each, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC) for each in coarse], axis=0)


def of_images(given: argparse.Namespace) -> list[dict[str, Any]]:
    """Recall for each way to copy, and the pairs of originals that are taken for one."""
    spec = importlib.util.spec_from_file_location("planted", REPOSITORY / "tests" / "prepare" / "planted.py")
    assert spec and spec.loader
    planted = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(planted)
    least = load(REPOSITORY / "params.yaml").prepare.checks.near_duplicate_similarity
    paths = sorted(each for each in given.images.rglob("*") if each.suffix.lower() in (".png", ".jpg", ".jpeg"))
    images = [cv2.imread(str(each), cv2.IMREAD_GRAYSCALE) for each in paths]
    if given.size:
        images = [cv2.resize(each, (given.size, given.size), interpolation=cv2.INTER_AREA) for each in images]
    small = np.stack([thumbnail(each) for each in images])
    made = np.stack([hashes(each) for each in small])
    started = time.perf_counter()
    pairs = candidates(made)
    alike = np.array([compared(small, pairs, index) for index in range(len(pairs))])
    seconds = time.perf_counter() - started
    content = np.array([each.read_bytes() for each in paths], dtype=object)
    different = content[pairs.first] != content[pairs.second]
    print(f"{len(paths)} images: {len(pairs)} candidate pairs in {seconds:.1f} s with their comparison;")
    print(f"{int((alike[~different] >= least).sum())} of {int((~different).sum())} pairs of identical files found;")
    print(f"{int((alike[different] >= least).sum())} other pairs reach {least}; the highest:")
    for index in np.argsort(-np.where(different, alike, -1))[:5].tolist():
        print(f"  {alike[index]:.3f} {paths[pairs.first[index]].name} {paths[pairs.second[index]].name}")
    rng = np.random.default_rng(7)
    chosen = rng.choice(len(images), min(given.copies, len(images)), replace=False)
    rows = []
    for name, change in planted.CHANGES.items():
        copies = np.stack([thumbnail(change(images[index], rng)) for index in chosen])
        both = np.concatenate([small[chosen], copies])
        pairs = candidates(np.concatenate([made[chosen], np.stack([hashes(each) for each in copies])]))
        right = np.flatnonzero(pairs.second == pairs.first + len(chosen))
        reached = np.array([compared(both, pairs, index) for index in right])
        rows.append(
            {
                "copies": name,
                "candidates": len(right) / len(chosen),
                "found": int((reached >= least).sum()) / len(chosen),
            }
        )
    cells = [[each["copies"], f"{each['candidates']:.1%}", f"{each['found']:.1%}"] for each in rows]
    show(f"{len(chosen)} copies of each kind", ["copies", "candidates", "found"], cells)
    return rows


def compared(small: np.ndarray, pairs: Candidates, index: int) -> float:
    one, other = int(pairs.first[index]), int(pairs.second[index])
    if pairs.swapped[index]:
        one, other = other, one
    return similarity(small[one], small[other], window=int(pairs.window[index]), flip=FLIPS[int(pairs.flip[index])])


if __name__ == "__main__":
    main()
