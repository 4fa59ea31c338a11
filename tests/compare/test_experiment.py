"""All versions of an experiment: what survives, the page, the artifacts in MLflow, and the command line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from medsweep.artifacts.predicted import PredictedSplit
from medsweep.compare import page
from medsweep.compare.experiment import ManyCompared, compare_all
from medsweep.errors import StoreError
from medsweep.params import parse
from medsweep.tracking.evaluations import Evaluations
from medsweep.tracking.store import open_store

Make = Callable[..., PredictedSplit]
Answer = tuple[int, str, str]


@pytest.fixture
def versions(project: Any, predict: Make, default_params: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """A project with four versions: two like ones, a better one, and one of other images; each of a search."""
    workspace = project()
    found = json.loads(json.dumps(default_params))
    found["evaluate"]["bootstrap"]["samples"] = 200
    with workspace.layout.params.open("w") as stream:
        YAML().dump(found | {"experiment": "demo"}, stream)
    workspace.search()
    for index, (strength, changes) in enumerate([(1.0, {"n": 60}), (1.0, {}), (1.0, {}), (4.0, {})]):
        answers = predict(strength, seed=index, **changes)
        workspace.evaluation(f"e{index}", auroc=0.8, write=answers.save)
        workspace.publish()
    monkeypatch.chdir(workspace.layout.root)
    return workspace


class Page(HTMLParser):
    """What a page refers to, and whether its elements are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag == "img":
            self.images.append(found)
        if tag not in ("img", "meta", "link", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_everything_about_an_experiment(versions: Any, medsweep: Callable[..., Answer], tmp_path: Path) -> None:
    layout = versions.layout
    code, out, err = medsweep("compare")
    assert code == 0, err
    text = layout.comparison.read_text()
    seen = Page(text)
    assert seen.open == [] and all(each.startswith(("data:", "#")) for each in seen.links)
    assert "version 4 (candidate)" in text and "their test images differ" in text and "AUROC" in seen.images[0]["alt"]
    assert "3 versions on the same 200 test images of 100 patients: 3 pairs" in out
    assert "2 differences in AUROC survive" in out
    # The same page and figure at the search's run.
    store = open_store(layout)
    client = store.client()
    [run] = client.search_runs(["1"], "tags.`medsweep.kind` = 'search'")
    assert {each.path for each in client.list_artifacts(run.info.run_id, "comparison")} == {
        "comparison/compare.html",
        "comparison/forest.svg",
    }

    code, out, _ = medsweep("compare", "--json", "--output", str(tmp_path / "other" / "page.html"))
    found = json.loads(out)
    assert code == 0 and (tmp_path / "other" / "page.html").read_text() == text, "the same versions, the same page"
    assert [each["version"] for each in found["versions"]] == [4, 3, 2]
    assert found["left_out"][0]["version"] == "version 1"
    survives = {(each["first"], each["second"]): each["survives"] for each in found["pairs"]}
    assert survives == {(3, 4): True, (2, 4): True, (2, 3): False}

    code, out, _ = medsweep("compare", "2", "candidate")
    assert code == 0 and "the AUROC of version 4 (candidate) is" in out and "more than chance explains" in out
    assert "McNemar" in out and "log-loss" in out
    code, out, _ = medsweep("compare", "4", "workspace", "--json")
    assert code == 0 and json.loads(out)["identical"] is True
    code, _, err = medsweep("compare", "1", "2")
    assert code == 2 and "can't be compared: their test images differ" in err and err.count("\n") == 1
    code, _, err = medsweep("compare", "9", "2")
    assert code == 2 and "has no version 9" in err and "4, 3, 2, 1" in err
    code, _, err = medsweep("compare", "2")
    assert code == 2 and "needs two models" in err


def test_a_version_whose_run_is_gone_is_left_out(
    versions: Any, tmp_path: Path, default_params: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST

    gone = open_store(versions.layout).client().get_model_version("demo", "3").run_id
    listed = MlflowClient.list_artifacts

    def lost(self: Any, run_id: str, path: str) -> Any:
        if run_id == gone:
            raise MlflowException("Run not found", error_code=RESOURCE_DOES_NOT_EXIST)
        return listed(self, run_id, path)

    monkeypatch.setattr(MlflowClient, "list_artifacts", lost)
    found = compared(versions, tmp_path, default_params)
    assert [each.version.version for each in found.candidates] == [4, 2]
    assert ("version 3", "its predictions are not in the store") in found.left_out


def compared(versions: Any, tmp_path: Path, default_params: dict[str, Any]) -> ManyCompared:
    store = Evaluations(versions.layout, "demo")
    return compare_all(store, "demo", parse(default_params, where="params.yaml").evaluate, tmp_path)


def test_one_version_alone_and_none(
    project: Any, predict: Make, tmp_path: Path, default_params: dict[str, Any]
) -> None:
    workspace = project("small")
    with pytest.raises(StoreError, match="no version of 'demo' has predictions"):
        compared(workspace, tmp_path / "none", default_params)
    workspace.evaluation("e0")
    workspace.publish()
    with pytest.raises(StoreError, match="no version of 'demo' has predictions"):
        compared(workspace, tmp_path / "without", default_params)
    workspace.evaluation("e1", write=predict(patients=False).save)
    workspace.publish()
    found = compared(workspace, tmp_path / "one", default_params)
    assert "nothing to compare" in found.sentences[0] and found.left_out[0][0] == "version 1"
    page.write(found, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert "Pairs" not in text and Page(text).open == []
    assert not re.search(r"https?://(?!www\.w3\.org)", text)
