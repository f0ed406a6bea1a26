"""Files for the user, whole or not at all: written aside, renamed when they are complete."""

from __future__ import annotations

import shlex
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hyperhpc.errors import ConfigError, ResourceError


@contextmanager
def written_aside(dest: Path, beside: Sequence[str] = ()) -> Iterator[Path]:
    """A folder on the same file system, whose files are moved to DEST's at the end.

    Parameters
    ----------
    dest
        The file that is wanted; it appears last, so that what lies beside it is there.
    beside
        Names of further files that are made with it.

    Yields
    ------
    The folder; what is not named stays in it and is removed.

    Raises
    ------
    ConfigError
        One of the files exists already, or its folder does not.
    ResourceError
        They cannot be written.
    """
    names = [*beside, dest.name]
    for name in reversed(names):
        if (path := dest.with_name(name)).exists():
            raise ConfigError(f"{path} exists already", "remove it, or name another file")
    if not dest.parent.is_dir():
        raise ConfigError(
            f"{dest} cannot be written: there is no folder {dest.parent}",
            f"make it: mkdir -p {shlex.quote(str(dest.parent))}",
        )
    part = None
    try:
        part = Path(tempfile.mkdtemp(prefix=f".{dest.name}.part-", dir=dest.parent))
        yield part
        for name in names:
            (part / name).replace(dest.with_name(name))
    except OSError as error:
        why, free = error.strerror or str(error), shutil.disk_usage(dest.parent).free
        raise ResourceError(
            f"{dest} cannot be written: {why} ({free / 1e6:.3g} MB are free)",
            "make room, or name a file in another folder",
        ) from None
    finally:
        if part:
            shutil.rmtree(part, ignore_errors=True)
