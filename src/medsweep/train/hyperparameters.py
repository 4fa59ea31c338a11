"""What every hyperparameter of the tables in `train` may be, so that a bad value is found before any epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from medsweep.errors import ParamsError

Scalar = bool | int | float | str


@dataclass(frozen=True)
class Limits:
    """The interval of a number; an end that is `open_` does not belong to it. `whole` asks for an integer."""

    low: float
    high: float
    open_low: bool = False
    open_high: bool = False
    whole: bool = False

    def holds(self, value: Scalar) -> bool:
        """True where `value` is a number (not a truth value) inside the interval."""
        if isinstance(value, bool) or not isinstance(value, int if self.whole else int | float):
            return False
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        return above and below

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        low = f"above {self.low:g}" if self.open_low else f"from {self.low:g}"
        high = f"to below {self.high:g}" if self.open_high else f"to {self.high:g}"
        return f"{kind} {low} {high}"


@dataclass(frozen=True)
class Truth:
    """A value that is true or false."""

    def holds(self, value: Scalar) -> bool:
        """True where `value` is true or false."""
        return isinstance(value, bool)

    def __str__(self) -> str:
        return "true or false"


# One name means one thing in every table.
HYPERPARAMETERS: dict[str, Limits | Truth] = {
    # optimizers
    "learning_rate": Limits(0.0, 100.0, open_low=True),
    "momentum": Limits(0.0, 1.0, open_high=True),
    "average_from": Limits(0.0, 1.0, open_high=True),
    # losses
    "label_smoothing": Limits(0.0, 1.0, open_high=True),
    "gamma": Limits(0.0, 10.0),
    "q": Limits(0.0, 1.0, open_low=True),
    # backbones
    "dropout": Limits(0.0, 1.0, open_high=True),
    "depth": Limits(1, 8, whole=True),
    "width": Limits(1, 512, whole=True),
    "alpha": Limits(0.0, 2.0, open_low=True),
    "batch_norm": Truth(),
    # schedules
    "floor": Limits(0.0, 1.0),
    "drops": Limits(1, 100, whole=True),
    "factor": Limits(0.0, 1.0, open_low=True),
}


def check_hyperparameters(listed: Sequence[str], given: Mapping[str, Scalar], *, where: str) -> None:
    """Make sure that `given` has exactly the hyperparameters that a row lists, each within its limits.

    Args:
        listed: the row's hyperparameters.
        given: values by name.
        where: the row's params path, such as 'train.space.optimizer.adam'.

    Raises:
        ParamsError: one is missing, unknown, of the wrong type or outside its limits.
    """
    takes = f"It takes: {', '.join(listed)}." if listed else "It takes none."
    for name in given:
        if name not in listed:
            raise ParamsError("unknown hyperparameter.", where=f"{where}.{name}", fix=takes)
    for name in listed:
        if name not in given:
            raise ParamsError("is missing.", where=f"{where}.{name}", fix=takes)
        check_value(name, given[name], where=f"{where}.{name}")


def check_value(name: str, value: Scalar, *, where: str) -> None:
    """Make sure that one value lies within the limits of the hyperparameter `name`.

    Raises:
        ParamsError: it does not.
    """
    if not HYPERPARAMETERS[name].holds(value):
        raise ParamsError(f"must be {HYPERPARAMETERS[name]}, not {value!r}.", where=where)
