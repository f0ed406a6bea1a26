"""Runs of ENVI files and GeoTIFFs: the results of the same scene as a Zarr store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from cli_case import call, check_refused
from hyperhpc.compute.selection import select_bands, usable_centres_nm
from hyperhpc.errors import ConfigError
from hyperhpc.scene import open_scene
from hyperhpc.simulate.scene import Painter, simulate
from raster_case import listed, write_envi, write_tiff

_SIZE = (48, 56, 60)
_MAP_INFO = "{UTM, 1, 1, 517000, 4526000, 1, 1, 13, North, WGS-84}"


@pytest.fixture(scope="module")
def painted() -> tuple[np.ndarray, np.ndarray]:
    painter = Painter(*_SIZE, seed=2)
    return painter.window(0, 0, *_SIZE[:2])[0], painter.wavelength_nm


def _run(scene: Path, out: Path, *words: Any) -> dict[str, Any]:
    options = ["--workers", "1", "--memory-per-worker", "1GiB", "--clusters", "4", *words]
    outcome = call("run", scene, out, *options)
    assert outcome.code == 0, outcome.err
    return json.loads((out / "run.json").read_text())


def _results(out: Path) -> dict[str, np.ndarray]:
    """All arrays (y, x) of a run."""
    found = {}
    for path in sorted(out.glob("*.zarr")):
        for name, array in zarr.open_group(path, mode="r").arrays():
            if array.ndim >= 2:
                found[f"{path.name}/{name}"] = array[...]
    return found


@pytest.mark.e2e
@pytest.mark.usefixtures("shared_workers", "no_report")
def test_run__envi_and_geotiff_give_the_results_of_zarr(
    tmp_path: Path, painted: tuple[np.ndarray, np.ndarray]
) -> None:
    dn, nm = painted
    simulate(tmp_path / "s.zarr", *_SIZE[:2], bands=_SIZE[2], seed=2)
    _run(tmp_path / "s.zarr", tmp_path / "zarr")
    expected = _results(tmp_path / "zarr")
    assert len(expected) >= 2
    header = {"map_info": _MAP_INFO, "wavelength": listed(nm), "data_ignore_value": -9999}
    scenes = [write_envi(tmp_path / f"s.{kind}", dn, kind, **header) for kind in ("bil", "bsq")]
    scenes.append(
        write_tiff(tmp_path / "s.tif", dn, tags=lambda band: {"wavelength": str(nm[band - 1])})
    )
    for scene in scenes:
        _run(scene, tmp_path / f"out{scene.suffix}")
        results = _results(tmp_path / f"out{scene.suffix}")
        assert results.keys() == expected.keys()
        for name, array in expected.items():
            np.testing.assert_array_equal(results[name], array, err_msg=f"{scene} {name}")


@pytest.mark.e2e
@pytest.mark.usefixtures("shared_workers")
def test_run__flagged_bands_are_dropped_and_recorded(
    tmp_path: Path, painted: tuple[np.ndarray, np.ndarray]
) -> None:
    dn, nm = painted
    dn = dn.copy()
    red = int(np.abs(nm - 667).argmin())
    dn[:, :, [red, red + 1]] = -9999  # as EnMAP's flagged bands: nothing but no-data
    flags = np.ones(_SIZE[2], int)
    flags[[red, red + 1]] = 0
    scene = write_envi(
        tmp_path / "s", dn, wavelength=listed(nm), data_ignore_value=-9999, bbl=listed(flags)
    )
    opened = open_scene(scene)
    assert opened.bad_bands == (red, red + 1)
    assert not np.isin(opened.bad_bands, select_bands(opened).bands).any()
    assert not np.isin(opened.bad_bands, select_bands(opened, [(300, 400)]).bands).any()
    np.testing.assert_array_equal(
        np.flatnonzero(np.isinf(usable_centres_nm(opened))), opened.bad_bands
    )
    record = _run(scene, tmp_path / "out")
    assert record["bands"]["n_flagged_bad"] == 2
    assert record["pixels"]["valid"] == (dn[:, :, 5] != -9999).sum()
    used = [band["centre_nm"] for i in record["indices"]["computed"] for band in i["bands"]]
    assert not np.isin(nm[[red, red + 1]], used).any()
    assert any("2 that are flagged as bad" in text for text in record["choices"])
    report = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "2 flagged as bad in the file" in report
    info = json.loads(call("info", scene, "--json").out)
    assert info["n_good_bands"] == record["bands"]["n_good"]
    assert any("2 bands are flagged as bad" in note for note in info["notes"])


def test_select_bands__all_flagged(tmp_path: Path) -> None:
    dn = np.ones((2, 2, 3), np.int16)
    scene = open_scene(write_envi(tmp_path / "s", dn, bbl="{0, 0, 0}"))
    with pytest.raises(ConfigError, match="the 3 bands flagged as bad leave none"):
        select_bands(scene)


@pytest.mark.e2e
@pytest.mark.usefixtures("shared_workers", "no_report")
def test_run__other_wavelengths_are_another_run(
    tmp_path: Path, painted: tuple[np.ndarray, np.ndarray]
) -> None:
    dn, nm = painted
    scene = write_envi(tmp_path / "s", dn, wavelength=None, data_ignore_value=-9999)
    centres = tmp_path / "w.txt"
    check_refused(call("run", scene, tmp_path / "out"), 4, "--wavelengths FILE", str(scene))
    np.savetxt(centres, nm)
    record = _run(scene, tmp_path / "out", "--wavelengths", centres)
    assert record["scene"]["wavelength_nm"] == [nm[0], nm[-1]]
    np.savetxt(centres, nm + 1)
    again = call(
        "run", scene, tmp_path / "out", "--clusters", "4", "--wavelengths", centres,
        "--memory-per-worker", "1GiB",
    )  # fmt: skip
    check_refused(again, 3, "wavelengths was")
