"""A run opened for viewing: its results, its grid and, if it can be found, its scene."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from hyperhpc.compute.overview import OverviewMetadata
from hyperhpc.compute.selection import Selection, select_bands
from hyperhpc.config import SceneOptions
from hyperhpc.errors import ConfigError, HyperhpcError, IncompleteRunError, cause
from hyperhpc.results import Pyramid, RunResults, open_results
from hyperhpc.rundir.folder import RunFolder, find_run_folder
from hyperhpc.rundir.plan import Area, Plan
from hyperhpc.scene import Grid, Scene, open_scene
from hyperhpc.scene.fingerprint import is_of_older_version, list_changes
from hyperhpc.sealed import read_json
from hyperhpc.tools.preview import is_finished, make_overview

#: What stores raise whose files are damaged.
STORE_ERRORS = (KeyError, RuntimeError, ValueError)
#: All that reading may raise while the page is shown.
READ_ERRORS = (HyperhpcError, OSError, *STORE_ERRORS)


def as_read_error(error: BaseException, out: Path) -> HyperhpcError:
    """Turn one of :data:`READ_ERRORS` into an error with a message and a hint."""
    if isinstance(error, HyperhpcError):
        return error
    return IncompleteRunError(
        f"A file of {out} cannot be read ({cause(error)})",
        f"See which files are damaged: hyperhpc verify {shlex.quote(str(out))}",
    )


@dataclass(frozen=True, eq=False)
class ViewedRun:
    """What the page reads from; nothing of it is changed.

    ``results``: Files and stores of the run.
    ``overview``: Its reduced maps; those of an unfinished run are temporary.
    ``plan``: Its area and options.
    ``grid``: Georeference of the area's own pixels.
    ``scene``: None if it cannot be found or read.
    ``notes``: What is missing, one sentence each, without a full stop.
    """

    results: RunResults
    overview: Pyramid
    plan: Plan
    grid: Grid
    scene: Scene | None
    notes: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the area."""
        return self.plan.area.shape

    @property
    def bounds(self) -> list[float]:
        """[xmin, ymin, xmax, ymax], outer edges of the area."""
        return self.grid.bounds((0, self.shape[0]), (0, self.shape[1]))

    @cached_property
    def selection(self) -> Selection:
        """The good bands of the run; only with a scene."""
        assert self.scene is not None
        options = self.plan.options
        return select_bands(
            self.scene, options.get("drop"), seed_compat=bool(options.get("seed_compat"))
        )


def open_viewed_run(out: Path, scene: Path | None, scratch: Path) -> ViewedRun:
    """Open a run and its scene; for an unfinished run, overviews of its finished tiles.

    ``scene``: Where the scene lies; None: where run.json says, or no scene if it is not there.
    ``scratch``: Folder for the overviews of an unfinished run.

    Raises ConfigError, SceneError, IncompleteRunError: as :func:`hyperhpc.view.view_run`.
    """
    folder = find_run_folder(out)
    path, notes = _find_overview(folder, scratch)
    results = open_results(out, overview=path)
    if results.pyramid is None:
        raise ConfigError(
            f"{folder.overview} holds no readable map",
            f"See which files of the run are damaged: hyperhpc verify {shlex.quote(str(out))}",
        )
    plan = Plan.from_json(read_json(folder.plan))
    grid = _grid_of(results, folder, plan.area)
    found, scene_notes = _find_scene(results, plan, grid, scene)
    return ViewedRun(results, results.pyramid, plan, grid, found, (*notes, *scene_notes))


def _find_overview(folder: RunFolder, scratch: Path) -> tuple[Path, list[str]]:
    """Path of the overviews, and what they lack."""
    unfinished = f"the run in {folder.out} is not finished"
    if folder.overview.exists():
        note = f"{unfinished}; all its maps are there"
        return folder.overview, [] if is_finished(folder) else [note]
    path, gap = make_overview(folder, scratch)
    assert path is not None
    return path, [f"{unfinished}; missing: {gap}"]


def _grid_of(results: RunResults, folder: RunFolder, area: Area) -> Grid:
    bounds = results.area.get("bounds")
    if not bounds:  # run.json of a run at work may not hold them yet
        return OverviewMetadata.read(folder.work).grid
    height, width = area.shape
    px, py = (bounds[2] - bounds[0]) / width, (bounds[3] - bounds[1]) / height
    return Grid(bounds[0], bounds[3], px, py)


def _find_scene(
    results: RunResults, plan: Plan, grid: Grid, asked: Path | None
) -> tuple[Scene | None, list[str]]:
    """The scene and notes on it; only a scene that was asked for raises errors."""
    path = asked or results.scene.get("path")
    if not path:
        return None, ["the run does not say yet where its scene is; name it with --scene"]
    try:
        scene = open_scene(path, options=_scene_options(plan.options))
        _check_same_pixels(scene, plan, grid, path)
    except HyperhpcError as error:
        if asked:
            raise
        return None, [
            f"{error.message.rstrip('.')}; without the scene there are no spectra, and true "
            "colour has the resolution of the overview (name the scene with --scene)"
        ]
    now = scene.fingerprint()
    is_older = is_of_older_version(plan.fingerprint, now)
    if not asked and not is_older and any(list_changes(plan.fingerprint, now)):
        return scene, [f"{path} has changed since the run; spectra show what it holds now"]
    return scene, []


def _scene_options(options: dict[str, Any]) -> SceneOptions:
    """How the run has read its scene."""
    known = {f.name: options[f.name] for f in fields(SceneOptions) if options.get(f.name)}
    for name in ("wavelengths", "aoi"):
        if name in known:
            known[name] = Path(known[name])
    return SceneOptions(**known | {"mask": tuple(known.get("mask", ()))})


def _check_same_pixels(scene: Scene, plan: Plan, grid: Grid, path: str | Path) -> None:
    """Refuse a scene whose pixels lie elsewhere than those of the run."""
    area = plan.area
    shape = plan.fingerprint.get("shape")
    bounds = scene.grid.bounds((area.row0, area.row1), (area.col0, area.col1))
    expected = grid.bounds((0, area.shape[0]), (0, area.shape[1]))
    is_near = np.allclose(bounds, expected, rtol=0, atol=0.01 * min(grid.px, grid.py))
    if not is_near or (shape and list(scene.shape) != list(shape)):
        size = " x ".join(map(str, scene.shape))
        run_size = " x ".join(map(str, shape)) if shape else "others"
        raise ConfigError(
            f"{path} is not the scene of this run: it has {size} pixels and bands from "
            f"{scene.bounds[0]:.10g},{scene.bounds[3]:.10g} on, the run has {run_size}",
            "Name the scene of the run with --scene",
        )
