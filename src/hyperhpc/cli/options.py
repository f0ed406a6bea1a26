"""Options of commands: made from the table in :mod:`hyperhpc.config`, and some of their own."""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from hyperhpc.config import OPTIONS, Option, SceneOptions, options_of
from hyperhpc.parsers import parse_flag, parse_integer, parse_path, parse_words

# --- types of values ---------------------------------------------------------------------


class AnyPath(click.Path):
    """A path that is not empty: the empty one would mean the current folder."""

    def convert(self, value: Any, parameter: Any, context: Any) -> Path:
        """Turn text into a path."""
        if value == "":
            self.fail("the path is empty", parameter, context)
        return Path(value)


class Word(click.Choice):
    """One word of a closed set, in any case; words that were replaced are understood."""

    def __init__(self, option: Option) -> None:
        super().__init__(option.choices, case_sensitive=False)
        self._former = option.former_choices

    def convert(self, value: Any, parameter: Any, context: Any) -> Any:
        """Return the word as the set spells it."""
        return super().convert(self._former.get(value.lower(), value), parameter, context)


class Words(click.ParamType):
    """Words with commas between, in any case: of a closed set, or of indices if it is empty."""

    name = "words"

    def __init__(self, option: Option) -> None:
        self._choices, self._parse = option.choices, option.parse

    def convert(self, value: Any, parameter: Any, context: Any) -> tuple[str, ...]:
        """Split the text; refuse words that are not in a closed set."""
        try:
            words: tuple[str, ...] = self._parse(value)
        except ValueError as error:
            self.fail(str(error), parameter, context)
        return words

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """Show all words of a closed set."""
        return f"[{'|'.join(self._choices)}],..." if self._choices else "NAME,..."

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Offer the words that are not yet in the text."""
        before, comma, start = incomplete.rpartition(",")
        given = parse_words(before)
        return [
            CompletionItem(f"{before}{comma}{word}")
            for word in self._choices or index_names()
            if word.startswith(start.lower()) and word not in given
        ]


def index_names() -> tuple[str, ...]:
    """Names of the built-in spectral indices, and ``all``."""
    table = resources.files("hyperhpc.analysis") / "indices.toml"
    return ("all", *tomllib.loads(table.read_text("utf-8")))


# --- options of the table ----------------------------------------------------------------


class TableOption(click.Option):
    """An option of the table; its former names are understood, and shown nowhere."""

    def __init__(self, *names: Any, entry: Option, **more: Any) -> None:
        super().__init__(*names, **more)
        self.section = entry.section
        self._former = [f"--{name}" for name in entry.former_names]

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        """Let the parser take the former names too."""
        shown, self.opts = self.opts, self.opts + self._former
        super().add_to_parser(parser, ctx)
        self.opts = shown


def table_option(name: str) -> Any:
    """Make the option of this name in :data:`hyperhpc.config.OPTIONS`."""
    entry = OPTIONS[name]
    more: dict[str, Any] = {"metavar": entry.metavar, "multiple": entry.is_repeatable}
    if entry.parse is parse_flag:
        more |= {"is_flag": True, "default": None}
    elif entry.parse is parse_integer:
        more["type"] = int
    elif entry.parse is parse_path:
        more["type"] = AnyPath()
    elif entry.choices and not isinstance(entry.default, tuple):
        more["type"] = Word(entry)
    elif entry.choices or entry.parse is parse_words:
        more["type"] = Words(entry)
    else:
        more |= {"type": str, "callback": _parse_with(entry)}
    flag = entry.flag or f"--{name.replace('_', '-')}"
    return click.option(flag, name, cls=TableOption, entry=entry, help=_help_of(entry), **more)


def _help_of(entry: Option) -> str:
    """Help and default. click gets no default, so that None means not given."""
    default = entry.default_text
    if not default and not isinstance(entry.default, dict | bool | None):
        default = str(entry.default)
        if isinstance(entry.default, tuple):
            default = ",".join(entry.default)
    return f"{entry.help}  [default: {default}]" if default else entry.help


def _parse_with(entry: Option) -> Any:
    def parse(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
        if value is None or value == ():
            return None
        try:
            return entry.parse(value)
        except ValueError as error:
            shown = repr(value) if isinstance(value, str) else " ".join(map(repr, value))
            raise click.BadParameter(f"{shown}: {error}") from None

    return parse


def add_options(*options: Any) -> Any:
    """Several options as one decorator, in the order of the help."""

    def add(function: Any) -> Any:
        for option in reversed(options):
            function = option(function)
        return function

    return add


def read_scene_options(values: dict[str, Any]) -> SceneOptions:
    """Make the options that were given of :data:`SCENE_OPTIONS`."""
    return SceneOptions(**{name: value for name, value in values.items() if value is not None})


class SectionedCommand(click.Command):
    """A command whose options are shown below the headings of the table."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one list of options for each heading."""
        sections: dict[str, list[tuple[str, str]]] = {title: [] for title in _SECTIONS}
        for parameter in self.get_params(ctx):
            if isinstance(parameter, click.Option) and (record := parameter.get_help_record(ctx)):
                sections[getattr(parameter, "section", _SECTIONS[-1])].append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


