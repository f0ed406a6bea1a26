"""GeoTIFFs: strips and blocks, bands together and apart, and where they name their bands."""

from __future__ import annotations

import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli_case import check_refused, spawn
from hyperhpc.config import SceneOptions
from hyperhpc.errors import SceneError
from hyperhpc.scene import open_scene
from raster_case import centres, cube, write_envi, write_tiff

ALL = slice(None)
_BLOCKS = {"tiled": True, "blockxsize": 16, "blockysize": 16}


@pytest.mark.parametrize("interleave", ["pixel", "band"])
@pytest.mark.parametrize("how", [{}, _BLOCKS, {**_BLOCKS, "compress": "deflate"}])
@pytest.mark.parametrize("dtype", ["int16", "uint16", "float32", "uint8", "int32"])
def test_read__every_layout_equals_what_was_written(
    tmp_path: Path, interleave: str, how: dict[str, Any], dtype: str
) -> None:
    dn = (cube(40, 37, 6) % 120).astype(dtype)
    scene = open_scene(write_tiff(tmp_path / "s.tif", dn, interleave=interleave, **how))
    assert scene.format == "geotiff"
    np.testing.assert_array_equal(scene.read(ALL, ALL), dn)
    some = np.array([0, 3, 5])
    for rows, cols in (
        (slice(1, 39, 4), slice(0, 37, 4)),
        (slice(15, 18), slice(3, 20)),
        (slice(7, 8), slice(36, 37)),
        (slice(0, 40, 39), slice(0, 37)),
    ):
        window = scene.read(rows, cols, some)
        np.testing.assert_array_equal(window, dn[rows, cols][..., some])
        assert window.flags.c_contiguous
    rows, cols = (16, 16) if how else (scene.chunks[0], 37)
    assert scene.chunks == (rows, cols, 1 if interleave == "band" else 6)
    np.testing.assert_array_equal(scene.wavelength_nm, centres(6))


def test_read__strides_beyond_one_slab(tmp_path: Path) -> None:
    dn = cube(300, 5, 2, "int32")
    scene = open_scene(write_tiff(tmp_path / "s.tif", dn))
    for step in (3, 7, 64, 100):
        np.testing.assert_array_equal(
            scene.read(slice(1, 300, step), slice(0, 5, 2)), dn[1:300:step, ::2]
        )


def test_read__strides_in_columns_of_one_slab(tmp_path: Path) -> None:
    dn = cube(64, 23, 2, "int32")
    scene = open_scene(write_tiff(tmp_path / "s.tif", dn, **_BLOCKS))
    np.testing.assert_array_equal(scene.read(ALL, slice(1, 23, 4)), dn[:, 1:23:4])


def test_open__cloud_optimised(tmp_path: Path) -> None:
    from rasterio.shutil import copy

    dn = cube(70, 60, 4)
    plain = write_tiff(tmp_path / "plain.tif", dn)
    copy(plain, tmp_path / "cog.tif", driver="COG", blocksize=128, compress="deflate")
    scene = open_scene(tmp_path / "cog.tif")
    np.testing.assert_array_equal(scene.read(ALL, ALL), dn)
    np.testing.assert_array_equal(scene.wavelength_nm, centres(4))


def test_open__south_up_is_flipped(tmp_path: Path) -> None:
    from rasterio import Affine

    dn = cube()
    path = write_tiff(tmp_path / "s.tif", dn, transform=Affine(2, 0, 100, 0, 2, 50))
    scene = open_scene(path)
    np.testing.assert_array_equal(scene.read(ALL, ALL), dn[::-1])
    np.testing.assert_array_equal(scene.read(slice(1, 3), ALL), dn[::-1][1:3])
    np.testing.assert_array_equal(scene.read(slice(0, 5, 3), ALL), dn[::-1][::3])
    assert scene.bounds == [100, 50, 114, 60]


@pytest.mark.parametrize("six", [(2, 0.5, 0, 0.5, -2, 0), (-2, 0, 0, 0, -2, 0)])
def test_open__rotated_is_refused(tmp_path: Path, six: tuple[float, ...]) -> None:
    from rasterio import Affine

    path = write_tiff(tmp_path / "s.tif", cube(), transform=Affine(*six))
    with pytest.raises(SceneError, match="rotated or mirrored") as caught:
        open_scene(path)
    assert str(caught.value.hint).endswith(f"hyperhpc ingest {path} s.zarr --resample nearest")


def test_open__scale_and_nodata_of_gdal(tmp_path: Path) -> None:
    import rasterio

    path = write_tiff(tmp_path / "s.tif", cube(dtype="float32"), nodata=-32768)
    with rasterio.open(path, "r+") as file:
        file.scales = [1e-4] * 6
    scene = open_scene(path)
    assert scene.scale_factor == 10000
    assert scene.nodata == (-32768.0,)


@pytest.mark.parametrize(
    "tags",
    [
        lambda band: {"wavelength": f"{0.4 + band / 100:.3f}", "wavelength_units": "um"},
        lambda band: {"WAVELENGTH": f"{400 + 10 * band}"},
        lambda band: {"Center_Wavelength": f"{400 + 10 * band}", "bbl": str(int(band != 2))},
    ],
)
def test_open__centres_in_tags_of_bands(tmp_path: Path, tags: Any) -> None:
    scene = open_scene(write_tiff(tmp_path / "s.tif", cube(bands=3), tags=tags))
    np.testing.assert_allclose(scene.wavelength_nm, [410, 420, 430], rtol=0, atol=1e-9)
    assert scene.bad_bands == ((1,) if "bbl" in tags(1) else ())


