"""Small inputs that tests of several packages share: parameters, splits, views, and a project that holds them."""

from __future__ import annotations

import base64
import copy
import hashlib
import itertools
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medsweep import cli
from medsweep.artifacts.augmented import write_views
from medsweep.artifacts.files import digest_file
from medsweep.artifacts.prepared import PreparedSplit, Standardization
from medsweep.artifacts.run_log import RunLog
from medsweep.artifacts.trained import TrainedModel
from medsweep.augment.policies import check_policies, draw_views
from medsweep.backend.start import tensorflow_environment
from medsweep.layout import Layout
from medsweep.params import Params, load_yaml, parse
from medsweep.tracking.publisher import PublishSummary, publish
from medsweep.tracking.store import open_store

# Before any test imports Keras: what is trained here and in worker processes is compared.
tensorflow_environment()

ROOT = Path(__file__).resolve().parent.parent

SMALL_SPACE: dict[str, Any] = {
    "optimizer": {
        "sgd": {"learning_rate": {"low": 0.005, "high": 0.2, "log": True}},
        "adam": {"learning_rate": {"low": 0.0005, "high": 0.01, "log": True}},
    },
    "loss": {"categorical_crossentropy": {"label_smoothing": [0.0, 0.1]}, "focal": {"gamma": 2.0}},
    "backbone": {
        "plain": {"depth": 1, "width": [2, 4], "batch_norm": [True, False], "dropout": 0.2},
        "separable": {"depth": 1, "width": 4, "dropout": 0.0},
    },
    "schedule": {"constant": {}, "cosine": {"floor": 0.02}},
    "activation": ["relu"],
    "pooling": ["max", "average"],
    "batch_size": {"low": 4, "high": 16, "log": True},
    "weight_decay": 0.0,
    "class_weights": ["none", "balanced"],
    "standardize": ["image", "dataset"],
    "policy": ["none", "flip", "shift"],
    "views": [1, 2],
}
SMALL_SEARCH: dict[str, Any] = {
    "trials": 6,
    "max_minutes": None,
    "patience": None,
    "min_improvement": 0.0,
    "generation": 3,
    "presets": [],
    "objective": "val_log_loss",
    "cost": "none",
    "validation": "holdout",
    "cross_validation": {"folds": 3, "repeats": 1},
    "choose": "best",
    "resamples": 50,
    "min_epochs": 1,
    "max_epochs": 4,
    "reduction_factor": 2,
    "startup_trials": 2,
    "keep_checkpoints": 2,
}
SMALL_FINAL: dict[str, Any] = {"kind": "single", "members": 2, "resamples": 20, "seeds": 1, "refit": "auto"}
SMALL_POLICIES: dict[str, Any] = {
    "flip": {"horizontal_flip": {"probability": 0.5}},
    "shift": {"translate": {"probability": 1.0, "share": 0.2}, "brightness": {"probability": 0.5, "delta": 0.1}},
}
# Where every trial is really trained: networks that TensorFlow traces quickly, and few epochs.
QUICK_SPACE: dict[str, Any] = {
    "backbone": {"plain": {"depth": 1, "width": [1, 2], "batch_norm": False, "dropout": 0.2}},
    "batch_size": 12,
    "schedule": {"cosine": {"floor": 0.02}},
}
QUICK_SEARCH: dict[str, Any] = {"trials": 5, "generation": 3, "max_epochs": 2}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--persons", type=int, default=150, help="persons planted for de-identification (default: 150)")
    parser.addoption("--mutants", type=int, default=60, help="damaged files of each format (default: 60)")


