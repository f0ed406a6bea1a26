"""Several files as one scene: placed, filled and refused as they should be."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import rasterio
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from cli_case import call
from hyperhpc.config import SceneOptions
from hyperhpc.errors import SceneError
from hyperhpc.scene import open_scene
from hyperhpc.scene.cube import NO_SOURCE, Scene
from hyperhpc.simulate.scene import simulate
from run_case import assert_same_results

SHAPE, BANDS = (97, 110), 30


def whole_of(scene: Scene) -> np.ndarray:
    return scene.read(slice(0, scene.shape[0]), slice(0, scene.shape[1]))


def opened(path: Any, **options: Any) -> Scene:
    return open_scene(path, options=SceneOptions(**options))


# The two are independent of each other: each kind of both, not each with each.
@pytest.fixture(scope="module", params=["old-001", "band-002"])
def folder(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """The single scene, and a folder of 3 x 2 tiles cut from it."""
    home = tmp_path_factory.mktemp("mosaic")
    how: dict[str, Any] = {"bands": BANDS, "seed": 6, "layout": "neon"}
    chunks, _, product = request.param.partition("-")
    how |= {"bidirectional": product == "002", "neon_chunks": chunks}
    simulate(home / "whole.h5", *SHAPE, **how)
    simulate(home / "tiles", *SHAPE, tiles=(3, 2), **how)
    return home / "whole.h5", home / "tiles"


@pytest.mark.slow
def test_mosaic__is_the_scene_its_tiles_were_cut_from(folder: tuple[Path, Path]) -> None:
    single, mosaic = (open_scene(path) for path in folder)
    assert mosaic.shape == single.shape
    assert mosaic.grid == single.grid
    assert mosaic.nodata == single.nodata
    assert mosaic.window_nodata == single.window_nodata
    np.testing.assert_array_equal(mosaic.wavelength_nm, single.wavelength_nm)
    np.testing.assert_array_equal(whole_of(mosaic), whole_of(single))
    assert "6 files as one scene" in mosaic.notes[0]
    assert len(mosaic.sources) == 6
    assert len(pickle.dumps(mosaic)) < 20_000


sides = st.tuples(st.integers(0, 96), st.integers(1, 97), st.integers(1, 40))


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(rows=sides, cols=sides, bands=st.sets(st.integers(0, BANDS - 1), min_size=1))
def test_mosaic__of_any_window(
    folder: tuple[Path, Path],
    rows: tuple[int, int, int],
    cols: tuple[int, int, int],
    bands: set[int],
) -> None:
    single, mosaic = (open_scene(path) for path in folder)
    window = [slice(a, min(a + n, 97), step) for a, n, step in (rows, cols)]
    chosen = np.array(sorted(bands))
    expected = single.read(*window, chosen)
    found = mosaic.read(*window, chosen)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.e2e
@pytest.mark.usefixtures("shared_workers", "no_report")
def test_mosaic__of_a_run_gives_the_results_of_the_single_scene(
    folder: tuple[Path, Path], tmp_path: Path
) -> None:
    single, tiles = folder
    nm = open_scene(single).wavelength_nm
    index = f"x=R({nm[2]:.1f})-R({nm[9]:.1f})"
    words = ["--indices", "", "--formula", index, "--clusters", "3", "--memory-per-worker", "1GiB"]
    for name, scene in (("one", single), ("many", tiles)):
        outcome = call("run", scene, tmp_path / name, *words)
        assert outcome.code == 0, outcome.err
    assert_same_results(tmp_path / "one", tmp_path / "many")


# --- overlaps -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def overlapping(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2 x 2 tiles that share 14 pixels; each says by its DN which one it is."""
    path = tmp_path_factory.mktemp("overlap") / "tiles"
    simulate(path, 60, 64, bands=8, seed=1, layout="neon", tiles=(2, 2), overlap=14)
    for number, tile in enumerate(sorted(path.iterdir())):
        with h5py.File(tile, "r+") as file:
            cube = file["CPER/Reflectance/Reflectance_Data"]
            dn = cube[...]
            dn[(dn != -9999).all(axis=2)] = 1000 + number
            dn[20:30, 18:30] = -9999  # a hole of each, in its own part of the overlap
            cube[...] = dn
    return path


