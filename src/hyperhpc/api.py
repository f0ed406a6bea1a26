"""The steps of a run for notebooks, one by one, on xarray objects."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from inspect import Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from hyperhpc.analysis.indices import choose_indices, compute_indices
from hyperhpc.analysis.kernel import valid_pixels
from hyperhpc.analysis.spectra import to_reflectance
from hyperhpc.compute.selection import select_bands, spectra_at, usable_centres_nm, water_windows_nm
from hyperhpc.config import SceneOptions, load_config, option_parameters, options_of
from hyperhpc.errors import ConfigError
from hyperhpc.pipeline.runner import run as run_stages
from hyperhpc.results import RunResults, open_results
from hyperhpc.rundir.progress import Progress
from hyperhpc.scene import open_scene as open_any_scene
from hyperhpc.scene import to_xarray
from hyperhpc.scene.cube import Scene
from hyperhpc.scene.points import GivenPoints, PlacedPoints, place_points
from hyperhpc.tools.csv_table import attribute_columns

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def open_scene(path: str | Path, group: str | None = None, **options: Any) -> xr.DataArray:
    """Open a scene as one lazy cube.

    Parameters
    ----------
    path
        File, store, or folder of files that make one mosaic.
    group
        Group of the store or file that holds the cube, if there are several.
    options
        Options of the commands that say how a scene is read: ``wavelengths``, ``scale``,
        ``nodata``, ``overlap``, ``mask``, ``aoi``, ``layer``, ``bands``, ``resample_bands``,
        ``resample``.

    Returns
    -------
    xarray.DataArray
        Digital numbers (y, x, wavelength), lazy, in the scene's dtype (mostly int16), with
        no-data as the file stores it; :func:`reflectance` converts them. Coordinates: y, x
        (pixel centres in the scene's CRS), wavelength (nm), fwhm (nm, if the file has it),
        is_good_band (bool, False where the file flags a band or declares its wavelength
        unusable), spatial_ref. Attributes as CF defines them, so that xarray and rioxarray
        convert what they store: scale_factor (digital number times it is reflectance 0-1),
        _FillValue (no-data), missing_value (if there are several); and bad_band_windows_nm
        (first, last, first, last ...), window_nodata (no-data inside these windows only),
        epsg, format, path, group, options. What does not apply is absent.

    Raises
    ------
    ConfigError
        An option or its value does not exist.
    SceneError
        If there is no readable cube.
    """
    scene = open_any_scene(path, group, options=_options(options))
    # Paths become text; the functions below open the scene again with these options
    given = json.dumps(options, default=str)
    more = {"group": scene.group} if scene.group else {}  # netCDF has no empty text
    return to_xarray(scene).assign_attrs(**more, options=given)


def _options(given: Mapping[str, Any]) -> SceneOptions:
    known = options_of(SceneOptions).keys() - {"group"}
    if unknown := sorted(given.keys() - known):
        raise ConfigError(
            f"{', '.join(unknown)}: no such option", f"The options are {', '.join(sorted(known))}"
        )
    return SceneOptions(**given)


def _scene_of(cube: xr.DataArray | str | Path) -> Scene:
    if isinstance(cube, str | Path):
        return open_any_scene(cube)
    if "path" not in cube.attrs:
        raise ConfigError(
            "This array does not say which scene it is from",
            "Open it with hyperhpc.open_scene(PATH)",
        )
    options = _options(json.loads(cube.attrs.get("options", "{}")))
    return open_any_scene(cube.attrs["path"], cube.attrs.get("group") or None, options=options)


def _digital_numbers(cube: xr.DataArray | str | Path) -> tuple[xr.DataArray, Scene]:
    """A cube and its scene; ConfigError if it does not hold that scene's digital numbers."""
    if isinstance(cube, str | Path):
        cube = open_scene(cube)
    scene = _scene_of(cube)
    if cube.dtype != scene.dtype:
        raise ConfigError(
            f"The cube holds {cube.dtype}; digital numbers of this scene are {scene.dtype}",
            "Give the cube as open_scene returns it, without scaling or masking",
        )
    return cube, scene


def reflectance(cube: xr.DataArray | str | Path) -> xr.DataArray:
    """Convert digital numbers to reflectance.

    Parameters
    ----------
    cube
        Digital numbers from :func:`open_scene`, whole or a part of them; or the path of a scene.

    Returns
    -------
    xarray.DataArray
        Reflectance 0-1 without unit, float32, with the dimensions and coordinates of the cube,
        lazy if the cube is; NaN where the stored value is no-data or not finite.

    Raises
    ------
    ConfigError
        The array is not from :func:`open_scene`, or no longer holds digital numbers.
    SceneError
        The scene cannot be read.
    """
    cube, scene = _digital_numbers(cube)
    is_window_band = xr.zeros_like(cube["wavelength"], dtype=bool)
    for low, high in water_windows_nm(scene):
        is_window_band |= (cube["wavelength"] >= low) & (cube["wavelength"] <= high)

    def convert(dn: np.ndarray, is_window_band: np.ndarray) -> np.ndarray:
        marks = scene.nodata, scene.window_nodata
        return to_reflectance(dn, scene.scale_factor, *marks, is_window_band, dtype=np.float32)

    out = xr.apply_ufunc(
        convert,
        cube,
        is_window_band.drop_vars(set(is_window_band.coords)),
        dask="parallelized",
        keep_attrs=True,  # those of the coordinates
        output_dtypes=[np.float32],
    )
    out.attrs = {"long_name": "surface reflectance", "units": "1"}
    out.encoding = {"_FillValue": np.float32("nan"), "grid_mapping": "spatial_ref"}
    return out.rename("reflectance").transpose(*cube.dims)


def spectrum(
    cube: xr.DataArray | str | Path,
    points: Sequence[tuple[float, float]] = (),
    method: str = "nearest",
    *,
    points_file: str | Path | None = None,
    point_crs: str | None = None,
    layer: str | None = None,
) -> xr.DataArray:
    """Read the spectra at points.

    Parameters
    ----------
    cube
        Array from :func:`open_scene`, or the path of a scene.
    points
        (x, y) of each point, in the scene's CRS or in ``point_crs``.
    method
        ``nearest`` takes the pixel that holds the point, ``linear`` interpolates between four
        valid pixels.
    points_file
        File with further points: a table with columns x,y or easting,northing or lon,lat, or
        a file that GDAL reads (GeoPackage, Shapefile, GeoJSON, FlatGeobuf, KML).
    point_crs
        CRS of ``points``, and of the coordinates in a table, such as ``EPSG:4326``. Degrees are
        longitude, latitude.
    layer
        Layer of ``points_file``, if it has several.

    Returns
    -------
    xarray.DataArray
        Reflectance 0-1 (point, wavelength), float64, in memory; NaN is no-data. Coordinates:
        wavelength (nm), and x, y, row and col of the points in the scene. With ``points_file``
        also state: ``no geometry`` for a row without coordinates, whose x and y are NaN and
        whose row and col are -1, otherwise ``ok``; and the attributes of the file. Attribute:
        notes, what was assumed about the file, if anything.

    Raises
    ------
    ConfigError
        A point lies outside the scene or on no-data, or the file or the CRS cannot be used.
    SceneError
        The scene cannot be read.
    """
    scene = _scene_of(cube)
    given = GivenPoints(
        [(float(x), float(y)) for x, y in points],
        None if points_file is None else Path(points_file),
        point_crs,
        layer,
    )
    placed = place_points(scene, given)
    spectra = spectra_at(scene, placed.places, select_bands(scene).bands, method)
    values = np.array([s["reflectance"] for s in spectra], dtype=np.float64)
    return xr.DataArray(
        values.reshape(len(spectra), scene.shape[2]),
        dims=("point", "wavelength"),
        coords={
            "wavelength": ("wavelength", scene.wavelength_nm, {"units": "nm"}),
            **_point_coordinates(spectra, placed, has_file=points_file is not None),
        },
        name="reflectance",
        attrs={"notes": list(placed.notes)} if placed.notes else {},
    )


def _point_coordinates(
    spectra: Sequence[Mapping[str, Any]], placed: PlacedPoints, *, has_file: bool
) -> dict[str, tuple[str, list[Any]]]:
    """Coordinates of the points; -1 is no row or column, NaN no x or y."""
    missing = {"x": np.nan, "y": np.nan, "row": -1, "col": -1}
    columns = {
        name: [none if s[name] is None else s[name] for s in spectra]
        for name, none in missing.items()
    }
    if has_file:
        columns["state"] = [s.get("state", "ok") for s in spectra]
        taken = {*columns, "point", "wavelength", "reflectance"}
        names, rows = attribute_columns(placed.attributes, taken)
        columns |= {name: [row[i] for row in rows] for i, name in enumerate(names)}
    return {name: ("point", values) for name, values in columns.items()}


def indices(
    cube: xr.DataArray | str | Path,
    names: str | Sequence[str] = "all",
    formulas: Mapping[str, str] | None = None,
) -> xr.DataArray:
    """Compute spectral indices of a cube, or of any window of one.

    Parameters
    ----------
    cube
        Digital numbers (y, x, wavelength) from :func:`open_scene` with all bands, whole or
        cut in y and x; or the path of a scene.
    names
        Names of built-in indices; ``all`` takes those for which the scene has the bands.
    formulas
        Your own indices, name to formula, where R(nm) is the reflectance at a wavelength, for
        example ``{"pri": "(R(531)-R(570))/(R(531)+R(570))"}``.

    Returns
    -------
    xarray.DataArray
        Indices (index, y, x) without unit, float32, lazy if the cube is; NaN where the pixel
        is no-data, the value is not finite, or a denominator is zero within the rounding of
        digital numbers. These are the numbers that ``results.zarr`` of a run with default
        bands holds.

    Raises
    ------
    ConfigError
        A name is unknown, no band is near enough to a wavelength, a formula is not
        arithmetic, or the cube lacks bands or no longer holds digital numbers.
    SceneError
        The scene cannot be read.
    """
    cube, scene = _digital_numbers(cube)
    if not np.array_equal(scene.wavelength_nm, np.atleast_1d(cube["wavelength"].values)):
        raise ConfigError(
            "The cube has lost bands; all of them are needed to find pixels without data",
            "Cut the cube in y and x only",
        )
    bound, _ = choose_indices(
        [names] if isinstance(names, str) else names, formulas or {}, usable_centres_nm(scene)
    )
    selection = select_bands(scene)

    def compute(dn: np.ndarray) -> np.ndarray:
        flat = dn.reshape(-1, dn.shape[-1])
        is_valid = valid_pixels(flat, scene.nodata, selection.bands).reshape(dn.shape[:-1])
        values = compute_indices(
            dn,
            bound,
            scale_factor=scene.scale_factor,
            is_missing=~is_valid,
            nodata=scene.nodata,
            window_nodata=scene.window_nodata,
            is_window_band=selection.is_window_band,
        ).values
        with np.errstate(over="ignore"):  # beyond float32 is infinite, hence missing
            stored = np.moveaxis(values, 0, -1).astype(np.float32)
        stored[~np.isfinite(stored)] = np.nan
        return stored

    out = xr.apply_ufunc(
        compute,
        cube.chunk({"wavelength": -1}) if cube.chunks else cube,
        input_core_dims=[["wavelength"]],
        output_core_dims=[["index"]],
        dask="parallelized",
        keep_attrs=True,  # those of the coordinates
        output_dtypes=[np.float32],
        dask_gufunc_kwargs={"output_sizes": {"index": len(bound)}},
    )
    out = out.assign_coords(index=[b.index.name for b in bound]).rename("indices")
    out.attrs = {"units": "1"}  # scale and no-data are the cube's
    out.encoding = {"_FillValue": np.float32("nan"), "grid_mapping": "spatial_ref"}
    return out.transpose("index", ...)


def run(
    scene: str | Path, out: str | Path, *, progress: Progress | None = None, **options: Any
) -> RunResults:
    """Run the whole analysis, or resume it.

    Parameters
    ----------
    scene
        File, store, or folder of files that make one mosaic.
    out
        Folder of the run. A finished run there is opened, an unfinished one is resumed.
    progress
        Where progress is shown; by default nothing is printed.
    options
        Options of ``hyperhpc run``, by their names with underscores, such as ``clusters=6``.

    Returns
    -------
    RunResults
        As :func:`open_run` gives it.

    Raises
    ------
    ConfigError
        An option is unknown or has a wrong value, or ``out`` holds something else.
    SceneError
        The scene cannot be read, or has no valid pixel.
    ResourceError
        Memory or disk do not suffice.
    SlurmError
        The batch system did not give the workers.
    IncompleteRunError
        The run was stopped before its end; the same call resumes it.

    Examples
    --------
    >>> hyperhpc.run("scene.zarr", "out", clusters=6)  # doctest: +SKIP
    """
    config = load_config(scene, out, options)
    arguments = ", ".join(f"{name}={value!r}" for name, value in options.items())
    command = f"hyperhpc.run({str(scene)!r}, {str(out)!r}{', ' if arguments else ''}{arguments})"
    return open_run(run_stages(config, progress, command).out)


_parameters = [p for p in signature(run).parameters.values() if p.name != "options"]
run.__signature__ = Signature([*_parameters, *option_parameters()])  # type: ignore[attr-defined]


def open_run(out: str | Path) -> RunResults:
    """Open the outputs of a run, also of one that is not finished.

    Parameters
    ----------
    out
        Folder of the run.

    Returns
    -------
    RunResults
        Its parts are read when they are asked for; one that is missing or damaged is an error
        then.

    Raises
    ------
    ConfigError
        The folder holds no run.
    """
    # An empty result instead of an error would be taken for a true one.
    return replace(open_results(out), is_strict=True)


def figures(out: str | Path) -> dict[str, Figure]:
    """Draw all figures of the report.

    Parameters
    ----------
    out
        Folder of a run, which need not be finished.

    Returns
    -------
    dict
        matplotlib figures by name, such as ``clusters_lloyd``; not attached to pyplot.

    Raises
    ------
    ConfigError
        The folder holds no run.
    """
    from hyperhpc.report import figures as draw_figures

    return draw_figures(out)
