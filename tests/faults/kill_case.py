"""A run that is killed again and again, and must end as if nothing had happened."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from moments import STAGES, Moment, draw_moment
from starts import Start
from tally import GO_ON, Tally

from cli_case import call
from hyperhpc.rundir.progress import read_status

#: The scene, in tiles of one chunk each, and what every run of it is given.
SIDE, CHUNK = 240, 64
N_TILES = (-(-SIDE // CHUNK)) ** 2
OPTIONS = "--models lloyd --clusters 3 --indices ndvi --memory-per-worker 500MiB".split()
#: A worker that dies is replaced; two of a start, so that no task is given up as their killer.
_WORKERS_A_START = 2
#: What Python says in a process whose parent was killed within the milliseconds between
#: starting it and passing its options. None of our code is in it yet.
_STILLBORN = re.compile(
    r"Traceback \(most recent call last\):\n(?:  .*\n)*?.*\bspawn_main\b.*\n(?:  .*\n)*?"
    r".*pickle\.load\(from_parent\)\n(?: .*\n)*EOFError: Ran out of input\n"
)


@dataclass(frozen=True)
class Kill:
    """Whom, and when."""

    moment: Moment
    role: str

    def __str__(self) -> str:
        return f"{self.role} at {self.moment}"

    @property
    def is_end(self) -> bool:
        """True if the start ends with it; a worker is replaced."""
        return self.role != "worker"


def draw_kills(rng: random.Random, roles: Sequence[str], ends: int) -> list[Kill]:
    """Kills in the order of a run: so many that end a start, and workers before each."""
    busy = ("start", "sample", "fit", "classify", "overview")
    kills = []
    for end in sorted(draw_moment(rng, STAGES, N_TILES) for _ in range(ends)):
        before = (draw_moment(rng, busy, N_TILES) for _ in range(_WORKERS_A_START))
        kills += [Kill(moment, "worker") for moment in sorted(before) if moment < end]
        kills.append(Kill(end, rng.choice(roles)))
    return kills


@dataclass
class Case:
    """One OUT, from its first start to its end.

    Attributes
    ----------
    words
        The command; ``out`` is its OUT.
    environments
        Of the processes of a start, by the number of the start.
    threads
        Tiles that may be in flight.
    """

    words: Sequence[str | Path]
    out: Path
    folder: Path
    environments: Callable[[int], Sequence[Mapping[str, str]]]
    threads: int
    rng: random.Random
    tally: Tally
    starts: int = 0
    shared: set[str] = field(default_factory=set)

    @property
    def log(self) -> Path:
        return self.folder / "log.txt"

    @property
    def temporary(self) -> Path:
        return self.folder / "tmp"

    def play(self, kills: Sequence[Kill]) -> None:
        """Kill, go on, kill; and in the end let it finish."""
        self.temporary.mkdir(parents=True)
        waiting = list(kills)
        while True:
            records = {} if self._is_complete() else self.records()
            start = self._begin(waiting)
            try:
                is_killed = self._disturb(start, waiting)
                code = None if is_killed else start.wait_done()
                self._after(start, code, records)
            finally:
                start.end()
            if code == 0:
                return

    def records(self) -> dict[Path, int]:
        """Records of finished tiles, and when each was written."""
        found = self.out.glob("work/*/[0-9]*.json")
        return {path: path.stat().st_mtime_ns for path in found}

    def _begin(self, waiting: Sequence[Kill]) -> Start:
        self._say(f"--- start {self.starts}; to come: {'; '.join(map(str, waiting))}")
        settings = {"TMPDIR": str(self.temporary)}
        environments = [{**settings, **own} for own in self.environments(self.starts)]
        self.tally.resumes += self.starts > 0
        self.starts += 1
        return Start(self.words, self.out, self.log, environments)

    def _disturb(self, start: Start, waiting: list[Kill]) -> bool:
        """Kill whom it is the turn of; True if that was the end of this start."""
        while waiting:
            kill = waiting.pop(0)
            if not start.wait_for(kill.moment):
                return False
            self.shared |= start.shared_memory()
            if not start.kill(kill.role, self.rng):
                continue
            self._say(f"--- killed: {kill}")
            self.tally.kills[f"{'gang ' if start.is_gang else ''}{kill.role}"] += 1
            if kill.is_end:
                if start.is_gang:  # as srun does
                    start.kill("group", self.rng)
                seconds = start.wait_gone()
                self.tally.slowest_end_s = max(self.tally.slowest_end_s, seconds)
                return True
        return False

    def _after(self, start: Start, code: int | None, before: Mapping[Path, int]) -> None:
        """What holds after every start, killed or not."""
        said = _STILLBORN.sub("", self.log.read_text("utf-8", "replace"))
        assert "Traceback" not in said
        if code is not None:
            start.wait_gone()
            assert code in (0, GO_ON), f"exit code {code}"
            self.tally.stopped += code == GO_ON
        if code == 0:
            self._check_kept(before)
        if self._is_complete():  # its work is being removed
            return
        after = self.records()
        again = [path for path, when in before.items() if after.get(path) != when]
        assert not again, f"finished tiles were computed again: {again}"
        in_flight = len(list(self.out.glob("work/*/.*.on-*")))
        self.tally.tiles_kept += len(after) - len(before)
        self.tally.tiles_again += in_flight
        self.tally.most_again = max(self.tally.most_again, in_flight)
        assert in_flight <= self.threads + start.losses

    def _is_complete(self) -> bool:
        run = self.out / "run.json"
        return run.exists() and json.loads(run.read_text("utf-8"))["complete"]

    def _check_kept(self, before: Mapping[Path, int]) -> None:
        """The last start has taken all finished tiles as they were."""
        stages = json.loads((self.out / "run.json").read_text("utf-8"))["stages"]
        resumed = {stage["name"]: stage["tiles_resumed"] for stage in stages}
        found = Counter(path.parent.name for path in before)
        assert {name: resumed[name] for name in found} == dict(found)

    def check_same(self, alone: Path) -> None:
        """The bits of the undisturbed run, and nothing else."""
        mine, other = files_of(self.out), files_of(alone)
        note = {name for name in mine if name.startswith(".connection-7-")}
        assert note <= {f".connection-7-{self.starts - 1}/over"}
        assert mine - note == other
        differing = [
            name
            for name in sorted(other)
            if _is_result(name) and (self.out / name).read_bytes() != (alone / name).read_bytes()
        ]
        self.tally.differences += len(differing)
        assert not differing, differing
        assert read_status(self.out)["state"] == "complete"
        assert call("verify", self.out).code == 0
        assert not list(self.temporary.iterdir())
        assert not [name for name in self.shared if Path(name).exists()]

    def _say(self, text: str) -> None:
        with self.log.open("a", encoding="utf-8") as log:
            log.write(f"{text}\n")


def files_of(folder: Path) -> set[str]:
    """All files and empty folders, relative to it."""
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() or not any(path.iterdir())
    }


def _is_result(name: str) -> bool:
    """What must be the same bits: timings and drawings of them are not."""
    return name.partition("/")[0] in (
        "results.zarr", "overview.zarr", "model.json", "clusters.json", "spectra.json",
    )  # fmt: skip
