"""Record ids and pseudonyms come from the content alone."""

from __future__ import annotations

import numpy as np


def pseudonym_of(table, label):
    return table.patient_ids[table.labels == label].tolist()


def test_order_of_reading_and_names_of_patients_change_nothing(make_table):
    images = [(f"c{index}", index % 2, f"patient-{index // 3}", None) for index in range(30)]
    renamed = [(content, label, f"somebody-{patient}", split) for content, label, patient, split in images]
    one, two = make_table(images), make_table(renamed[::-1])
    for name in ("record_ids", "patient_ids", "labels", "contents"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))


def test_ids_are_digests_and_pseudonyms_the_smallest_of_a_patient(make_table):
    table = make_table([("a", 0, "p", None), ("b", 1, "p", None), ("c", 2, None, None)])
    ids = dict(zip(table.labels.tolist(), table.record_ids.tolist(), strict=True))
    assert all(len(each) == 16 for each in ids.values())
    assert pseudonym_of(table, 0) == pseudonym_of(table, 1) == [min(ids[0], ids[1])]
    assert pseudonym_of(table, 2) == [""]


def test_identical_files_get_numbers_in_an_order_that_reading_does_not_change(make_table):
    images = [("same", 2, None, None), ("same", 0, None, None), ("same", 1, None, None), ("other", 0, None, None)]
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]):
        table = make_table([images[index] for index in order])
        first = table.record_ids[table.labels == 1][0].removesuffix("-2")
        by_label = dict(zip(table.labels.tolist(), table.record_ids.tolist(), strict=True))
        assert by_label[1] == f"{first}-2" and by_label[2] == f"{first}-3"
        assert len(set(table.record_ids.tolist())) == 4


def test_patients_who_share_their_smallest_image_stay_two(make_table):
    images = [(f"c{index}", 0, "p", None) for index in range(4)] + [(f"c{index}", 1, "q", None) for index in range(5)]
    one, two = make_table(images), make_table(images[::-1])
    assert len(set(one.patient_ids.tolist())) == 2
    assert len(set(pseudonym_of(one, 0))) == len(set(pseudonym_of(one, 1))) == 1
    np.testing.assert_array_equal(one.patient_ids, two.patient_ids)
