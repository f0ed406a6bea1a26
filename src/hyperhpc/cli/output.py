"""What several commands print."""

from __future__ import annotations

import json
import shlex
import sys
from typing import Any

import click


def print_facts(facts: dict[str, Any], as_json: bool) -> None:
    """Print names and values, in columns or as JSON."""
    if as_json:
        click.echo(json.dumps(facts, indent=1))
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        if name == "notes":
            for note in value:
                click.echo(f"{'note':<{width}}  {note}")
        else:
            click.echo(f"{name:<{width}}  {_plain(value)}")


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "  ".join(_plain(item) for item in value) or "none"
    if isinstance(value, float):
        return f"{value:.10g}"
    return "none" if value is None else str(value)


def typed_command() -> str:
    """The command line, as it can be typed again."""
    return shlex.join(["hyperhpc", *sys.argv[1:]])


def print_error(text: str) -> None:
    """Write a line to standard error."""
    click.echo(text, err=True)
