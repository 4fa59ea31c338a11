"""A small project from `dvc repro` to a promoted version, with the commands that a user of DVC would type.

Every run of train or evaluate costs many seconds, so the project goes through its states once, in the order of this
file; each fixture brings it one state further and keeps what the tests look at.
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from medsweep.artifacts.files import digest_file
from medsweep.artifacts.prepared import PreparedSplit
from medsweep.cli import app
from medsweep.layout import Layout
from medsweep.params import load_yaml
from medsweep.tracking.store import open_store

ROOT = Path(__file__).resolve().parents[2]
NAME = "demo"
UP_TO_DATE = "Data and pipelines are up to date."


@dataclass
class State:
    """What was to be seen when a command had ended."""

    out: str
    runs: Counter[str]
    aliases: dict[str, int]
    model: str
    metrics: dict[str, Any]
    facts: dict[str, Any] = field(default_factory=dict)


class Project:
    """A folder with a copy of the repository's pipeline, and the commands as they are typed there."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "DVC_", "GIT_"))},
            # The programs of the environment that the tests run in, and nothing that this machine's user has set.
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": str(ROOT / "src"),
            "HOME": str(root.parent),
            "DVC_SITE_CACHE_DIR": str(root.parent / "site"),
            "DVC_NO_ANALYTICS": "1",
            "GIT_CONFIG_NOSYSTEM": "1",
        }

    @property
    def layout(self) -> Layout:
        return Layout(self.root, self.root)

    def __call__(self, *command: str, below: str = ".") -> str:
        """Run a command to its end; what it says on standard output."""
        done = subprocess.run(
            command, cwd=self.root / below, env=self._environment, capture_output=True, text=True, timeout=400
        )
        assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def medsweep(self, *arguments: str, below: str = ".") -> str:
        """A command of ours in this process, which has MLflow imported already."""
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.root / below)
            done = CliRunner().invoke(app, list(arguments))
        assert done.exit_code == 0, f"{arguments}: {done.output} {done.exception!r}"
        return done.stdout

    def params(self, change: Callable[[dict[str, Any]], None]) -> None:
        found = load_yaml(self.layout.params)
        change(found)
        with self.layout.params.open("w") as stream:
            YAML().dump(found, stream)

    def state(self, out: str, **facts: Any) -> State:
        client = open_store(self.layout).client()
        experiment = client.get_experiment_by_name(NAME)
        runs = client.search_runs([experiment.experiment_id])
        assert {run.info.status for run in runs} == {"FINISHED"}
        return State(
            out=out,
            runs=Counter(run.data.tags["medsweep.kind"] for run in runs),
            aliases={alias: int(n) for alias, n in client.get_registered_model(NAME).aliases.items()},
            model=digest_file(self.layout.model),
            metrics=json.loads(self.layout.metrics.read_text()),
            facts=facts,
        )

    def model_of_version(self, version: int) -> str:
        found = open_store(self.layout).client().get_model_version(NAME, str(version))
        return str(found.tags["medsweep.model_digest"])


