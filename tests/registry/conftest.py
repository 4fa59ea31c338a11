"""The registry's tests use tracking's small projects."""

from __future__ import annotations

import importlib.util
from pathlib import Path

_spec = importlib.util.spec_from_file_location(
    "tracking_conftest", Path(__file__).parents[1] / "tracking" / "conftest.py"
)
assert _spec is not None and _spec.loader is not None
_tracking = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_tracking)

_own_store = _tracking._own_store
keras_model = _tracking.keras_model
empty_store = _tracking.empty_store
project = _tracking.project
mlflow_at = _tracking.mlflow_at