def write_dicom(path: Path, pixels: np.ndarray, **elements: Any) -> Path:
    """Write a DICOM file whose header fits `pixels`: (h, w), or (h, w, 3), or with frames first where NumberOfFrames
    is given. Keywords are elements; `syntax` is the transfer syntax, `compress` one to encode with pydicom."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    syntax = elements.pop("syntax", ExplicitVRLittleEndian)
    compress = elements.pop("compress", None)
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.826.1.1"
    frames = "NumberOfFrames" in elements
    coloured = elements.get("PhotometricInterpretation", "MONOCHROME2").startswith(("RGB", "YBR"))
    dataset.Rows, dataset.Columns = pixels.shape[1:3] if frames else pixels.shape[:2]
    dataset.SamplesPerPixel = 3 if coloured else 1
    if coloured:
        dataset.PlanarConfiguration = 0
    bits = 8 * pixels.dtype.itemsize
    dataset.BitsAllocated = bits
    dataset.BitsStored = elements.get("BitsStored", bits)
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PhotometricInterpretation = "MONOCHROME2"
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    little = not syntax.endswith("1.2.2")
    data = pixels.astype(pixels.dtype.newbyteorder("<" if little else ">")).tobytes()
    dataset.PixelData = data + b"\0" * (len(data) % 2)
    dataset["PixelData"].VR = "OW" if bits > 8 else "OB"
    if compress is not None:
        dataset.compress(compress, generate_instance_uid=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


@pytest.fixture(scope="session")
def make_dicom() -> Callable[..., Path]:
    """`write_dicom`."""
    return write_dicom


@pytest.fixture(scope="session")
def default_params() -> dict[str, Any]:
    """What the repository's params.yaml says."""
    return load_yaml(ROOT / "params.yaml")


