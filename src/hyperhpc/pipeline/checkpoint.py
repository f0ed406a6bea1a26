"""How far a fit has come, kept so that a run that was stopped goes on from there."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from hyperhpc.analysis.kmeans import Step
from hyperhpc.pipeline.manifest import read_json, write_json

#: Seconds of iterations that may be lost.
EVERY = 5.0


class Checkpoint:
    """The last step of one model, in a file; numbers come back as the same bits."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._written = time.monotonic()

    def read(self) -> Step | None:
        """The step that was kept, if any."""
        if not self.path.exists():
            return None
        kept = read_json(self.path)
        return Step(
            np.array(kept["centres"]), kept["n_iter"], kept["limit"], kept["is_settled"]
        )

    def keep(self, step: Step) -> None:
        """Keep a step, unless another was kept just now; the last one always."""
        if not step.is_settled and time.monotonic() - self._written < EVERY:
            return
        write_json(self.path, vars(step) | {"centres": step.centres.tolist()})
        self._written = time.monotonic()
