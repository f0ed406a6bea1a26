"""The errors a user can cause, and their exit codes.

::

    HyperhpcError              1   base class, never raised itself
    ├── ConfigError            3   option, point, band, formula, or OUT of another run
    ├── SceneError             4   unreadable, no cube, no wavelengths, nothing valid
    ├── ResourceError          5   memory, disk
    ├── SlurmError             6   Slurm refused or lost a job
    └── IncompleteRunError     7   the run stopped before its end and can resume

click reports errors of usage (2); an interrupt gives 130, a termination 143. A message holds
the value and the limit, the hint what to type next. Both are in sentence case and have no full
stop at the end, as it might be taken for part of a path. :mod:`hyperhpc.cli.main` is the only
place that catches them; a traceback is a bug.
"""

from __future__ import annotations

#: Control characters except the end of a line: parts of a message may come from a damaged file.
_CONTROLS = dict.fromkeys({*range(32), *range(127, 160)} - {10}, "?")


def cause(error: BaseException) -> str:
    """Describe an error of a library on one line: its class and its message."""
    text = " ".join(str(error).split()).rstrip(".")[:300]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


class HyperhpcError(Exception):
    """Base of all errors that a user can cause or correct.

    ``message``: The value found and the value allowed.
    ``hint``: What to type next; shown on its own line.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        self.message = message.translate(_CONTROLS)
        self.hint = hint and hint.translate(_CONTROLS)
        super().__init__(self.message, self.hint)  # both, so that it survives pickling

    def __str__(self) -> str:
        return self.message


class ConfigError(HyperhpcError):
    """An option, a point, a band or a formula cannot be used, or OUT is another run's."""

    exit_code = 3


class SceneError(HyperhpcError):
    """The scene cannot be read as a hyperspectral cube, or has no valid pixel."""

    exit_code = 4


class ResourceError(HyperhpcError):
    """The machine does not have the memory or the disk space that the plan needs."""

    exit_code = 5


class SlurmError(HyperhpcError):
    """Slurm refused or lost a job."""

    exit_code = 6


class IncompleteRunError(HyperhpcError):
    """The run stopped before its end; finished work is kept."""

    exit_code = 7