@pytest.fixture(scope="session")
def small_mapping(default_params: dict[str, Any]) -> Callable[..., dict[str, Any]]:
    """A mapping like params.yaml with a small search; keyword arguments change train's search and space."""

    def make(
        *,
        search: dict[str, Any] | None = None,
        space: dict[str, Any] | None = None,
        final: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        found = copy.deepcopy(default_params)
        found["augment"] |= {"views": 2, "policies": copy.deepcopy(SMALL_POLICIES)}
        found["train"]["search"] = SMALL_SEARCH | (search or {})
        found["train"]["final"] = SMALL_FINAL | (final or {})
        found["train"]["warm_start"] = None
        found["train"]["space"] = copy.deepcopy(SMALL_SPACE) | (space or {})
        return found

    return make


@pytest.fixture(scope="session")
def small_params(small_mapping: Callable[..., dict[str, Any]]) -> Callable[..., Params]:
    """`small_mapping`, checked."""
    return lambda **changes: parse(small_mapping(**changes), where="params.yaml")


@pytest.fixture(scope="session")
def write_split() -> Callable[..., PreparedSplit]:
    """Writes a split of 16 × 16 images whose classes differ in where they are bright."""

    def write(
        folder: Path, name: str = "train", *, task: Any = "multiclass", n: int = 24, classes: int = 3, channels: int = 1
    ) -> PreparedSplit:
        rng = np.random.default_rng([n, classes, len(name)])
        images = rng.integers(0, 120, (n, 16, 16, channels)).astype(np.uint8)
        if task == "multilabel":
            labels: Any = rng.integers(0, 2, (n, classes)).astype(np.uint8)
            # Every label is there and is absent.
            labels[0], labels[1] = 1, 0
            marks: Any = labels
        else:
            # The first class is the most frequent.
            labels = np.maximum(np.arange(n, dtype=np.int64) % (classes + 1) - 1, 0)
            marks = np.eye(classes, dtype=np.uint8)[labels]
        for k in range(classes):
            images[:, 4 * k : 4 * k + 4, 4:12] += (90 * marks[:, k, None, None, None]).astype(np.uint8)
        values = images / 255.0
        split = PreparedSplit(
            name=name,
            images=images,
            labels=labels,
            record_ids=np.array([f"{name}{index:04d}" for index in range(n)]),
            patient_ids=np.array([""] * n),
            class_names=tuple("abcdefgh"[:classes]),
            task=task,
            value_range=255,
            standardization=Standardization(
                tuple(values.mean(axis=(0, 1, 2)).tolist()), tuple(values.std(axis=(0, 1, 2)).tolist())
            ),
        )
        return split.save(folder)

    return write


@pytest.fixture(scope="session")
def write_data(write_split: Callable[..., PreparedSplit]) -> Callable[..., PreparedSplit]:
    """Writes data/prepared/{train,val} and data/augmented below a folder; returns the training split."""

    def write(root: Path, params: Params, **kind: Any) -> PreparedSplit:
        train = write_split(root / "data" / "prepared" / "train", "train", **kind)
        write_split(root / "data" / "prepared" / "val", "val", **(kind | {"n": 16}))
        for policy, chain in check_policies(params.augment).items():
            views = draw_views(
                policy,
                chain,
                seed=params.augment.seed,
                n_images=len(train),
                n_views=params.augment.views,
                prepared_digest=train.digest,
            )
            write_views(root / "data" / "augmented" / policy, views, shards=())
        return train

    return write


@pytest.fixture(scope="session")
def write_project(
    small_mapping: Callable[..., dict[str, Any]], write_data: Callable[..., PreparedSplit]
) -> Callable[..., Params]:
    """Writes a project that train can run in a few seconds: params.yaml, dvc.yaml and the data."""

    def write(
        root: Path,
        *,
        search: dict[str, Any] | None = None,
        space: dict[str, Any] | None = None,
        final: dict[str, Any] | None = None,
    ) -> Params:
        from ruamel.yaml import YAML

        root.mkdir(parents=True, exist_ok=True)
        found = small_mapping(search=QUICK_SEARCH | (search or {}), space=QUICK_SPACE | (space or {}), final=final)
        with (root / "params.yaml").open("w", encoding="utf-8") as stream:
            YAML().dump(found, stream)
        (root / "dvc.yaml").write_text("stages: {}\n", encoding="utf-8")
        params = parse(found, where="params.yaml")
        write_data(root, params)
        return params

    return write


# -- small projects with hand-written run logs, and what a store knows of them -----------------------------------------

EXPERIMENT = "demo"
VALUES = {
    "train.space.optimizer": "adam",
    "train.space.optimizer.adam.learning_rate": 0.01,
    "train.space.loss": "focal",
    "train.space.backbone": "plain",
    "train.space.schedule": "constant",
    "train.space.activation": "relu",
    "train.space.pooling": "max",
    "train.space.batch_size": 32,
    "train.space.weight_decay": 0.0,
    "train.space.class_weights": "none",
    "train.space.standardize": "split",
    "train.space.policy": "none",
}


class Workspace:
    """A project's folder with what the stages would have left there."""

    def __init__(self, root: Path, model: Path) -> None:
        self.layout = Layout(root, root)
        root.mkdir(parents=True, exist_ok=True)
        (root / "params.yaml").write_text("experiment: demo\n")
        (root / "dvc.yaml").write_text("stages: {}\n")
        self._model = model

    def publish(self) -> PublishSummary:
        return publish(self.layout, EXPERIMENT)

    def begin(self, log: RunLog, key: str, kind: str = "search") -> None:
        log.append(
            "begin",
            kind=kind,
            key=key,
            title=f"{kind} {key[:4]}",
            params={"train.seed": 7, "train.space.policy": ["a"]},
            tags={"medsweep.git_sha": "abc"},
            datasets=[{"name": "train", "digest": "d" * 64, "context": "training", "n_images": 12}],
        )

    def asked(self, log: RunLog, *numbers: int) -> None:
        log.append("generation", number=0, trials=[{"number": n, "seed": 100 + n, "values": VALUES} for n in numbers])

    def trained(self, log: RunLog, trial: int, *epochs: int) -> None:
        lines = [
            {"number": n, "loss": 1 / n, "accuracy": 0.5, "validation": {"val_auroc": 0.8 + n / 100, "log_loss": 0.4}}
            for n in epochs
        ]
        log.append("epochs", trial=trial, epochs=lines, used={"seconds": 1.0, "peak_rss": 1, "facts": {}}, error=None)

    def finished(self, log: RunLog, trial: int, status: str = "complete") -> None:
        failed = status == "failed"
        log.append(
            "trial",
            trial=trial,
            title=f"trial {trial:03d} · adam · focal · plain",
            status=status,
            objective=None if failed else 0.82,
            error="the loss was NaN" if failed else None,
            epochs=2,
            seconds=1.5,
            peak_rss=10**8,
            facts={"parameters": 123.0, "latency_ms": 0.5},
        )

    def picture(self, log: RunLog, name: str, content: bytes = b"\x89PNG") -> None:
        path = self.layout.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        log.append("picture", path=name, digest=digest_file(path), title="a picture", group="figures")

    def search(self, key: str = "5ea4c4", path: Path | None = None) -> Path:
        """A whole search of three trials: one complete, one pruned, one failed."""
        path = path or self.layout.search_log
        path.unlink(missing_ok=True)
        with RunLog(path) as log:
            self.begin(log, key)
            self.asked(log, 0, 1, 2)
            log.append("system", values={"cpu_percent": 50.0})
            for trial in (0, 1):
                self.trained(log, trial, 1, 2)
            log.append("rung", trial=0, epoch=2, value=0.82, decision="promoted")
            log.append("rung", trial=1, epoch=2, value=0.81, decision="pruned")
            self.finished(log, 1, "pruned")
            log.append("resumed", finished_trials=1)
            self.trained(log, 0, 2)
            self.finished(log, 0)
            self.finished(log, 2, "failed")
            log.append("system", values={"cpu_percent": 60.0})
            self.picture(log, "models/plots/history.png")
            self.picture(log, "reports/data_quality.html", b"<html>")
            log.append("metrics", values={"best_val_auroc": 0.82})
            log.append("note", text="# A search")
            log.append("end", seconds=3.0)
        return path

    def short_search(self) -> None:
        """A search of one trial."""
        with RunLog(self.layout.search_log) as log:
            self.begin(log, "5ea4c4")
            self.asked(log, 0)
            self.trained(log, 0, 1)
            self.finished(log, 0)
            self.picture(log, "models/plots/history.png")
            log.append("end", seconds=3.0)

    def evaluation(
        self,
        key: str = "e0a1",
        search_key: str = "5ea4c4",
        auroc: float = 0.9,
        write: Callable[[Path], None] | None = None,
    ) -> None:
        """A whole evaluation, with a model of its own bytes for each key; `write` makes its predictions.csv."""
        self.layout.models.mkdir(exist_ok=True)
        shutil.copyfile(self._model, self.layout.model)
        digest = digest_file(self.layout.model)
        manifest(digest, search_key).save(self.layout.trained)
        self.layout.evaluation_log.unlink(missing_ok=True)
        with RunLog(self.layout.evaluation_log) as log:
            self.begin(log, key, "evaluation")
            self.picture(log, "reports/plots/roc.png")
            if write is not None:
                write(self.layout.predictions)
                log.append_file(self.layout.predictions, root=self.layout.root, title="predictions", group="evaluation")
            log.append("metrics", values={"auroc": auroc, "auroc_low": auroc - 0.05, "auroc_high": auroc + 0.05})
            log.append("note", text="# An evaluation")
            log.append(
                "version",
                model="models/model.keras",
                model_digest=digest,
                manifest="models/trained.json",
                source_key=search_key,
                description=f"AUROC {auroc}",
                tags={"medsweep.task": "binary"},
            )
            log.append("end", seconds=1.0)


def manifest(model_digest: str, search_key: str) -> TrainedModel:
    return TrainedModel(
        model_digest=model_digest,
        members=(0,),
        class_names=("benign", "malignant"),
        task="binary",
        input_shape=(16, 16, 1),
        value_range=255,
        objective="val_auroc",
        objective_value=0.82,
        threshold=(0.4,),
        threshold_rule="youden",
        temperature=1.0,
        trial=VALUES,
        facts={"parameters": 123.0},
        n_trials={"complete": 1},
        digests={},
        search_key=search_key,
        synthetic=True,
    )


@pytest.fixture(autouse=True)
def _own_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    # A run that somebody else's script is in must not be mistaken for ours.
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)


