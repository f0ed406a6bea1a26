"""How the processes of one run find each other: a folder that only they can read.

``OUT/.connection-JOB-RESTART/`` holds the keys of TLS and, once the scheduler listens, its
addresses. It is on the file system that all nodes share, has mode 0700, and is removed at the
end; if the run is killed, the next command with that OUT removes it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import socket
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hyperhpc.errors import ResourceError
from hyperhpc.files import atomic_write
from hyperhpc.reading import read_json_file
from hyperhpc.workers.network import LOOPBACK, ssh_tunnel_command
from hyperhpc.workers.security import read_security, write_keys
from hyperhpc.workers.workers import Note

if TYPE_CHECKING:
    from distributed.security import Security

_PREFIX = ".connection-"
_SCHEDULER, _DASHBOARD, _OVER = "scheduler.json", "dashboard", "over"
#: The lifetime of the keys if Slurm does not say when the job ends.
_LONGEST_JOB_S = 30 * 86400.0


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
        """Make the folder with its keys; other processes see it complete or not at all.

        Raises ResourceError: if the file system does not keep it private.
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
                "Name an OUT on a file system with owners and modes",
            )
        if is_secure:  # the keys are valid until the job ends, and a day
            end = os.environ.get("SLURM_JOB_END_TIME", "")
            left = max(0.0, int(end) - time.time()) if end.isdecimal() else _LONGEST_JOB_S
            write_keys(part, timedelta(seconds=left, days=1))
        part.rename(self.folder)

    def security(self) -> Security:
        """TLS with the keys of this folder, or none if it was made without."""
        return read_security(self.folder)

    def publish(self, scheduler: Any) -> None:
        """Write where a ``PrivateScheduler`` is; without loopback, which leads elsewhere."""
        addresses = [listener.contact_address for listener in scheduler.listeners]
        link = scheduler.dashboard_link
        facts = {
            "addresses": [a for a in addresses if LOOPBACK not in a] or addresses,
            "dashboard": link and {"link": link, "host": socket.gethostname()},
        }
        with atomic_write(self.folder / _SCHEDULER) as part:
            part.write_text(json.dumps(facts), "utf-8")

    def read_scheduler(self) -> dict[str, Any] | None:
        """What the scheduler has published; None if it does not listen yet."""
        try:
            return read_json_file(self.folder / _SCHEDULER)
        except FileNotFoundError:
            return None

    def is_created(self) -> bool:
        """True once the folder is made."""
        with contextlib.suppress(OSError):  # an NFS client asks the server again
            os.listdir(self.folder.parent)
        return self.folder.is_dir()

    def is_over(self) -> bool:
        """True if there is nothing to connect to, and never will be."""
        return (self.folder / _OVER).exists()

    def end(self) -> None:
        """Remove the keys; processes that come late find a note that the run is over."""
        with contextlib.suppress(OSError):
            self.folder.mkdir(mode=0o700, exist_ok=True)
            (self.folder / _OVER).touch()
            for path in self.folder.iterdir():
                if path.name != _OVER:
                    path.unlink()


def report_dashboard(connection: Connection, link: str | None, node: str, note: Note) -> None:
    """Report how to reach a dashboard that is on the loopback of a node.

    Other users may read the log and may be on that node, so the log does not hold the secret.
    """
    if not link:
        return
    path = connection.folder / _DASHBOARD
    path.write_text(f"{link}\n", "utf-8")
    port = link.split(":")[2].partition("/")[0]
    note(f"dashboard: on your own machine: {ssh_tunnel_command(int(port), node)}")
    note(f"  its address: cat {shlex.quote(str(path))}")


def find_stale_connections(out: Path) -> list[Path]:
    """Folders left by runs that were killed or are over."""
    mine = Connection.of_job(out).folder.name
    with contextlib.suppress(OSError):
        return [path for path in out.glob(f"{_PREFIX}*") if path.name != mine]
    return []


def remove_stale_connections(out: Path) -> None:
    """Remove the folders of :func:`find_stale_connections`, and so their keys."""
    for path in find_stale_connections(out):
        shutil.rmtree(path, ignore_errors=True)
