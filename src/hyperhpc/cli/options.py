"""Options that several commands share, and how their words are read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click


class AnyPath(click.Path):
    """A path that is not empty: the empty one would mean the current folder."""

    def convert(self, value: Any, parameter: Any, context: Any) -> Path:
        """Turn a word into a path."""
        if value == "":
            self.fail("the path is empty", parameter, context)
        return Path(value)


def read_size(context: Any, parameter: Any, value: str | None) -> tuple[int, int] | None:
    """Rows and columns in ``1000x1000``; None if the option is not given."""
    if value is None:
        return None
    rows, _, cols = value.lower().partition("x")
    if not (rows.isdecimal() and cols.isdecimal() and int(rows) and int(cols)):
        raise click.BadParameter(
            f"{value!r} is no size; write ROWSxCOLS, for example 1000x1000"
        )
    return int(rows), int(cols)


size_option = click.option(
    "--size",
    callback=read_size,
    default="1000x1000",
    show_default=True,
    metavar="ROWSxCOLS",
    help="Pixels.",
)


def read_numbers(text: str | None, count: int, option: str) -> Any:
    """So many numbers with commas between; None if the option is not given."""
    if text is None:
        return None
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != count:
        raise click.BadParameter(
            f"{text!r} is not {count} numbers with commas between", param_hint=option
        )
    return numbers


def read_formulas(texts: Sequence[str]) -> dict[str, str]:
    """Names and formulas of ``NAME=EXPR``."""
    formulas = {}
    for text in texts:
        name, equals, formula = text.partition("=")
        name = name.strip()
        if not equals or name in formulas:
            problem = "is given twice" if equals else "has no formula; write NAME=EXPR"
            raise click.BadParameter(f"{name!r} {problem}", param_hint="--formula")
        formulas[name] = formula
    return formulas


#: How a scene is read; of every command that takes one.
SCENE_OPTIONS = (
    click.option("--group", help="Group that holds the cube, if there are several."),
    click.option(
        "--wavelengths",
        type=AnyPath(),
        metavar="FILE",
        help="Band centres, if the scene has none.",
    ),
    click.option("--overlap", help="Of a mosaic: first, last or nadir.  [default: first]"),
    click.option("--mask", help="No-data by quality: of weather,shadow,cloud."),
    click.option(
        "--aoi", type=AnyPath(), metavar="FILE", help="Only inside polygons (.gpkg, .geojson)."
    ),
    click.option("--bands", help="Of a mosaic: same or intersect.  [default: same]"),
    click.option(
        "--resample-bands",
        is_flag=True,
        default=None,
        help="Of a mosaic: to the first's centres.",
    ),
)


_SPEECH = "hyperhpc.speech"


def _note_speech(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        if context.meta.get(_SPEECH, parameter.name) != parameter.name:
            raise click.UsageError("--quiet and --verbose: one of them")
        context.meta[_SPEECH] = parameter.name


#: How much is said on standard error; :func:`make_progress` follows.
SPEECH_OPTIONS = tuple(
    click.option(*names, is_flag=True, expose_value=False, callback=_note_speech, help=words)
    for names, words in (
        (("-q", "--quiet"), "Say only warnings and errors."),
        (("-v", "--verbose"), "Say more: times, and progress in logs too."),
    )
)


def make_progress() -> Any:
    """What the options of the current command ask for."""
    from hyperhpc.rundir.progress import QuietProgress, TerminalProgress

    speech = click.get_current_context().meta.get(_SPEECH)
    return QuietProgress() if speech == "quiet" else TerminalProgress(speech == "verbose")


def add_options(*options: Any) -> Any:
    """Several options as one decorator, in the order of the help."""

    def add(function: Any) -> Any:
        for option in reversed(options):
            function = option(function)
        return function

    return add


def read_scene_options(values: dict[str, Any]) -> Any:
    """What was given of :data:`SCENE_OPTIONS`."""
    from hyperhpc.config import SceneOptions

    given = {name: value for name, value in values.items() if value is not None}
    if "mask" in given:
        given["mask"] = tuple(name.strip() for name in given["mask"].split(",") if name.strip())
    return SceneOptions(**given)


drop_option = click.option(
    "--drop",
    multiple=True,
    metavar="LO-HI",
    help="Drop bands from LO to HI nm, instead of the usual windows. Repeatable.",
)
bbox_option = click.option(
    "--bbox", metavar="XMIN,YMIN,XMAX,YMAX", help="Only this area, in the scene's CRS."
)


def read_windows(texts: Sequence[str]) -> list[tuple[float, float]] | None:
    """Windows (nm) of ``LO-HI``; None if there are none."""
    windows = []
    for text in texts:
        low, _, high = text.partition("-")
        try:
            windows.append((float(low), float(high)))
        except ValueError:
            raise click.BadParameter(
                f"{text!r} is no window; write LO-HI in nm, for example 1340-1445",
                param_hint="--drop",
            ) from None
    return windows or None


#: How many workers, and how large; of every command that starts some.
WORKER_OPTIONS = (
    click.option(
        "--workers", type=int, help="Worker processes.  [default: as fit the machine]"
    ),
    click.option("--threads-per-worker", type=int, help="Threads of each.  [default: 1]"),
    click.option("--memory-per-worker", help="Of each, such as 2GiB.  [default: 4GiB]"),
)
#: Of ``run``; ``plan`` takes them too.
RUN_OPTIONS = (
    click.argument("scene", type=AnyPath()),
    click.argument("out", type=AnyPath()),
    *SCENE_OPTIONS,
    bbox_option,
    drop_option,
    click.option("--clusters", type=int, help="Number of clusters.  [default: 8]"),
    click.option("--stride", type=int, help="Fit to every n-th row and column.  [default: 4]"),
    click.option("--models", help="Of lloyd,minibatch.  [default: both]"),
    click.option("--indices", help="Names with commas, or all.  [default: all]"),
    click.option("--formula", multiple=True, metavar="NAME=EXPR", help="Your own index."),
    click.option("--index", multiple=True, hidden=True),
    click.option(
        "--index-bits",
        type=int,
        help="Bits kept of an index's fraction; 11 save disk.  [default: 23, all]",
    ),
    click.option(
        "--point", "points", multiple=True, metavar="E,N", help="Spectrum here. Repeatable."
    ),
    click.option("--seed", type=int, help="Of every random choice.  [default: 0]"),
    click.option(
        "--skip-bad-tiles", is_flag=True, default=None, help="No-data where it is unreadable."
    ),
    *WORKER_OPTIONS,
    click.option(
        "--launcher",
        help="Where workers run: local, gang, elastic, external.  [default: local]",
    ),
    click.option("--address", metavar="tls://HOST:PORT", help="Of --launcher external."),
    click.option("--interface", help="Network between nodes, if it is not found out right."),
    click.option("--insecure", is_flag=True, default=None, help="No TLS: others can intrude."),
    click.option("--engine", help="hyperhpc or dask-ml.  [default: hyperhpc]"),
    click.option(
        "--estimator", metavar="MODULE:CLASS", help="One more model from scikit-learn."
    ),
    click.option(
        "--apply-model",
        type=AnyPath(),
        metavar="FILE",
        help="Apply OUT/model.json of another run.",
    ),
    click.option("--model", type=AnyPath(), hidden=True),
    click.option(
        "--seed-compat", is_flag=True, default=None, help="The tutorial's own choices."
    ),
    click.option("--config", "file", type=AnyPath(), help="Options as TOML."),
    click.option(
        "--dashboard", is_flag=True, default=None, help="Dask's dashboard, on loopback."
    ),
    click.option(
        "--restart", is_flag=True, default=None, help="Rename the old run, begin anew."
    ),
)
