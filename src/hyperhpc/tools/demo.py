"""The demonstration: a simulated scene, the full analysis, the true classes to compare."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from hyperhpc.config import RunConfig, load_config
from hyperhpc.errors import ConfigError
from hyperhpc.pipeline.runner import run
from hyperhpc.rundir.folder import RunFolder, check_free
from hyperhpc.rundir.progress import Progress
from hyperhpc.scene import Scene
from hyperhpc.workers.sizes import usable_memory

#: What the demonstration keeps in OUT besides the files of the run.
EXTRA_NAMES = ("scene.zarr", "scene.zarr.truth.zarr")
#: True classes whose spectra are shown.
SHOWN = ("green_grass", "dry_grass", "soil_bright", "shrub_tree", "water")
#: Fewer pixels than this side squared may not hold the eight clusters.
SMALLEST = 64


def run_demo(
    out: Path,
    size: tuple[int, int],
    progress: Progress,
    show: Callable[[str], AbstractContextManager[Callable[[int, int], None]]],
) -> RunFolder:
    """Simulate ``out/scene.zarr`` unless it is there, and run the analysis into ``out``.

    ``show``: Shows a title, and gives a function to which (done, total) is reported.

    Raises ConfigError: OUT holds something else, or a demonstration of another size.
    """
    from hyperhpc.scene import open_scene
    from hyperhpc.simulate.scene import simulate

    if min(size) < SMALLEST:
        raise ConfigError(
            f"--size {size[0]}x{size[1]} is too small to show anything",
            f"Give --size {SMALLEST}x{SMALLEST} or more",
        )
    path = out / EXTRA_NAMES[0]
    if not path.exists():
        if RunFolder(out).plan.is_file():
            raise ConfigError(
                f"{out} is the folder of a run, but not of a demonstration", "Name another OUT"
            )
        check_free(out, EXTRA_NAMES)
        with show("simulating a scene") as tick:
            simulate(path, *size, progress=tick)
    scene = open_scene(path)
    if scene.shape[:2] != size:
        raise ConfigError(
            f"{path} has {scene.shape[0]}x{scene.shape[1]} pixels, not {size[0]}x{size[1]}",
            f"Name another OUT, or give --size {scene.shape[0]}x{scene.shape[1]}",
        )
    points = _demo_points(scene, out / EXTRA_NAMES[1])
    flags: dict[str, Any] = {"points": points}
    words = [f"--point {x:.10g},{y:.10g}" for x, y in points]
    if (memory := usable_memory()) < RunConfig(scene=path, out=out).memory_bytes:
        flags["memory_per_worker"] = f"{memory // 2**20}MiB"
        words.append(f"--memory-per-worker {flags['memory_per_worker']}")
    config = load_config(path, out, flags)
    command = shlex.join(["hyperhpc", "run", str(path), str(out)]) + " " + " ".join(words)
    progress.note(command)
    return run(config, progress, command, extra_names=EXTRA_NAMES)


def _demo_points(scene: Scene, truth_path: Path) -> list[tuple[float, float]]:
    """The middle one of the pixels well inside their class, for each class shown."""
    truth: zarr.Array = zarr.open_group(str(truth_path), mode="r")["true_class"]  # type: ignore[assignment]
    names = str(truth.attrs["flag_meanings"]).split()
    classes = np.asarray(truth[:])
    inner = classes[2:-2, 2:-2]
    is_inside = np.ones(inner.shape, dtype=bool)
    for dy, dx in ((0, 2), (4, 2), (2, 0), (2, 4)):  # two pixels up, down, left and right
        is_inside &= inner == classes[dy : dy + inner.shape[0], dx : dx + inner.shape[1]]
    points = []
    for name in SHOWN:
        rows, cols = np.nonzero(is_inside & (inner == names.index(name)))
        if rows.size:
            row, col = int(rows[rows.size // 2]) + 2, int(cols[rows.size // 2]) + 2
            x, y = scene.grid.x_centres(col, col + 1), scene.grid.y_centres(row, row + 1)
            points.append((x.item(), y.item()))
    return points
