"""Formats in, canonical scenes out. The door is :func:`open_scene`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from hyperhpc.config import SceneOptions
from hyperhpc.errors import SceneError
from hyperhpc.scene.cube import Grid, Scene
from hyperhpc.scene.lazy import describe, to_xarray

__all__ = ["Grid", "Scene", "describe", "open_scene", "to_xarray"]


def open_scene(
    path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    group: str | None = None,
    *,
    options: SceneOptions | None = None,
) -> Scene:
    """Open a scene of any known kind, by what is on disk, not by its name.

    Lazy: metadata and coordinates are read, no pixel.

    Parameters
    ----------
    path
        Zarr store (v2 or v3; also a group or an array inside one), NEON HDF5 file, ENVI
        file (data or header) or GeoTIFF; a folder of such files, or several of all these,
        make one mosaic.
    group
        Group that holds the cube; by default it is searched.
    options
        All that is left open by the files; ``group`` counts where it gives none.

    Raises
    ------
    SceneError
        A missing path, an unknown kind of file, files that do not fit together, or what the
        format's own opener raises.
    """
    options = options or SceneOptions()
    given = [path] if isinstance(path, str | os.PathLike) else path
    paths = [os.path.abspath(os.path.expanduser(os.fspath(one))) for one in given]
    files = [file for one in paths for file in _files_of(one)]

    def open_one(file: str) -> Scene:
        scene = _open(file, options.group or group, options.wavelengths)
        return _masked(scene, options.mask)

    if not files:
        raise SceneError("No scene is given", "Name a file or a folder")
    if len(files) == 1:
        members = [open_one(files[0])]
        scene = members[0]
    else:
        from hyperhpc.scene.mosaic import common_folder, open_members

        members = open_members(files, open_one)
        name = paths[0] if len(paths) == 1 else common_folder(files)
        scene = _join(name, members, options)
    if options.mask:
        from hyperhpc.scene.formats.neon import report_hidden

        scene = report_hidden(scene, members, options.mask)
    if options.aoi:
        from hyperhpc.scene.vectors import mask_outside

        scene = mask_outside(scene, options.aoi)
    return scene


def _files_of(path: str) -> list[str]:
    """The scenes in a folder; anything else is one by itself."""
    from hyperhpc.scene.formats.zarr_layout import zarr_format_of

    if not os.path.isdir(path) or zarr_format_of(path) is not None:
        return [path]
    from hyperhpc.scene.mosaic import find_tiles

    return find_tiles(path) or [path]


def _join(name: str, members: list[Scene], options: SceneOptions) -> Scene:
    """One scene of several, brought to the same bands first if that is asked for."""
    from hyperhpc.scene.mosaic import join_scenes
    from hyperhpc.scene.views import pick_common, resample

    if options.resample_bands:
        members = resample(members)
    elif options.bands == "intersect":
        members = pick_common(members)
    return join_scenes(name, members, options.overlap)


def _masked(scene: Scene, names: tuple[str, ...]) -> Scene:
    """Without the pixels that the scene's own quality layers advise against."""
    if not names:
        return scene
    from hyperhpc.scene.formats.neon import NeonScene, mask_quality

    if not isinstance(scene, NeonScene):
        raise SceneError(
            f"--mask {','.join(names)} needs the quality layers of a NEON HDF5 file; "
            f"the format of {scene.path} is {scene.format}",
            "Leave out the option, or give NEON's own files",
        )
    return mask_quality(scene, names)


def _open(path: str, group: str | None, wavelengths: Path | None) -> Scene:
    """One file or store."""
    try:
        if os.path.isdir(path):
            _check_finished(path)
            from hyperhpc.scene.formats.zarr import open_zarr_scene

            return open_zarr_scene(path, group, wavelengths)
        if not os.path.exists(path):
            raise SceneError(f"{path} does not exist", _existing(path))
        from hyperhpc.scene.formats.hdf5 import is_hdf5
        from hyperhpc.scene.formats.neon import open_neon_scene

        if os.path.isfile(path) and is_hdf5(path):
            return open_neon_scene(path, group, wavelengths)
        from hyperhpc.scene.formats.raster_read import is_raster

        if os.path.isfile(path) and is_raster(path):
            from hyperhpc.scene.formats.raster import open_raster_scene

            return open_raster_scene(path, wavelengths)
        with open(path, "rb") as file:
            start = file.read(8)
    except OSError as error:
        raise SceneError(
            f"{path} cannot be read: {error.strerror or error}", "Check its permissions"
        ) from error
    if not start:
        raise SceneError(f"{path} is an empty file", "Copy or download it again")
    raise SceneError(
        f"{path} is not a Zarr store, HDF5, TIFF or ENVI file (it begins with {start!r})",
        "ENVI data need their header (.hdr) in the same folder; unpack an archive first",
    )


def _check_finished(path: str) -> None:
    """Refuse what an ingest that was stopped has left: a store with holes looks like one."""
    for folder in (path, os.path.dirname(path)):
        is_part = folder.endswith(".part") and os.path.isfile(os.path.join(folder, "plan.json"))
        if is_part and os.path.isdir(os.path.join(folder, "store")):
            raise SceneError(
                f"{folder} is an unfinished store",
                "Repeat the same hyperhpc ingest command: it resumes",
            )


def _existing(path: str) -> str:
    """Hint: how far the path exists."""
    parent = os.path.dirname(path)
    while not os.path.isdir(parent):
        parent = os.path.dirname(parent)
    return f"The last folder on that path that exists is {parent}"
