"""One run at a time in OUT: who waits, who is refused, who takes over, who stops."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from cli_case import Program, call, check_refused, program, spawn
from hyperhpc.compute.grid_file import GridFile
from hyperhpc.compute.stores import set_attributes
from hyperhpc.errors import ConfigError, IncompleteRunError, ResourceError
from hyperhpc.files import atomic_write
from hyperhpc.pipeline.record import RunRecord
from hyperhpc.report.draw import ReportFigure
from hyperhpc.report.pictures import save_figures
from hyperhpc.results import open_results
from hyperhpc.rundir import lock as lock_module
from hyperhpc.rundir.folder import RunFolder
from hyperhpc.rundir.integrity import write_checksums
from hyperhpc.rundir.lock import Owner, find_machine, find_start, hold_lock, is_gone
from hyperhpc.rundir.progress import Progress, StatusFile, read_status
from hyperhpc.sealed import write_json
from run_case import RunCase, assert_same_results

OPTIONS = "--models lloyd --memory-per-worker 1GiB --workers 1".split()
ELSEWHERE = {"host": "node7", "machine": "another", "job": "4711"}


def write_lock(out: Path, age_s: float = 0, name: str = ".lock", **changes: object) -> Owner:
    """A lock of somebody else, touched so long ago."""
    owner = dataclasses.replace(Owner.of_this_process(), **changes)  # type: ignore[arg-type]
    out.mkdir(exist_ok=True)
    (out / name).write_text(json.dumps(dataclasses.asdict(owner)), "utf-8")
    touched = time.time() - age_s
    os.utime(out / name, (touched, touched))
    return owner


def held(out: Path) -> list[str]:
    """What was said until the lock was had; it is released again."""
    said: list[str] = []
    with hold_lock(out, said.append) as lock:
        assert json.loads((out / ".lock").read_text("utf-8"))["token"] == lock.claim.token
        lock.claim.check()
    assert not (out / ".lock").exists()
    return said


@contextmanager
def started(*words: object) -> Iterator[subprocess.Popen[str]]:
    """A command at work; it does not outlive the test."""
    with Program(
        program(*map(str, words)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def wait_for(path: Path, pattern: str, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not list(path.glob(pattern)):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.005)


# --- the lock alone -------------------------------------------------------------------


def test_lock__makes_out_and_leaves_nothing(tmp_path: Path) -> None:
    assert held(tmp_path / "a" / "out") == []
    assert not (tmp_path / "a" / "out").exists()
    (tmp_path / "out").mkdir()
    assert held(tmp_path / "out") == []
    assert (tmp_path / "out").is_dir()


def test_lock__of_a_living_process_is_refused(tmp_path: Path) -> None:
    owner = write_lock(tmp_path, 1000, job="4711", host="node7")  # its clock does not matter
    with pytest.raises(ConfigError) as caught:
        held(tmp_path)
    for part in ("job 4711", f"process {os.getpid()} on node7", owner.since):
        assert part in caught.value.message
    assert caught.value.hint == f"Wait, or see what it does: hyperhpc status {tmp_path}"
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_lock__of_a_dead_process_is_taken_at_once(tmp_path: Path) -> None:
    with Program([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        started_at = find_start(other.pid)
        assert started_at is not None
        write_lock(tmp_path, pid=other.pid, started=started_at)
        with pytest.raises(ConfigError):
            held(tmp_path)
        other.kill()
        deadline = time.monotonic() + 10
        while find_start(other.pid) is not None:  # a zombie is dead
            assert time.monotonic() < deadline
        assert held(tmp_path) == []
    write_lock(tmp_path, started=1)  # our number, in an earlier life
    assert held(tmp_path) == []


def test_lock__of_an_earlier_start_of_the_job_is_taken_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    mine = Owner.of_this_process()
    theirs = dataclasses.replace(mine, machine="another", restart=1)
    assert is_gone(theirs, mine) is True
    assert is_gone(dataclasses.replace(theirs, restart=2), mine) is None
    assert is_gone(dataclasses.replace(theirs, job="4712"), mine) is None
    write_lock(tmp_path, machine="another", restart=1)
    assert held(tmp_path) == []


def test_lock__of_another_host_is_taken_when_a_minute_old(tmp_path: Path) -> None:
    write_lock(tmp_path, 61, **ELSEWHERE)
    assert held(tmp_path) == []
    write_lock(tmp_path, 58, **ELSEWHERE)
    begin = time.monotonic()
    (said,) = held(tmp_path)
    assert 1 < time.monotonic() - begin < 10
    assert "Finding out whether" in said
    assert "job 4711" in said
    assert "node7" in said
    assert "takes up to 2 s" in said


def test_lock__of_another_host_that_is_touched_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_lock(tmp_path, 30, **ELSEWHERE)
    monkeypatch.setattr(lock_module.time, "sleep", lambda s: os.utime(tmp_path / ".lock"))
    with pytest.raises(ConfigError, match="job 4711, process"):
        held(tmp_path)


def test_lock__that_is_damaged_counts_by_its_age(tmp_path: Path) -> None:
    odd = json.dumps(dataclasses.asdict(Owner.of_this_process()) | {"pid": [1]})
    path = json.dumps(dataclasses.asdict(Owner.of_this_process()) | {"token": "../../x"})
    for text in ("", "{", "[]", '{"token": 1}', "\xff\0", "[" * 100_000, odd, path):
        (tmp_path / ".lock").write_text(text, "latin-1")
        os.utime(tmp_path / ".lock", (1, 1))
        assert held(tmp_path) == []


def test_lock__touched_in_the_future_is_judged_by_our_own_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a share after a clock was set back."""
    monkeypatch.setattr(lock_module, "GONE_S", 0.5)
    monkeypatch.setattr(lock_module, "_LOOK_S", 0.05)
    write_lock(tmp_path, -3600, **ELSEWHERE)
    begin = time.monotonic()
    (said,) = held(tmp_path)
    assert 0.5 <= time.monotonic() - begin < 30
    assert said.endswith("this takes up to 0 s")


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_fifo, "it is a FIFO, not a file"),
        (_dangling, "is a link to nothing: remove it"),
        (_device, "it is a device, not a file"),
        (Path.mkdir, "Is a directory"),
    ],
)
def test_lock__that_is_no_file(tmp_path: Path, make: Callable[[Path], None], message: str) -> None:
    make(tmp_path / ".lock")
    with pytest.raises(ResourceError, match=message):
        held(tmp_path)


