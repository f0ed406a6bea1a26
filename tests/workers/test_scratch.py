"""What a killed process leaves outside of OUT: nothing, or what the next one removes."""

from __future__ import annotations

import multiprocessing
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from queue import Empty

import pytest

from cli_case import Program
from hyperhpc import scratch
from hyperhpc.config import load_config
from hyperhpc.scratch import scratch_folder
from hyperhpc.workers import launch_workers
from hyperhpc.workers.dask_setup import PIPE_METHOD


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A TMPDIR of the test's own."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def test_scratch__is_private_and_removed(temporary: Path) -> None:
    with scratch_folder() as name:
        assert Path(name).parent == temporary
        assert Path(name).stat().st_mode & 0o777 == 0o700
        (Path(name) / "file").touch()
    assert not list(temporary.iterdir())


def test_scratch__of_the_killed_is_removed_by_the_next(temporary: Path) -> None:
    script = (
        "from hyperhpc.scratch import scratch_folder\n"
        "with scratch_folder() as name:\n"
        "    print(name, flush=True)\n"
        "    input()\n"
    )
    words = [sys.executable, "-c", script]
    with Program(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        folder = Path(process.stdout.readline().strip())
        with scratch_folder():
            assert folder.exists()  # its owner lives
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert folder.exists()
    with scratch_folder() as name:
        assert [path.name for path in temporary.iterdir()] == [Path(name).name]
    assert not list(temporary.iterdir())


def test_scratch__that_was_killed_before_it_was_held_is_removed(temporary: Path) -> None:
    (temporary / "hyperhpc-a1b2_c3d").mkdir(mode=0o700)
    (temporary / "hyperhpc-readable").mkdir(mode=0o755)
    with scratch_folder() as name:
        found = sorted(path.name for path in temporary.iterdir())
        assert found == sorted([Path(name).name, "hyperhpc-readable"])


def test_scratch__leaves_what_is_not_its_own(temporary: Path) -> None:
    (temporary / "hyperhpc-results").mkdir()
    (temporary / "hyperhpc-file").touch()
    with scratch_folder():
        pass
    assert len(list(temporary.iterdir())) == 2


def test_scratch__that_was_taken_for_abandoned_is_made_again(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock, seen = scratch.fcntl.flock, []

    def removed_just_before(number: int, how: int) -> None:
        if not seen:
            seen.extend(temporary.glob("hyperhpc-*"))
            scratch.shutil.rmtree(seen[0])
        flock(number, how)

    monkeypatch.setattr(scratch.fcntl, "flock", removed_just_before)
    with scratch_folder() as name:
        assert Path(name).is_dir()
        assert Path(name) != seen[0]


def test_queue__of_pipes() -> None:
    queue = multiprocessing.get_context(PIPE_METHOD).Queue()
    with pytest.raises(Empty):
        queue.get_nowait()
    queue.put({"op": "stop"})
    assert queue.get_nowait() == {"op": "stop"}
    queue.put(None)
    queue.close()
    queue.join_thread()
    assert queue.get() is None
    with pytest.raises(ValueError, match="closed"):
        queue.put(None)


@pytest.mark.workers
def test_workers__make_no_key_outside_of_the_scratch_folder(temporary: Path) -> None:
    """Dask writes keys that it is given in memory to files of its own, which a kill leaves."""
    opened: list[str] = []

    def watch(name: str, args: tuple) -> None:
        if name == "open" and ".pem" in str(args[0]):
            opened.append(str(args[0]))

    sys.addaudithook(watch)
    settings = {"workers": 1, "memory_per_worker": "1GiB"}
    with launch_workers(load_config("scene", "out", settings)) as started:
        (held,) = temporary.glob("hyperhpc-*/.held")
        keys = sorted(held.parent.glob("*.pem"))
        assert [path.name for path in keys] == ["certificate.pem", "key.pem"]
        assert all(path.stat().st_mode & 0o777 == 0o600 for path in keys)
        assert set(opened) <= set(map(str, keys))
        assert started.client.submit(int, "7").result() == 7
    assert not list(temporary.iterdir())


@pytest.mark.workers
@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_workers__hold_nothing_that_has_a_name() -> None:
    settings = {"workers": 1, "memory_per_worker": "1GiB"}
    with launch_workers(load_config("scene", "out", settings)) as started:
        assert not _named()
        assert not any(started.client.run(_named).values())


def _named() -> list[str]:
    """Files of /dev/shm in this process, once a library has made a lock."""
    multiprocessing.Lock()
    lines = Path("/proc/self/maps").read_text("utf-8").splitlines()
    return [line for line in lines if "/dev/shm/" in line and "(deleted)" not in line]
