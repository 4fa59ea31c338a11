"""Class names and tasks, as the sources agree on them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from medsweep.artifacts.record import Task
from medsweep.errors import DataError, ParamsError

SingleLabelTask = Literal["binary", "multiclass", "ordinal"]


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Distinct names, sorted: by value where all are whole numbers (2 before 10), else as text."""
    distinct = set(names)
    if distinct and all(name.isascii() and name.isdigit() for name in distinct):
        return tuple(sorted(distinct, key=lambda name: (int(name), name)))
    return tuple(sorted(distinct))


def choose_classes(
    found: Sequence[str], classes: Sequence[str] | None, positive: str | None, *, where: str
) -> tuple[str, ...]:
    """The classes in label order: those asked for, or else those found, with the positive class last.

    Raises:
        ParamsError: a class is named twice, `positive` is none of them or there are more than two.
        DataError: fewer than two classes, or a class that was asked for has no images.
    """
    chosen = tuple(classes) if classes is not None else tuple(found)
    if len(set(chosen)) != len(chosen):
        raise ParamsError("names a class twice.", where="prepare.source.classes")
    missing = [name for name in chosen if name not in found]
    if missing:
        raise DataError(
            f"there is no class '{missing[0]}', which prepare.source.classes names.",
            where=where,
            fix=f"Found: {shortened(found)}.",
        )
    if len(chosen) < 2:
        raise DataError(f"{len(chosen)} class was found; two are needed at least.", where=where)
    if positive is not None:
        if positive not in chosen or len(chosen) != 2:
            raise ParamsError(
                f"'{positive}' must be one of exactly two classes.",
                where="prepare.source.positive",
                fix=f"The classes are: {shortened(chosen)}.",
            )
        chosen = (*(name for name in chosen if name != positive), positive)
    return chosen


def choose_task(task: SingleLabelTask | None, classes: Sequence[str], *, ordered: bool) -> Task:
    """The task asked for, or binary for two classes and multiclass for more.

    Args:
        task: what params.yaml says, if anything.
        classes: in label order.
        ordered: whether that order was given by the user.

    Raises:
        ParamsError: the task does not fit the classes.
    """
    if task == "binary" and len(classes) != 2:
        raise ParamsError(f"a binary task has two classes, and there are {len(classes)}.", where="prepare.source.task")
    if task == "ordinal" and not ordered and not all(name.isdigit() for name in classes):
        raise ParamsError(
            "an ordinal task needs its classes in order.",
            where="prepare.source.task",
            fix=f"List them in prepare.source.classes: {shortened(classes)}.",
        )
    return task or ("binary" if len(classes) == 2 else "multiclass")


def shortened(names: Sequence[str], most: int = 12) -> str:
    """Names for a message: at most `most` of them."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
