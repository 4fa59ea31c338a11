"""What is remembered of earlier files never changes what a file's steps are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest

from medsweep.imaging import dicom_steps
from medsweep.imaging.dicom_header import looks_like_dicom
from medsweep.imaging.dicom_steps import Steps, step_through

SHIPPED = Path(pydicom.__file__).parent / "data"
WANTED = (None, (0x00080018, 0x00100020, 0x00280010))


@pytest.fixture(autouse=True)
def _fresh_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom_steps, "_WALKED", {})


def files() -> list[bytes]:
    found = [path.read_bytes() for path in sorted(SHIPPED.rglob("*")) if path.is_file() and path.suffix != ".py"]
    return [data for data in found if looks_like_dicom(data[:132]) and len(data) < 200_000]


def cold(data: bytes, wanted: tuple[int, ...] | None) -> Steps | None:
    return dicom_steps._walk(data, None if wanted is None else frozenset(wanted), [])


@pytest.mark.parametrize("wanted", WANTED)
def test_a_changed_file_is_never_taken_for_the_earlier_one(wanted: tuple[int, ...] | None) -> None:
    rng = np.random.default_rng(3)
    differed = repeated = 0
    for data in files():
        steps = step_through(data, wanted)
        assert steps == cold(data, wanted)
        if steps is None:
            continue
        header = min(len(data), 4000)
        for _ in range(20):
            changed = bytearray(data)
            for place in rng.integers(128, header, rng.integers(1, 4)):
                changed[place] = rng.integers(256)
            cut = bytes(changed[: rng.integers(132, len(data))] if rng.random() < 0.2 else changed)
            found = step_through(cut, wanted)
            assert found == cold(cut, wanted)
            differed += found != steps
            repeated += found is steps
    assert differed > 200 and repeated > 50  # both are put to the test


def test_values_may_differ_and_the_steps_are_taken_over() -> None:
    data = (SHIPPED / "test_files" / "CT_small.dcm").read_bytes()
    steps = step_through(data, None)
    assert steps is not None
    _, start, end = steps.places[0x00100020]
    other = data[:start] + b"x" * (end - start) + data[end:]
    assert step_through(other, None) is steps
    # The transfer syntax is a value that decides.
    big = data.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.2\0")
    assert big != data and step_through(big, None) is None
    assert step_through(data + b"\0" * 8, None) is None


def test_what_is_remembered_is_bounded() -> None:
    data = (SHIPPED / "test_files" / "CT_small.dcm").read_bytes()
    steps = step_through(data, None)
    assert steps is not None
    _, start, _ = steps.places[0x7FE00010]
    for size in range(0, 200, 2):
        length = size.to_bytes(4, "little")
        assert step_through(data[: start - 4] + length + data[start : start + size], None) is not None
    assert len(dicom_steps._WALKED[None]) == dicom_steps._REMEMBERED
