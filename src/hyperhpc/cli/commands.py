"""The group of all commands, the run itself, and commands about this installation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from hyperhpc.cli import run_commands, scene_commands
from hyperhpc.cli.options import (
    RUN_OPTIONS,
    VERBOSITY_OPTIONS,
    AnyPath,
    SectionedCommand,
    add_options,
    json_option,
    make_progress,
)
from hyperhpc.cli.output import print_error, print_facts, typed_command
from hyperhpc.errors import ResourceError
from hyperhpc.version import __version__

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100, "show_default": True}


@click.group(context_settings=CONTEXT)
@click.version_option(__version__, prog_name="hyperhpc", help="Show the version and exit.")
def cli() -> None:
    """Hyperspectral analysis of whole scenes: indices, clusters, maps, a report.

    Start with: hyperhpc demo demo/
    """


@cli.command(
    cls=SectionedCommand,
    epilog="Example: hyperhpc run scene.zarr out --clusters 12 --point 517100,4525900",
)
@add_options(*RUN_OPTIONS, *VERBOSITY_OPTIONS)
@click.option("--json", "as_json", is_flag=True, help="Print run.json at the end.")
def run(as_json: bool, **options: Any) -> None:
    """Run the whole analysis of SCENE into the folder OUT, or resume it.

    It computes spectral indices and clusters of every pixel, overviews, and OUT/report.html.
    A run that was stopped resumes with the same command; workers and memory may differ, the
    results do not. Only one run at a time works in a folder.
    """
    from hyperhpc.pipeline.runner import run as run_stages
    from hyperhpc.rundir.progress import stoppable
    from hyperhpc.workers import run_gang_task

    config = _read_config(**options)
    if run_gang_task(config):
        return
    with stoppable():
        folder = run_stages(config, make_progress(), typed_command())
    if as_json:
        click.echo(folder.run.read_text("utf-8"), nl=False)
    else:
        click.echo(f"report: {folder.report}")


@cli.command(
    cls=SectionedCommand, epilog="Example: hyperhpc plan scene.zarr out --memory-per-worker 2GiB"
)
@add_options(*RUN_OPTIONS, json_option)
def plan(as_json: bool, **options: Any) -> None:
    """Show what run would do with the same options, or why it would refuse.

    It shows tiles, passes, bytes to read and to write, memory and workers, and writes nothing.
    """
    from hyperhpc.pipeline.prepare import describe_plan

    print_facts(describe_plan(_read_config(**options)), as_json)


def _read_config(scene: Path, out: Path, config: Path | None, **flags: Any) -> Any:
    from hyperhpc.config import load_config

    read = load_config(scene, out, flags, config)
    if read.estimator and flags.get("estimator") is None:
        print_error(
            f"warning: {config} names the estimator {read.estimator}: the module "
            f"{read.estimator.partition(':')[0]} is imported and runs as you"
        )
    if read.insecure:
        print_error(
            "warning: --insecure: whoever reaches the ports of this run runs programs as you"
        )
    return read


@cli.command(hidden=True)
@click.argument("connection", type=AnyPath())
@click.option("--name", required=True, help="Use this name for the worker.")
@click.option("--threads", type=int, required=True, help="Run this number of threads.")
@click.option("--memory", type=int, required=True, help="Use this much memory, in bytes.")
def worker(connection: Path, name: str, threads: int, memory: int) -> None:
    """Start a worker of a run on Slurm; its job script calls this."""
    from hyperhpc.workers.elastic import run_elastic_worker

    run_elastic_worker(connection, name, threads, memory)


@cli.command(epilog="Example: hyperhpc completion bash > ~/.hyperhpc-completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a script that makes a shell complete commands and options; source it."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(cli, {}, "hyperhpc", "_HYPERHPC_COMPLETE").source())


@cli.command(epilog="Example: hyperhpc doctor --json")
@json_option
def doctor(as_json: bool) -> None:
    """Check the environment in which hyperhpc runs here.

    Packages, libraries, limits, memory, scratch, network, TLS and Slurm; what to type for
    each fault. The exit code is 5 if there is an error.
    """
    from hyperhpc.doctor import examine, show_json, show_lines

    lines = examine()
    if as_json:
        click.echo(show_json(lines))
    else:
        show_lines(lines)
    wrong = [line.check for line in lines if line.status == "error"]
    if wrong:
        raise ResourceError(
            f"The environment is not fit for a run: {', '.join(wrong)}",
            "Type what the lines above name, then hyperhpc doctor again",
        )


for command in (*scene_commands.COMMANDS, *run_commands.COMMANDS):
    cli.add_command(command)
