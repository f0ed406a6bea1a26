"""The bridge from inside a container to sbatch, scancel and scontrol of the host.

The job script opens it (jobs/elastic.sbatch): a folder of mode 0700 on the node's own disk
with a FIFO, ``requests``, that a loop on the host reads. A request is one line, ``ID VERB
[JOB]``; its answer is ``ID.out``, which is complete once ``ID.rc`` exists. So the image needs
no Slurm that fits the host's, and no files of the host.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
from dataclasses import dataclass, field
from pathlib import Path

from hyperhpc.errors import SlurmError

_POLL_INTERVAL_S = 0.1
#: A controller that is restarted answers again after some minutes.
_TIMEOUT_S = 300.0


@dataclass
class Bridge:
    """This process's side of the bridge."""

    folder: Path
    _numbers: itertools.count = field(default_factory=lambda: itertools.count(1))

    @classmethod
    def find(cls) -> Bridge:
        """The bridge that the job script has opened for this process; SlurmError without one."""
        folder = os.environ.get("HYPERHPC_BRIDGE")
        if not folder or not (Path(folder) / "requests").is_fifo():
            raise SlurmError(
                "--launcher elastic needs the bridge to Slurm that its job script opens; "
                + (f"{folder} is not one" if folder else "HYPERHPC_BRIDGE is not set"),
                "Submit one: jobs/submit.sh MODE=elastic SITE=NAME SCENE=PATH OUT=PATH",
            )
        return cls(Path(folder))

    def read_prologue(self) -> str:
        """The beginning of a worker's job script: settings and functions of the site."""
        return (self.folder / "prologue.sh").read_text("utf-8")

    async def submit(self, script: str) -> str:
        """Submit a job and return its number.

        Raises SlurmError: if sbatch fails; the message holds its output.
        """
        number = next(self._numbers)
        (self.folder / f"{number}.sh").write_text(script, "utf-8")
        status, output = await self._request(number, "submit")
        job = output.strip().splitlines()[-1].partition(";")[0] if output.strip() else ""
        if status != 0 or not job.isdecimal():
            raise SlurmError(f"Slurm refused a worker's job: {' '.join(output.split())}")
        return job

    async def cancel(self, job: str) -> None:
        """Cancel a job; one that has ended already is no error."""
        await self._request(next(self._numbers), "cancel", job)

    async def read_state(self, job: str) -> dict[str, str] | None:
        """What Slurm knows of a job, as ``scontrol show job`` names it.

        ``JobState`` is ``GONE`` for a job it has forgotten. None if it does not answer.
        """
        status, output = await self._request(next(self._numbers), "state", job)
        if status != 0:
            return None
        return dict(word.split("=", 1) for word in output.split() if "=" in word)

    async def _request(self, number: int, *words: str) -> tuple[int, str]:
        """Exit status and output of the command on the host."""
        self._write(" ".join((str(number), *words)) + "\n")
        answer = self.folder / f"{number}.rc"
        for _ in range(int(_TIMEOUT_S / _POLL_INTERVAL_S)):
            if answer.exists():
                output = (self.folder / f"{number}.out").read_text("utf-8", "replace")
                return int(answer.read_text("ascii")), output
            await asyncio.sleep(_POLL_INTERVAL_S)
        raise SlurmError(f"Slurm did not answer for {_TIMEOUT_S:.0f} s ({' '.join(words)})")

    def _write(self, line: str) -> None:
        """Write one line at once; a FIFO does not divide lines this short."""
        try:
            number = os.open(self.folder / "requests", os.O_WRONLY | os.O_NONBLOCK)
            try:
                os.write(number, line.encode("ascii"))
            finally:
                os.close(number)
        except OSError as error:  # ENXIO, EPIPE: nobody reads it
            if error.errno not in (errno.ENXIO, errno.ENOENT, errno.EPIPE):
                raise
            raise SlurmError("The job script no longer reads the bridge to Slurm") from None
