"""One run at a time in OUT: a lock that survives NFS and hosts that die.

``OUT/.lock`` names its owner and is touched every ten seconds. It appears whole, by a hard
link or an exclusive creation, and is taken from an owner that is provably gone: a dead
process of this machine, an earlier start of this Slurm job, or one whose touch is a minute
old by the clock of the file system, which is the only clock all nodes share. Tasks carry
the :class:`Claim` and ask it before they write, so a run that lost its lock writes no more:
neither if the lock is another's, nor if it is gone, as after the other has finished.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
import shlex
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hyperhpc.errors import ConfigError, IncompleteRunError, ResourceError, os_hint
from hyperhpc.files import guard_writes
from hyperhpc.reading import open_regular


@dataclass(frozen=True)
class Owner:
    """Who holds a lock, as its file says.

    ``token``: Of this one run; what its tasks compare. ``host``, ``since`` (UTC): For people.
    ``machine``: What is the same for processes that see each other's numbers.
    ``pid``, ``started``: Process, and when it started, in ticks since the machine did.
    ``job``, ``restart``: SLURM_JOB_ID and SLURM_RESTART_COUNT; no job outside Slurm.
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

    @classmethod
    def from_json(cls, value: Any) -> Owner:
        """The owner that a lock names; TypeError or ValueError if it is damaged."""
        owner = cls(**value)
        for field in fields(cls):
            kind = int if field.type == "int" else str
            known = getattr(owner, field.name)
            if type(known) is not kind and not (field.name == "job" and known is None):
                raise TypeError(field.name)
        if not _TOKEN.fullmatch(owner.token):  # it becomes part of a name
            raise ValueError(owner.token)
        return owner

    def __str__(self) -> str:
        job = f"job {self.job}, " if self.job else ""
        return f"{job}process {self.pid} on {self.host}, since {self.since}"


def is_gone(theirs: Owner, mine: Owner) -> bool | None:
    """True, False, or None if only waiting will show it, for the owner of another lock."""
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
    if Path("/proc/self/stat").exists():
        try:
            stat = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")
        except (FileNotFoundError, ProcessLookupError):
            return None
        state, *fields = stat.rpartition(")")[2].split()
        return None if state in "ZX" else int(fields[18])
    import psutil  # not Linux

    try:
        process = psutil.Process(pid)
        is_dead = process.status() == psutil.STATUS_ZOMBIE
        return None if is_dead else int(process.create_time() * 100)
    except psutil.Error:
        return None


LOCK = ".lock"
#: More than any lock has.
_MAX_BYTES = 2**16
_TOKEN = re.compile(r"\w{1,64}")
#: Seconds between two touches.
BEAT_S = 10.0
#: An owner that has missed so many seconds is gone.
GONE_S = 60.0
#: One on another machine, by the clock of this one, if nothing may be written to find out.
_SILENT_S = 3 * GONE_S
_LOOK_S = 1.0
#: How often, and after how many seconds each, a lock that seems to be gone is looked for again.
_LOOKS_AGAIN, _LOOK_AGAIN_S = 4, 0.25


@dataclass(frozen=True)
class Claim:
    """That a run holds the lock of OUT; small, and sent along with each task."""

    path: Path
    token: str

    def check(self) -> None:
        """Raise IncompleteRunError if the lock is another run's, or gone."""
        owner, touched = self._look()
        if owner is not None and owner.token == self.token:
            return
        out = self.path.parent
        if touched is None:
            raise IncompleteRunError(
                f"{out} has lost the lock of this run: another run took it over and has ended, or "
                "somebody removed the lock; this run writes nothing more",
                f"See what the folder holds: hyperhpc status {shlex.quote(str(out))}",
            )
        raise IncompleteRunError(
            f"{out} was taken over by another run ({owner or 'its lock cannot be read'}) because "
            f"this one gave no sign of life for {GONE_S:.0f} s; it writes nothing more",
            f"Follow the other: hyperhpc status {shlex.quote(str(out))}",
        )

    def _look(self) -> tuple[Owner | None, float | None]:
        """Owner and last touch; a lock that is away for a moment is not gone.

        --restart renames the folder aside with its lock, and NFS remembers for a while that a
        file did not exist, until the folder is listed.
        """
        for _ in range(_LOOKS_AGAIN):
            owner, touched = _read(self.path)
            if touched is not None and owner is not None:
                break
            with contextlib.suppress(OSError):
                os.listdir(self.path.parent)
            time.sleep(_LOOK_AGAIN_S)
        else:
            owner, touched = _read(self.path)
        return owner, touched


