"""Files damaged at random, from a seed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

Mutate = Callable[[bytes, np.random.Generator], bytes]
# What lengths, counts and sizes are made of when they are wrong.
_NUMBERS = (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\xff\xff", b"\0\0", b"\xff\xff\xff\x7f", b"\0\x01")


def _flip_bits(data: bytearray, rng: np.random.Generator, region: int) -> bytearray:
    for place in rng.integers(0, region, rng.integers(1, 5)):
        data[place] ^= 1 << int(rng.integers(8))
    return data


def _overwrite(data: bytearray, rng: np.random.Generator, region: int) -> bytearray:
    for place in rng.integers(0, region, rng.integers(1, 5)):
        data[place] = rng.integers(256)
    return data


def _put_number(data: bytearray, rng: np.random.Generator, region: int) -> bytearray:
    number = _NUMBERS[rng.integers(len(_NUMBERS))]
    place = int(rng.integers(region))
    data[place : place + len(number)] = number
    return data


def _cut_off(data: bytearray, rng: np.random.Generator, region: int) -> bytearray:
    return data[: rng.integers(len(data))]


def _cut_out(data: bytearray, rng: np.random.Generator, region: int) -> bytearray:
    place = int(rng.integers(region))
    del data[place : place + int(rng.integers(1, 65))]
    return data


def _repeat(data: bytearray, rng: np.random.Generator, region: int) -> bytearray:
    place, length = int(rng.integers(region)), int(rng.integers(1, 65))
    data[place:place] = data[place : place + length]
    return data


def _scramble(data: bytearray, rng: np.random.Generator, region: int) -> bytearray:
    place, length = int(rng.integers(region)), int(rng.integers(1, 65))
    data[place : place + length] = rng.bytes(length)
    return data


_KINDS = (_flip_bits, _overwrite, _put_number, _cut_off, _cut_out, _repeat, _scramble)


def _mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """`data` with one to three faults; half of them among the first 512 bytes, where headers are."""
    found = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        region = max(1, min(len(found), 512 if rng.random() < 0.5 else len(found)))
        found = _KINDS[rng.integers(len(_KINDS))](found or bytearray(1), rng, region)
    return bytes(found)


@pytest.fixture(scope="session")
def mutate() -> Mutate:
    """Damages a file's bytes in one of seven ways, or up to three of them."""
    return _mutate
