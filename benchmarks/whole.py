"""Whole runs: compared with the tutorial's recipe, memory, scaling, a full domain."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

from measure import cache, measure, run_hyperhpc, scratch
from reading import multiply_bare, read_bare
from record import Result, Row, stage_rows
from scenes import check_free, simulated, tiled, warm
from tiles import seconds_per_tile

RECIPE = Path(__file__).with_name("seed_recipe.py")
#: First words of the recipe's steps that no stage of a run corresponds to.
_NO_STAGE = ("imports", "workers", "plot")
#: Rows and columns of the tutorial's scene.
DOMAIN = (13092, 12050)
#: Disk space per pixel of a run of the full domain: maps, sample, overviews.
_DOMAIN_BYTES = 110


def run_recipe(scene: Path, workers: int = 2) -> dict[str, Any]:
    """The tutorial's recipe: wall seconds, peak memory, seconds of its steps."""
    with scratch("seed") as out:
        command = [sys.executable, str(RECIPE), str(scene), str(out), f"--workers={workers}"]
        taken = measure(command, out.with_name("log"))
        found = json.loads((out / "steps.json").read_text("utf-8"))
    work = {n: s for n, s in found["steps"].items() if not n.startswith(_NO_STAGE)}
    return vars(taken) | found | {"staged_s": sum(work.values())}


def compare_with_recipe(size: int, repeats: int) -> Result:
    """Run ``hyperhpc run`` and the recipe alternately, on one scene."""
    scene = simulated(size, size)
    found = []
    for n in range(repeats):
        pair: dict[str, dict[str, Any]] = {}
        for name in ("run", "seed")[:: 1 if n % 2 == 0 else -1]:
            warm(scene)
            pair[name] = run_hyperhpc(scene) if name == "run" else run_recipe(scene)
        found.append(pair)
    ours, theirs = ([pair[name] for pair in found] for name in ("run", "seed"))

    def ratio(key: str) -> list[float]:
        return [b[key] / a[key] for a, b in zip(ours, theirs, strict=True)]

    rows = [
        Row("recipe over run, whole process", ratio("seconds"), "x", at_least=4),
        Row("recipe over run, stages alone", ratio("staged_s"), "x", at_least=8),
        Row("recipe over run, peak memory", ratio("peak_mib"), "x", at_least=4),
        Row("run, whole process", [r["seconds"] for r in ours], "s"),
        Row("run, outside its stages", [_outside(r) for r in ours], "s"),
        *stage_rows(ours),
        Row("run, peak memory", [r["peak_mib"] for r in ours], "MiB"),
        Row("recipe, whole process", [r["seconds"] for r in theirs], "s"),
        *(
            Row(f"recipe, {step}", [r["steps"][step] for r in theirs], "s")
            for step in theirs[0]["steps"]
        ),
        Row("recipe, peak memory", [r["peak_mib"] for r in theirs], "MiB"),
    ]
    return Result(
        f"seed-{size}",
        f"Against the tutorial's recipe, {size} x {size} x 426",
        f"bench.py seed --size {size} --repeats {repeats}",
        rows,
        found,
        "Both with 2 workers of 1 thread, alternately, the scene in the page cache. The "
        "recipe fits two models, labels with one of them and keeps four pictures; run "
        "labels with both and writes all maps. Stages alone: without start-up, spectrum, "
        "pictures and report.",
        is_judged=size >= 2000,
    )


def memory(sizes: tuple[int, int], repeats: int) -> Result:
    """Peak memory of scenes of two sizes, compared with each other and with the limit."""
    limit = "4GiB"
    found = [
        {str(size): run_hyperhpc(simulated(size, size), memory=limit) for size in sizes}
        for _ in range(repeats)
    ]
    small, large = map(str, sizes)
    peaks = {size: [r[size]["peak_mib"] for r in found] for size in (small, large)}
    worker = [r[large]["worker_mib"] / 4096 for r in found]
    growth = [b / a for a, b in zip(peaks[small], peaks[large], strict=True)]
    rows = [
        Row(f"peak at {large} over peak at {small}", growth, "x", at_most=1.15),
        Row(f"largest worker at {large} over its {limit}", worker, "x", at_most=1),
        Row(f"all at {large} over 2 x {limit}", [p / 8192 for p in peaks[large]], "x", at_most=1),
        *(Row(f"peak of all processes, {s} x {s}", p, "MiB") for s, p in peaks.items()),
    ]
    return Result(
        "memory",
        f"Memory, {small} x {small} and {large} x {large} x 426",
        f"bench.py memory --sizes {small},{large} --repeats {repeats}",
        rows,
        found,
        "All processes together as sampled, pages they share counted once; the largest worker "
        "by its own high-water mark. Sampling may miss a peak shorter than 0.1 s.",
        is_judged=sizes[1] >= 4096,
    )


