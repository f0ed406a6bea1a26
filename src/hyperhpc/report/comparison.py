"""Two runs side by side: their clusters in matched colours, and where they differ."""

from __future__ import annotations

from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from hyperhpc.report import style
from hyperhpc.report.crs import MapCrs
from hyperhpc.report.formats import percent, score
from hyperhpc.report.maps import KEY_WIDTH, ROW, TITLE, colour_labels, draw_key
from hyperhpc.report.overview import Extent
from hyperhpc.report.sheet import (
    FOOTER,
    MARGIN,
    PAGE,
    TICKS_BELOW,
    TICKS_LEFT,
    Sheet,
    aspect_of,
    crisp,
    draw_map,
    fit,
)
from hyperhpc.results import NO_CLUSTER, JsonDict

# From what agrees, paler than any cluster, to what does not.
_RAMP = "OrRd"
_GAP = 0.16


@dataclass(frozen=True)
class Compared:
    """A pair of models, reduced for drawing.

    Parameters
    ----------
    pair
        An entry of ``pairs`` of ``hyperhpc compare --json``.
    first, second
        Labels (y, x) uint8, 255 no-data.
    differing
        Share of the pixels in each block that differ after matching; NaN where none is in
        both.
    """

    pair: JsonDict
    first: npt.NDArray[np.uint8]
    second: npt.NDArray[np.uint8]
    differing: npt.NDArray[np.float32]


def comparison_figure(
    drawn: list[Compared],
    runs: list[str],
    view: Extent,
    block: tuple[float, float],
    crs: MapCrs,
) -> Figure:
    """Three maps for each pair of models: one run, the other, and where they differ.

    Parameters
    ----------
    runs
        Names of the two.
    view
        Edges of the pixels in common (left, right, bottom, top).
    block
        Width and height of a pixel of the picture in units of the CRS.
    """
    with style.use_style():
        left = TICKS_LEFT + MARGIN
        w, h = fit(aspect_of(view, crs), (PAGE - left - 2 * _GAP - MARGIN) / 3, 7.0)
        w, h = crisp(w, h, drawn[0].first.shape[1])
        pitch = max(w, 2.4) + _GAP
        width = max(left + 3 * pitch, 6.0)
        key_cols = int((width - left) // KEY_WIDTH)
        names = [_names(compared.pair) for compared in drawn]
        key_rows = [-(-len(n) // key_cols) for n in names]
        heights = [TITLE + 0.16 + h + TICKS_BELOW + 0.3 + r * ROW for r in key_rows]
        sheet = Sheet(width, sum(heights) + FOOTER)
        top = 0.0
        for compared, keys, rows, height in zip(drawn, names, key_rows, heights, strict=True):
            _draw_pair(sheet, compared, runs, (left, top, w, h, pitch), view, block, crs)
            n = len(keys)
            below = top + TITLE + 0.16 + h + TICKS_BELOW + 0.06
            draw_key(sheet, left, below, [[k] for k in keys], style.cluster_colours(n), rows, 0)
            top += height
        y_mid = (view[2] + view[3]) / 2
        sheet.footer(crs, w / abs(view[1] - view[0]), y_mid, no_data="no data")
        return sheet.figure


def _draw_pair(
    sheet: Sheet, compared: Compared, runs: list[str],
    place: tuple[float, float, float, float, float], view: Extent,
    block: tuple[float, float], crs: MapCrs,
) -> None:  # fmt: skip
    pair, (x, y, w, h, pitch) = compared.pair, place
    rows, cols = compared.first.shape
    extent = (view[0], view[0] + cols * block[0], view[3] - rows * block[1], view[3])
    n = len(_names(pair))
    ramp = mpl.colormaps[_RAMP]
    differing = np.round(255 * ramp(np.nan_to_num(compared.differing))).astype(np.uint8)
    differing[np.isnan(compared.differing)] = 0
    share = pair["share_agreeing"]
    panels = [
        (runs[0], f"clusters, {pair['models'][0]}", colour_labels(compared.first, n)),
        (runs[1], f"clusters, {pair['models'][1]}, in the colours that match",
         colour_labels(_recoloured(compared.second, pair), n)),
        (f"{percent(None if share is None else 1 - share)} of pixels differ",
         f"adjusted Rand index {score(pair['adjusted_rand_index'])}", differing),
    ]  # fmt: skip
    for i, (title, words, image) in enumerate(panels):
        at = x + i * pitch
        sheet.text(at, y + 0.08, title, fontsize=9, fontweight="bold")
        sheet.text(at, y + 0.27, words, fontsize=7, color=style.MUTED)
        ax = sheet.axes(at, y + TITLE + 0.16, w, h)
        draw_map(ax, image, extent, crs, view=view, show_y=i == 0, is_smooth=i == 2)
    bar = min(w - 1.0, 1.4)
    cax = sheet.axes(x + 2 * pitch + w - bar - 0.1, y + TITLE + 0.16 + h + 0.3, bar, 0.07)
    colours = ScalarMappable(Normalize(0, 1), ramp)
    drawn = sheet.figure.colorbar(colours, cax=cax, orientation="horizontal", ticks=[0, 0.5, 1])
    drawn.outline.set(linewidth=0.4, edgecolor="#8a939d")
    cax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    cax.tick_params(labelsize=6.5, length=2, pad=1.5, width=0.5)
    label_x = x + 2 * pitch + w - bar - 0.18
    sheet.text(label_x, y + TITLE + 0.16 + h + 0.29, "share that differs", fontsize=6.5,
               ha="right", color=style.MUTED)  # fmt: skip


def _unmatched(pair: JsonDict, side: int) -> list[int]:
    """Clusters of one run that have no partner."""
    table = np.asarray(pair["confusion"])
    used = {cell[side] for cell in pair["matched"]}
    return [k for k in range(table.shape[side]) if k not in used]


def _names(pair: JsonDict) -> list[str]:
    """Names of the colours: the clusters of the first run, then those only in the second."""
    partner = dict(pair["matched"])
    first = range(len(pair["confusion"]))
    names = [f"C{a} = C{partner[a]}" if a in partner else f"C{a}, first only" for a in first]
    return names + [f"C{b}, second only" for b in _unmatched(pair, 1)]


def _recoloured(labels: npt.NDArray[np.uint8], pair: JsonDict) -> npt.NDArray[np.uint8]:
    """Labels of the second run as positions among :func:`_names`."""
    table = np.full(256, NO_CLUSTER, np.uint8)
    for a, b in pair["matched"]:
        table[b] = a
    n_first = len(pair["confusion"])
    for i, b in enumerate(_unmatched(pair, 1)):
        table[b] = n_first + i
    return table[labels]
