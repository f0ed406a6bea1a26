"""Simulated scenes: the same pixels for ever, in every layout, and NEON at a glance."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from hyperhpc.errors import ConfigError, ResourceError
from hyperhpc.scene import open_scene
from hyperhpc.simulate import materials, write_neon
from hyperhpc.simulate import write_zarr as write
from hyperhpc.simulate.land import Land
from hyperhpc.simulate.scene import Painter, simulate


@pytest.fixture(scope="module")
def scene() -> tuple[Painter, np.ndarray, np.ndarray]:
    painter = Painter(250, 250)
    return (painter, *painter.window(0, 0, 250, 250))


def test_window__equals_the_same_part_of_the_whole() -> None:
    painter = Painter(300, 420, bands=12, seed=5)
    dn, truth = painter.window(0, 0, 300, 420)
    for row, col, height, width in [(0, 0, 1, 1), (127, 100, 3, 200), (250, 255, 50, 165)]:
        part, classes = Painter(300, 420, bands=12, seed=5).window(row, col, height, width)
        place = slice(row, row + height), slice(col, col + width)
        np.testing.assert_array_equal(part, dn[place])
        np.testing.assert_array_equal(classes, truth[place])


def test_window__is_these_very_numbers() -> None:
    """The same on every machine: hashes, exact products, a table for the noise."""
    dn, truth = Painter(140, 50, bands=99, seed=3).window(0, 0, 140, 50)
    found = zlib.crc32(dn.astype("<i2").tobytes()), zlib.crc32(truth.tobytes())
    assert found == (130837689, 119771690)


def test_window__differs_between_seeds() -> None:
    one, two, negative = (Painter(64, 64, 8, seed).window(0, 0, 64, 64)[0] for seed in (1, 2, -1))
    assert (one != two).mean() > 0.5
    assert (one != negative).mean() > 0.5


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(64, 64), (65, 130), (300, 90), (600, 700)])
@pytest.mark.parametrize("fraction", [0.0, 0.02, 0.15, 0.6, 0.9])
def test_land__holds_the_nodata_fraction(shape: tuple[int, int], fraction: float) -> None:
    for seed in (0, 1):
        is_valid = Land(*shape, seed, fraction).window(0, 0, *shape).is_valid
        assert abs(1 - is_valid.mean() - fraction) < 0.02
        assert fraction > 0 or is_valid.all()


def test_land__has_torn_edges() -> None:
    is_valid = Land(400, 400, 0, 0.15).window(0, 0, 400, 400).is_valid
    assert is_valid[150:220, 150:220].all()
    for depth in (is_valid.argmax(0), is_valid[::-1].argmax(0), is_valid.argmax(1)):
        inner = depth[60:-60]
        assert np.ptp(inner) > 8
        assert np.unique(inner).size > 6


def test_scene__nodata_is_whole_spectra(scene: Any) -> None:
    _, dn, truth = scene
    is_empty = dn == materials.NODATA
    np.testing.assert_array_equal(is_empty.all(axis=2), truth == 255)
    np.testing.assert_array_equal(is_empty.any(axis=2), truth == 255)


def test_scene__filler_only_inside_the_water_windows(scene: Any) -> None:
    painter, dn, truth = scene
    window = materials.in_water_window(painter.wavelength_nm)
    inside, outside = dn[truth < 255][:, window], dn[truth < 255][:, ~window]
    assert window.sum() == 54
    assert (inside == 0).mean() == pytest.approx(0.28, abs=0.01)
    assert inside.max() == materials.FILLER_MAX
    assert outside.min() >= 1
    assert outside.max() < 8000


@pytest.mark.slow
def test_scene__kmeans_finds_the_classes(scene: Any) -> None:
    painter, dn, truth = scene
    dn, truth = dn[::2, ::2], truth[::2, ::2]
    nm = painter.wavelength_nm
    good = ~materials.in_water_window(nm) & (nm > 400) & (nm < 2450)
    x, y = dn[truth < 255][:, good].astype(np.float32), truth[truth < 255]
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    labels = KMeans(8, n_init=3, random_state=0).fit_predict(x)
    index = adjusted_rand_score(y, labels)
    print(f"adjusted Rand index {index:.3f}")
    assert index > 0.8
    assert np.unique(y).size == 8


def test_scene__indices_are_plausible(scene: Any) -> None:
    painter, dn, truth = scene
    valid = truth < 255
    refl = dn[valid] / 10000.0
    of = truth[valid]

    def r(nm: float) -> np.ndarray:
        return refl[:, np.abs(painter.wavelength_nm - nm).argmin()]

    def ln(nm: float) -> np.ndarray:
        return np.log(1 / r(nm))

    with np.errstate(divide="ignore", invalid="ignore"):
        index = {
            "ndvi": (r(858.6) - r(648.2)) / (r(858.6) + r(648.2)),
            "cai": 0.5 * (r(2000) + r(2200)) - r(2100),
            "ndli": (ln(1754) - ln(1680)) / (ln(1754) + ln(1680)),
            "ndni": (ln(1510) - ln(1680)) / (ln(1510) + ln(1680)),
            "sipi": (r(800) - r(445)) / (r(800) - r(680)),
            "cri1": 1 / r(510) - 1 / r(550),
            "cri2": 1 / r(510) - 1 / r(700),
            "mrendvi": (r(750) - r(705)) / (r(750) + r(705) - 2 * r(445)),
        }
    for name, value in index.items():
        assert np.isfinite(value).mean() > 0.999, name

    def median(name: str, k: int) -> float:
        return float(np.median(index[name][of == k]))

    assert 0.6 < median("ndvi", materials.GREEN) < 0.9
    assert 0.6 < median("ndvi", materials.SHRUB) < 0.9
    assert 0.2 < median("ndvi", materials.DRY) < 0.45
    assert 0.1 < median("ndvi", materials.BRIGHT) < 0.2
    assert 0.1 < median("ndvi", materials.DARK) < 0.2
    assert median("ndvi", materials.WATER) < 0
    assert median("cai", materials.DRY) > 0.02
    assert median("cai", materials.DARK) < 0
    assert median("ndli", materials.DRY) > 0.04 > median("ndli", materials.BRIGHT)
    assert median("ndni", materials.GREEN) > 0.15 > median("ndni", materials.DRY)
    assert 1 < median("sipi", materials.GREEN) < 1.2 < median("sipi", materials.DRY)
    assert median("cri1", materials.GREEN) > 4 > median("cri1", materials.DRY)
    assert 0.4 < median("mrendvi", materials.GREEN) < 0.7


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_zarr__opens_with_xarray_as_in_the_tutorial(tmp_path: Path, zarr_format: Any) -> None:
    seen: list[tuple[int, int]] = []
    made = simulate(
        tmp_path / "my scene.zarr",
        150,
        90,
        bands=20,
        zarr_format=zarr_format,
        progress=lambda done, total: seen.append((done, total)),
    )
    dn, truth = Painter(150, 90, bands=20).window(0, 0, 150, 90)
    assert seen[-1] == (150 * 90, 150 * 90)
    assert seen == sorted(seen)
    assert len(materials.CLASS_NAMES) == 8
    with xr.open_zarr(made.path, group="reflectance", mask_and_scale=False) as store:
        cube = store["reflectance"]
        assert cube.dims == ("y", "x", "wl")
        assert cube.dtype == np.int16
        assert cube.attrs["scale_factor"] == 0.0001
        assert cube.attrs["_FillValue"] == -9999
        np.testing.assert_array_equal(cube.to_numpy(), dn)
        np.testing.assert_allclose(store["x"], 517000.5 + np.arange(90))
        np.testing.assert_allclose(store["y"], 4525999.5 - np.arange(150))
        assert float(store["wl"][0]) == 381.5
        assert store["spatial_ref"].attrs["GeoTransform"] == "517000.0 1.0 0.0 4526000.0 0.0 -1.0"
    with xr.open_zarr(made.truth_path) as store:
        assert store["true_class"].dtype == np.uint8
        np.testing.assert_array_equal(store["true_class"], truth)
        assert store["true_class"].attrs["flag_meanings"].split() == list(materials.CLASS_NAMES)
    assert sorted(p.name for p in tmp_path.iterdir()) == [made.path.name, made.truth_path.name]


@pytest.mark.parametrize("chunks", ["old", "band"])
def test_neon__holds_the_same_numbers(tmp_path: Path, chunks: Any) -> None:
    made = simulate(
        tmp_path / "tile.h5", 140, 70, bands=30, layout="neon", neon_chunks=chunks, seed=2
    )
    dn, truth = Painter(140, 70, bands=30, seed=2).window(0, 0, 140, 70)
    with h5py.File(made.path) as file:
        cube = file["CPER/Reflectance/Reflectance_Data"]
        np.testing.assert_array_equal(cube[:], dn)
        assert cube.chunks == ((32, 63, 27) if chunks == "old" else (140, 70, 1))
        assert cube.compression == "gzip"
        assert cube.attrs["Scale_Factor"] == 10000
        assert cube.attrs["Spatial_Extent_meters"].tolist() == [517000, 517070, 4525860, 4526000]
        meta = file["CPER/Reflectance/Metadata"]
        assert meta["Coordinate_System/EPSG Code"][()] == b"32613"
        assert meta["Coordinate_System/Map_Info"][()].startswith(b"UTM,  1.000,  1.000,  ")
        assert meta["Spectral_Data/Wavelength"].dtype == np.float32
        assert meta["to-sensor_zenith_angle"].shape == (140, 70)
        images = meta["Ancillary_Imagery"]
        assert images["Weather_Quality_Indicator"].shape == (140, 70, 3)
        lines = images["Data_Selection_Index"]
        np.testing.assert_array_equal(lines[:] == -1, truth == 255)
        assert lines[:].max() < len(lines.attrs["Data_Files"].split(",")) == len(meta["Logs"])
        water = images["Haze_Cloud_Water_Map"][:] == 17
        np.testing.assert_array_equal(water, truth == materials.WATER)
    with xr.open_zarr(made.truth_path) as store:
        np.testing.assert_array_equal(store["true_class"], truth)


def test_neon__bidirectional_fills_the_windows(tmp_path: Path) -> None:
    made = simulate(tmp_path / "t.h5", 70, 70, bands=60, layout="neon", bidirectional=True)
    dn, truth = Painter(70, 70, bands=60).window(0, 0, 70, 70)
    window = materials.in_water_window(materials.band_centres(60))
    dn[:, :, window] = np.where(truth == 255, -9999, -100)[..., None]
    with h5py.File(made.path) as file:
        np.testing.assert_array_equal(file["CPER/Reflectance/Reflectance_Data"][:], dn)
        meta = file["CPER/Reflectance/Metadata"]
        assert meta["Spectral_Data/Wavelength"].dtype == np.float64
        assert meta["Ancillary_Imagery/Acquisition_Date"].dtype == np.int32
        assert "to-sensor_Zenith_Angle" in meta


@pytest.mark.parametrize("layout", ["zarr", "neon"])
def test_simulate__is_read_back_by_our_own_readers(tmp_path: Path, layout: Any) -> None:
    made = simulate(tmp_path / "scene", 70, 80, bands=40, layout=layout)
    scene = open_scene(made.path)
    dn, _ = Painter(70, 80, bands=40).window(0, 0, 70, 80)
    np.testing.assert_array_equal(scene.read(slice(0, 70), slice(0, 80)), dn)
    assert scene.scale_factor == 10000
    assert scene.nodata == (-9999.0,)
    assert scene.grid.epsg == 32613
    assert scene.bounds == [517000, 4525930, 517080, 4526000]
    assert scene.bad_band_windows_nm == materials.WATER_WINDOWS_NM


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"rows": 0}, "0 x 8"),
        ({"bands": 1}, "1 bands"),
        ({"nodata_fraction": 0.95}, "0.95"),
        ({"nodata_fraction": float("nan")}, "nan"),
        ({"layout": "envi"}, "envi"),
        ({"zarr_format": 1}, "format 1"),
        ({"layout": "neon", "neon_chunks": "new"}, "new"),
        ({"layout": "neon", "tiles": (2, 9)}, "2 x 9 tiles"),
        ({"layout": "neon", "tiles": (0, 2)}, "0 x 2 tiles"),
        (
            {"layout": "neon", "tiles": (2, 2), "overlap": 4},
            "overlap of 4 pixels is impossible; it must be 0 to 3",
        ),
        ({"layout": "neon", "tiles": (2, 2), "overlap": -1}, "overlap of -1 pixels"),
        ({"tiles": (2, 2)}, "need the layout neon"),
        ({"bidirectional": True}, "need the layout neon"),
    ],
)
def test_simulate__refuses(tmp_path: Path, change: dict[str, Any], word: str) -> None:
    wanted = {"rows": 8, "cols": 8, "bands": 8} | change
    with pytest.raises(ConfigError, match=word) as caught:
        simulate(tmp_path / "s", **wanted)
    assert caught.value.hint
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["s", "s.truth.zarr"])
def test_simulate__never_overwrites(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(ConfigError, match="exists"):
        simulate(tmp_path / "s", 8, 8, bands=8)
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError("disk full")])
@pytest.mark.parametrize("layout", ["zarr", "neon", "band"])
def test_simulate__leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Any, layout: str
) -> None:
    def fail(*args: object) -> None:
        raise error

    monkeypatch.setattr(write.ZarrWriter, "put", fail)
    monkeypatch.setattr(write_neon, "_deflate", fail)
    options: dict[str, Any] = {"layout": "neon", "neon_chunks": "band"}
    options = options if layout == "band" else {"layout": layout}
    with pytest.raises(ResourceError if isinstance(error, OSError) else error):
        simulate(tmp_path / "s", 70, 70, bands=8, **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1)])
def test_simulate__takes_the_smallest_scenes(tmp_path: Path, shape: tuple[int, int]) -> None:
    for layout in ("zarr", "neon"):
        made = simulate(tmp_path / layout, *shape, bands=2, layout=layout, nodata_fraction=0)  # type: ignore[arg-type]
        with xr.open_zarr(made.truth_path) as store:
            assert (store["true_class"] < 255).all()
