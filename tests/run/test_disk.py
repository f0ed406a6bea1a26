"""A disk that is full, a folder that may not be written any more: real ones, as root."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli_case import Program, call, check_refused, program, spawn
from run_case import assert_same_results

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("no_report")]  # but programs draw it

OPTIONS = "--models lloyd --memory-per-worker 1GiB --workers 1".split()


def mount(folder: Path, options: str) -> bool:
    words = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try:
        return subprocess.run(words, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def wait_for_records(
    process: subprocess.Popen[str], out: Path, stage: str, timeout_s: float
) -> None:
    """Wait until a run has finished a tile of this stage."""
    deadline = time.monotonic() + timeout_s
    while not list((out / "work").glob(f"{stage}/*.json")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.005)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 50 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not mount(folder, "size=50m"):
        pytest.skip("no tmpfs can be mounted here: run the tests as root, outside a container")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("kib", [4, 60, 500, 1000, 1500])
def test_run__on_a_full_disk_stops_and_resumes(
    small_scene: Path, disk: Path, small_run: Path, kib: int
) -> None:
    out = disk / "out"
    assert mount(disk, f"remount,size={kib}k")
    done = spawn("run", small_scene, out, *OPTIONS)
    check_refused(done, 5, "No space left on device")
    assert "room" in done.hint or "another OUT" in done.hint
    for path in (out / "run.json", out / "plan.json"):
        assert not path.exists() or '"complete": true' not in path.read_text("utf-8")
    assert mount(disk, "remount,size=50m")
    if out.exists() and (out / "work" / "classify").exists():
        assert call("verify", out).code in (0, 7)
    done = call("run", small_scene, out, *OPTIONS)
    assert done.code == 0, done.err
    assert_same_results(out, small_run)
    assert call("verify", out).code == 0
    assert not [path for path in out.rglob("*") if ".part" in path.name]


def test_run__that_may_not_write_any_more_stops_and_resumes(
    small_scene: Path, disk: Path, small_run: Path
) -> None:
    out = disk / "out"
    with Program(
        program("run", small_scene, out, *OPTIONS), stderr=subprocess.PIPE, text=True
    ) as process:
        wait_for_records(process, out, "sample", 60)
        while not mount(disk, "remount,ro"):  # not while a file is being written
            assert process.poll() is None
        _, said = process.communicate(timeout=60)
    assert process.returncode == 5, said
    assert "Read-only file system" in said
    assert "That disk can only be read here" in said
    assert "Traceback" not in said
    assert mount(disk, "remount,rw")
    done = call("run", small_scene, out, *OPTIONS)
    assert done.code == 0, done.err
    assert_same_results(out, small_run)


@pytest.mark.parametrize("stage", ["sample", "classify"])
def test_run__whose_folder_is_moved_says_so(
    small_scene: Path, tmp_path: Path, stage: str, small_run: Path
) -> None:
    out = tmp_path / "out"
    with Program(
        program("run", small_scene, out, *OPTIONS), stderr=subprocess.PIPE, text=True
    ) as process:
        wait_for_records(process, out, stage, 120)
        out.rename(tmp_path / "moved")
        _, said = process.communicate(timeout=120)
    assert process.returncode == 5, said
    assert f"error: {out} was deleted or moved while it was being written" in said
    assert "Traceback" not in said
    (tmp_path / "moved").rename(out)
    done = call("run", small_scene, out, *OPTIONS)
    assert done.code == 0, done.err
    assert_same_results(out, small_run)


@pytest.mark.parametrize("kib", [8, 200, 700])
def test_ingest__on_a_full_disk_stops_and_resumes(
    small_scene: Path, disk: Path, tmp_path: Path, kib: int
) -> None:
    words = ("--memory-per-worker", "1GiB", "--workers", "1")
    assert spawn("ingest", small_scene, tmp_path / "s.zarr", *words).code == 0
    assert mount(disk, f"remount,size={kib}k")
    done = spawn("ingest", small_scene, disk / "s.zarr", *words)
    check_refused(done, 5, "No space left on device")
    assert not (disk / "s.zarr").exists()
    assert mount(disk, "remount,size=50m")
    done = spawn("ingest", small_scene, disk / "s.zarr", *words)
    assert done.code == 0, done.err
    assert call("verify", disk / "s.zarr").code == 0
    sums = [(folder / "s.zarr" / "checksums.json").read_bytes() for folder in (disk, tmp_path)]
    assert sums[0] == sums[1]
