"""The public functions, used as a notebook would."""

from __future__ import annotations

import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import dask
import h5py
import numpy as np
import pytest
import rioxarray  # noqa: F401 - gives xarray its .rio
import xarray as xr

import hyperhpc
from hyperhpc.errors import ConfigError, SceneError
from hyperhpc.simulate.scene import simulate
from run_case import RunCase

ROOT = Path(__file__).resolve().parents[2]
#: What made the run of the fixture, as options of hyperhpc.run.
OPTIONS: dict = {"points": [(517100.5, 4525919.5)]}


@pytest.fixture
def cube(run_case: RunCase) -> xr.DataArray:
    return hyperhpc.open_scene(run_case.scene)


# --- names ----------------------------------------------------------------------------


def test_names__are_no_packages_and_all_there() -> None:
    """Importing a package sets it as an attribute: see docs/decisions/0003."""
    packages = {module.name for module in pkgutil.iter_modules(hyperhpc.__path__)}
    assert not packages & set(hyperhpc.__all__)
    for name in hyperhpc.__all__:
        assert callable(getattr(hyperhpc, name))
        assert getattr(hyperhpc, name).__doc__
        assert name in dir(hyperhpc)
    with pytest.raises(AttributeError, match="'persist'"):
        hyperhpc.persist  # noqa: B018


def test_import__is_light() -> None:
    script = "import hyperhpc, sys; dir(hyperhpc); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & {"numpy", "xarray", "dask", "zarr", "sklearn", "matplotlib", "click"}


# --- scenes and spectra ---------------------------------------------------------------


def test_open_scene__is_lazy_and_says_where_it_is_from(
    cube: xr.DataArray, run_case: RunCase
) -> None:
    assert cube.dims == ("y", "x", "wavelength")
    assert dask.is_dask_collection(cube)
    assert cube.dtype == np.int16
    assert cube.attrs["path"] == str(run_case.scene)
    assert cube.attrs["group"] == "reflectance"
    np.testing.assert_array_equal(cube[5:9, 7:11], run_case.dn[5:9, 7:11])


def test_open_scene__missing(tmp_path: Path) -> None:
    with pytest.raises(SceneError, match="does not exist"):
        hyperhpc.open_scene(tmp_path / "none.zarr")


@pytest.mark.parametrize("from_path", [True, False])
def test_spectrum__of_points(from_path: bool, cube: xr.DataArray, run_case: RunCase) -> None:
    points = [(517100.5, 4525919.5), (517090.2, 4525930.9)]
    found = hyperhpc.spectrum(run_case.scene if from_path else cube, points)
    assert found.dims == ("point", "wavelength")
    assert (found["row"].values.tolist(), found["col"].values.tolist()) == ([80, 69], [100, 90])
    np.testing.assert_array_equal(found[0], run_case.dn[80, 100] / 10000)
    np.testing.assert_array_equal(found["wavelength"], run_case.wavelength_nm)
    linear = hyperhpc.spectrum(cube, points, method="linear")
    expected = cube.astype(float).interp(x=517090.2, y=4525930.9) / 10000
    np.testing.assert_allclose(linear[1], expected, rtol=1e-12)


def test_spectrum__of_no_point_and_of_one_outside(cube: xr.DataArray) -> None:
    assert hyperhpc.spectrum(cube, []).shape == (0, 426)
    with pytest.raises(ConfigError, match="Point nan,0 lies outside"):
        hyperhpc.spectrum(cube, [(np.nan, 0.0)])


def test_group__is_remembered(tmp_path: Path) -> None:
    """A store of two cubes: the array knows which of them it is."""
    for name in ("one", "two"):
        simulate(tmp_path / f"{name}.zarr", 20, 20, bands=12, seed=len(name))
        opened = xr.open_zarr(tmp_path / f"{name}.zarr", group="reflectance", mask_and_scale=False)
        scaled = opened.load() + (7 if name == "two" else 0)
        scaled.drop_encoding().to_zarr(tmp_path / "both.zarr", group=name, zarr_format=2)
    with pytest.raises(SceneError, match="2 cubes"):
        hyperhpc.open_scene(tmp_path / "both.zarr")
    cube = hyperhpc.open_scene(tmp_path / "both.zarr", group="two")
    assert hyperhpc.indices(cube, [], formulas={"one": "R(1155) / R(1155)"}).shape[0] == 1


@pytest.mark.parametrize("from_path", [True, False])
def test_reflectance__is_lazy_float32_with_nan(
    from_path: bool, cube: xr.DataArray, run_case: RunCase
) -> None:
    found = hyperhpc.reflectance(run_case.scene if from_path else cube)
    assert dask.is_dask_collection(found)
    assert found.dtype == np.float32
    assert found.dims == cube.dims
    assert set(found.coords) == set(cube.coords)
    assert found.rio.crs.to_epsg() == 32613
    expected = np.where(run_case.dn == -9999, np.nan, run_case.dn / 10000).astype(np.float32)
    np.testing.assert_array_equal(found, expected)


