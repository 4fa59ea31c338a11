"""Which elements of a header count as identifying, and that no value is ever told."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from medsweep import params
from medsweep.imaging.decode import Decoder
from medsweep.imaging.dicom_audit import PRIVATE, UNREADABLE

LIMITS = params.Limits(megapixels=64, file_mb=256, memory_mb=768, seconds=60)
PIXELS = np.arange(20 * 24, dtype=np.uint16).reshape(20, 24)


@pytest.fixture
def audit(tmp_path, make_dicom):
    def of(change=None, **elements):
        path = make_dicom(tmp_path / "a.dcm", PIXELS, **elements)
        if change is not None:
            from pydicom import dcmread

            dataset = dcmread(path)
            change(dataset)
            dataset.save_as(path)
        return Decoder(LIMITS, "file", audit=True).decode(path).header

    return of


def test_nothing_is_audited_unless_asked_for(tmp_path, make_dicom):
    path = make_dicom(tmp_path / "a.dcm", PIXELS, PatientName="Doe^Jane")
    assert Decoder(LIMITS, "file").decode(path).header is None


def test_elements_with_a_value_count_by_keyword_in_the_order_of_their_tags(audit):
    found = audit(
        PatientName="Doe^Jane", PatientID="4711", StudyDate="20260101", StudyDescription="knee", Modality="CT"
    )
    assert found.identifying == ("StudyDate", "StudyDescription", "PatientName", "PatientID")
    assert found.burned_in == ""


def test_empty_elements_and_uids_do_not_count(audit):
    found = audit(PatientName="", PatientBirthDate="", StudyInstanceUID="1.2.3", FrameOfReferenceUID="1.2.4")
    assert found.identifying == ()


@pytest.mark.parametrize("stated", ["YES", "NO"])
def test_what_burned_in_annotation_says(audit, stated):
    assert audit(BurnedInAnnotation=stated).burned_in == stated


def test_where_identity_was_removed_dummies_do_not_count_but_what_had_to_go_does(audit):
    elements = {"PatientName": "dummy", "PatientID": "P1", "StudyDate": "19000101", "PatientAddress": "Elm Street"}
    assert audit(PatientIdentityRemoved="YES", **elements).identifying == ("PatientAddress",)
    assert "PatientName" in audit(PatientIdentityRemoved="NO", **elements).identifying


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_sequences_are_searched_in_every_encoding(audit, syntax):
    inner, outer = Dataset(), Dataset()
    inner.OperatorsName = "Doe^John"
    outer.SharedFunctionalGroupsSequence = Sequence([inner])
    found = audit(syntax=syntax, SharedFunctionalGroupsSequence=Sequence([outer]), StudyID="7")
    assert found.identifying == ("OperatorsName", "StudyID")


def test_what_lies_in_a_sequence_that_has_to_go_counts_with_it(audit):
    inner = Dataset()
    inner.ScheduledProcedureStepDescription = "knee"
    assert audit(RequestAttributesSequence=Sequence([inner])).identifying == ("RequestAttributesSequence",)


def test_private_elements_overlays_and_curves_count(audit):
    def change(dataset):
        dataset.private_block(0x0029, "A MAKER", create=True).add_new(1, "LO", "Doe^Jane")
        dataset.add_new(0x60003000, "OW", b"\1\0")
        dataset.add_new(0x50000005, "US", 1)

    found = audit(change).identifying
    assert found[-1] == PRIVATE and len(found) == 3 and "OverlayData" in found


def test_a_damaged_sequence_is_said_to_be_unread(tmp_path, make_dicom):
    path = make_dicom(tmp_path / "a.dcm", PIXELS, PatientComments="x")
    whole = path.read_bytes()
    at = whole.index(b"\x10\x00\x00\x40LT")
    # ReferencedSeriesSequence, of an item whose length is cut off.
    path.write_bytes(whole[:at] + b"\x08\x00\x15\x11SQ\0\0\x06\0\0\0\xfe\xff\x00\xe0\xff\0" + whole[at:])
    assert Decoder(LIMITS, "file", audit=True).decode(path).header.identifying == ("PatientComments", UNREADABLE)


def test_every_kind_of_action_is_in_the_table():
    from medsweep.imaging.dicom_audit import _profile

    exact, masked = _profile()
    assert len(exact) > 550 and len(masked) == 3
    # One of each column of table E.1-1: X, Z, D, Z/D, X/Z, X/D, X/Z/D; and U, which is not in it.
    for tag in (0x00104000, 0x00100010, 0x00400512, 0x00100020, 0x00080022, 0x00181030, 0x00080080):
        assert exact[tag]
    assert 0x0020000D not in exact
