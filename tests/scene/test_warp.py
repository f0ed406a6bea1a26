"""Rotated, sheared and mirrored scenes on a north-up grid, against rasterio's own warp."""

from __future__ import annotations

import math
import pickle
import shlex
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pytest
from rasterio import Affine

from cli_case import call, program
from hyperhpc.config import SceneOptions
from hyperhpc.errors import SceneError
from hyperhpc.scene import Scene, open_scene
from hyperhpc.simulate.scene import simulate
from raster_case import centres, cube, listed, write_envi, write_tiff

ALL = slice(None)
NEAREST = SceneOptions(resample="nearest")


def map_info(rotation: float, tie: str = "1, 1", px: float = 2) -> str:
    return (
        f"{{UTM, {tie}, 500000, 4000100, {px}, {px}, 13, North, WGS-84, units=Meters, "
        f"rotation={rotation}}}"
    )


def turned(degrees: float, px: float = 2, py: float = 2) -> tuple[float, ...]:
    """The first six numbers of an Affine whose columns run so many degrees south of east."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return px * c, -py * s, 500000.3, -px * s, -py * c, 4000100.7


def by_rasterio(path: Path, scene: Scene) -> np.ndarray:
    """DN (y, x, band) on the grid of an opened scene, without our own reader."""
    import rasterio
    from rasterio import Affine
    from rasterio.warp import Resampling, reproject

    grid = scene.grid
    transform = Affine(grid.px, 0, grid.xmin, 0, -grid.py, grid.ymax)
    with rasterio.open(path) as file:
        dn = file.read()
        fill = scene.nodata[0] if scene.is_integer else np.nan
        out = np.full((scene.shape[2], *scene.shape[:2]), fill, dn.dtype)
        reproject(
            dn, out, src_transform=file.transform, dst_transform=transform,
            src_crs=file.crs, dst_crs=file.crs, resampling=Resampling.nearest,
            init_dest_nodata=False, tolerance=0,
        )  # fmt: skip
    return out.transpose(1, 2, 0)


def by_inverse_affine(dn: np.ndarray, six: tuple[float, ...], scene: Scene) -> np.ndarray:
    """The same, one pixel after the other, in float64."""
    a, b, c, d, e, f = six
    out = np.full(scene.shape, scene.nodata[0] if scene.is_integer else np.nan, dn.dtype)
    for i in range(scene.shape[0]):
        for j in range(scene.shape[1]):
            x = scene.grid.xmin + (j + 0.5) * scene.grid.px - c
            y = scene.grid.ymax - (i + 0.5) * scene.grid.py - f
            col = (e * x - b * y) / (a * e - b * d)
            row = (a * y - d * x) / (a * e - b * d)
            if 0 <= row < dn.shape[0] and 0 <= col < dn.shape[1]:
                out[i, j] = dn[int(row), int(col)]
    return out


SIXES: dict[str, tuple[float, ...]] = {
    "25": turned(25),
    "-75.5": turned(-75.5),
    "100": turned(100),
    "-160": turned(-160),
    "oblong": turned(33, 2, 3),
    "sheared": (2, 0.5, 1e5, 0.37, -2, 4e6),
}


@pytest.mark.parametrize("dtype", ["int16", "uint16", "float32"])
@pytest.mark.parametrize("name", SIXES)
def test_read__equals_rasterio_and_the_inverse_affine(
    tmp_path: Path, name: str, dtype: str
) -> None:
    from rasterio import Affine

    dn = cube(40, 23, 3, dtype)
    path = write_tiff(tmp_path / "s.tif", dn, transform=Affine(*SIXES[name]))
    scene = open_scene(path, options=NEAREST)
    found = scene.read(ALL, ALL)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, by_rasterio(path, scene))
    np.testing.assert_array_equal(found, by_inverse_affine(dn, SIXES[name], scene))
    # Every pixel in the inside appears, those outside are no-data
    share = np.isin(np.unique(dn), found).mean()
    assert share > 0.8
    assert 0.0 < (np.isnan(found) | np.isin(found, scene.nodata)).mean() < 0.95


def test_read__in_several_pieces_with_steps_and_bands(tmp_path: Path) -> None:
    from rasterio import Affine

    dn = np.random.default_rng(0).integers(0, 9000, (300, 210, 4)).astype("int16")
    path = write_tiff(tmp_path / "s.tif", dn, transform=Affine(*turned(-30)))
    scene = pickle.loads(pickle.dumps(open_scene(path, options=NEAREST)))
    whole = by_rasterio(path, scene)
    np.testing.assert_array_equal(scene.read(ALL, ALL), whole)
    window = scene.read(slice(7, 290, 4), slice(3, 260, 3), np.array([1, 3]))
    np.testing.assert_array_equal(window, whole[7:290:4, 3:260:3, [1, 3]])
    assert scene.read(slice(5, 5), slice(0, 9)).shape == (0, 9, 4)
    for row, col, block in scene.blocks(slice(100, 200), slice(50, 300)):
        part = whole[row : row + block.shape[0], col : col + block.shape[1]]
        np.testing.assert_array_equal(block, part)


def test_read__never_holds_much_of_the_file(tmp_path: Path, monkeypatch: Any) -> None:
    from hyperhpc.scene.formats.raster_read import RasterScene

    path = write_envi(tmp_path / "s", cube(900, 700, 2), map_info=map_info(-25))
    scene = open_scene(path, options=NEAREST)
    largest, fetch = [0], RasterScene.fetch

    def measure(self: Any, rows: slice, cols: slice, bands: slice) -> np.ndarray:
        found = fetch(self, rows, cols, bands)
        largest.append(found[..., 0].size)
        return found

    monkeypatch.setattr(RasterScene, "fetch", measure)
    scene.read(ALL, ALL)
    scene.read(slice(0, 900, 4), slice(0, 700, 4))
    assert 0 < max(largest) <= (128 * 1.5) ** 2


@pytest.mark.parametrize(
    ("six", "turn"),
    [
        ((-2, 0, 114, 0, -2, 50), lambda dn: dn[:, ::-1]),
        ((-2, 0, 114, 0, 2, 40), lambda dn: dn[::-1, ::-1]),
        ((0, -3, 115, -2, 0, 54), lambda dn: np.rot90(dn, -1)),
        ((0, 3, 100, 2, 0, 40), lambda dn: np.rot90(dn.transpose(1, 0, 2)[:, ::-1], 2)),
    ],
    ids=["mirrored", "half a turn", "a quarter", "transposed"],
)
def test_read__at_right_angles_keeps_every_pixel_in_its_place(
    tmp_path: Path, six: tuple[float, ...], turn: Any
) -> None:
    from rasterio import Affine

    dn = cube()
    path = write_tiff(tmp_path / "s.tif", dn, transform=Affine(*six))
    scene = open_scene(path, options=NEAREST)
    np.testing.assert_array_equal(scene.read(ALL, ALL), by_rasterio(path, scene))
    np.testing.assert_array_equal(np.sort(scene.read(ALL, ALL).ravel()), dn.ravel())
    np.testing.assert_array_equal(scene.read(ALL, ALL), turn(dn))


def test_open__envi_keeps_all_metadata(tmp_path: Path) -> None:
    about: dict[str, Any] = {
        "reflectance_scale_factor": 5000,
        "data_ignore_value": -50,
        "bbl": listed([1, 0, 1, 1, 0, 1]),
        "fwhm": listed([5.5] * 6),
        "acquisition_time": "2021-06-30T10:11:12Z",
    }
    dn = cube(30, 20)
    path = write_envi(tmp_path / "s", dn, map_info=map_info(-25), **about)
    scene = open_scene(path, options=NEAREST)
    assert (scene.grid.epsg, scene.grid.px, scene.grid.py) == (32613, 2, 2)
    assert (scene.grid.xmin % 2, scene.grid.ymax % 2) == (0, 0)
    assert (scene.scale_factor, scene.nodata, scene.bad_bands) == (5000, (-50.0,), (1, 4))
    np.testing.assert_array_equal(scene.wavelength_nm, centres(6))
    assert scene.fwhm_nm is not None
    np.testing.assert_array_equal(scene.fwhm_nm, [5.5] * 6)
    found = scene.read(ALL, ALL)
    np.testing.assert_array_equal(found, by_rasterio(path, scene))
    assert any("north-up pixels of 2 x 2" in note for note in scene.notes)
    assert any("2 bands are flagged as bad" in note for note in scene.notes)
    origins = scene.read_origins(ALL, ALL)
    is_inside = (found != -50).all(axis=2)
    np.testing.assert_array_equal(origins["source"], np.where(is_inside, 0, 65535))
    np.testing.assert_array_equal(origins["acquired"], np.where(is_inside, 20210630, 0))


def test_open__envi_tied_at_another_pixel(tmp_path: Path) -> None:
    # The upper-left corner of the third pixel of the fifth line is at 500000, 4000100
    path = write_envi(tmp_path / "s", cube(), map_info=map_info(-25, "3, 5"))
    inner: Any = open_scene(path, options=NEAREST)
    xmin, a, b, ymax, d, e = inner.inner.geotransform
    assert (xmin + 2 * a + 4 * b, ymax + 2 * d + 4 * e) == pytest.approx((500000, 4000100))
    np.testing.assert_allclose(a, 2 * math.cos(math.radians(25)))
    assert any("ties pixel 3, 5" in note for note in inner.notes)


def test_open__unsigned_integers_without_nodata_get_a_mark(tmp_path: Path) -> None:
    path = write_envi(tmp_path / "s", cube(dtype="uint16"), map_info=map_info(40))
    scene = open_scene(path, options=NEAREST)
    assert scene.nodata == (65535.0,)
    assert any("65535 marks pixels outside" in note for note in scene.notes)
    found = scene.read(ALL, ALL)
    assert (found == 65535).any()
    assert found[found != 65535].max() < 5 * 7 * 6


def test_open__several_flight_lines_share_a_grid(tmp_path: Path) -> None:
    paths = [
        write_envi(tmp_path / f"{k}.img", cube(), map_info=map_info(degrees))
        for k, degrees in enumerate((-25, 60))
    ]
    scene = open_scene(tmp_path, options=NEAREST)
    for path in paths:
        one = open_scene(path, options=NEAREST)
        row, col = scene.grid.pixel_of(one.grid.xmin + 1, one.grid.ymax - 1)
        assert scene.grid.part(row, col).bounds((0, 1), (0, 1)) == one.grid.bounds((0, 1), (0, 1))
    with pytest.raises(SceneError, match="rotated or mirrored"):
        open_scene(tmp_path)


@pytest.mark.parametrize("shift", [(1, 0.7, -0.4), (1.5, 3, 5), (0.5, 0, 0)])
def test_open__a_mosaic_on_the_grid_of_the_first(
    tmp_path: Path, shift: tuple[float, float, float]
) -> None:
    from rasterio import Affine

    factor, x, y = shift
    dn = cube(12, 9, 3) + np.int16(1)
    write_tiff(tmp_path / "a.tif", dn, nodata=-1)
    other = Affine(2 * factor, 0, 500030 + x, 0, -2 * factor, 4000100 + y)
    path = write_tiff(tmp_path / "b.tif", dn, transform=other, nodata=-1)
    with pytest.raises(SceneError, match=r"pixel sizes|whole pixels") as caught:
        open_scene(tmp_path)
    assert str(caught.value.hint).endswith("--resample nearest")
    scene = open_scene(tmp_path, options=NEAREST)
    assert (scene.grid.px, scene.grid.xmin % 2, scene.grid.ymax % 2) == (2, 0, 0)
    expected = by_rasterio(path, scene)
    row, col = scene.grid.pixel_of(500001, 4000099)
    expected[row : row + 12, col : col + 9] = dn
    np.testing.assert_array_equal(scene.read(ALL, ALL), expected)


def test_open__rotated_lines_with_other_pixels_are_resampled_once(tmp_path: Path) -> None:
    for name, degrees, px in (("a", -25, 2), ("b", 60, 1.7)):
        write_envi(tmp_path / f"{name}.img", cube(30, 20), map_info=map_info(degrees, px=px))
    scene: Any = open_scene(tmp_path, options=NEAREST)
    second = scene.members[1]
    assert (second.grid.px, second.grid.xmin % 2) == (2, 0)
    assert second.inner.geotransform is not None
    found = second.read(ALL, ALL)
    np.testing.assert_array_equal(found, by_rasterio(tmp_path / "b.img", second))


def test_open__a_mosaic_keeps_origins_and_view_angles(tmp_path: Path) -> None:
    import h5py

    how: dict[str, Any] = {"bands": 4, "layout": "neon", "nodata_fraction": 0}
    for seed, name in enumerate("ab"):
        simulate(tmp_path / f"{name}.h5", 20, 30, seed=seed, **how)
    with h5py.File(tmp_path / "b.h5", "r+") as file:
        system = file["CPER/Reflectance/Metadata/Coordinate_System"]
        parts = system["Map_Info"][()].decode().split(",")
        parts[3] = str(float(parts[3]) + 10.3)
        del system["Map_Info"]
        system["Map_Info"] = ",".join(parts).encode()
    scene: Any = open_scene(tmp_path, options=SceneOptions(resample="nearest", overlap="nadir"))
    second = scene.members[1]
    straight: Any = second.inner
    window = slice(3, 9), slice(5, 25)
    inner = slice(3, 9), slice(5, 25)
    zenith = second.read_zenith(*window)
    np.testing.assert_array_equal(zenith, straight.read_zenith(*inner))
    for name, image in straight.read_origins(*inner).items():
        np.testing.assert_array_equal(second.read_origins(*window)[name], image)


def test_open__pixels_without_an_area(tmp_path: Path) -> None:
    from rasterio import Affine

    path = write_tiff(tmp_path / "s.tif", cube(), transform=Affine(2, 2, 0, 2, 2, 0))
    with pytest.raises(SceneError, match="pixels without an area") as caught:
        open_scene(path)
    assert caught.value.hint


# --- the advice ---------------------------------------------------------------------------


@pytest.mark.e2e
def test_hint__is_a_command_that_keeps_everything(tmp_path: Path) -> None:
    folder = tmp_path / "a folder"
    folder.mkdir()
    about: dict[str, Any] = {
        "reflectance_scale_factor": 20000,
        "bbl": listed([1, 0, 1, 1, 0, 1]),
        "fwhm": listed([5.5] * 6),
    }
    dn = cube(30, 20) + np.int16(300)
    path = write_envi(folder / "rot.img", dn, map_info=map_info(-25), **about)
    store = open_scene(follow_hint(path, tmp_path))
    np.testing.assert_array_equal(store.read(ALL, ALL), by_rasterio(path, store))
    assert (store.scale_factor, store.nodata, store.bad_bands) == (20000, (-9999.0,), (1, 4))
    assert (store.grid.epsg, store.grid.px) == (32613, 2)
    np.testing.assert_array_equal(store.wavelength_nm, centres(6))
    assert store.fwhm_nm is not None
    np.testing.assert_array_equal(store.fwhm_nm, [5.5] * 6)


@pytest.mark.e2e
def test_hint__repeats_the_options_that_were_given(tmp_path: Path) -> None:
    (tmp_path / "w.txt").write_text("\n".join(map(str, centres(6))), "utf-8")
    path = write_envi(tmp_path / "rot", cube(), map_info=map_info(-25), wavelength=None)
    words = ("--wavelengths", "w.txt", "--scale", "4000", "--nodata", "0", "--nodata", "-7")
    store = open_scene(follow_hint(path, tmp_path, *words))
    np.testing.assert_array_equal(store.read(ALL, ALL), by_rasterio(path, store))
    assert (store.scale_factor, store.nodata) == (4000, (0.0, -7.0))
    np.testing.assert_array_equal(store.wavelength_nm, centres(6))


def follow_hint(path: Path, folder: Path, *words: str) -> Path:
    """Let info refuse a rotated scene, and type the command that it names."""
    done = subprocess.run(
        program("info", path, *words), capture_output=True, text=True, cwd=folder, timeout=60
    )
    assert done.returncode == 4, done.stderr
    assert "rotated or mirrored" in done.stderr
    typed = shlex.split(done.stderr[done.stderr.index("hyperhpc ingest") :])
    made = subprocess.run(
        program(*typed[1:], "--memory-per-worker", "1GiB"),
        capture_output=True, text=True, cwd=folder, timeout=300,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    return folder / f"{path.stem}.zarr"


def test_mosaic__sources_of_other_reference_systems_are_brought_to_the_first(
    tmp_path: Path,
) -> None:
    """Each pixel is the one that holds its centre, as pyproj and GDAL find it too."""
    from rasterio.warp import Resampling, reproject

    one, two = cube(40, 50), (cube(60, 50) % 3000).astype("int16")
    place = Affine(2, 0, 500000, 0, -2, 4000100)
    write_tiff(tmp_path / "a.tif", one, nodata=-1, transform=place)
    x, y = pyproj.Transformer.from_crs(32613, 32614, always_xy=True).transform(500060, 4000090)
    other = Affine(1.7, 0, round(x), 0, -1.7, round(y))
    write_tiff(tmp_path / "b.tif", two, nodata=-1, crs="EPSG:32614", transform=other)
    refused = call("info", tmp_path)
    assert refused.error.endswith("their reference systems are EPSG:32613 and EPSG:32614")
    words = shlex.split(refused.hint.partition(": ")[2])
    assert call("info", tmp_path, *words).code == 0  # the hint as it is printed

    options = SceneOptions(resample="nearest", overlap="last")
    scene = pickle.loads(pickle.dumps(open_scene(tmp_path, options=options)))
    height, width, _ = scene.shape
    assert scene.grid.epsg == 32613
    centres = np.meshgrid(scene.grid.x_centres(0, width), scene.grid.y_centres(0, height))
    there = pyproj.Transformer.from_crs(32613, 32614, always_xy=True).transform(*centres)
    off = (there[0] - other.c) / 1.7, (other.f - there[1]) / 1.7
    col, row = (np.floor(v).astype(int) for v in off)
    expected = np.full(scene.shape, -1, "int16")
    down, across = int((scene.grid.ymax - 4000100) / 2), int((500000 - scene.grid.xmin) / 2)
    expected[down : down + 40, across : across + 50] = one
    inside = (row >= 0) & (row < 60) & (col >= 0) & (col < 50)
    assert inside.sum() > 1000
    expected[inside] = two[row[inside], col[inside]]
    found = scene.read(slice(0, height), slice(0, width))
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(
        scene.read(slice(3, height, 4), slice(1, width, 3)), expected[3::4, 1::3]
    )

    by_gdal = np.full((height, width), -1, "int16")
    at = Affine(2, 0, scene.grid.xmin, 0, -2, scene.grid.ymax)
    reproject(
        two[..., 0].copy(), by_gdal, src_transform=other, src_crs="EPSG:32614", dst_transform=at,
        dst_crs="EPSG:32613", resampling=Resampling.nearest, src_nodata=-1, dst_nodata=-1,
    )  # fmt: skip
    assert (by_gdal == found[..., 0])[inside].mean() > 0.99


def test_mosaic__a_source_that_has_no_place_in_the_first_system_is_named(tmp_path: Path) -> None:
    write_tiff(tmp_path / "a.tif", cube(), nodata=-1)
    wrong = Affine(1, 0, 1e9, 0, -1, 1e9)  # metres in a file that says degrees
    write_tiff(tmp_path / "b.tif", cube(), nodata=-1, crs="EPSG:4326", transform=wrong)
    refused = call("info", tmp_path, "--resample", "nearest")
    assert refused.code == 4
    assert "b.tif does not lie where the reference system of the first scene is" in refused.error
