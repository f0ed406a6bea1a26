"""Formats in, canonical scenes out. The door is :func:`open_scene`.

formats/ (one module a format) | cube (what a scene is) | files (what scenes in files have in
common) | window (slices) | metadata (what numbers and bands mean) | georef (grids and CF) | mosaic
(several scenes as one) | quality (masks of quality layers) | views (masked, picked, resampled;
views/warp: rotated to north-up) | vectors, point_table (points and polygons) | points (points given
to a command) | aoi (areas of interest) | origins (where pixels come from) | thinned (every 4th
pixel) | probe (empty bands, hidden pixels, implausible numbers) | lazy (xarray).
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from pkgutil import resolve_name

from hyperhpc.config import SceneOptions
from hyperhpc.errors import ConfigError, SceneError, os_hint
from hyperhpc.files import is_unfinished_store
from hyperhpc.reading import check_regular
from hyperhpc.scene.cube import Grid, Scene
from hyperhpc.scene.files import FileScene, netcdf_hint, override
from hyperhpc.scene.formats import FORMATS, find_format
from hyperhpc.scene.formats.centres import GivenCentres, read_wavelengths
from hyperhpc.scene.formats.envi_header import read_header_centres, starts_as_header
from hyperhpc.scene.formats.hdf5 import is_hdf5
from hyperhpc.scene.formats.zarr_layout import suggest_stores
from hyperhpc.scene.lazy import describe, to_xarray
from hyperhpc.scene.metadata import HINT
from hyperhpc.scene.mosaic import find_tiles, join_scenes, open_members
from hyperhpc.scene.probe import leave_out_empty_bands
from hyperhpc.scene.quality import note_hidden, open_mask
from hyperhpc.scene.views import mask_scene, pick_common, resample
from hyperhpc.scene.views.warp import align_scenes, refuse_rotated, warp_scene

__all__ = ["FORMATS", "Grid", "Scene", "describe", "open_scene", "to_xarray"]


def open_scene(
    path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    group: str | None = None,
    *,
    options: SceneOptions | None = None,
) -> Scene:
    """Open a scene of any known format, by what is on disk, not by its name.

    Lazy: metadata and coordinates are read, and some blocks of pixels, to leave out bands
    without a valid value.

    ``path``: Zarr store (v2 or v3; also a group or an array inside one), NEON HDF5 file, ENVI file
        (data or header) or GeoTIFF; a folder of such files, or several of all these, make one
        mosaic.
    ``group``: Group that holds the cube; by default it is searched.
    ``options``: What the files do not say; its group takes precedence over ``group``.

    Raises SceneError: a missing path, an unknown format, a rotated scene without ``resample``,
    files that do not fit together, or what the format's own opener raises; ConfigError: a file of
    band centres or polygons that is unreadable or does not fit the scene.
    """
    options = options or SceneOptions()
    given = [path] if isinstance(path, str | os.PathLike) else path
    paths = [os.path.abspath(os.path.expanduser(os.fspath(one))) for one in given]
    files = [file for one in paths for file in _list_files(one)]
    centres = None if options.wavelengths is None else _read_centres(options.wavelengths)

    def open_one(file: str) -> Scene:
        scene = _open(file, options.group or group, centres)
        if options.scale or options.nodata:
            assert isinstance(scene, FileScene)
            scene = override(scene, options.scale, options.nodata or ())
        if isinstance(scene, FileScene) and scene.geotransform is not None:
            if options.resample is None:
                raise refuse_rotated(scene, options)
            scene = warp_scene(scene)
        return mask_scene(scene, open_mask(scene, options.mask)) if options.mask else scene

    if not files:
        raise SceneError("No scene is given", "Name a file or a folder")
    if len(files) == 1:
        members = leave_out_empty_bands([open_one(files[0])])
        scene = members[0]
    else:
        members = open_members(files, open_one)
        common_folder = os.path.commonpath([os.path.dirname(file) for file in files])
        scene = _join(paths[0] if len(paths) == 1 else common_folder, members, options)
    if options.mask:
        scene = note_hidden(scene, members)
    if options.aoi:
        from hyperhpc.scene.aoi import mask_outside

        scene = mask_outside(scene, options.aoi, options.layer)
    return scene


def _list_files(path: str) -> list[str]:
    """The scenes in a folder of files; any other path is one scene."""
    if os.path.isdir(path) and find_format(path) is None:
        return find_tiles(path) or [path]
    return [path]


def _join(name: str, members: list[Scene], options: SceneOptions) -> Scene:
    """Join scenes to one, after resampling or picking bands if the options say so."""
    if options.resample:
        members = align_scenes(members)
    if options.resample_bands:
        members = resample(members)
    elif options.bands == "intersect":
        members = pick_common(members)
    return join_scenes(name, leave_out_empty_bands(members), options.overlap)


def _read_centres(path: Path) -> GivenCentres:
    """Band centres of a text, of an ENVI header, or of another scene in a NEON HDF5 file."""
    if is_hdf5(str(path)):
        centres = _open(str(path), None, None).wavelength_nm
        given = GivenCentres(centres, (), f"--wavelengths {path}")
    elif path.is_file() and starts_as_header(str(path)):
        given = read_header_centres(path)
    else:
        given = read_wavelengths(path)
    return given._replace(notes=(f"Band centres are those of {path.name}.", *given.notes))


def _open(path: str, group: str | None, given: GivenCentres | None) -> Scene:
    """Open one file or store, with its own band centres or those given."""
    try:
        try:
            os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            raise SceneError(f"{path} does not exist", _suggest_folder(path)) from None
        check_regular(path)
        _check_finished(path)
        known = find_format(path)
        if known is None:
            raise _unknown_format(path)
        opener = resolve_name(known.opener)
        scene: Scene = opener(path, group, None if given is None else given.wavelength_nm)
    except OSError as error:
        hint = os_hint(error, "Look at the file")
        raise SceneError(f"{path} cannot be read: {error.strerror or error}", hint) from error
    if given is None:
        if scene.wavelength_nm.size != scene.shape[2]:
            raise SceneError(
                f"{path} holds {scene.wavelength_nm.size} band centres for {scene.shape[2]} bands",
                f"Correct the file. {HINT}",
            )
        return scene
    if given.wavelength_nm.size != scene.shape[2]:
        raise ConfigError(
            f"{given.where} holds {given.wavelength_nm.size} band centres; {path} has "
            f"{scene.shape[2]} bands",
            "Give one centre per band, in the order of the bands",
        )
    return dataclasses.replace(scene, notes=(*scene.notes, *given.notes))


def _unknown_format(path: str) -> SceneError:
    known = ", ".join(row.name for row in FORMATS)
    if os.path.isdir(path):
        return SceneError(
            f"{path} is a folder without Zarr metadata (zarr.json, .zgroup or .zarray) and "
            f"without files of a known format ({known})",
            suggest_stores(path),
        )
    with open(path, "rb") as file:
        start = file.read(8)
    if not start:
        return SceneError(f"{path} is an empty file", "Copy or download it again")
    hint = "ENVI data need their header (.hdr) in the same folder; unpack an archive first"
    if start.startswith(b"CDF"):
        hint = netcdf_hint(path)
    return SceneError(f"{path} is not of a known format ({known}): it begins with {start!r}", hint)


def _check_finished(path: str) -> None:
    """Refuse the part of a store that a stopped ingest has left: it looks like a store."""
    for folder in (path, os.path.dirname(path)):
        if is_unfinished_store(Path(folder)):
            raise SceneError(
                f"{folder} is an unfinished store",
                "Repeat the same hyperhpc ingest command: it resumes",
            )


def _suggest_folder(path: str) -> str:
    """Hint: how far the path exists."""
    parent = next(folder for folder in Path(path).parents if folder.is_dir())
    return f"The last folder on that path that exists is {parent}"