def _reduce(found: dict[str, Any]) -> None:
    found["experiment"] = NAME
    found["runtime"]["workers"] = 1
    found["prepare"]["source"] |= {"patients": 20, "images_per_patient": 3, "size": 20}
    found["prepare"]["image"] |= {"height": 16, "width": 16}
    found["prepare"]["split"] |= {"val": 0.2, "test": 0.2}
    found["prepare"]["checks"]["min_images_per_class"] = 2
    found["augment"] |= {"views": 1, "policies": {"geometric": {"horizontal_flip": {"probability": 0.5}}}}
    found["train"]["search"] |= {
        "trials": 2,
        "generation": 2,
        "min_epochs": 1,
        "max_epochs": 1,
        "startup_trials": 1,
        "keep_checkpoints": 1,
    }
    found["train"]["space"] = {
        "optimizer": {"adam": {"learning_rate": 0.003}, "sgd": {"learning_rate": 0.05}},
        "loss": {"categorical_crossentropy": {"label_smoothing": 0.0}},
        "backbone": {"tutorial": {"dropout": 0.0}},
        "schedule": {"constant": {}},
        "activation": ["relu"],
        "pooling": ["max"],
        "batch_size": 16,
        "weight_decay": 0.0,
        "class_weights": ["none"],
        "standardize": ["image"],
        "policy": ["none", "geometric"],
        "views": 1,
    }
    found["evaluate"]["bootstrap"]["samples"] = 100
    found["evaluate"]["explanations"] |= {"methods": ["grad_cam", "occlusion"], "cases": 1, "images": 4, "draws": 1}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The repository's pipeline with a small search, under Git, before anything has run."""
    root = tmp_path_factory.mktemp("pipeline") / "project"
    for name in (
        "dvc.yaml",
        "params.yaml",
        ".dvc/config",
        ".dvc/.gitignore",
        ".dvc/plots",
        ".dvcignore",
        ".gitignore",
        "src",
        "data/raw/README.md",
    ):
        target = root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copyfile(ROOT / name, target)
    project = Project(root)
    project.params(_reduce)
    project("git", "init", "-q")
    project("git", "config", "user.name", "A. Tester")
    project("git", "config", "user.email", "a@example.org")
    project("git", "add", "-A")
    project("git", "commit", "-q", "-m", "A project")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
            patch.delenv(name)
        yield project


@pytest.fixture(scope="module")
def first(project: Project) -> State:
    """`dvc repro`, and its result committed."""
    out = project("dvc", "repro")
    status = project("git", "status", "--porcelain")
    project("git", "add", "-A")
    project("git", "commit", "-q", "-m", "The first model")
    return project.state(out, git_status=status)


def test_one_command_leads_to_a_registered_version(project: Project, first: State) -> None:
    assert first.runs == {"search": 1, "trial": 2, "final": 1}
    assert first.aliases == {"candidate": 1} and project.model_of_version(1) == first.model
    declared = load_yaml(project.root / "dvc.yaml")
    outputs = [name for stage in declared["stages"].values() for name in (*stage["outs"], *stage.get("metrics", []))]
    assert len(outputs) >= 15
    assert [name for name in outputs if not (project.root / name).exists()] == []
    # What is plotted, and the model, are outputs of a stage.
    shown = [next(iter(each)) if isinstance(each, dict) else each for each in declared["plots"]]
    shown.append(declared["artifacts"]["model"]["path"])
    assert [name for name in shown if not any(name == out or name.startswith(f"{out}/") for out in outputs)] == []
    # Git is given the lock file alone: the data, the models and the store are not its.
    assert first.facts["git_status"].split() == ["??", "dvc.lock"]
    auroc = first.metrics["test"]["auroc"]
    assert auroc["low"] <= auroc["value"] <= auroc["high"] and first.metrics["n_images"] > 0


def test_every_stage_depends_on_its_code(project: Project) -> None:
    stages = load_yaml(project.root / "dvc.yaml")["stages"]
    for name, stage in stages.items():
        assert stage["cmd"] == f"medsweep {name}"
        assert f"src/medsweep/{name}" in stage["deps"] and stage["params"] == [name]
        assert all((project.root / each).exists() for each in stage["deps"] if not each.startswith("$"))
    # After prepare, only evaluate reads the test split.
    assert [name for name, stage in stages.items() if "data/prepared/test" in stage["deps"]] == ["evaluate"]


def test_again_nothing_runs(project: Project, first: State) -> None:
    assert UP_TO_DATE in project("dvc", "repro")
    assert project.state("").runs == first.runs


def test_what_changes_no_result_runs_nothing(project: Project, first: State) -> None:
    before = project.layout.params.read_bytes()

    def change(found: dict[str, Any]) -> None:
        found["experiment"] = "another"
        found["runtime"]["workers"] = 2

    project.params(change)
    try:
        assert UP_TO_DATE in project("dvc", "repro")
    finally:
        project.layout.params.write_bytes(before)


