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

from hyperhpc.analysis.bands import WATER_WINDOWS_NM, in_windows
from hyperhpc.analysis.indices import choose_indices, compute_indices
from hyperhpc.analysis.kernel import valid_pixels
from hyperhpc.compute.selection import select_bands, spectra_at, usable_centres_nm
from hyperhpc.config import SceneOptions, load_config, option_parameters, options_of
from hyperhpc.errors import ConfigError
from hyperhpc.pipeline.runner import run as run_stages
from hyperhpc.results import RunResults, open_results
from hyperhpc.rundir.progress import Progress
from hyperhpc.scene import open_scene as open_any_scene
from hyperhpc.scene import to_xarray
from hyperhpc.scene.cube import Scene

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def open_scene(path: str | Path, group: str | None = None, **options: Any) -> xr.DataArray:
    """Open a scene as one lazy cube.

    Parameters
    ----------
    path
        File, store, or folder of files that make one mosaic.
    group
        Group that holds the cube, if there are several.
    options
        Of :class:`hyperhpc.config.SceneOptions`: ``wavelengths``, ``overlap``, ``mask``,
        ``aoi``, ``bands``, ``resample_bands``.

    Returns
    -------
    Digital numbers (y, x, wavelength), lazy; coordinates y, x (pixel centres),
    wavelength (nm) and spatial_ref. Attributes: scale_factor (the divisor to
    reflectance), nodata, epsg, bad_band_windows_nm, format, path, group, options.

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
    return to_xarray(scene).assign_attrs(group=scene.group, options=given)


def _options(given: Mapping[str, Any]) -> SceneOptions:
    known = options_of(SceneOptions).keys() - {"group"}
    if unknown := sorted(given.keys() - known):
        raise ConfigError(
            f"{', '.join(unknown)}: no such option",
            f"The options are {', '.join(sorted(known))}",
        )
    return SceneOptions(**given)


def _scene_of(cube: xr.DataArray | str | Path) -> Scene:
    if isinstance(cube, str | Path):
        return open_any_scene(cube)
    if "path" not in cube.attrs:
        raise ConfigError(
            "this array does not say which scene it is from",
            "open it with hyperhpc.open_scene(PATH)",
        )
    options = _options(json.loads(cube.attrs.get("options", "{}")))
    return open_any_scene(cube.attrs["path"], cube.attrs.get("group") or None, options=options)


def spectrum(
    cube: xr.DataArray | str | Path,
    points: Sequence[tuple[float, float]],
    method: str = "nearest",
) -> xr.DataArray:
    """Spectra at points.

    Parameters
    ----------
    cube
        From :func:`open_scene`, or a path.
    points
        (x, y) in the scene's CRS.
    method
        ``nearest`` pixel, or ``linear`` between four valid ones.

    Returns
    -------
    Reflectance (point, wavelength), float64, in memory, NaN where no-data; coordinates
    wavelength (nm), x, y, row and col of the points.

    Raises
    ------
    ConfigError
        A point outside the scene or on no-data.
    """
    scene = _scene_of(cube)
    spectra = spectra_at(scene, points, select_bands(scene).bands, method)
    values = np.array([s["reflectance"] for s in spectra], dtype=np.float64)
    return xr.DataArray(
        values.reshape(len(spectra), scene.shape[2]),
        dims=("point", "wavelength"),
        coords={
            "wavelength": ("wavelength", scene.wavelength_nm, {"units": "nm"}),
            **{
                name: ("point", [s[name] for s in spectra]) for name in ("x", "y", "row", "col")
            },
        },
        name="reflectance",
    )


def indices(
    cube: xr.DataArray | str | Path,
    names: str | Sequence[str] = "all",
    formulas: Mapping[str, str] | None = None,
) -> xr.DataArray:
    """Spectral indices of a cube, or of any window of one.

    Parameters
    ----------
    cube
        Digital numbers (y, x, wavelength) from :func:`open_scene`, all bands, whole or
        cut in y and x; or the path of a scene.
    names
        Of the built-in indices; ``all`` takes those the bands allow.
    formulas
        Your own, name to formula, for example ``{"pri": "(R(531)-R(570))/(R(531)+R(570))"}``.

    Returns
    -------
    float32 (index, y, x), lazy if the cube is; NaN where no-data or not finite. The same
    numbers as in ``results.zarr`` of a run with the usual bands.

    Raises
    ------
    ConfigError
        An unknown name, a far band, a formula that is not arithmetic, a cube that has
        lost bands or is not of digital numbers any more.
    """
    if isinstance(cube, str | Path):
        cube = open_scene(cube)
    scene = _scene_of(cube)
    wavelength_nm = scene.wavelength_nm
    if not np.array_equal(wavelength_nm, np.atleast_1d(cube["wavelength"].values)):
        raise ConfigError(
            "the cube has lost bands; validity needs all of them",
            "cut the cube in y and x only",
        )
    if cube.dtype != scene.dtype:
        raise ConfigError(
            f"the cube holds {cube.dtype}; digital numbers of this scene are {scene.dtype}",
            "give the cube as open_scene returns it, without scaling or masking",
        )
    bound, _ = choose_indices(
        [names] if isinstance(names, str) else names, formulas or {}, usable_centres_nm(scene)
    )
    good = select_bands(scene).bands
    is_window_band = in_windows(wavelength_nm, scene.bad_band_windows_nm or WATER_WINDOWS_NM)

    def compute(dn: np.ndarray) -> np.ndarray:
        shape = dn.shape[:-1]
        is_valid = valid_pixels(dn.reshape(-1, dn.shape[-1]), scene.nodata, good).reshape(shape)
        values = compute_indices(
            dn,
            bound,
            scale_factor=scene.scale_factor,
            is_missing=~is_valid,
            nodata=scene.nodata,
            window_nodata=scene.window_nodata,
            is_window_band=is_window_band,
        )
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
        keep_attrs=False,  # scale and no-data are the cube's
        output_dtypes=[np.float32],
        dask_gufunc_kwargs={"output_sizes": {"index": len(bound)}},
    )
    out = out.assign_coords(index=[b.index.name for b in bound]).rename("indices")
    return out.transpose("index", ...)


def run(
    scene: str | Path, out: str | Path, *, progress: Progress | None = None, **options: Any
) -> RunResults:
    """Run the whole analysis, or resume it; the options are those of ``hyperhpc run``.

    Raises
    ------
    ConfigError, SceneError, ResourceError, SlurmError, IncompleteRunError
        See :mod:`hyperhpc.errors`.

    Examples
    --------
    >>> hyperhpc.run("scene.zarr", "out", clusters=6)  # doctest: +SKIP
    """
    config = load_config(scene, out, options)
    arguments = ", ".join(f"{name}={value!r}" for name, value in options.items())
    command = (
        f"hyperhpc.run({str(scene)!r}, {str(out)!r}{', ' if arguments else ''}{arguments})"
    )
    return open_run(run_stages(config, progress, command).out)


_parameters = [p for p in signature(run).parameters.values() if p.name != "options"]
run.__signature__ = Signature([*_parameters, *option_parameters()])  # type: ignore[attr-defined]


def open_run(out: str | Path) -> RunResults:
    """Open the outputs of a run.

    Raises
    ------
    ConfigError
        If the folder holds no run.
    """
    # whoever computes on must not take a damaged part for an empty one
    return replace(open_results(out), is_strict=True)


def figures(out: str | Path) -> dict[str, Figure]:
    """All figures of the report, as matplotlib figures by name."""
    from hyperhpc.report import figures as draw_figures

    return draw_figures(out)
