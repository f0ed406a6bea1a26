"""The bridge: from inside a container to sbatch and scancel of the host.

The job script opens it (jobs/elastic.sbatch): a folder of mode 0700 on the node's own disk
with a FIFO, ``requests``, that a loop on the host reads. A request is one line, ``ID VERB
[JOB]``; its answer is ``ID.out``, whole once ``ID.rc`` is there. So the image needs no Slurm
of the host's kind, and nothing of the host's has to be shown in it.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
from dataclasses import dataclass, field
from pathlib import Path

from hyperhpc.errors import SlurmError

_POLL_S = 0.1
#: A controller that is restarted answers again after a while.
_PATIENCE_S = 300.0
_GONE = "the job script's end of the bridge to Slurm is gone"


@dataclass
class Bridge:
    """This process's end of the bridge."""

    folder: Path
    _numbers: itertools.count = field(default_factory=lambda: itertools.count(1))

    @classmethod
    def opened(cls) -> Bridge:
        """The bridge that the job script has opened for this process.

        Raises
        ------
        SlurmError
            If there is none.
        """
        folder = os.environ.get("HYPERHPC_BRIDGE")
        if not folder or not (Path(folder) / "requests").is_fifo():
            raise SlurmError(
                "--launcher elastic needs the bridge to Slurm that its job script opens; "
                + (f"{folder} is none" if folder else "HYPERHPC_BRIDGE is not set"),
                "submit one: jobs/submit.sh MODE=elastic SITE=NAME SCENE=PATH OUT=PATH",
            )
        return cls(Path(folder))

    def prologue(self) -> str:
        """What a worker's job script begins with: the settings and functions of the site."""
        return (self.folder / "prologue.sh").read_text("utf-8")

    async def submit(self, script: str) -> str:
        """Submit a job and return its number.

        Raises
        ------
        SlurmError
            With what sbatch said.
        """
        number = next(self._numbers)
        (self.folder / f"{number}.sh").write_text(script, "utf-8")
        status, said = await self._ask(number, "submit")
        job = said.strip().splitlines()[-1].partition(";")[0] if said.strip() else ""
        if status != 0 or not job.isdecimal():
            raise SlurmError(f"Slurm refused a worker's job: {' '.join(said.split())}")
        return job

    async def cancel(self, job: str) -> None:
        """Cancel a job; one that is gone already is no error."""
        await self._ask(next(self._numbers), "cancel", job)

    async def state(self, job: str) -> dict[str, str] | None:
        """What Slurm knows of a job, as ``scontrol show job`` names it.

        ``JobState`` is ``GONE`` for a job it has forgotten. None if it does not answer.
        """
        status, said = await self._ask(next(self._numbers), "state", job)
        if status != 0:
            return None
        return dict(word.split("=", 1) for word in said.split() if "=" in word)

    async def _ask(self, number: int, *words: str) -> tuple[int, str]:
        """Exit status and output of what the host did."""
        self._write(" ".join((str(number), *words)) + "\n")
        answer = self.folder / f"{number}.rc"
        for _ in range(int(_PATIENCE_S / _POLL_S)):
            if answer.exists():
                said = (self.folder / f"{number}.out").read_text("utf-8", "replace")
                return int(answer.read_text("ascii")), said
            await asyncio.sleep(_POLL_S)
        raise SlurmError(f"Slurm did not answer for {_PATIENCE_S:.0f} s ({' '.join(words)})")

    def _write(self, line: str) -> None:
        """Write one line at once: a FIFO takes so little whole."""
        try:
            number = os.open(self.folder / "requests", os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:  # ENXIO: nobody reads it
            if error.errno not in (errno.ENXIO, errno.ENOENT):
                raise
            raise SlurmError(_GONE) from None
        try:
            os.write(number, line.encode("ascii"))
        except BrokenPipeError:
            raise SlurmError(_GONE) from None
        finally:
            os.close(number)
