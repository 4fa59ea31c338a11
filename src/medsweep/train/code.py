"""What may change a result of training besides data and parameters."""

from __future__ import annotations

CODE = ("artifacts", "drawing", "imaging", "statistics", "train")
"""The packages whose digest is part of a search's key."""