def test_reflectance__of_any_part(cube: xr.DataArray, run_case: RunCase) -> None:
    part = cube.isel(y=slice(40, 90, 7), x=3).transpose("wavelength", "y")
    dn = run_case.dn[40:90:7, 3].T
    expected = np.where(dn == -9999, np.nan, dn / 10000)
    np.testing.assert_allclose(hyperhpc.reflectance(part), expected, rtol=1e-6)
    one = hyperhpc.reflectance(cube.sel(wavelength=857, method="nearest").load())
    assert not dask.is_dask_collection(one)
    band = run_case.dn[:, :, int(np.abs(run_case.wavelength_nm - 857).argmin())]
    np.testing.assert_allclose(one, np.where(band == -9999, np.nan, band / 10000), rtol=1e-6)


def test_reflectance__leaves_out_what_is_missing_in_the_windows_only(tmp_path: Path) -> None:
    how: dict = {"bands": 60, "layout": "neon", "bidirectional": True}
    path = simulate(tmp_path / "t.h5", 70, 70, **how).path
    cube = hyperhpc.open_scene(path)
    dn, nm = cube.values, cube["wavelength"].values
    is_window = ((nm >= 1340) & (nm <= 1445)) | ((nm >= 1790) & (nm <= 1955))
    is_missing = (dn == -9999) | ((dn == -100) & is_window)
    assert (dn == -100).any()
    expected = np.where(is_missing, np.nan, dn / 10000)
    np.testing.assert_allclose(hyperhpc.reflectance(cube), expected, rtol=1e-6)
    window = cube.isel(wavelength=int(np.flatnonzero(is_window)[0]))
    assert np.isnan(hyperhpc.reflectance(window)).all()
    np.testing.assert_array_equal(cube["is_good_band"], ~is_window)


def test_reflectance__refuses_what_holds_no_digital_numbers(cube: xr.DataArray) -> None:
    with pytest.raises(ConfigError, match="holds float64; digital numbers of this scene are int16"):
        hyperhpc.reflectance(cube.astype(float))
    with pytest.raises(ConfigError, match="does not say which scene"):
        hyperhpc.reflectance(xr.zeros_like(cube).drop_attrs())


# --- indices --------------------------------------------------------------------------


def same(found: xr.DataArray, expected: np.ndarray) -> None:
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found.values.view("u4"), np.asarray(expected).view("u4"))


def test_indices__lazy_and_the_bits_of_the_run(cube: xr.DataArray, run_case: RunCase) -> None:
    found = hyperhpc.indices(cube)
    assert dask.is_dask_collection(found)
    assert found["index"].values.tolist() == run_case.results["index"].values.tolist()
    assert not {"scale_factor", "nodata"} & set(found.attrs)
    same(found, run_case.results["indices"].values)


def test_indices__of_windows(cube: xr.DataArray, run_case: RunCase) -> None:
    expected = run_case.results["indices"].sel(index=["cai", "ndvi"]).values
    for window in (
        {"y": slice(40, 90), "x": slice(60, 130)},
        {"y": slice(None, None, 7), "x": [5, 3, 150]},
        {"y": [80], "x": [100]},
    ):
        found = hyperhpc.indices(cube.isel(window), ["cai", "ndvi"])
        picked = expected[:, window["y"], :][:, :, window["x"]]
        same(found, np.ascontiguousarray(picked))
    pixel = hyperhpc.indices(cube.isel(y=80, x=100).load(), "ndvi")
    assert pixel.dims == ("index",)
    assert pixel.values[0] == expected[1, 80, 100]
    turned = hyperhpc.indices(cube.transpose("wavelength", "x", "y"), "ndvi")
    same(turned.transpose("index", "y", "x").compute(), expected[1:])


def test_indices__own_formula_and_path(run_case: RunCase) -> None:
    found = hyperhpc.indices(run_case.scene, [], formulas={"simple": "R(858.6) / R(648.2)"})
    nir, red = (
        run_case.dn[:, :, np.abs(run_case.wavelength_nm - nm).argmin()] / 10000.0
        for nm in (858.6, 648.2)
    )
    expected = np.where(run_case.is_valid, nir / red, np.nan).astype(np.float32)
    np.testing.assert_array_equal(found.values[0], expected)


