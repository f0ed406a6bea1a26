"""A run that is killed when all is written: the next call does what was left to do."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from hyperhpc.cli.main import main
from hyperhpc.compute import tiles
from hyperhpc.pipeline import passes
from hyperhpc.pipeline.repair import clear_leftovers
from hyperhpc.rundir.folder import RunFolder
from hyperhpc.rundir.lock import Owner
from hyperhpc.rundir.progress import read_status
from hyperhpc.tools import ingest


@pytest.fixture
def left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An OUT as it is a moment before the end of a run."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    out = tmp_path / "out"
    for name in ("work/sample/0000-0000.json", ".connection-9-0/key.pem"):
        (out / name).parent.mkdir(parents=True)
        (out / name).touch()
    (out / ".run.json.part-1").touch()
    (out / "status.txt").write_text("state: running\nstage: drawing the report\n")
    return out


def lock(out: Path, **changes: object) -> None:
    owner = dataclasses.replace(Owner.of_this_process(), **changes)  # type: ignore[arg-type]
    (out / ".lock").write_text(json.dumps(dataclasses.asdict(owner)), "utf-8")


def clear(out: Path) -> list[str]:
    """What was said."""
    said: list[str] = []
    clear_leftovers(RunFolder(out), "local", said.append)
    return said


def test_leftovers__of_a_killed_run_are_removed(left: Path) -> None:
    lock(left, started=1)
    assert clear(left) == []
    assert [path.name for path in left.iterdir()] == ["status.txt"]
    assert read_status(left)["state"] == "complete"


def test_leftovers__of_a_run_that_lives_are_its_own(left: Path) -> None:
    lock(left)
    before = sorted(left.rglob("*"))
    assert clear(left) == []
    assert sorted(left.rglob("*")) == before
    assert read_status(left)["state"] == "running"


@pytest.mark.parametrize("name", [".lock.part-0a1b", ".run.json.part-1", "figures/.a.png.part-2"])
def test_leftovers__of_any_kind_are_found(name: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / name).parent.mkdir(parents=True)
    (out / name).touch()
    assert clear(out) == []
    assert [path.name for path in out.rglob("*") if path.is_file()] == ["status.txt"]


def test_leftovers__where_nothing_is_left_nothing_is_touched(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    touched = out.stat().st_mtime_ns
    assert clear(out) == []
    assert out.stat().st_mtime_ns == touched
    assert not list(out.iterdir())


@pytest.mark.e2e
@pytest.mark.parametrize(("command", "module"), [("run", passes), ("ingest", ingest)])
@pytest.mark.usefixtures("no_report")
def test_leftovers__of_a_lost_worker_are_not_in_the_store(
    command: str, module: Any, small_scene: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A worker that is killed while it writes leaves half a file, and another does its tile."""
    left = []

    def run_tiles(*args: Any) -> Any:
        found = tiles.run_tiles(*args)
        store = next(iter(tmp_path.rglob("*.zarr.part/store")), tmp_path / "out/results.zarr")
        if store.exists():
            left.append(store / "0.0.0c4b55fa3b9b40b1b3f2d6a146e0177f.partial")
            left[-1].touch()
        return found

    monkeypatch.setattr(module, "run_tiles", run_tiles)
    out = "out" if command == "run" else "out.zarr"
    options = ["--workers", "1", "--memory-per-worker", "1GiB"]
    with pytest.raises(SystemExit) as stop:
        main([command, str(small_scene), str(tmp_path / out), *options])
    assert stop.value.code == 0
    assert left
    assert not list(tmp_path.rglob("*.partial"))
