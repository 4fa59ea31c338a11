from __future__ import annotations

import pickle
from itertools import islice
from math import erf
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from medsweep import params
from medsweep.errors import ParamsError
from medsweep.imaging.resize import resize
from medsweep.sources import phantom
from medsweep.sources.catalog import open_source
from medsweep.sources.phantom import PhantomSource, separation


def phantoms(**settings: Any) -> PhantomSource:
    source = params.Source.model_validate({"kind": "phantom", "path": "data/raw", **settings})
    found = open_source(source, Path("/nowhere"))
    assert isinstance(found, PhantomSource)
    return found


def test_records_name_patients_classes_and_views() -> None:
    source = phantoms(patients=5, images_per_patient=3)
    records = list(source.records())
    assert len(records) == len(source) == 15
    assert [record.frame for record in records] == list(range(15))
    assert len({record.patient_id for record in records}) == 5
    assert {record.split for record in records} == {None}
    for first in range(0, 15, 3):
        assert len({(each.patient_id, each.label) for each in records[first : first + 3]}) == 1
    assert (source.class_names, source.task, source.synthetic) == (("benign", "malignant"), "binary", True)


def test_classes_have_equal_shares_in_no_fixed_order() -> None:
    labels = [record.label for record in phantoms(patients=60, images_per_patient=1, normal=True).records()]
    assert [labels.count(each) for each in range(3)] == [20, 20, 20]
    assert len({tuple(labels[start : start + 3]) for start in range(0, 60, 3)}) > 1


def test_any_order_any_subset_and_any_process_give_the_same_bytes() -> None:
    source = phantoms(patients=6)
    records = list(source.records())
    forward = [source.read(record) for record in records]
    again = pickle.loads(pickle.dumps(source))
    for record, first in reversed(list(zip(records, forward, strict=True))):
        second = again.read(record)
        assert second.content == first.content
        np.testing.assert_array_equal(second.pixels, first.pixels)
        np.testing.assert_array_equal(second.mask, first.mask)
        assert second.columns == first.columns
    assert phantoms(patients=60).read(records[3]).content == forward[3].content
    assert len({each.content for each in forward}) == len(forward)
    assert phantoms(patients=6, seed=8).read(records[3]).content != forward[3].content


def test_a_pixel_that_another_processor_rounds_otherwise_changes_no_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    source = phantoms(patients=4)
    records = list(source.records())
    before = [source.read(record).content for record in records]
    render = phantom._render

    def rounded_otherwise(*given: Any) -> Any:
        pixels, mask = render(*given)
        return pixels ^ 1, mask

    monkeypatch.setattr(phantom, "_render", rounded_otherwise)
    assert [source.read(record).content for record in records] == before
    # Whatever else a phantom is made from does.
    for change in ({"size": 32}, {"difficulty": 0.5}, {"seed": 8}, {"normal": True}):
        assert phantoms(patients=4, **change).read(records[0]).content != before[0], change
    # More patients or views are further phantoms, not other ones.
    assert phantoms(patients=40).read(records[0]).content == before[0]


@pytest.mark.parametrize("size", [16, 64, 150])
def test_image_and_mask_have_the_size_asked_for(size: int) -> None:
    source = phantoms(patients=4, size=size, normal=True)
    for record in source.records():
        image = source.read(record)
        assert image.pixels.shape == (size, size)
        assert image.pixels.dtype == np.uint8
        assert image.largest == 255
        assert image.pixels.std() > 10
        assert image.mask is not None
        assert set(np.unique(image.mask)) <= {0, 1}
        normal = source.class_names[record.label] == "normal"
        assert image.mask.any() != normal
        assert (float(image.columns["oracle_score"]) == -1000.0) == normal


def test_lesions_lie_inside_the_image_and_are_darker_than_what_surrounds_them() -> None:
    source = phantoms(patients=60, images_per_patient=1)
    darker = 0
    for record in source.records():
        image = source.read(record)
        inside = image.mask.astype(bool)
        assert 0.01 < inside.mean() < 0.40
        assert not inside[0].any()
        assert not inside[-1].any()
        assert not inside[:, [0, -1]].any()
        rows = np.flatnonzero(inside.any(axis=1))
        around = ~inside & (np.arange(64) >= rows[0])[:, None] & (np.arange(64) <= rows[-1])[:, None]
        darker += image.pixels[inside].mean() < image.pixels[around].mean()
    assert darker >= 58


