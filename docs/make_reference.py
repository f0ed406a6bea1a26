"""Write reference.md, the manual of the command line, from the commands themselves.

``make reference`` calls it. Synopsis, options, defaults and examples are what ``--help``
shows, and exit codes are those of the errors, so that the page cannot say anything else.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import click

from hyperhpc import errors
from hyperhpc.cli.commands import cli

PAGE = Path(__file__).resolve().parent / "reference.md"

INTRODUCTION = """\
# Commands

<!-- Made by `make reference`: change the commands, not this page. -->

`hyperhpc COMMAND --help` shows the same in a terminal, and `hyperhpc --version` the version.
Results go to standard output, messages and progress to standard error. Whatever is wrong with
a command line is told before the work starts, by one message with a hint, and by the
[exit code](#exit-codes).
"""

#: What the words in capitals stand for. click has no help for arguments before 8.4.
ARGUMENTS = {
    "SCENE": "A Zarr store, NEON HDF5, ENVI or GeoTIFF file, or a folder of such files.",
    "SOURCE": "A file or a folder of files, in any format that a scene may have.",
    "OUT": "The folder of a run: made if it is not there, and nobody else's.",
    "OUT.zarr": "The new store.",
    "DEST": "The new file.",
    "FILE.csv": "The new table of endmembers.",
    "FILE.toml": "The names of the clusters; written as a template if it is not there.",
    "{bash|zsh|fish}": "The shell.",
}
#: Commands whose OUT is something else.
OTHER_OUT = {"simulate": "The new store or file, or, with `--tiles`, the folder of tiles."}

ENVIRONMENT = {
    "TMPDIR": "Where scratch and caches go; `/tmp` if it is not set.",
    "HYPERHPC_DASHBOARD_HOST": "The login node that the `ssh` line of `--dashboard` names.",
    "HYPERHPC_EXIT_FILE": "A file the exit code is written into, for job scripts.",
    "HYPERHPC_STOP_FILE": "A file; a run that sees it stops in order, with exit code 7.",
}

#: What ends a command beside the errors.
OTHER_CODES = {
    0: "Done.",
    2: "The command line is wrong: an unknown option, a missing argument.",
    130: "Interrupted (Ctrl-C). A run goes on with the same command.",
    143: "Terminated (SIGTERM, SIGHUP or SIGQUIT). A run goes on with the same command.",
}


def make_reference() -> str:
    """Compose the page, commands in the order of their names."""
    commands = {name: c for name, c in sorted(cli.commands.items()) if not c.hidden}
    purposes = [(f"[`{name}`](#{name})", help_of(c)[0]) for name, c in commands.items()]
    environment = [(code(name), text) for name, text in ENVIRONMENT.items()]
    parts = [INTRODUCTION, table("command", "purpose", rows=purposes)]
    parts += [describe(name, command) for name, command in commands.items()]
    parts += ["## Environment\n", table("variable", "meaning", rows=environment)]
    parts += ["## Exit codes\n", table("code", "meaning", rows=exit_codes())]
    return "\n".join(parts)


def describe(name: str, command: click.Command) -> str:
    """Synopsis, description, arguments, options and example of one command."""
    parent = click.Context(cli, info_name="hyperhpc", **cli.context_settings)
    context = click.Context(command, info_name=name, parent=parent)
    arguments, options = [], []
    for parameter in command.get_params(context):
        if "--help" in parameter.opts:
            continue
        if isinstance(parameter, click.Option):
            options.append(describe_option(parameter, context))
        else:
            word = parameter.make_metavar(context)
            arguments.append((code(word), describe_argument(name, word)))
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    example = (command.epilog or "").removeprefix("Example: ")
    parts = [f"## {name}", f"```text\n{usage}\n```", *help_of(command)]
    if arguments:
        parts.append(table("argument", "meaning", rows=arguments).rstrip())
    if options:
        parts.append(table("option", "meaning", "default", rows=options).rstrip())
    parts.append(f"Example:\n\n```sh\n{example}\n```\n")
    return "\n\n".join(parts)


def help_of(command: click.Command) -> list[str]:
    """Paragraphs of a command's help, one line each."""
    text = inspect.cleandoc(command.help or "")
    return [escape(" ".join(part.split())) for part in text.split("\n\n")]


def describe_argument(command: str, word: str) -> str:
    """What a word in capitals stands for."""
    name = word.removesuffix("...").rstrip("12")
    if name not in ARGUMENTS:
        raise SystemExit(f"error: {word} of {command} is not among ARGUMENTS in {__file__}")
    return OTHER_OUT.get(command, ARGUMENTS[name]) if name == "OUT" else ARGUMENTS[name]


def describe_option(option: click.Option, context: click.Context) -> tuple[str, str, str]:
    """Names, meaning and default; the last stands in brackets at the end of a help text."""
    names, text = option.get_help_record(context) or ("", "")
    default = "off" if option.is_flag else "none"
    if bracket := re.search(r"\s*\[([^\]]*)\]$", text):
        text, default = text[: bracket.start()], bracket[1].removeprefix("default: ")
    return code(names), escape(text), escape(default)


def exit_codes() -> list[tuple[str, str]]:
    """Code and meaning, from the errors."""
    codes = dict(OTHER_CODES)
    for kind in errors.HyperhpcError.__subclasses__():
        codes[kind.exit_code] = " ".join((kind.__doc__ or "").split())
    return [(str(number), codes[number]) for number in sorted(codes)]


def table(*titles: str, rows: list[tuple[str, ...]]) -> str:
    """Rows of ready Markdown as a table."""
    lines = [titles, ("---",) * len(titles), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def code(text: str) -> str:
    """Text as it is typed; a bar would end the cell of a table."""
    return f"`{text}`".replace("|", "\\|")


def escape(text: str) -> str:
    """Words that hold nothing Markdown obeys."""
    return re.sub(r"([|*<_\[])", r"\\\1", text)


if __name__ == "__main__":
    PAGE.write_text(make_reference(), "utf-8")