def test_lock__parts_left_by_the_killed_are_removed(tmp_path: Path) -> None:
    for name in (".lock.part-0a1b", ".lock.after-0a1b"):
        (tmp_path / name).touch()
    held(tmp_path)
    assert not list(tmp_path.iterdir())


def test_lock__is_got_although_its_holder_removes_our_parts(tmp_path: Path) -> None:
    over = threading.Event()

    def remove_parts() -> None:
        while not over.is_set():
            for part in tmp_path.glob(".lock.part-*"):
                part.unlink(missing_ok=True)

    remover = threading.Thread(target=remove_parts)
    remover.start()
    try:
        for _ in range(50):
            write_lock(tmp_path, started=1)  # of a process that has ended: it is taken over
            with hold_lock(tmp_path, print) as lock:
                lock.claim.check()
            assert not (tmp_path / ".lock").exists()
    finally:
        over.set()
        remover.join()


def test_lock__without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(lock_module.os, "link", refuse)
    assert held(tmp_path) == []
    write_lock(tmp_path)
    with pytest.raises(ConfigError):
        held(tmp_path)


def test_lock__that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(lock_module, "_create", refuse)
    with pytest.raises(ResourceError, match="cannot be made: No space left"):
        held(tmp_path / "out")


def test_lock__is_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_module, "BEAT_S", 0.02)
    lock = tmp_path / ".lock"
    with hold_lock(tmp_path, print):
        os.utime(lock, (1, 1))
        wait_until(lambda: lock.stat().st_mtime > 1000)
    assert not lock.exists()


