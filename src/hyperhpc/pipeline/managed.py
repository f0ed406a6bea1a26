"""The life of a command that works long: ``run``, its repair, and ``ingest`` share it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

from hyperhpc.config import RunConfig
from hyperhpc.errors import (
    ConfigError,
    HyperhpcError,
    IncompleteRunError,
    ResourceError,
    SceneError,
)
from hyperhpc.files import check_guard, remove_partial_files
from hyperhpc.rundir.folder import RunFolder, disk_error
from hyperhpc.rundir.lock import Claim, hold_lock
from hyperhpc.rundir.progress import Progress, StatusFile, StopRequest, resume_hint
from hyperhpc.scene.formats.zarr_guard import own_settings
from hyperhpc.workers import (
    Workers,
    launch_workers,
    remove_stale_connections,
    report_worker_losses,
    scheduler_errors,
)

T = TypeVar("T")


@dataclass(frozen=True)
class Session(Generic[T]):
    """A command while it works.

    ``progress``: Shows what is done, and keeps status.txt. ``claim``: That the lock is held.
    ``claimed``: What ``claim`` of :func:`managed_run` returned.
    """

    config: RunConfig
    progress: Progress
    claim: Claim
    claimed: T

    @contextmanager
    def workers(self, warn: Callable[[str], None]) -> Iterator[Workers]:
        """Start workers, and stop them at the end; losses of workers go to ``warn``."""
        with (
            launch_workers(self.config, self.progress.note) as workers,
            report_worker_losses(workers, warn),
        ):
            self.progress.watch_workers(workers.describe_count, workers.describe_memory)
            if workers.dashboard:
                self.progress.note_secret(f"dashboard: {workers.dashboard}")
            yield workers


@contextmanager
def managed_run(
    folder: RunFolder, config: RunConfig, progress: Progress, command: str, claim: Callable[[], T]
) -> Iterator[Session[T]]:
    """Hold the lock of a folder, keep its status.txt, and translate errors, to the end.

    ``command``: The command line, for the hint how to resume.
    ``claim``: Called under the lock, before anything else is written: takes up what is
        in the folder, or refuses it. Then what killed processes have left there is removed.

    Raises ConfigError: another run holds the lock; ResourceError: the disk is full, or the
    folder may not be written, or was deleted; IncompleteRunError: it was stopped, or the
    scheduler or the lock was lost; what is finished is kept.
    """
    with hold_lock(folder.out, progress.note) as lock:
        claimed = claim()
        remove_stale_connections(folder.out)
        remove_partial_files(folder.out)
        status = StatusFile(folder.status, progress, config.launcher, lock.claim)
        with _end_status(status, folder, command), _explain_deletion(folder), own_settings():
            yield Session(config, status, lock.claim, claimed)


@contextmanager
def _explain_deletion(folder: RunFolder) -> Iterator[None]:
    """Say so if an error comes of somebody having deleted or moved the folder meanwhile."""
    place = folder.out.stat()
    try:
        yield
    except (OSError, HyperhpcError) as error:
        if isinstance(error, ConfigError | SceneError):  # the run itself removes a new folder
            raise
        try:
            is_same = os.path.samestat(place, folder.out.stat())
        except OSError:
            is_same = False
        if is_same:
            raise
        raise ResourceError(
            f"{folder.out} was deleted or moved while it was being written",
            "Leave the folder where it is, then give the same command again",
        ) from None


@contextmanager
def _end_status(status: StatusFile, folder: RunFolder, command: str) -> Iterator[None]:
    """Write into status.txt how the command ends; errors come out as ours."""
    try:
        yield
    except HyperhpcError as error:
        status.end("failed", error.message)
        if not (folder.plan.exists() or folder.logs.exists()):
            with suppress(IncompleteRunError):
                check_guard(folder.status)
                folder.status.unlink(missing_ok=True)  # nothing of the run is left
        raise
    except scheduler_errors():
        message = f"The scheduler was lost at {status.how_far()}; what is finished is kept"
        status.end("stopped", message)
        raise IncompleteRunError(
            message, "See the job's log for the reason, then give the same command again"
        ) from None
    except OSError as caught:
        failed = disk_error(caught, folder.out)
        status.end("failed", failed.message)
        raise failed from None
    except StopRequest:
        message = f"Stopped before its end, at {status.how_far()}; what is finished is kept"
        status.end("stopped", message)
        raise IncompleteRunError(message, resume_hint(command)) from None
    except BaseException as error:
        status.end("stopped", f"{type(error).__name__.strip('_')} at {status.how_far()}")
        raise
    status.end("complete")
