"""The report of a run as it stands on disk, also of a run that is unfinished or at work.

Only ``report.html`` and its figures are written. For an unfinished run, temporary overviews
are made from the tiles that are finished; the page of ``hyperhpc view`` uses them too.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from hyperhpc.compute.classify import OverviewFiles
from hyperhpc.compute.grid_file import GridFile
from hyperhpc.compute.overview import OverviewMetadata, write_overview
from hyperhpc.compute.tiles import describe_damaged_window, read_record, shorten
from hyperhpc.errors import IncompleteRunError
from hyperhpc.rundir.folder import RunFolder, find_run_folder
from hyperhpc.rundir.integrity import read_result, update_drawn
from hyperhpc.rundir.plan import Plan, Tile
from hyperhpc.schema import fill_value
from hyperhpc.scratch import scratch_folder
from hyperhpc.sealed import read_json, write_sealed


@dataclass(frozen=True)
class PartialGridFile(GridFile):
    """A grid file of every ``step``-th row and column.

    Tiles that are not written yet read as ``missing``.
    """

    missing_tiles: Sequence[Tile]
    step: int
    missing: np.generic

    def read_window(self, rows: slice, cols: slice) -> np.ndarray:
        """Read a window (y, x, layer)."""
        window = super().read_window(rows, cols)
        for tile in self.missing_tiles:
            y0, y1, x0, x1 = (-(-n // self.step) for n in (tile.y0, tile.y1, tile.x0, tile.x1))
            y, x = (
                slice(max(start - span.start, 0), max(stop - span.start, 0))
                for start, stop, span in ((y0, y1, rows), (x0, x1, cols))
            )
            window[y, x] = self.missing
        return window


def report_run(
    out: Path, notify: Callable[[str], None], figures: str = "page",
    cluster_colors: str | None = None,
) -> Path:  # fmt: skip
    """Draw the report of a run from what is on disk, notify of what it lacks; return its path.

    ``figures``, ``cluster_colors``: As for :func:`hyperhpc.report.write_report`. The colours are
        kept in run.json of a finished run, for what is drawn of it later.

    Raises ConfigError: there is no run; IncompleteRunError: nothing can be drawn yet, or a file
    is damaged.
    """
    from hyperhpc.report import write_report
    from hyperhpc.tools.verify import verify

    folder = find_run_folder(out)
    if folder.overview.exists():
        if is_finished(folder):
            _keep_colors(folder, cluster_colors)
        else:
            notify(f"note: the run in {out} is not finished; the page says what is missing")
        try:
            page = write_report(out, figures=figures, cluster_colors=cluster_colors)
            update_drawn(folder)
            return page
        except (KeyError, OSError, RuntimeError, ValueError) as error:
            found = verify(out)
            for name, what in found.damaged.items():
                raise IncompleteRunError(f"{name} of {out} {what}", found.hint) from error
            raise
    with scratch_folder() as scratch:
        has_spectra = folder.spectra.exists() and bool(read_result(folder, folder.spectra))
        overview, gap = make_overview(folder, Path(scratch), is_optional=has_spectra)
        notify(f"note: the run in {out} is not finished; missing: {gap}")
        return write_report(
            out, overview=overview, gaps=[gap], figures=figures, cluster_colors=cluster_colors
        )


def _grid_files(folder: RunFolder, plan: Plan) -> tuple[OverviewMetadata, tuple[GridFile, ...]]:
    """The finest overview level of an unfinished run."""
    about = OverviewMetadata.read(folder.work)
    counts = map(len, (about.index_names, about.model_names, about.endmember_names))
    return about, OverviewFiles.at(folder.work, plan.area, about.step, *counts).files()


def _keep_colors(folder: RunFolder, cluster_colors: str | None) -> None:
    run = read_json(folder.run)
    if cluster_colors not in (None, run.get("cluster_colors", "palette")):
        write_sealed(folder.run, run | {"cluster_colors": cluster_colors})


def is_finished(folder: RunFolder) -> bool:
    """True if run.json says that the run is finished."""
    return folder.run.exists() and bool(read_json(folder.run).get("complete"))


def make_overview(
    folder: RunFolder, scratch: Path, *, is_optional: bool = False
) -> tuple[Path | None, str]:
    """Write overviews of the finished tiles of an unfinished run into a temporary folder.

    Returns: path of the store, and what is missing in it, in words. Without any finished tile,
    None if ``is_optional``, else IncompleteRunError is raised; also for a finished run.
    """
    if is_finished(folder):
        raise IncompleteRunError(
            f"{folder.out} lacks {folder.overview.name}, though its run is finished",
            f"See what is damaged: hyperhpc verify {shlex.quote(str(folder.out))}",
        )
    plan = Plan.from_json(read_json(folder.plan))
    records, n_tiles = folder.records("classify"), plan.n_tiles()
    found = {tile: read_record(records / f"{tile.name}.json") for tile in plan.tiles()}
    harmed: dict[Tile, str] = {}
    if any(found.values()):
        about, files = _grid_files(folder, plan)
        checks = ((tile, describe_damaged_window(files, r)) for tile, r in found.items() if r)
        harmed = {tile: what for tile, what in checks if what}
    missing = [tile for tile, record in found.items() if not record or tile in harmed]
    gap = "only the last steps"
    if missing:
        gap = (
            f"{len(missing)} of {n_tiles} tiles of the maps, which are left grey: "
            f"{shorten([tile.name for tile in missing])} (row and column of the tile)"
        )
    for tile, what in islice(harmed.items(), 1):
        gap += f"; of {len(harmed)} of them, {tile.name} for one, {what}"
    if len(missing) == n_tiles:
        if is_optional:
            return None, gap
        raise IncompleteRunError(
            f"Nothing of {folder.out} can be drawn yet: none of its {n_tiles} tiles has its "
            "indices and labels",
            f"See how far the run is: hyperhpc status {shlex.quote(str(folder.out))}",
        )
    step = about.step
    partial = [
        PartialGridFile(file.path, file.shape, file.dtype, missing, step, fill_value(variable))
        for file, variable in zip(files, about.labels(), strict=True)
    ]
    path = scratch / folder.overview.name
    write_overview(path, OverviewFiles.of(step, partial), about, plan.area.shape)
    return path, gap
