"""A fit that is stopped resumes from its last checkpoint, with the same bits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from hyperhpc.analysis.kmeans import Step
from hyperhpc.compute.fit import fitting
from hyperhpc.compute.fit.fitting import Checkpoint
from hyperhpc.config import RunConfig
from hyperhpc.pipeline.runner import run
from hyperhpc.rundir.progress import Progress
from hyperhpc.simulate.scene import simulate


class Counting(Progress):
    """Counts the steps of the full-batch model, and stops the run after so many."""

    def __init__(self, most: int | None = None) -> None:
        self.most, self.steps, self.is_fitting = most, 0, False

    @contextmanager
    def stage(
        self, name: str, total: int | None = None, unit: str = "px", tiles: int = 0
    ) -> Iterator[None]:
        self.is_fitting = name == "fitting lloyd"
        yield

    def advance(self, amount: int) -> None:
        self.steps += self.is_fitting
        if self.is_fitting and self.steps == self.most:
            raise KeyboardInterrupt


def test_step__comes_back_as_the_same_bits(tmp_path: Path) -> None:
    kept = Checkpoint(tmp_path / "step.json")
    assert kept.read() is None
    step = Step(np.random.default_rng(0).normal(1e3, 1e2, (3, 5)), 7, 0.1 + 0.2, True)
    kept.keep(step)
    again = kept.read()
    assert again is not None
    np.testing.assert_array_equal(again.centres, step.centres)
    assert (again.n_iter, again.limit, again.is_settled) == (7, 0.1 + 0.2, True)


def test_step__is_not_kept_at_every_iteration(tmp_path: Path) -> None:
    kept = Checkpoint(tmp_path / "step.json")
    kept.keep(Step(np.zeros((2, 2)), 1))
    assert kept.read() is None


@pytest.mark.e2e
@pytest.mark.usefixtures("no_report")
def test_fit__resumes_from_its_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = tmp_path / "scene.zarr"
    simulate(scene, 80, 90, seed=3)

    def config(name: str) -> RunConfig:
        return RunConfig(
            scene=scene, out=tmp_path / name, stride=1, clusters=6, workers=1, models=("lloyd",)
        )

    # A sample this small has converged when its start is found: begin farther away
    monkeypatch.setattr(
        fitting,
        "find_start",
        lambda data, *_: (
            np.linspace(1, 6, 6)[:, None] * np.full(data.sample.values.shape[2], 700.0)
        ),
    )
    whole = Counting()
    undisturbed = run(config("whole"), whole)
    iterations = whole.steps
    assert iterations > 2, "too few to stop between them"
    monkeypatch.setattr(fitting, "CHECKPOINT_INTERVAL_S", 0)
    stopped, resumed = Counting(3), Counting()
    with pytest.raises(KeyboardInterrupt):
        run(config("stopped"), stopped)
    again = run(config("stopped"), resumed)
    assert resumed.steps == iterations - 2, "two iterations come from the checkpoint"
    assert again.model.read_bytes() == undisturbed.model.read_bytes()
