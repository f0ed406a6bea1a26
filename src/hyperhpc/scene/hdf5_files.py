"""HDF5 files: which is one, and how one is opened."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from hyperhpc.errors import SceneError, cause

if TYPE_CHECKING:
    import h5py

#: First bytes of an HDF5 file; with a user block they come at 512, 1024, 2048, ...
SIGNATURE = b"\x89HDF\r\n\x1a\n"
#: What h5py raises for a damaged file.
READ_ERRORS: tuple[type[Exception], ...] = (
    OSError, RuntimeError, ValueError, TypeError, KeyError, EOFError
)  # fmt: skip


def is_hdf5(path: str) -> bool:
    """Tell by its signature whether a file is HDF5."""
    with open(path, "rb") as file:
        offset = 0
        while True:
            file.seek(offset)
            start = file.read(len(SIGNATURE))
            if start == SIGNATURE:
                return True
            if len(start) < len(SIGNATURE) or offset > 1 << 20:
                return False
            offset = 512 if offset == 0 else offset * 2


def open_file(path: str) -> h5py.File:
    """Open a file read-only. The caller closes it.

    Files are opened for each read, which costs a millisecond; a handle kept open would
    hold a lock against whoever wants to replace or amend the file. A read touches each
    chunk once, so there is no cache to lose either.

    Raises
    ------
    SceneError
        A missing, truncated or damaged file.
    """
    import h5py

    try:
        try:
            return h5py.File(path, "r")
        except OSError as error:
            if "lock" not in str(error) or f"errno = {errno.EAGAIN}" in str(error):
                raise  # not about locks, or somebody is writing the file
            # Parallel file systems may refuse locks, and nobody needs one to read.
            return h5py.File(path, "r", locking=False)
    except READ_ERRORS as error:
        size = os.path.getsize(path) if os.path.exists(path) else 0
        raise SceneError(
            f"HDF5 file {path} ({size} bytes) cannot be opened: {cause(error)}.",
            "It is truncated, damaged, or being written; download it again.",
        ) from error