@pytest.fixture(scope="session")
def keras_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model of raw pixels, two probabilities out."""
    import keras

    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((16, 16, 1)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(2, 3),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(2, activation="softmax"),
        ]
    )
    path = tmp_path_factory.mktemp("model") / "model.keras"
    model.save(path)
    return path


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's database as it is made: two seconds, once."""
    root = tmp_path_factory.mktemp("template")
    return Path(open_store(Layout(root, root)).layout.store)


@pytest.fixture
def project(tmp_path: Path, keras_model: Path, empty_store: Path) -> Callable[..., Workspace]:
    """Makes an empty project, by name."""

    def make(name: str = "project") -> Workspace:
        workspace = Workspace(tmp_path / name, keras_model)
        shutil.copyfile(empty_store, workspace.layout.store)
        return workspace

    return make


@pytest.fixture
def mlflow_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Layout], Any]]:
    """MLflow itself, as a user's script would have it, on a project's store."""
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")  # MLflow sets it too: this brings back what it was

    def at(layout: Layout) -> Any:
        mlflow.set_tracking_uri(open_store(layout).uri)
        return mlflow

    yield at
    mlflow.set_tracking_uri(None)


@pytest.fixture
def dump() -> Callable[[Layout], dict[str, Any]]:
    return dump_store


