"""Hints that are commands: they are typed as they stand, on the input that caused them.

The hint for rotated scenes is typed in tests/scene/test_warp.py.
"""

from __future__ import annotations

import gzip
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import click
import h5py
import numpy as np
import pytest
import xarray as xr
import zarr

import hyperhpc
from cli_case import call, program
from hyperhpc.cli.commands import cli
from hyperhpc.compute.selection import reflectance_converter
from hyperhpc.config import RunConfig, SceneOptions
from hyperhpc.errors import ConfigError, HyperhpcError
from hyperhpc.scene import Scene, open_scene
from hyperhpc.simulate import materials
from hyperhpc.tools.choose_k import prepare_trial
from raster_case import MAP_INFO, centres, cube, listed, write_envi, write_tiff
from run_case import RunCase

SOURCES = Path(hyperhpc.__file__).parent
#: Programs of others that hints name, each typed by a test here.
OTHERS = {"gdal_translate", "gzip", "sed"}
ABOUT: dict[str, Any] = {
    "map_info": MAP_INFO,
    "reflectance_scale_factor": 5000,
    "data_ignore_value": -50,
    "bbl": listed([1, 0, 1, 1, 0, 1]),
    "fwhm": listed([5.5] * 6),
}


def same_scene(found: Scene, expected: Scene) -> None:
    """Values and all metadata that give them a meaning are equal."""
    window = slice(0, expected.shape[0]), slice(0, expected.shape[1])
    np.testing.assert_array_equal(found.read(*window), expected.read(*window))
    for name in ("scale_factor", "nodata", "bad_bands", "bad_band_windows_nm", "bounds", "dtype"):
        assert getattr(found, name) == getattr(expected, name), name
    assert found.grid.epsg == expected.grid.epsg
    np.testing.assert_array_equal(found.wavelength_nm, expected.wavelength_nm)
    np.testing.assert_array_equal(found.fwhm_nm, expected.fwhm_nm)  # type: ignore[arg-type]


def test_hint__unpacks_a_compressed_envi_file(tmp_path: Path) -> None:
    folder = tmp_path / "a folder"
    folder.mkdir()
    expected = open_scene(write_envi(tmp_path / "plain", cube(), **ABOUT))
    path = write_envi(folder / "s.img", cube(), **ABOUT, file_compression=1)
    path.write_bytes(gzip.compress(path.read_bytes()))
    refused = call("info", path)
    assert refused.code == 4
    assert "is compressed" in refused.error
    command = refused.hint.partition(": ")[2]
    subprocess.run(command, shell=True, check=True, timeout=60)
    same_scene(open_scene(folder / "s_unpacked.img"), expected)


def test_hint__writes_a_raster_of_esri_as_envi(tmp_path: Path) -> None:
    if not shutil.which("gdal_translate"):
        pytest.skip("gdal_translate is not installed (gdal-bin)")
    dn = cube()
    path = write_envi(tmp_path / "s.bil", dn, header=tmp_path / "s.hdr")
    lines = ("BYTEORDER I", "LAYOUT BIL", "NROWS 5", "NCOLS 7", "NBANDS 6", "NBITS 16",
             "PIXELTYPE SIGNEDINT", "NODATA -50", "ULXMAP 500001", "ULYMAP 4000099", "XDIM 2",
             "YDIM 2")  # fmt: skip
    (tmp_path / "s.hdr").write_text("\n".join(lines), "utf-8")
    refused = call("info", path)
    assert "not an ENVI header" in refused.error
    words = shlex.split(refused.hint.partition(": ")[2])
    subprocess.run(words, check=True, cwd=tmp_path, capture_output=True, timeout=60)
    (tmp_path / "w.txt").write_text("\n".join(map(str, centres(6))), "utf-8")
    options = SceneOptions(wavelengths=tmp_path / "w.txt")
    found = open_scene(tmp_path / "s_envi.img", options=options)
    np.testing.assert_array_equal(found.read(slice(None), slice(None)), dn)
    assert (found.nodata, found.bounds) == ((-50.0,), [500000, 4000090, 500014, 4000100])