def test_the_model_leaves_with_the_remote_and_comes_back(project: Project, first: State, tmp_path: Path) -> None:
    project("dvc", "remote", "add", "--local", "-d", "shelf", str(tmp_path / "shelf"))
    project("dvc", "push")
    # The run cache stays: going back to earlier parameters needs it below.
    for name in (".dvc/cache/files", "data/prepared", "data/augmented", "models", "reports"):
        shutil.rmtree(project.root / name)
    project("dvc", "pull")
    project("dvc", "remote", "remove", "--local", "shelf")
    assert UP_TO_DATE in project("dvc", "status")
    assert digest_file(project.layout.model) == first.model
    assert json.loads(project.layout.metrics.read_text()) == first.metrics


@pytest.fixture(scope="module")
def aside(project: Project, first: State) -> State:
    """`dvc exp run --temp` with another parameter of train: it runs in a throw-away copy of the project."""
    out = project("dvc", "exp", "run", "--temp", "-n", "longer", "-S", "train.search.max_epochs=2")
    return project.state(out, git_status=project("git", "status", "--porcelain"))


def test_another_parameter_of_train_prepares_nothing_again(project: Project, first: State, aside: State) -> None:
    assert "Stage 'prepare' didn't change, skipping" in aside.out
    assert "Stage 'augment' didn't change, skipping" in aside.out
    assert "Running stage 'train'" in aside.out and "Running stage 'evaluate'" in aside.out
    assert aside.runs == {"search": 2, "trial": 4, "final": 2}


def test_an_experiment_aside_is_told_to_the_projects_own_store(project: Project, first: State, aside: State) -> None:
    assert aside.aliases == {"candidate": 2} and project.model_of_version(2) != first.model
    assert (aside.model, aside.metrics) == (first.model, first.metrics), "the workspace was touched"
    assert aside.facts["git_status"] == ""
    assert list(project.root.joinpath(".dvc", "tmp").rglob("mlflow.db")) == []


@pytest.fixture(scope="module")
def second(project: Project, aside: State) -> State:
    """That experiment's results in the workspace."""
    return project.state(project("dvc", "exp", "apply", "longer"))


def test_dvc_compares_the_two(project: Project, first: State, second: State) -> None:
    assert second.model == project.model_of_version(2) != first.model
    metrics = json.loads(project("dvc", "metrics", "diff", "--all", "--json"))["reports/metrics.json"]
    auroc = metrics["test.auroc.value"]
    assert auroc["old"] == pytest.approx(first.metrics["test"]["auroc"]["value"])
    assert auroc["new"] == pytest.approx(second.metrics["test"]["auroc"]["value"])
    params = json.loads(project("dvc", "params", "diff", "--json"))
    assert params == {"params.yaml": {"train.search.max_epochs": {"old": 1, "new": 2, "diff": 1}}}
    rows = list(csv.DictReader(io.StringIO(project("dvc", "exp", "show", "--csv"))))
    [row] = [row for row in rows if row["Experiment"] == "longer"]
    assert row["train.search.max_epochs"] == "2"
    assert float(row["test.auroc.value"]) == pytest.approx(second.metrics["test"]["auroc"]["value"])


def test_the_two_are_compared_image_by_image(project: Project, first: State, second: State) -> None:
    aurocs = [each.metrics["test"]["auroc"]["value"] for each in (first, second)]
    # `longer` was made in a copy; its version, the workspace and DVC's revision of it are one model.
    for other in ("2", "workspace", "longer"):
        found = json.loads(project.medsweep("compare", "1", other, "--json"))
        assert [found["area"][side]["value"] for side in ("first", "second")] == pytest.approx(aurocs)
        assert found["n_images"] == second.metrics["n_images"] and "Only 4 patients" in found["caution"]
    out = project.medsweep("compare")
    assert "2 versions on the same 12 test images of 4 patients" in out
    assert project.layout.comparison.is_file() and project.layout.comparison.with_name("forest.svg").is_file()


