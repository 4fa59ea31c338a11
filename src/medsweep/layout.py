"""Every path that is read or written, in one place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from medsweep.errors import MedsweepError

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Layout:
    """The paths of one project.

    Args:
        root: the folder with params.yaml and dvc.yaml that the stages run in.
        home: the project that keeps the tracking store and the work in progress. It is `root`, except inside
            `dvc exp run --temp` and `--queue`, which run in a throw-away copy below `.dvc/tmp/exps`.
    """

    root: Path
    home: Path

    @classmethod
    def find(cls, start: Path | None = None) -> Layout:
        """The project that `start` (by default the current folder) lies in.

        Raises:
            MedsweepError: no folder from `start` upwards has a params.yaml and a dvc.yaml.
        """
        here = (start or Path.cwd()).resolve()
        for folder in (here, *here.parents):
            if (folder / "params.yaml").is_file() and (folder / "dvc.yaml").is_file():
                return cls(folder, _home_of(folder))
        raise MedsweepError(
            "no medsweep project here or in any folder above.",
            where=str(here),
            fix="Go to a folder below one with params.yaml and dvc.yaml.",
        )

    @property
    def params(self) -> Path:
        return self.root / "params.yaml"

    @property
    def dvc_lock(self) -> Path:
        return self.root / "dvc.lock"

    @property
    def raw(self) -> Path:
        return self.root / "data" / "raw"

    @property
    def prepared(self) -> Path:
        return self.root / "data" / "prepared"

    def prepared_split(self, split: str) -> Path:
        return self.prepared / split

    @property
    def augmented(self) -> Path:
        return self.root / "data" / "augmented"

    def augmented_policy(self, policy: str) -> Path:
        return self.augmented / policy

    @property
    def models(self) -> Path:
        return self.root / "models"

    @property
    def model(self) -> Path:
        return self.models / "model.keras"

    @property
    def trained(self) -> Path:
        return self.models / "trained.json"

    @property
    def trials(self) -> Path:
        return self.models / "trials.csv"

    @property
    def validation(self) -> Path:
        return self.models / "validation.csv"

    @property
    def features(self) -> Path:
        return self.models / "features.npz"

    @property
    def trial_predictions(self) -> Path:
        return self.models / "trial_predictions.npz"

    @property
    def search_plots(self) -> Path:
        return self.models / "plots"

    @property
    def search_log(self) -> Path:
        return self.models / "run_log.jsonl"

    @property
    def reports(self) -> Path:
        return self.root / "reports"

    @property
    def data_quality(self) -> Path:
        return self.reports / "data_quality.json"

    @property
    def data_quality_page(self) -> Path:
        return self.reports / "data_quality.html"

    @property
    def augmentation_previews(self) -> Path:
        return self.reports / "augmentation"

    @property
    def metrics(self) -> Path:
        return self.reports / "metrics.json"

    @property
    def evaluation(self) -> Path:
        return self.reports / "evaluation.json"

    @property
    def predictions(self) -> Path:
        return self.reports / "predictions.csv"

    @property
    def report(self) -> Path:
        return self.reports / "report.html"

    @property
    def model_card(self) -> Path:
        return self.reports / "model_card.md"

    @property
    def claim_checklist(self) -> Path:
        return self.reports / "claim_checklist.md"

    @property
    def evaluation_plots(self) -> Path:
        return self.reports / "plots"

    @property
    def evaluation_log(self) -> Path:
        return self.reports / "run_log.jsonl"

    @property
    def state(self) -> Path:
        """Work in progress and locks, in the home project: an interrupted experiment of any kind resumes from here."""
        return self.home / ".medsweep"

    @property
    def comparison(self) -> Path:
        """The page on all versions: made of what the registry holds, so it is no stage's output."""
        return self.state / "comparison" / "compare.html"

    def work(self, stage: str, key: str) -> Path:
        """The folder in which one run of a stage keeps what it has finished so far."""
        return self.state / "work" / stage / key

    @property
    def finished_searches(self) -> Path:
        """Logs and checkpoints of finished searches, a folder each, so that a larger budget goes on from them."""
        return self.state / "searches"

    def lock(self, name: str) -> Path:
        return self.state / "locks" / f"{name}.lock"

    @property
    def private(self) -> Path:
        """Maps record ids to file names: for the eyes of whoever has the raw data, never versioned or published."""
        return self.state / "private"

    @property
    def store(self) -> Path:
        """MLflow's default store (SQLite)."""
        return self.home / "mlflow.db"

    @property
    def store_artifacts(self) -> Path:
        return self.home / "mlartifacts"

    def relative(self, path: Path) -> str:
        """`path` as it is named in logs, pages and messages: from the project's root, with forward slashes."""
        try:
            return path.resolve().relative_to(self.root).as_posix()
        except ValueError:
            return path.as_posix()


def _home_of(root: Path) -> Path:
    """The project that a throw-away copy below `.dvc/tmp/exps` was made from; any other folder is its own home."""
    parts = root.parts
    for index in range(len(parts) - 2):
        if parts[index : index + 3] == (".dvc", "tmp", "exps"):
            return Path(*parts[:index])
    return root
