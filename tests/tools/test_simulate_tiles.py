"""Folders of simulated NEON tiles: named, placed and filled as the scene they are cut from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner

from hyperhpc.cli.commands import cli
from hyperhpc.scene import open_scene
from hyperhpc.simulate.land import cut_tiles
from hyperhpc.simulate.scene import simulate

_EAST, _NORTH = 517000, 4526000


def _layers(path: Path) -> dict[str, np.ndarray]:
    """All images (y, x, ...) of a NEON file, by their name in it."""
    found: dict[str, np.ndarray] = {}

    def look(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.ndim >= 2:
            found[name] = item[()]

    with h5py.File(path) as file:
        file.visititems(look)
    return found


def _place(path: Path) -> tuple[slice, slice]:
    """Where a tile lies in the whole scene, by its Spatial_Extent_meters alone."""
    with h5py.File(path) as file:
        cube = file["CPER/Reflectance/Reflectance_Data"]
        xmin, xmax, ymin, ymax = (int(edge) for edge in cube.attrs["Spatial_Extent_meters"])
    return slice(_NORTH - ymax, _NORTH - ymin), slice(xmin - _EAST, xmax - _EAST)


@pytest.mark.slow
@pytest.mark.parametrize("chunks", ["old", "band"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_tiles__are_the_single_scene_cut_up(
    tmp_path: Path, chunks: Any, bidirectional: bool
) -> None:
    how: dict[str, Any] = {"bands": 30, "seed": 4, "layout": "neon", "neon_chunks": chunks}
    how["bidirectional"] = bidirectional
    whole = _layers(simulate(tmp_path / "whole.h5", 141, 100, **how).path)
    made = simulate(tmp_path / "tiles", 141, 100, tiles=(2, 3), **how)
    tiles = sorted(made.path.iterdir())
    assert len(tiles) == 6
    pieced = {name: np.full_like(layer, 77) for name, layer in whole.items()}
    seen = np.zeros((141, 100), int)
    for tile in tiles:
        place = _place(tile)
        seen[place] += 1
        for name, layer in _layers(tile).items():
            pieced[name][place] = layer
    assert (seen == 1).all()
    for name, layer in whole.items():
        np.testing.assert_array_equal(pieced[name], layer, err_msg=name)


def test_tiles__are_named_by_their_lower_left_corner(tmp_path: Path) -> None:
    how: dict[str, Any] = {"bands": 4, "layout": "neon", "tiles": (2, 1)}
    made = simulate(tmp_path / "one", 40, 30, **how)
    assert sorted(p.name for p in made.path.iterdir()) == [
        "NEON_D10_CPER_DP3_517000_4525960_reflectance.h5",
        "NEON_D10_CPER_DP3_517000_4525980_reflectance.h5",
    ]
    made = simulate(tmp_path / "two", 40, 30, bidirectional=True, **how)
    tiles = sorted(made.path.iterdir())
    assert tiles[0].name == "NEON_D10_CPER_DP3_517000_4525960_bidirectional_reflectance.h5"
    scene = open_scene(tiles[0])
    assert scene.bounds == [517000, 4525960, 517030, 4525980]
    assert scene.window_nodata == (-100.0,)


@pytest.mark.slow
def test_tiles__overlap_with_equal_pixels_and_unequal_views(tmp_path: Path) -> None:
    how: dict[str, Any] = {"bands": 6, "seed": 1, "layout": "neon", "nodata_fraction": 0.0}
    whole = _layers(simulate(tmp_path / "whole.h5", 60, 80, **how).path)
    cube = "CPER/Reflectance/Reflectance_Data"
    made = simulate(tmp_path / "tiles", 60, 80, tiles=(2, 2), overlap=11, **how)
    views = np.full((4, 60, 80), np.nan, np.float32)
    for k, tile in enumerate(sorted(made.path.iterdir())):
        place, layers = _place(tile), _layers(tile)
        np.testing.assert_array_equal(layers[cube], whole[cube][place])
        views[k][place] = layers["CPER/Reflectance/Metadata/to-sensor_zenith_angle"]
    count = np.isfinite(views).sum(axis=0)
    assert (count.max(), (count == 4).sum()) == (4, 11 * 11)
    assert (count >= 2).sum() == 11 * 80 + 60 * 11 - 11 * 11
    ordered = np.sort(views, axis=0)  # nan last
    assert not (ordered[1:] == ordered[:-1]).any()
    with xr.open_zarr(made.truth_path) as truth:
        assert (truth["true_class"] < 255).all()


def test_tiles__tell_the_day_of_each_pixel(tmp_path: Path) -> None:
    made = simulate(
        tmp_path / "t", 30, 60, bands=4, layout="neon", tiles=(1, 2), bidirectional=True
    )
    for tile in made.path.iterdir():
        with h5py.File(tile) as file:
            images = file["CPER/Reflectance/Metadata/Ancillary_Imagery"]
            lines, days = images["Data_Selection_Index"][()], images["Acquisition_Date"][()]
            files = images["Data_Selection_Index"].attrs["Data_Files"].split(",")
        np.testing.assert_array_equal(lines == -1, days == -9999)
        for line in np.unique(lines[lines >= 0]):
            assert set(np.unique(days[lines == line])) == {int(files[line].split("_")[5])}


def test_simulate__command_writes_tiles(tmp_path: Path) -> None:
    words = f"simulate {tmp_path}/t --size 20x30 --bands 5 --layout neon --tiles 2x3"
    words += " --product 002 --neon-chunks band --overlap 2"
    result = CliRunner().invoke(cli, words.split(), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    tiles = list((tmp_path / "t").iterdir())
    assert len(tiles) == 6
    with h5py.File(tiles[0]) as file:
        assert file["CPER/Reflectance/Reflectance_Data"].chunks[2] == 1


@pytest.mark.parametrize("overlap", [0, 1, 2, 5])
def test_cut_tiles__covers_every_pixel_with_the_overlap_asked_for(overlap: int) -> None:
    cuts = cut_tiles(29, 41, (3, 4), overlap)
    count = np.zeros((29, 41), int)
    for cut in cuts:
        count[cut.row : cut.row + cut.height, cut.col : cut.col + cut.width] += 1
    assert count.min() == 1
    assert [cut.number for cut in cuts] == list(range(12))
    assert (count[0] == 2).sum() == 3 * overlap
    assert (count[:, 0] == 2).sum() == 2 * overlap
