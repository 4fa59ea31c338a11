"""The pins: what the script makes of pip's answers, and that constraints.txt is such a file for this project."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("refresh_constraints", ROOT / "scripts" / "refresh_constraints.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_names_are_normalised(script: ModuleType) -> None:
    assert script.pins("Flask==3.1.3\nzc.lockfile==4.0\ntyping_extensions==4.16.0\n") == {
        "flask": "3.1.3",
        "zc-lockfile": "4.0",
        "typing-extensions": "4.16.0",
    }


def test_tensorflow_is_pinned_alike_for_every_platform(script: ModuleType) -> None:
    assert script.pins("tensorflow_cpu==2.21.0\n") == {"tensorflow-cpu": "2.21.0", "tensorflow": "2.21.0"}


@pytest.mark.parametrize("line", ["-e .", "numpy @ file:///tmp/numpy.whl", "numpy>=2", "--index-url x"])
def test_anything_but_a_pin_is_refused(script: ModuleType, line: str) -> None:
    with pytest.raises(SystemExit, match="not a plain name==version"):
        script.pins(f"scipy==1.17.1\n{line}\n")


def test_constraints_are_sorted_pins_that_meet_every_requirement(script: ModuleType) -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    found = script.pins("\n".join(line for line in lines if not line.startswith("#")))
    assert list(found) == sorted(found)
    assert not {"medsweep", "pip", "setuptools"} & set(found)
    for text in script.requirements((ROOT / "pyproject.toml").read_text(encoding="utf-8")):
        wanted = Requirement(text)
        name = re.sub(r"[-_.]+", "-", wanted.name).lower()
        assert wanted.specifier.contains(found[name]), f"{text} is pinned to {found[name]}"
