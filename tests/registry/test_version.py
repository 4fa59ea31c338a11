"""A registered version comes back with the model's very bytes and what they mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from medsweep.artifacts.files import digest_file
from medsweep.errors import StoreError
from medsweep.registry.version import registered_model


def test_a_version_comes_back(project: Callable[..., Any]) -> None:
    workspace = project()
    workspace.search()
    workspace.evaluation()
    workspace.publish()
    digest = digest_file(workspace.layout.model)
    workspace.layout.model.unlink()
    with registered_model(workspace.layout, "demo", 1) as found:
        assert digest_file(found.model) == found.digest == digest
        assert (found.class_names, found.task, found.threshold) == (("benign", "malignant"), "binary", (0.4,))
        assert (found.value_range, found.synthetic) == (255, True)
    assert not found.model.exists()


def test_a_version_that_is_not_there_is_answered_with_those_that_are(project: Callable[..., Any]) -> None:
    workspace = project()
    workspace.search()
    workspace.evaluation()
    workspace.publish()
    with (
        pytest.raises(StoreError, match=r"no version 7.*Choose from: 1"),
        registered_model(workspace.layout, "demo", 7),
    ):
        pass
