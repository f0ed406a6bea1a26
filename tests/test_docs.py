"""The documents: the reference is the commands', the site needs no network, examples work."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from hyperhpc.cli import cli

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
REFERENCE = (DOCS / "reference.md").read_text("utf-8")
COMMANDS = {name: command for name, command in cli.commands.items() if not command.hidden}


# --- the reference of the commands ----------------------------------------------------


def test_reference__is_what_the_commands_say_now(tmp_path: Path) -> None:
    copy = tmp_path / "make_reference.py"
    copy.write_text((DOCS / "make_reference.py").read_text("utf-8"), "utf-8")
    subprocess.run([sys.executable, str(copy)], check=True)
    made = (tmp_path / "reference.md").read_text("utf-8")
    assert made == REFERENCE, "the commands have changed: run make reference"


def test_reference__tells_every_command_and_option_sorted() -> None:
    parts = dict(re.findall(r"^## (\S+)\n(.*?)(?=^## )", REFERENCE, re.MULTILINE | re.DOTALL))
    commands = [name for name in parts if name.islower()]
    assert commands == sorted(COMMANDS)
    for name, command in COMMANDS.items():
        options = [p for p in command.params if isinstance(p, click.Option)]
        assert all(f"`{option.opts[0]}" in parts[name] for option in options), name


def test_reference__explains_every_option() -> None:
    rows = re.findall(r"^\| `-.*$", REFERENCE, re.MULTILINE)
    assert len(rows) > 50
    for row in rows:
        _, _, meaning, default, _ = re.split(r"(?<!\\)\|", row)
        assert len(meaning.strip()) > 5, row
        assert default.strip(), row


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_help__ends_with_an_example_that_can_be_parsed(name: str) -> None:
    epilog = COMMANDS[name].epilog or ""
    assert epilog.startswith(f"Example: hyperhpc {name}")
    words = shlex.split(epilog.split(" > ")[0])[3:]
    parent = click.Context(cli, **cli.context_settings)
    COMMANDS[name].make_context(name, words, parent)  # an error of usage if a word is wrong
