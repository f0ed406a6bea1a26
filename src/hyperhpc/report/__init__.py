"""Figures and a page of a finished (or unfinished) run, from what is on disk alone.

The names here import what they need when called: ``import hyperhpc`` must not wait for
matplotlib.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["figures", "plot_spectra", "write_report"]


def write_report(
    out: str | Path, *, complete: bool = False, overview: Path | None = None,
    gaps: Sequence[str] = (), figures: str = "page", cluster_colors: str | None = None,
) -> Path:  # fmt: skip
    """Draw ``OUT/figures/*.png`` and write the self-contained page ``OUT/report.html``.

    The scene is never read; of ``results.zarr`` only one window of at most 500 pixels a
    side. A run that has not come to its end gets a report that says so at its top.

    ``complete``: The run is coming to its end, though run.json does not say so yet.
    ``overview``: Where reduced maps lie, if not in ``OUT/overview.zarr``.
    ``gaps``: What is missing in them, one sentence each.
    ``figures``: ``page`` draws what the page shows, ``all`` also a map of each index by itself.
    ``cluster_colors``: ``palette`` or ``spectral``; None: as run.json says.

    Returns the page. Raises ConfigError: ``out`` is not the folder of a run.
    """
    from hyperhpc.report.page import write
    from hyperhpc.results import open_results

    results = open_results(out, overview=overview)
    run = results.run | ({"complete": True} if complete else {})
    if cluster_colors is not None:
        run = run | {"cluster_colors": cluster_colors}
    return write(replace(results, run=run, gaps=tuple(gaps)), has_index_maps=figures == "all")


def figures(out: str | Path) -> dict[str, Figure]:
    """All figures of a run by name, drawn but not saved (for notebooks).

    Raises ConfigError: ``out`` is not the folder of a run.
    """
    from hyperhpc.report import draw
    from hyperhpc.results import open_results

    return draw.figures(open_results(out))


def plot_spectra(
    spectra: Sequence[dict[str, Any]], good_ranges: Sequence[Sequence[float]] | None = None
) -> Figure:
    """Reflectance spectra of points in one chart: see :mod:`hyperhpc.report.plots.spectra`."""
    from hyperhpc.report.plots.spectra import plot_spectra as plot

    return plot(spectra, good_ranges)
