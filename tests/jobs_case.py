"""A login node and a compute node without Slurm: programs that only write down their calls.

The real Slurm is in tests/slurm. Here it is enough to see what would reach it, exactly.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
JOBS = ROOT / "jobs"

#: Each call is a file of words, NUL after each; sbatch keeps the script too.
_RECORD = r"""#!/bin/bash
name=${0##*/}
here=${0%/*}/..
exec 9>"$here/lock" && flock 9
number=$(($(ls "$here/calls" | grep -c "^$name-") + 1))
printf '%s\0' "$@" >"$here/calls/$name-$number"
env -0 >"$here/calls/env-$name-$number"
if [ "$name" = sbatch ]; then
  for last; do :; done
  if [ -f "$last" ]; then cat "$last"; else cat; fi >"$here/calls/script-$number"
fi
exec 9>&-
if [ -f "$here/does/$name" ]; then . "$here/does/$name"; fi
"""
_DOES = {
    "sbatch": "echo $((41 + number))",
    # what srun would do for the client's task alone
    "srun": 'while [[ $1 == --* ]]; do shift; done\nSLURM_PROCID=1 "$@"',
    "squeue": 'echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1',
    "df": r'[[ "$*" == *iavail* ]] && printf "IFree\n5000000\n" || printf "Avail\n90000000\n"',
}
#: What a login node has for sure, besides bash.
_COREUTILS = "cat chmod cut date df dirname head id ln mkdir mv realpath rm rmdir stat tail tee"
UGLY = 'it\'s "a" $HOME, 100%j `x` \\ #é'


@dataclass
class Cluster:
    """A folder with the programs, a scene, an image, and a place for OUT."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("bin", "calls", "does"):
            (self.folder / name).mkdir(parents=True)
        for name in ("sbatch", "srun", "squeue", "scancel", "scontrol", "apptainer", "df"):
            self.program(name, _RECORD)
            self.does(name, _DOES.get(name, ""))
        self.environment = {
            "PATH": f"{self.folder / 'bin'}:{os.defpath}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
        }
        self.scene.mkdir()
        self.image.touch()

    @property
    def scene(self) -> Path:
        return self.folder / "scene.zarr"

    @property
    def image(self) -> Path:
        return self.folder / "hyperhpc image.sif"

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def program(self, name: str, text: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(text, "utf-8")
        path.chmod(0o755)

    def does(self, name: str, text: str) -> None:
        """Lines of bash that a program runs after it has written down its call."""
        (self.folder / "does" / name).write_text(text + "\n", "utf-8")

    def calls(self, name: str) -> list[list[str]]:
        """Words of each call, in their order."""
        paths = (self.folder / "calls").glob(f"{name}-*")
        ordered = sorted(paths, key=lambda path: int(path.name.rpartition("-")[2]))
        return [path.read_text("utf-8").split("\0")[:-1] for path in ordered]

    def environment_of(self, name: str, number: int = 1) -> dict[str, str]:
        text = (self.folder / "calls" / f"env-{name}-{number}").read_text("utf-8")
        return dict(line.partition("=")[::2] for line in text.split("\0") if line)

    def script(self, number: int = 1) -> str:
        """What a call of sbatch was given to run."""
        return (self.folder / "calls" / f"script-{number}").read_text("utf-8")

    def login_node_only(self) -> None:
        """Leave bash, coreutils and sbatch on PATH, and nothing else."""
        programs = self.folder / "login"
        programs.mkdir()
        for name in ["bash", "env", *_COREUTILS.split()]:
            (programs / name).symlink_to(f"/usr/bin/{name}")
        real = os.environ.get("PATH", os.defpath)
        self.program("sbatch", _RECORD.replace("here=", f"PATH={real}\nhere=", 1))
        (programs / "sbatch").symlink_to(self.folder / "bin" / "sbatch")
        self.environment["PATH"] = str(programs)

    def submit(
        self, *arguments: str, defaults: bool = True, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run submit.sh, with a scene, an image and OUT of this folder."""
        named = {"SITE": "minicluster", "SCENE": self.scene, "OUT": self.out}
        words = {**(named | {"IMAGE": self.image} if defaults else {}), **variables}
        return self.bash(
            str(JOBS / "submit.sh"), *(f"{k}={v}" for k, v in words.items()), *arguments
        )

    def bash(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["/bin/bash", *arguments],
            cwd=self.folder,
            env=self.environment | variables,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def start_job(self, number: int = 1, **variables: str) -> subprocess.Popen[bytes]:
        """Start what was submitted, as Slurm would: its log is OUT/slurm/42.log."""
        path = self.folder / "calls" / f"script-{number}"
        job = str(41 + number)
        with self.log(job).open("ab") as log:
            return subprocess.Popen(
                ["/bin/bash", str(path)],
                cwd=self.folder,
                env=self.environment
                | {"SLURM_JOB_ID": job, "TMPDIR": str(self.folder)}
                | variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def run_job(self, number: int = 1, **variables: str) -> int:
        return self.start_job(number, **variables).wait(timeout=60)

    def log(self, job: str = "42") -> Path:
        return self.out / "slurm" / ("job.log" if "\\" in str(self.out) else f"{job}.log")

    def job_file(self) -> dict[str, str]:
        """OUT/slurm/job; of a key that stands twice, the first."""
        lines = (self.out / "slurm" / "job").read_text("utf-8").splitlines()
        return dict(line.split(": ", 1) for line in reversed(lines))

    def drive_by(self, code: str) -> None:
        """Let `hyperhpc run` in the image be this Python code."""
        path = self.folder / "driver.py"
        path.write_text(code, "utf-8")
        self.does(
            "apptainer", f'[[ " $* " != *" run "* ]] || exec "{sys.executable}" "$here/driver.py"'
        )


def command_of(words: list[str]) -> list[str]:
    """Of a call of apptainer, the command that is run in the image."""
    return words[words.index("hyperhpc") :]


def mounts_of(words: list[str]) -> list[str]:
    """Folders that a call of apptainer binds."""
    import csv

    fields = [next(csv.reader([words[i + 1]])) for i, w in enumerate(words) if w == "--mount"]
    for kind, source, destination in fields:
        assert kind == "type=bind"
        assert source.removeprefix("source=") == destination.removeprefix("destination=")
    return [source.removeprefix("source=") for _, source, _ in fields]
