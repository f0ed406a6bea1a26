"""One start of a run as real processes, which can be found and killed by their role."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil
from moments import WITHOUT_WORKERS, Moment, is_past

from cli_case import command_of, program

#: What every start may take, and what may be left of one after its driver was killed.
LIMIT_S, GONE_S = 120.0, 15.0
_POLL_S = 0.003
#: Tasks of a gang by their number.
SCHEDULER, CLIENT = 0, 1


class Start:
    """The processes of one start: the driver, or all tasks of a gang.

    Each is the head of a session of its own, so that whatever it starts is found.
    """

    def __init__(
        self,
        words: Sequence[str | Path],
        out: Path,
        log: Path,
        environments: Sequence[Mapping[str, str]],
    ) -> None:
        self.out = out
        #: Workers killed so far.
        self.losses = 0
        self.began = time.monotonic()
        with log.open("ab") as said:
            self.heads = [
                subprocess.Popen(
                    program(*words),
                    env={**os.environ, **environment},
                    stdin=subprocess.DEVNULL,
                    stdout=said,
                    stderr=said,
                    start_new_session=True,
                )
                for environment in environments
            ]

    @property
    def is_gang(self) -> bool:
        return len(self.heads) > 1

    @property
    def client(self) -> subprocess.Popen[bytes]:
        """The process that does what ``hyperhpc run`` does."""
        return self.heads[CLIENT] if self.is_gang else self.heads[0]

    def family(self) -> list[psutil.Process]:
        """All processes of this start that live."""
        sessions, found = {head.pid for head in self.heads}, []
        for pid in psutil.pids():
            with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
                if os.getsid(pid) in sessions:
                    found.append(psutil.Process(pid))
        return [process for process in found if not _is_dead(process)]

    def shared_memory(self) -> set[str]:
        """Files of /dev/shm that these processes have open by a name."""
        names = set()
        for process in self.family():
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{process.pid}/maps").read_text("utf-8").splitlines():
                    if "/dev/shm/" in line and not line.endswith("(deleted)"):
                        names.add(line.split(maxsplit=5)[-1])
        return names

    def wait_for(self, moment: Moment) -> bool:
        """Until the moment has come; False if the run has ended before."""
        while not self._is_past(moment):
            if self.client.poll() is not None:
                return False
            self._look_again(f"{moment} never came")
        time.sleep(moment.delay_s)
        return self.client.poll() is None

    def _look_again(self, otherwise: str) -> None:
        assert time.monotonic() - self.began < LIMIT_S, otherwise
        time.sleep(_POLL_S)

    def _is_past(self, moment: Moment) -> bool:
        return is_past(moment, self.out, self.client.pid)

    def kill(self, role: str, rng: random.Random) -> bool:
        """SIGKILL, as soon as there is one of this role; False if none comes any more."""
        if role == "group":
            for process in self.family():
                _kill(process.pid)
            return True
        while not (pids := self._of_role(role)):
            if self.client.poll() is not None or self._is_past(WITHOUT_WORKERS):
                return False
            self._look_again(f"no {role} came")
        self.losses += role == "worker"
        return _kill(rng.choice(pids))

    def _of_role(self, role: str) -> list[int]:
        if role == "worker":
            return [p.pid for p in self.family() if "spawn_main" in command_of(p)]
        if role == "nanny":
            return [head.pid for head in self.heads[CLIENT + 1 :]]
        return [self.heads[SCHEDULER].pid if role == "scheduler" else self.client.pid]

    def wait_done(self) -> int:
        """Exit code of a run that nobody disturbs any more; its other tasks end too."""
        for head in (self.client, *self.heads):
            head.wait(LIMIT_S)
        return self.client.returncode

    def wait_gone(self) -> float:
        """Seconds until no process is left."""
        begin = time.monotonic()
        for head in self.heads:
            head.wait(GONE_S)
        while left := self.family():
            assert time.monotonic() - begin < GONE_S, f"still there: {left}"
            time.sleep(_POLL_S)
        return time.monotonic() - begin

    def end(self) -> None:
        """Leave nothing behind, whatever has happened."""
        self.kill("group", random.Random(0))
        for head in self.heads:
            head.wait()


def _is_dead(process: psutil.Process) -> bool:
    """True for one that nobody has waited for, too."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    return True


def _kill(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        return True
    return False