def test_open__centres_in_gdals_own_domain_and_in_names(tmp_path: Path) -> None:
    import rasterio

    path = write_tiff(tmp_path / "s.tif", cube(bands=2), tags=lambda band: {})
    with pytest.raises(SceneError, match="have no names either"):
        open_scene(path)
    with rasterio.open(path, "r+") as file:
        file.descriptions = ("376.44 Nanometers", "band 2 (381.5 Nanometers)")
    np.testing.assert_array_equal(open_scene(path).wavelength_nm, [376.44, 381.5])
    with rasterio.open(path, "r+") as file:
        for band, um in ((1, "0.412"), (2, "0.444")):
            file.update_tags(band, ns="IMAGERY", CENTRAL_WAVELENGTH_UM=um)
    np.testing.assert_array_equal(open_scene(path).wavelength_nm, [412, 444])


@pytest.mark.parametrize("compress", [None, "deflate"])
@pytest.mark.parametrize("left", [4, 60, 0.5, 0.95])
def test_open__truncated(tmp_path: Path, compress: str | None, left: float) -> None:
    dn = np.random.default_rng(0).integers(0, 9000, (60, 50, 5)).astype("int16")
    path = write_tiff(tmp_path / "s.tif", dn, compress=compress)
    size = path.stat().st_size
    os.truncate(path, int(left if left >= 1 else left * size))
    with pytest.raises(SceneError) as caught:
        open_scene(path).read(ALL, ALL)
    assert str(path) in caught.value.message
    assert caught.value.hint


@pytest.mark.e2e
def test_open__damaged_tags_are_told_in_one_message(tmp_path: Path) -> None:
    """GDAL quotes them in a message that is no UTF-8."""
    path = write_tiff(tmp_path / "s.tif", cube())
    content = path.read_bytes()
    assert b"<GDALMetadata>" in content
    path.write_bytes(content.replace(b"<GDALMetadata>", b"<GDALMet\xffdata>"))
    outcome = spawn("info", path)
    check_refused(outcome, 4, "holds no band centres")
    assert outcome.err.startswith("error: ")


def test_scene__travels_and_is_read_by_threads(tmp_path: Path) -> None:
    dn = cube(64, 48, 5)
    path = write_tiff(tmp_path / "s.tif", dn, compress="deflate", **_BLOCKS)
    sent = pickle.dumps(open_scene(path))
    assert len(sent) < 5000
    scene = pickle.loads(sent)

    def check(row: int) -> bool:
        return np.array_equal(scene.read(slice(row, row + 4), ALL), dn[row : row + 4])

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(check, range(60)))


def test_real__neon_crop_needs_wavelengths(shared_data: Path) -> None:
    import rasterio

    path = shared_data / "neon_sjer_tif" / "SJER_052_hyperspectral.tif"
    with pytest.raises(SceneError, match="no band centres") as caught:
        open_scene(path)
    assert "--wavelengths FILE" in str(caught.value.hint)
    tile = shared_data / "neon_sjer_h5" / "NEON_SJER_2017_subset.h5"
    scene = open_scene(path, options=SceneOptions(wavelengths=tile))
    assert scene.shape == (40, 40, 426)
    np.testing.assert_array_equal(scene.wavelength_nm, open_scene(tile).wavelength_nm)
    dn = scene.read(ALL, ALL)
    assert (dn.min(), dn.max()) == (0, 14998)
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(dn, np.moveaxis(file.read(), 0, 2))
    assert scene.grid.epsg is None
    assert any("No coordinate reference system" in note for note in scene.notes)


def test_real__idtrees(shared_data: Path, tmp_path: Path) -> None:
    tile = open_scene(shared_data / "neon_sjer_h5" / "NEON_SJER_2017_subset.h5")
    kept = np.delete(tile.wavelength_nm, np.r_[192:210, 283:315, 419:426])
    (tmp_path / "w.csv").write_text("nm\n" + "\n".join(map(str, kept)))
    for path in sorted((shared_data / "neon_idtrees").glob("*.tif")):
        scene = open_scene(path, options=SceneOptions(wavelengths=tmp_path / "w.csv"))
        assert scene.shape == (20, 20, 369)
        assert scene.grid.epsg == 32617
        np.testing.assert_array_equal(scene.wavelength_nm, kept)


def test_real__enmap(shared_data: Path) -> None:
    import rasterio

    for path in sorted((shared_data / "enmap_potsdam" / "images").glob("*.tif"))[::6]:
        scene = open_scene(path)
        with rasterio.open(path) as file:
            direct = np.moveaxis(file.read(), 0, 2)
            assert scene.bounds == list(file.bounds)
        np.testing.assert_array_equal(scene.read(ALL, ALL), direct)
        assert scene.scale_factor == 10000
        assert scene.nodata == (-32768.0,)
        assert scene.grid.epsg == 32633
        nm = scene.wavelength_nm
        assert (nm[0], nm[-1], nm[90], nm[91]) == (418.24, 2445.53, 993.083, 902.257)
        assert scene.bad_bands == tuple(range(129, 135))
        assert (direct[..., 129:135] == -32768).all()


def test_envi_and_geotiff_of_the_same_scene_agree(tmp_path: Path) -> None:
    from rasterio.shutil import copy

    dn = cube()
    envi = write_envi(tmp_path / "s.img", dn, bbl="{1,1,0,1,1,1}", data_ignore_value=-9999)
    copy(envi, tmp_path / "s.tif", driver="GTiff")
    one, two = open_scene(envi), open_scene(tmp_path / "s.tif")
    np.testing.assert_array_equal(one.read(ALL, ALL), two.read(ALL, ALL))
    np.testing.assert_array_equal(one.wavelength_nm, two.wavelength_nm)
    assert one.nodata == two.nodata
