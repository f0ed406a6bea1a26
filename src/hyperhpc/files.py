"""Write files whole or not at all, and remove what writers that were killed have left.

Every temporary file or folder is hidden, lies next to its target and is called
``.NAME.part-RANDOM``, so that :func:`remove_partial_files` finds it after a kill::

    with atomic_write(path) as part:
        part.write_text(text, "utf-8")

While a command works in a folder, it guards it (:func:`guard_writes`): what would be written there
after another command has taken the folder over is not written.
"""

from __future__ import annotations

import glob
import os
import re
import secrets
import shlex
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

from hyperhpc.errors import ConfigError, ResourceError, os_hint
from hyperhpc.scratch import held_folder, hold_abandoned

#: Temporary files of ours, but not of locks, which remove theirs themselves; and of Zarr.
_PARTIAL = re.compile(r"\.(?!lock\.).+\.part-[\w-]+|.+\.partial")

_NO_ROOM = "Make room on that disk (df -h shows it) and check its permissions"
#: File in a temporary folder of outputs with their names, once they are being moved.
_MOVING = ".moving"
#: Names of an unfinished store of ``ingest``, which scenes must know too.
STORE_SUFFIX, PLAN_NAME, STORE_NAME = ".part", "plan.json", "store"
#: File in OUT, and in a store of ``ingest``, with the length and CRC-32C of all others.
SUMS_NAME = "checksums.json"


#: Folders that this thread guards, and what raises an error once one is not ours any more.
_guards: ContextVar[tuple[tuple[str, Callable[[], None]], ...]] = ContextVar("guards", default=())


@contextmanager
def guard_writes(folder: Path, check: Callable[[], None]) -> Iterator[None]:
    """Call ``check`` before this thread publishes, changes or removes a file in ``folder``.

    ``check``: Raises an error if the folder belongs to somebody else now.
    """
    before = _guards.set((*_guards.get(), (os.path.abspath(folder), check)))
    try:
        yield
    finally:
        _guards.reset(before)


def check_guard(path: Path) -> None:
    """Raise the error of the guard of a folder that holds ``path``, if it is not ours any more."""
    for folder, check in _guards.get():
        if os.path.abspath(path).startswith(folder + os.sep):
            check()


def is_unfinished_store(folder: Path) -> bool:
    """True for the folder in which ``ingest`` writes a store until it is whole."""
    is_planned = (folder / PLAN_NAME).is_file() and (folder / STORE_NAME).is_dir()
    return folder.name.endswith(STORE_SUFFIX) and is_planned


@contextmanager
def atomic_write(path: Path, *, flush: bool = True) -> Iterator[Path]:
    """Give a path in the same folder; what is written there becomes ``path`` at the end.

    It is removed if the block raises anything, or if the folder was taken over by another command
    (:func:`guard_writes`); if nothing was written, ``path`` stays as it is.

    ``path``: A file, which is replaced, or a folder, which must not exist when the block ends.
    ``flush``: Wait until the bytes of a file are on the disk, so that a loss of power cannot
        leave an empty file under the name.
    """
    part = path.with_name(f".{path.name.lstrip('.')}.part-{secrets.token_hex(4)}")
    try:
        yield part
        if flush:
            _flush(part)
        if part.exists():
            check_guard(path)
            part.replace(path)
    except BaseException:
        remove_path(part)
        raise


def _flush(path: Path) -> None:
    """Wait until the bytes of a file are on the disk; nothing for a folder, or without a file."""
    if path.is_file():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def remove_path(path: Path) -> None:
    """Remove a file, a link, or a folder with all it holds; no error if that fails."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def remove_partial_files(folder: Path) -> None:
    """Remove the temporary files and folders of killed writers anywhere below ``folder``.

    No other process may be writing there: call it while the lock is held.
    """
    for path in find_partial_files(folder):
        remove_path(path)


def find_partial_files(folder: Path) -> Iterator[Path]:
    """The temporary files and folders anywhere below ``folder``."""
    for root, folders, files in os.walk(folder):
        for name in filter(_PARTIAL.fullmatch, files):
            yield Path(root, name)
        for name in list(filter(_PARTIAL.fullmatch, folders)):
            folders.remove(name)
            yield Path(root, name)


@contextmanager
def atomic_outputs(
    dest: Path,
    extra_names: Sequence[str] = (),
    *,
    keep_as: Path | None = None,
    replaces: bool = False,
) -> Iterator[Path]:
    """A temporary folder whose files are moved to the folder of ``dest`` at the end.

    What a process that was killed while it wrote ``dest`` has left is removed first.

    ``dest``: The file or folder that is wanted; it is moved last, so that the others are there
        before it.
    ``extra_names``: Names of further files that are made with it; others are removed.
    ``keep_as``: A new name for the ``dest`` that exists; it is given at the end. Without it,
        ``dest`` must not exist.
    ``replaces``: Replace a file ``dest`` that exists.

    Raises ConfigError: one of the files exists already, or its folder does not; ResourceError:
    they cannot be written.
    """
    names = [*extra_names, dest.name]
    check_absent(dest, extra_names, is_dest_free=replaces or keep_as is not None)
    check_parent(dest)
    try:
        with held_folder(dest.parent, f".{dest.name}.part-") as part:
            try:
                yield part
                if keep_as and dest.exists():
                    dest.rename(keep_as)
                with atomic_write(part / _MOVING) as marker:
                    marker.write_text("\n".join(names), "utf-8", "surrogateescape")
                for name in names:
                    _flush(part / name)
                    (part / name).replace(dest.with_name(name))
            finally:
                _discard_outputs(part, dest)
    except OSError as error:
        why, free = error.strerror or str(error), shutil.disk_usage(dest.parent).free
        raise ResourceError(
            f"{dest} cannot be written: {why} ({free / 1e6:.3g} MB are free)",
            # what GDAL could not write has no number: most often there is no room
            f"{os_hint(error, _NO_ROOM)}; or name a file in another folder",
        ) from None


def check_absent(
    dest: Path, extra_names: Sequence[str] = (), *, is_dest_free: bool = False
) -> None:
    """Refuse to write over files, once what killed writers of ``dest`` have left is removed.

    ``is_dest_free``: ``dest`` itself may exist.

    Raises ConfigError: a file exists that would be written.
    """
    for left in dest.parent.glob(f".{glob.escape(dest.name)}.part-*"):
        with hold_abandoned(left) as is_abandoned:
            if is_abandoned:
                _discard_outputs(left, dest)
    names = extra_names if is_dest_free else [dest.name, *extra_names]
    for path in map(dest.with_name, names):
        if os.path.lexists(path):
            raise ConfigError(f"{path} exists already", "Remove it, or name another file")


def check_parent(dest: Path) -> None:
    """Refuse a file whose folder is not there, before anything is computed for it."""
    if not dest.parent.is_dir():
        raise ConfigError(
            f"{dest} cannot be written: there is no folder {dest.parent}",
            f"Make it: mkdir -p {shlex.quote(str(dest.parent))}",
        )


def _discard_outputs(part: Path, dest: Path) -> None:
    """Remove a temporary folder, and the files moved out of it if ``dest`` was not."""
    if (part / _MOVING).is_file() and os.path.lexists(part / dest.name):
        for name in (part / _MOVING).read_text("utf-8", "surrogateescape").splitlines():
            if not os.path.lexists(part / name):
                remove_path(dest.with_name(name))
    remove_path(part)
