"""A small cube with distinct values, and a writer of every layout of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import zarr

from hyperhpc.scene.formats.zarr import open_zarr_scene

NY, NX, NB = 11, 9, 14
ALL = slice(None)
#: Distinct values, so that any mix-up of axes shows; (y, x, band), north up.
CUBE = np.arange(NY * NX * NB, dtype=np.int16).reshape(NY, NX, NB)
X = 500000.5 + np.arange(NX)
Y = 4100010.5 - np.arange(NY)
WL = np.linspace(400.0, 2400.0, NB)
DIMS = ("y", "x", "wl")


def write(
    path: Path,
    data: np.ndarray = CUBE,
    *,
    version: int = 3,
    group: str = "reflectance",
    name: str = "reflectance",
    dims: tuple[str, ...] | None = DIMS,
    coords: dict[str, np.ndarray] | None = None,
    coord_attrs: dict[str, dict[str, Any]] | None = None,
    attrs: dict[str, Any] | None = None,
    group_attrs: dict[str, Any] | None = None,
    **options: Any,
) -> Path:
    """Write a store in the tutorial's layout with the zarr package itself."""
    root = zarr.open_group(path, mode="a", zarr_format=version)
    node = root.require_group(group) if group else root
    node.attrs.update(group_attrs or {})

    def create(
        key: str, values: np.ndarray, names: tuple[str, ...] | None, **more: Any
    ) -> zarr.Array:
        if names is not None and version == 3:
            more["dimension_names"] = names
        more.setdefault("chunks", values.shape)
        array = node.create_array(key, shape=values.shape, dtype=values.dtype, **more)
        if names is not None and version == 2:
            array.attrs["_ARRAY_DIMENSIONS"] = list(names)
        array[...] = values
        return array

    create(name, data, dims, **options).attrs.update(attrs or {})
    for key, values in ({"x": X, "y": Y, "wl": WL} if coords is None else coords).items():
        if key not in node:
            array = create(key, np.asarray(values), None if dims is None else (key,))
            array.attrs.update((coord_attrs or {}).get(key, {}))
    return path


def read_all(path: Path, **options: Any) -> np.ndarray:
    return open_zarr_scene(str(path), **options).read(ALL, ALL)