def test_hint__brings_a_mosaic_to_one_grid(tmp_path: Path) -> None:
    from rasterio import Affine

    (tmp_path / "tiles").mkdir()
    write_tiff(tmp_path / "tiles" / "a.tif", cube(), nodata=-1)
    other = Affine(3, 0, 500001, 0, -3, 4000100)
    write_tiff(tmp_path / "tiles" / "b.tif", cube(), nodata=-1, transform=other)
    refused = call("info", tmp_path / "tiles")
    assert refused.code == 4
    words = shlex.split(refused.hint.partition(": ")[2])
    assert words == ["--resample", "nearest"]
    assert call("info", tmp_path / "tiles", *words).code == 0


@pytest.mark.e2e
def test_hint__stores_a_scene_by_pixels(tmp_path: Path) -> None:
    """choose-k refuses a scene of images, one per band; the ingest it names keeps everything."""
    path, nm = tmp_path / "images.zarr", materials.band_centres(40)
    group = zarr.create_group(path)
    dn = np.random.default_rng(0).integers(100, 5000, (1200, 1200, 40)).astype("int16")
    array = group.create_array(
        "reflectance", shape=dn.shape, chunks=(1200, 1200, 1), dtype="int16",
        dimension_names=("y", "x", "wavelength"),
        attributes={"scale_factor": 0.0002, "_FillValue": 150, "bad_bands": [3]},
    )  # fmt: skip
    array[...] = dn
    for name, values in (("y", np.arange(1200.0, 0, -1)), ("x", np.arange(1200.0))):
        group.create_array(name, data=values, dimension_names=(name,))
    (tmp_path / "w.txt").write_text("\n".join(map(str, nm)), "utf-8")
    config = RunConfig(
        scene=path, out=tmp_path, wavelengths=tmp_path / "w.txt", scale=4000,
        memory_per_worker="500MiB",
    )  # fmt: skip
    with pytest.raises(ConfigError, match="stored band by band") as caught:
        prepare_trial(config, [2, 3])
    hint = str(caught.value.hint)
    hint = hint[hint.index("hyperhpc ingest") :]
    made = typed([*shlex.split(hint)[1:], "--memory-per-worker", "1GiB"], tmp_path)
    assert made.returncode == 0, made.stderr
    options = SceneOptions(wavelengths=tmp_path / "w.txt", scale=4000)
    same_scene(open_scene(tmp_path / "scene.zarr"), open_scene(path, options=options))


