"""A private folder in TMPDIR that does not stay there for ever if its process is killed.

The owner holds a lock on a file in the folder, which the kernel releases when the owner dies.
So the next run on this machine, with any OUT, knows which folders nobody uses any more.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PREFIX, _LOCK_FILE = "hyperhpc-", ".held"


@contextmanager
def scratch_folder() -> Iterator[str]:
    """Make a folder that only its owner can read, and remove it at the end.

    Folders that killed processes left are removed first.
    """
    remove_abandoned_scratch()
    folder, lock = _make_locked_folder()
    try:
        yield str(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _make_locked_folder() -> tuple[Path, int]:
    """The folder, and the descriptor of its locked file."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        lock = os.open(folder / _LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
        with contextlib.suppress(OSError):  # a file system without locks: nobody removes it
            fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            return folder, lock
        os.close(lock)  # another process removed it as abandoned before it was locked


def remove_abandoned_scratch() -> None:
    """Remove the scratch folders of this user that no process holds any more."""
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*/{_LOCK_FILE}"):
        with contextlib.suppress(OSError):
            lock = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
            try:
                if os.fstat(lock).st_uid == os.getuid():
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(path.parent, ignore_errors=True)
            finally:
                os.close(lock)
