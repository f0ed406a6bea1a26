"""The demonstration: a simulated scene, the full analysis, the true classes to compare."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hyperhpc.config import load_config
from hyperhpc.errors import ConfigError
from hyperhpc.pipeline.manifest import RunFolder
from hyperhpc.pipeline.progress import Progress
from hyperhpc.pipeline.stages import run

#: What the demonstration keeps in OUT besides the run.
BESIDE = ("scene.zarr", "scene.zarr.truth.zarr")


def run_demo(
    out: Path,
    size: tuple[int, int],
    progress: Progress,
    show: Callable[[str, Callable[[Callable[[int, int], None]], Any]], Any],
) -> RunFolder:
    """Simulate ``out/scene.zarr`` unless it is there, and run the analysis into ``out``.

    Parameters
    ----------
    show
        Runs work that reports (done, total) under a title.
    """
    from hyperhpc.scene import open_scene
    from hyperhpc.scene.simulate import simulate

    path = out / BESIDE[0]
    if not path.exists():
        show("simulating a scene", lambda tick: simulate(path, *size, progress=tick))
    scene = open_scene(path)
    if scene.shape[:2] != size:
        raise ConfigError(
            f"{path} has {scene.shape[0]}x{scene.shape[1]} pixels, not {size[0]}x{size[1]}",
            f"name another folder, or remove it: rm -r {shlex.quote(str(out))}",
        )
    flags = {"points": _demo_points(scene)}
    config = load_config(path, out, flags)
    points = " ".join(f"--point {x:.10g},{y:.10g}" for x, y in flags["points"])
    command = f"hyperhpc run {shlex.quote(str(path))} {shlex.quote(str(config.out))} {points}"
    progress.note(command)
    return run(config, progress, command, beside=BESIDE)


def _demo_points(scene: Any) -> list[tuple[float, float]]:
    """Three pixels that are surely valid, far from each other."""
    from hyperhpc.analysis.kernel import valid_pixels
    from hyperhpc.pipeline.selection import select_bands

    bands = select_bands(scene).bands
    height, width, _ = scene.shape
    points = []
    for where in (0.35, 0.5, 0.65):
        row = int(height * where)
        dn = scene.read(slice(row, row + 1), slice(0, width), bands)[0]
        valid = np.flatnonzero(valid_pixels(dn, scene.nodata))
        if valid.size:
            col = int(valid[int(valid.size * where)])
            points.append(
                (
                    float(scene.grid.x_centres(col, col + 1)[0]),
                    float(scene.grid.y_centres(row, row + 1)[0]),
                )
            )
    return points
