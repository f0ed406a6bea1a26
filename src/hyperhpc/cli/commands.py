"""Commands that take results and spectra elsewhere; :mod:`hyperhpc.cli.main` adds them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from hyperhpc.cli.options import (
    SCENE_OPTIONS,
    SPEECH_OPTIONS,
    AnyPath,
    add_options,
    bbox_option,
    drop_option,
    make_progress,
    read_numbers,
    read_scene_options,
    read_windows,
)


@click.command(epilog="Example: hyperhpc export out clusters.tif --what lloyd")
@click.argument("out", type=AnyPath())
@click.argument("dest", type=AnyPath())
@click.option(
    "--what",
    default="clusters",
    show_default=True,
    metavar="NAME",
    help="clusters, indices, one model, one index, or (CSV) points.",
)
@click.option(
    "--format",
    "kind",
    type=click.Choice(["cog", "geotiff", "csv"]),
    help="By default what the ending of DEST says: .tif (cog) or .csv.",
)
def export(out: Path, dest: Path, what: str, kind: str | None) -> None:
    """Write maps of the run in OUT as a GeoTIFF for QGIS, or its tables as CSV for R.

    A GeoTIFF has one band per model or index. Beside it lie its styles for QGIS (.qml) and
    the names of the clusters for GDAL (.aux.xml). A table has one row per cluster (areas,
    mean of each index, mean and sd spectra) or per point of the run.
    """
    from hyperhpc.tools.export import export as export_run

    for path in export_run(out, dest, what, kind):
        click.echo(path)


@click.command(epilog="Example: hyperhpc extract tile.h5 plots.csv --points plots.gpkg")
@click.argument("scene", type=AnyPath())
@click.argument("dest", type=AnyPath())
@click.option(
    "--points",
    "--polygons",
    "features",
    type=AnyPath(),
    required=True,
    metavar="FILE",
    help="GeoPackage, GeoJSON, or CSV with x,y (of the scene's CRS) or lon,lat.",
)
@click.option("--buffer", type=float, metavar="M", help="All pixels within this distance.")
@add_options(*SCENE_OPTIONS)
def extract(
    scene: Path, dest: Path, features: Path, buffer: float | None, **options: Any
) -> None:
    """Write the spectra of SCENE at points, or mean, sd and n in polygons, into a CSV.

    One row per feature of the file, with its attributes; one column per band, named by its
    centre in nm. What lies outside the scene or on no-data has a row with empty values.
    """
    from hyperhpc.tools.extract import extract as extract_spectra

    done = extract_spectra(scene, read_scene_options(options), features, dest, buffer)
    if done.without:
        click.echo(f"note: rows without values, of {done.rows}: {done.without}", err=True)
    click.echo(done.path)


@click.command(epilog="Example: hyperhpc compare out2017 out2019 --figure changes.png")
@click.argument("first", type=AnyPath(), metavar="OUT1")
@click.argument("second", type=AnyPath(), metavar="OUT2")
@click.option("--figure", type=AnyPath(), help="Draw both maps and where they differ.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def compare(first: Path, second: Path, figure: Path | None, as_json: bool) -> None:
    """Say how far the clusters of two runs of the same place agree, and where not.

    Each model of the one is compared with each of the other, in the pixels that both have.
    Clusters are matched one to one so that most pixels agree.
    """
    from hyperhpc.tools.compare import compare as compare_runs
    from hyperhpc.tools.compare import draw_comparison
    from hyperhpc.tools.inspect import check_figure

    if figure:
        check_figure(figure)
    facts, overlap = compare_runs(first, second)
    if as_json:
        click.echo(json.dumps(facts, indent=1))
    else:
        for line in _comparison_lines(facts):
            click.echo(line)
    if figure:
        draw_comparison(facts, overlap, figure)
        click.echo(f"figure: {figure}", err=True)


def _comparison_lines(facts: dict[str, Any]) -> Iterator[str]:
    rows, cols = facts["shape"]
    pixels = facts["pixels"]
    area = "the whole area" if facts["same_area"] else "what they have in common"
    yield f"compared: {rows} x {cols} pixels, {area}"
    yield (
        f"pixels with a cluster: {pixels['both']} in both, {pixels['only_first']} only in the "
        f"first, {pixels['only_second']} only in the second"
    )
    for pair in facts["pairs"]:
        share = pair["share_agreeing"]
        agree = "no pixel to compare" if share is None else f"{share:.2%} of pixels agree"
        yield ""
        yield (
            f"{' / '.join(pair['models'])}: {agree}, adjusted Rand index "
            f"{pair['adjusted_rand_index']:.4f}"
        )
        yield "  matched: " + " ".join(f"C{a}=C{b}" for a, b in pair["matched"])
        for worst in pair["largest_disagreements"]:
            a, b = worst["clusters"]
            yield f"  C{a} / C{b}: {worst['pixels']} pixels ({worst['share']:.2%})"


def _read_range(context: Any, parameter: Any, value: str) -> list[int]:
    """Numbers of clusters of ``2..20``."""
    low, dots, high = value.partition("..")
    high = high if dots else low
    if not (low.isdecimal() and high.isdecimal() and 2 <= int(low) <= int(high) <= 255):
        raise click.BadParameter(
            f"{value!r} is no range; write LOW..HIGH, from 2 to 255, for example 2..20"
        )
    return list(range(int(low), int(high) + 1))


@click.command(
    "choose-k", epilog="Example: hyperhpc choose-k scene.zarr --k 2..20 --out choice"
)
@click.argument("scene", type=AnyPath())
@click.option(
    "--k",
    "ks",
    callback=_read_range,
    default="2..20",
    show_default=True,
    metavar="LOW..HIGH",
    help="Numbers of clusters to try.",
)
@click.option(
    "--out", type=AnyPath(), metavar="FOLDER", help="Table, figure and JSON, into it."
)
@click.option("--seed", type=int, help="Of every random choice.  [default: 0]")
@bbox_option
@drop_option
@add_options(*SCENE_OPTIONS, *SPEECH_OPTIONS)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def choose_k(
    scene: Path, ks: list[int], out: Path | None, as_json: bool, **options: Any
) -> None:
    """Try numbers of clusters on few pixels of SCENE, and recommend one.

    Each number is fitted from several seeds to at most 25,000 pixels and judged by inertia,
    silhouette, Davies-Bouldin index and stability. Memory and time are told beforehand.
    """
    from hyperhpc.config import load_config
    from hyperhpc.tools.choose_k import choose_k as choose
    from hyperhpc.tools.choose_k import prepare_trial, save_choice

    options["bbox"] = read_numbers(options["bbox"], 4, "--bbox")
    options["drop"] = read_windows(options["drop"])
    trial = prepare_trial(load_config(scene, out or Path("."), options), ks)
    progress = make_progress()
    progress.note(f"choose-k: {trial.describe_cost()}")
    found = choose(trial, progress)
    if out:
        for path in save_choice(found, out):
            click.echo(f"written: {path}", err=True)
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    click.echo(
        f"{'k':>3} {'unexplained':>12} {'silhouette':>11} {'Davies-B.':>10} {'stability':>10}"
    )
    for row in found["table"]:
        cells = (row["silhouette"], row["davies_bouldin"])
        middle = " ".join(
            f"{'' if v is None else format(v, '.3f'):>{w}}"
            for v, w in zip(cells, (11, 10), strict=True)
        )
        click.echo(
            f"{row['k']:>3} {row['unexplained']:>12.2%} {middle} {row['stability']:>10.3f}"
        )
    click.echo(f"recommended: {found['recommended']} clusters; {found['reason']}")


COMMANDS = (export, extract, compare, choose_k)
