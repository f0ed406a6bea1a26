"""Which window to show at full resolution: mostly valid, and with much going on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hyperhpc.report.overview import Extent, FloatMap, Overview
from hyperhpc.results import NO_CLUSTER, Outputs

#: Longest side of the window in pixels of the scene.
SIDE = 500
# The search looks at this many pixels along the longer side; finer would not choose better.
_SEARCH = 256


@dataclass(frozen=True)
class Closeup:
    """A window of the area, in its rows and columns and in map coordinates."""

    rows: slice
    cols: slice
    extent: Extent
    is_part: bool

    def colour(self, overview: Overview) -> tuple[FloatMap, Extent] | None:
        """True colour of the window from the finest level, with that piece's outer edges."""
        level = overview.levels[0]
        first = self.rows.start // level, self.cols.start // level
        last = -(-self.rows.stop // level), -(-self.cols.stop // level)
        values = overview.window(level, slice(first[0], last[0]), slice(first[1], last[1]))
        if values is None or not values.size:
            return None
        left, right, bottom, top = overview.extent(level)
        n_rows, n_cols = overview.shape(level)
        dx, dy = (right - left) / n_cols, (bottom - top) / n_rows
        rows, cols = values.shape[:2]
        x0, y0 = left + first[1] * dx, top + first[0] * dy
        return values, (x0, x0 + cols * dx, y0 + rows * dy, y0)


def choose_closeup(outputs: Outputs, model: str) -> Closeup | None:
    """The window of up to ``SIDE`` pixels a side with most valid pixels and variety.

    The score of a window is its share of valid pixels times the entropy of its labels,
    from a thinned overview; the first of equal scores wins, so that it never moves.
    """
    overview, shape = outputs.overview, outputs.area.get("shape")
    if overview is None or not shape:
        return None
    n = outputs.n_clusters(model)
    labels = overview.cluster(model, n)
    if labels is None or n == 0:
        return None
    rows, cols = int(shape[0]), int(shape[1])
    step = max(1, -(-max(labels.shape) // _SEARCH))
    thin = labels[step // 2 :: step, step // 2 :: step]
    side = min(SIDE, rows), min(SIDE, cols)
    # Window size in thinned pixels; the scene may be so large that it is one of them.
    box = tuple(
        max(1, min(t, round(t * s / full)))
        for t, s, full in zip(thin.shape, side, (rows, cols), strict=True)
    )
    score = _score(thin, n, (box[0], box[1]))
    i, j = np.unravel_index(int(score.argmax()), score.shape)
    row = min(int(i * rows / thin.shape[0]), rows - side[0])
    col = min(int(j * cols / thin.shape[1]), cols - side[1])
    left, right, bottom, top = _outer(outputs, overview)
    dx, dy = (right - left) / cols, (bottom - top) / rows
    extent = (
        left + col * dx, left + (col + side[1]) * dx,
        top + (row + side[0]) * dy, top + row * dy,
    )  # fmt: skip
    return Closeup(
        slice(row, row + side[0]), slice(col, col + side[1]), extent, side != (rows, cols)
    )


def _outer(outputs: Outputs, overview: Overview) -> Extent:
    bounds = outputs.area.get("bounds")
    left, right, bottom, top = overview.extent(overview.levels[0])
    if bounds and top > bottom:
        return bounds[0], bounds[2], bounds[1], bounds[3]
    return left, right, bottom, top


def _score(
    labels: npt.NDArray[np.uint8], n: int, box: tuple[int, int]
) -> npt.NDArray[np.float64]:
    """Share of valid pixels times (1 + entropy) for every position of a window."""
    total = np.zeros(())
    entropy = np.zeros(())
    for label in range(n):
        count = _window_sums(labels == label, box)
        share = count / (box[0] * box[1])
        # Entropy over the whole window, so that holes lower it too.
        entropy = entropy - np.where(share > 0, share * np.log(np.maximum(share, 1e-12)), 0)
        total = total + share
    if not total.shape:
        total = _window_sums(labels != NO_CLUSTER, box) / (box[0] * box[1])
    return np.asarray(total * (0.2 + entropy) * np.where(total > 0.98, 1.5, 1.0))


def _window_sums(mask: npt.NDArray[np.bool_], box: tuple[int, int]) -> npt.NDArray[np.int64]:
    table = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1), np.int64)
    table[1:, 1:] = mask.cumsum(0).cumsum(1)
    h, w = box
    return table[h:, w:] - table[:-h, w:] - table[h:, :-w] + table[:-h, :-w]
