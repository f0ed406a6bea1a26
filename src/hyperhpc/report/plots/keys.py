"""Keys of maps of clusters: colour, name, share and area, and what the cluster looks like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.collections import LineCollection
from matplotlib.patches import Rectangle

from hyperhpc.analysis.indices import choose_indices, compute_indices
from hyperhpc.errors import ConfigError
from hyperhpc.report import style
from hyperhpc.report.formats import THIN, hectare_decimals, number, percent, plain_text
from hyperhpc.report.plots.sheet import Sheet
from hyperhpc.report.plots.spectra import joined, runs_of
from hyperhpc.results import ClusterClass, RunResults

# Inches of a key's line, and of one that has a spectrum under it.
ROW, TALL_ROW, KEY_WIDTH = 0.19, 0.43, 1.72
# Inches of a line for names that do not fit in front of the numbers; letters that fit where.
NAME_ROW, _SHORT_NAME, _LONG_NAME = 0.15, 5, 27
# Inches of a cause's two lines in the key of pixels without data.
CAUSE_ROW = 0.36
# With more clusters than this a key with spectra would be longer than the map.
_MAX_SPECTRA = 32


@dataclass(frozen=True)
class ClusterSpectra:
    """Mean spectra of clusters as the lines of a key.

    ``nm``, ``lines``: Wavelengths (point,) and reflectance (cluster, point), NaN between the
        pieces of a line.
    ``ndvi``: NDVI of each mean spectrum; NaN where it has none.
    """

    nm: npt.NDArray[np.float64]
    lines: npt.NDArray[np.float64]
    ndvi: npt.NDArray[np.float64]


def class_spectra(results: RunResults, model: str) -> ClusterSpectra | None:
    """The mean spectra of the classes for a key; None if they are not known, or too many.

    That of a merged class is the mean of all fitted pixels of its clusters.
    """
    entry, classes = results.cluster_entry(model), results.classes(model)
    nm = np.asarray(results.model.get("wavelength_nm") or [], dtype=np.float64)
    if not entry.get("mean") or not 0 < len(classes) <= _MAX_SPECTRA or not nm.size:
        return None
    means = np.array(entry["mean"], dtype=np.float64)  # None is NaN: an empty cluster
    counts = np.array([count or 0 for count in entry["counts"]], dtype=np.float64)
    spectra = np.stack([_pooled_mean(means, counts, list(one.clusters)) for one in classes])
    if not (runs := runs_of(nm, results.good_ranges)):
        return None
    lines = [joined(runs, one[np.newaxis]) for one in spectra]
    return ClusterSpectra(lines[0][0], np.stack([line for _, line in lines]), _ndvi(nm, spectra))


def _pooled_mean(
    means: npt.NDArray[np.float64], counts: npt.NDArray[np.float64], clusters: list[int]
) -> npt.NDArray[np.float64]:
    if len(clusters) == 1:
        return means[clusters[0]]
    full = [k for k in clusters if counts[k]]
    if not full:
        return np.full(means.shape[1], np.nan)
    return np.average(means[full], axis=0, weights=counts[full])


def _ndvi(nm: npt.NDArray[np.float64], spectra: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """As the index of this name; NaN too if a band is too far for it."""
    try:
        ndvi, _ = choose_indices(["ndvi"], {}, nm)
    except ConfigError:
        return np.full(len(spectra), np.nan)
    return compute_indices(spectra, ndvi, scale_factor=1.0).values[0]


def class_keys(
    results: RunResults, pixels: list[int], total: int, shown: Sequence[ClusterClass]
) -> list[list[str]]:
    """Name, share and area of each class, the latter two where they are known.

    ``pixels``: Of each cluster, by label.
    """
    if not total:
        return [[one.name] for one in shown]
    whole = results.hectares(total)
    decimals = max(0, hectare_decimals(whole) - 1) if whole else 0
    if whole is None or whole >= 0.1:
        unit, factor = "ha", 1.0
    else:
        unit, factor, decimals = "m²", 1e4, 0
    keys = []
    for one in shown:
        n = one.sum_of(pixels)
        key = [one.name, percent(n / total)]
        if (hectares := results.hectares(n)) is not None:
            key.append(f"{number(hectares * factor, decimals)}{THIN}{unit}")
        keys.append(key)
    return keys


def key_pitch(keys: list[list[str]], *, has_spectra: bool) -> float:
    """Inches of a row of a key."""
    return (TALL_ROW if has_spectra else ROW) + NAME_ROW * _has_long_names(keys)


def _has_long_names(keys: list[list[str]]) -> bool:
    return any(numbers and len(name) > _SHORT_NAME for name, *numbers in keys)


def draw_key(
    sheet: Sheet, x: float, y: float, keys: list[list[str]], colours: Sequence[Any], rows: int,
    more: int, spectra: ClusterSpectra | None = None,
) -> None:  # fmt: skip
    """Swatches with a name, and numbers if there are any, in columns of so many rows.

    ``spectra``: Of the same classes in the same order, drawn below. Each row is :func:`key_pitch`
        high.
    """
    pitch, shift = key_pitch(keys, has_spectra=spectra is not None), 0.0
    if _has_long_names(keys):
        shift = NAME_ROW
    swatch_h = (0.12 if spectra is None else 0.34) + shift
    for i, (name, *numbers) in enumerate(keys):
        col, row = divmod(i, rows)
        left, top = x + col * KEY_WIDTH, y + row * pitch
        _draw_swatch(sheet, left, top + 0.01, swatch_h, colours[i])
        sheet.text(left + 0.24, top + 0.07, plain_text(name, _LONG_NAME), fontsize=7, va="center")
        top += shift
        for text, end in zip(numbers, (0.98, 1.62), strict=False):
            sheet.remark(left + end, top + 0.07, text, va="center", ha="right")
        if spectra is not None and np.isfinite(spectra.ndvi[i]):
            words = f"NDVI {number(float(spectra.ndvi[i]), 2)}"
            sheet.remark(left + 1.62, top + 0.26, words, va="center", ha="right")
    if spectra is not None:
        _draw_lines(sheet, (x, y + shift), pitch, colours, rows, spectra)
    end = y + min(rows, len(keys)) * pitch + 0.02
    if spectra is not None:
        highest, nm = np.nanmax(spectra.lines, initial=0), spectra.nm[np.isfinite(spectra.nm)]
        words = f"curves: 0 to {number(highest, 2)}, {nm.min():.0f} to {nm.max():.0f}{THIN}nm"
        sheet.remark(x, end, words, fontsize=6)
    if more:
        sheet.remark(x, end + 0.12 * (spectra is not None), f"and {more} more, in the table")


def draw_cause_key(
    sheet: Sheet, x: float, y: float, keys: Sequence[tuple[str, str]], colours: Sequence[Any],
    n_cols: int, width: float,
) -> None:  # fmt: skip
    """Swatches with two lines of text each, in columns of so many inches, row by row."""
    for i, ((name, count), colour) in enumerate(zip(keys, colours, strict=True)):
        row, col = divmod(i, n_cols)
        left, top = x + col * width, y + row * CAUSE_ROW
        _draw_swatch(sheet, left, top + 0.01, 0.26, colour)
        sheet.text(left + 0.24, top + 0.07, name, fontsize=7, va="center")
        sheet.remark(left + 0.24, top + 0.21, count, va="center")


def _draw_swatch(sheet: Sheet, left: float, top: float, height: float, colour: Any) -> None:
    swatch = Rectangle(
        (left / sheet.width, 1 - (top + height) / sheet.height),
        0.17 / sheet.width, height / sheet.height,
        facecolor=colour, edgecolor="#00000040", lw=0.4, transform=sheet.figure.transFigure,
    )  # fmt: skip
    sheet.figure.add_artist(swatch)


def _draw_lines(
    sheet: Sheet, corner: tuple[float, float], pitch: float, colours: Sequence[Any], rows: int,
    spectra: ClusterSpectra,
) -> None:  # fmt: skip
    """The spectra of all classes to one scale: the axes of each would cost more than the map."""
    n, (x, y) = len(spectra.lines), corner
    width, height = -(-n // rows) * KEY_WIDTH, min(rows, n) * pitch
    ax = sheet.axes(x, y, width, height)
    ax.set(xlim=(0, width), ylim=(height, 0))  # inches from the top left corner
    ax.axis("off")
    low, high = np.nanmin(spectra.nm), np.nanmax(spectra.nm)
    across = 0.24 + 0.78 * (spectra.nm - low) / max(high - low, 1e-9)
    up = 0.2 * spectra.lines / max(np.nanmax(spectra.lines, initial=0), 1e-9)
    places = [divmod(i, rows) for i in range(n)]
    lines = [
        np.column_stack([col * KEY_WIDTH + across, row * pitch + 0.36 - up[i]])
        for i, (col, row) in enumerate(places)
    ]
    starts = [(col * KEY_WIDTH + 0.24, row * pitch + 0.36) for col, row in places]
    floors = [[(left, floor), (left + 0.78, floor)] for left, floor in starts]
    ax.add_collection(LineCollection(floors, colors="#c9ced4", linewidths=0.4))
    pale = [line for line, colour in zip(lines, colours, strict=True) if style.is_light(colour)]
    ax.add_collection(LineCollection(pale, colors="#6b6b60", linewidths=1.7))
    ax.add_collection(LineCollection(lines, colors=list(colours), linewidths=0.9))
