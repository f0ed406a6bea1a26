"""When to kill: by what the run has just done, as its own files show."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from hyperhpc.errors import ConfigError
from hyperhpc.rundir.progress import read_status

#: In the order of a run; how status.txt calls them, where it has a word for them.
STAGES = ("start", "sample", "fit", "classify", "overview", "report", "end")
_TITLES = {
    "reading the sample": "sample",
    "scaling": "fit",
    "fitting": "fit",
    "measuring": "fit",
    "indices and labels": "classify",
    "building overviews": "overview",
    "drawing the report": "report",
}
#: Seconds that a stage takes at least where nothing is counted in it.
_LENGTHS = {"start": 2.5, "fit": 0.5, "overview": 0.2, "report": 1.5, "end": 0.05}


@dataclass(frozen=True, order=True)
class Moment:
    """A point of a run: in a stage, after so many of its tiles, and so much later."""

    place: int
    tiles: int
    delay_s: float

    @property
    def stage(self) -> str:
        return STAGES[self.place]

    def __str__(self) -> str:
        tiles = f", {self.tiles} tiles" if self.tiles else ""
        return f"{self.stage}{tiles} + {self.delay_s:.3f} s"


#: From here on a run needs none.
WITHOUT_WORKERS = Moment(STAGES.index("report"), 0, 0.0)


def draw_moment(rng: random.Random, stages: tuple[str, ...], n_tiles: int) -> Moment:
    """A moment somewhere in these stages."""
    stage = rng.choice(stages)
    if stage in _LENGTHS:
        return Moment(STAGES.index(stage), 0, rng.uniform(0, _LENGTHS[stage]))
    return Moment(STAGES.index(stage), rng.randint(1, n_tiles), rng.uniform(0, 0.03))


def is_past(moment: Moment, out: Path, pid: int) -> bool:
    """True once the run of this process has come so far; the delay not counted."""
    place = _place(out, pid)
    if place != moment.place:
        return place > moment.place
    records = (out / "work" / moment.stage).glob("[0-9]*.json")
    return not moment.tiles or sum(1 for _ in records) >= moment.tiles


def _place(out: Path, pid: int) -> int:
    """The stage that this process is at."""
    try:
        status = read_status(out)
        if status.get("process") != str(pid):
            return 0
        if '"complete": true' in (out / "run.json").read_text("utf-8"):
            return STAGES.index("end")
    except (ConfigError, OSError):
        return 0
    title = status.get("stage", "")
    found = (stage for start, stage in _TITLES.items() if title.startswith(start))
    return STAGES.index(next(found, "start"))
