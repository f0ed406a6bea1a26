"""The command line: parse, call one function, print. Heavy imports happen inside."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from hyperhpc.cli.commands import COMMANDS
from hyperhpc.cli.options import (
    RUN_OPTIONS,
    SCENE_OPTIONS,
    SPEECH_OPTIONS,
    WORKER_OPTIONS,
    AnyPath,
    add_options,
    bbox_option,
    make_progress,
    read_formulas,
    read_numbers,
    read_scene_options,
    read_size,
    read_windows,
    size_option,
)
from hyperhpc.errors import HyperhpcError, IncompleteRunError, ResourceError
from hyperhpc.version import __version__

_INTERRUPTED, _TERMINATED = 130, 143
#: Names, which keep their capital at the start of a hint.
_NAMES = ("Zarr", "Dask", "Slurm", "Python")
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class _Terminated(BaseException):
    """SIGTERM, as an exception, so that everything open is closed."""


def main(args: Sequence[str] | None = None) -> None:
    """Run one command and exit with its status: the only place errors are caught."""
    words = list(sys.argv[1:] if args is None else args)
    before = signal.signal(signal.SIGTERM, _terminate), sys.unraisablehook
    sys.unraisablehook = _send_again
    interrupts = signal.getsignal(signal.SIGINT)
    if interrupts is signal.default_int_handler:
        signal.signal(signal.SIGINT, _Interrupts(words))
    try:
        code = cli.main(words, prog_name="hyperhpc", standalone_mode=False)
    except click.exceptions.Exit as error:
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = _stopped("interrupted", words, _INTERRUPTED)
    except _Terminated:
        code = _stopped("terminated", words, _TERMINATED)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        code = error.exit_code
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "hyperhpc"
        code = _failed(error.format_message(), f"see {command} --help", error.exit_code)
    except HyperhpcError as error:
        code = _failed(error.message, error.hint, error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0  # the reader of our output has gone; nothing to tell it
    except OSError as error:  # of a disk, seldom enough to be told in one place
        where = f"{error.filename}: " if error.filename else ""
        code = _failed(
            f"{where}{error.strerror or error}",
            "see that the disk has room and the folder may be written",
            ResourceError.exit_code,
        )
    except MemoryError as error:
        code = _failed(f"not enough memory: {error}", "ask for less", ResourceError.exit_code)
    finally:
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGINT, interrupts)
        sys.unraisablehook = before[1]
    code = code if isinstance(code, int) else 0
    _tell_code(code)
    sys.exit(code)


class _Interrupts:
    """Ctrl-C ends a run in order; once more, at once. Nothing is lost either way."""

    def __init__(self, words: Sequence[str]) -> None:
        self._words, self.count = words, 0

    def __call__(self, number: int, frame: object) -> None:
        self.count += 1
        if self.count == 1:
            raise KeyboardInterrupt
        code = _stopped("interrupted", self._words, _INTERRUPTED)
        _tell_code(code)
        os._exit(
            code
        )  # its workers see that it is gone, the next run that its lock is nobody's


def _tell_code(code: int) -> None:
    """Into a file, for job scripts: srun tells only the highest of its tasks."""
    if path := os.environ.get("HYPERHPC_EXIT_FILE"):
        with contextlib.suppress(OSError):
            Path(path).write_text(f"{code}\n", "ascii")


def _terminate(number: int, frame: object) -> None:
    raise _Terminated


def _send_again(lost: Any) -> None:
    """A signal that came while an object was being deleted is lost: send it once more."""
    for kind, number in ((KeyboardInterrupt, signal.SIGINT), (_Terminated, signal.SIGTERM)):
        if issubclass(lost.exc_type, kind):
            handler = signal.getsignal(number)
            if isinstance(handler, _Interrupts):
                handler.count = 0
            threading.Timer(0.05, os.kill, (os.getpid(), number)).start()
            return
    sys.__unraisablehook__(lost)


def _failed(message: str, hint: str | None, code: int) -> int:
    """One message, in one style: no full stop, which might be taken for part of a path."""
    _forget_futures()
    _say(f"error: {message.rstrip('.')}")
    if hint:
        first = hint.split(maxsplit=1)[0]
        if first.isalpha() and first.istitle() and first not in _NAMES:
            hint = hint[0].lower() + hint[1:]
        _say(f"  hint: {hint.rstrip('.')}")
    return code


def _stopped(how: str, words: Sequence[str], code: int) -> int:
    """Say how to go on, if that is possible."""
    _forget_futures()
    if words[:1] in (["run"], ["demo"], ["ingest"]):
        again = [word for word in words if word != "--restart"]
        _say(f"{how}; what is finished is kept. To go on: {shlex.join(['hyperhpc', *again])}")
    else:
        _say(how)
    return code


def _forget_futures() -> None:
    """Of what zarr and Dask did at once, one error is told; asyncio would print the others."""
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)


def _say(text: str) -> None:
    click.echo(text, err=True)


@click.group(context_settings=CONTEXT)
@click.version_option(__version__, prog_name="hyperhpc")
def cli() -> None:
    """Hyperspectral analysis of whole scenes: indices, clusters, maps, a report.

    Start with: hyperhpc demo demo/
    """


@cli.command(epilog="Example: hyperhpc simulate scene.zarr --size 1000x1000 --seed 7")
@click.argument("out", type=AnyPath())
@click.option("--size", callback=read_size, required=True, metavar="ROWSxCOLS", help="Pixels.")
@click.option("--bands", type=int, default=426, show_default=True, help="Number of bands.")
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Another number, another scene."
)
@click.option(
    "--layout",
    type=click.Choice(["zarr", "neon"]),
    default="zarr",
    show_default=True,
    help="The tutorial's Zarr, or a NEON HDF5 tile.",
)
@click.option(
    "--nodata-fraction", type=float, default=0.15, show_default=True, help="Ragged edges."
)
@click.option(
    "--tiles", callback=read_size, metavar="RxC", help="Cut into a folder of NEON tiles."
)
@click.option(
    "--overlap", type=int, default=0, show_default=True, help="Pixels that tiles share."
)
@click.option(
    "--product",
    type=click.Choice(["001", "002"]),
    default="001",
    show_default=True,
    help="NEON's DP3.30006: directional, or bidirectional.",
)
@click.option(
    "--neon-chunks",
    type=click.Choice(["old", "band"]),
    default="old",
    show_default=True,
    help="As until 2021, or one band each.",
)
@add_options(*SPEECH_OPTIONS)
def simulate(out: Path, size: tuple[int, int], product: str, **options: Any) -> None:
    """Write a scene that looks like NEON land, with its true class map beside it.

    The same options give the same scene.
    """
    from hyperhpc.simulate.scene import simulate as simulate_scene

    scene = _with_bar(
        make_progress(),
        "simulating",
        lambda tick: simulate_scene(
            out, *size, bidirectional=product == "002", progress=tick, **options
        ),
    )
    click.echo(f"scene: {scene.path}")
    click.echo(f"true classes: {scene.truth_path}")


def _with_bar(
    progress: Any, title: str, work: Callable[[Callable[[int, int], None]], Any]
) -> Any:
    """Run work that reports (done, total), under a progress bar."""
    with progress.stage(title, 1000, ""):
        shown = 0

        def tick(done: int, total: int) -> None:
            nonlocal shown
            progress.advance(1000 * done // max(total, 1) - shown)
            shown = 1000 * done // max(total, 1)

        return work(tick)


@cli.command(epilog="Example: hyperhpc info scene.zarr --json")
@click.argument("scene", type=AnyPath())
@add_options(*SCENE_OPTIONS)
@bbox_option
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def info(scene: Path, bbox: str | None, as_json: bool, **options: Any) -> None:
    """Say what a scene holds and how it was understood.

    Size, bands, scale, no-data, reference system and what is left out. Only metadata is read.
    """
    from hyperhpc.tools.inspect import inspect_scene

    facts = inspect_scene(scene, read_scene_options(options), read_numbers(bbox, 4, "--bbox"))
    _print_facts(facts, as_json)


def _print_facts(facts: dict[str, Any], as_json: bool) -> None:
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


@cli.command(
    epilog="Example: hyperhpc spectrum scene.zarr --x 517100 --y 4525900 --figure spectrum.png"
)
@click.argument("scene", type=AnyPath())
@add_options(*SCENE_OPTIONS)
@bbox_option
@click.option("--x", "xs", type=float, multiple=True, required=True, help="Easting.")
@click.option("--y", "ys", type=float, multiple=True, required=True, help="Northing.")
@click.option(
    "--method",
    type=click.Choice(["nearest", "linear"]),
    default="nearest",
    show_default=True,
    help="The pixel at the point, or between the four around it.",
)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.option("--figure", type=AnyPath(), help="Draw them into this file.")
def spectrum(
    scene: Path,
    xs: Sequence[float],
    ys: Sequence[float],
    bbox: str | None,
    method: str,
    as_json: bool,
    figure: Path | None,
    **options: Any,
) -> None:
    """Print the spectra at points (--x and --y, repeated in pairs).

    A table of CSV: one row per band, one column of reflectance (0-1) per point. A point
    outside the scene or the --bbox, or on no-data, is an error (3).
    """
    if len(xs) != len(ys):
        raise click.UsageError(f"{len(xs)} --x but {len(ys)} --y; give them in pairs")
    from hyperhpc.tools.inspect import check_figure, draw_spectra, read_spectra

    if figure:
        check_figure(figure)
    how = read_scene_options(options)
    box = read_numbers(bbox, 4, "--bbox")
    spectra = read_spectra(scene, how, list(zip(xs, ys, strict=True)), method, box)
    if figure:
        draw_spectra(scene, how, spectra, figure)
        _say(f"figure: {figure}")
    if as_json:
        click.echo(json.dumps(spectra, indent=1))
    elif not figure:
        click.echo("wavelength_nm," + ",".join(f"{s['x']:.10g}_{s['y']:.10g}" for s in spectra))
        for i, nm in enumerate(spectra[0]["wavelength_nm"]):
            values = (s["reflectance"][i] for s in spectra)
            row = ",".join("" if v is None else f"{v:.6g}" for v in values)
            click.echo(f"{nm:.3f},{row}")


@cli.command(epilog="Example: hyperhpc run scene.zarr out --clusters 12 --point 517100,4525900")
@add_options(*RUN_OPTIONS, *SPEECH_OPTIONS)
@click.option("--json", "as_json", is_flag=True, help="Print run.json at the end.")
def run(as_json: bool, **options: Any) -> None:
    """Run the whole analysis of SCENE into the folder OUT, or go on with it.

    Spectral indices and clusters of every pixel, overviews, and OUT/report.html. A run that
    was stopped goes on with the same command; workers and memory may differ, the results do
    not. Only one run is at work in a folder.
    """
    from hyperhpc.workers import serve_gang

    config = _config(**options)
    if not serve_gang(config):
        _run(config, as_json)


@cli.command(epilog="Example: hyperhpc plan scene.zarr out --memory-per-worker 2GiB")
@add_options(*RUN_OPTIONS)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def plan(as_json: bool, **options: Any) -> None:
    """Say what run would do with the same options, or why it would refuse.

    Tiles, passes, bytes to read and to write, memory and workers. Nothing is written.
    """
    from hyperhpc.pipeline.prepare import describe_plan

    _print_facts(describe_plan(_config(**options)), as_json)


def _config(scene: Path, out: Path, file: Path | None, **flags: Any) -> Any:
    from hyperhpc.config import load_config

    flags["bbox"] = read_numbers(flags["bbox"], 4, "--bbox")
    flags["drop"] = read_windows(flags["drop"])
    flags["points"] = [read_numbers(p, 2, "--point") for p in flags["points"]] or None
    for name in ("formula", "index"):
        flags[name] = read_formulas(flags[name]) or None
    config = load_config(scene, out, flags, file)
    if config.insecure:
        _say("warning: --insecure: whoever reaches the ports of this run runs programs as you")
    return config


def _command() -> str:
    """The command line, as it can be typed again."""
    return shlex.join(["hyperhpc", *sys.argv[1:]])


def _run(config: Any, as_json: bool) -> None:
    from hyperhpc.pipeline.runner import run as run_stages
    from hyperhpc.rundir.progress import stoppable

    with stoppable():
        folder = run_stages(config, make_progress(), _command())
    if as_json:
        click.echo(folder.run.read_text("utf-8"), nl=False)
    else:
        click.echo(f"report: {folder.report}")


@cli.command(epilog="Example: hyperhpc ingest NEON_tiles/ site.zarr")
@click.argument("sources", type=AnyPath(), nargs=-1, required=True, metavar="SOURCE...")
@click.argument("out", type=AnyPath(), metavar="OUT.zarr")
@add_options(*SCENE_OPTIONS, bbox_option, *WORKER_OPTIONS, *SPEECH_OPTIONS)
@click.option("--restart", is_flag=True, help="Begin anew, instead of going on.")
def ingest(sources: tuple[Path, ...], out: Path, bbox: str | None, **flags: Any) -> None:
    """Write files, or folders of files, as one store that is read fastest.

    Tiles of a site become one mosaic. What was stopped goes on with the same command.
    """
    from hyperhpc.config import load_config
    from hyperhpc.rundir.progress import stoppable
    from hyperhpc.tools.ingest import ingest as ingest_scene

    flags["bbox"] = read_numbers(bbox, 4, "--bbox")
    config = load_config(sources[0], out, flags)
    with stoppable():
        done = ingest_scene(sources, config, make_progress(), _command())
    click.echo(f"store: {done.path}, {done.files} files, {done.nbytes / 1e9:.3f} GB")


@cli.command(epilog="Example: hyperhpc status out")
@click.argument("out", type=AnyPath())
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(out: Path, as_json: bool) -> None:
    """Say what the run in OUT is doing, wherever it runs, or how it ended.

    It reads OUT/status.txt, and OUT/slurm/job of a job that was submitted: no connection to the
    run is needed.
    """
    from hyperhpc.rundir.progress import read_status

    _print_facts(read_status(out), as_json)


@cli.command(hidden=True)
@click.argument("connection", type=AnyPath())
@click.option("--name", required=True)
@click.option("--threads", type=int, required=True)
@click.option("--memory", type=int, required=True, help="Bytes.")
def worker(connection: Path, name: str, threads: int, memory: int) -> None:
    """Be a worker of a run on Slurm; its job script calls this."""
    from hyperhpc.workers.gang import serve_worker

    serve_worker(connection, name, threads, memory)


@cli.command(epilog="Example: hyperhpc report out")
@click.argument("out", type=AnyPath())
def report(out: Path) -> None:
    """Draw the report again, or that of an unfinished run, from what is on disk.

    The scene is not read. The report of an unfinished run lists the tiles that are missing.
    """
    from hyperhpc.tools.preview import report_run

    click.echo(f"report: {report_run(out, _say)}")


@cli.command(epilog="Example: hyperhpc view out --scene /data/scene.zarr --port 5006")
@click.argument("out", type=AnyPath())
@click.option("--scene", type=AnyPath(), help="Where the scene lies now, if it was moved.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    show_default=True,
    help="On loopback; 0 for any that is free.",
)
def view(out: Path, scene: Path | None, port: int) -> None:
    """Show the maps of OUT on a page of this machine: zoom, click, see spectra."""
    from hyperhpc.view import view_run

    view_run(out, scene, port, lambda address: click.echo(f"page: {address}"), _say)


@cli.command(epilog="Example: hyperhpc verify out")
@click.argument("out", type=AnyPath())
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def verify(out: Path, as_json: bool) -> None:
    """Compare every file of the results in OUT with its checksum; nothing is changed.

    Damaged files are listed, and it ends with 7; the run again computes damaged tiles anew.
    """
    from dataclasses import asdict

    from hyperhpc.tools.verify import verify as verify_run

    found = verify_run(out)
    if as_json:
        click.echo(json.dumps(asdict(found), indent=1))
    else:
        for name, what in found.damaged.items():
            click.echo(f"{name} {what}")
        what = "files" if found.complete else "files of the tiles finished so far"
        click.echo(
            f"{found.files} {what}, {found.nbytes / 1e6:.1f} MB: {len(found.damaged)} damaged"
        )
    if found.damaged:
        raise IncompleteRunError(
            f"{len(found.damaged)} of {found.files} files in {out} are not as they were "
            f"written; the first is {next(iter(found.damaged))}",
            found.hint,
        )


@cli.command(epilog="Example: hyperhpc demo demo/")
@click.argument("out", type=AnyPath())
@size_option
@add_options(*SPEECH_OPTIONS)
def demo(out: Path, size: tuple[int, int]) -> None:
    """Make a NEON-like scene and run the full analysis on this machine.

    OUT/scene.zarr is the scene, OUT/report.html what was found in it.
    """
    from hyperhpc.tools.demo import run_demo

    progress = make_progress()
    folder = run_demo(out, size, progress, lambda title, work: _with_bar(progress, title, work))
    click.echo(f"report: {folder.report}")


@cli.command(epilog="Example: hyperhpc completion bash > ~/.hyperhpc-completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a script that makes a shell complete commands and options; source it."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(cli, {}, "hyperhpc", "_HYPERHPC_COMPLETE").source())


@cli.command(epilog="Example: hyperhpc doctor --json")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def doctor(as_json: bool) -> None:
    """Say what is right and wrong with the environment this runs in.

    Packages, libraries, limits, memory, scratch, network, TLS and Slurm; what to type for
    each fault. It ends with 5 if there is an error.
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
            f"the environment is not fit for a run: {', '.join(wrong)}",
            "type what the lines name, then hyperhpc doctor again",
        )


for command in COMMANDS:
    cli.add_command(command)


if __name__ == "__main__":
    main()
