"""Bad input ends with one message, the right exit code, and nothing that looks finished."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

from cli_case import Outcome, call, check_refused, options_in, spawn
from hyperhpc.scene.formats.zarr_chunks import EMPTY_CHUNKS
from hyperhpc.simulate.scene import simulate

STARTED = 77  # of the fixture no_workers: all checks were passed
pytestmark = pytest.mark.usefixtures("no_workers")  # but programs have them


def refuse_run(scene: Path, folder: Path, *options: str) -> Outcome:
    """A run that must not leave an OUT behind."""
    outcome = call("run", scene, folder / "out", *options)
    assert not (folder / "out").exists()
    return outcome


# --- scenes ---------------------------------------------------------------------------


def write_cube(path: Path, wl: np.ndarray | None) -> None:
    """A small Zarr cube in the tutorial's layout, with these wavelengths if any."""
    coordinates: dict = {"y": 4000 - np.arange(8) - 0.5, "x": 100 + np.arange(9) + 0.5}
    if wl is not None:
        coordinates["wl"] = wl
    n_bands = 20 if wl is None else len(wl)
    cube = (("y", "x", "wl"), np.ones((8, 9, n_bands), dtype=np.int16))
    xr.Dataset({"reflectance": cube}, coordinates).to_zarr(
        path, group="reflectance", zarr_format=2, consolidated=False
    )


def make_missing(path: Path) -> None:
    pass


def make_no_cube(path: Path) -> None:
    zarr.open_group(path, mode="w").create_array("flat", shape=(4, 5), dtype="int16")


def make_no_wavelengths(path: Path) -> None:
    write_cube(path, None)


def make_far_micrometres(path: Path) -> None:
    write_cube(path, np.linspace(0.4, 4.5, 20))


def make_short_micrometres(path: Path) -> None:
    write_cube(path, np.linspace(0.1, 2.5, 20))


def make_truncated_hdf5(path: Path) -> None:
    whole = path.with_name("whole.h5")
    simulate(whole, 20, 20, bands=30, layout="neon")
    data = whole.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def make_text(path: Path) -> None:
    path.write_text("wavelength,reflectance\n", "utf-8")


def make_empty(path: Path) -> None:
    path.touch()


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (make_missing, "does not exist"),
        (make_no_cube, "no array in the store has three dimensions"),
        (make_no_wavelengths, "no wavelength"),
        (make_far_micrometres, "outside 300-3000 nm"),
        (make_short_micrometres, "wavelength 100 nm is outside 300-3000 nm"),
        (make_truncated_hdf5, "truncated"),
        (make_text, "HDF5, GeoTIFF, ENVI"),
        (make_empty, "empty file"),
    ],
)
@pytest.mark.parametrize("command", ["info", "spectrum", "run"])
def test_scene__unreadable_is_4(make, part: str, command: str, tmp_path: Path) -> None:
    path = tmp_path / "a scene"
    make(path)
    words: list = {
        "info": ["info", path, "--json"],
        "spectrum": ["spectrum", path, "--x", "1", "--y", "2"],
        "run": ["run", path, tmp_path / "out"],
    }[command]
    before = sorted(tmp_path.iterdir())
    check_refused(call(*words), 4, str(path), part)
    assert sorted(tmp_path.iterdir()) == before


def test_scene__unknown_group_names_those_there_are(small_scene: Path, tmp_path: Path) -> None:
    outcome = refuse_run(small_scene, tmp_path, "--group", "radiance")
    check_refused(outcome, 4, "'radiance'", "reflectance")


