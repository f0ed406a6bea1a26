"""The machines that ``make test-image`` has started, and how to speak to them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

#: The unprivileged user of the machines (roots.sh).
USER_ID = 1001
#: Small, since it is analysed a dozen times.
SIZE = "200x200"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Machine:
    """A running machine; ``work`` is seen under the same path inside and outside."""

    name: str
    work: Path

    def run(
        self,
        *command: str | Path,
        user: int = USER_ID,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command there and return what it said, whatever its status."""
        pid = (self.work / f"{self.name}.pid").read_text("utf-8").strip()
        words: list[str | Path] = ["nsenter", "--target", pid]
        words += ["--mount", "--uts", "--ipc", "--pid", "--"]
        if user:
            words += ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
        settings = {"PATH": _PATH, "LANG": "C.UTF-8", "HOME": "/srv/user", **(env or {})}
        words += ["env", "-i", "-C", cwd or self.work]
        words += [f"{key}={value}" for key, value in settings.items()]
        return subprocess.run(
            [*words, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def check(self, *command: str | Path, **options: object) -> str:
        """Run a command that must succeed and return what it said."""
        done = self.run(*command, **options)  # type: ignore[arg-type]
        assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}"
        return done.stdout

    def folder(self, name: str) -> Path:
        """A new folder that belongs to the unprivileged user."""
        path = self.work / name
        path.mkdir()
        os.chown(path, USER_ID, USER_ID)
        return path


def work_folder() -> Path:
    """Where run.sh has put images and machines; called first in modules that need them."""
    work = os.environ.get("HYPERHPC_IMAGE_TEST")
    if not work:
        pytest.skip(
            "no images are built here: make test-image builds and tests them",
            allow_module_level=True,
        )
    return Path(work)


def run_demo(program: Sequence[str | Path], out: Path) -> None:
    """Run the demonstration by a program on this machine."""
    command = [*program, "demo", out, "--size", SIZE]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
