"""A run opened for viewing: its outputs, its grid and, if it is there, its scene."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from hyperhpc.compute.overview import OverviewAbout
from hyperhpc.compute.selection import Selection, select_bands
from hyperhpc.config import SceneOptions
from hyperhpc.errors import ConfigError, HyperhpcError, IncompleteRunError, cause
from hyperhpc.results import RunResults, open_results
from hyperhpc.rundir.folder import RunFolder, out_of, read_json
from hyperhpc.rundir.plan import Area, Plan
from hyperhpc.scene import Grid, Scene, open_scene
from hyperhpc.tools.preview import find_gaps, name_gaps, nothing_yet, write_partial

#: What stores raise whose files are damaged.
DAMAGED = (KeyError, RuntimeError, ValueError)
#: All that reading may raise while the page is shown.
UNREADABLE = (HyperhpcError, OSError, *DAMAGED)


def explain(error: BaseException, out: Path) -> HyperhpcError:
    """One of :data:`UNREADABLE`, in words."""
    if isinstance(error, HyperhpcError):
        return error
    return IncompleteRunError(
        f"a file of {out} cannot be read ({cause(error)})",
        f"see which files are damaged: hyperhpc verify {out}",
    )


@dataclass(frozen=True, eq=False)
class Opened:
    """What the page reads from; nothing of it is changed.

    Attributes
    ----------
    outputs
        Files and stores of the run.
    plan
        Its area and options.
    grid
        Georeference of the area's own pixels.
    scene
        None if it is not to be had.
    notes
        What is missing, one sentence each.
    """

    outputs: RunResults
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


def open_run(out: Path, scene: Path | None, scratch: Path) -> Opened:
    """Open a run and its scene; of an unfinished run overviews are made of what is there.

    Parameters
    ----------
    scene
        Where the scene lies; None: where run.json says, and if it is not there, none.
    scratch
        Folder for the overviews of an unfinished run.

    Raises
    ------
    ConfigError, SceneError, IncompleteRunError
        As :func:`hyperhpc.view.view_run`.
    """
    folder = out_of(out)
    overview, notes = _find_overview(folder, scratch)
    outputs = open_results(out, overview=overview)
    if outputs.pyramid is None:
        raise ConfigError(
            f"{folder.overview} holds no map that can be read",
            f"see which files of the run are damaged: hyperhpc verify {out}",
        )
    plan = Plan.from_json(read_json(folder.plan))
    grid = _grid_of(outputs, folder, plan.area)
    found, why = _find_scene(outputs, plan, grid, scene)
    return Opened(outputs, plan, grid, found, (*notes, *why))


def _find_overview(folder: RunFolder, scratch: Path) -> tuple[Path, list[str]]:
    unfinished = f"the run in {folder.out} is not finished"
    if folder.overview.exists():
        is_over = folder.run.exists() and read_json(folder.run).get("complete")
        return folder.overview, [] if is_over else [f"{unfinished}; all of its maps are there"]
    plan, gaps = find_gaps(folder)
    if len(gaps) == plan.n_tiles():
        raise nothing_yet(folder.out, plan.n_tiles())
    path = scratch / "overview.zarr"
    write_partial(folder, plan, gaps, path)
    missing = name_gaps(gaps, plan.n_tiles()) if gaps else "only the last steps"
    return path, [f"{unfinished}; missing: {missing}"]


def _grid_of(outputs: RunResults, folder: RunFolder, area: Area) -> Grid:
    bounds = outputs.area.get("bounds")
    if not bounds:  # a run at work has not said it yet
        return OverviewAbout.read(folder.work).grid
    height, width = area.shape
    px, py = (bounds[2] - bounds[0]) / width, (bounds[3] - bounds[1]) / height
    return Grid(bounds[0], bounds[3], px, py)


def _find_scene(
    outputs: RunResults, plan: Plan, grid: Grid, asked: Path | None
) -> tuple[Scene | None, list[str]]:
    """The scene; if nobody asked for it, what is wrong with it is only told."""
    path = asked or outputs.scene.get("path")
    if not path:
        return None, ["the run does not say yet where its scene is; name it with --scene"]
    try:
        scene = open_scene(path, options=_options(plan.options))
        _check_same(scene, plan, grid, path)
    except HyperhpcError as error:
        if asked:
            raise
        said = error.message.rstrip(".")
        return None, [
            f"{said}; without the scene there are no spectra, and true colour is that of the "
            "overview (name it with --scene)"
        ]
    if not asked and scene.fingerprint() != plan.fingerprint:
        return scene, [f"{path} has changed since the run; spectra are those it holds now"]
    return scene, []


def _options(options: dict[str, Any]) -> SceneOptions:
    """How the run has read its scene."""
    known = {f.name: options[f.name] for f in fields(SceneOptions) if options.get(f.name)}
    for name in ("wavelengths", "aoi"):
        if name in known:
            known[name] = Path(known[name])
    return SceneOptions(**known | {"mask": tuple(known.get("mask", ()))})


def _check_same(scene: Scene, plan: Plan, grid: Grid, path: str | Path) -> None:
    """Refuse a scene whose pixels lie elsewhere than those of the run."""
    area = plan.area
    shape = plan.fingerprint.get("shape")
    corner = scene.grid.bounds((area.row0, area.row1), (area.col0, area.col1))
    own = grid.bounds((0, area.shape[0]), (0, area.shape[1]))
    is_near = np.allclose(corner, own, rtol=0, atol=0.01 * min(grid.px, grid.py))
    if not is_near or (shape and list(scene.shape) != list(shape)):
        raise ConfigError(
            f"{path} is not the scene of this run: it has {_times(scene.shape)} pixels and "
            f"bands from {scene.bounds[0]:.10g},{scene.bounds[3]:.10g} on, the run "
            f"{_times(shape) if shape else 'others'}",
            "name the scene of the run with --scene",
        )


def _times(shape: Any) -> str:
    return " x ".join(map(str, shape))
