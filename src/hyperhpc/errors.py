"""What can go wrong, and the exit status each kind of trouble gives.

::

    HyperhpcError              1   never raised itself
    ├── ConfigError            3   an option, a point, a band, a formula, a foreign OUT
    ├── SceneError             4   unreadable, no cube, no wavelengths, nothing valid
    ├── ResourceError          5   memory, disk
    ├── SlurmError             6   the batch system said no
    └── IncompleteRunError     7   the run stopped before its end and can go on

Usage errors (2) are click's; an interrupt is 130, a termination 143. Every message
holds the value, the limit, and, as ``hint``, what to type next. They are caught in one
place, :mod:`hyperhpc.cli.main`; a traceback is a bug of ours.
"""

from __future__ import annotations

#: What a terminal obeys, but for the end of a line. Parts of a message may come out of a
#: damaged file.
_CONTROLS = dict.fromkeys({*range(32), *range(127, 160)} - {10}, "?")


def cause(error: BaseException) -> str:
    """One line for an error of a library: its kind and what it says."""
    text = " ".join(str(error).split()).rstrip(".")[:300]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


class HyperhpcError(Exception):
    """Base of all errors a user can cause or mend.

    Parameters
    ----------
    message
        One or two sentences with the value found and the value allowed.
    hint
        What to do or type next; shown on its own line.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        self.message = message.translate(_CONTROLS)
        self.hint = hint and hint.translate(_CONTROLS)
        super().__init__(self.message, self.hint)  # both, so that it survives pickling

    def __str__(self) -> str:
        return self.message


class ConfigError(HyperhpcError):
    """What was asked for cannot be done: an option, a point, a band, a formula."""

    exit_code = 3


class SceneError(HyperhpcError):
    """The scene cannot be read as a hyperspectral cube, or holds nothing valid."""

    exit_code = 4


class ResourceError(HyperhpcError):
    """The machine has not got what the plan needs."""

    exit_code = 5


class SlurmError(HyperhpcError):
    """Slurm refused, or lost, a job."""

    exit_code = 6


class IncompleteRunError(HyperhpcError):
    """The run stopped before its end; what is finished is kept."""

    exit_code = 7
