"""Who a run is, so that others can find out whether it still lives."""

from __future__ import annotations

import os
import secrets
import socket
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path


@dataclass(frozen=True)
class Owner:
    """Who holds a lock, as its file says.

    Attributes
    ----------
    token
        Of this one run; what its tasks compare.
    host, machine
        Name for people; and what is the same for processes that see each other's numbers.
    pid, started
        Process, and when it started, in ticks since the machine did.
    since
        UTC, for people.
    job, restart
        SLURM_JOB_ID and SLURM_RESTART_COUNT; no job outside Slurm.
    """

    token: str
    host: str
    machine: str
    pid: int
    started: int
    since: str
    job: str | None = None
    restart: int = 0

    @classmethod
    def of_this_process(cls) -> Owner:
        """Ourselves."""
        restart = os.environ.get("SLURM_RESTART_COUNT", "")
        return cls(
            secrets.token_hex(8),
            socket.gethostname(),
            find_machine(),
            os.getpid(),
            find_start(os.getpid()) or 0,
            datetime.now(UTC).isoformat(timespec="seconds"),
            os.environ.get("SLURM_JOB_ID"),
            int(restart) if restart.isdecimal() else 0,
        )

    def __str__(self) -> str:
        job = f"job {self.job}, " if self.job else ""
        return f"{job}process {self.pid} on {self.host}, since {self.since}"


def is_gone(theirs: Owner, mine: Owner) -> bool | None:
    """True, False, or None if only time can tell, for the owner of another lock."""
    if theirs.job is not None and theirs.job == mine.job and theirs.restart < mine.restart:
        return True
    if theirs.machine == mine.machine:
        return find_start(theirs.pid) != theirs.started
    return None


def find_machine() -> str:
    """What is the same for processes that see each other under the same numbers."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # not Linux
        return socket.gethostname()


def find_start(pid: int) -> int | None:
    """When a process started, in ticks; None if it does not live."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return None
    except ProcessLookupError:
        return None
    else:
        state, *fields = stat.rpartition(")")[2].split()
        return None if state in "ZX" else int(fields[18])
    import psutil  # not Linux

    try:
        process = psutil.Process(pid)
        is_dead = process.status() == psutil.STATUS_ZOMBIE
        return None if is_dead else int(process.create_time() * 100)
    except psutil.Error:
        return None
