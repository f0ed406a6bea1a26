"""Maps of spectral indices: all on one sheet, and each by itself with its histogram."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PolyCollection
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure

from hyperhpc.report import style
from hyperhpc.report.formats import (
    formula_parts,
    formula_text,
    number,
    percent,
    plain_text,
    significant,
)
from hyperhpc.report.plots.maps import whole_view
from hyperhpc.report.plots.sheet import (
    LEFT,
    MARGIN,
    PAGE,
    TICKS_BELOW,
    Sheet,
    aspect_of,
    columns,
    fit,
)
from hyperhpc.results import Extent, JsonDict, Pyramid, RunResults, reduce_mean, widen_equal

_ENDS: dict[str, tuple[str, ...]] = {
    "both": ("min", "max"), "min": ("min",), "max": ("max",), "neither": (),
}  # fmt: skip
_BINS = 64
#: Letters of a title that fit above a map.
_MAX_TITLE = 40
# Inches above a map for title, formula and the unit over its colour bar.
_OVER = 0.6
# Length of a colour bar's arrows as a share of its body.
_ARROW = 0.035


@dataclass(frozen=True)
class IndexMap:
    """One index, coloured and measured at the overview's resolution.

    ``image``: (y, x, 4) uint8, transparent where the index has no value.
    ``limits``: Ends of the colour range; None if there is no value at all.
    ``p2``, ``median``, ``p98``: Percentiles over the pixels that have a value; None likewise.
    ``q1``, ``q3``, ``mean``: Quartiles and mean over the same pixels.
    ``n_missing``, ``n_pixels``: Pixels without a value, and all of them: of the whole area
        where the run counted them (``is_counted``), else of the overview.
    """

    entry: JsonDict
    image: npt.NDArray[np.uint8]
    extent: Extent
    colours: Colormap
    limits: tuple[float, float] | None
    extend: str
    counts: npt.NDArray[np.int64]
    p2: float | None
    median: float | None
    p98: float | None
    n_missing: int
    n_pixels: int
    is_counted: bool
    q1: float | None = None
    q3: float | None = None
    mean: float | None = None

    @property
    def share_missing(self) -> float | None:
        """Share of pixels without a value."""
        return self.n_missing / self.n_pixels if self.n_pixels else None

    @property
    def title(self) -> str:
        """Proper name, as ``NDVI``."""
        return str(self.entry.get("title") or self.entry["name"])

    @property
    def missing_words(self) -> str:
        """How much has no value; a number of pixels where every pixel was counted."""
        if self.is_counted:
            return f"{number(self.n_missing)} pixels without value"
        return f"{percent(self.share_missing)} without value"


def measure_index(results: RunResults, entry: JsonDict) -> IndexMap | None:
    """Read an index from the overview, measure it and colour it."""
    pyramid = results.pyramid
    values = pyramid.index(str(entry["name"])) if pyramid else None
    if values is None or pyramid is None:
        return None
    colours = style.colour_map(str(entry["name"]), diverging=bool(entry.get("diverging")))
    found = measure_values(pyramid, values, entry, colours)
    counted = (results.run.get("pixels") or {}).get("missing") or {}
    if counted.get(entry["name"]) is None or not results.n_pixels:
        return found
    n_missing = int(counted[entry["name"]])
    return replace(found, n_missing=n_missing, n_pixels=results.n_pixels, is_counted=True)


def measure_values(
    pyramid: Pyramid,
    values: npt.NDArray[np.float32],
    entry: JsonDict,
    colours: Colormap,
    limits: tuple[float, float] | None = None,
) -> IndexMap:
    """Measure and colour the values (y, x) of a map at the drawing level.

    ``limits``: Ends of the colours; None takes those of :func:`_limits`.
    """
    drawn = reduce_mean(values)
    finite = values[np.isfinite(values)]
    p2 = q1 = median = q3 = p98 = mean = None
    extend, counts = "neither", np.zeros(_BINS, np.int64)
    if not finite.size:
        limits = None
    else:
        thin = finite[:: max(1, finite.size // 1_000_000)]
        p2, q1, median, q3, p98 = map(float, np.percentile(thin, (2, 25, 50, 75, 98)))
        mean = float(finite.mean(dtype=np.float64))
        limits = limits or _limits(drawn, pyramid.is_land, entry)
        under, over = finite.min() < limits[0], finite.max() > limits[1]
        extend = {(1, 1): "both", (1, 0): "min", (0, 1): "max"}.get(
            (int(under), int(over)), "neither"
        )
        counts = np.histogram(thin, bins=_BINS, range=limits)[0]
    n_missing, n_pixels = int(values.size - finite.size), int(values.size)
    is_counted = pyramid.level == 1
    return IndexMap(
        entry, coloured(drawn, limits, colours), pyramid.drawn_extent(drawn), colours,
        limits, extend, counts, p2, median, p98, n_missing, n_pixels, is_counted,
        q1, q3, mean,
    )  # fmt: skip


def _limits(
    drawn: npt.NDArray[np.float32], is_land: npt.NDArray[np.bool_] | None, entry: JsonDict
) -> tuple[float, float]:
    """Ends of the colours: 2 and 98 % of the land, not beyond the range that is expected.

    The range counts only where the median lies in it: a scene in which an index leaves its
    range would have one colour. Limits of a diverging index are at the same distance from 0.
    """
    kept = np.isfinite(drawn)
    if is_land is not None and is_land.shape == drawn.shape and (kept & is_land).any():
        kept &= is_land
    low, median, high = map(float, np.percentile(drawn[kept], (2, 50, 98)))
    if (expected := entry.get("range")) and expected[0] <= median <= expected[1]:
        low, high = max(low, float(expected[0])), min(high, float(expected[1]))
    low, high = widen_equal(low, high)
    most = max(abs(low), abs(high))
    return (-most, most) if entry.get("diverging") else (low, high)


def coloured(
    values: npt.NDArray[np.float32], limits: tuple[float, float] | None, colours: Colormap
) -> npt.NDArray[np.uint8]:
    """RGBA of values (y, x) between limits; transparent where there is none."""
    if limits is None:
        return np.zeros((*values.shape, 4), np.uint8)
    table = np.zeros((257, 4), np.uint8)
    table[:256] = np.round(colours(np.linspace(0, 1, 256)) * 255)
    scaled = (values - limits[0]) * (256 / (limits[1] - limits[0]))
    is_finite = np.isfinite(scaled)
    level = np.clip(np.where(is_finite, scaled, 0), 0, 255).astype(np.int16)
    return table[np.where(is_finite, level, 256)]


def indices_figure(results: RunResults, maps: list[IndexMap]) -> Figure | None:
    """All indices on one sheet, in the order of the run."""
    if not maps:
        return None
    view = whole_view(results)
    aspect = aspect_of(view, results.crs)
    is_flat = aspect > 2.5
    # Room for each map's title and formula above it, its colour bar to the right or below.
    bar_w = 0.0 if is_flat else 0.62
    extra_h = _OVER + (0.62 if is_flat else 0.1)
    extra_w = 0.1 if is_flat else 0.76
    n_cols, w, h = columns(len(maps), aspect, PAGE - LEFT, 13.5, extra_w, extra_h)
    n_rows = -(-len(maps) // n_cols)
    cell_w = max(w + bar_w + 0.14, 1.05)
    width = max(5.0, LEFT + n_cols * cell_w)
    sheet = Sheet(width, n_rows * (h + extra_h) + TICKS_BELOW - 0.1, has_footer=True)
    for i, index in enumerate(maps):
        row, col = divmod(i, n_cols)
        x, y = LEFT + col * cell_w, row * (h + extra_h)
        _heading(sheet, x, y + 0.08, cell_w - 0.14, index)
        ax = sheet.map(
            x, y + _OVER, w, h, index.image, index.extent, results.crs, view=view, is_smooth=True,
            show_x=i + n_cols >= len(maps) or is_flat, show_y=col == 0,
            is_named=i == (n_rows - 1) * n_cols,
        )  # fmt: skip
        if index.limits is None:
            _say_empty(ax, "no value\nanywhere", fontsize=7.5)
            continue
        if is_flat:
            cax = sheet.axes(x + w / 2 - 1.2, y + _OVER + h + 0.26, 2.4, 0.08)
        else:
            tall = min(h, 3.0)
            cax = sheet.axes(x + w + 0.07, y + _OVER + (h - tall) / 2, 0.09, tall)
        _bar(sheet, cax, index, is_flat=is_flat)
    sheet.footer(results.crs, view, w, "no value")
    return sheet.figure


def index_figure(results: RunResults, index: IndexMap) -> Figure:
    """One index by itself, its histogram along the colour bar."""
    view = whole_view(results)
    aspect = aspect_of(view, results.crs)
    is_flat = aspect > 2.5
    side = 0.1 if is_flat else 1.35
    w, h = fit(aspect, 7.4 - LEFT - side, 6.2)
    width = max(5.0, LEFT + w + side)
    below = TICKS_BELOW + (0.45 if is_flat else 0.0)
    sheet = Sheet(width, _OVER + h + below, has_footer=True)
    _heading(sheet, LEFT, 0.08, width - LEFT - MARGIN, index)
    picture = index.image, index.extent, results.crs
    ax = sheet.map(LEFT, _OVER, w, h, *picture, view=view, is_smooth=True, is_named=True)
    if index.limits is None:
        _say_empty(ax, "no value anywhere")
    elif is_flat:
        cax = sheet.axes(LEFT + w / 2 - 1.5, _OVER + h + TICKS_BELOW + 0.06, 3.0, 0.09)
        _bar(sheet, cax, index, is_flat=True)
    else:
        tall = min(h, 4.5)
        y = _OVER + (h - tall) / 2
        cax = sheet.axes(LEFT + w + 0.1, y, 0.11, tall)
        _bar(sheet, cax, index, is_flat=False)
        # The histogram is as high as the bar without its arrows.
        body = tall / (1 + _ARROW * len(_ENDS[index.extend]))
        y += body * _ARROW * ("max" in _ENDS[index.extend])
        _histogram(sheet.axes(LEFT + w + 0.72, y, 0.45, body), index)
    sheet.footer(results.crs, view, w, "no value")
    return sheet.figure


def _say_empty(ax: Axes, text: str, **kwargs: Any) -> None:
    words = {"ha": "center", "va": "center", "color": style.MUTED} | kwargs
    ax.text(0.5, 0.5, text, transform=ax.transAxes, **words)


def _heading(sheet: Sheet, x: float, y: float, width: float, index: IndexMap) -> None:
    sheet.heading(x, y, plain_text(index.title, _MAX_TITLE))
    if width > 0.09 * len(index.title) + 1.5:
        sheet.remark(x + width, y + 0.02, index.missing_words, fontsize=6.5, ha="right")
    formula = str(index.entry.get("formula") or "")
    if not formula or width < 1.2:
        return
    # Two lines are what fits; a longer formula stands in the report's table.
    first, *more = _wrap(formula, width / 0.046)
    lines = [first, *more] if len(more) < 2 else [first, more[0] + " …"]
    for i, line in enumerate(lines):
        sheet.remark(x, y + 0.17 + 0.115 * i, formula_text(line), fontsize=6)


def _wrap(formula: str, room: float) -> list[str]:
    """Break a formula at its spaces into lines of so many letters, indices counting less."""
    lines = [""]
    for word in formula.split(" "):
        line = f"{lines[-1]} {word}".strip()
        width = sum(len(t) * (0.7 if is_sub else 1.0) for t, is_sub in formula_parts(line))
        if width > room and lines[-1]:
            lines.append(word)
        else:
            lines[-1] = line
    return lines


def _bar(sheet: Sheet, cax: Axes, index: IndexMap, *, is_flat: bool) -> None:
    assert index.limits is not None
    colours = ScalarMappable(Normalize(*index.limits), index.colours)
    box = cax.get_position()  # with the arrows, which the axes then leave outside
    bar: Any = sheet.figure.colorbar(
        colours, cax=cax, extend=index.extend, extendfrac=_ARROW,
        orientation="horizontal" if is_flat else "vertical",
    )  # fmt: skip
    bar.outline.set(linewidth=0.4, edgecolor="#8a939d")
    bar.ax.locator_params(nbins=5)
    bar.ax.tick_params(labelsize=6.5, length=2, pad=1.5, width=0.5)
    # Beyond the bar's arrow, where no label of it stands.
    x, y = (box.x1, (box.y0 + box.y1) / 2) if is_flat else (box.x0, box.y1)
    unit, va = str(index.entry.get("unit") or ""), "center" if is_flat else "bottom"
    x, y = x * sheet.width + 0.06 * is_flat, (1 - y) * sheet.height - 0.03 * (not is_flat)
    sheet.remark(x, y, unit, va=va, fontsize=6)


def _histogram(ax: Axes, index: IndexMap) -> None:
    assert index.limits is not None
    edges = np.linspace(*index.limits, _BINS + 1)
    shades = index.colours(np.linspace(0, 1, _BINS))
    boxes = [
        [(0, low), (n, low), (n, high), (0, high)]
        for n, low, high in zip(index.counts, edges[:-1], edges[1:], strict=True)
    ]
    ax.add_collection(PolyCollection(boxes, facecolors=shades, edgecolors="face", linewidths=0.2))
    ax.stairs(index.counts, edges, orientation="horizontal", color="#8a939d", lw=0.5)
    ax.set(ylim=index.limits, xlim=(0, max(int(index.counts.max()), 1) * 1.05))
    ax.axis("off")
    if index.median is not None:
        ax.axhline(index.median, color=style.INK, lw=0.7, xmin=-0.15, clip_on=False)
        ax.text(0, -0.02, f"median\n{significant(index.median)}", transform=ax.transAxes,
                fontsize=6, va="top", color=style.MUTED, linespacing=1.1)  # fmt: skip
