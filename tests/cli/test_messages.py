"""The style of all messages and hints, and the words of the sources and of every --help."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import hyperhpc
from hyperhpc import errors
from hyperhpc.cli.commands import cli
from hyperhpc.config import OPTIONS

SOURCES = Path(hyperhpc.__file__).parent
ERRORS = {"HyperhpcError", *(kind.__name__ for kind in errors.HyperhpcError.__subclasses__())}
#: Words that say nothing to somebody who has not learned them here.
PRIVATE_WORDS = re.compile(r"\btold\b|\banew\b|\bbeside\b|\bconfide|\bmend")


def texts_of(node: ast.expr, names: dict[str, ast.expr]) -> Iterator[tuple[str | None, str | None]]:
    """The start and the end of each text an expression can give; None if not written there."""
    match node:
        case ast.Constant(value=str(text)):
            yield text, text
        case ast.JoinedStr(values=values):
            ends = [v.value if isinstance(v, ast.Constant) else None for v in values]
            yield ends[0], ends[-1]
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            for start, _ in texts_of(left, names):
                for _, end in texts_of(right, names):
                    yield start, end
        case ast.IfExp(body=body, orelse=other):
            yield from texts_of(body, names)
            yield from texts_of(other, names)
        case ast.Name(id=name) if name in names:
            yield from texts_of(names[name], {})
        case _:
            yield None, None


def messages() -> Iterator[tuple[str, str | None, str | None]]:
    """Place, start and end of every message and hint of an error in the sources."""
    for path in sorted(SOURCES.rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        constants = {
            target.id: node.value
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(tree):
            name = ""
            if isinstance(node, ast.Call):
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if isinstance(node, ast.Call) and name in ERRORS:
                for argument in [*node.args[:2], *(k.value for k in node.keywords)]:
                    place = f"{path.relative_to(SOURCES)}:{argument.lineno}"
                    for start, end in texts_of(argument, constants):
                        yield place, start, end


def is_sentence_case(start: str) -> bool:
    """True if text starts with a capital, or with a path, option, number or identifier."""
    first = start.split(maxsplit=1)[0].rstrip(":,") if start.strip() else ""
    is_name = first in OPTIONS or not first.isalpha()
    return is_name or not first[0].islower()


@pytest.mark.slow
def test_errors__are_in_one_style() -> None:
    found = list(messages())
    assert len(found) > 200
    for place, start, end in found:
        assert start is None or is_sentence_case(start), f"{place}: {start!r}"
        assert end is None or not end.endswith(".") or end.endswith("..."), f"{place}: {end!r}"


def test_words__are_those_of_the_field() -> None:
    for path in sorted(SOURCES.rglob("*")):
        if path.is_file() and path.suffix in (".py", ".j2", ".js", ".css", ".toml"):
            for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
                assert not PRIVATE_WORDS.search(line), f"{path.name}:{number}: {line.strip()}"


def test_help__is_in_words_of_the_field_and_whole_sentences() -> None:
    for name, command in cli.commands.items():
        parent = click.Context(cli, info_name="hyperhpc", **cli.context_settings)
        context = click.Context(command, info_name=name, parent=parent)
        assert not PRIVATE_WORDS.search(command.get_help(context)), name
        for option in command.params:
            if isinstance(option, click.Option) and not option.hidden:
                text = (option.help or "").split("  [default")[0]
                assert text[:1].isupper(), (name, option.opts, text)
                assert text.endswith("."), (name, option.opts, text)
                assert len(text.split()) > 3, (name, option.opts, text)