def scaling(size: int, repeats: int) -> Result:
    """Seconds of the stages on one and on two workers of one thread each."""
    scene = simulated(size, size)
    found = []
    for _ in range(repeats):
        warm(scene)
        bare = {
            name: [measure_with(workers) for workers in (1, 2)]
            for name, measure_with in (
                ("reading", partial(read_bare, scene, "Scene.blocks")),
                ("multiplying", multiply_bare),
            )
        }
        found.append({str(workers): run_hyperhpc(scene, workers) for workers in (1, 2)} | bare)

    def efficiency(*names: str) -> list[float]:
        sums = [[sum(r[w]["stages"][n] for n in names) for w in "12"] for r in found]
        return [one / two / 2 for one, two in sums]

    rows = [
        Row(
            "efficiency of two workers: sample, fit, classify",
            efficiency("sample", "fit", "classify"),
            "",
            at_least=0.9,
        ),
        *(
            Row(f"efficiency of two workers: {name}", efficiency(name), "")
            for name in ("sample", "fit", "classify")
        ),
        *(
            Row(f"{name} on {w} worker{'s' if w == '2' else ''}", values, "s")
            for name in ("sample", "fit", "classify")
            for w in "12"
            if (values := [r[w]["stages"][name] for r in found])
        ),
        *(
            Row(
                f"the machine's own: two processes that do nothing but {name}",
                [r[name][0] / r[name][1] / 2 for r in found],
                "",
            )
            for name in ("reading", "multiplying")
        ),
    ]
    return Result(
        f"scaling-{size}",
        f"Scaling, {size} x {size} x 426",
        f"bench.py scaling --size {size} --repeats {repeats}",
        rows,
        found,
        "Scheduler and client share the cores with the workers. The machine's own: two "
        "processes without Dask, of which neither waits for the other, over twice one.",
        is_judged=size >= 2000,
    )


def full_domain(rows: int, columns: int, block: int, repeats: int) -> Result:
    """Run the tutorial's whole domain, and read its store without a run."""
    check_free(cache(), rows * columns * _DOMAIN_BYTES)
    found = []
    with tiled(simulated(block, block), rows, columns) as scene:
        for _ in range(repeats):
            warm(scene)
            bare = read_bare(scene, "Scene.blocks")  # the fastest: see `reading`
            found.append(run_hyperhpc(scene) | {"bare_s": bare})
    empty = seconds_per_tile(max(found[0]["tiles"].values()))
    is_whole = (rows, columns) == DOMAIN
    passes = [
        (r["seconds"] - r["stages"]["fit"] - r["stages"]["report"]) / r["bare_s"] for r in found
    ]
    overhead = [
        max(100 * empty * n / r["stages"][name] for name, n in r["tiles"].items()) for r in found
    ]
    table = [
        Row("run, whole process", [r["seconds"] for r in found], "s", at_most=400),
        *stage_rows(found),
        Row("run, outside its stages", [_outside(r) for r in found], "s"),
        Row("bare read by Scene.blocks", [r["bare_s"] for r in found], "s"),
        Row("run without fit and report, over a bare read", passes, "x", at_most=2.6),
        Row("peak memory of all processes", [r["peak_mib"] for r in found], "MiB", at_most=8192),
        Row("tasks of a pass", [max(r["tiles"].values()) for r in found], "", at_most=5000),
        Row("scheduling, of the pass it weighs more in", overhead, "%", at_most=5),
    ]
    return Result(
        "full-domain" if is_whole else f"full-domain-{rows}x{columns}",
        f"Full domain, {rows} x {columns} x 426",
        f"bench.py full-domain --block {block} --repeats {repeats}",
        table,
        found,
        "2 workers of 1 thread and 4 GiB. The shards are hard links to those of a scene "
        f"of {block} x {block}, so they come from the page cache, here and in the bare "
        "read, which is taken in the same run: no disk is part of these numbers.",
        is_judged=is_whole,
    )


def _outside(found: dict[str, Any]) -> float:
    """Seconds of a run outside its stages: imports, start and end of the workers."""
    return found["seconds"] - sum(found["stages"].values())
