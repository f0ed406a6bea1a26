"""What a check finds, and the line that is shown of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """Result of one check.

    Attributes
    ----------
    status
        ``warning``: runs, but slower, less safely or with other bits; ``error``: will fail.
    value
        What was found, on one line.
    remedy
        What to type, or None if all is well.
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


def gib(number: float) -> str:
    """Bytes, as people read them."""
    if number < 2**30:
        return f"{number / 2**20:.0f} MiB"
    return f"{number / 2**30:.1f} GiB" if number < 2**40 else f"{number / 2**40:.1f} TiB"
