"""Zarr stores, damaged in metadata, chunks and files; read directly by zarr."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numcodecs
import numpy as np
import zarr
from direct import BANDS, DN, NB, NODATA, NX, NY, Direct, X, Y
from mutations import damage_bytes, damage_files, damage_json
from pyproj import CRS
from zarr.codecs import BloscCodec, Crc32cCodec

from hyperhpc.scene.cube import Scene
from hyperhpc.scene.formats.zarr import ZarrScene
from hyperhpc.simulate.scene import simulate
from zarr_case import write

_NAMES = ("zarr.json", ".zarray", ".zattrs", ".zgroup")
_ATTRIBUTES = {
    "Scale_Factor": 10000.0,
    "Data_Ignore_Value": NODATA,
    "bad_band_windows_nm": [[1340, 1445], [1790, 1955]],
    "grid_mapping": "spatial_ref",
}


@dataclass(frozen=True)
class ZarrStore:
    """A store in one layout.

    Attributes
    ----------
    dims
        Order of the dimensions on disk.
    has_crc
        True if each chunk of the cube ends with its checksum.
    """

    version: int
    layout: dict[str, Any]
    dims: tuple[str, str, str] = ("y", "x", "wl")
    has_crc: bool = False

    def make(self, path: Path) -> None:
        """The cube, its coordinates, its grid mapping."""
        cube = DN.transpose([("y", "x", "wl").index(name) for name in self.dims])
        mapping = {**CRS.from_epsg(32613).to_cf(), "GeoTransform": "517000 1 0 4526000 0 -1"}
        write(
            path,
            np.ascontiguousarray(cube),
            version=self.version,
            dims=self.dims,
            coords={"x": X, "y": Y, "wl": BANDS},
            coord_attrs={"wl": {"units": "nm"}, "x": {"units": "m"}},
            attrs=_ATTRIBUTES,
            group_attrs={"title": "fuzz"},
            fill_value=NODATA,
            **self.layout,
        )
        group = zarr.open_group(path / "reflectance", mode="r+")
        group.create_array("spatial_ref", shape=(), dtype="int64").attrs.update(mapping)

    def damage(self, path: Path, rng: Random) -> tuple[str, bool]:
        """Damage one file, or what files there are."""
        files = sorted(p for p in path.rglob("*") if p.is_file())
        metadata = [file for file in files if file.name in _NAMES]
        chunks = [file for file in files if file.name not in _NAMES]
        kind = rng.choice(("metadata", "metadata", "metadata", "chunk", "chunk", "files"))
        if kind == "files":
            return damage_files(path, files, rng), False
        file = rng.choice(metadata if kind == "metadata" else chunks)
        if kind == "metadata":
            content, what = damage_json(file.read_text("utf-8"), rng)
        else:
            content, what = damage_bytes(file.read_bytes(), rng)
        file.write_bytes(content)
        return f"{file.relative_to(path)}: {what}", kind == "chunk" and self.has_crc

    def read(self, scene: Scene, window: tuple[slice, slice]) -> Direct:
        """Read the cube, and every other array of one dimension, with zarr alone."""
        assert isinstance(scene, ZarrScene)
        array = zarr.open_array(f"{scene.store}/{scene.array}", mode="r")
        rows, cols = window
        if scene.is_south_up:
            rows = slice(array.shape[scene.order[0]] - rows.stop, scene.shape[0] - rows.start)
        selection: list[slice] = [slice(None)] * 3
        selection[scene.order[0]], selection[scene.order[1]] = rows, cols
        cube = np.asarray(array[tuple(selection)]).transpose(scene.order)
        return Direct(cube[::-1] if scene.is_south_up else cube, _vectors(Path(scene.store)))


def _vectors(store: Path) -> list[np.ndarray]:
    found = []
    for file in sorted(store.rglob("*")):
        if file.name in ("zarr.json", ".zarray"):
            try:
                array = zarr.open_array(file.parent, mode="r")
                found += [np.asarray(array[...])] if array.ndim == 1 else []
            except Exception:  # noqa: BLE001 - a damaged one is none to compare with
                continue
    return found


@dataclass(frozen=True)
class SimulatedStore(ZarrStore):
    """As the simulation writes it, with a thinned copy."""

    def make(self, path: Path) -> None:
        """More rows and columns, so that the copy has some."""
        simulate(path, 2 * NY, 2 * NX, bands=NB, nodata_fraction=0.3)


_BLOSC = BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle", typesize=2)
SHARDED = ZarrStore(
    3,
    {"chunks": (4, 5, 30), "shards": (8, 10, 30), "compressors": [_BLOSC, Crc32cCodec()]},
    has_crc=True,
)
VERSION_2 = ZarrStore(2, {"chunks": (5, 4, 30), "compressors": numcodecs.Blosc("lz4", 5, 2)})
#: Whole bands, and zarr's own default codec: what is read through zarr.
BY_BAND = ZarrStore(3, {"chunks": (6, 12, 10)}, dims=("wl", "y", "x"))
SIMULATED = SimulatedStore(3, {})