_SECTIONS = ("Options that matter first", "Analysis", "Scene", "Workers", "General")

# --- options that several commands share -------------------------------------------------

#: How a scene is read; for every command that takes one.
SCENE_OPTIONS = tuple(map(table_option, options_of(SceneOptions)))
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print the result as JSON, for programs."
)


def path_option(name: str, metavar: str, help: str) -> Any:
    """Make an option that takes a path."""
    return click.option(name, type=AnyPath(), metavar=metavar, help=help)


def choice_option(name: str, choices: str, help: str, **more: Any) -> Any:
    """Make an option that takes one of some words, in any case: the first if it is not given."""
    kind = click.Choice(choices.split(), case_sensitive=False)
    return click.option(name, type=kind, **{"default": kind.choices[0]} | more, help=help)


def size_option(name: str, help: str, **more: Any) -> Any:
    """Make an option that takes rows and columns."""
    return click.option(name, callback=_read_size, metavar="ROWSxCOLS", help=help, **more)


#: For ``run`` and ``plan``.
RUN_OPTIONS = (
    click.argument("scene", type=AnyPath()),
    click.argument("out", type=AnyPath()),
    *map(table_option, sorted(OPTIONS, key=lambda name: _SECTIONS.index(OPTIONS[name].section))),
    path_option(
        "--config",
        "FILE",
        "Read options from this TOML file; those of the command line replace them.",
    ),
)


def _read_size(context: Any, parameter: Any, value: str | None) -> tuple[int, int] | None:
    """Rows and columns in ``1000x1000``; None if the option is not given."""
    if value is None:
        return None
    rows, _, cols = value.lower().partition("x")
    if not (rows.isdecimal() and cols.isdecimal() and int(rows) and int(cols)):
        raise click.BadParameter(f"{value!r} is not a size; write ROWSxCOLS, for example 1000x1000")
    return int(rows), int(cols)


_VERBOSITY = "hyperhpc.verbosity"


def _note_verbosity(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        if context.meta.get(_VERBOSITY, parameter.name) != parameter.name:
            raise click.UsageError("--quiet and --verbose exclude each other; give one of them")
        context.meta[_VERBOSITY] = parameter.name


#: How much is written to standard error; :func:`make_progress` follows.
VERBOSITY_OPTIONS = tuple(
    click.option(*names, is_flag=True, expose_value=False, callback=_note_verbosity, help=help)
    for names, help in (
        (("-q", "--quiet"), "Write only warnings and errors to standard error."),
        (("-v", "--verbose"), "Write times too, and progress also into logs."),
    )
)


def make_progress() -> Any:
    """Make the progress display that the options of the current command ask for."""
    from hyperhpc.rundir.progress import QuietProgress, TerminalProgress

    verbosity = click.get_current_context().meta.get(_VERBOSITY)
    return QuietProgress() if verbosity == "quiet" else TerminalProgress(verbosity == "verbose")
