"""The documents, for the tests of what they say."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
#: Pages that people read, by their path in the checkout.
PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "jobs/README.md",
    "container/README.md",
    "benchmarks/README.md",
    *sorted(f"docs/{path.name}" for path in DOCS.glob("*.md")),
]


def read(page: str) -> str:
    """Text of a page: a path in the checkout, or the name of a file in docs/."""
    return (ROOT / page if (ROOT / page).is_file() else DOCS / page).read_text("utf-8")


def blocks(page: str, kind: str) -> list[str]:
    """Fenced blocks of a page whose opening line is exactly this."""
    return re.findall(rf"^```{re.escape(kind)}\n(.*?)^```$", read(page), re.MULTILINE | re.DOTALL)


def make_targets() -> dict[str, str]:
    """Target of the Makefile to its comment, empty where it has none."""
    text = (ROOT / "Makefile").read_text("utf-8")
    return dict(re.findall(r"^([a-z][a-z-]*):(?!=)[^#\n]*(?:## (.*))?$", text, re.MULTILINE))
