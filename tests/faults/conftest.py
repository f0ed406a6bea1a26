"""How often runs are killed and bits flipped, and the run they are compared with."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import xarray as xr
from kill_case import CHUNK, OPTIONS, SIDE
from tally import Tally

from cli_case import spawn

_TALLY = pytest.StashKey[Tally]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """How long to go on."""
    parser.addoption("--kills", type=int, default=40, help="kills altogether (default: 40)")
    parser.addoption("--starved", type=int, default=0, help="runs at load 16 (default: none)")
    parser.addoption("--kill-seed", type=int, default=0, help="first of the random cases")
    parser.addoption("--flips", type=int, default=16, help="flipped bits (default: 16)")
    parser.addoption("--flip-seed", type=int, default=0, help="first of the flipped bits")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The tally, whatever else is shown."""
    tally = terminalreporter.config.stash.get(_TALLY, None)
    if tally is not None:
        terminalreporter.section("kills")
        terminalreporter.write_line(str(tally))


@pytest.fixture(scope="session")
def tally(request: pytest.FixtureRequest) -> Tally:
    """Of all cases of this session."""
    return request.config.stash.setdefault(_TALLY, Tally())


@pytest.fixture(scope="session")
def tiled_scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated scene whose chunks are so small that it has 16 tiles."""
    from hyperhpc.simulate.scene import simulate

    folder = tmp_path_factory.mktemp("faults")
    simulate(folder / "large.zarr", SIDE, SIDE, bands=213, seed=1, zarr_format=2)
    group = "reflectance"
    cube = xr.open_zarr(folder / "large.zarr", group=group, mask_and_scale=False).load()
    for variable in cube.variables.values():
        variable.encoding.clear()
    chunks = {group: {"chunks": (CHUNK, CHUNK, 213)}}
    cube.to_zarr(folder / "scene.zarr", group=group, encoding=chunks, zarr_format=2)
    shutil.rmtree(folder / "large.zarr")
    return folder / "scene.zarr"


@pytest.fixture(scope="session")
def alone(tiled_scene: Path) -> Path:
    """The undisturbed run."""
    out = tiled_scene.with_name("alone")
    done = spawn("run", tiled_scene, out, *OPTIONS, "--workers", "2")
    assert done.code == 0, done.err
    return out
