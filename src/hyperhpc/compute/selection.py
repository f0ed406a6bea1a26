"""Which bands of a scene a run uses, and the spectra at points."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hyperhpc.analysis.bands import (
    WATER_WINDOWS_NM,
    Window,
    band_runs,
    drop_windows,
    good_bands,
    in_windows,
    seed_bands,
)
from hyperhpc.analysis.condition import (
    BoundConditions,
    bind_operands,
    index_formulas,
    parse_condition,
)
from hyperhpc.analysis.noise import measure_bands
from hyperhpc.analysis.spectra import linear_spectrum, to_reflectance
from hyperhpc.config import RunConfig
from hyperhpc.errors import ConfigError
from hyperhpc.parsers import AUTO
from hyperhpc.scene.cube import Scene
from hyperhpc.scene.points import PlacedPoints, is_inside_as_degrees
from hyperhpc.scene.probe import sample_pixels

#: ``--drop auto`` leaves out bands whose median reflectance is below so many times their noise.
MIN_SIGNAL_TO_NOISE = 10.0
#: State of a point, or an area, without coordinates.
NO_GEOMETRY = "no geometry"


@dataclass(frozen=True)
class Selection:
    """The bands of a run.

    ``windows_nm``: Closed windows that are dropped; empty under ``--seed-compat``.
    ``bands``: Positions of the good bands, ascending.
    ``is_window_band``: Bool (band): inside the water windows, where -100 may mean no-data.
    """

    windows_nm: tuple[Window, ...]
    bands: np.ndarray
    is_window_band: np.ndarray


def select_bands(
    scene: Scene, drop: Sequence[Window] | str | None = None, *, seed_compat: bool = False
) -> Selection:
    """Choose the good bands by wavelength and the file's flags, or by the tutorial's positions.

    Raises ConfigError: if no band is left, or if ``seed_compat`` finds other than 426 bands.
    """
    assert not isinstance(drop, str), "resolve_drop comes first"
    centres = scene.wavelength_nm
    is_window_band = _in_water_windows(scene)
    if seed_compat:
        return Selection((), seed_bands(len(centres)), is_window_band)
    windows = drop_windows(scene.bad_band_windows_nm, drop)
    return Selection(windows, good_bands(centres, windows, scene.bad_bands), is_window_band)


def resolve_drop(scene: Scene, config: RunConfig) -> tuple[Scene, RunConfig]:
    """Put windows in the place of ``--drop auto``, and say in a note which ones it has added.

    Bands are measured in blocks of pixels that are chosen at random, always the same: those whose
    median reflectance is less than ten times their noise are left out.
    """
    if config.drop != AUTO:
        return scene, config
    windows, centres = drop_windows(scene.bad_band_windows_nm), scene.wavelength_nm
    bands = good_bands(centres, windows, scene.bad_bands)
    dn = sample_pixels(scene, bands)
    quality = measure_bands(dn, centres[bands], scene.scale_factor)
    is_noisy = np.zeros(len(bands), dtype=bool)
    if quality is not None:
        is_noisy = quality.signal < MIN_SIGNAL_TO_NOISE * np.nan_to_num(quality.noise)
    noisy = bands[is_noisy]
    runs = [centres[a:b] for a, b in band_runs(noisy)]
    added = [(float(run.min()), float(run.max())) for run in runs]
    note = "--drop auto has found no band whose reflectance is less than ten times its noise"
    if added:
        note = (
            f"--drop auto leaves out {len(noisy)} bands whose median reflectance is less than ten "
            f"times their noise: {', '.join(f'{a:.1f}-{b:.1f}' for a, b in added)} nm"
        )
    ends = float(centres.min()), float(centres.max())  # JSON has no infinite numbers
    finite = [(max(lo, min(ends[0], hi)), min(hi, max(ends[1], lo))) for lo, hi in windows]
    return (replace(scene, notes=(*scene.notes, note)), replace(config, drop=(*finite, *added)))


def water_windows_nm(scene: Scene) -> tuple[Window, ...]:
    """The closed windows in which ``window_nodata`` counts: the file's own, else NEON's."""
    return scene.bad_band_windows_nm or WATER_WINDOWS_NM


def _in_water_windows(scene: Scene) -> np.ndarray:
    return in_windows(scene.wavelength_nm, water_windows_nm(scene))


def usable_centres_nm(scene: Scene) -> np.ndarray:
    """Band centres (band,), nm; infinite, so near to none, where the file flags a band."""
    centres = scene.wavelength_nm.copy()
    centres[list(scene.bad_bands)] = np.inf
    return centres


def bind_conditions(scene: Scene, config: RunConfig, selection: Selection) -> BoundConditions:
    """The conditions of ``--where`` on the pixels of a scene; all its bands may be read.

    Raises ConfigError: one cannot be read, or the scene lacks a band of it.
    """
    is_seed = config.seed_compat
    formulas = index_formulas(config.formula, is_seed_compat=is_seed)
    conditions = tuple(parse_condition(text, formulas) for text in config.where)
    centres = scene.wavelength_nm if is_seed else usable_centres_nm(scene)
    operands = bind_operands(conditions, centres, selection.bands if is_seed else None)
    return BoundConditions(
        conditions,
        operands,
        scene.scale_factor,
        scene.nodata,
        scene.window_nodata,
        selection.is_window_band,
    )


def describe_bands(scene: Scene, selection: Selection) -> dict[str, Any]:
    """What run.json holds on the bands; an open end of a window is null."""
    centres = scene.wavelength_nm
    return {
        "n_bands": len(centres),
        "n_good": len(selection.bands),
        "n_flagged_bad": len(scene.bad_bands),
        "dropped_windows_nm": [
            [lo, hi if np.isfinite(hi) else None] for lo, hi in selection.windows_nm
        ],
        "good_nm": [
            [float(centres[a:b].min()), float(centres[a:b].max())]
            for a, b in band_runs(selection.bands)
        ],
    }


def reflectance_converter(scene: Scene) -> Callable[[np.ndarray], np.ndarray]:
    """A function from DN (..., all bands) to reflectance 0-1, float64, NaN where no-data."""
    is_window_band = _in_water_windows(scene)
    return lambda dn: to_reflectance(
        dn, scene.scale_factor, scene.nodata, scene.window_nodata, is_window_band
    )


def spectra_at(
    scene: Scene,
    points: Sequence[tuple[float, float] | None],
    bands: np.ndarray,
    method: str = "nearest",
) -> list[dict[str, Any]]:
    """Spectra at points (x, y) in the scene's CRS, as ``spectrum --json`` prints them.

    ``points``: None is a point without coordinates, whose values are all null, and whose
        ``state`` is :data:`NO_GEOMETRY`.
    ``bands``: Positions of the good bands: a pixel with no-data in one of them is refused.
    ``method``: ``nearest`` pixel, or ``linear`` between four pixels that are all valid.

    Returns: for each point x, y, row, col, wavelength_nm and reflectance (0-1), all bands in
    the order of the file; null where the stored value is no-data.
    Raises ConfigError: if a point is outside the scene or on no-data, or has no four valid
    neighbours.
    """
    height, width, _ = scene.shape
    to_values = reflectance_converter(scene)

    def read(row0: int, row1: int, col0: int, col1: int) -> np.ndarray:
        return scene.read(slice(row0, row1), slice(col0, col1))

    def spectrum(place: tuple[float, float], problem: str, hint: str) -> np.ndarray:
        values = linear_spectrum(read, *place, (height, width), to_values)
        if values is None or np.isnan(values[bands]).any():
            raise ConfigError(problem, hint)
        return values

    spectra = []
    wavelength_nm = scene.wavelength_nm.tolist()
    for given in points:
        if given is None:
            spectra.append(_no_spectrum(wavelength_nm))
            continue
        x, y = given
        row, col = _find_pixel(scene, x, y)
        point, grid = f"Point {x:.10g},{y:.10g}", scene.grid
        problem = f"{point} (row {row}, column {col}) is no-data"
        inside = "the flown area" + (" and the polygons of --aoi" if scene.aoi_bounds else "")
        values = spectrum((row, col), problem, f"Choose a point inside {inside}")
        if method == "linear":
            place = (grid.ymax - y) / grid.py - 0.5, (x - grid.xmin) / grid.px - 0.5
            problem = f"{point} does not have four valid neighbours"
            values = spectrum(place, problem, "Give --method nearest")
        reflectance = [None if np.isnan(v) else float(v) for v in values]
        found = {"x": x, "y": y, "row": row, "col": col}
        spectra.append(found | {"wavelength_nm": wavelength_nm, "reflectance": reflectance})
    return spectra


def place_spectra(
    scene: Scene, points: PlacedPoints, bands: np.ndarray, method: str = "nearest"
) -> list[dict[str, Any]]:
    """As :func:`spectra_at`; points of a file keep their attributes."""
    spectra = spectra_at(scene, points.places, bands, method)
    for spectrum, attributes in zip(spectra, points.attributes, strict=True):
        if attributes:
            spectrum["attributes"] = {n: _to_json(v) for n, v in attributes.items()}
    return spectra


def _no_spectrum(wavelength_nm: list[float]) -> dict[str, Any]:
    nothing: dict[str, Any] = dict.fromkeys(("x", "y", "row", "col"))
    values = {"wavelength_nm": wavelength_nm, "reflectance": [None] * len(wavelength_nm)}
    return nothing | {"state": NO_GEOMETRY} | values


def _to_json(value: Any) -> Any:
    """A number that JSON has, text or None."""
    is_plain = value is None or isinstance(value, str | int) or np.isfinite(value)
    return value if is_plain else None


def _find_pixel(scene: Scene, x: float, y: float) -> tuple[int, int]:
    """Row and column of a point; ConfigError if it lies outside the scene."""
    if np.isfinite(x) and np.isfinite(y):
        row, col = scene.grid.pixel_of(x, y)
        if 0 <= row < scene.shape[0] and 0 <= col < scene.shape[1]:
            return row, col
    xmin, ymin, xmax, ymax = scene.bounds
    hint = "Give a point inside it"
    if is_inside_as_degrees(scene, x, y):
        hint = "Give --point-crs EPSG:4326: as longitude and latitude, it lies in the scene"
    raise ConfigError(
        f"Point {x:.10g},{y:.10g} lies outside the scene, which spans "
        f"{xmin:.10g} to {xmax:.10g} in x and {ymin:.10g} to {ymax:.10g} in y",
        hint,
    )
