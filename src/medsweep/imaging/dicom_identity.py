"""Whose image a DICOM file is and what it belongs to, from the beginning of its header.

A source needs this of every file before any is decoded. pydicom takes several milliseconds for a header, which for
100 000 files is the better part of ten minutes; so the usual files are stepped through, and pydicom answers for all
others.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from medsweep.errors import DataError
from medsweep.imaging.dicom_header import HEADER_BYTES, looks_like_dicom, parse
from medsweep.imaging.dicom_steps import step_through

_FIRST_BYTES, _MORE_BYTES = 1 << 14, 1 << 20
_INSTANCE, _PATIENT, _STUDY, _SERIES = 0x00080018, 0x00100020, 0x0020000D, 0x0020000E
_FRAMES, _ROWS = 0x00280008, 0x00280010
_ALWAYS = (_INSTANCE, _PATIENT, _STUDY, _SERIES, _FRAMES, _ROWS)


@dataclass(frozen=True, slots=True)
class Identity:
    """What a header says of its file; an empty string where it says nothing.

    Args:
        instance, series, study: UIDs.
        patient: PatientID.
        frames: how many images it holds, 0 where it holds none.
        values: the further elements that were asked for, by tag.
    """

    instance: str
    series: str
    study: str
    patient: str
    frames: int
    values: Mapping[int, str]


def identify(path: Path, tags: Collection[int] = ()) -> Identity:
    """Read a file's identity.

    Args:
        path: a DICOM file.
        tags: further elements to read; text and coded strings only.

    Raises:
        DataError: the file cannot be read, is no DICOM file, or its header is damaged.
        MedsweepError: the extra `dicom` is not installed.
    """
    try:
        if path.exists() and not path.is_file():
            raise DataError("is not a file.", where=str(path))
        with path.open("rb") as stream:
            data = stream.read(_FIRST_BYTES)
            if not looks_like_dicom(data[:132]):
                raise DataError("is not a DICOM file.", where=str(path))
            found = _stepped(data, frozenset((*_ALWAYS, *tags)))
            if found is None:
                # A long header, or an unusual one.
                data += stream.read(HEADER_BYTES)
                found = _stepped(data[:_MORE_BYTES], frozenset((*_ALWAYS, *tags))) or _parsed(data, tags, path)
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror or error}).", where=str(path)) from None
    frames = found.get(_FRAMES, "")
    return Identity(
        instance=found.get(_INSTANCE, ""),
        series=found.get(_SERIES, ""),
        study=found.get(_STUDY, ""),
        patient=found.get(_PATIENT, ""),
        # A number of frames that is none is found out, and said, when the file is decoded.
        frames=0 if _ROWS not in found else int(frames) if frames.isascii() and frames.isdigit() else 1,
        values={tag: found.get(tag, "") for tag in tags},
    )


def _stepped(data: bytes, wanted: frozenset[int]) -> dict[int, str] | None:
    """The values of `wanted`, or None where the file is not of the simple kind, or a value not in ASCII."""
    steps = step_through(data, wanted)
    if steps is None:
        return None
    found: dict[int, str] = {}
    for tag, (_, start, end) in steps.places.items():
        value = data[start:end]
        if not value.isascii():
            return None
        # Rows is binary; that it is there is all that counts.
        found[tag] = "" if tag == _ROWS else value.decode("ascii").strip(" \0")
    return found


def _parsed(data: bytes, tags: Collection[int], path: Path) -> dict[int, str]:
    dataset = parse(data, name=str(path), largest=HEADER_BYTES, pixels=False)
    found: dict[int, str] = {}
    for tag in (*_ALWAYS, *tags):
        if tag not in dataset:
            continue
        try:
            value = dataset[tag].value
        except Exception as error:  # pydicom raises nearly anything where a value is damaged
            raise DataError(f"is a damaged DICOM file ({type(error).__name__}).", where=str(path)) from None
        several = isinstance(value, list | tuple) or type(value).__name__ == "MultiValue"
        found[tag] = ("\\".join(map(str, value)) if several else str("" if value is None else value)).strip(" \0")
    return found
