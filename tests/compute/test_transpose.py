"""Scenes stored band by band, turned block by block."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from hyperhpc.compute.classify import ClassifyJob, OverviewFiles, classify_tile
from hyperhpc.compute.stores import create_group, create_store
from hyperhpc.compute.transpose import (
    TransposeJob,
    create_transposed,
    cut_blocks,
    cut_slabs,
    transpose_bands,
)
from hyperhpc.config import SceneOptions
from hyperhpc.rundir.plan import Area, Tile
from hyperhpc.scene import open_scene
from hyperhpc.schema import CLUSTER, INDICES
from hyperhpc.simulate.scene import simulate


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2 x 3 tiles of 30 x 40 pixels, one band per chunk."""
    path = tmp_path_factory.mktemp("transpose") / "tiles"
    simulate(path, 60, 120, bands=11, layout="neon", neon_chunks="band", tiles=(2, 3))
    return path


@pytest.mark.parametrize("area", [Area(0, 60, 0, 120), Area(7, 59, 33, 85), Area(31, 40, 2, 9)])
@pytest.mark.slow
def test_transpose__gives_the_same_pixels(folder: Path, area: Area, tmp_path: Path) -> None:
    scene = open_scene(folder)
    turned = create_transposed(scene, area, 4, tmp_path)
    job = TransposeJob(scene, area, tmp_path)
    for slab in cut_slabs(scene, area, 4):
        transpose_bands(job, slab)
    rows, cols = slice(area.row0, area.row1), slice(area.col0, area.col1)
    np.testing.assert_array_equal(turned.read(rows, cols), scene.read(rows, cols))
    some = (slice(area.row0 + 1, area.row1, 3), slice(area.col0, area.col1, 2), np.array([0, 5, 9]))
    np.testing.assert_array_equal(turned.read(*some), scene.read(*some))


def test_transpose__touches_each_chunk_once(folder: Path) -> None:
    """Blocks are what one chunk covers, so that none is decoded for two of them."""
    scene = open_scene(folder)
    assert scene.chunks == (30, 40, 1)
    blocks = cut_blocks(scene, Area(0, 60, 0, 120))
    assert len(blocks) == 6
    assert {block.shape for block in blocks} == {(30, 40)}
    inside = cut_blocks(scene, Area(7, 59, 33, 85))
    assert sum(block.shape[0] * block.shape[1] for block in inside) == 52 * 52
    for block in inside:
        assert block.row0 // 30 == (block.row1 - 1) // 30
        assert block.col0 // 40 == (block.col1 - 1) // 40


def test_transpose__keeps_the_causes_of_missing_pixels(tmp_path: Path) -> None:
    path = tmp_path / "tile.h5"
    simulate(path, 12, 14, bands=4, layout="neon", neon_chunks="band", nodata_fraction=0.4)
    with h5py.File(path, "r+") as file:
        file["CPER/Reflectance/Metadata/Ancillary_Imagery/Cast_Shadow"][...] = 0
        file["CPER/Reflectance/Metadata/Ancillary_Imagery/Cast_Shadow"][3:7, 2:9] = 1
        is_empty = file["CPER/Reflectance/Reflectance_Data"][..., 1] == -9999
    scene, area = open_scene(path, options=SceneOptions(mask=("shadow",))), Area(0, 12, 0, 14)
    turned = create_transposed(scene, area, 4, tmp_path / "turned")
    for slab in cut_slabs(scene, area, 4):
        transpose_bands(TransposeJob(scene, area, tmp_path / "turned"), slab)
    group = create_store(tmp_path / "results.zarr")
    create_group(group, {INDICES: [], CLUSTER: []}, scene.grid, (12, 14), (12, 14), {})
    files = OverviewFiles.at(tmp_path, area, 1, 0, 0)
    for file in files.files():
        file.create()
    bands, no_window = np.arange(4), np.zeros(4, bool)
    job = ClassifyJob(
        turned, scene, area, bands, no_window, [], [], bands, tmp_path / "results.zarr", files
    )
    record = classify_tile(job, Tile("whole", 0, 12, 0, 14))

    wanted = is_empty.astype(int)
    wanted[3:7, 2:9] = 2
    assert record["causes"] == {
        "no data in the file": (wanted == 1).sum(),
        "hidden by --mask shadow": 28,
        "in a tile that cannot be read": 0,
    }
    found = files.nodata_cause.read_window(slice(0, 12), slice(0, 14))[..., 0]
    np.testing.assert_array_equal(found, wanted)