def test_malignant_lesions_are_taller_rougher_and_throw_shadows() -> None:
    source = phantoms(patients=240, images_per_patient=1, difficulty=0.2)
    found: dict[int, list[tuple[float, float, float]]] = {0: [], 1: []}
    for record in source.records():
        image = source.read(record)
        inside = image.mask.astype(bool)
        rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
        height, width = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
        below = slice(min(rows[-1] + 3, 58), min(rows[-1] + 9, 64))
        middle = columns[len(columns) // 4 : -len(columns) // 4]
        aside = np.r_[0 : max(columns[0] - 3, 4), min(columns[-1] + 4, 60) : 64]
        posterior = image.pixels[below][:, middle].mean() - image.pixels[below][:, aside].mean()
        edges = np.abs(np.diff(inside.astype(int), axis=0)).sum() + np.abs(np.diff(inside.astype(int), axis=1)).sum()
        found[record.label].append((height / width, edges / np.sqrt(inside.sum()), posterior))
    benign, malignant = (np.array(found[label]).mean(axis=0) for label in (0, 1))
    assert benign[0] < 0.95 < malignant[0]
    assert malignant[1] > benign[1] * 1.05
    assert benign[2] > 5 > -5 > malignant[2]


def test_images_of_one_patient_are_more_alike_than_those_of_two() -> None:
    source = phantoms(patients=80, images_per_patient=2, seed=3)
    means = np.array([source.read(record).pixels.mean() for record in source.records()]).reshape(80, 2)
    assert np.abs(means[:, 0] - means[:, 1]).mean() < 0.5 * np.abs(means[:-1, 0] - means[1:, 1]).mean()


def oracle(source: PhantomSource) -> float:
    every = [(record.label, float(source.read(record).columns["oracle_score"])) for record in source.records()]
    labels, scores = zip(*every, strict=True)
    return float(roc_auc_score(labels, scores))


def test_the_oracle_scores_as_theory_says_and_worse_as_difficulty_rises() -> None:
    found = []
    for difficulty in (0.0, 0.5, 1.0):
        found.append(oracle(phantoms(patients=400, images_per_patient=1, difficulty=difficulty, size=16, seed=1)))
        expected = 0.5 * (1 + erf(separation(difficulty) / 2))
        assert found[-1] == pytest.approx(expected, abs=0.05)
    assert found == sorted(found, reverse=True)


def test_pixels_of_the_default_experiment_tell_the_classes_apart_but_less_than_the_oracle() -> None:
    source = phantoms()
    size = params.Image.model_validate({"height": 28, "width": 28, "channels": 1, "fit": "pad"})
    pixels, labels, patients, scores = [], [], [], []
    for record in source.records():
        image = source.read(record)
        pixels.append(resize(image.pixels[..., None].astype(np.float32) / 255, size).ravel())
        labels.append(record.label)
        patients.append(record.patient_id)
        scores.append(float(image.columns["oracle_score"]))
    ceiling = roc_auc_score(labels, scores)
    assert 0.95 < ceiling < 0.99
    model = make_pipeline(StandardScaler(), PCA(40, random_state=0), LogisticRegression(C=0.01, max_iter=500))
    found = cross_val_predict(
        model, np.array(pixels), labels, groups=patients, cv=GroupKFold(4), method="decision_function"
    )
    assert 0.75 < roc_auc_score(labels, found) < ceiling - 0.03


def test_200_000_records_stream() -> None:
    source = phantoms(patients=100_000)
    assert len(source) == 200_000
    last = list(islice(source.records(), 5))[-1]
    assert last.frame == 4
    far = phantoms(patients=100_000).read(type(last)(last.path, 0, None, None, "phantom", 199_999))
    assert far.pixels.shape == (64, 64)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"patient": 3}, r"prepare\.source\.patient: unknown key"),
        ({"difficulty": 2.0}, r"prepare\.source\.difficulty: .*less than or equal to 1"),
        ({"size": "big"}, r"prepare\.source\.size: .*integer, not 'big'"),
        ({"patients": 1}, r"prepare\.source\.patients: .*not 1"),
    ],
)
def test_wrong_settings_are_named_by_their_dotted_path(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ParamsError, match=rf"params\.yaml: {said}"):
        phantoms(**settings)


def test_what_was_used_is_told_in_full() -> None:
    assert phantoms(size=32).settings == {
        "kind": "phantom",
        "path": "data/raw",
        "patients": 300,
        "images_per_patient": 2,
        "difficulty": 0.4,
        "size": 32,
        "seed": 7,
        "normal": False,
    }
