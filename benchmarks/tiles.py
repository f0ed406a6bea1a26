"""The cost of a task: empty tiles through the pipeline's own loop, on two workers."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from measure import cache, show, tree_mib
from record import Result, Row


def seconds_per_tile(n_tiles: int) -> float:
    """Seconds per empty tile, in a run of that many."""
    return run_empty(n_tiles)["seconds"] / n_tiles


def run_empty(n_tiles: int) -> dict[str, Any]:
    """Run empty tiles in a separate process: seconds, and memory before and after."""
    command = [sys.executable, __file__, str(n_tiles)]
    show(command)
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return dict(json.loads(done.stdout))


def empty_tiles(n_tiles: int, repeats: int) -> Result:
    """Measure memory and time of a tile, for few tiles and for many."""
    few = max(n_tiles // 10, 1)
    found = [{str(n): run_empty(n) for n in (few, n_tiles)} for _ in range(repeats)]
    rows = []
    for n in (few, n_tiles):
        runs = [r[str(n)] for r in found]
        rows += [
            Row(f"an empty tile, of {n}", [1e3 * r["seconds"] / n for r in runs], "ms"),
            Row(f"memory that {n} tiles took", [r["grown_mib"] for r in runs], "MiB"),
        ]
    grown = [
        (r[str(n_tiles)]["grown_mib"] - r[str(few)]["grown_mib"]) * 1024 / (n_tiles - few)
        for r in found
    ]
    rows.append(Row("memory of one more tile", grown, "KiB"))
    return Result(
        f"tiles-{n_tiles}",
        f"Scheduling, {n_tiles} empty tiles",
        f"bench.py tiles --tiles {n_tiles} --repeats {repeats}",
        rows,
        found,
        "Client, scheduler and two workers. Each tile is sent and answered, and its record "
        "is flushed to the disk, as in a run. Time is of two workers at once; what grows "
        "is the list of tiles and the dictionary of records.",
        is_judged=n_tiles >= 100_000,
    )


def _empty(job: None, tile: Any) -> dict[str, Any]:
    """On a worker: do nothing."""
    return {"valid": 0}


def main(n_tiles: int) -> None:
    """Run in a separate process, so that its memory can be measured."""
    from hyperhpc.compute.tiles import run_tiles
    from hyperhpc.config import load_config
    from hyperhpc.rundir.lock import hold_lock
    from hyperhpc.rundir.plan import Area, Plan
    from hyperhpc.rundir.progress import Progress
    from hyperhpc.workers import launch_workers

    folder = cache() / "runs" / "tiles"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    columns = math.isqrt(n_tiles)
    plan = Plan(Area(0, -(-n_tiles // columns), 0, columns), (1, 1), False, {}, {})
    tiles = list(plan.tiles())[:n_tiles]
    options = {"workers": 2, "memory_per_worker": "1GiB"}
    try:
        config = load_config(Path("no-scene"), folder, options)
        with hold_lock(folder, print) as lock, launch_workers(config) as workers:
            before, start = tree_mib(os.getpid()), time.perf_counter()
            records = folder / "records"
            run_tiles(workers, _empty, None, tiles, records, Progress(), lock.claim)
            seconds = time.perf_counter() - start
            grown = tree_mib(os.getpid()) - before
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps({"seconds": seconds, "before_mib": before, "grown_mib": grown}))


if __name__ == "__main__":
    main(int(sys.argv[1]))
