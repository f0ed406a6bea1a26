"""What the terminal shows."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.progress import Task

from hyperhpc.pipeline import progress as module
from hyperhpc.pipeline.progress import Progress, TerminalProgress


def on_terminal(monkeypatch: pytest.MonkeyPatch, *, is_terminal: bool) -> io.StringIO:
    """Let the next TerminalProgress write to a text of ours."""
    text = io.StringIO()

    def console(**options: object) -> Console:
        assert options.pop("stderr")
        return Console(file=text, force_terminal=is_terminal, width=100, **options)  # type: ignore[arg-type]

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
    assert module._Rate(unit).render(task).plain == shown
