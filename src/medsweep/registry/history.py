"""What became of each version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from medsweep.layout import Layout
from medsweep.registry.promote import PROMOTED
from medsweep.tracking.projection import KEY
from medsweep.tracking.store import open_store, store_errors


@dataclass(frozen=True)
class VersionRow:
    """One registry version.

    Args:
        version: its number.
        created: when it was registered, ISO 8601 in UTC.
        aliases: that point at it now, sorted.
        auroc, low, high: on the test split, with the interval; None where they were not defined.
        key: names the evaluation.
        search_key: names the search that the model came from.
        promotions: for each place, when it was last promoted there, ISO 8601 in UTC.
    """

    version: int
    created: str
    aliases: tuple[str, ...]
    auroc: float | None
    low: float | None
    high: float | None
    key: str
    search_key: str
    promotions: Mapping[str, str]


def history(layout: Layout, experiment: str) -> list[VersionRow]:
    """The versions of a registered model, newest first; none where nothing was registered.

    Raises:
        StoreError: the store is away.
    """
    store = open_store(layout)
    client = store.client()
    with store_errors(store):
        found = client.search_model_versions(f"name = '{experiment}'", max_results=10_000)
        pointed = client.get_registered_model(experiment).aliases if found else {}
    rows = []
    for each in found:
        tags = each.tags
        rows.append(
            VersionRow(
                version=int(each.version),
                created=datetime.fromtimestamp(each.creation_timestamp / 1000, UTC).isoformat(timespec="seconds"),
                aliases=tuple(sorted(alias for alias, number in pointed.items() if int(number) == int(each.version))),
                auroc=_number(tags.get("medsweep.test_auroc")),
                low=_number(tags.get("medsweep.test_auroc_low")),
                high=_number(tags.get("medsweep.test_auroc_high")),
                key=tags.get(KEY, ""),
                search_key=tags.get("medsweep.search_key", ""),
                promotions={
                    name.removeprefix(PROMOTED): tags[name] for name in sorted(tags) if name.startswith(PROMOTED)
                },
            )
        )
    return sorted(rows, key=lambda row: -row.version)


def _number(text: str | None) -> float | None:
    return None if text is None else float(text)