def expected_mosaic(path: Path, rule: str) -> tuple[np.ndarray, np.ndarray]:
    """DN (y, x) of the first band and number of the tile, pixel by pixel."""
    tiles = sorted(path.iterdir())
    scenes = [open_scene(tile) for tile in tiles]
    ymax, xmin = max(s.grid.ymax for s in scenes), min(s.grid.xmin for s in scenes)
    dn = np.full((60, 64), -9999)
    source = np.full((60, 64), NO_SOURCE)
    zenith = np.full((60, 64), np.inf)
    for number in range(4) if rule != "last" else reversed(range(4)):
        scene = scenes[number]
        with h5py.File(tiles[number]) as file:
            angle = file["CPER/Reflectance/Metadata/to-sensor_zenith_angle"][...]
        own = whole_of(scene)[..., 0]
        for y in range(scene.shape[0]):
            for x in range(scene.shape[1]):
                at = int(ymax - scene.grid.ymax) + y, int(scene.grid.xmin - xmin) + x
                if source[at] == NO_SOURCE:
                    source[at] = number  # of no-data too
                if own[y, x] == -9999:
                    continue
                better = angle[y, x] < zenith[at] if rule == "nadir" else dn[at] == -9999
                if better:
                    dn[at], source[at], zenith[at] = own[y, x], number, angle[y, x]
    return dn, source


@pytest.mark.parametrize("rule", ["first", "last", "nadir"])
def test_overlap__shows_the_right_tile(overlapping: Path, rule: str) -> None:
    dn, source = expected_mosaic(overlapping, rule)
    assert np.unique(dn).size == 5
    mosaic = opened(overlapping, overlap=rule)
    found = whole_of(mosaic)
    for band in range(8):
        np.testing.assert_array_equal(found[..., band], dn)
    np.testing.assert_array_equal(mosaic.read_origins(slice(0, 60), slice(0, 64))["source"], source)
    # any window shows the same tiles
    for rows, cols in ((slice(20, 41), slice(25, 26)), (slice(3, 60, 5), slice(1, 64, 3))):
        one_band = mosaic.read(rows, cols, np.array([4]))[..., 0]
        np.testing.assert_array_equal(one_band, dn[rows, cols])
        np.testing.assert_array_equal(mosaic.read_origins(rows, cols)["source"], source[rows, cols])


def test_overlap__changes_the_fingerprint(overlapping: Path) -> None:
    prints = [opened(overlapping, overlap=rule).fingerprint() for rule in ("first", "last")]
    assert prints[0] != prints[1]


def test_overlap__fills_what_a_mask_hides(overlapping: Path, tmp_path: Path) -> None:
    path = tmp_path / "tiles"
    shutil.copytree(overlapping, path)
    with h5py.File(min(path.iterdir()), "r+") as file:
        layer = file["CPER/Reflectance/Metadata/Ancillary_Imagery/Weather_Quality_Indicator"]
        layer[...] = np.array([255, 0, 0])
    plain, masked = opened(path), opened(path, mask=("weather",))
    before, after = whole_of(plain)[..., 0], whole_of(masked)[..., 0]
    assert (before == 1000).sum() > 500
    assert not (after == 1000).any()
    hidden = (before == 1000) & (after != -9999)
    assert 100 < hidden.sum() < (before == 1000).sum()


def test_overlap__nadir_needs_angles(overlapping: Path, tmp_path: Path) -> None:
    path = tmp_path / "tiles"
    shutil.copytree(overlapping, path)
    last = max(path.iterdir())
    with h5py.File(last, "r+") as file:
        del file["CPER/Reflectance/Metadata/to-sensor_zenith_angle"]
    with pytest.raises(SceneError, match=rf"zenith angle, which .*{last.name} does not"):
        opened(path, overlap="nadir")


# --- files that do not fit together ---------------------------------------------------


