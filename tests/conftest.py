"""Fixtures shared by the tests."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from run_case import RunCase

pytest_plugins = ["tiers", "pytester"]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Started in the background by a shell: the tests of Ctrl-C would pass it on, ignored
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real scenes: $HYPERHPC_SHARED/data, or ../shared/data of the checkout."""
    checkout = Path(__file__).resolve().parents[1]
    shared = Path(os.environ.get("HYPERHPC_SHARED", checkout.parent / "shared"))
    folder = shared / "data"
    if not folder.is_dir():
        pytest.skip(f"real scenes are missing: no folder {folder} (set HYPERHPC_SHARED)")
    return folder


@pytest.fixture(scope="session")
def run_case(tmp_path_factory: pytest.TempPathFactory) -> RunCase:
    """A simulated scene of 160 x 200 pixels and a run of it with the default options."""
    from hyperhpc.cli.main import main
    from hyperhpc.simulate.scene import simulate

    folder = tmp_path_factory.mktemp("run case")  # a path with a space
    case = RunCase(folder / "scene.zarr", folder / "out")
    simulate(case.scene, 160, 200, seed=3)
    options = "--point 517100.5,4525919.5 --workers 2 --memory-per-worker 2GiB".split()
    with pytest.raises(SystemExit) as stop:
        main(["run", str(case.scene), str(case.out), *options])
    assert stop.value.code == 0
    return case


@pytest.fixture(scope="session")
def small_scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated scene of 96 x 112 pixels, all bands, Zarr v3; not to be changed."""
    from hyperhpc.simulate.scene import simulate

    path = tmp_path_factory.mktemp("small") / "scene.zarr"
    simulate(path, 96, 112, seed=1)
    return path


@pytest.fixture
def no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a run that gets as far as starting workers stop there, with exit code 77."""
    from hyperhpc.pipeline import runner as stages

    def refuse(*args: object, **kwargs: object) -> None:
        raise SystemExit(77)

    monkeypatch.setattr(stages, "launch_workers", refuse)
