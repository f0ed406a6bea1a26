"""Where the time goes: a profile of each pass, tile after tile in one thread.

It is a real run, except that its loop over the tiles is replaced by a loop in this process,
under Python's profiler. The time of the fit and the report is measured at their calls of
``Progress.stage``.
"""

from __future__ import annotations

import cProfile
import json
import os
import pstats
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from measure import scratch, show
from record import Result, Row

#: Parts below this share are added up as "the rest".
SMALLEST = 0.02


def costs(size: int, repeats: int) -> Result:
    """Measure the share of each part of the passes, and seconds of the steps between them."""
    from hyperhpc.workers.dask_setup import dask_settings
    from scenes import simulated, warm

    scene = simulated(size, size)
    spawned = dask_settings()["distributed.nanny.pre-spawn-environ"]
    found = []
    for _ in range(repeats):
        warm(scene)
        with scratch("costs") as out:
            command = [sys.executable, __file__, str(scene), str(out)]
            show(command)
            environment = {**os.environ, **spawned}
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
        found.append(json.loads(done.stdout))
    rows = []
    for name, parts in found[0]["passes"].items():
        whole = [r["passes"][name]["whole"] for r in found]
        rows.append(Row(f"{name}, one thread", [1e-6 * size**2 / w for w in whole], "Mpx/s"))
        for part in sorted(parts, key=parts.__getitem__, reverse=True)[1:]:
            times = [r["passes"][name].get(part, 0.0) for r in found]
            shares = [100 * s / w for s, w in zip(times, whole, strict=True)]
            rows.append(Row(f"{name}: {part}", shares, "%"))
    rows += [Row(step, [r["steps"][step] for r in found], "s") for step in found[0]["steps"]]
    return Result(
        f"costs-{size}",
        f"Where the time goes, {size} x {size} x 426",
        f"bench.py costs --size {size} --repeats {repeats}",
        rows,
        found,
        "Each pass in one thread under Python's profiler: shares of what the function of a "
        "tile calls; the other steps as in any run, on two workers.",
        is_judged=size >= 2000,
    )


def shares(profile: cProfile.Profile, function: Callable[..., Any]) -> dict[str, float]:
    """Seconds of a function ("whole"), of what it calls, and of the rest."""
    table = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    code = function.__code__
    me = (code.co_filename, code.co_firstlineno, code.co_name)
    whole = table[me][3]
    parts: dict[str, float] = {}
    for (_, _, name), (_, _, _, _, callers) in table.items():
        if me in callers and callers[me][3] >= SMALLEST * whole:
            parts[name] = parts.get(name, 0.0) + callers[me][3]
    return {"whole": whole, **parts, "the rest": whole - sum(parts.values())}


def main(scene: Path, out: Path, **options: Any) -> None:
    """Profile one run; print the result as JSON."""
    from hyperhpc.config import load_config
    from hyperhpc.pipeline import passes as loops
    from hyperhpc.pipeline import runner as stages
    from hyperhpc.rundir.progress import Progress

    steps: dict[str, float] = {}
    passes: dict[str, dict[str, float]] = {}

    class Clock(Progress):
        @contextmanager
        def stage(self, name: str, *args: Any, **kwargs: Any) -> Iterator[None]:
            start = time.perf_counter()
            yield
            steps[name] = time.perf_counter() - start

    def run_here(
        workers: Any, function: Any, job: Any, tiles: Iterable[Any], *args: Any
    ) -> tuple[dict[str, Any], int]:
        profile = cProfile.Profile()
        records = {tile.name: profile.runcall(function, job, tile) for tile in tiles}
        passes[function.__name__] = shares(profile, function)
        return records, 0

    loops.run_tiles = run_here  # type: ignore[assignment]
    stages.run(load_config(scene, out, {"workers": 2, **options}), Clock())
    print(json.dumps({"passes": passes, "steps": steps}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
