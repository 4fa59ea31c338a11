"""What the evaluation came from: digests, versions and commands. Nothing of a clock or a machine."""

from __future__ import annotations

import platform
from importlib import metadata

import medsweep
from medsweep.artifacts.section import Table
from medsweep.evaluate.report.inputs import ReportInputs

# Those that may change a number or a picture, in the order of the pipeline.
_PACKAGES = (
    "numpy",
    "pillow",
    "opencv-python-headless",
    "pydicom",
    "tensorflow-cpu",
    "tensorflow",
    "keras",
    "optuna",
    "scikit-learn",
    "scipy",
    "pandas",
    "matplotlib",
    "jinja2",
)
_SAYS = {
    "model": "the model file",
    "manifest": "the model's manifest",
    "test": "the test split",
    "params": "the parameters of evaluate",
    "code": "the code of evaluate",
    "data_quality": "the data-quality report",
    "trials": "the table of trials",
    "search_plots": "the figures of the search",
}
_SAYS_OF_TRAINING = {
    "prepared_train": "the training split",
    "prepared_val": "the validation split",
    "augmented": "the augmented views",
    "params": "the parameters of train",
    "code": "the code of train",
}


def versions() -> list[tuple[str, str]]:
    """medsweep, Python and the packages that are installed, with their versions."""
    found = [("medsweep", medsweep.__version__), ("Python", platform.python_version())]
    for name in _PACKAGES:
        try:
            found.append((name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            continue
    return found


def digests(inputs: ReportInputs) -> Table:
    """SHA-256 of everything that the evaluation came from."""
    rows = [("this evaluation", inputs.report.key), ("the search", inputs.manifest.search_key)]
    rows += [(words, inputs.report.digests[name]) for name, words in _SAYS.items() if name in inputs.report.digests]
    rows += [
        (words, inputs.manifest.digests[name])
        for name, words in _SAYS_OF_TRAINING.items()
        if name in inputs.manifest.digests
    ]
    return Table("Digests (SHA-256) of what took part", ("of", "digest"), tuple(rows))


def commands(inputs: ReportInputs) -> str:
    """What brings this result back, for a shell in a clone of the project."""
    return "\n".join(
        [
            "# the commits that name this model; the oldest of them (the last line) made it",
            f"git log --oneline -S {inputs.before.model_md5} -- dvc.lock",
            "git checkout COMMIT",
            "pip install -c constraints.txt -e .",
            "dvc pull    # where a DVC remote has the data and results; otherwise bring the images",
            "dvc repro   # runs what is missing; nothing where all is there",
            "",
            "# the same model gives the same bytes",
            "sha256sum models/model.keras",
            f"# {inputs.manifest.model_digest}",
        ]
    )