def two_tiffs(folder: Path, both: Any = None, **changes: Any) -> tuple[Path, Path]:
    """Neighbours of 4 bands; ``changes`` are of the second one, ``both`` of the two."""
    paths = folder / "a.tif", folder / "b.tif"
    for number, path in enumerate(paths):
        how: dict[str, Any] = {
            "driver": "GTiff", "height": 6, "width": 5, "count": 4, "dtype": "int16",
            "crs": "EPSG:32613", "nodata": -9999, "photometric": "MINISBLACK",
            "transform": rasterio.Affine(1, 0, 500000 + 5 * number, 0, -1, 4400000),
        }  # fmt: skip
        how |= both or {}
        centres = [500.0, 600.0, 700.0, 800.0]
        if number:
            how |= {key: value for key, value in changes.items() if key != "centres"}
            centres = changes.get("centres", centres)
        with rasterio.open(path, "w", **how) as file:
            shape = (how["count"], how["height"], how["width"])
            file.write((np.arange(np.prod(shape)).reshape(shape) + 100).astype(how["dtype"]))
            for band, centre in enumerate(centres, start=1):
                file.update_tags(band, wavelength=str(centre))
    return paths


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"count": 3, "centres": [500.0, 600.0, 700.0]}, "numbers of bands are 4 and 3"),
        ({"centres": [500.0, 603.0, 700.0, 800.0]}, "band 2 are 600.00 nm and 603.00 nm"),
        ({"crs": "EPSG:32614"}, "reference systems are EPSG:32613 and EPSG:32614"),
        ({"dtype": "float32"}, "kinds of numbers are int16 and float32"),
        ({"nodata": -1}, r"no-data values are \(-9999.0,\) and \(-1.0,\)"),
        (
            {"transform": rasterio.Affine(2, 0, 500005, 0, -2, 4400000)},
            "pixel sizes are 1 x 1 and 2 x 2",
        ),
        (
            {"transform": rasterio.Affine(1, 0, 500005.3, 0, -1, 4400000)},
            "0.000 rows and 5.300 columns apart",
        ),
    ],
)
def test_mosaic__refuses_files_that_differ(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    two_tiffs(tmp_path, **changes)
    with pytest.raises(SceneError, match=rf"a\.tif and .*b\.tif cannot be.*{words}"):
        open_scene(tmp_path)


def test_mosaic__refuses_several_kinds(tmp_path: Path) -> None:
    two_tiffs(tmp_path)
    (tmp_path / "c.h5").touch()
    with pytest.raises(SceneError, match="several kinds: 2 GeoTIFF and 1 HDF5"):
        open_scene(tmp_path)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_mosaic__refuses_files_without_georeference(tmp_path: Path) -> None:
    two_tiffs(tmp_path, transform=None, crs=None)
    with pytest.raises(SceneError, match=r"b\.tif has no georeference"):
        open_scene(tmp_path)


def test_mosaic__refuses_gaps_that_nothing_marks(tmp_path: Path) -> None:
    far = rasterio.Affine(1, 0, 500008, 0, -1, 4400000)
    two_tiffs(tmp_path, transform=far)
    assert (whole_of(open_scene(tmp_path))[:, 5:8] == -9999).all()
    two_tiffs(tmp_path, {"dtype": "uint16", "nodata": None}, transform=far)
    with pytest.raises(SceneError, match=r"do not cover 18 pixels of their grid"):
        open_scene(tmp_path)


def test_mosaic__looks_below_and_takes_lists(tmp_path: Path) -> None:
    deep = tmp_path / "2021" / "L3" / "Reflectance"
    deep.mkdir(parents=True)
    one, two = two_tiffs(deep)
    expected = whole_of(open_scene(deep))
    assert expected.shape == (6, 10, 4)
    for path in (tmp_path, [one, two], [two, one]):
        np.testing.assert_array_equal(whole_of(open_scene(path)), expected)
    alone = open_scene([one])
    assert alone.path == str(one)
    with pytest.raises(SceneError, match="No scene is given"):
        open_scene([])
    (tmp_path / "empty").mkdir()
    with pytest.raises(SceneError, match="is a folder without Zarr metadata"):
        open_scene(tmp_path / "empty")


def test_mosaic__says_when_one_file_is_damaged(tmp_path: Path) -> None:
    _, second = two_tiffs(tmp_path)
    second.write_bytes(second.read_bytes()[:100])
    with pytest.raises(SceneError, match=r"b\.tif"):
        open_scene(tmp_path)


# --- bands ----------------------------------------------------------------------------


def test_bands__intersect_keeps_what_all_files_have(tmp_path: Path) -> None:
    two_tiffs(tmp_path, count=5, centres=[801.0, 650.0, 601.0, 498.0, 900.0])
    scene = opened(tmp_path, bands="intersect")
    assert scene.wavelength_nm.tolist() == [500.0, 600.0, 800.0]
    dn = whole_of(scene)
    number = 100 + np.arange(30).reshape(6, 5)
    for band, (left, right) in enumerate(((0, 3), (1, 2), (3, 0))):
        np.testing.assert_array_equal(dn[:, :5, band], number + 30 * left)
        np.testing.assert_array_equal(dn[:, 5:, band], number + 30 * right)
    np.testing.assert_array_equal(
        scene.read(slice(1, 5, 2), slice(3, 9, 2), np.array([0, 2])), dn[1:5:2, 3:9:2, [0, 2]]
    )


def test_bands__that_nobody_shares_are_refused(tmp_path: Path) -> None:
    two_tiffs(tmp_path, centres=[510.0, 610.0, 710.0, 810.0])
    with pytest.raises(SceneError, match=r"a\.tif and .*b\.tif have no band in common"):
        opened(tmp_path, bands="intersect")


def test_bands__resampled_linearly_to_the_first(tmp_path: Path) -> None:
    centres = [480.0, 620.0, 660.0, 805.0]
    _, second = two_tiffs(tmp_path, centres=centres)
    with rasterio.open(second, "r+") as file:
        dn = file.read()
        dn[1, 2, 3] = -9999
        file.write(dn)
    scene = opened(tmp_path, resample_bands=True)
    assert scene.wavelength_nm.tolist() == [500.0, 600.0, 700.0, 800.0]
    own = dn.transpose(1, 2, 0).astype(np.float64)
    expected = np.empty((6, 5, 4))
    for y in range(6):
        for x in range(5):
            expected[y, x] = np.rint(np.interp([500, 600, 700, 800], centres, own[y, x]))
    expected[2, 3, :2] = -9999  # between a no-data value and another
    found = whole_of(scene)
    expected[2, 3, 2:] = np.rint(np.interp([700, 800], centres[2:], own[2, 3, 2:]))
    np.testing.assert_array_equal(found[:, 5:], expected)
    two = scene.read(slice(1, 4), slice(4, 9), np.array([1, 3]))
    np.testing.assert_array_equal(two, found[1:4, 4:9, [1, 3]])


def test_bands__are_not_extrapolated(tmp_path: Path) -> None:
    two_tiffs(tmp_path, centres=[530.0, 570.0, 700.0, 800.0])
    with pytest.raises(SceneError, match=r"530.00 to 800.00 nm and cannot .* 500.00 nm"):
        opened(tmp_path, resample_bands=True)


# --- real data ------------------------------------------------------------------------


@pytest.mark.e2e
@pytest.mark.usefixtures("shared_workers", "no_report")
def test_mosaic__of_enmap_tiles(shared_data: Path, tmp_path: Path) -> None:
    """18 tiles with gaps; each label tile falls where the full map has it."""
    folder = shared_data / "enmap_potsdam"
    scene = open_scene(folder / "images")
    dn = whole_of(scene)
    covered = np.zeros(scene.shape[:2], bool)
    with rasterio.open(folder / "landcover_full.tif") as file:
        landcover, corner = file.read(1), file.transform
    for image in sorted((folder / "images").glob("*.tif")):
        with rasterio.open(image) as file:
            own, (left, top) = file.read(), (file.bounds.left, file.bounds.top)
        row, col = scene.grid.pixel_of(left + 15, top - 15)
        place = slice(row, row + 32), slice(col, col + 32)
        assert not covered[place].any()
        covered[place] = True
        np.testing.assert_array_equal(dn[place], own.transpose(1, 2, 0))
        with rasterio.open(folder / "labels" / image.name) as file:
            labels = file.read(1)
        x, y = scene.grid.bounds((row, row + 32), (col, col + 32))[0::3]
        at = round((corner.f - y) / 30), round((x - corner.c) / 30)
        np.testing.assert_array_equal(labels, landcover[at[0] : at[0] + 32, at[1] : at[1] + 32])
    assert (dn[~covered] == -32768).all()
    assert covered.mean() == pytest.approx(0.6)
    outcome = call("run", folder / "images", tmp_path / "out", "--memory-per-worker", "1GiB")
    assert outcome.code == 0, outcome.err
    cluster = zarr.open_group(tmp_path / "out" / "results.zarr", mode="r")["cluster"]
    for labels in np.asarray(cluster):
        np.testing.assert_array_equal(labels != 255, covered)
