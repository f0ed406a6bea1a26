"""Compare two runs of one place: which clusters match, and where the labels differ."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hyperhpc.analysis import agreement
from hyperhpc.errors import ConfigError
from hyperhpc.results import STRIP_ROWS, RunResults, open_results
from hyperhpc.scene.cube import Grid
from hyperhpc.scene.georef import is_same_crs
from hyperhpc.schema import has_cluster

#: Grids that differ by less than this share of a pixel are taken as the same.
_TOLERANCE_PX = 0.01
#: Pairs of clusters that are listed as largest disagreements.
_MAX_DISAGREEMENTS = 5
#: Longest side of a picture, in pixels.
_MAX_PICTURE_SIDE = 1200


@dataclass(frozen=True, eq=False)
class Overlap:
    """The rows and columns (``shape``) that two runs have in common.

    ``corners``: Row and column, in the maps of each run, of the first pixel in common.
    """

    runs: tuple[RunResults, RunResults]
    corners: tuple[tuple[int, int], tuple[int, int]]
    shape: tuple[int, int]

    @property
    def bounds(self) -> list[float]:
        """[xmin, ymin, xmax, ymax], outer edges."""
        row, col = self.corners[0]
        rows, cols = (row, row + self.shape[0]), (col, col + self.shape[1])
        return self.runs[0].grid.bounds(rows, cols)

    def labels(self, which: int, model: str, row0: int, row1: int) -> np.ndarray:
        """Labels (y, x) of one run in rows of the overlap."""
        return self.runs[which].labels(model, *self._window(which, row0, row1))

    def values(self, which: int, index: str, row0: int, row1: int) -> np.ndarray:
        """An index (y, x) of one run, float32, in rows of the overlap; NaN where missing."""
        return self.runs[which].values(index, *self._window(which, row0, row1))

    def _window(self, which: int, row0: int, row1: int) -> tuple[slice, slice]:
        row, col = self.corners[which]
        return slice(row + row0, row + row1), slice(col, col + self.shape[1])


def compare(first: Path, second: Path) -> tuple[dict[str, Any], Overlap]:
    """Compare each model of one finished run with each of another.

    Returns: the keys of ``hyperhpc compare --json``, and the pixels in common.
    Raises ConfigError: there is no run, or they lie on different grids or have no pixel in
    common; IncompleteRunError: one of the runs is not finished.
    """
    overlap = find_overlap(open_results(first, complete=True), open_results(second, complete=True))
    one, other = overlap.runs
    sizes = [{m: run.n_clusters(m) for m in run.model_names} for run in overlap.runs]
    pairs = [(a, b) for a in one.model_names for b in other.model_names]
    tables = {pair: np.zeros((sizes[0][pair[0]], sizes[1][pair[1]]), np.int64) for pair in pairs}
    counts = dict.fromkeys(("both", "only_first", "only_second", "neither"), 0)
    for row in range(0, overlap.shape[0], STRIP_ROWS):
        end = min(row + STRIP_ROWS, overlap.shape[0])
        found = [
            {m: overlap.labels(i, m, row, end) for m in run.model_names}
            for i, run in enumerate(overlap.runs)
        ]
        # Pixels without a cluster are the same for all models of a run
        is_first, is_second = (has_cluster(next(iter(f.values()))) for f in found)
        is_both = is_first & is_second
        masks = (is_both, is_first & ~is_second, is_second & ~is_first, ~is_first & ~is_second)
        for name, mask in zip(counts, masks, strict=True):
            counts[name] += int(mask.sum())
        labels = [{m: values[is_both] for m, values in f.items()} for f in found]
        for (a, b), table in tables.items():
            table += agreement.confusion_table(labels[0][a], labels[1][b], *table.shape)
    is_masked = bool(one.conditions or other.conditions)
    facts = {
        "runs": [str(first), str(second)],
        "bounds": overlap.bounds,
        "shape": list(overlap.shape),
        "same_area": overlap.shape == one.shape == other.shape,
        "pixels": counts,
        **({"where": [one.conditions, other.conditions]} if is_masked else {}),
        "pairs": [_describe(pair, table) for pair, table in tables.items()],
    }
    return facts, overlap


def _describe(pair: tuple[str, str], table: np.ndarray) -> dict[str, Any]:
    """Facts about one pair of models."""
    matched = agreement.match_labels(table)
    total = int(table.sum())
    agreeing = agreement.count_agreeing_pixels(table, matched)
    rest = table.copy()
    for cell in matched:
        rest[cell] = 0
    order = np.argsort(-rest, axis=None, kind="stable")[:_MAX_DISAGREEMENTS]
    worst = [tuple(map(int, np.unravel_index(i, rest.shape))) for i in order]
    return {
        "models": list(pair),
        "adjusted_rand_index": agreement.adjusted_rand_index(table),
        "agreeing": agreeing,
        "share_agreeing": agreeing / total if total else None,
        "matched": [list(cell) for cell in matched],
        "largest_disagreements": [
            {"clusters": list(cell), "pixels": int(rest[cell]), "share": int(rest[cell]) / total}
            for cell in worst
            if rest[cell]
        ],
        "confusion": table.tolist(),
    }


def find_overlap(one: RunResults, other: RunResults) -> Overlap:
    """The pixels that two runs have in common; ConfigError if there are none, or grids differ."""
    a, b = one.grid, other.grid
    names = f"{one.folder.out} and {other.folder.out}"
    if not is_same_crs(a, b):
        raise ConfigError(
            f"{names} are in different reference systems: {_crs(a)} and {_crs(b)}",
            "Compare runs of scenes on one grid",
        )
    n_rows, n_cols = one.shape
    rows, cols = (a.ymax - b.ymax) / a.py, (b.xmin - a.xmin) / a.px
    # A difference in pixel size adds up across the maps
    drift = max(abs(a.px - b.px) / a.px * n_cols, abs(a.py - b.py) / a.py * n_rows)
    shift = max(abs(rows - round(rows)), abs(cols - round(cols)))
    if drift > _TOLERANCE_PX or shift > _TOLERANCE_PX:
        raise ConfigError(
            f"{names} lie on different grids: pixels of {_pixels(a)} and {_pixels(b)}",
            "Compare runs of scenes on one grid",
        )
    row, col = round(rows), round(cols)  # corner of the other in the first
    top, left = max(row, 0), max(col, 0)
    shape = (min(n_rows, row + other.shape[0]) - top, min(n_cols, col + other.shape[1]) - left)
    if min(shape) <= 0:
        bounds = (run.grid.bounds((0, run.shape[0]), (0, run.shape[1])) for run in (one, other))
        spans = (",".join(f"{v:.10g}" for v in edges) for edges in bounds)
        raise ConfigError(
            f"{names} have no pixel in common: they span {' and '.join(spans)}",
            "Compare runs of the same place",
        )
    return Overlap((one, other), ((top, left), (top - row, left - col)), shape)


def _crs(grid: Grid) -> str:
    if grid.wkt is None:
        return "none"
    from pyproj import CRS

    return CRS.from_wkt(grid.wkt).name


def _pixels(grid: Grid) -> str:
    return f"{grid.px:.10g} x {grid.py:.10g} from {grid.xmin:.10g}, {grid.ymax:.10g}"


def draw_comparison(facts: dict[str, Any], overlap: Overlap, figure: Path) -> None:
    """Draw maps of both runs in matched colours, and of where they differ, into a file.

    Pairs of models of the same name are drawn; if there is none, the pair that agrees best.
    """
    from hyperhpc.report.plots.comparison import ComparedModels, comparison_figure
    from hyperhpc.tools.inspect import save_figure

    pairs = [p for p in facts["pairs"] if p["models"][0] == p["models"][1]]
    pairs = pairs or [max(facts["pairs"], key=lambda p: p["adjusted_rand_index"])]
    xmin, ymin, xmax, ymax = overlap.bounds
    grid = overlap.runs[0].grid
    step = -(-max(overlap.shape) // _MAX_PICTURE_SIDE)
    names = [Path(run).resolve().name for run in facts["runs"]]
    drawn = [ComparedModels(p, *_reduce(overlap, p, step)) for p in pairs]
    names = names if names[0] != names[1] else facts["runs"]
    extent, pixel = (xmin, xmax, ymin, ymax), (step * grid.px, step * grid.py)
    save_figure(comparison_figure(drawn, names, extent, pixel, overlap.runs[0].crs), figure)


def _reduce(
    overlap: Overlap, pair: dict[str, Any], step: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels of every step-th pixel, and the share that differs in each block.

    Returns: uint8 (y, x) twice, as the runs have stored it; float32 (y, x), NaN where no pixel
    has a cluster in both.
    """
    partner = np.full(256, -1)
    for a, b in pair["matched"]:
        partner[a] = b
    parts = []
    rows_at_once = max(1, STRIP_ROWS // step) * step
    for start in range(0, overlap.shape[0], rows_at_once):
        stop = min(start + rows_at_once, overlap.shape[0])
        a, b = (overlap.labels(i, pair["models"][i], start, stop) for i in range(2))
        is_both = has_cluster(a) & has_cluster(b)
        n, n_differ = (_block_sums(m, step) for m in (is_both, is_both & (partner[a] != b)))
        share = np.divide(n_differ, n, out=np.full(n.shape, np.nan), where=n > 0)
        parts.append((a[::step, ::step], b[::step, ::step], share.astype(np.float32)))
    first, second, differing = (np.concatenate(part) for part in zip(*parts, strict=True))
    return first, second, differing


def _block_sums(mask: np.ndarray, step: int) -> np.ndarray:
    """Number of True in blocks of step x step; blocks at the edges may be smaller."""
    sums = np.add.reduceat(mask.astype(np.int64), range(0, mask.shape[0], step), axis=0)
    return np.add.reduceat(sums, range(0, mask.shape[1], step), axis=1)
