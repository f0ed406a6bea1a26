"""The thinned copy of a cube: used where it has all that is wanted, and never blindly."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

from hyperhpc.cli.main import main
from hyperhpc.compute.sample import Sample, SampleJob, sample_tile, tiles_per_side
from hyperhpc.errors import SceneError
from hyperhpc.rundir.plan import Area, Plan
from hyperhpc.scene import open_scene
from hyperhpc.scene.thinned import THINNED_GROUP, check_thinned, choose_thinned
from hyperhpc.simulate.scene import simulate

COPY = Path("reflectance") / THINNED_GROUP


@pytest.fixture(scope="module")
def with_copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """130 x 150 pixels: no multiples of 4, more than one chunk."""
    path = tmp_path_factory.mktemp("thinned") / "scene.zarr"
    simulate(path, 130, 150, bands=60, seed=4)
    return path


@pytest.fixture(scope="module")
def without(with_copy: Path) -> Path:
    """The same scene as it comes from elsewhere."""
    path = with_copy.with_name("without.zarr")
    shutil.copytree(with_copy, path)
    shutil.rmtree(path / COPY)
    return path


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_copy__is_every_fourth_pixel_at_its_place(tmp_path: Path, zarr_format: int) -> None:
    path = tmp_path / "scene.zarr"
    simulate(path, 130, 150, bands=60, seed=4, zarr_format=zarr_format)
    scene = open_scene(path)
    assert scene.shape == (130, 150, 60)
    assert scene.thinned is not None
    few = scene.thinned.read(slice(0, 33), slice(0, 38))
    np.testing.assert_array_equal(few, scene.read(slice(0, 130), slice(0, 150))[::4, ::4])
    whole = xr.open_zarr(path, group="reflectance")
    part = xr.open_zarr(path, group=str(COPY))
    picked = whole[["reflectance"]].isel(y=slice(0, None, 4), x=slice(0, None, 4))
    xr.testing.assert_equal(picked, part[["reflectance"]])
    np.testing.assert_allclose(scene.thinned.grid.x_centres(0, 38), part.x)
    np.testing.assert_allclose(scene.thinned.grid.y_centres(0, 33), part.y)


def test_copy__is_a_scene_if_asked_for_by_name(with_copy: Path) -> None:
    assert open_scene(with_copy, str(COPY)).shape == (33, 38, 60)


@pytest.mark.parametrize(
    ("rows", "is_there"),
    [
        (range(0, 130, 4), True),
        (range(8, 129, 8), True),
        (range(2, 130, 4), False),
        (range(0, 130, 6), False),
    ],
)
def test_picked_from__the_copy_if_it_has_all(with_copy: Path, rows: range, is_there: bool) -> None:
    scene = open_scene(with_copy)
    found, y, x = choose_thinned(scene, rows, range(4, 150, 4))
    assert (found is scene.thinned) == is_there
    dn = found.read(slice(0, found.shape[0]), slice(0, found.shape[1]))
    whole = scene.read(slice(0, 130), slice(0, 150))
    np.testing.assert_array_equal(dn[np.ix_(y, x)], whole[np.ix_(rows, range(4, 150, 4))])


@pytest.mark.e2e
@pytest.mark.usefixtures("shared_workers", "no_report")
@pytest.mark.parametrize(
    "options", ["--stride 4", "--stride 3", "--bbox 517006,4525880,517140,4525990"]
)
def test_run__same_bits_with_and_without(
    with_copy: Path, without: Path, tmp_path: Path, options: str
) -> None:
    for scene in (with_copy, without):
        with pytest.raises(SystemExit) as stop:
            main(["run", str(scene), str(tmp_path / scene.stem), *options.split(), "--workers=1"])
        assert stop.value.code == 0
    own, other = (tmp_path / scene.stem for scene in (with_copy, without))
    assert (own / "model.json").read_bytes() == (other / "model.json").read_bytes()
    read = [
        next(s["bytes_read"] for s in json.loads((out / "run.json").read_text())["stages"])
        for out in (own, other)
    ]
    assert (read[0] < read[1] / 12) == (options == "--stride 4")


def test_copy__that_is_none_of_this_cube_is_refused_in_words(
    with_copy: Path, tmp_path: Path
) -> None:
    path = tmp_path / "scene.zarr"
    shutil.copytree(with_copy, path)
    cube = zarr.open_group(path)["reflectance/reflectance"]
    cube[...] = np.asarray(cube[...]) + 1
    with pytest.raises(SceneError, match="was changed after its thinned copy") as error:
        check_thinned(open_scene(path))
    assert f"rm -r {path / COPY}" in str(error.value.hint)
    with pytest.raises(SceneError) as error:  # the cube's own array was named
        check_thinned(open_scene(path / "reflectance/reflectance"))
    assert f"rm -r {path / COPY}" in str(error.value.hint)
    shutil.rmtree(path / COPY)
    check_thinned(open_scene(path))


def test_copy__of_another_shape_is_not_used(with_copy: Path, tmp_path: Path) -> None:
    path = tmp_path / "scene.zarr"
    shutil.copytree(with_copy, path)
    zarr.open_group(path)[f"{COPY}/reflectance"].resize((33, 37, 60))
    assert open_scene(path).thinned is None


def test_sample__of_many_tiles_at_once_is_the_same(
    with_copy: Path, without: Path, tmp_path: Path
) -> None:
    scene, area = open_scene(with_copy), Area(4, 126, 8, 150)
    plan = Plan(area, (12, 12), False, {}, {})
    assert tiles_per_side(scene, plan, 8, skips_bad_tiles=False) == 2  # 8 would be too few tasks
    assert tiles_per_side(scene, plan, 8, skips_bad_tiles=True) == 1
    assert tiles_per_side(scene, plan, 3, skips_bad_tiles=False) == 1  # read from all the chunks
    assert tiles_per_side(open_scene(without), plan, 8, skips_bad_tiles=False) == 1
    bands, found = np.arange(0, 60, 7), []
    for times in (1, 2, 4):
        work = tmp_path / str(times)
        work.mkdir()
        sample = Sample.at(work, area, 8, len(bands), scene.dtype)
        sample.values.create()
        sample.mask.create()
        job = SampleJob(scene, area, 8, bands, sample)
        records = [sample_tile(job, tile) for tile in plan.tiles(times)]
        found.append((sum(record["valid"] for record in records), sample.is_valid().sum()))
        assert (work / "sample.dat").read_bytes() == (tmp_path / "1/sample.dat").read_bytes()
    assert found[0][0] > 0
    assert len({count for pair in found for count in pair}) == 1


def test_copy__of_floats_whose_fill_value_is_nan_is_used(tmp_path: Path) -> None:
    """NaN does not equal itself, but is the same fill value."""
    values = np.random.default_rng(0).random((9, 8, 3)).astype("float32")
    cube = xr.Dataset(
        {"reflectance": (("y", "x", "wavelength"), values)},
        coords={"y": 9.0 - np.arange(9), "x": np.arange(8.0), "wavelength": [500.0, 600.0, 700.0]},
    )
    few = cube.isel(y=slice(0, 9, 4), x=slice(0, 8, 4))
    few["reflectance"].attrs["thinned_step"] = 4
    for part, group in ((cube, None), (few, "every4th")):
        part.to_zarr(tmp_path / "s", group=group, zarr_format=2, mode="a", consolidated=False)
    assert np.isnan(zarr.open_array(tmp_path / "s" / "reflectance").fill_value)
    scene = open_scene(tmp_path / "s")
    assert scene.thinned is not None
    found = scene.thinned.read(slice(0, 3), slice(0, 2))
    np.testing.assert_array_equal(found, values[::4, ::4])
