"""How the processes of one run find and trust each other: a folder that only they can read.

``OUT/.connection-JOB-RESTART/`` holds the keys of TLS and, once it listens, the addresses
of the scheduler. It lies on the file system that all nodes share, has mode 0700, and is
removed at the end; what a hard death leaves is removed by the next command on that OUT.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hyperhpc.errors import ResourceError
from hyperhpc.workers.keys import has_keys, open_security, read_security, write_keys

if TYPE_CHECKING:
    from distributed.security import Security

_PREFIX = ".connection-"
_SCHEDULER, _DASHBOARD, _OVER = "scheduler.json", "dashboard", "over"
#: Where Slurm does not say when the job ends.
_LONG = timedelta(days=30)


@dataclass(frozen=True)
class Connection:
    """The folder of one run, or of one start of a job that was requeued."""

    folder: Path

    @classmethod
    def of_job(cls, out: Path) -> Connection:
        """Where the processes of this job meet; the same path in each of them."""
        job = os.environ.get("SLURM_JOB_ID", f"pid{os.getpid()}")
        restart = os.environ.get("SLURM_RESTART_COUNT", "0")
        return cls(out.absolute() / f"{_PREFIX}{job}-{restart}")

    def create(self, *, is_secure: bool) -> None:
        """Make the folder with its keys; others see it whole or not at all.

        Raises
        ------
        ResourceError
            If the file system does not keep it private.
        """
        part = self.folder.with_name(f"{self.folder.name}.part")
        for path in (part, self.folder):
            shutil.rmtree(path, ignore_errors=True)
        part.mkdir(mode=0o700)
        part.chmod(0o700)  # whatever the umask
        status = part.stat()
        if status.st_mode & 0o077 or status.st_uid != os.getuid():
            part.rmdir()
            raise ResourceError(
                f"{part.parent} does not keep a folder private: its mode is "
                f"{status.st_mode & 0o777:o}, its owner {status.st_uid}",
                "name an OUT on a file system with owners and modes",
            )
        if is_secure:
            write_keys(part, _lifetime())
        part.rename(self.folder)

    def security(self) -> Security:
        """TLS with the keys of this folder, or none if it was made without."""
        return read_security(self.folder) if has_keys(self.folder) else open_security()

    def publish(self, scheduler: dict[str, Any]) -> None:
        """Tell the others where the scheduler is."""
        part = self.folder / f"{_SCHEDULER}.part"
        part.write_text(json.dumps(scheduler), "utf-8")
        part.replace(self.folder / _SCHEDULER)

    def keep_dashboard(self, link: str) -> Path:
        """Write down the address of the dashboard, which holds a secret; return the file."""
        path = self.folder / _DASHBOARD
        path.write_text(f"{link}\n", "utf-8")
        return path

    def scheduler(self) -> dict[str, Any] | None:
        """What the scheduler has published; None if it does not listen yet."""
        try:
            return json.loads((self.folder / _SCHEDULER).read_text("utf-8"))
        except FileNotFoundError:
            return None

    def is_there(self) -> bool:
        """True once the folder is made."""
        with contextlib.suppress(OSError):  # an NFS client asks the server again
            os.listdir(self.folder.parent)
        return self.folder.is_dir()

    def is_over(self) -> bool:
        """True if there is nothing to connect to, and never will be."""
        return (self.folder / _OVER).exists()

    def end(self) -> None:
        """Remove the keys; who comes late finds a note that it is over."""
        with contextlib.suppress(OSError):
            self.folder.mkdir(mode=0o700, exist_ok=True)
            (self.folder / _OVER).touch()
            for path in self.folder.iterdir():
                if path.name != _OVER:
                    path.unlink()

    def remove(self) -> None:
        """Remove it all."""
        shutil.rmtree(self.folder, ignore_errors=True)


def find_stale(out: Path) -> list[Path]:
    """Folders that processes which died hard, or are over, have left."""
    mine = Connection.of_job(out).folder.name
    with contextlib.suppress(OSError):
        return [path for path in out.glob(f"{_PREFIX}*") if path.name != mine]
    return []


def remove_stale(out: Path) -> None:
    """Remove them, keys before all."""
    for path in find_stale(out):
        shutil.rmtree(path, ignore_errors=True)


def _lifetime() -> timedelta:
    """Until the job ends, and a day."""
    end = os.environ.get("SLURM_JOB_END_TIME", "")
    left = timedelta(seconds=max(0.0, int(end) - time.time())) if end.isdecimal() else _LONG
    return left + timedelta(days=1)
