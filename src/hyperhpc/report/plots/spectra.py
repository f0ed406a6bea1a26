"""Spectra at points and of clusters: a line only where bands were measured and kept."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib.patheffects as pe
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hyperhpc.report import style
from hyperhpc.report.formats import coordinate, percent, plain_text
from hyperhpc.report.plots.sheet import MARGIN, PAGE, TICKS_BELOW, TICKS_LEFT, Sheet, aspect_of, fit
from hyperhpc.results import RunResults, cluster_title

Ranges = Sequence[Sequence[float]]
Vector = npt.NDArray[np.float64]
Colour = tuple[float, float, float]

# Where the atmosphere lets next to nothing through; named on the grey, for orientation.
_WATER_NM = ((1350.0, 1450.0), (1800.0, 1950.0))
_REGIONS = (("VIS", 400, 700), ("NIR", 700, 1300), ("SWIR 1", 1450, 1800), ("SWIR 2", 1950, 2450))
_DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)))
# Small multiples beyond this are too small to read.
_MAX_PANELS = 24
# Points named in the legend; beyond them the table has the names.
_MAX_NAMED = 80


def plot_spectra(spectra: Sequence[dict[str, Any]], good_ranges: Ranges | None = None) -> Figure:
    """Reflectance spectra of points in one chart.

    ``spectra``: As ``hyperhpc spectrum --json`` prints them: ``x, y, wavelength_nm,
        reflectance``, reflectance 0-1 with None where there is no data, bands in any order.
    ``good_ranges``: Wavelength ranges in nm to draw; what lies between them is greyed and left
        out. Without them every band is drawn.
    """
    with style.use_style():
        sheet = Sheet(PAGE, 4.6 + _legend_room(len(spectra)))
        ax = sheet.axes(0.62, 0.32, PAGE - 0.62 - MARGIN, 3.75)
        _draw_points(sheet, ax, spectra, good_ranges)
        return sheet.figure


def spectra_figure(results: RunResults) -> Figure:
    """Chart of the spectra at the run's points, next to a map of the points."""
    quicklook = results.pyramid.quicklook((0, 1, 2)) if results.pyramid else None
    if quicklook is None or results.pyramid is None:
        return plot_spectra(results.spectra, results.good_ranges)
    extent = results.pyramid.drawn_extent(quicklook)
    view = results.pyramid.extent(results.pyramid.level)
    aspect = aspect_of(view, results.crs)
    w, h = fit(aspect, 3.1 if aspect < 2.2 else PAGE - 1.0, 3.6)
    room = _legend_room(len(results.spectra))
    if w <= 3.2:  # next to the chart
        slot = max(w, 0.7)  # a strip's labels are wider than the strip
        chart_w = PAGE - slot - 0.62 - TICKS_LEFT - 2 * MARGIN - 0.15
        sheet = Sheet(PAGE, 4.45 + room)
        x, y = PAGE - MARGIN - (slot + w) / 2, 0.32 + max(0.0, (3.62 - h) / 2)
    else:  # a wide scene: below it
        chart_w = PAGE - 0.62 - MARGIN
        sheet = Sheet(PAGE, 4.5 + h + TICKS_BELOW + 0.1 + room)
        x, y = (PAGE - w) / 2 + 0.15, 4.5
    chart = sheet.axes(0.62, 0.32, chart_w, 3.62)
    _draw_points(sheet, chart, results.spectra, results.good_ranges, results.crs.is_degrees)
    image = style.rgba(quicklook, results.pyramid.colour_limits[:3])
    picture = image, extent, results.crs
    ax = sheet.map(x, y, w, h, *picture, view=view, is_smooth=True, is_named=True)
    halo = [pe.withStroke(linewidth=1.6, foreground="white")]
    for i, spectrum in enumerate(results.spectra):
        x, y = spectrum["x"], spectrum["y"]
        if x is None:
            continue
        ax.plot(x, y, "o", ms=5.5, mfc=_colour(i), mec="white", mew=0.8, clip_on=False)
        is_right = x > (view[0] + view[1]) / 2
        ax.annotate(
            f"P{i + 1}", (x, y), (-4 if is_right else 4, 3), textcoords="offset points",
            fontsize=7, fontweight="bold", path_effects=halo,
            ha="right" if is_right else "left",
        )  # fmt: skip
    return sheet.figure


