"""What the terminal shows."""

from __future__ import annotations

import io
import os
import re
import subprocess
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Task

from cli_case import check_refused, program, spawn
from hyperhpc.rundir import progress as module
from hyperhpc.rundir.progress import Progress, QuietProgress, TerminalProgress


def on_terminal(
    monkeypatch: pytest.MonkeyPatch, *, is_terminal: bool, width: int = 100
) -> io.StringIO:
    """Let the next TerminalProgress write to a text of ours."""
    text = io.StringIO()

    def console(**options: object) -> Console:
        assert options.pop("stderr")
        return Console(file=text, force_terminal=is_terminal, width=width, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "Console", console)
    return text


def use(progress: Progress) -> None:
    with progress.stage("reading the sample", 3_000_000):
        for _ in range(3):
            progress.advance(1_000_000)
    with progress.stage("scaling"):
        pass
    progress.note("a note with [brackets] and a very long line " + "x" * 200)


def test_silent__says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    use(Progress())
    assert capfd.readouterr() == ("", "")


def test_log__one_plain_line_a_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    text = on_terminal(monkeypatch, is_terminal=False)
    use(TerminalProgress())
    first, second, note = text.getvalue().splitlines()
    assert (first, second) == ("reading the sample ...", "scaling ...")
    assert note == "a note with [brackets] and a very long line " + "x" * 200


def test_terminal__stage_share_rate_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    text = on_terminal(monkeypatch, is_terminal=True)
    use(TerminalProgress())
    shown = text.getvalue()
    assert "reading the sample" in shown
    assert "100 %" in shown
    assert "Mpx/s" in shown
    assert "0:00:00" in shown


@pytest.mark.parametrize("width", [80, 140])
def test_terminal__shows_workers_and_memory_where_there_is_room(
    monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    text = on_terminal(monkeypatch, is_terminal=True, width=width)
    progress = TerminalProgress()
    progress.watch_workers(lambda: "2 of 2", lambda: "1.1 GiB")
    use(progress)
    assert ("workers: 2 of 2, 1.1 GiB" in text.getvalue()) is (width > 100)


def test_terminal__a_failing_stage_stays_unfinished(monkeypatch: pytest.MonkeyPatch) -> None:
    text = on_terminal(monkeypatch, is_terminal=True)
    progress = TerminalProgress()
    with pytest.raises(ZeroDivisionError), progress.stage("fitting", 10, "steps"):
        progress.advance(1 // 0)
    assert "100 %" not in text.getvalue()
    progress.advance(5)  # nothing to move any more
    progress.note("the next line")
    assert text.getvalue().rstrip().endswith("the next line")


@pytest.mark.parametrize(
    ("unit", "total", "speed", "shown"),
    [
        ("px", 9_000_000, 2.5e6, "  2.50 Mpx/s"),
        ("steps", 10, 3.25, "   3.2 steps/s"),
        ("px", None, 2.5e6, ""),
        ("px", 9, None, ""),
    ],
)
def test_rate(unit: str, total: int | None, speed: float | None, shown: str) -> None:
    task = Task(0, "x", total, 0, _get_time=lambda: 0.0)  # type: ignore[arg-type]
    task.finished_speed = speed
    assert module._rate(task, unit) == shown


def test_verbose__shows_tenths_and_times_in_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    text = on_terminal(monkeypatch, is_terminal=False)
    progress = TerminalProgress(verbose=True)
    progress.watch_workers(lambda: "2 of 2", lambda: "1.1 GiB")
    with progress.stage("labels", 40):
        for _ in range(40):
            progress.advance(1)
    first, *tenths, last = text.getvalue().splitlines()
    assert first == "labels ..."
    assert [line.split(",")[0] for line in tenths] == [f"  {n}0 %" for n in range(1, 10)]
    assert all(line.endswith("s left; workers: 2 of 2, 1.1 GiB") for line in tenths)
    assert re.fullmatch(r"  labels took \d+\.\d s", last)


def test_quiet__says_only_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    text = on_terminal(monkeypatch, is_terminal=True)
    progress = QuietProgress()
    use(progress)
    progress.note("warning: a tile is missing")
    assert text.getvalue() == "warning: a tile is missing\n"


@pytest.mark.e2e
def test_simulate__is_quiet_or_verbose_as_asked(tmp_path: Path) -> None:
    size = ("--size", "20x20", "--bands", "4")
    assert spawn("simulate", tmp_path / "a.zarr", *size, "--quiet").err == ""
    loud = spawn("simulate", tmp_path / "b.zarr", *size, "-v").err
    assert "simulating took" in loud
    both = spawn("simulate", tmp_path / "c.zarr", *size, "-q", "-v")
    check_refused(both, 2, "--quiet and --verbose")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion__is_a_script_of_that_shell(shell: str) -> None:
    done = spawn("completion", shell)
    assert done.code == 0
    assert f"_HYPERHPC_COMPLETE={shell}_complete" in done.out


def test_completion__knows_commands_and_options() -> None:
    asked = {"_HYPERHPC_COMPLETE": "bash_complete", "COMP_CWORD": "1"}
    found = subprocess.run(
        program(),
        env=os.environ | asked | {"COMP_WORDS": "hyperhpc in"},
        capture_output=True,
        text=True,
    )
    assert {"plain,info", "plain,ingest"} <= set(found.stdout.split())
