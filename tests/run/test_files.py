"""Files appear whole or not at all, and what killed writers left is found everywhere in OUT."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hyperhpc.errors import ConfigError
from hyperhpc.files import atomic_outputs, atomic_write, check_absent, remove_partial_files


def test_atomic_write__file_appears_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with atomic_write(path) as part:
        part.write_text("new")
        assert path.read_text() == "old"
        assert part.parent == tmp_path
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_atomic_write__failure_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def interrupted() -> None:
        with atomic_write(path) as part:
            part.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_atomic_write__folder_and_nothing(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "store") as part:
        part.mkdir()
        (part / "x").touch()
    with atomic_write(tmp_path / "none"):
        pass
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["store", "x"]


def test_remove_partial_files__goes_through_all_folders(tmp_path: Path) -> None:
    kept = [".lock", ".lock.part-0a1b", "results.zarr/.zattrs", "figures/map.png", "a.part-1"]
    left = [
        ".report.html.part-0a1b2c3d",
        "figures/.map.png.part-0a1b2c3d",
        "work/sample/.0000-0000.json.part-77",
        "results.zarr/indices/0.0.0.0c4b55fa3b9b40b1.partial",
        ".overview.zarr.part-0a1b2c3d/indices/0.0.0",
    ]
    for name in (*kept, *left):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    remove_partial_files(tmp_path)
    files = [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()]
    assert sorted(files) == sorted(kept)
    assert not list(tmp_path.glob(".overview*"))
    remove_partial_files(tmp_path / "absent")


def write_outputs(dest: Path) -> None:
    with atomic_outputs(dest, ["map.qml"]) as part:
        (part / "map.qml").write_text("style")
        (part / dest.name).write_text("map")


def kill_at(event: int, work: Callable[[], None]) -> bool:
    """True if the work, in a process of its own, was killed at this of its calls on files."""
    pid = os.fork()
    if not pid:
        seen = 0

        def count(name: str, args: object) -> None:
            nonlocal seen
            if name == "open" or name.startswith(("os.", "tempfile.", "shutil.", "fcntl.")):
                seen += 1
                if seen == event:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        try:
            work()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(pid, 0)[1])


@pytest.mark.slow
def test_atomic_outputs__after_a_kill_anywhere_the_same_call_succeeds(tmp_path: Path) -> None:
    n_killed = 0
    for event in range(1, 200):
        folder = tmp_path / str(event)
        folder.mkdir()
        dest = folder / "map.tif"
        if not kill_at(event, lambda dest=dest: write_outputs(dest)):  # type: ignore[misc]
            break
        n_killed += 1
        if dest.exists():  # all was written: only its temporary folder may be left
            with pytest.raises(ConfigError, match="exists already"):
                write_outputs(dest)
        else:
            write_outputs(dest)
        assert sorted(path.name for path in folder.iterdir()) == ["map.qml", "map.tif"]
        assert dest.read_text() == "map"
    assert 20 < n_killed < 199


def test_atomic_outputs__of_a_process_that_lives_are_left_alone(tmp_path: Path) -> None:
    dest = tmp_path / "map.tif"
    with atomic_outputs(dest) as part:
        check_absent(dest)
        (part / dest.name).write_text("map")
    assert [path.name for path in tmp_path.iterdir()] == ["map.tif"]


def test_atomic_outputs__of_older_versions_are_removed(tmp_path: Path) -> None:
    part = tmp_path / ".map.tif.part-0a1b"
    part.mkdir()
    (part / "map.tif").touch()
    (part / ".moving").write_text("map.qml\nmap.tif")
    (tmp_path / "map.qml").touch()
    check_absent(tmp_path / "map.tif", ["map.qml"])
    assert not list(tmp_path.iterdir())
