"""The report of a run, also of one that is unfinished or at work; only its page is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hyperhpc.compute.classify import OverviewFiles
from hyperhpc.compute.overview import OverviewAbout, write_overview
from hyperhpc.compute.sample import GridFile
from hyperhpc.compute.tiles import shorten
from hyperhpc.errors import IncompleteRunError
from hyperhpc.rundir.folder import RunFolder, out_of, read_json
from hyperhpc.rundir.plan import Plan, Tile
from hyperhpc.schema import CLUSTER, INDICES, QUICKLOOK, fill_value
from hyperhpc.workers import scratch_folder


@dataclass(frozen=True)
class PartialGridFile(GridFile):
    """A grid file of which some tiles are not written yet: they read as missing.

    Attributes
    ----------
    gaps
        Those tiles.
    step
        Every so many pixels of a tile lie in the file.
    missing
        The value that means missing.
    """

    gaps: tuple[Tile, ...]
    step: int
    missing: np.generic

    def read_window(self, rows: slice, cols: slice) -> np.ndarray:
        """Read a window (y, x, layer)."""
        window = super().read_window(rows, cols)
        for tile in self.gaps:
            y0, y1, x0, x1 = (-(-n // self.step) for n in (tile.y0, tile.y1, tile.x0, tile.x1))
            y, x = (
                slice(max(start - span.start, 0), max(stop - span.start, 0))
                for start, stop, span in ((y0, y1, rows), (x0, x1, cols))
            )
            window[y, x] = self.missing
        return window


def report_run(out: Path, say: Callable[[str], None]) -> Path:
    """Draw the page of a run from what is on disk.

    Parameters
    ----------
    say
        Told what the page lacks.

    Raises
    ------
    ConfigError
        If there is no run.
    IncompleteRunError
        If nothing can be drawn yet, or a file is damaged.
    """
    from hyperhpc.report import write_report

    folder = out_of(out)
    if folder.overview.exists():
        if not (folder.run.exists() and read_json(folder.run).get("complete")):
            say(f"note: the run in {out} is not finished; the page says what is missing")
        try:
            return write_report(out)
        except (KeyError, OSError, RuntimeError, ValueError) as error:
            raise_if_damaged(out, error)
            raise
    plan, gaps = find_gaps(folder)
    n_tiles = plan.n_tiles()
    if len(gaps) == n_tiles and not (folder.spectra.exists() and read_json(folder.spectra)):
        raise nothing_yet(out, n_tiles)
    gap = name_gaps(gaps, n_tiles)
    say(f"note: the run in {out} is not finished; missing: {gap}")
    if len(gaps) == n_tiles:
        return write_report(out, gaps=[gap])
    with scratch_folder() as scratch:
        path = Path(scratch) / "overview.zarr"
        write_partial(folder, plan, gaps, path)
        return write_report(out, overview=path, gaps=[gap])


def raise_if_damaged(out: Path, error: Exception) -> None:
    """Raise IncompleteRunError with the name of a damaged file, if there is one."""
    from hyperhpc.tools.verify import verify

    found = verify(out)
    for name, what in found.damaged.items():
        raise IncompleteRunError(f"{name} of {out} {what}", found.hint) from error


def find_gaps(folder: RunFolder) -> tuple[Plan, tuple[Tile, ...]]:
    """The plan of a run, and its tiles that have no indices and labels yet."""
    plan = Plan.from_json(read_json(folder.plan))
    records = folder.records("classify")
    return plan, tuple(
        tile for tile in plan.tiles() if not (records / f"{tile.name}.json").exists()
    )


def name_gaps(gaps: tuple[Tile, ...], n_tiles: int) -> str:
    """What is missing, in words."""
    return (
        f"{len(gaps)} of {n_tiles} tiles of the maps, which are left grey: "
        f"{shorten([tile.name for tile in gaps])} (row and column of the tile)"
    )


def nothing_yet(out: Path, n_tiles: int) -> IncompleteRunError:
    """What to raise where not one tile is finished."""
    return IncompleteRunError(
        f"nothing of {out} can be drawn yet: none of its {n_tiles} tiles has its indices "
        "and labels",
        f"see how far the run is: hyperhpc status {out}",
    )


def write_partial(folder: RunFolder, plan: Plan, gaps: tuple[Tile, ...], path: Path) -> None:
    """Overviews of the tiles that are there."""
    about = OverviewAbout.read(folder.work)
    shape = plan.area.shape
    n_indices, n_models = len(about.index_names), len(about.model_names)
    files = OverviewFiles.at(folder.work, plan.area, about.step, n_indices, n_models)
    partial = (
        PartialGridFile(
            file.path, file.shape, file.dtype, gaps, about.step, fill_value(variable)
        )
        for file, variable in zip(files.files(), (QUICKLOOK, INDICES, CLUSTER), strict=True)
    )
    write_overview(path, OverviewFiles(about.step, *partial), about, shape)