def cluster_spectra_figure(results: RunResults, model: str) -> Figure | None:
    """Mean of every cluster in one panel, and mean +- one sd of each in its own below."""
    entry = results.cluster_entry(model)
    wavelength = results.model.get("wavelength_nm")
    if not entry or not wavelength:
        return None
    means, sds = (np.array(entry[key], dtype=np.float64) for key in ("mean", "sd"))  # None is NaN
    colours = style.model_colours(results, model)
    names = [
        cluster_title(k) if name == cluster_title(k) else f"{cluster_title(k)} {name}"
        for k, name in enumerate(results.class_names(model))
    ]
    runs = runs_of(np.asarray(wavelength, float), results.good_ranges)
    chosen = list(range(len(means)))
    if len(chosen) > _MAX_PANELS:  # the largest, still in label order
        chosen = sorted(sorted(chosen, key=lambda k: -entry["pixels"][k])[:_MAX_PANELS])
    n_cols = min(4 if len(chosen) <= 12 else 6, len(chosen))
    n_rows = -(-len(chosen) // n_cols)
    gap_x, gap_y, panel_h = 0.12, 0.34, 1.25 if n_cols <= 4 else 1.0
    left, width = 0.62, PAGE - 0.62 - MARGIN
    panel_w = (width - gap_x * (n_cols - 1)) / n_cols
    top = 3.2
    sheet = Sheet(PAGE, top + 0.5 + n_rows * (panel_h + gap_y) + 0.45)

    # The key stands next to the chart: inside, it would cover some spectrum.
    key_cols = -(-len(means) // 12) if len(means) <= 36 else 0
    ax = sheet.axes(left, 0.32, width - 0.7 * key_cols, top - 0.55)
    for k in chosen if len(means) > 36 else range(len(means)):
        _line(ax, runs, means[k], colours[k], label=cluster_title(k), lw=1.3)
    limit = _y_limits([means + np.nan_to_num(sds), means - np.nan_to_num(sds)])
    _frame(ax, runs, results.good_ranges, limit)
    if key_cols:
        ax.legend(ncols=key_cols, loc="upper left", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.4,
                  handlelength=1.4, columnspacing=1.0)  # fmt: skip
    words = "Each cluster: mean ± one standard deviation (others in grey)"
    if len(chosen) < len(means):
        words = f"The {len(chosen)} largest of {len(means)} clusters: mean ± one standard deviation"
    sheet.remark(left, top + 0.36, words, fontsize=8)

    total = sum(p for p in entry["pixels"] if p) or 1
    for i, k in enumerate(chosen):
        row, col = divmod(i, n_cols)
        x, y = left + col * (panel_w + gap_x), top + 0.8 + row * (panel_h + gap_y)
        panel = sheet.axes(x, y, panel_w, panel_h)
        if len(means) <= _MAX_PANELS:
            panel.plot(*joined(runs, means), color="#d3d7dc", lw=0.5)
        low, high = means[k] - sds[k], means[k] + sds[k]
        for run in runs:
            panel.fill_between(
                run.nm, low[run.at], high[run.at], color=colours[k], alpha=0.28, lw=0
            )
        _line(panel, runs, means[k], colours[k], lw=1.3)
        _frame(panel, runs, results.good_ranges, limit, is_small=True)
        panel.tick_params(labelleft=col == 0, labelbottom=i + n_cols >= len(chosen))
        share = percent(entry["pixels"][k] / total)
        panel.set_title(
            plain_text(names[k], 25 if n_cols <= 4 else 15),
            loc="left",
            fontweight="bold",
            fontsize=8,
            pad=3,
        )
        panel.set_title(share, loc="right", fontsize=7, color=style.MUTED, pad=3)
    sheet.text(left + width / 2, sheet.height - 0.25, "Wavelength (nm)", ha="center")
    return sheet.figure


class _Run(NamedTuple):
    """Bands that belong on one unbroken line: indices into the spectrum, ascending in nm."""

    at: npt.NDArray[np.intp]
    nm: Vector


def runs_of(nm: Vector, good_ranges: Ranges | None) -> list[_Run]:
    """Cut bands into lines: at dropped windows, and where the next detector begins.

    Sensors with two overlapping detectors store 902 nm after 993 nm; sorting the whole
    spectrum would draw a saw, so that each ascending stretch is a line by itself.
    """
    order, cuts = _detectors(nm)
    runs = []
    for piece in np.split(order, cuts):
        for low, high in _steady_ranges(nm) if good_ranges is None else good_ranges:
            at = piece[(nm[piece] >= low - 1e-6) & (nm[piece] <= high + 1e-6)]
            if len(at):
                runs.append(_Run(at, nm[at]))
    return runs


def overlaps(nm: Vector) -> list[tuple[float, float]]:
    """Ranges of wavelengths (nm) that two detectors measure, from bands as they are stored."""
    order, cuts = _detectors(nm)
    ascending = nm[order]
    return [(float(ascending[cut]), float(ascending[cut - 1])) for cut in cuts]


def _detectors(nm: Vector) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Bands in ascending order within each detector, and where in it the next one begins."""
    is_descending = len(nm) > 1 and np.median(np.diff(nm)) < 0
    order = np.arange(len(nm))[:: -1 if is_descending else 1]
    cuts = np.flatnonzero(np.diff(nm[order]) < 0) + 1
    if len(cuts) > 4:  # no order at all: then by wavelength
        order, cuts = np.argsort(nm, kind="stable"), cuts[:0]
    return order, cuts


def _steady_ranges(nm: Vector) -> list[tuple[float, float]]:
    """Ranges without a hole wider than three usual band steps."""
    nm = np.sort(nm)
    if len(nm) < 3:
        return [(nm[0], nm[-1])] if len(nm) else []
    step = np.diff(nm)
    cuts = np.flatnonzero(step > 3 * np.median(step)) + 1
    return [(float(p[0]), float(p[-1])) for p in np.split(nm, cuts)]


def _line(
    ax: Axes, runs: list[_Run], values: Vector, colour: Colour, *, label: str | None = None,
    **kwargs: Any,
) -> None:  # fmt: skip
    if style.is_light(colour):
        # Yellow alone vanishes on paper: a thin dark edge keeps the hue and the contrast.
        kwargs["path_effects"] = [
            pe.Stroke(linewidth=kwargs["lw"] + 0.9, foreground="#6b6b60"), pe.Normal()
        ]  # fmt: skip
    nm, y = joined(runs, values[None])
    ax.plot(nm, y, color=colour, label=label, **kwargs)
    # A band alone between two gaps makes no line, so it gets a dot.
    is_there = np.isfinite(y)
    alone = is_there & ~np.r_[False, is_there[:-1]] & ~np.r_[is_there[1:], False]
    if alone.any():
        ax.plot(nm[alone], y[alone], ".", ms=3, color=colour)


def joined(runs: list[_Run], spectra: Vector) -> tuple[Vector, Vector]:
    """Spectra (spectrum, band) as one line with gaps: many times faster drawn than many."""
    gap = np.array([np.nan])
    nm = [part for run in runs for part in (run.nm, gap)]
    values = [part for y in spectra for run in runs for part in (y[run.at], gap)]
    return np.concatenate(nm * len(spectra)), np.concatenate(values)


def _frame(
    ax: Axes, runs: list[_Run], good_ranges: Ranges | None, limit: tuple[float, float],
    *, span: tuple[float, float] | None = None, is_small: bool = False,
) -> None:  # fmt: skip
    """Axis limits (all bands' span, or that of the lines), grey windows, names, labels."""
    if span is None and runs:
        span = min(r.nm[0] for r in runs), max(r.nm[-1] for r in runs)
    low, high = span or (400.0, 2500.0)
    pad = (high - low) * 0.02 or 5.0
    ax.set(xlim=(low - pad, high + pad), ylim=limit)
    for left, right in _gaps(runs, good_ranges, low, high):
        ax.axvspan(left, right, facecolor=style.SHADE, edgecolor="none", zorder=0.5)
        is_water = any(left < b and right > a for a, b in _WATER_NM)
        if is_water and not is_small and right - left > 60:
            ax.text(
                (left + right) / 2, 0.97, "H₂O", transform=ax.get_xaxis_transform(),
                ha="center", va="top", fontsize=6.5, color="#8a939d",
            )  # fmt: skip
    ax.grid(axis="y")
    ax.spines[["top", "right"]].set_visible(False)
    if limit[0] < 0 < limit[1]:
        ax.axhline(0, color="#aab1b9", lw=0.6, zorder=0.8)
    if is_small:
        ax.locator_params(axis="x", nbins=3)
        ax.locator_params(axis="y", nbins=3)
        return
    ax.set(xlabel="Wavelength (nm)", ylabel="Reflectance")
    for name, start, stop in _REGIONS:
        a, b = max(float(start), low), min(float(stop), high)
        if b - a > 0.06 * (high - low):
            ax.text(
                (a + b) / 2, 1.015, name, transform=ax.get_xaxis_transform(), ha="center",
                va="bottom", fontsize=6.5, color="#8a939d",
            )  # fmt: skip


def _gaps(
    runs: list[_Run], good_ranges: Ranges | None, low: float, high: float
) -> list[tuple[float, float]]:
    """What no line covers: the complement of the good ranges within the axis."""
    lines = [(r.nm[0], r.nm[-1]) for r in runs] if good_ranges is None else good_ranges
    kept = sorted((float(a), float(b)) for a, b in lines)
    gaps, end = [], low
    for a, b in [*kept, (high, high)]:
        if a > end:
            gaps.append((end, a))
        end = max(end, b)
    return gaps


def _legend_room(n_points: int) -> float:
    """Inches below everything for the legend: inside it would lie on some spectrum."""
    return 0.3 + 0.165 * -(-min(n_points, _MAX_NAMED) // 4) if n_points else 0.0


def _draw_points(
    sheet: Sheet,
    ax: Axes,
    spectra: Sequence[dict[str, Any]],
    good_ranges: Ranges | None,
    is_degrees: bool | None = None,
) -> None:
    drawn, all_runs, ends = [], [], []
    for i, spectrum in enumerate(spectra):
        if spectrum["x"] is None:  # a row of a table without coordinates
            continue
        nm = np.asarray(spectrum["wavelength_nm"], float)
        values = np.array(spectrum["reflectance"], dtype=np.float64)  # None is NaN
        runs = runs_of(nm, good_ranges)
        all_runs += runs
        ends += [float(nm.min()), float(nm.max())] if len(nm) else []
        x, y = float(spectrum["x"]), float(spectrum["y"])
        degrees = abs(x) <= 180 and abs(y) <= 90 if is_degrees is None else is_degrees
        where = ", ".join(coordinate(v, is_degrees=degrees) for v in (x, y))
        label = f"P{i + 1}   {where}"
        kept = np.concatenate([values[r.at] for r in runs]) if runs else np.empty(0)
        if not np.isfinite(kept).any():
            label += "  (no data)"
        drawn.append(kept)
        dashes = _DASHES[(i // 12) % len(_DASHES)]
        _line(ax, runs, values, _colour(i), label=label, lw=1.2, linestyle=dashes)
        if not runs:
            ax.plot([], [], color=_colour(i), label=label)
    span = (min(ends), max(ends)) if ends else None
    _frame(ax, all_runs, good_ranges, _y_limits(drawn), span=span)
    if not spectra:
        return
    handles, labels = ax.get_legend_handles_labels()
    handles, labels = handles[:_MAX_NAMED], labels[:_MAX_NAMED]
    words: dict[str, Any] = {"title": "Point   x, y", "alignment": "left", "handlelength": 1.6}
    corner = 0.62 / sheet.width, 0.06 / sheet.height
    sheet.figure.legend(handles, labels, loc="lower left", bbox_to_anchor=corner, ncols=4,
                        borderaxespad=0, borderpad=0, **words)  # fmt: skip


def _colour(i: int) -> Colour:
    return style.cluster_colours(12)[i % 12]


def _y_limits(arrays: Sequence[Vector]) -> tuple[float, float]:
    """From zero to a bit above the data; single spikes do not flatten all the rest."""
    parts = [a[np.isfinite(a)] for a in arrays]
    values = np.concatenate(parts) if parts else np.empty(0)
    if not values.size:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(values, (0.3, 99.7)))
    top = float(values.max()) if values.max() < 1.5 * high else 1.25 * high
    bottom = float(values.min()) if values.min() > 1.5 * low else low
    if not top > 0:
        top = 0.1
    return min(0.0, math.floor(bottom * 100) / 100), top * 1.06
