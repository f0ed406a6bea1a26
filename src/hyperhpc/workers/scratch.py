"""A folder of our own in TMPDIR, which does not stay there for ever if we are killed.

Its owner holds a lock on a file in it, which the kernel lets go of when the owner dies.
So the next run on this machine, of whatever OUT, knows what is nobody's any more.
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

_PREFIX, _HELD = "hyperhpc-", ".held"


@contextmanager
def scratch_folder() -> Iterator[str]:
    """Make a folder only its owner can read; remove it at the end, and what the dead left."""
    remove_abandoned()
    folder, held = _make()
    try:
        yield str(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(held)


def _make() -> tuple[Path, int]:
    """The folder, and the open file that holds it."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        held = os.open(folder / _HELD, os.O_RDWR | os.O_CREAT, 0o600)
        with contextlib.suppress(OSError):  # a file system without locks: nobody removes it
            fcntl.flock(held, fcntl.LOCK_EX)
        if folder.exists():
            return folder, held
        os.close(held)  # taken for abandoned before we held it


def remove_abandoned() -> None:
    """Remove the folders of this user that no process holds any more."""
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*/{_HELD}"):
        with contextlib.suppress(OSError):
            held = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
            try:
                if os.fstat(held).st_uid == os.getuid():
                    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(path.parent, ignore_errors=True)
            finally:
                os.close(held)
