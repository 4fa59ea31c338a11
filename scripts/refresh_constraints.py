"""Refresh constraints.txt: resolve what pyproject.toml asks for anew, and write each version as name==version.

Run it with the oldest Python that we support, so that every pin has a build for it:

    python3.11 scripts/refresh_constraints.py

Then install with the new pins on the newest one too, and run the tests on both, before you commit.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "constraints.txt"
HEADER = """\
# Every version that we test with, resolved on Python 3.11 and valid on 3.12.
# Written by scripts/refresh_constraints.py; do not edit by hand.
"""
PIN = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([A-Za-z0-9][A-Za-z0-9.!+_-]*)")
# The same release under the name that it has where there are no CPU-only wheels.
SAME_RELEASE = {"tensorflow-cpu": "tensorflow", "tensorflow": "tensorflow-cpu"}


def requirements(pyproject: str) -> list[str]:
    """What the package and its `dev` extra ask for, from the text of pyproject.toml."""
    project = tomllib.loads(pyproject)["project"]
    extras = project["optional-dependencies"]
    found = list(project["dependencies"])
    for each in extras["dev"]:
        # The package's own extras stand for what they ask for: an index may not have the package itself.
        own = re.fullmatch(rf"{re.escape(project['name'])}\[([\w,-]+)\]", each)
        found += [each] if own is None else [need for name in own[1].split(",") for need in extras[name]]
    return found


def pins(frozen: str) -> dict[str, str]:
    """Normalised package name → version, from the lines of `pip freeze`; SystemExit on any line that is no pin."""
    found: dict[str, str] = {}
    for line in frozen.splitlines():
        match = PIN.fullmatch(line.strip())
        if match is None:
            # A direct reference would tie everybody to this machine or to one server.
            raise SystemExit(f"not a plain name==version: {line}")
        found[re.sub(r"[-_.]+", "-", match[1]).lower()] = match[2]
    for name, other in SAME_RELEASE.items():
        if name in found:
            found.setdefault(other, found[name])
    return found


def resolve(wanted: list[str]) -> str:
    """What `pip freeze` says in a new virtual environment of the running Python with `wanted` installed."""
    # Constraints of the caller's own would decide what is resolved.
    environment = {key: value for key, value in os.environ.items() if key != "PIP_CONSTRAINT"}
    with tempfile.TemporaryDirectory(prefix="medsweep-constraints-") as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        python = Path(folder) / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        pip = [str(python), "-m", "pip", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", "--quiet", *wanted], check=True, env=environment)
        # Without --all, freeze leaves out wheel on Python 3.11, which is a dependency here and listed on 3.12.
        freeze = [*pip, "freeze", "--all", "--exclude", "pip", "--exclude", "setuptools"]
        return subprocess.run(freeze, check=True, env=environment, capture_output=True, text=True).stdout


def main() -> None:
    """Resolve, then write constraints.txt, sorted by name."""
    found = pins(resolve(requirements((ROOT / "pyproject.toml").read_text(encoding="utf-8"))))
    lines = "".join(f"{name}=={version}\n" for name, version in sorted(found.items()))
    TARGET.write_text(HEADER + lines, encoding="utf-8")
    print(f"{TARGET.name}: {len(found)} versions, resolved on Python {sys.version_info[0]}.{sys.version_info[1]}")


if __name__ == "__main__":
    main()
