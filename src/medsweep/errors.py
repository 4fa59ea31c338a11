"""What can go wrong in words a user can act on. Nothing else in medsweep may end a command with a traceback."""


class MedsweepError(Exception):
    """An error that is part of the interface: shown as one line, without a traceback.

    Args:
        message: what is wrong.
        where: the file or the params key that is wrong, if one can be named.
        fix: what to do about it.
    """

    exit_code = 2

    def __init__(self, message: str, *, where: str | None = None, fix: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.fix = fix

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        advice = f" {self.fix}" if self.fix else ""
        return f"{place}{self.message}{advice}".replace("\n", " ")

    def __reduce__(self) -> tuple[object, ...]:
        # An error raised in a worker process must arrive whole in the driver.
        return _rebuild, (type(self), self.message, self.where, self.fix)


def _rebuild(kind: type[MedsweepError], message: str, where: str | None, fix: str | None) -> MedsweepError:
    return kind(message, where=where, fix=fix)


class ParamsError(MedsweepError):
    """params.yaml (or a file like it) does not say what medsweep can run."""


class DataError(MedsweepError):
    """The user's images or labels cannot be used as they are."""


class ArtifactError(MedsweepError):
    """A file that a stage wrote is missing, damaged, or breaks its own rules."""


class StoreError(MedsweepError):
    """The tracking store or the model registry refused, is away, or lacks what was named."""


class SearchError(MedsweepError):
    """A search ended without a model."""

    exit_code = 3


def unknown_name(kind: str, name: str, valid: list[str], *, where: str) -> ParamsError:
    """The answer to a name that no table has: the params path and the valid names."""
    return ParamsError(f"unknown {kind} '{name}'.", where=where, fix=f"Choose from: {', '.join(valid)}.")
