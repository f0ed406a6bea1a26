"""FIFOs, sockets, devices, and counts without bounds: named at once, and never read."""

from __future__ import annotations

import os
import socket
import sqlite3
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import shapely

from hyperhpc.config import load_config
from hyperhpc.errors import ConfigError, HyperhpcError, SceneError
from hyperhpc.reading import check_siblings, read_file, read_json_file
from hyperhpc.rundir.progress import read_status
from hyperhpc.scene import metadata, open_scene
from hyperhpc.scene.formats import zarr_chunks
from hyperhpc.scene.formats.centres import read_wavelengths
from hyperhpc.scene.formats.zarr import open_zarr_scene
from hyperhpc.scene.vectors import geopackage, read_features
from hyperhpc.sealed import find_damage, read_json
from raster_case import write_envi
from zarr_case import CUBE, write

KINDS = {"fifo": "a FIFO", "link": "a FIFO", "device": "a device", "socket": "a socket"}


def make(path: Path, kind: str) -> Path:
    """A special file at a path, or a link to one."""
    if kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "socket":
        folder = os.open(path.parent, os.O_RDONLY)  # a path of a socket is short
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(f"/proc/self/fd/{folder}/{path.name}")
        os.close(folder)
    else:
        target = path.with_name("real") if kind == "link" else path
        os.mkfifo(target)
        if kind == "link":
            path.symlink_to(target)
    return path


