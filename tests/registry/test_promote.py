from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from medsweep.errors import ParamsError, StoreError
from medsweep.registry.history import history
from medsweep.registry.promote import promote
from medsweep.tracking.store import open_store


@pytest.fixture
def two_versions(project: Any) -> Any:
    workspace = project()
    workspace.evaluation("0e0e", auroc=0.8)
    workspace.publish()
    workspace.evaluation("1e1e", auroc=0.9)
    workspace.publish()
    return workspace


def test_a_promoted_version_is_loaded_by_alias_and_by_stage(two_versions: Any, mlflow_at: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        assert promote(two_versions.layout, "demo", 1, "staging") == "models:/demo@staging"
    mlflow = mlflow_at(two_versions.layout)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 1), dtype=np.uint8)
    found = []
    for uri in ("models:/demo@staging", "models:/demo/Staging", "models:/demo/1"):
        probabilities = mlflow.tensorflow.load_model(uri).predict(pixels, verbose=0)
        assert probabilities.shape == (3, 2) and np.allclose(probabilities.sum(axis=1), 1, atol=1e-5)
        found.append(probabilities)
    assert all(np.array_equal(found[0], each) for each in found)


def test_alias_and_stage_agree_when_an_older_version_takes_the_place(two_versions: Any) -> None:
    for version in (2, 1):
        promote(two_versions.layout, "demo", version, "staging")
    client = open_store(two_versions.layout).client()
    stages = {int(each.version): each.current_stage for each in client.search_model_versions("name = 'demo'")}
    assert stages == {1: "Staging", 2: "Archived"}
    assert client.get_registered_model("demo").aliases == {"candidate": 2, "staging": 1}


def test_a_version_in_production_stays_there_when_it_goes_to_staging_too(two_versions: Any) -> None:
    promote(two_versions.layout, "demo", 1, "production")
    promote(two_versions.layout, "demo", 1, "staging")
    [row] = [row for row in history(two_versions.layout, "demo") if row.version == 1]
    assert row.aliases == ("production", "staging")
    client = open_store(two_versions.layout).client()
    assert client.get_model_version("demo", "1").current_stage == "Production"


def test_unknown_versions_and_places_are_answered_with_those_there_are(two_versions: Any, project: Any) -> None:
    with pytest.raises(StoreError, match=r"Choose from: 1, 2\."):
        promote(two_versions.layout, "demo", 3, "staging")
    with pytest.raises(ParamsError, match="staging, production"):
        promote(two_versions.layout, "demo", 1, "stagin")
    with pytest.raises(StoreError, match="no version yet"):
        promote(project("other").layout, "demo", 1, "staging")


def test_history_tells_what_became_of_each_version(two_versions: Any, project: Any) -> None:
    promote(two_versions.layout, "demo", 1, "staging")
    newest, oldest = history(two_versions.layout, "demo")
    assert (newest.version, newest.aliases, newest.key) == (2, ("candidate",), "1e1e")
    assert (newest.auroc, newest.low, newest.high) == pytest.approx((0.9, 0.85, 0.95))
    assert newest.search_key == "5ea4c4" and newest.promotions == {}
    assert oldest.aliases == ("staging",) and set(oldest.promotions) == {"staging"}
    assert oldest.promotions["staging"] >= oldest.created and oldest.created.endswith("+00:00")
    assert history(project("other").layout, "demo") == []
