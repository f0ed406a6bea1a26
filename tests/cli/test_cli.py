"""The commands as programs see them: streams, exit codes, help, JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
import xarray as xr

from cli_case import call, check_refused, program
from hyperhpc.cli.commands import cli
from hyperhpc.simulate.scene import simulate

INFO = {
    "format": str,
    "shape": list,
    "dtype": str,
    "wavelength_nm": list,
    "scale_factor": int,
    "nodata": list,
    "epsg": int,
    "bounds": list,
    "bad_band_windows_nm": list,
    "n_bands": int,
    "n_good_bands": int,
}
HEAVY = {"numpy", "dask", "distributed", "xarray", "sklearn", "zarr", "matplotlib", "h5py"}


@pytest.fixture(scope="module")
def neon_scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("neon") / "scene.h5"
    simulate(path, 64, 72, seed=1, layout="neon", nodata_fraction=0.0)
    return path


def read_json(*words: str | Path) -> object:
    outcome = call(*words, "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.err == ""
    return json.loads(outcome.out)


# --- help -----------------------------------------------------------------------------


def test_help__of_all_commands_imports_nothing_heavy() -> None:
    script = (
        "import sys, contextlib\n"
        "from hyperhpc.cli.main import main\n"
        "for words in ['--help'], ['--version'], *([c, '--help'] for c in sys.argv[1:]):\n"
        "    with contextlib.suppress(SystemExit):\n"
        "        main(words)\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *cli.commands], capture_output=True, text=True, check=True
    )
    *shown, modules = done.stdout.splitlines()
    assert sum(line.startswith("Usage: hyperhpc") for line in shown) == 1 + len(cli.commands)
    assert not HEAVY & set(json.loads(modules.replace("'", '"')))


def test_help__every_option_is_explained() -> None:
    for name, command in cli.commands.items():
        assert command.help, name
        lines = call(name, "-h").out
        for option in command.params:
            if isinstance(option, click.Option) and not option.hidden:
                assert option.opts[0] in lines


def test_no_words__shows_help() -> None:
    outcome = call()
    assert outcome.code == 2
    assert "Usage: hyperhpc" in outcome.err
    assert outcome.out == ""


# --- info -----------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["zarr", "neon"])
def test_info__keys_and_types(layout: str, small_scene: Path, neon_scene: Path) -> None:
    facts = read_json("info", small_scene if layout == "zarr" else neon_scene)
    assert isinstance(facts, dict)
    assert {name: type(facts[name]) for name in INFO} == INFO
    assert facts["format"] == {"zarr": "zarr3", "neon": "neon-hdf5"}[layout]
    assert facts["shape"] == {"zarr": [96, 112, 426], "neon": [64, 72, 426]}[layout]
    assert facts["dtype"] == "int16"
    assert facts["scale_factor"] == 10000
    assert facts["nodata"] == [-9999]
    assert facts["bad_band_windows_nm"] == [[1340, 1445], [1790, 1955]]
    assert facts["wavelength_nm"] == pytest.approx([381.5, 2510.1], abs=0.1)
    height, width, n_bands = facts["shape"]
    xmin, ymin, xmax, ymax = facts["bounds"]
    assert (xmax - xmin, ymax - ymin) == (width, height)
    assert facts["n_bands"] == n_bands
    assert facts["n_good_bands"] == 355


def test_info__of_a_box(small_scene: Path) -> None:
    box = "517010.6,4525950.4,517019.4,4525959.5"  # centres 11.5 to 18.5, 50.5 to 59.5
    facts = read_json("info", small_scene, "--bbox", box)
    assert facts["shape"] == [10, 8, 426]
    assert facts["bounds"] == [517011.0, 4525950.0, 517019.0, 4525960.0]


def test_info__for_people_says_the_same(small_scene: Path) -> None:
    text = call("info", small_scene).out
    assert "517000  4525904  517112  4526000" in text
    assert all(name in text for name in INFO)


@pytest.mark.slow
def test_info__closed_pipe_is_quiet(small_scene: Path) -> None:
    command = subprocess.list2cmdline(program("info", small_scene, "--json"))
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command} | head -c 1"], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "{", "")


# --- spectrum -------------------------------------------------------------------------


def truth(scene: Path) -> xr.DataArray:
    """DN with pixel centres as coordinates, read without our reader; no-data is NaN."""
    opened = xr.open_zarr(scene, group="reflectance", mask_and_scale=False)["reflectance"]
    return opened.transpose("y", "x", "wl").astype(float).where(lambda dn: dn != -9999)


def test_spectrum__nearest(small_scene: Path) -> None:
    words = "--x 517050.2 --y 4525950.9 --x 517060 --y 4525940".split()
    first, second = read_json("spectrum", small_scene, *words)  # type: ignore[misc]
    assert list(first) == ["x", "y", "row", "col", "wavelength_nm", "reflectance"]
    assert (first["x"], first["y"], first["row"], first["col"]) == (517050.2, 4525950.9, 49, 50)
    assert (second["row"], second["col"]) == (60, 60)  # an edge belongs to the east and south
    dn = truth(small_scene)
    np.testing.assert_array_equal(first["wavelength_nm"], dn["wl"])
    np.testing.assert_array_equal(first["reflectance"], dn[49, 50] / 10000)


@pytest.mark.parametrize(
    ("x", "y"),
    [(517050.2, 4525950.9), (517050.5, 4525950.5), (517051.0, 4525950.5), (517050.5, 4525951.0)],
)
def test_spectrum__linear_is_bilinear(x: float, y: float, small_scene: Path) -> None:
    words = ["--x", str(x), "--y", str(y), "--method", "linear"]
    (found,) = read_json("spectrum", small_scene, *words)  # type: ignore[misc]
    expected = truth(small_scene).interp(x=x, y=y, method="linear") / 10000
    np.testing.assert_allclose(found["reflectance"], expected, rtol=1e-12, atol=1e-12)


def test_spectrum__linear_needs_four_valid_neighbours(small_scene: Path, neon_scene: Path) -> None:
    xmin, _, _, ymax = read_json("info", neon_scene)["bounds"]  # type: ignore[index]
    words = ["--x", str(xmin + 0.2), "--y", str(ymax - 5.2)]
    assert call("spectrum", neon_scene, *words).code == 0
    outcome = call("spectrum", neon_scene, *words, "--method", "linear")
    check_refused(outcome, 3, "four valid neighbours", "--method nearest")
    valid = ~np.isnan(truth(small_scene).values[:, :, 50])
    row, col = np.argwhere(valid[:, 1:] & ~valid[:, :-1])[0] + (0, 1)
    words = ["--x", str(517000.3 + col), "--y", str(4525999.5 - row)]
    assert call("spectrum", small_scene, *words).code == 0
    outcome = call("spectrum", small_scene, *words, "--method", "linear")
    check_refused(outcome, 3, "four valid neighbours")


def test_spectrum__takes_a_bounding_box(small_scene: Path) -> None:
    words = ["--x", "517050.5", "--y", "4525950.5"]
    alone = call("spectrum", small_scene, *words)
    boxed = call("spectrum", small_scene, *words, "--bbox", "517050,4525950,517060,4525960")
    assert (boxed.code, boxed.out) == (0, alone.out)
    box = "517060,4525950,517070,4525960"
    outcome = call("spectrum", small_scene, *words, "--bbox", box)
    check_refused(outcome, 3, "Point 517050.5,4525950.5", f"outside --bbox {box}")
    outcome = call("spectrum", small_scene, *words, "--bbox", "0,0,1,1")
    check_refused(outcome, 3, "0,0,1,1 lies outside the scene, which spans")
    assert call("spectrum", small_scene, *words, "--bbox", "1,2").code == 2


def test_spectrum__water_windows_without_data_are_null(tmp_path: Path) -> None:
    path = tmp_path / "brdf.h5"
    simulate(path, 20, 20, layout="neon", bidirectional=True, nodata_fraction=0.0)
    xmin, _, _, ymax = read_json("info", path)["bounds"]  # type: ignore[index]
    (found,) = read_json("spectrum", path, "--x", str(xmin + 5), "--y", str(ymax - 5))  # type: ignore[misc]
    nm = np.array(found["wavelength_nm"])
    missing = np.array([value is None for value in found["reflectance"]])
    assert missing.any()
    assert np.all(((nm[missing] >= 1340) & (nm[missing] <= 1445)) | (nm[missing] >= 1790))


def test_spectrum__table_and_figure(small_scene: Path, tmp_path: Path) -> None:
    words = ("--x", "517050.5", "--y", "4525950.5")
    rows = call("spectrum", small_scene, *words).out.splitlines()
    assert rows[0] == "wavelength_nm,517050.5_4525950.5"
    assert len(rows) == 427
    for name, start in (("a.png", b"\x89PNG"), ("a.PDF", b"%PDF"), ("a.svg", b"<?xml")):
        outcome = call("spectrum", small_scene, *words, "--figure", tmp_path / name)
        assert (outcome.code, outcome.out) == (0, "")
        assert (tmp_path / name).read_bytes().startswith(start)


# --- a real scene ---------------------------------------------------------------------


def test_real_scene__info_and_spectra(shared_data: Path) -> None:
    path = shared_data / "neon_sjer_h5" / "NEON_SJER_2017_subset.h5"
    if not path.exists():
        pytest.skip(f"the real scene is missing: {path}")
    facts = read_json("info", path)
    assert isinstance(facts, dict)
    assert facts["shape"] == [30, 30, 426]
    assert facts["wavelength_nm"] == pytest.approx([383.534, 2511.894], abs=1e-3)
    assert (facts["scale_factor"], facts["nodata"], facts["epsg"]) == (10000, [-9999], 32611)
    assert facts["bounds"] == [257000, 4111970, 257030, 4112000]
    points = "--x 257025 --y 4111982 --x 257011 --y 4111991".split()
    first, second = read_json("spectrum", path, *points)  # type: ignore[misc]
    assert first["reflectance"][:5] == [0.0987, 0.0879, 0.0778, 0.0759, 0.0669]
    assert second["reflectance"][:4] == [0.0889, 0.0734, 0.0574, 0.0579]


def test_help__of_each_command_ends_with_an_example() -> None:
    for name, command in cli.commands.items():
        epilog = command.epilog or ""
        assert command.hidden or epilog.startswith(f"Example: hyperhpc {name}"), name
