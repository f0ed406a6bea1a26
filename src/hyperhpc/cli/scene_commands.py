"""Commands that read or write scenes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import click

from hyperhpc.cli.options import (
    SCENE_OPTIONS,
    VERBOSITY_OPTIONS,
    AnyPath,
    add_options,
    choice_option,
    json_option,
    make_progress,
    path_option,
    read_scene_options,
    size_option,
    table_option,
)
from hyperhpc.cli.output import print_facts, typed_command
from hyperhpc.config import MAX_CLUSTERS


@click.command(epilog="Example: hyperhpc simulate scene.zarr --size 1000x1000 --seed 7")
@click.argument("out", type=AnyPath())
@size_option("--size", "Make a scene of this many rows and columns of pixels.", required=True)
@click.option("--bands", default=426, help="Make this number of bands.")
@click.option(
    "--seed",
    default=0,
    help="Start all random choices from this number; another number gives another scene.",
)
@choice_option(
    "--layout", "zarr neon", "Write a Zarr store like the tutorial's, or a NEON HDF5 tile."
)
@click.option(
    "--nodata-fraction",
    default=0.15,
    help="Make this share of the pixels no-data, at ragged edges (0-1).",
)
@size_option("--tiles", "Cut the scene into a folder of this many rows and columns of NEON tiles.")
@click.option("--overlap", default=0, help="Let neighbouring tiles share this number of pixels.")
@choice_option(
    "--product",
    "001 002",
    "Write NEON's product DP3.30006.001 (directional) or .002 (bidirectional).",
)
@choice_option(
    "--neon-chunks",
    "old band",
    "Store NEON tiles in chunks as until 2021 (old), or one chunk per band.",
)
@add_options(*VERBOSITY_OPTIONS)
def simulate(out: Path, size: tuple[int, int], product: str, **options: Any) -> None:
    """Write a scene that looks like NEON land, and a map of its true classes.

    The same options give the same scene.
    """
    from hyperhpc.simulate.scene import simulate as simulate_scene

    is_bidirectional = product == "002"
    with _bar(make_progress(), "simulating") as tick:
        scene = simulate_scene(out, *size, bidirectional=is_bidirectional, progress=tick, **options)
    click.echo(f"scene: {scene.path}")
    click.echo(f"true classes: {scene.truth_path}")


@contextmanager
def _bar(progress: Any, title: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar of work that reports (done, total)."""
    shown = 0

    def tick(done: int, total: int) -> None:
        nonlocal shown
        progress.advance(1000 * done // max(total, 1) - shown)
        shown = 1000 * done // max(total, 1)

    with progress.stage(title, 1000, ""):
        yield tick


@click.command(epilog="Example: hyperhpc demo demo/")
@click.argument("out", type=AnyPath())
@size_option("--size", "Make a scene of this many rows and columns of pixels.", default="1000x1000")
@add_options(*VERBOSITY_OPTIONS)
def demo(out: Path, size: tuple[int, int]) -> None:
    """Make a NEON-like scene and run the full analysis on this machine.

    OUT/scene.zarr is the scene, OUT/report.html shows what was found in it.
    """
    from hyperhpc.tools.demo import run_demo

    progress = make_progress()
    folder = run_demo(out, size, progress, partial(_bar, progress))
    click.echo(f"report: {folder.report}")


@click.command(epilog="Example: hyperhpc info scene.zarr --json")
@click.argument("scene", type=AnyPath())
@add_options(*SCENE_OPTIONS, table_option("bbox"), json_option)
def info(scene: Path, bbox: Any, as_json: bool, **options: Any) -> None:
    """Show what a scene holds and how it was understood.

    Size, bands, scale, no-data, reference system and what is left out. Only metadata is read.
    """
    from hyperhpc.tools.inspect import inspect_scene

    print_facts(inspect_scene(scene, read_scene_options(options), bbox), as_json)


def _former_option(axis: str) -> Any:
    """--x and --y, which gave points before --point did."""
    return click.option(f"--{axis}", f"{axis}s", type=float, multiple=True, hidden=True)


def _check_given(points: Any, file: Any) -> None:
    if not points and file is None:
        raise click.UsageError("No points are given; give --point X,Y or --points FILE")


@click.command(
    epilog="Example: hyperhpc spectrum scene.zarr --point 517100,4525900 --figure spectrum.png"
)
@click.argument("scene", type=AnyPath())
@add_options(*map(table_option, ("points", "points_file", "point_crs")))
@add_options(*SCENE_OPTIONS, table_option("bbox"), _former_option("x"), _former_option("y"))
@choice_option(
    "--method",
    "nearest linear",
    "Take the pixel at the point, or interpolate between the four around it.",
)
@json_option
@path_option("--figure", "FILE", "Draw the spectra into this file (.png, .pdf or .svg).")
def spectrum(
    scene: Path,
    points: Any,
    points_file: Path | None,
    point_crs: str | None,
    xs: Sequence[float],
    ys: Sequence[float],
    bbox: Any,
    method: str,
    as_json: bool,
    figure: Path | None,
    **options: Any,
) -> None:
    """Print the spectra at points.

    The CSV table has one row per band and one column of reflectance (0-1) per point. A point
    outside the scene or the --bbox, or on no-data, is an error (exit code 3). A row of a file
    without coordinates keeps an empty column.
    """
    if len(xs) != len(ys):
        raise click.UsageError(f"{len(xs)} --x but {len(ys)} --y; give them in pairs")
    pairs = [*(points or ()), *zip(xs, ys, strict=True)]
    _check_given(pairs, points_file)
    from hyperhpc.scene.points import GivenPoints
    from hyperhpc.tools.inspect import check_figure, draw_spectra, read_spectra

    if figure:
        check_figure(figure)
    how = read_scene_options(options)
    given = GivenPoints(pairs, points_file, point_crs)
    spectra, notes = read_spectra(scene, how, given, method, bbox)
    for note in notes:
        click.echo(f"note: {note}", err=True)
    if figure:
        draw_spectra(scene, how, spectra, figure)
        click.echo(f"figure: {figure}", err=True)
    if as_json:
        click.echo(json.dumps(spectra, indent=1))
    elif not figure:
        names = [
            f"no_geometry_{number}" if s["x"] is None else f"{s['x']:.10g}_{s['y']:.10g}"
            for number, s in enumerate(spectra, 1)
        ]
        click.echo("wavelength_nm," + ",".join(names))
        for i, nm in enumerate(spectra[0]["wavelength_nm"]):
            values = (s["reflectance"][i] for s in spectra)
            row = ",".join("" if v is None else f"{v:.6g}" for v in values)
            click.echo(f"{nm:.3f},{row}")


@click.command(epilog="Example: hyperhpc extract tile.h5 plots.csv --points plots.gpkg")
@click.argument("scene", type=AnyPath())
@click.argument("dest", type=AnyPath())
@table_option("points")
@click.option(
    "--points",
    "--polygons",
    "points_file",
    type=AnyPath(),
    metavar="FILE",
    help="Read points or polygons from this file (GeoPackage, Shapefile, GeoJSON, FlatGeobuf, "
    "KML), or points from a CSV file with columns x,y or easting,northing or "
    "lon,lat.",
)
@table_option("point_crs")
@click.option(
    "--buffer", type=float, metavar="M", help="Take all pixels within this distance in metres."
)
@add_options(*SCENE_OPTIONS)
def extract(
    scene: Path,
    dest: Path,
    points: Any,
    points_file: Path | None,
    point_crs: str | None,
    buffer: float | None,
    **options: Any,
) -> None:
    """Write spectra of a scene, or indices and classes of a run, at points or in polygons.

    SCENE may be the OUT of a run. One row per point, and per feature of the file, with its
    attributes. Of a scene: one column per band, named by its centre in nm; in polygons mean, sd
    and n. Of a run: mean, sd, min, max and median of each index, and the share of each class. A
    feature outside or on no-data has a row with empty values. DEST ends in .csv, of a run also
    in .parquet or .gpkg. The CSV of an earlier call is kept as DEST.old-1.csv.
    """
    _check_given(points, points_file)
    from hyperhpc.rundir.folder import is_run_folder
    from hyperhpc.scene.points import GivenPoints

    given, how = GivenPoints(points or (), points_file, point_crs), read_scene_options(options)
    if is_run_folder(scene):
        from hyperhpc.tools.plots import extract_from_run

        done = extract_from_run(scene, how, given, dest, buffer)
    else:
        from hyperhpc.tools.extract import extract as extract_spectra

        done = extract_spectra(scene, how, given, dest, buffer)
    for note in done.notes:
        click.echo(f"note: {note}", err=True)
    if done.without:
        click.echo(f"note: rows without values, of {done.rows}: {done.without}", err=True)
    click.echo(done.path)


@click.command(epilog="Example: hyperhpc ingest NEON_tiles/ site.zarr")
@click.argument("sources", type=AnyPath(), nargs=-1, required=True, metavar="SOURCE...")
@click.argument("out", type=AnyPath(), metavar="OUT.zarr")
@add_options(*SCENE_OPTIONS, table_option("bbox"))
@add_options(*map(table_option, ("workers", "threads_per_worker", "memory_per_worker")))
@add_options(*VERBOSITY_OPTIONS)
@click.option(
    "--restart",
    is_flag=True,
    help="Start from the beginning, and drop what an earlier call has written.",
)
def ingest(sources: tuple[Path, ...], out: Path, **flags: Any) -> None:
    """Write files, or folders of files, as one store that is read fastest.

    Tiles of a site become one mosaic. A call that was stopped resumes with the same
    command, which says so once the store is whole.
    """
    from hyperhpc.config import load_config
    from hyperhpc.rundir.progress import stoppable
    from hyperhpc.tools.ingest import ingest as ingest_scene

    config = load_config(sources[0], out, flags)
    with stoppable():
        sizes = ingest_scene(sources, config, make_progress(), typed_command())
    click.echo(f"store: {out}, {len(sizes)} files, {sum(sizes) / 1e9:.3f} GB")


def _read_range(context: Any, parameter: Any, value: str) -> list[int]:
    """Numbers of clusters in ``2..20``."""
    low, dots, high = value.partition("..")
    high = high if dots else low
    if not (low.isdecimal() and high.isdecimal() and 2 <= int(low) <= int(high) <= MAX_CLUSTERS):
        raise click.BadParameter(
            f"{value!r} is not a range; write LOW..HIGH, from 2 to {MAX_CLUSTERS}, for example "
            "2..20"
        )
    return list(range(int(low), int(high) + 1))


@click.command("choose-k", epilog="Example: hyperhpc choose-k scene.zarr --k 2..20 --out choice")
@click.argument("scene", type=AnyPath())
@click.option(
    "--k",
    "ks",
    callback=_read_range,
    default="2..20",
    metavar="LOW..HIGH",
    help="Try these numbers of clusters.",
)
@path_option("--out", "FOLDER", "Write the table, the figure and the JSON into this folder.")
@add_options(
    *map(table_option, ("seed", "bbox", "drop", "where")), *SCENE_OPTIONS, *VERBOSITY_OPTIONS
)
@json_option
def choose_k(scene: Path, ks: list[int], out: Path | None, as_json: bool, **options: Any) -> None:
    """Try numbers of clusters on few pixels of SCENE, and recommend one.

    Each number is fitted to at most 25,000 pixels, and judged by inertia, silhouette,
    Davies-Bouldin index, and two kinds of stability: over seeds, and under resampling. Memory and
    time are shown beforehand.
    """
    from hyperhpc.config import load_config
    from hyperhpc.tools.choose_k import check_choice_folder, prepare_trial, save_choice
    from hyperhpc.tools.choose_k import choose_k as choose

    if out:
        check_choice_folder(out)
    trial = prepare_trial(load_config(scene, out or Path("."), options), ks)
    progress = make_progress()
    for message in trial.scene.messages:
        progress.note(message)
    progress.note(f"choose-k: {trial.describe_cost()}")
    found = choose(trial, progress)
    if out:
        for path in save_choice(found, out):
            click.echo(f"written: {path}", err=True)
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    click.echo("                                           stability over  stability under")
    click.echo("  k  unexplained  silhouette  Davies-B.             seeds       resampling")
    for row in found["table"]:
        scores = (row[name] for name in ("silhouette", "davies_bouldin"))
        silhouette, davies_bouldin = ("" if v is None else f"{v:.3f}" for v in scores)
        click.echo(
            f"{row['k']:>3} {row['unexplained']:>12.2%} {silhouette:>11} {davies_bouldin:>10} "
            f"{row['seed_stability']:>17.3f} {row['resampling_stability']:>16.3f}"
        )
    click.echo(f"recommended: {found['recommended']} clusters; {found['reason']}")


@click.command(epilog="Example: hyperhpc endmembers scene.zarr endmembers.csv --count 4")
@click.argument("scene", type=AnyPath())
@click.argument("dest", type=AnyPath(), metavar="FILE.csv")
@click.option("--count", default=4, help="Find this number of endmembers (2 to 16).")
@choice_option(
    "--method",
    "nfindr atgp",
    "Take the simplex of largest volume (N-FINDR), or the spectra that differ most from all "
    "before (ATGP).",
)
@click.option(
    "--stride",
    type=int,
    help="Look at every n-th row and column of pixels only.  [default: as many as leave 50,000]",
)
@add_options(*map(table_option, ("bbox", "drop")), *SCENE_OPTIONS, *VERBOSITY_OPTIONS)
@json_option
def endmembers(
    scene: Path, dest: Path, count: int, method: str, as_json: bool, **options: Any
) -> None:
    """Find endmembers, the purest pixels of SCENE, and write their spectra.

    FILE.csv gets one row per endmember: name, group, place, and reflectance (0-1) in each good
    band. The suggestions that are printed follow from NDVI, CAI and brightness: they are guesses.
    The same scene and options give the same endmembers.
    """
    from hyperhpc.config import load_config
    from hyperhpc.files import check_absent, check_parent
    from hyperhpc.tools.endmembers import MAX_PIXELS, find_endmembers, write_endmembers
    from hyperhpc.tools.sampled import open_sampled

    check_absent(dest)
    check_parent(dest)
    sampled = open_sampled(load_config(scene, Path("."), options), MAX_PIXELS // 2)
    progress = make_progress()
    for message in sampled.scene.messages:
        progress.note(message)
    found = find_endmembers(sampled, count, method, progress)
    write_endmembers(found, dest)
    if as_json:
        click.echo(json.dumps(found, indent=1))
    else:
        click.echo(f"{'name':<13} {'x':>12} {'y':>12} {'NDVI':>7} {'mean':>7}  suggestion")
        for entry in found["endmembers"]:
            ndvi = "" if entry["ndvi"] is None else f"{entry['ndvi']:.3f}"
            click.echo(
                f"{entry['name']:<13} {entry['x']:>12.10g} {entry['y']:>12.10g} {ndvi:>7} "
                f"{entry['brightness']:>7.4f}  {entry['suggestion']}"
            )
    click.echo(f"endmembers: {dest}, of {found['pixels']} pixels", err=True)


COMMANDS = (simulate, demo, info, spectrum, extract, ingest, choose_k, endmembers)
