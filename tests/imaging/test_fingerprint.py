"""Thumbnails and hashes hardly change where an image is saved anew, and mirrored ones follow from the hash itself."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from medsweep.imaging.fingerprint import FLIPS, SIDE, WINDOWS, flipped, hashes, thumbnail
from medsweep.imaging.similarity import similarity


@pytest.fixture(scope="module")
def image():
    rng = np.random.default_rng(5)
    smooth = cv2.GaussianBlur(rng.standard_normal((160, 200)).astype(np.float32), (0, 0), 4)
    return cv2.normalize(smooth, None, 20, 230, cv2.NORM_MINMAX).astype(np.uint8)


def differing(one, other):
    return int(np.bitwise_count(one ^ other).sum())


@pytest.mark.parametrize("flip", FLIPS)
def test_the_hash_of_a_mirrored_image_follows_from_the_hash(image, flip):
    small = thumbnail(image)
    mirrored = small[:: -1 if flip[1] else 1, :: -1 if flip[0] else 1]
    whole = flipped(hashes(small), flip)[0]
    assert differing(whole, hashes(np.ascontiguousarray(mirrored))[0]) <= 1


def test_every_window_is_the_hash_of_what_it_shows(image):
    small = thumbnail(image)
    found = hashes(small)
    for window, (top, bottom, left, right) in enumerate(WINDOWS):
        stretched = cv2.resize(small[top:bottom, left:right], (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
        assert differing(found[window], hashes(stretched)[0]) <= 6
    assert len({each.tobytes() for each in found}) == len(WINDOWS)


def test_depth_colour_and_contrast_change_no_thumbnail_much(image):
    small = thumbnail(image).astype(int)
    for other in (image.astype(np.uint16) * 16, np.repeat(image[:, :, None], 3, axis=2), image // 4 + 90):
        assert np.abs(thumbnail(other).astype(int) - small).max() <= 4


def test_a_constant_image_has_an_empty_thumbnail_and_is_like_nothing():
    small = thumbnail(np.full((30, 40), 17, np.uint8))
    assert small.shape == (SIDE, SIDE) and not small.any()
    assert similarity(small, small, window=0, flip=(False, False)) == -1.0


def test_similarity_undoes_flips_and_crops_and_tells_other_images_apart(image):
    small = thumbnail(image)
    assert similarity(small, small, window=0, flip=(False, False)) > 0.999
    copy = thumbnail(np.ascontiguousarray(image[4:-1, ::-1][:, 5:]))
    assert similarity(small, copy, window=0, flip=(True, False)) > 0.98
    assert similarity(small, copy, window=0, flip=(False, False)) == -1.0
    other = np.random.default_rng(6).integers(0, 256, (SIDE, SIDE)).astype(np.uint8)
    assert similarity(small, other, window=0, flip=(False, False)) == -1.0