def typed(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(program(*words), capture_output=True, text=True, cwd=folder, timeout=300)


def test_as_words__are_the_options_again() -> None:
    options = SceneOptions(
        group="a b", scale=0.1, nodata=(-9999, 3.4e38), mask=("weather", "cloud"), layer="x y",
        resample_bands=True, resample="nearest", bands="intersect", aoi=Path("an aoi.gpkg"),
    )  # fmt: skip
    command = cli.get_command(click.Context(cli), "info")  # type: ignore[attr-defined]
    found = command.make_context("info", ["scene", *options.as_words()]).params
    given = {name: found[name] for name in SceneOptions.__dataclass_fields__}
    given = {name: value for name, value in given.items() if value not in (None, ())}
    assert SceneOptions(**given) == options


def test_hints__name_commands_that_exist() -> None:
    commands = cli.list_commands(click.Context(cli))  # type: ignore[attr-defined]
    text = "\n".join(path.read_text("utf-8") for path in sorted(SOURCES.rglob("*.py")))
    named = set(re.findall(r"(?:: |See |same |to |`)hyperhpc ([a-z-]+)\b", text))
    assert {"status", "verify", "run", "ingest"} <= named
    assert named <= set(commands)
    others = set(
        re.findall(r'(?:: |\["|&& )(gdal\w+|ogr\w*2\w+|g?un?zip|sed|rio|h5repack|h5copy)\b', text)
    )
    assert others <= OTHERS


def lose_model(out: Path) -> Any:
    (out / "model.json").unlink()
    return hyperhpc.open_run(out).model


def lose_overview(out: Path) -> Any:
    from hyperhpc.view.viewed_run import open_viewed_run

    shutil.rmtree(out / "overview.zarr")
    return open_viewed_run(out, None, out)


def damage_map(out: Path) -> Any:
    (chunk, *_) = sorted((out / "results.zarr" / "indices").glob("[0-9]*"))
    chunk.write_bytes(chunk.read_bytes()[:-1])
    return hyperhpc.open_run(out).results["indices"].load()


def lose_results(out: Path) -> Any:
    shutil.rmtree(out / "results.zarr")
    return hyperhpc.open_run(out).results


def lose_tiles(out: Path) -> Any:
    from hyperhpc.tools.verify import verify

    (out / "run.json").unlink()
    return verify(out)


def hold_lock(out: Path) -> Any:
    from hyperhpc.rundir.lock import hold_lock

    with hold_lock(out, print), hold_lock(out, print):
        pass


@pytest.mark.parametrize(
    ("fault", "command", "code"),
    [
        (lose_model, "verify", 7),
        (lose_overview, "verify", 7),
        (damage_map, "verify", 7),
        (lose_results, "verify", 7),
        (lose_tiles, "status", 0),
        (hold_lock, "status", 0),
    ],
)
def test_hint__says_more_about_a_damaged_run(
    run_case: RunCase, tmp_path: Path, fault: Any, command: str, code: int
) -> None:
    """The command of the hint runs on the fault that it is printed for."""
    out = tmp_path / "a run's folder"
    shutil.copytree(run_case.out, out)
    with pytest.raises(HyperhpcError) as caught:
        fault(out)
    words = shlex.split(str(caught.value.hint).partition(": ")[2])
    assert words == ["hyperhpc", command, str(out)]
    done = call(*words[1:])
    assert done.code == code, done.err
    assert done.out


def test_hint__stores_netcdf_as_zarr(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its Python is run here; xarray's packed numbers keep scale, no-data and centres."""
    values = np.random.default_rng(0).integers(100, 5000, (6, 7, 4)) / 1e4
    values[2, 3] = np.nan
    nm = [450.0, 550.0, 650.0, 850.0]
    coordinates = {"y": 99.5 - np.arange(6), "x": 0.5 + np.arange(7), "wavelength": nm}
    packed = {"dtype": "int16", "scale_factor": 2e-4, "_FillValue": -32768}
    cube = xr.Dataset({"reflectance": (("y", "x", "wavelength"), values)}, coords=coordinates)
    cube.to_netcdf(tmp_path / "a scene.nc", engine="scipy", encoding={"reflectance": packed})
    refused = call("info", tmp_path / "a scene.nc")
    words = shlex.split(refused.hint.partition(": ")[2])
    assert words[:2] == ["python", "-c"]
    monkeypatch.chdir(tmp_path)
    exec(words[2], {})
    scene = open_scene(tmp_path / "a scene.zarr")
    found = reflectance_converter(scene)(scene.read(slice(0, 6), slice(0, 7)))
    np.testing.assert_allclose(found, values, atol=1.01e-4)
    assert scene.wavelength_nm.tolist() == nm


def test_hint__of_netcdf_4_is_the_same(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "s.nc", "w") as file:
        file.attrs["_NCProperties"] = "version=2,h5netcdf=1.8"
        file["reflectance"] = np.zeros((3, 3, 3))
    refused = call("info", tmp_path / "s.nc")
    assert "write one, in a Python with xarray, zarr and netCDF4: python -c" in refused.hint
