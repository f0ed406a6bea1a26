"""What lies under a click: place, labels, index values, spectrum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hyperhpc.compute.selection import spectra_at
from hyperhpc.errors import HyperhpcError
from hyperhpc.report.spectra import joined, runs_of
from hyperhpc.schema import CLUSTER, INDICES, NO_CLUSTER
from hyperhpc.view.levels import map_levels
from hyperhpc.view.viewed_run import Opened

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Point:
    """One pixel.

    Attributes
    ----------
    x, y
        Centre of the pixel, in the CRS.
    row, col
        In ``results.zarr``.
    labels
        Cluster by model; None where there is none.
    values
        Index values by name; NaN where there is none.
    wavelength_nm, reflectance
        (band,), all bands in the order of the scene, NaN where no-data; empty without one.
    problem
        Why there is no spectrum; empty if there is one.
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


def read_point(opened: Opened, x: float, y: float) -> Point | None:
    """Read the pixel that holds a place; None outside the area."""
    row, col = opened.grid.pixel_of(x, y)
    if not (0 <= row < opened.shape[0] and 0 <= col < opened.shape[1]):
        return None
    left, bottom, right, top = opened.grid.bounds((row, row + 1), (col, col + 1))
    x, y = (left + right) / 2, (bottom + top) / 2
    overview = opened.outputs.pyramid
    assert overview is not None
    labels = _read_values(opened, CLUSTER.name, overview.models, row, col)
    return Point(
        x,
        y,
        row,
        col,
        {model: None if v == NO_CLUSTER else int(v) for model, v in labels.items()},
        {
            name: float(v)
            for name, v in _read_values(
                opened, INDICES.name, overview.indices, row, col
            ).items()
        },
        *_read_spectrum(opened, x, y),
    )


def _read_values(
    opened: Opened, name: str, labels: Sequence[str], row: int, col: int
) -> dict[str, Any]:
    """One pixel of all layers of a map, if every pixel of it is stored."""
    levels = map_levels(opened, name)
    if not labels or not levels or levels[0].step > 1:
        return {}
    layers = tuple(range(len(labels)))
    pixel = levels[0].read(layers, slice(row, row + 1), slice(col, col + 1))
    return dict(zip(labels, pixel[:, 0, 0], strict=True))


def _read_spectrum(opened: Opened, x: float, y: float) -> tuple[Vector, Vector, str]:
    nothing = np.empty(0)
    if opened.scene is None:
        return nothing, nothing, "without the scene there is no spectrum"
    try:
        (found,) = spectra_at(opened.scene, [(x, y)], opened.selection.bands)
    except HyperhpcError as error:
        return nothing, nothing, error.message.rstrip(".")
    reflectance = np.array(found["reflectance"], dtype=np.float64)
    return np.array(found["wavelength_nm"]), reflectance, ""


def line_of(opened: Opened, point: Point) -> tuple[Vector, Vector]:
    """Wavelengths (nm) and reflectance to draw, broken by NaN at dropped bands."""
    runs = runs_of(point.wavelength_nm, opened.outputs.good_ranges)
    return joined(runs, point.reflectance[None]) if runs else (np.empty(0), np.empty(0))


def mean_of(opened: Opened, model: str, label: int | None) -> tuple[Vector, Vector]:
    """The same of a cluster's mean spectrum; empty where it is not known."""
    nothing = np.empty(0), np.empty(0)
    entry = (opened.outputs.clusters.get("models") or {}).get(model)
    wavelength = opened.outputs.model.get("wavelength_nm")
    if label is None or not entry or not wavelength:
        return nothing
    runs = runs_of(np.array(wavelength), opened.outputs.good_ranges)
    mean = np.array(entry["mean"][label], dtype=np.float64)  # null where nothing counts
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