class Lock:
    """A held lock, kept alive by a thread."""

    def __init__(self, path: Path, owner: Owner) -> None:
        self.claim = Claim(path, owner.token)
        self._over, self._ending = threading.Event(), threading.Lock()
        #: Why it is not ours any more; None while it is.
        self.lost: IncompleteRunError | None = None
        threading.Thread(target=self._beat, daemon=True).start()

    def _beat(self) -> None:
        while not self._over.wait(BEAT_S):
            try:
                self.claim.check()
                os.utime(self.claim.path)
            except IncompleteRunError as error:
                if not self.claim.path.parent.is_dir():
                    continue  # deleted or moved as a whole: whoever writes there says so
                with self._ending:
                    if not self._over.is_set():
                        self.lost = error
                        # Comes as an interrupt in the main thread; hold_lock says what it was
                        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
                return
            except OSError:
                continue  # a file system that is away for a while

    def stop(self) -> None:
        """Look at it no more; an interrupt that was sent already is swallowed."""
        with contextlib.suppress(KeyboardInterrupt):
            with self._ending:
                self._over.set()
            time.sleep(0)  # where Python calls its handlers of signals

    def release(self) -> None:
        """Remove it, if it is ours."""
        self.stop()
        with contextlib.suppress(OSError):
            owner, _ = _read(self.claim.path)
            if owner is not None and owner.token == self.claim.token:
                self.claim.path.unlink()


def is_abandoned(out: Path) -> bool:
    """True if nobody works in OUT: there is no lock, or its owner is gone.

    An owner on another machine counts as gone after three minutes without a touch, as the clocks
    of machines differ. Nothing is written.
    """
    try:
        theirs, touched = _read(out / LOCK)
    except OSError:
        return False  # whatever it is, it is not known
    if touched is None:
        return True
    verdict = is_gone(theirs, Owner.of_this_process()) if theirs else None
    return time.time() - touched > _SILENT_S if verdict is None else verdict


@contextmanager
def hold_lock(out: Path, note: Callable[[str], None]) -> Iterator[Lock]:
    """Hold the lock of OUT, which is made if it is not there.

    ``note``: Shows that it takes a while to find out whether an owner is alive.

    Raises ConfigError: if another run holds it; ResourceError: if OUT cannot be made or
    written; IncompleteRunError: if the lock was lost on the way.
    """
    was_there = out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
        owner = Owner.of_this_process()
        _acquire(out / LOCK, owner, note)
        _remove_parts(out / LOCK, owner)
    except OSError as error:
        what = "written" if was_there else "made"
        raise ResourceError(
            f"{out} cannot be {what}: {error.strerror or error}",
            f"{os_hint(error)}; or name another OUT",
        ) from None
    lock = Lock(out / LOCK, owner)
    try:
        with guard_writes(out, lock.claim.check):
            yield lock
    except BaseException:
        lock.stop()
        if lock.lost is not None:
            raise lock.lost from None
        raise
    finally:
        lock.release()
        if not was_there:
            with contextlib.suppress(OSError):
                out.rmdir()  # a run that could not start leaves nothing


def move_lock(old: Path, new: Path) -> None:
    """Take the lock along when a folder was renamed aside and a new one is made.

    Raises OSError: if another run was faster.
    """
    owner, _ = _read(old / LOCK)
    if owner is not None:
        if not _create(new / LOCK, owner):
            raise FileExistsError(17, "another run has begun there", str(new))
        (old / LOCK).unlink()


