"""Which DICOM files stay together in a split: those of a patient, and at least those of a series."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from medsweep.imaging.dicom_identity import Identity

Level = Literal["PatientID", "StudyInstanceUID", "SeriesInstanceUID"]
# A level, and what the header says there; a series with its study, since it belongs to one.
_Node = tuple[str, ...]


def named(identity: Identity | None, keyword: str) -> str:
    """What a header says of an identifier, '' where it says nothing or could not be read."""
    if identity is None:
        return ""
    return {
        "SOPInstanceUID": identity.instance,
        "SeriesInstanceUID": identity.series,
        "StudyInstanceUID": identity.study,
        "PatientID": identity.patient,
    }[keyword]


def patients(identities: Mapping[str, Identity], level: Level) -> dict[str, str | None]:
    """Whose each file is: files with the same name stay together.

    By `level`, or where a header lacks it by the next lower one: patient, study, series (of a series without UID: its
    study, else its patient). Files of one series stay together whatever they say; a file that lacks its patient
    belongs to the patient of its series, or of its study.

    Args:
        identities: what the headers say, by file.
        level: what stays together.

    Returns:
        By file the PatientID, or `StudyInstanceUID …` or `SeriesInstanceUID …`, the first in alphabetical order where
        several belong together; None where a header names none of them.
    """
    lacking = {each.study for each in identities.values() if level == "PatientID" and not each.patient and each.study}
    joined = _Joined()
    nodes: dict[str, _Node | None] = {}
    for file, each in identities.items():
        own = _nodes(each, level)
        nodes[file] = own[0] if own else None
        # The node of a study joins its patients only where a file of it needs that.
        ties = [node for node in own if node[0] != "StudyInstanceUID" or level != "PatientID" or node[1] in lacking]
        joined.join(own[:1] + ties)
    names = joined.names()
    return {file: None if node is None else names[node] for file, node in nodes.items()}


def _nodes(identity: Identity, level: Level) -> list[_Node]:
    """What an image belongs to, what names its group first."""
    patient: list[_Node] = [("PatientID", identity.patient)] if identity.patient else []
    study: list[_Node] = [("StudyInstanceUID", identity.study)] if identity.study else []
    series: list[_Node] = [("SeriesInstanceUID", identity.series, identity.study)] if identity.series else []
    if level == "PatientID":
        return patient + study + series
    if level == "StudyInstanceUID":
        return study + series
    return series or study or patient


class _Joined:
    """Groups of nodes that were joined, each with a name (union-find)."""

    def __init__(self) -> None:
        self._parents: dict[_Node, _Node] = {}

    def join(self, nodes: Iterable[_Node]) -> None:
        roots = [self._root(node) for node in nodes]
        for root in roots[1:]:
            self._parents[root] = roots[0]
            roots[0] = self._root(roots[0])

    def names(self) -> dict[_Node, str]:
        """By node the name of its group: that of its highest level that comes first in alphabetical order."""
        levels = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID")
        best: dict[_Node, tuple[int, str]] = {}
        for node in self._parents:
            root, rank = self._root(node), (levels.index(node[0]), node[1])
            best[root] = min(best.get(root, rank), rank)
        return {
            node: value if rank == 0 else f"{levels[rank]} {value}"
            for node in self._parents
            for rank, value in (best[self._root(node)],)
        }

    def _root(self, node: _Node) -> _Node:
        while (parent := self._parents.setdefault(node, node)) != node:
            # Halving the way keeps ways short.
            self._parents[node] = self._parents[parent]
            node = self._parents[node]
        return node
