"""The cluster that ``make test-slurm`` has started, and how to use it."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import pytest

NODES = ("c1", "c2", "c3", "c4")
#: Where jobs are submitted: the controller, which runs none.
LOGIN = "ctl"
#: The users and their numbers (roots.sh).
USERS = {"alice": 1001, "mallory": 1002}

_STEPS = Path(__file__).with_name("cluster.sh")
_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
Value = TypeVar("Value")


class Listener(NamedTuple):
    """A TCP port that something listens to."""

    address: str
    port: int
    process: str
    uid: int


class Queued(NamedTuple):
    """A job that waits, runs or ends just now."""

    id: str
    user: str
    state: str
    nodes: str
    partition: str
    name: str


@dataclass(frozen=True)
class Cluster:
    """A running cluster; ``shared`` is seen under the same path inside and outside."""

    work: Path

    @property
    def shared(self) -> Path:
        """What all hosts share. ``hyperhpc.sif``, ``checkout`` and ``scene.zarr`` are there."""
        return self.work / "shared"

    @property
    def sif(self) -> Path:
        """The image under test."""
        return self.shared / "hyperhpc.sif"

    @property
    def scene(self) -> Path:
        """A simulated scene of 300 x 300 pixels that all may read."""
        return self.shared / "scene.zarr"

    def folder(self, name: str, user: str = "alice", mode: int = 0o755) -> Path:
        """A new folder of a user in ``shared``."""
        path = self.shared / name
        path.mkdir()
        os.chown(path, USERS[user], USERS[user])
        path.chmod(mode)
        return path

    def give(self, path: Path, user: str = "alice") -> None:
        """Make all of a folder a user's."""
        for one in (path, *path.rglob("*")):
            os.chown(one, USERS[user], USERS[user])

    def on(
        self,
        host: str,
        *command: str | Path,
        user: str = "alice",
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        check: bool = True,
        timeout: float = 120,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on a host; with ``check`` it must succeed."""
        pid = (self.work / host / "pid").read_text("utf-8").strip()
        words: list[str | Path] = ["nsenter", "--target", pid]
        words += ["--mount", "--uts", "--ipc", "--net", "--pid", "--"]
        words += ["setpriv", "--reuid", user, "--regid", user, "--init-groups"]
        settings = {"PATH": _PATH, "LANG": "C.UTF-8", "HOME": f"/srv/{user}"}
        settings |= {"USER": user, "LOGNAME": user, **(env or {})}
        words += ["env", "-i", "-C", cwd or self.shared]
        words += [f"{key}={value}" for key, value in settings.items()]
        done = subprocess.run(
            [*words, *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        said = f"{command} on {host}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert done.returncode == 0 or not check, said[-4000:]
        return done

    def submit(self, *arguments: str | Path, user: str = "alice") -> str:
        """The id of the job that ``sbatch`` makes of these arguments."""
        return self.on(LOGIN, "sbatch", "--parsable", *arguments, user=user).stdout.strip()

    def job(self, job_id: str) -> dict[str, str]:
        """What Slurm knows of a job, by the names of ``scontrol show job``."""
        shown = self.on(LOGIN, "scontrol", "--oneliner", "show", "job", job_id).stdout
        return dict(re.findall(r"([A-Z][\w/:]*)=(.*?)(?= [A-Z][\w/:]*=|\s*$)", shown))

    def jobs(self, user: str = "alice") -> list[Queued]:
        """The queue, without what has ended."""
        command = ["squeue", "--noheader", "--user", user, "--format", "%i|%u|%T|%N|%P|%j"]
        return [Queued(*line.split("|")) for line in self._lines(LOGIN, *command)]

    def wait_state(self, job_id: str, *states: str, timeout: float = 60) -> dict[str, str]:
        """Wait until a job is in one of these states; return what Slurm knows of it."""
        shown: dict[str, str] = {}

        def reached() -> bool:
            shown.clear()
            shown.update(self.job(job_id))
            return shown["JobState"] in states

        wait_until(f"job {job_id} is {' or '.join(states)}", reached, timeout, saw=shown)
        return shown

    def listening(self, host: str) -> list[Listener]:
        """The TCP ports of a host."""
        found = []
        for line in self._lines(host, "ss", "-Hltnpe", user="root"):
            address, port = line.split()[3].rsplit(":", 1)
            name = re.search(r'users:\(\("([^"]*)"', line)
            uid = re.search(r"\buid:(\d+)", line)
            found.append(
                Listener(
                    address.split("%")[0].strip("[]"),
                    int(port),
                    name[1] if name else "",
                    int(uid[1]) if uid else 0,
                )
            )
        return found

    def processes(self, host: str, user: str = "alice") -> list[str]:
        """The command lines of a user's processes on a host."""
        command = ["ps", "-ww", "-u", user, "-o", "pid=,args="]
        return self._lines(host, *command, user="root", check=False)

    def idle_nodes(self) -> list[str]:
        """The nodes that are up and have nothing to do."""
        lines = self._lines(LOGIN, "sinfo", "-hN", "-p", "main", "-o", "%N %T")
        return [line.split()[0] for line in lines if line.split()[1] == "idle"]

    def power_off(self, host: str) -> None:
        """Pull the plug: everything on the host is gone at once.

        Slurm is informed, as by a health check: a SlurmdTimeout short enough for the tests to wait
        for would take healthy nodes of a busy machine for lost too.
        """
        self._step("power_off", host)
        down = ["scontrol", "update", f"nodename={host}", "state=down", "reason=lost"]
        self.on(LOGIN, *down, user="root")

    def power_on(self, host: str) -> None:
        """Start a host again. Its /tmp is empty."""
        self._step("power_on", host)

    def link(self, host: str, up: bool) -> None:
        """Plug or pull the network cable of a host."""
        self._step("link", host, "up" if up else "down")

    def heal(self) -> None:
        """Bring all nodes back and wait until they are idle."""
        for node in NODES:
            if not (self.work / node / "pid").exists():
                self.power_on(node)
            self.link(node, True)
        wait_until("all nodes are idle", lambda: self.idle_nodes() == list(NODES), 90)

    def _step(self, *words: str) -> None:
        subprocess.run([_STEPS, *words], stdin=subprocess.DEVNULL, check=True)

    def _lines(self, host: str, *command: str, **options: object) -> list[str]:
        return self.on(host, *command, **options).stdout.splitlines()  # type: ignore[arg-type]


def wait_until(
    description: str, function: Callable[[], Value], timeout: float = 30, saw: object = None
) -> Value:
    """Ask five times a second until the answer is true, and return it."""
    end = time.monotonic() + timeout
    while not (answer := function()):
        if time.monotonic() > end:
            pytest.fail(f"not within {timeout:g} s: {description}; last: {saw or answer!r}")
        time.sleep(0.2)
    return answer


def work_folder() -> Path:
    """Where run.sh has put the cluster; called first in modules that need it."""
    work = os.environ.get("HYPERHPC_SLURM_TEST")
    if not work:
        pytest.skip(
            "no cluster is started here: make test-slurm starts and tests one",
            allow_module_level=True,
        )
    return Path(work)