# --- options --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "options", "parts"),
    [
        (3, "--bbox 0,0,1,1", ["0,0,1,1", "517000,4525904,517112,4526000"]),
        (3, "--bbox 517100,4525990,517000,4525910", ["XMIN < XMAX"]),
        (2, "--bbox nan,0,1,1", ["NaN"]),
        (2, "--bbox 1,2,3", ["'1,2,3'", "4 numbers"]),
        (2, "--bbox a,b,c,d", ["'a,b,c,d'"]),
        (3, "--point 0,0", ["Point 0,0", "517000 to 517112"]),
        (3, "--point 517112,4525950", ["outside"]),
        (3, "--point 517000.5,4525999.5", ["row 0, column 0", "no-data"]),
        (2, "--point nan,nan", ["NaN"]),
        (3, "--point inf,4525950", ["inf"]),
        (2, "--point 517050", ["2 numbers"]),
        (3, "--indices nbr", ["'nbr'", "ndvi cai"]),
        (3, "--indices ndvi,ndvi", ["twice"]),
        (3, "--formula ndvi=R(550)", ["twice"]),
        (3, "--formula far=R(550)/R(2700)", ["far", "2700 nm", "2510.1 nm", "5 nm"]),
        (3, "--formula bad=R(550)+open('x')", ["not arithmetic", "'open'"]),
        (3, "--formula bad=", ["not arithmetic"]),
        (3, "--formula flat=3", ["reads no band"]),
        (3, "--formula =R(550)", ["letters"]),
        (2, "--formula R(550)", ["NAME=EXPR"]),
        (2, "--formula a=R(550) --formula a=R(660)", ["'a' is given twice"]),
        (3, "--drop 300-2600", ["426 bands", "381.5-2510.1 nm"]),
        (3, "--drop 500-400", ["500-400"]),
        (2, "--drop 500", ["LO-HI"]),
        (3, "--clusters 0", ["clusters = 0", "1 to 254"]),
        (3, "--clusters 256", ["1 to 254"]),
        (3, "--clusters -1", ["1 to 254"]),
        (2, "--clusters abc", ["'abc'"]),
        (3, "--stride 0", ["stride = 0", "at least 1"]),
        (3, "--workers 0", ["workers = 0"]),
        (3, "--threads-per-worker 0", ["threads_per_worker = 0"]),
        (2, "--memory-per-worker lots", ["'lots'"]),
        (2, "--memory-per-worker 0", ["more than 0"]),
        (5, "--memory-per-worker 100MiB", ["100MiB", "MiB are needed"]),
        (5, "--memory-per-worker 90000GiB", ["90000.0 GiB", "this machine has"]),
        (5, "--workers 100000", ["100000 workers"]),
        (3, "--seed -1", ["seed = -1"]),
        (3, "--seed 4294967296", ["0 to 4294967295"]),
        (2, "--models kmeans", ["'kmeans'", "lloyd, minibatch"]),
        (2, "--engine spark", ["'spark'", "dask-ml"]),
        (2, "--launcher slurm", ["'slurm'", "local"]),
        (3, "--clusters 0 --stride 0", ["clusters = 0", "stride = 0"]),
        (2, "--colour red", ["--colour"]),
    ],
)
def test_run__bad_option(
    code: int, options: str, parts: Sequence[str], small_scene: Path, tmp_path: Path
) -> None:
    check_refused(refuse_run(small_scene, tmp_path, *options.split()), code, *parts)


@pytest.mark.parametrize(
    "options", ["--workers 100000", "--memory-per-worker 90000GiB", "--memory-per-worker 1MiB"]
)
def test_run__hint_works_when_typed(options: str, small_scene: Path, tmp_path: Path) -> None:
    words = options.split()
    hint = refuse_run(small_scene, tmp_path, *words).hint
    typed = call("run", small_scene, tmp_path / "out", *words, *options_in(hint))
    assert typed.code == STARTED, f"{hint}: {typed.err}"


def test_run__index_by_name_whose_band_is_far(tmp_path: Path) -> None:
    simulate(tmp_path / "few.zarr", 20, 20, bands=60)
    outcome = refuse_run(tmp_path / "few.zarr", tmp_path, "--indices", "ndvi")
    check_refused(outcome, 3, "index ndvi", "648.2 nm", "634.0 nm")


def test_run__seed_compat_on_400_bands(tmp_path: Path) -> None:
    simulate(tmp_path / "few.zarr", 20, 20, bands=400)
    outcome = refuse_run(tmp_path / "few.zarr", tmp_path, "--seed-compat")
    check_refused(outcome, 3, "426 bands", "400")


