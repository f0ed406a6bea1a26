"""Fixtures shared by the tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from run_case import RunCase


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
    from hyperhpc.cli import main
    from hyperhpc.scene.simulate import simulate

    folder = tmp_path_factory.mktemp("run case")  # a path with a space
    case = RunCase(folder / "scene.zarr", folder / "out")
    simulate(case.scene, 160, 200, seed=3)
    options = "--point 517100.5,4525919.5 --workers 2 --memory-per-worker 2GiB".split()
    with pytest.raises(SystemExit) as stop:
        main(["run", str(case.scene), str(case.out), *options])
    assert stop.value.code == 0
    return case