def _acquire(path: Path, mine: Owner, note: Callable[[str], None]) -> None:
    """Create the lock, or take it over from an owner that is gone."""
    watched, first, since = None, 0.0, 0.0  # whom, and the first touch that was seen, and when
    while not _create(path, mine):
        theirs, touched = _read(path)
        if touched is None:
            continue  # released just now
        token = theirs.token if theirs else ""
        verdict = is_gone(theirs, mine) if theirs else None
        if verdict is None:
            age = _now(path) - touched
            if token != watched:
                watched, first, since = token, touched, time.monotonic()
                if age < GONE_S:
                    note(
                        f"Finding out whether another run in {path.parent} is alive "
                        f"({theirs}): this takes up to {min(GONE_S - age, GONE_S):.0f} s"
                    )
            # By our own time too: a touch may lie in the future, if a clock was set back
            is_silent = age >= GONE_S or time.monotonic() - since >= GONE_S
            verdict = False if touched != first else True if is_silent else None
        if verdict is None:
            time.sleep(_LOOK_S)
        elif verdict:
            if _take_over(path, token, mine, note):
                break
        else:
            raise ConfigError(
                f"{path.parent} is in use by another run: {theirs}",
                f"Wait, or see what it does: hyperhpc status {shlex.quote(str(path.parent))}",
            )


def _create(path: Path, owner: Owner) -> bool:
    """Make the lock file, whole; False if there is one, or its holder has removed our part."""
    part = _write_part(path, owner)
    try:
        os.link(part, path)
        return True
    except (FileExistsError, FileNotFoundError):
        return False
    except OSError:  # a file system without hard links
        with contextlib.suppress(FileExistsError), path.open("x", encoding="utf-8") as file:
            file.write(_to_text(owner))
            return True
        return False
    finally:
        part.unlink(missing_ok=True)


def _take_over(path: Path, token: str, mine: Owner, note: Callable[[str], None]) -> bool:
    """Replace the lock of an owner that is gone; of several who try, one succeeds.

    The lock is never away, not for a moment: another could create one in it. So it is
    replaced, by whoever holds the right to succeed this owner, which is a lock too.
    """
    right = path.with_name(f"{LOCK}.after-{token}")
    try:
        _acquire(right, mine, note)
    except ConfigError:
        time.sleep(_LOOK_S / 100)  # another is about to
        return False
    try:
        owner, touched = _read(path)
        if touched is None or (owner.token if owner else "") != token:
            return False  # another process was faster
        with contextlib.suppress(FileNotFoundError):  # another has the lock, and removed the part
            _write_part(path, mine).replace(path)
            return True
        return False
    finally:
        right.unlink(missing_ok=True)


def _write_part(path: Path, owner: Owner) -> Path:
    part = path.with_name(f"{LOCK}.part-{secrets.token_hex(8)}")
    part.write_text(_to_text(owner), "utf-8")
    return part


def _to_text(owner: Owner) -> str:
    return json.dumps(asdict(owner))


def _read(path: Path) -> tuple[Owner | None, float | None]:
    """Owner and last touch; no owner if the file is not whole, neither if there is none."""
    try:
        with open_regular(path) as file:  # opening makes NFS ask the server
            data, touched = file.read(_MAX_BYTES), os.fstat(file.fileno()).st_mtime
    except FileNotFoundError:
        if path.is_symlink():
            raise OSError(errno.EINVAL, f"{path} is a link to nothing: remove it") from None
        return None, None
    try:
        return Owner.from_json(json.loads(data)), touched
    except (RecursionError, TypeError, ValueError):
        return None, touched


def find_parts(path: Path) -> list[Path]:
    """What runs next to a lock that were killed while they tried to get it have left."""
    return list(path.parent.glob(f"{LOCK}.*"))


def _remove_parts(path: Path, mine: Owner) -> None:
    """Remove them, as the holder of the lock: a process that lives makes its part again.

    The right to succeed ourselves is left: whoever holds it takes us for gone.
    """
    for part in find_parts(path):
        if part.name != f"{LOCK}.after-{mine.token}":
            with contextlib.suppress(OSError):
                part.unlink()


def _now(path: Path) -> float:
    """Time by the clock of the file system."""
    probe = path.with_name(f"{LOCK}.part-{secrets.token_hex(8)}")
    try:
        with probe.open("x") as file:
            return os.fstat(file.fileno()).st_mtime
    finally:
        probe.unlink(missing_ok=True)
