"""Submitting runs to the cluster, and waiting for what they do."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from slurm_case import LOGIN, Cluster, wait_until

#: Long enough in the fit to be disturbed there, with a result that is quick to make again.
LONG_FIT = ("--models", "lloyd", "--clusters", "40", "--stride", "1")
#: Longer than any test looks at it; ended by the test.
ENDLESS_FIT = ("--models", "lloyd", "--clusters", "250", "--stride", "1")
_ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL")


@dataclass
class Submitted:
    """A run that was submitted."""

    cluster: Cluster
    out: Path
    job: str
    said: str

    def status(self) -> dict[str, str]:
        """What OUT/status.txt says; empty before there is one."""
        try:
            text = (self.out / "status.txt").read_text("utf-8")
        except FileNotFoundError:
            return {}
        return dict(line.split(": ", 1) for line in text.splitlines())

    def log(self) -> str:
        """All that the job has said."""
        path = self.out / "slurm" / f"{self.job}.log"
        return path.read_text("utf-8") if path.exists() else ""

    def all_up(self, count: int) -> bool:
        """True if so many workers are connected."""
        return self.status().get("workers") == f"{count} of {count}"

    def wait_stage(self, stage: str, timeout: float = 90) -> None:
        """Wait until the run is in a stage whose name begins so."""
        seen: dict[str, str] = {}

        def is_there() -> bool:
            seen.clear()
            seen.update(self.status(), log=self.log()[-1500:])
            assert self.cluster.job(self.job)["JobState"] not in _ENDED, seen
            return seen.get("state") == "running" and seen.get("stage", "").startswith(stage)

        wait_until(f"the run is at {stage}", is_there, timeout, saw=seen)

    def wait_end(self, timeout: float = 480) -> int:
        """Wait until the job has ended; its exit status."""
        shown = self.cluster.wait_state(self.job, *_ENDED, timeout=timeout)
        return int(shown["ExitCode"].split(":")[0])

    def must_complete(self, timeout: float = 480) -> None:
        """Wait for the end, which must be a good one that leaves nothing behind."""
        code = self.wait_end(timeout)
        assert code == 0, f"exit {code}\n{self.log()[-3000:]}"
        assert self.status()["state"] == "complete"
        self.must_be_clean()

    def must_be_clean(self) -> None:
        """No keys, no scheduler file, nothing that was for the job's time only."""
        wait_until("the job's shell has cleaned up", lambda: not self.leftovers(), 10)

    def leftovers(self) -> list[str]:
        """What has no place in OUT once no job is there."""
        names = [path.name for path in self.out.glob(".*")]
        names += [path.name for path in (self.out / "slurm").glob("stop-*")]
        return names + [path.name for path in (self.out / "slurm").glob(".*")]

    def worker_jobs(self) -> dict[str, str]:
        """Node of each running worker job of an elastic run."""
        return {
            job.id: job.nodes
            for job in self.cluster.jobs()
            if job.name == f"hyperhpc-worker-{self.job}" and job.state == "RUNNING"
        }


def submit(cluster: Cluster, out: Path, *arguments: str, **variables: object) -> Submitted:
    """Submit a run as alice, from the login node, by make submit."""
    program = ("make", "--silent", "submit")
    done = try_submit(cluster, out, *arguments, program=program, **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    job = re.search(r"^job: +(\d+)", done.stdout, re.MULTILINE)
    assert job, done.stdout
    return Submitted(cluster, out, job[1], done.stdout)


def try_submit(
    cluster: Cluster,
    out: Path,
    *arguments: str,
    program: Sequence[str] = ("jobs/submit.sh",),
    **variables: object,
) -> subprocess.CompletedProcess[str]:
    """As :func:`submit`, by the script itself, whatever comes of it."""
    names = {"SITE": "minicluster", "SCENE": cluster.scene, "IMAGE": cluster.sif, "OUT": out}
    options = [word for word in arguments if word != "--dry-run"]
    names |= {"MEMORY": "1200MiB", "ARGS": " ".join(options)} | variables
    words = [f"{name}={value}" for name, value in names.items()]
    words += [word for word in arguments if word == "--dry-run"]
    checkout = cluster.shared / "checkout"
    return cluster.on(LOGIN, *program, *words, cwd=checkout, check=False)
