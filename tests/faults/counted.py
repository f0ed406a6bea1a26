"""A run that writes a line for each step of its full-batch fit; started as a program.

counted.py SCENE OUT LOG SECONDS   # between two checkpoints: the fit of a small scene is short
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from hyperhpc.compute.fit import fitting as checkpoint
from hyperhpc.compute.fit import fitting as fit
from hyperhpc.config import RunConfig
from hyperhpc.pipeline.runner import run
from hyperhpc.rundir.progress import Progress

CLUSTERS = 12


class Counting(Progress):
    """Writes a line for each step, at once."""

    def __init__(self, log: Path) -> None:
        self._log, self._is_fitting = log, False

    @contextmanager
    def stage(
        self, name: str, total: int | None = None, unit: str = "px", tiles: int = 0
    ) -> Iterator[None]:
        self._is_fitting = name == "fitting lloyd"
        yield

    def advance(self, amount: int) -> None:
        if self._is_fitting:
            with self._log.open("a", encoding="ascii") as log:
                log.write("step\n")


def begin_far_away(data: object, *_: object) -> np.ndarray:
    """So small a sample has converged when its start is found, and would take no step."""
    n_bands = data.sample.values.shape[2]  # type: ignore[attr-defined]
    return np.linspace(1, 6, CLUSTERS)[:, None] * np.full(n_bands, 700.0)


if __name__ == "__main__":
    scene, out, log = map(Path, sys.argv[1:4])
    checkpoint.CHECKPOINT_INTERVAL_S = float(sys.argv[4])
    fit.find_start = begin_far_away  # type: ignore[assignment]
    options = {"stride": 1, "clusters": CLUSTERS, "workers": 1, "models": ("lloyd",)}
    run(RunConfig(scene=scene, out=out, indices=("ndvi",), **options), Counting(log))
