"""The quick way to the pixels of a Zarr store gives what zarr itself reads, or an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, GzipCodec

from hyperhpc.errors import SceneError
from hyperhpc.scene import open_scene
from hyperhpc.scene.formats.zarr_chunks import chunk_reader
from hyperhpc.simulate.scene import simulate

SHAPE = (23, 37, 9)
BLOSC = BloscCodec(cname="lz4", clevel=1, shuffle="bitshuffle", typesize=2)
LAYOUTS: dict[str, dict[str, Any]] = {
    "sharded": {"chunks": (4, 5, 9), "shards": (8, 15, 9), "compressors": [BLOSC, Crc32cCodec()]},
    "sharded, no crc": {"chunks": (4, 5, 9), "shards": (12, 10, 9), "compressors": [BLOSC]},
    "unsharded": {"chunks": (8, 8, 9), "compressors": [BLOSC, Crc32cCodec()]},
    "version 2": {
        "chunks": (7, 10, 9),
        "compressors": numcodecs.Blosc("zstd", 3, numcodecs.Blosc.SHUFFLE),
        "zarr_format": 2,
    },
}
UNKNOWN: dict[str, dict[str, Any]] = {
    "gzip": {"chunks": (8, 8, 9), "compressors": [GzipCodec()]},
    "big-endian": {
        "chunks": (8, 8, 9),
        "compressors": [BLOSC],
        "serializer": BytesCodec(endian="big"),
    },
    "bands apart": {"chunks": (8, 8, 3), "compressors": [BLOSC]},
    "bare": {"chunks": (8, 8, 9), "compressors": None},
    "version 2, Fortran": {
        "chunks": (7, 10, 9),
        "compressors": numcodecs.Blosc(),
        "zarr_format": 2,
        "order": "F",
    },
}


def make(folder: Path, layout: dict[str, Any]) -> tuple[zarr.Array, np.ndarray]:
    """An array of random DN in which some chunks, and some shards, are missing."""
    array = zarr.create_array(
        str(folder), shape=SHAPE, dtype="<i2", fill_value=-9999, **{"zarr_format": 3, **layout}
    )
    dn = np.random.default_rng(0).integers(0, 10000, SHAPE).astype("i2")
    dn[8:16, 15:] = -9999
    dn[:4, :5] = -9999
    array[...] = dn
    return array, dn


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("window", [(0, 23, 0, 37), (3, 19, 4, 36), (9, 10, 16, 17)])
def test_blocks__are_what_zarr_reads(
    tmp_path: Path, layout: str, window: tuple[int, int, int, int]
) -> None:
    array, dn = make(tmp_path / "array", LAYOUTS[layout])
    reader = chunk_reader(array, str(tmp_path / "array"))
    assert reader is not None
    y0, y1, x0, x1 = window
    found = np.full(SHAPE, 7, dtype="i2")
    for row, col, part in reader.blocks(range(y0, y1), range(x0, x1)):
        here = found[row : row + part.shape[0], col : col + part.shape[1]]
        assert (here == 7).all(), "a pixel came twice"
        here[...] = part
    np.testing.assert_array_equal(found[y0:y1, x0:x1], dn[y0:y1, x0:x1])
    found[y0:y1, x0:x1] = 7
    assert (found == 7).all(), "a pixel beyond the window came"


@pytest.mark.parametrize("layout", UNKNOWN)
def test_reader__leaves_other_layouts_to_zarr(tmp_path: Path, layout: str) -> None:
    array, _ = make(tmp_path / "array", UNKNOWN[layout])
    assert chunk_reader(array, str(tmp_path / "array")) is None


@pytest.mark.parametrize("layout", ["sharded", "unsharded", "version 2"])
@pytest.mark.parametrize("damage", ["cut", "empty", "flip"])
def test_blocks__of_a_damaged_file_are_refused(tmp_path: Path, layout: str, damage: str) -> None:
    if (layout, damage) == ("version 2", "flip"):
        pytest.skip("version 2 has no checksum: a flipped bit may pass as data")
    array, _ = make(tmp_path / "array", LAYOUTS[layout])
    key = array.metadata.encode_chunk_key((2, 0, 0))
    path = tmp_path / "array" / key
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[len(content) // 3] ^= 4
    kept = {"cut": len(content) - 5, "empty": 0, "flip": len(content)}[damage]
    path.write_bytes(content[:kept])
    reader = chunk_reader(array, str(tmp_path / "array"))
    assert reader is not None
    with pytest.raises(OSError, match=str(path)):
        list(reader.blocks(range(23), range(37)))


def test_scene_blocks__are_what_scene_read_gives(tmp_path: Path) -> None:
    for zarr_format in (2, 3):
        path = tmp_path / f"{zarr_format}.zarr"
        simulate(path, 90, 75, bands=40, seed=3, zarr_format=zarr_format)  # type: ignore[arg-type]
        scene = open_scene(path)
        found = np.zeros((90, 75, 40), dtype=scene.dtype)
        for row, col, part in scene.blocks(slice(5, 88), slice(2, 70)):
            found[row : row + part.shape[0], col : col + part.shape[1]] = part
        np.testing.assert_array_equal(found[5:88, 2:70], scene.read(slice(5, 88), slice(2, 70)))


def test_scene_blocks__name_the_file_that_is_damaged(tmp_path: Path) -> None:
    simulate(tmp_path / "scene.zarr", 70, 70, bands=40, seed=3)
    scene = open_scene(tmp_path / "scene.zarr")
    shard = max((tmp_path / "scene.zarr").rglob("c/*/*/*"), key=lambda p: p.stat().st_size)
    shard.write_bytes(shard.read_bytes()[:-9])
    with pytest.raises(SceneError, match="columns 0-69") as caught:
        list(scene.blocks(slice(0, 70), slice(0, 70)))
    assert str(shard) in caught.value.message