def test_dvc_plots_what_the_stages_drew(project: Project, second: State, tmp_path: Path) -> None:
    project("dvc", "plots", "show", "-o", str(tmp_path))
    page = (tmp_path / "index.html").read_text()
    pictures = {path.name for path in (tmp_path / "static").iterdir()}
    for each in load_yaml(project.root / "dvc.yaml")["plots"]:
        if isinstance(each, dict):
            [(_, settings)] = each.items()
            assert settings["title"] in page
        else:
            assert any(name.endswith(each.replace("/", "_")) for name in pictures), each


@pytest.fixture(scope="module")
def back(project: Project, second: State) -> State:
    """The first parameters again."""
    out = project("dvc", "exp", "run", "-S", "train.search.max_epochs=1")
    before = project.state("").aliases
    project.medsweep("publish", below="data/raw")
    return project.state(out, aliases_before=before)


def test_there_and_back_again_the_candidate_is_what_the_workspace_holds(
    project: Project, first: State, second: State, back: State
) -> None:
    assert "Running stage" not in back.out, "the first results are in DVC's run cache"
    assert back.model == first.model and back.metrics == first.metrics and back.runs == second.runs
    # Nothing ran, so nobody could tell the registry before `publish` did.
    assert back.facts["aliases_before"] == {"candidate": 2} and back.aliases == {"candidate": 1}
    assert project.model_of_version(back.aliases["candidate"]) == digest_file(project.layout.model)


def test_the_study_is_rebuilt_for_the_dashboard(project: Project, back: State, tmp_path: Path) -> None:
    import optuna

    path = tmp_path / "study.db"
    written = project.layout.params.read_bytes()
    # What params.yaml says by now may have no room for what was tried.
    project.params(lambda found: found["train"]["space"].update(optimizer={"lion": {"learning_rate": 0.001}}))
    try:
        project.medsweep("study", "--output", str(path))
    finally:
        project.layout.params.write_bytes(written)
    study = optuna.load_study(study_name=NAME, storage=f"sqlite:///{path}")
    assert len(study.trials) == 2 and study.best_trial.params["train.space.optimizer"] in ("adam", "sgd")


@pytest.fixture(scope="module")
def moved(project: Project, back: State) -> Iterator[Project]:
    """The same project in another folder."""
    before = project.root
    project.root = before.with_name("moved to äöü")
    before.rename(project.root)
    yield project
    project.root.rename(before)
    project.root = before


def test_a_moved_project_promotes_and_its_model_is_loaded(moved: Project) -> None:
    import mlflow

    said = moved.medsweep("promote", "1", "--to", "staging")
    assert "models:/demo@staging" in said
    rows = json.loads(moved.medsweep("history", "--json", below="models"))
    assert [row["version"] for row in rows] == [2, 1]
    assert rows[-1]["aliases"] == ["candidate", "staging"] and list(rows[-1]["promotions"]) == ["staging"]

    split = PreparedSplit.load(moved.layout.prepared_split("test"))
    pixels = np.asarray(split.images)
    assert pixels.dtype == np.uint8
    mlflow.set_tracking_uri(f"sqlite:///{moved.layout.store}")
    try:
        by_alias, by_stage = (
            mlflow.tensorflow.load_model(uri).predict(pixels, verbose=0)
            for uri in ("models:/demo@staging", "models:/demo/Staging")
        )
    finally:
        mlflow.set_tracking_uri(None)  # type: ignore[arg-type,unused-ignore]
        os.environ.pop("MLFLOW_TRACKING_URI", None)
    assert np.array_equal(by_alias, by_stage)
    # What MLflow loads says of raw pixels what evaluate said of them.
    with moved.layout.predictions.open(newline="") as stream:
        told = {row["record_id"]: row for row in csv.DictReader(stream)}
    for k, name in enumerate(split.class_names):
        wanted = [float(told[record][f"probability_{name}"]) for record in split.record_ids.tolist()]
        np.testing.assert_allclose(by_alias[:, k], wanted, atol=1e-5)