def test_lock__that_is_away_for_a_moment_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As while --restart renames the folder aside."""
    lock, away = tmp_path / ".lock", tmp_path / "away"
    with hold_lock(tmp_path, print) as held_lock:
        lock.rename(away)
        monkeypatch.setattr(
            lock_module.time, "sleep", lambda s: away.exists() and away.rename(lock)
        )
        held_lock.claim.check()


def test_lock__that_is_gone_is_lost_and_stops_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after another run has taken OUT over, and has ended."""
    monkeypatch.setattr(lock_module, "BEAT_S", 0.02)
    with (  # noqa: PT012
        pytest.raises(IncompleteRunError, match="has lost the lock of this run"),
        hold_lock(tmp_path, print),
    ):
        (tmp_path / ".lock").unlink()
        time.sleep(10)  # the interrupt comes here
    assert not (tmp_path / ".lock").exists()


def _record(folder: RunFolder) -> None:
    RunRecord(folder.run, json.loads(folder.run.read_text("utf-8")), print).finish()


def _picture(folder: RunFolder) -> None:
    figure = ReportFigure("quicklook", "quicklook", Figure(figsize=(1, 1)), "", "")
    save_figures(open_results(folder.out), [figure])


def _page(folder: RunFolder) -> None:
    with atomic_write(folder.report) as part:
        part.write_text("page")


#: What may write, replace or remove something in OUT.
WRITERS: dict[str, Callable[[RunFolder], object]] = {
    "page": _page,
    "picture": _picture,
    "run.json": _record,
    "checksums": lambda folder: write_checksums(folder, {}),
    "json": lambda folder: write_json(folder.model, {}),
    "attributes": lambda folder: set_attributes(folder.results, complete=False),
    "grid file": lambda folder: GridFile(folder.model, (1, 1, 1), "u1").write(0, 0, np.ones(1)),
    "removal": RunFolder.remove,
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("is_finished", [True, False])
def test_lock__that_was_lost_lets_nothing_be_written(
    run_case: RunCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, is_finished: bool
) -> None:
    """A run that was frozen wakes up while it writes; the other has finished, or is at work."""
    monkeypatch.setattr(lock_module, "_LOOK_AGAIN_S", 0.001)
    folder = RunFolder(tmp_path / "out")
    shutil.copytree(run_case.out, folder.out)
    before = {path: path.read_bytes() for path in folder.out.rglob("*") if path.is_file()}
    with pytest.raises(IncompleteRunError), hold_lock(folder.out, print) as lock:  # noqa: PT012
        folder.lock.unlink()
        if not is_finished:
            write_lock(folder.out, token="theirs", **ELSEWHERE)
        StatusFile(folder.status, Progress(), "local", lock.claim).end("failed")
        WRITERS[name](folder)
    folder.lock.unlink(missing_ok=True)
    after = {path: path.read_bytes() for path in folder.out.rglob("*") if path.is_file()}
    assert after == before


def test_lock__that_was_lost_stops_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_module, "BEAT_S", 0.02)
    with (  # noqa: PT012
        pytest.raises(IncompleteRunError, match=r"taken over by another run .*node7"),
        hold_lock(tmp_path, print) as lock,
    ):
        write_lock(tmp_path, token="theirs", **ELSEWHERE)
        with pytest.raises(IncompleteRunError, match="writes nothing more"):
            lock.claim.check()
        time.sleep(10)  # the interrupt comes here
    assert json.loads((tmp_path / ".lock").read_text("utf-8"))["token"] == "theirs"


