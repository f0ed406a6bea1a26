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

import errno

#: Control characters except the end of a line: parts of a message may come from a damaged file.
_CONTROLS = dict.fromkeys({*range(32), *range(127, 160)} - {10}, "?")


def cause(error: BaseException) -> str:
    """Describe an error of a library on one line: its class and its message."""
    text = " ".join(str(error).split()).rstrip(".")[:300]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


_PERMISSION = "Get the permission: ls -ld of it and of the folders above shows owners and modes"
_FAULT = "The disk or the way to it has failed; try again later, or ask the administrators"
#: What to do about an error of the operating system, by its number.
_OS_HINTS = {
    errno.ENOSPC: "Make room on that disk (df -h and df -i show it), or use another",
    errno.EDQUOT: "Your quota on that disk is used up: remove files, or use another disk",
    errno.EFBIG: "Raise the limit of the size of files: ulimit -f unlimited",
    errno.EROFS: "That disk can only be read here: name a place on another",
    errno.EACCES: _PERMISSION,
    errno.EPERM: _PERMISSION,
    errno.ENOENT: "Check how the path is written, and that nobody has removed it",
    errno.ENAMETOOLONG: "Use a shorter name",
    errno.EMFILE: "Raise the limit of open files: ulimit -n 4096",
    errno.ENFILE: "The machine has too many open files; try again later",
    errno.EAGAIN: "Raise the limit of processes and threads: ulimit -u",
    errno.ENOMEM: "Use fewer workers, or ask for more memory",
    **dict.fromkeys(
        (errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EREMOTEIO), _FAULT
    ),
}
#: Numbers of errors that only writing gives.
_OF_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def os_hint(error: OSError, otherwise: str = "Check the path, its permissions and its disk") -> str:
    """What to do about an error of the operating system; ``otherwise`` if nothing is known."""
    return _OS_HINTS.get(error.errno or 0, otherwise)


def describe_os_error(error: OSError, where: object = "") -> str:
    """Say which path has failed, and why.

    ``where``: What was being used, for an error that names no path.
    """
    what = error.strerror or str(error)
    path = str(error.filename or where)
    is_of_writing = error.errno in _OF_WRITING
    return f"{path} cannot be {'written' if is_of_writing else 'used'}: {what}" if path else what


def find_os_error(error: BaseException | None) -> OSError | None:
    """The error of the operating system that an error comes of, if it is one with a known hint."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _OS_HINTS:
            return error
        error = error.__cause__ or error.__context__
    return None


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


def unreadable(what: object, error: OSError) -> ConfigError:
    """The error of a file that was named and cannot be read."""
    return ConfigError(
        f"{what} cannot be read: {error.strerror or error}",
        os_hint(error, "Give the path of a file that can be read"),
    )


class SceneError(HyperhpcError):
    """The scene cannot be read as a hyperspectral cube, or has no valid pixel."""

    exit_code = 4


class ResourceError(HyperhpcError):
    """The machine does not have the memory or the disk space that the plan needs."""

    exit_code = 5


def find_exhausted(error: BaseException) -> ResourceError | None:
    """The error to report if no thread or process could be started; None for another error."""
    is_thread = isinstance(error, RuntimeError) and "can't start new thread" in str(error)
    if not is_thread and not isinstance(error, BlockingIOError):
        return None
    return ResourceError(
        "No more threads or processes can be started: the limit of this user, or of the memory of "
        "a process, is reached",
        "Look at ulimit -u and ulimit -v, end other programs, or give fewer --workers",
    )


class SlurmError(HyperhpcError):
    """Slurm refused or lost a job."""

    exit_code = 6


class IncompleteRunError(HyperhpcError):
    """The run stopped before its end; finished work is kept."""

    exit_code = 7
