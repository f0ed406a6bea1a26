"""Fixtures shared by the tests."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TypeAlias

import pytest

from cli_case import call, spawn
from run_case import MASKED_OPTIONS, RunCase

pytest_plugins = ["tiers", "pytester"]

#: Gives the folder of a name, which the function has filled when it did not exist yet.
MakeOnce: TypeAlias = Callable[[str, Callable[[Path], object]], Path]

# Started in the background by a shell, or by nohup: the tests of signals would pass them on,
# ignored
for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM):
    if signal.getsignal(number) is signal.SIG_IGN:
        usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, usual)


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
def make_once(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> MakeOnce:
    """Make what tests only read once a session, whichever process of pytest-xdist is first."""
    root = tmp_path_factory.getbasetemp()
    if hasattr(request.config, "workerinput"):
        root = root.parent  # the base folders of all processes lie in this one

    def make(name: str, fill: Callable[[Path], object]) -> Path:
        folder = root / name
        is_done = root / f"{name}.done"
        with (root / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not is_done.exists():
                shutil.rmtree(folder, ignore_errors=True)  # half made by a process that failed
                folder.mkdir()
                fill(folder)
                is_done.touch()
        return folder

    return make


@pytest.fixture(scope="session")
def run_case(make_once: MakeOnce) -> RunCase:
    """A simulated scene of 160 x 200 pixels and a run of it with the default options."""

    def fill(folder: Path) -> None:
        from hyperhpc.cli.main import main
        from hyperhpc.simulate.scene import simulate

        simulate(folder / "scene.zarr", 160, 200, seed=3)
        words = ["run", str(folder / "scene.zarr"), str(folder / "out")]
        options = "--point 517100.5,4525919.5 --workers 2 --memory-per-worker 2GiB".split()
        with pytest.raises(SystemExit) as stop:
            main([*words, *options])
        assert stop.value.code == 0

    folder = make_once("run case", fill)  # a path with a space
    return RunCase(folder / "scene.zarr", folder / "out")


@pytest.fixture(scope="session")
def small_scene(make_once: MakeOnce) -> Path:
    """A simulated scene of 96 x 112 pixels, all bands, Zarr v3; not to be changed."""
    from hyperhpc.simulate.scene import simulate

    folder = make_once("small", lambda folder: simulate(folder / "scene.zarr", 96, 112, seed=1))
    return folder / "scene.zarr"


@pytest.fixture(scope="session")
def small_run(make_once: MakeOnce, small_scene: Path) -> Path:
    """OUT of an undisturbed run of ``small_scene``, of one model; not to be changed."""

    def fill(folder: Path) -> None:
        words = ("run", small_scene, folder / "out", "--models", "lloyd")
        done = spawn(*words, "--workers", "1", "--memory-per-worker", "1GiB")
        assert done.code == 0, done.err

    return make_once("small run", fill) / "out"


@pytest.fixture(scope="session")
def masked_run(make_once: MakeOnce, small_scene: Path) -> RunCase:
    """A run of those pixels of ``small_scene`` that meet ``CONDITIONS``, without a report."""

    def fill(folder: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("hyperhpc.report.write_report", lambda *args, **options: None)
            done = call("run", small_scene, folder / "out", *MASKED_OPTIONS, "--workers", "1")
        assert done.code == 0, done.err

    return RunCase(small_scene, make_once("masked run", fill) / "out")


@pytest.fixture
def no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a run that gets as far as starting workers stop there, with exit code 77."""
    from hyperhpc.pipeline import managed

    def refuse(*args: object, **kwargs: object) -> None:
        raise SystemExit(77)

    monkeypatch.setattr(managed, "launch_workers", refuse)


@pytest.fixture(scope="module")
def shared_workers() -> Iterator[None]:
    """Give all runs of this process the same two workers, for tests that are not about them.

    They are real; only their start, several seconds, is done once a file and not once a run.
    """
    from hyperhpc.config import load_config
    from hyperhpc.workers import Workers, local

    config = load_config("scene", "out", {"workers": 2, "memory_per_worker": "1GiB"})
    with local.local_workers(config, print) as shared, pytest.MonkeyPatch.context() as patch:

        def lend(*args: object) -> AbstractContextManager[Workers]:
            parts = (shared.client, shared.count, shared.threads, shared.memory_bytes)
            return nullcontext(Workers(*parts))  # what it notes of its tasks is of one run

        patch.setattr(local, "local_workers", lend)
        yield


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let runs of this process draw no report, which is most of the work of a small run.

    For tests that read nothing but arrays and JSON files, which are written before it.
    """
    monkeypatch.setattr("hyperhpc.report.write_report", lambda *args, **options: None)