READERS: dict[str, Callable[[Path], Any]] = {
    "scene": open_scene,
    "wavelengths": read_wavelengths,
    "points.csv": lambda path: read_features(path, "--points"),
    "aoi.gpkg": lambda path: read_features(path, "--aoi"),
    "config.toml": lambda path: load_config(Path("scene"), Path("out"), {}, path),
    "model.json": read_json,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", READERS)
def test_read__a_special_file(tmp_path: Path, name: str, kind: str) -> None:
    path = make(tmp_path / name, kind)
    with pytest.raises(HyperhpcError, match=f"cannot be read: it is {KINDS[kind]}, not a file"):
        READERS[name](path)


@pytest.mark.parametrize("options", [{}, {"compressors": None}])
def test_read__a_chunk_that_is_a_fifo(tmp_path: Path, options: dict[str, Any]) -> None:
    store = write(tmp_path / "s.zarr", **options)
    scene = open_zarr_scene(str(store))
    chunk = store / "reflectance/reflectance/c/0/0/0"
    chunk.unlink()
    os.mkfifo(chunk)
    with pytest.raises(SceneError, match=r"is no file|is a FIFO"):
        list(scene.blocks(slice(0, 3), slice(0, 3)))
    with pytest.raises(SceneError, match="is a FIFO"):
        scene.read(slice(0, 3), slice(0, 3))


def test_open__a_sidecar_that_is_a_fifo(tmp_path: Path) -> None:
    path = write_envi(tmp_path / "s.img", CUBE)
    os.mkfifo(tmp_path / "s.img.aux.xml")
    with pytest.raises(SceneError, match=r"s\.img\.aux\.xml is a FIFO"):
        open_scene(path)
    os.mkfifo(tmp_path / "other.img")
    (tmp_path / "s.img.aux.xml").unlink()
    check_siblings(path)


def test_status_and_damage__of_special_files(tmp_path: Path) -> None:
    for name in ("status.txt", "model.json"):
        os.mkfifo(tmp_path / name)
    with pytest.raises(ConfigError, match="holds no run"):
        read_status(tmp_path)
    assert list(find_damage(tmp_path, {"model.json": [0, "00000000"]})) == [
        ("model.json", "cannot be read: it is a FIFO, not a file")
    ]


def test_read_file__bounds(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.touch()
    os.truncate(path, 2**20 + 1)
    assert len(read_file(path)) == 2**20 + 1
    with pytest.raises(OSError, match="more than 1 MiB") as caught:
        read_file(path, 2**20)
    assert caught.value.filename == str(path)
    path.write_bytes(b"[" * 100_000)
    with pytest.raises(ValueError, match="nested too deep"):
        read_json_file(path)


@pytest.mark.parametrize(
    ("shape", "chunks"), [((3000, 3000, 4), (1, 1, 4)), ((9**6, 9**6, 4),) * 2]
)
def test_open__too_many_chunks_or_pixels(
    tmp_path: Path, shape: tuple[int, ...], chunks: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metadata, "MAX_PIXELS", 10**8)
    coords = {"wl": np.linspace(400, 2400, 4)}
    store = write(tmp_path / "s.zarr", np.zeros((1, 1, 4), np.int16), coords=coords)
    file = store / "reflectance/reflectance/zarr.json"
    text = file.read_text().replace("\n", " ")
    for old, new in (("shape", shape), ("chunk_shape", chunks)):
        start = text.index("[", text.index(f'"{old}"'))
        text = text[:start] + str(list(new)) + text[text.index("]", start) + 1 :]
    file.write_text(text)
    with pytest.raises(SceneError, match=r"9e\+06 chunks|e\+11 pixels are more than"):
        open_zarr_scene(str(store))


def test_check_counts__large_chunks_may_be_many() -> None:
    import zarr

    def array(side: int, depth: int) -> Any:
        return zarr.create_array(
            {}, shape=(200, 200, depth), chunks=(side, side, depth), dtype="i2", zarr_format=2
        )

    zarr_chunks.check_counts(array(1, 4000))
    with pytest.raises(OSError, match="at most 2e\\+04 are read that hold less than 4096 bytes"):
        zarr_chunks.check_counts(array(1, 4))


# Vector files.

ENDLESS = """WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c)
    SELECT n AS fid, (SELECT geom FROM t) AS geom, n AS a FROM c"""


def write_view(path: Path, query: str) -> Path:
    """A GeoPackage with a layer of one polygon, and a layer that is a view."""
    square = np.array([shapely.to_wkb(shapely.box(0, 0, 2, 2))], object)
    pyogrio.raw.write(
        path, square, [np.array([1])], ["a"], geometry_type="Polygon", crs="EPSG:32613",
        driver="GPKG", layer="t",
    )  # fmt: skip
    database = sqlite3.connect(path)
    database.execute(f"CREATE VIEW v AS {query}")
    for table, values in (
        ("gpkg_contents(table_name, data_type, identifier, srs_id)", "'v', 'features', 'v', 32613"),
        ("gpkg_geometry_columns", "'v', 'geom', 'POLYGON', 32613, 0, 0"),
    ):
        database.execute(f"INSERT INTO {table} VALUES({values})")
    database.commit()
    database.close()
    return path


def test_read_features__a_view_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_view(tmp_path / "a.gpkg", ENDLESS)
    monkeypatch.setattr(geopackage, "MAX_FEATURES", 1000)
    with pytest.raises(ConfigError, match="the view v has more than 1000 rows, or no end"):
        read_features(path, "--aoi", "v")
    monkeypatch.setattr(geopackage, "MAX_FEATURES", 10**9)
    monkeypatch.setattr(geopackage, "_LIMIT_S", 0.1)
    with pytest.raises(ConfigError, match="the view v was not counted within"):
        read_features(path, "--aoi", "v")
    assert len(read_features(path, "--aoi", "t").geometries) == 1


def test_read_features__a_view_with_an_end(tmp_path: Path) -> None:
    path = write_view(tmp_path / "a.gpkg", "SELECT fid, geom, a FROM t")
    assert read_features(path, "--aoi", "v").geometries[0].area == 4


def test_read_features__geometries_nested_deep(tmp_path: Path) -> None:
    path = write_view(tmp_path / "a.gpkg", "SELECT 1")
    deep = struct.pack("<BII", 1, 7, 1) * 20_000 + shapely.to_wkb(shapely.Point(1, 1))
    database = sqlite3.connect(path)
    for (name,) in database.execute(
        "SELECT name FROM sqlite_master WHERE type = 'trigger'"
    ).fetchall():
        database.execute(f'DROP TRIGGER "{name}"')
    database.execute("UPDATE t SET geom = ?", (b"GP\0\x01" + struct.pack("<i", 32613) + deep,))
    database.commit()
    database.close()
    with pytest.raises(ConfigError, match="is not a readable GeoPackage"):
        read_features(path, "--aoi", "t")


def test_large_text__is_named_with_its_limit_and_no_hint_about_writing(tmp_path: Path) -> None:
    path = tmp_path / "options.toml"
    path.touch()
    os.truncate(path, 1 << 40)
    with pytest.raises(ConfigError, match="has more than 1 MiB, the most that is read") as caught:
        load_config(tmp_path / "scene", tmp_path / "out", {}, path)
    assert caught.value.hint == "Give the path of a file that can be read"
