"""What a check finds, and how the lines are shown: in colour, as plain text or as JSON."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TextIO

Status = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """Result of one check: what was found, on one line, and what to type unless it is ``ok``.

    With a ``warning`` a run works, but slower, less safely or with other bits; with an
    ``error`` it fails.
    """

    status: Status
    value: str
    remedy: str | None = None


@dataclass(frozen=True)
class Line:
    """A finding with the name of its check: the keys of ``--json``."""

    check: str
    status: Status
    value: str
    remedy: str | None


def format_bytes(number: float) -> str:
    """Format a number of bytes in MiB, GiB or TiB."""
    if number < 2**30:
        return f"{number / 2**20:.0f} MiB"
    return f"{number / 2**30:.1f} GiB" if number < 2**40 else f"{number / 2**40:.1f} TiB"


_COLOURS = {"ok": "green", "warning": "yellow", "error": "bold red"}


def show_json(lines: Sequence[Line]) -> str:
    """Make a JSON list of objects with the keys check, status, value and remedy."""
    return json.dumps([dataclasses.asdict(line) for line in lines], indent=1)


def show_lines(lines: Sequence[Line], file: TextIO | None = None) -> None:
    """Print one row for each check, its remedy below it, and a count at the end."""
    file = file or sys.stdout
    if file.isatty():
        try:
            _show_pretty(lines, file)
            return
        except ImportError:  # rich itself may be what is broken
            pass
    width = max(len(line.check) for line in lines)
    rows = []
    for line in lines:
        rows.append(f"{line.status:<8} {line.check:<{width}}  {line.value}")
        if line.remedy:
            rows.append(f"{'':<8} {'':<{width}}  -> {line.remedy}")
    for row in (*rows, count_lines(lines)):
        file.write(_printable(row, file) + "\n")
    file.flush()  # here, where it is no error if the reader has ended


def count_lines(lines: Sequence[Line]) -> str:
    """Count the lines of each status."""
    counts = Counter(line.status for line in lines)
    words = [f"{counts[s]} {s}{'' if counts[s] == 1 else 's'}" for s in ("warning", "error")]
    return f"{len(lines)} checks: {counts['ok']} ok, {', '.join(words)}"


def _show_pretty(lines: Sequence[Line], file: TextIO) -> None:
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    status, check = Column(no_wrap=True), Column(no_wrap=True)
    table = Table.grid(status, check, Column(overflow="fold"), padding=(0, 2))
    for line in lines:
        value = Text(_printable(line.value, file))
        if line.remedy:
            value.append(f"\n-> {_printable(line.remedy, file)}", "bold")
        table.add_row(Text(line.status, _COLOURS[line.status]), line.check, value)
    console = Console(file=file, highlight=False, width=shutil.get_terminal_size().columns)
    console.print(table)
    console.print(count_lines(lines))


def _printable(text: str, file: TextIO) -> str:
    """Escape what this file cannot hold: paths may have bytes that are no characters."""
    encoding = file.encoding or "utf-8"
    whole = text.encode(encoding, "backslashreplace").decode(encoding)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in whole)