@pytest.mark.parametrize(
    ("estimator", "part"),
    [
        ("sklearn.cluster", "module:Class"),
        ("no_such_module:Class", "no_such_module"),
        (".relative:Class", "relative"),
        ("sklearn.cluster:Nothing", "Nothing"),
        ("sklearn.cluster:DBSCAN", "fit and predict"),
        ("math:sin", "fit and predict"),
        ("sklearn.pipeline:Pipeline", "without arguments"),
        ("sklearn.linear_model:LinearRegression", "regressor"),
        ("sklearn.linear_model:SGDClassifier", "classifier"),
        ("sklearn.ensemble:IsolationForest", "outlier_detector"),
    ],
)
def test_run__bad_estimator(estimator: str, part: str, small_scene: Path, tmp_path: Path) -> None:
    outcome = refuse_run(small_scene, tmp_path, "--estimator", estimator)
    check_refused(outcome, 3, estimator, part)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (None, ["cannot be read"]),
        ("clusters = = 3", ["not valid TOML"]),
        ("clutsers = 3\nstride = 'x'", ["'clutsers'", "stride", "The options are address"]),
        ("[index]\nbad = 'R('", ["not arithmetic"]),
    ],
)
def test_run__bad_config_file(
    text: str | None, parts: Sequence[str], small_scene: Path, tmp_path: Path
) -> None:
    file = tmp_path / "options.toml"
    if text is not None:
        file.write_text(text, "utf-8")
    check_refused(refuse_run(small_scene, tmp_path, "--config", str(file)), 3, *parts)


# --- found by workers -----------------------------------------------------------------


def run_for_real(scene: Path, folder: Path, *options: str, is_kept: bool = False) -> Outcome:
    """A run with workers, as a program: whatever they print counts too."""
    small = ("--workers", "2", "--memory-per-worker", "1GiB")
    outcome = spawn("run", scene, folder / "out", *small, *options)
    assert (folder / "out").exists() == is_kept
    unexpected = [
        line
        for line in outcome.err.splitlines()
        if not line.startswith(("error: ", "  hint: ")) and not line.endswith(" ...")
    ]
    assert not unexpected, outcome.err
    return outcome


@pytest.mark.e2e
def test_run__truncated_chunk_in_the_middle(tmp_path: Path) -> None:
    scene = tmp_path / "scene.zarr"
    simulate(scene, 300, 300, bands=30, zarr_format=2)
    chunk = scene / "reflectance" / "reflectance" / "2.2.0"
    chunk.write_bytes(chunk.read_bytes()[:5000])
    outcome = run_for_real(scene, tmp_path, is_kept=True)  # what is finished may be gone on with
    check_refused(outcome, 4, str(scene), "2.2.0", "5000")


@pytest.mark.e2e
def test_run__no_valid_pixel(tmp_path: Path) -> None:
    scene = tmp_path / "a scene.zarr"
    simulate(scene, 64, 64, bands=30)
    shutil.rmtree(scene / "reflectance" / "every4th")
    array = zarr.open_array(scene / "reflectance" / "reflectance", mode="r+")
    array[:] = -9999
    del array.attrs[EMPTY_CHUNKS]
    outcome = run_for_real(scene, tmp_path)
    check_refused(outcome, 4, "no valid pixel", "among 4096", f"info '{scene}'")


@pytest.mark.e2e
def test_run__fewer_valid_pixels_than_clusters(tmp_path: Path) -> None:
    simulate(tmp_path / "scene.zarr", 64, 64, bands=30, nodata_fraction=0.0)
    outcome = run_for_real(tmp_path / "scene.zarr", tmp_path, "--stride", "32")
    needs = "4 valid sampled pixels are too few for 8 clusters, which need 40: 5 per cluster"
    check_refused(outcome, 3, needs, "Give --stride 1")


@pytest.mark.e2e
def test_run__data_between_the_sampled_pixels(tmp_path: Path) -> None:
    scene = tmp_path / "scene.zarr"
    simulate(scene, 64, 64, bands=30, nodata_fraction=0.0)
    shutil.rmtree(scene / "reflectance" / "every4th")
    array = zarr.open_array(scene / "reflectance" / "reflectance", mode="r+")
    values = array[:]
    values[::4, ::4] = -9999
    array[:] = values
    outcome = run_for_real(scene, tmp_path, "--stride", "4")
    check_refused(outcome, 3, "0 valid sampled", "8 clusters", "--stride 1")
