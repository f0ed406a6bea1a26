"""What a run leaves that is killed in its last moments, when all its results are written."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable

from hyperhpc.errors import ConfigError, ResourceError
from hyperhpc.pipeline.manifest import RunFolder, remove_parts
from hyperhpc.pipeline.progress import Progress
from hyperhpc.rundir.lock import LOCK, hold_lock
from hyperhpc.rundir.progress import StatusFile
from hyperhpc.workers import find_stale, remove_abandoned, remove_stale


def clear_leftovers(folder: RunFolder, launcher: str, note: Callable[[str], None]) -> None:
    """Do what is left to do in a complete OUT: away with the work, the keys and the lock.

    A run that is alive does it itself; an OUT that may only be read is left as it is.
    """
    remove_abandoned()
    is_left = folder.work.exists() or (folder.out / LOCK).exists()
    if not (is_left or find_stale(folder.out)):
        return
    with contextlib.suppress(ConfigError, ResourceError), hold_lock(folder.out, note) as lock:
        remove_stale(folder.out)
        remove_parts(folder)
        StatusFile(folder.status, Progress(), launcher, lock.claim).end("complete")
        shutil.rmtree(folder.work, ignore_errors=True)
