"""Temporary folders that do not stay for ever if the process that made them is killed.

The owner holds a lock on a file in the folder, which the kernel releases when the owner dies.
So the next command knows which folders nobody uses any more: those in TMPDIR of any command,
and those next to an output of a command that was to write the same output.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PREFIX, _LOCK_FILE = "hyperhpc-", ".held"
#: Names of our folders in TMPDIR: the second part is as tempfile makes it.
_OWN_NAME = re.compile(re.escape(_PREFIX) + "[a-z0-9_]{8}")


@contextmanager
def scratch_folder(*, sweeps: bool = True) -> Iterator[str]:
    """Make a folder in TMPDIR that only its owner can read, and remove it at the end.

    ``sweeps``: Remove folders that killed processes left first.
    """
    if sweeps:
        remove_abandoned_scratch()
    with held_folder(Path(tempfile.gettempdir()), _PREFIX) as folder:
        yield str(folder)


@contextmanager
def held_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """Make a folder that only its owner can read, and remove it at the end.

    While this process lives, :func:`hold_abandoned` of others says that it is in use.
    """
    folder, lock = _make_held_folder(parent, prefix)
    try:
        yield folder
    finally:
        _remove(folder)
        os.close(lock)


def _make_held_folder(parent: Path, prefix: str) -> tuple[Path, int]:
    """The folder, and the descriptor of its locked file."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        # Until it is locked, another process may remove it as abandoned
        with contextlib.suppress(FileNotFoundError):
            lock = os.open(folder / _LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(lock, fcntl.LOCK_EX)
            if folder.exists():
                return folder, lock
            os.close(lock)


@contextmanager
def hold_abandoned(folder: Path) -> Iterator[bool]:
    """True if no process uses a folder of :func:`held_folder` any more; it is held meanwhile."""
    try:
        lock = os.open(folder / _LOCK_FILE, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        yield True  # killed before it was held, or while it was removed
        return
    except OSError:
        yield False
        return
    try:
        yield _can_lock(lock)
    finally:
        os.close(lock)


def _can_lock(lock: int) -> bool:
    """False for a file that another process has locked, or that another user owns."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return os.fstat(lock).st_uid == os.getuid()


def remove_abandoned_scratch() -> None:
    """Remove the scratch folders of this user that no process holds any more."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        if os.path.lexists(folder / _LOCK_FILE):
            with hold_abandoned(folder) as is_abandoned:
                if is_abandoned:
                    _remove(folder)
        elif _OWN_NAME.fullmatch(folder.name) and _is_private(folder):
            with contextlib.suppress(OSError):  # not a folder, or one that holds something
                folder.rmdir()


def _is_private(folder: Path) -> bool:
    """True for a folder of this user that nobody else may read, as ours are."""
    try:
        status = folder.lstat()
    except OSError:
        return False
    return status.st_uid == os.getuid() and status.st_mode & 0o777 == 0o700


def _remove(folder: Path) -> None:
    """Remove a folder, its lock last: a kill meanwhile leaves one that is known as ours."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if path.name == _LOCK_FILE:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
