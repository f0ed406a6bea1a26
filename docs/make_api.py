"""Write api.md, the manual of the Python functions, from their docstrings.

``make reference`` calls it. Docstrings follow numpydoc: sections are underlined titles.
"""

from __future__ import annotations

import inspect
import re
from functools import cached_property
from pathlib import Path
from typing import Any

import hyperhpc
from hyperhpc.results import RunResults

PROPERTIES = (property, cached_property)
PAGE = Path(__file__).resolve().parent / "api.md"

INTRODUCTION = """\
# In Python

<!-- Made by `make reference`: change the docstrings, not this page. -->

What notebooks use. `import hyperhpc` loads nothing else; each function is loaded when it is
first used. Every error is a subclass of `hyperhpc.errors.HyperhpcError`, with a `message` and
a `hint`.
"""


def make_api() -> str:
    """Compose the page: functions in the order of their names, then the class they return."""
    names = [name for name in hyperhpc.__all__ if callable(getattr(hyperhpc, name))]
    parts = [INTRODUCTION]
    for name in names:
        parts += describe(f"hyperhpc.{name}", getattr(hyperhpc, name), "##")
    parts += ["## RunResults", *to_markdown(RunResults)]
    for name, member in vars(RunResults).items():
        is_documented = inspect.isfunction(member) or isinstance(member, PROPERTIES)
        if is_documented and not name.startswith("_"):
            parts += describe(name, member, "###")
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def describe(name: str, member: Any, level: str) -> list[str]:
    """Title, signature and docstring of a function, a method or a property."""
    if isinstance(member, PROPERTIES):
        function = member.fget if isinstance(member, property) else member.func
        kind = function.__annotations__.get("return", "")
        signature = f"{name}: {kind}"
    else:
        function = member
        signature = f"{name}{inspect.signature(member)}".replace("(self, ", "(")
        signature = re.sub(r"(: |-> )'([^']*)'", r"\1\2", signature.replace("(self)", "()"))
    title = f"{level} {name.removeprefix('hyperhpc.')}"
    return [title, f"```text\n{signature}\n```", *to_markdown(function)]


def to_markdown(documented: Any) -> list[str]:
    """Paragraphs of a docstring of numpydoc, its sections with a bold title each."""
    text = re.sub(r":\w+:`[~.]?([\w.]+)`", r"`\1`", inspect.getdoc(documented) or "")
    first, *rest = re.split(r"^(\w+)\n-+\n", text, flags=re.MULTILINE)
    parts = [plain(first)]
    for title, body in zip(rest[::2], rest[1::2], strict=True):
        if title == "Examples":
            parts += [f"**{title}**", f"```python\n{body.strip()}\n```"]
            continue
        items = re.findall(r"^(\S.*)\n((?:    .*\n?|\n(?=    ))+)", body + "\n", re.MULTILINE)
        listed = [f"- `{name}`: {' '.join(about.split())}" for name, about in items]
        parts += [f"**{title}**", "\n".join(map(plain, listed)) if listed else plain(body)]
    return parts


def plain(text: str) -> str:
    """reStructuredText literals as Markdown's."""
    return text.strip().replace("``", "`").replace("  # doctest: +SKIP", "")


if __name__ == "__main__":
    PAGE.write_text(make_api(), "utf-8")
