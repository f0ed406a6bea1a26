"""One pixel: its centre, labels, index values and spectrum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hyperhpc.compute.selection import spectra_at
from hyperhpc.errors import HyperhpcError
from hyperhpc.report.plots.spectra import joined, runs_of
from hyperhpc.schema import CLUSTER, INDICES, NO_CLUSTER, NOT_CLUSTERED
from hyperhpc.view.levels import list_levels
from hyperhpc.view.viewed_run import ViewedRun

Vector = npt.NDArray[np.float64]
#: Wavelengths (nm) and reflectance of a line in the chart.
Curve = tuple[Vector, Vector]


@dataclass(frozen=True)
class Point:
    """One pixel.

    ``x``, ``y``: Centre of the pixel, in the CRS.
    ``row``, ``col``: In ``results.zarr``.
    ``labels``: Cluster by model, 254 if it is not clustered; None where there is no data.
    ``values``: Index values by name; NaN where there is none.
    ``wavelength_nm``, ``reflectance``: (band,), all bands in the order of the scene, NaN where
        no-data; both empty if there is no spectrum.
    ``problem``: Why there is no spectrum; empty if there is one.
    """

    x: float
    y: float
    row: int
    col: int
    labels: dict[str, int | None]
    values: dict[str, float]
    wavelength_nm: Vector
    reflectance: Vector
    problem: str = ""


def read_point(viewed: ViewedRun, x: float, y: float) -> Point | None:
    """Read the pixel that holds a position in the CRS; None outside the area."""
    row, col = viewed.grid.pixel_of(x, y)
    if not (0 <= row < viewed.shape[0] and 0 <= col < viewed.shape[1]):
        return None
    left, bottom, right, top = viewed.grid.bounds((row, row + 1), (col, col + 1))
    x, y = (left + right) / 2, (bottom + top) / 2
    found = _read_values(viewed, CLUSTER.name, viewed.overview.models, row, col)
    labels = {name: None if k == NO_CLUSTER else int(k) for name, k in found.items()}
    values = _read_values(viewed, INDICES.name, viewed.overview.indices, row, col)
    return Point(x, y, row, col, labels, values, *_read_spectrum(viewed, x, y))


def _read_values(
    viewed: ViewedRun, variable: str, names: Sequence[str], row: int, col: int
) -> dict[str, float]:
    """One pixel of all maps of a variable by name; empty if not every pixel is stored."""
    levels = list_levels(viewed, variable)
    if not names or not levels or levels[0].step > 1:
        return {}
    positions = tuple(range(len(names)))
    pixel = levels[0].read(positions, slice(row, row + 1), slice(col, col + 1))
    return dict(zip(names, pixel[:, 0, 0].tolist(), strict=True))


def _read_spectrum(viewed: ViewedRun, x: float, y: float) -> tuple[Vector, Vector, str]:
    nothing = np.empty(0)
    if viewed.scene is None:
        return nothing, nothing, "Without the scene there is no spectrum"
    try:
        (found,) = spectra_at(viewed.scene, [(x, y)], viewed.selection.bands)
    except HyperhpcError as error:
        return nothing, nothing, error.message.rstrip(".")
    reflectance = np.array(found["reflectance"], dtype=np.float64)
    return np.array(found["wavelength_nm"]), reflectance, ""


def spectrum_curve(viewed: ViewedRun, point: Point) -> Curve:
    """The spectrum of a point, broken by NaN at dropped bands."""
    runs = runs_of(point.wavelength_nm, viewed.results.good_ranges)
    return joined(runs, point.reflectance[None]) if runs else (np.empty(0), np.empty(0))


def cluster_mean_curve(viewed: ViewedRun, model: str, label: int | None) -> Curve:
    """The mean spectrum of a cluster, broken by NaN at dropped bands; empty if not known."""
    entry = viewed.results.cluster_entry(model)
    wavelength = viewed.results.model.get("wavelength_nm")
    if label in (None, NOT_CLUSTERED) or not entry or not wavelength:
        return np.empty(0), np.empty(0)
    runs = runs_of(np.array(wavelength), viewed.results.good_ranges)
    mean = np.array(entry["mean"][label], dtype=np.float64)  # null for an empty cluster
    return joined(runs, mean[None])


def spectra_csv(points: Sequence[Point]) -> str:
    """Spectra as ``hyperhpc spectrum`` prints them: a row per band, a column per point."""
    found = [point for point in points if point.reflectance.size]
    if not found:
        return ""
    lines = ["wavelength_nm," + ",".join(f"{p.x:.10g}_{p.y:.10g}" for p in found)]
    for i, nm in enumerate(found[0].wavelength_nm):
        values = (p.reflectance[i] for p in found)
        row = ",".join("" if np.isnan(v) else f"{v:.6g}" for v in values)
        lines.append(f"{nm:.3f},{row}")
    return "\n".join(lines) + "\n"
