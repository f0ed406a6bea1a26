"""Figures that compare: two runs, two models of one run, several numbers of clusters."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from hyperhpc.report import style
from hyperhpc.report.formats import THIN, number, percent, score, short_count
from hyperhpc.report.plots.keys import KEY_WIDTH, ROW, draw_key
from hyperhpc.report.plots.maps import TITLE, colour_labels
from hyperhpc.report.plots.sheet import LEFT, MARGIN, PAGE, TICKS_BELOW, Sheet, aspect_of, fit
from hyperhpc.results import Extent, JsonDict
from hyperhpc.scene.georef import MapCrs
from hyperhpc.schema import NO_CLUSTER, NOT_CLUSTERED, NOT_CLUSTERED_TITLE

# From what agrees, paler than any cluster, to what does not.
_RAMP = "OrRd"
_GAP = 0.16


@dataclass(frozen=True)
class ComparedModels:
    """A pair of models, reduced for drawing.

    ``pair``: An entry of ``pairs`` of ``hyperhpc compare --json``.
    ``first``, ``second``: Labels (y, x) uint8, 255 no-data, 254 not clustered.
    ``differing``: Share of the pixels in each block that differ after matching; NaN where none
        is in both.
    """

    pair: JsonDict
    first: npt.NDArray[np.uint8]
    second: npt.NDArray[np.uint8]
    differing: npt.NDArray[np.float32]


def comparison_figure(
    drawn: list[ComparedModels],
    runs: list[str],
    view: Extent,
    block: tuple[float, float],
    crs: MapCrs,
) -> Figure:
    """Three maps for each pair of models: one run, the other, and where they differ.

    ``runs``: Names of the two.
    ``view``: Edges of the pixels in common (left, right, bottom, top).
    ``block``: Width and height of a pixel of the picture in units of the CRS.
    """
    with style.use_style():
        max_w, n_pixels = (PAGE - LEFT - 2 * _GAP - MARGIN) / 3, drawn[0].first.shape[1]
        w, h = fit(aspect_of(view, crs), max_w, 7.0, n_pixels)
        pitch = max(w, 2.4) + _GAP
        width = max(LEFT + 3 * pitch, 6.0)
        key_cols = int((width - LEFT) // KEY_WIDTH)
        names = [_names(compared.pair) for compared in drawn]
        key_rows = [-(-len(n) // key_cols) for n in names]
        heights = [TITLE + 0.16 + h + TICKS_BELOW + 0.3 + r * ROW for r in key_rows]
        sheet = Sheet(width, sum(heights), has_footer=True)
        top = 0.0
        for compared, keys, rows, height in zip(drawn, names, key_rows, heights, strict=True):
            _draw_pair(sheet, compared, runs, (LEFT, top, w, h, pitch), view, block, crs)
            below = top + TITLE + 0.16 + h + TICKS_BELOW + 0.06
            colours = style.cluster_colours(len(keys))
            draw_key(sheet, LEFT, below, [[k] for k in keys], colours, rows, 0)
            top += height
        maps = [labels for compared in drawn for labels in (compared.first, compared.second)]
        has_masked = any((labels == NOT_CLUSTERED).any() for labels in maps)
        words = ("no data, or not compared", NOT_CLUSTERED_TITLE) if has_masked else ("no data", "")
        sheet.footer(crs, view, w, *words)
        return sheet.figure


def _draw_pair(
    sheet: Sheet, compared: ComparedModels, runs: list[str],
    place: tuple[float, float, float, float, float], view: Extent,
    block: tuple[float, float], crs: MapCrs,
) -> None:  # fmt: skip
    pair, (x, y, w, h, pitch) = compared.pair, place
    rows, cols = compared.first.shape
    extent = (view[0], view[0] + cols * block[0], view[3] - rows * block[1], view[3])
    palette = style.cluster_colours(len(_names(pair)))
    ramp = mpl.colormaps[_RAMP]
    differing = np.round(255 * ramp(np.nan_to_num(compared.differing))).astype(np.uint8)
    differing[np.isnan(compared.differing)] = 0
    share = pair["share_agreeing"]
    panels = [
        (runs[0], f"clusters, {pair['models'][0]}", colour_labels(compared.first, palette)),
        (runs[1], f"clusters, {pair['models'][1]}, in the colours that match",
         colour_labels(_recoloured(compared.second, pair), palette)),
        (f"{percent(None if share is None else 1 - share)} of pixels differ",
         f"adjusted Rand index {score(pair['adjusted_rand_index'])}", differing),
    ]  # fmt: skip
    for i, (title, words, image) in enumerate(panels):
        at = x + i * pitch
        sheet.heading(at, y + 0.08, title)
        sheet.remark(at, y + 0.27, words)
        box = at, y + TITLE + 0.16, w, h
        flags = {"show_y": i == 0, "is_named": i == 0, "is_smooth": i == 2}
        sheet.map(*box, image, extent, crs, view=view, **flags)
    bar = min(w - 1.0, 1.4)
    cax = sheet.axes(x + 2 * pitch + w - bar - 0.1, y + TITLE + 0.16 + h + 0.3, bar, 0.07)
    colours = ScalarMappable(Normalize(0, 1), ramp)
    drawn = sheet.figure.colorbar(colours, cax=cax, orientation="horizontal", ticks=[0, 0.5, 1])
    drawn.outline.set(linewidth=0.4, edgecolor="#8a939d")
    cax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    cax.tick_params(labelsize=6.5, length=2, pad=1.5, width=0.5)
    label_x = x + 2 * pitch + w - bar - 0.18
    label_y = y + TITLE + 0.16 + h + 0.29
    sheet.remark(label_x, label_y, "share that differs", fontsize=6.5, ha="right")


def _second_only(pair: JsonDict) -> list[int]:
    """Clusters of the second run that have no partner."""
    matched = {b for _, b in pair["matched"]}
    return [b for b in range(len(pair["confusion"][0])) if b not in matched]


def _names(pair: JsonDict) -> list[str]:
    """Names of the colours: the clusters of the first run, then those only in the second."""
    partner = dict(pair["matched"])
    first = range(len(pair["confusion"]))
    names = [f"C{a} = C{partner[a]}" if a in partner else f"C{a}, first only" for a in first]
    return names + [f"C{b}, second only" for b in _second_only(pair)]


def _recoloured(labels: npt.NDArray[np.uint8], pair: JsonDict) -> npt.NDArray[np.uint8]:
    """Labels of the second run as positions among :func:`_names`."""
    table = np.full(256, NO_CLUSTER, np.uint8)
    table[NOT_CLUSTERED] = NOT_CLUSTERED
    for a, b in pair["matched"]:
        table[b] = a
    for i, b in enumerate(_second_only(pair), len(pair["confusion"])):
        table[b] = i
    return table[labels]


# Cells smaller than this many inches show no number, or only the share without the count.
_LEGIBLE, _ROOMY = 0.3, 0.4


def agreement_figure(pair: JsonDict) -> Figure:
    """Where the pixels of each cluster of one model are in the other.

    ``pair``: One entry of ``agreement`` in clusters.json: ``models``, ``confusion`` (pixels),
        ``adjusted_rand_index``.
    """
    table = np.asarray(pair["confusion"], dtype=np.float64)
    first, second = pair["models"]
    totals = table.sum(axis=1, keepdims=True)
    share = np.divide(table, totals, out=np.zeros_like(table), where=totals > 0)
    n_rows, n_cols = table.shape
    most = max(n_rows, n_cols)
    cell = max(min(0.6, 6.6 / most), 1.6 / most)
    left, top, right = 0.6, 0.84, 0.75
    w, h = n_cols * cell, n_rows * cell
    sheet = Sheet(max(left + w + right, 3.6), top + h + 0.25)
    ax = sheet.axes(left, top, w, h)
    image = ax.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    step = max(1, math.ceil(0.3 / cell - 0.1))
    ax.set_xticks(range(0, n_cols, step), [f"C{k}" for k in range(0, n_cols, step)])
    ax.set_yticks(range(0, n_rows, step), [f"C{k}" for k in range(0, n_rows, step)])
    ax.xaxis.set_ticks_position("top")
    ax.xaxis.set_label_position("top")
    ax.tick_params(length=0, pad=2)
    ax.set_xlabel(second, labelpad=3)
    ax.set_ylabel(first, labelpad=2)
    if cell >= _LEGIBLE:
        for i, j in zip(*np.nonzero(table), strict=True):
            value = share[i, j]
            if value < 0.0005:
                continue
            colour = "white" if value > 0.55 else style.INK
            text = f"{number(value * 100, 0 if value >= 0.095 else 1)}{THIN}%"
            if 0.995 <= value < 1:  # nearly all is not all
                text = f">{THIN}99{THIN}%"
            is_roomy = cell >= _ROOMY
            ax.text(j, i - 0.1 * is_roomy, text, ha="center", va="center", color=colour,
                    fontsize=7 if is_roomy else 5.5)  # fmt: skip
            if is_roomy:
                ax.text(j, i + 0.24, short_count(table[i, j]), ha="center", va="center",
                        fontsize=5.5, color=colour, alpha=0.9)  # fmt: skip
    ax.spines[:].set_linewidth(0.4)
    ax.set_xticks(np.arange(n_cols + 1) - 0.5, minor=True)
    ax.set_yticks(np.arange(n_rows + 1) - 0.5, minor=True)
    ax.grid(which="minor", color="white", lw=0.8 if cell >= 0.2 else 0.2)
    ax.tick_params(which="minor", length=0)
    cax = sheet.axes(left + w + MARGIN, top, 0.1, min(h, 3.0))
    bar = sheet.figure.colorbar(image, cax=cax)
    bar.set_label(f"share of the {first} cluster", fontsize=7)
    bar.outline.set(linewidth=0.4)
    cax.tick_params(labelsize=6.5, length=2)
    sheet.heading(left, 0.1, f"{first} against {second}")
    words = f"adjusted Rand index {score(pair.get('adjusted_rand_index'))}"
    sheet.remark(left, 0.28, words)
    return sheet.figure


# Charts of choose-k: key of the table, title, which values are good.
_CHARTS = (
    ("unexplained", "Variance left unexplained", "the elbow counts"),
    ("silhouette", "Silhouette", "high is good"),
    ("davies_bouldin", "Davies-Bouldin index", "low is good"),
    ("seed_stability", "Stability", "mean adjusted Rand index; high is good"),
)


def choice_figure(found: dict[str, Any]) -> Figure:
    """Four charts over k with the recommended number marked.

    ``found``: As ``hyperhpc choose-k --json`` prints it.
    """
    with style.use_style():
        left, top, gap, h = 0.5, 0.95, 0.62, 1.75
        w = (PAGE - left - gap - MARGIN) / 2
        sheet = Sheet(PAGE, top + 2 * (h + 0.78))
        best = found["recommended"]
        sheet.heading(left, 0.1, f"{best} clusters are recommended")
        words = f"{found['reason'][0].upper()}{found['reason'][1:]}"
        sheet.remark(left, 0.29, words, fontsize=6.5)
        about = (
            f"{number(found['pixels'])} pixels, {found['bands']} bands, {found['seeds']} seeds, "
            f"{found['subsamples']} subsamples of {found['subsample_share']:.0%}; silhouette of "
            f"{number(found['silhouette_pixels'])} pixels"
        )
        sheet.remark(left, 0.45, about, fontsize=6.5)
        for i, (key, title, good) in enumerate(_CHARTS):
            row, col = divmod(i, 2)
            x, y = left + col * (w + gap), top + row * (h + 0.78)
            sheet.text(x, y - 0.24, title, fontsize=8.5, fontweight="bold")
            sheet.remark(x + w, y - 0.22, good, ha="right")
            ax = sheet.axes(x, y, w, h)
            points = [(e["k"], e[key]) for e in found["table"] if e[key] is not None]
            ax.axvline(best, color="#D55E00", lw=1.0, zorder=1)
            ax.plot(*zip(*points, strict=True), color="#0072B2", marker="o", ms=3.2, zorder=2)
            ax.grid(visible=True)
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
            ax.spines[["top", "right"]].set_visible(False)
            if key == "unexplained":
                ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
            if key == "seed_stability":
                _add_resampling(ax, found["table"], [value for _, value in points])
            if row:
                ax.set_xlabel("number of clusters k")
        return sheet.figure


def _add_resampling(ax: Axes, table: list[dict[str, Any]], over_seeds: list[float]) -> None:
    """Draw the second stability next to the one over seeds, and name both."""
    ks, values = [row["k"] for row in table], [row["resampling_stability"] for row in table]
    ax.lines[-1].set_label("over seeds (same pixels)")
    ax.plot(ks, values, color="#CC79A7", marker="s", ms=3.0, ls="--", label="under resampling")
    ax.set_ylim(min(0.0, *over_seeds, *values), 1.03)
    ax.legend(loc="lower left", fontsize=6.5, facecolor="white", framealpha=1, edgecolor="none")