def test_indices__refuse_what_they_cannot_know(cube: xr.DataArray) -> None:
    for broken, part in (
        (cube / 10000, "float64"),
        (cube.isel(wavelength=slice(0, 100)), "lost bands"),
        (cube.isel(wavelength=50), "lost bands"),
        (cube.drop_attrs(), "which scene"),
    ):
        with pytest.raises(ConfigError, match=part) as caught:
            hyperhpc.indices(broken)
        assert caught.value.hint
    with pytest.raises(ConfigError, match="'nbr'"):
        hyperhpc.indices(cube, "nbr")


# --- runs -----------------------------------------------------------------------------


def test_run__of_a_complete_run_opens_it(
    run_case: RunCase, capfd: pytest.CaptureFixture[str]
) -> None:
    found = hyperhpc.run(run_case.scene, run_case.out, **OPTIONS)
    assert capfd.readouterr() == ("", "")
    results = found.results.load()
    assert results.cluster.dtype == np.uint8
    assert (results.cluster.rio.nodata, np.isnan(results.indices.rio.nodata)) == (255, True)
    xr.testing.assert_identical(results, run_case.results)
    assert found.model == run_case.model
    assert found.run["complete"] is True
    assert set(found.clusters["models"]) == {"lloyd", "minibatch"}
    assert found.levels == [1, 4]
    np.testing.assert_array_equal(found.overview(1)["indices"], run_case.results["indices"])
    assert found.overview(4)["quicklook"].shape[1:] == (40, 50)
    with pytest.raises(ConfigError, match="level 3") as caught:
        found.overview(3)
    assert caught.value.hint == "The levels of this run are 1 4"


def test_run__bad_options(run_case: RunCase, tmp_path: Path) -> None:
    for options, part in (
        ({"clutsers": 3}, "'clutsers' is not an option"),
        ({"clusters": 0}, "clusters = 0"),
        ({"points": [(0, 0)]}, "Point 0,0 lies outside"),
    ):
        with pytest.raises(ConfigError, match=part):
            hyperhpc.run(run_case.scene, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_open_run__of_no_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no run"):
        hyperhpc.open_run(tmp_path)


@pytest.mark.slow
def test_figures__by_name(run_case: RunCase) -> None:
    from matplotlib import pyplot as plt

    found = hyperhpc.figures(run_case.out)
    assert found
    assert all(figure.get_axes() for figure in found.values())
    assert not plt.get_fignums(), "figures of pyplot would stay in memory"


@pytest.mark.docs
@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")  # rioxarray
def test_readme__python_examples(
    run_case: RunCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One after the other, with the options of the run at hand."""
    section = (ROOT / "docs" / "python.md").read_text("utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    code = "\n".join(blocks)
    assert set(re.findall(r"hyperhpc\.(\w+)\(", code)) == set(hyperhpc.__all__)
    assert "clusters=6" in code
    (tmp_path / "scene.zarr").symlink_to(run_case.scene)
    (tmp_path / "out").symlink_to(run_case.out)
    monkeypatch.chdir(tmp_path)
    names: dict = {"OPTIONS": OPTIONS}
    exec(compile(code.replace("clusters=6", "**OPTIONS"), "docs/python.md", "exec"), names)
    assert names["labels"].shape == run_case.is_valid.shape
    assert np.shape(names["centres"]) == (8, run_case.good.sum())
    assert names["pictures"]
    assert names["spectra"].shape == (1, 426)
    assert names["green"]["index"].values.tolist() == ["green"]
    assert float(names["ndvi"].max()) <= 1


def test_open_scene__takes_the_options_of_the_commands(tmp_path: Path) -> None:
    """And whatever is made of the cube keeps to them."""
    folder = simulate(tmp_path / "tiles", 40, 50, layout="neon", tiles=(2, 1)).path
    for tile in folder.iterdir():
        with h5py.File(tile, "r+") as file:
            shadow = file["CPER/Reflectance/Metadata/Ancillary_Imagery/Cast_Shadow"]
            shadow[3:6, 20:30] = 1
    cube = hyperhpc.open_scene(folder, mask=["shadow"], overlap="last")
    plain = hyperhpc.open_scene(str(folder))
    assert cube.shape == plain.shape == (40, 50, 426)
    hidden = (cube == -9999).all("wavelength") & ~(plain == -9999).all("wavelength")
    assert hidden.any()
    row, col = (int(numbers[0]) for numbers in np.nonzero(hidden.values))
    point = [(float(cube.x[col]), float(cube.y[row]))]
    with pytest.raises(ConfigError, match="no-data"):
        hyperhpc.spectrum(cube, point)
    assert not np.isnan(hyperhpc.spectrum(plain, point)).all()
    with pytest.raises(ConfigError, match="colour: no such option"):
        hyperhpc.open_scene(folder, colour="red")
    with pytest.raises(ConfigError, match=r"overlap = 'best'"):
        hyperhpc.open_scene(folder, overlap="best")