def dump_store(layout: Layout) -> dict[str, Any]:
    """All that the store knows of the experiment, by keys instead of ids, without the time of publishing."""
    import mlflow

    store = open_store(layout)
    client = store.client()
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        return {}
    runs = list(client.search_runs([experiment.experiment_id], max_results=1000))
    keys = {run.info.run_id: run.data.tags["medsweep.key"] for run in runs}
    assert len(set(keys.values())) == len(runs), "a run was published twice"
    found: dict[str, Any] = {}
    for run in runs:
        run_id = run.info.run_id
        tags = dict(run.data.tags)
        if "mlflow.parentRunId" in tags:
            tags["mlflow.parentRunId"] = keys[tags["mlflow.parentRunId"]]
        histories = {
            name: sorted((m.step, m.value, m.timestamp) for m in client.get_metric_history(run_id, name))
            for name in run.data.metrics
        }
        files = {}
        for item in _files(client, run_id):
            path = mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=item, tracking_uri=store.uri)
            files[item] = digest_file(Path(path))
        found[keys[run_id]] = {
            "name": run.info.run_name,
            "status": run.info.status,
            "start": run.info.start_time,
            "end": run.info.end_time,
            "params": dict(run.data.params),
            "tags": tags,
            "metrics": histories,
            "files": files,
            "datasets": sorted((d.dataset.name, d.dataset.digest, d.tags[0].value) for d in run.inputs.dataset_inputs),
        }
    models = client.search_logged_models([experiment.experiment_id])
    versions = client.search_model_versions(f"name = '{EXPERIMENT}'")
    found["models"] = [
        (
            each.name,
            str(each.status),
            keys[each.source_run_id],
            dict(each.params),
            sorted((metric.key, metric.value) for metric in each.metrics or []),
        )
        for each in models
    ]
    found["versions"] = {int(v.version): (keys[v.run_id], dict(v.tags), v.description) for v in versions}
    aliases = client.get_registered_model(EXPERIMENT).aliases if versions else {}
    found["aliases"] = {alias: int(number) for alias, number in aliases.items()}
    return found


