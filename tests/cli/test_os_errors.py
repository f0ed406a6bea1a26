"""Each error of the operating system gets the hint that helps, from its real cause."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from cli_case import Outcome, program
from hyperhpc.errors import describe_os_error, find_os_error, os_hint

PERMISSION = "Get the permission: ls -ld"
NOBODY = 65534


#: Root without the right to read what others own and nobody else may read.
PLAIN = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search")


def call_in(words: Sequence[object], *before: str) -> Outcome:
    """A command in a process of its own, started by another command."""
    done = subprocess.run([*before, *program(*words)], capture_output=True, text=True)
    return Outcome(done.returncode, done.stdout, done.stderr)


def has_ended_well(outcome: Outcome, code: int, *parts: str) -> None:
    assert outcome.code == code, outcome.err
    assert "Traceback" not in outcome.err
    for part in parts:
        assert part in outcome.err


needs_root = pytest.mark.skipif(
    os.getuid() != 0 or subprocess.run([*PLAIN, "true"]).returncode != 0,
    reason="only root with setpriv can give away a folder, and lose the right to read it",
)


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """A run that another user owns, and nobody else may read."""
    out = tmp_path / "out"
    out.mkdir(mode=0o700)
    (out / "plan.json").write_text("{}")
    os.chown(out, NOBODY, NOBODY)
    return out


@needs_root
@pytest.mark.parametrize(
    "command",
    [
        "status",
        *(pytest.param(word, marks=pytest.mark.slow) for word in ("report", "verify", "export")),
    ],
)
def test_permission__of_a_run_of_another_user_is_named(closed: Path, command: str) -> None:
    words = [command, closed, *(["map.tif"] if command == "export" else [])]
    done = call_in(words, *PLAIN)
    has_ended_well(done, 5, f"error: {closed}/", "Permission denied", PERMISSION)
    assert "holds no run" not in done.err


@needs_root
def test_permission__of_a_scene_is_named(closed: Path) -> None:
    done = call_in(["info", closed / "scene.zarr"], *PLAIN)
    has_ended_well(done, 4, "Permission denied", PERMISSION)


def test_limit_of_the_size_of_files__is_named(tmp_path: Path) -> None:
    words = ["simulate", tmp_path / "s.zarr", "--size", "40x40", "--bands", "4"]
    done = call_in(words, "sh", "-c", 'ulimit -f 2; exec "$0" "$@"')
    has_ended_well(done, 5, "s.zarr cannot be written: File too large", "ulimit -f unlimited")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def in_mount(tmp_path: Path) -> Callable[..., Outcome]:
    """Calls a command where tmp_path / "disk" is a disk of its own, mounted with options."""
    if not shutil.which("unshare") or subprocess.run(["unshare", "-m", "true"]).returncode:
        pytest.skip("unshare -m is not permitted here")

    def run(options: str, *words: object, **settings: str) -> Outcome:
        disk = tmp_path / "disk"
        disk.mkdir()
        script = f'mount -t tmpfs -o {options} tmpfs "$0" && exec "$@"'
        words = ("unshare", "-m", "sh", "-c", script, disk, *program(*words))
        env = os.environ | {name: text.format(disk=disk) for name, text in settings.items()}
        done = subprocess.run([*map(str, words)], capture_output=True, text=True, env=env)
        if "mount:" in done.stderr:
            pytest.skip("mount is not permitted here")
        return Outcome(done.returncode, done.stdout, done.stderr)

    return run


def test_read_only_disk__is_named(in_mount: Callable[..., Outcome], tmp_path: Path) -> None:
    words = ["simulate", tmp_path / "disk" / "s.zarr", "--size", "40x40", "--bands", "4"]
    done = in_mount("ro", *words)
    has_ended_well(done, 5, "Read-only file system", "That disk can only be read here")


def test_full_disk__is_named(in_mount: Callable[..., Outcome], tmp_path: Path) -> None:
    words = ["simulate", tmp_path / "disk" / "s.zarr", "--size", "40x40", "--bands", "40"]
    done = in_mount("size=16k", *words)
    has_ended_well(done, 5, "No space left on device", "Make room on that disk")


@pytest.mark.workers
@pytest.mark.parametrize("size", ["size=4k", "size=20k,nr_inodes=7"])
def test_full_tmpdir__is_named(
    size: str, in_mount: Callable[..., Outcome], small_scene: Path, tmp_path: Path
) -> None:
    options = ["--workers", "1", "--memory-per-worker", "1GiB"]
    done = in_mount(size, "run", small_scene, tmp_path / "out", *options, TMPDIR="{disk}")
    has_ended_well(done, 5, f"{tmp_path}/disk/hyperhpc-", "No space left", "Make room on that disk")
    assert "memory" not in done.err


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EMFILE, errno.EDQUOT])
def test_os_hint__knows_what_cannot_be_tried(number: int) -> None:
    error = OSError(number, os.strerror(number), "/data/a")
    assert os_hint(error) != os_hint(OSError("odd"))
    assert describe_os_error(error).startswith("/data/a cannot be ")
    outer = RuntimeError("no worker")
    outer.__cause__ = error
    assert find_os_error(outer) is error
    assert find_os_error(json.JSONDecodeError("", "", 0)) is None