def test_lock__of_a_run_that_died_while_it_took_over(tmp_path: Path) -> None:
    """The right to succeed was left behind, before and after the lock was replaced."""
    dead = {"machine": find_machine(), "pid": 2**22 + 1}
    for token in ("first", "second"):
        write_lock(tmp_path, token=token, **dead)
        write_lock(tmp_path, name=".lock.after-first", token="second", **dead)
        with hold_lock(tmp_path, print) as lock:
            owner = json.loads((tmp_path / ".lock").read_text("utf-8"))
            assert owner["token"] == lock.claim.token
        assert not list(tmp_path.iterdir())


#: Wants the lock of one folder after the other, all at the moment when all are ready.
WANT = """
import sys, time, pathlib
from hyperhpc.errors import ConfigError
from hyperhpc.rundir.lock import hold_lock
from hyperhpc.sealed import write_json

home, me, several = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])

def announce(what):
    (home / f"{what}-{me}").touch()

def wait(what, count, seconds):
    until = time.monotonic() + seconds
    while len(list(home.glob(f"{what}-*"))) < count and time.monotonic() < until:
        pass

for out in sorted((home / "outs").iterdir()):
    announce(f"{out.name}.ready")
    wait(f"{out.name}.ready", several, 60)
    try:
        with hold_lock(out, print):
            announce(f"{out.name}.held")
            wait(f"{out.name}.refused", several - 1, 5)
    except ConfigError as error:
        announce(f"{out.name}.refused")
"""


@pytest.mark.e2e
def test_lock__many_want_that_of_a_dead_run(tmp_path: Path) -> None:
    several = 6
    (tmp_path / "outs").mkdir()
    outs = [tmp_path / "outs" / f"{number:02}" for number in range(20)]
    for out in outs:
        write_lock(out, 100, **ELSEWHERE)
    words = [sys.executable, "-c", WANT, str(tmp_path)]
    processes = [
        subprocess.Popen([*words, str(number), str(several)], stderr=subprocess.PIPE)
        for number in range(several)
    ]
    for process in processes:
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said
    for out in outs:
        seen = sorted(path.name for path in tmp_path.glob(f"{out.name}.*-*"))
        assert len([name for name in seen if ".held-" in name]) == 1, seen
        assert len([name for name in seen if ".refused-" in name]) == several - 1, seen
        assert not list(out.iterdir())


# --- by the commands ------------------------------------------------------------------


@pytest.mark.e2e
def test_run__next_to_a_live_one_is_refused_and_after_a_killed_one_resumes(
    small_scene: Path, small_run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = ("run", small_scene, out, *OPTIONS)
    with started(*words) as first:
        wait_for(out / "work", "sample/*.json", first)
        before = sorted(path.name for path in tmp_path.iterdir())
        for more in ((), ("--restart",), ("--clusters", "3", "--restart")):
            check_refused(
                call(*words, *more), 3, f"process {first.pid} on", f"hyperhpc status {out}"
            )
        assert sorted(path.name for path in tmp_path.iterdir()) == before
        os.killpg(first.pid, signal.SIGKILL)
    assert (out / ".lock").exists()
    done = spawn(*words)
    assert done.code == 0, done.err
    assert not (out / ".lock").exists()
    assert_same_results(out, small_run)


@pytest.mark.e2e
def test_run__that_lost_its_lock_stops_with_7(small_scene: Path, tmp_path: Path) -> None:
    with started("run", small_scene, tmp_path, *OPTIONS) as process:
        wait_for(tmp_path, "work/sample/*.json", process)
        write_lock(tmp_path, token="theirs", **ELSEWHERE)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 7, said
    assert "was taken over by another run (job 4711" in said
    assert "Traceback" not in said
    assert read_status(tmp_path)["state"] == "running"  # it is the other's to write
    assert json.loads((tmp_path / ".lock").read_text("utf-8"))["token"] == "theirs"


@pytest.mark.usefixtures("no_workers")
def test_restart__takes_the_lock_along(small_scene: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for _ in range(2):
        assert call("run", small_scene, out, *OPTIONS, "--restart").code == 77
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out.old-1"]
    assert not list(tmp_path.rglob(".lock*"))
