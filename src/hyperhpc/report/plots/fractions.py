"""Maps of the fractions of endmembers, one for each group, and of their residual."""

from __future__ import annotations

import matplotlib as mpl
from matplotlib.figure import Figure

from hyperhpc.report.plots.index_maps import IndexMap, indices_figure, measure_values
from hyperhpc.results import JsonDict, RunResults
from hyperhpc.schema import UNMIXING_RMSE


def measure_fraction(results: RunResults, name: str) -> IndexMap | None:
    """Read the fraction of a group or an endmember, or the residual, from the overview."""
    pyramid = results.pyramid
    if pyramid is None:
        return None
    if name == UNMIXING_RMSE.name:
        values, limits, colours = pyramid.unmixing_rmse(), None, mpl.colormaps["magma"]
        entry: JsonDict = {"name": name, "title": "Residual (RMSE)", "unit": "reflectance"}
    else:
        values = pyramid.fraction(results.fraction_layers(name))
        limits, colours = (0.0, 1.0), mpl.colormaps["viridis"]
        entry = {"name": name, "title": name}
    if values is None:
        return None
    return measure_values(pyramid, values, entry, colours, limits)


def fractions_figure(results: RunResults) -> Figure | None:
    """All groups on one sheet, in the order of the table, then the residual; None without any."""
    names = [*results.fraction_groups, UNMIXING_RMSE.name]
    maps = [found for name in names if (found := measure_fraction(results, name))]
    return indices_figure(results, maps) if len(maps) > 1 else None