def _files(client: Any, run_id: str, below: str | None = None) -> Iterator[str]:
    for item in client.list_artifacts(run_id, below):
        if item.is_dir:
            yield from _files(client, run_id, item.path)
        else:
            yield item.path


# -- what a validator and a screen reader would miss in a page -------------------------------------------------------

_VOID = {"meta", "img", "br", "link", "hr", "input", "line", "rect", "circle", "path"}


class HtmlPage(HTMLParser):
    """Walks a page and notes what a validator and a screen reader would miss."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, dict[str, str]]] = []
        self.children: list[tuple[str, list[str]]] = []
        self.problems: list[str] = []
        self.text: list[str] = []
        self._inside: list[list[str]] = []
        self.feed(text)
        self.close()
        if self.open:
            self.problems.append(f"not closed: {self.open}")

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        known = {name: value or "" for name, value in attrs}
        if len(known) != len(attrs):
            self.problems.append(f"an attribute twice: {tag} {attrs}")
        self.attributes.append((tag, known))
        if self._inside:
            self._inside[-1].append(tag)
        if tag not in _VOID:
            self.open.append(tag)
            self._inside.append([])

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if tag in _VOID:
            return
        if not self.open or self.open[-1] != tag:
            self.problems.append(f"</{tag}> where {self.open[-1:]} is open")
            return
        self.open.pop()
        self.children.append((tag, self._inside.pop()))

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


def check_html(text: str) -> HtmlPage:
    """All that every page must be, as far as a parser sees it."""
    found = HtmlPage(text)
    assert not found.problems
    assert text.startswith("<!doctype html>")
    ids = [known["id"] for _, known in found.attributes if "id" in known]
    assert len(ids) == len(set(ids)), [name for name, n in Counter(ids).items() if n > 1]
    for tag, known in found.attributes:
        for name in ("src", "href", "xlink:href", "srcset", "action", "data", "poster"):
            if name in known:
                assert known[name].startswith(("data:image/", "#")), f"{tag} loads {known[name][:60]}"
        if known.get("href", "").startswith("#"):
            assert known["href"][1:] in ids
        for name in ("aria-labelledby", "aria-describedby"):
            assert set(known.get(name, "").split()) <= set(ids)
        assert not any(name.startswith("on") for name in known), "a script"
        if tag == "img":
            assert known.get("alt", "").strip()
            assert known["src"].startswith("data:image/")
            base64.b64decode(known["src"].partition("base64,")[2], validate=True)
        if tag == "svg":
            assert known.get("role") == "img" and known.get("aria-labelledby")
        if tag == "th":
            assert known.get("scope") in ("row", "col")
        if known.get("class") == "scroll":
            assert known.get("tabindex") == "0" and known.get("aria-label")
    for tag, inside in found.children:
        if tag == "svg":
            assert inside[0] == "title"
        if tag == "table":
            assert inside[0] == "caption"
        if tag in ("ul", "ol"):
            assert set(inside) <= {"li"}
    # The one script is the frame's own, and the page's policy names it by its digest.
    script = text[text.index("<script>") + 8 : text.index("</script>")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert found.tags["script"] == 1 and f"script-src 'sha256-{digest}'" in text
    assert not found.tags["link"] and not found.tags["iframe"]
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style and "@import" not in style
    assert re.search(r"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-", text)
    levels = [int(tag[1]) for tag, _ in found.attributes if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels)), "a heading is skipped"
    assert ("html", {"lang": "en"}) in found.attributes
    assert all(found.tags[tag] == 1 for tag in ("main", "header", "footer", "nav", "title", "h1") if tag != "title")
    return found


@pytest.fixture(scope="session")
def check_page() -> Callable[[str], HtmlPage]:
    """`check_html`."""
    return check_html


@pytest.fixture
def medsweep(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """A command as it is typed: its exit code, and what it wrote to standard output and to standard error."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["medsweep", *arguments])
        code = 0
        try:
            cli.main()
        except SystemExit as left:
            code = int(left.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return run
