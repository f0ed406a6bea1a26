"""The chart of the noise of the bands."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from hyperhpc.report import style
from hyperhpc.report.plots.sheet import MARGIN, PAGE, Sheet
from hyperhpc.report.plots.spectra import joined, runs_of
from hyperhpc.results import RunResults

_NOISE, _SIGNAL = "#D55E00", "#0072B2"


def noise_figure(results: RunResults) -> Figure | None:
    """Noise and median reflectance of each good band, on a logarithmic axis.

    None for a run that has not measured its bands: one that applies a model, or an old one.
    """
    quality = results.run.get("band_quality")
    if not quality:
        return None
    nm = np.asarray(quality["wavelength_nm"], dtype=np.float64)
    noise, signal = (np.array(quality[key], dtype=np.float64) for key in ("noise", "signal"))
    noise, signal = (np.where(values > 0, values, np.nan) for values in (noise, signal))
    if not np.isfinite(noise).any():
        return None
    sheet = Sheet(PAGE, 2.9)
    ax = sheet.axes(0.72, 0.16, PAGE - 0.72 - MARGIN, 2.28)
    runs = runs_of(nm, results.good_ranges)
    for values, colour, label in ((signal, _SIGNAL, "median"), (noise, _NOISE, "noise")):
        ax.plot(*joined(runs, values[None]), color=colour, lw=1.2, label=label)
    for low, high in quality["interpolated_nm"]:
        ax.axvspan(low, high, facecolor="none", edgecolor="#b4bac1", hatch="////", lw=0.0)
    ax.set_yscale("log")
    ax.grid(axis="y")
    ax.spines[["top", "right"]].set_visible(False)
    ax.set(xlabel="Wavelength (nm)", ylabel="Reflectance")
    ax.legend(loc="upper right", ncols=2, facecolor="white", frameon=True, edgecolor="none")
    ax.tick_params(axis="x", colors=style.MUTED)
    return sheet.figure
