"""Standard output and error are lost: no run ends for it, and exit codes stay."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys
from pathlib import Path
import click
from hyperhpc.cli.main import cli, main
from hyperhpc.errors import SceneError
from hyperhpc.rundir.progress import TerminalProgress
def work(name):
    progress = TerminalProgress(verbose=True)
    for stage in range(3):
        with progress.stage("step", 10):
            progress.advance(10)
            click.echo("a note", err=True)
            click.echo("a result " * 1000)
    Path(sys.argv[1]).write_text("done")
    if name == "fail":
        raise SceneError("bad")
cli.commands.pop("run")
for name in ("run", "show", "fail"):
    cli.command(name)(lambda name=name: work(name))
main([sys.argv[2]])
"""


def call(mark: Path, command: str, redirect: str) -> tuple[int, str]:
    """Exit code and standard error of a command whose streams a shell redirects."""
    line = f'exec "$0" -c "$SCRIPT" {mark} {command} {redirect}'
    done = subprocess.run(
        ["bash", "-c", line, sys.executable], capture_output=True, text=True, timeout=100,
        env=os.environ | {"SCRIPT": SCRIPT},
    )  # fmt: skip
    return done.returncode, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "redirect", ["2>/dev/full", "2> >(exit)", "2>&-", ">/dev/full 2>/dev/full", ">&- 2>&- <&-"]
)
@pytest.mark.parametrize(("command", "code"), [("run", 0), ("fail", 4)])
def test_streams__what_is_lost_ends_nothing(
    tmp_path: Path, command: str, code: int, redirect: str
) -> None:
    mark = tmp_path / "mark"
    assert call(mark, command, redirect) == (code, "")
    assert mark.read_text() == "done"


def test_streams__a_result_that_is_lost_is_an_error(tmp_path: Path) -> None:
    code, err = call(tmp_path / "mark", "show", ">/dev/full")
    assert code == 5
    assert "error: The result could not be written to standard output: No space left" in err
    assert call(tmp_path / "mark", "show", "> >(exit)")[0] == 0  # nobody wants it
