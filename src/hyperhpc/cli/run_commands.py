"""Commands that read the folder of a run."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from hyperhpc.cli.options import AnyPath, choice_option, json_option, path_option, table_option
from hyperhpc.cli.output import print_error, print_facts
from hyperhpc.errors import IncompleteRunError

#: Changes between classes that are printed; a table has all of them.
_MOST_CHANGES = 10


@click.command(epilog="Example: hyperhpc status out")
@click.argument("out", type=AnyPath())
@json_option
def status(out: Path, as_json: bool) -> None:
    """Show what the run in OUT is doing, wherever it runs, or how it ended.

    It reads OUT/status.txt, and OUT/slurm/job of a job that was submitted: no connection to the
    run is needed.
    """
    from hyperhpc.rundir.progress import read_status

    print_facts(read_status(out), as_json)


@click.command(epilog="Example: hyperhpc report out --figures all")
@click.argument("out", type=AnyPath())
@table_option("figures")
@table_option("cluster_colors")
def report(out: Path, figures: str | None, cluster_colors: str | None) -> None:
    """Draw the report again, or the report of an unfinished run, from what is on disk.

    The scene is not read. The report of an unfinished run lists the tiles that are missing.
    `view` and `export` take the colours of the clusters that were given last.
    """
    from hyperhpc.tools.preview import report_run

    click.echo(f"report: {report_run(out, print_error, figures or 'page', cluster_colors)}")


@click.command(epilog="Example: hyperhpc view out --scene /data/scene.zarr --port 5006")
@click.argument("out", type=AnyPath())
@path_option("--scene", "PATH", "Read spectra from the scene at this path, if it was moved.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    help="Use this port of the loopback address; 0 takes any free one.",
)
def view(out: Path, scene: Path | None, port: int) -> None:
    """Show the maps of OUT on a page of this machine: zoom, click, see spectra."""
    from hyperhpc.view import view_run

    view_run(out, scene, port, lambda address: click.echo(f"page: {address}"), print_error)


@click.command(epilog="Example: hyperhpc verify out")
@click.argument("out", type=AnyPath())
@json_option
def verify(out: Path, as_json: bool) -> None:
    """Compare every file of the results in OUT with its checksum; nothing is changed.

    Damaged files are listed, and the exit code is 7; the same run computes damaged tiles again.
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


@click.command(epilog="Example: hyperhpc classes out classes.toml")
@click.argument("out", type=AnyPath())
@click.argument("file", type=AnyPath(), required=False, metavar="FILE.toml")
@click.option("--model", metavar="NAME", help="Name the clusters of this model.  [default: first]")
@click.option("--remove", is_flag=True, help="Remove the names; clusters are numbers again.")
def classes(out: Path, file: Path | None, model: str | None, remove: bool) -> None:
    """Give the clusters of the run in OUT names and colours, and merge them.

    Without a file, or with one that is not there yet, it writes a template: for each cluster its
    share, brightness, indices and a suggestion, to be edited. With the edited file it checks and
    keeps the names, and draws the report again; maps, tables and the viewer take them from OUT.
    Clusters with the same name become one class. The labels in results.zarr stay.
    """
    from hyperhpc.tools.classes import (
        install_classes,
        make_template,
        remove_classes,
        write_template,
    )

    if remove and file is not None:
        raise click.UsageError("--remove takes no file")
    if remove:
        click.echo(f"report: {remove_classes(out, model, print_error)}")
    elif file is None:
        click.echo(make_template(out, model), nl=False)
    elif os.path.lexists(file):
        click.echo(f"report: {install_classes(out, file, model, print_error)}")
    else:
        write_template(out, file, model)
        click.echo(file)
        print_error("note: edit it, then give the same command again")


@click.command(epilog="Example: hyperhpc export out clusters.tif --what lloyd")
@click.argument("out", type=AnyPath())
@click.argument("dest", type=AnyPath())
@click.option(
    "--what",
    default="clusters",
    metavar="NAME",
    help="Export clusters, indices, fractions, one model, index or group of endmembers, "
    "unmixing_rmse, or (only as a table) points.",
)
@choice_option(
    "--format",
    "cog geotiff netcdf gpkg csv parquet",
    "Write the file in this format.  [default: by the ending of DEST; cog for .tif]",
    default=None,
)
@click.option(
    "--min-area",
    type=float,
    metavar="M2",
    help="In maps of clusters, merge connected regions smaller than this many square metres.",
)
def export(out: Path, dest: Path, what: str, format: str | None, min_area: float | None) -> None:
    """Write maps of a run as GeoTIFF, NetCDF or polygons, or its tables as CSV or Parquet.

    A GeoTIFF has one band per model, index or group of endmembers. Files next to it hold its
    styles for QGIS (.qml) and the names of the clusters for GDAL (.aux.xml). A GeoPackage has one
    layer per model, of polygons with class, area and mean of each index, and its styles for QGIS.
    A table has one row per cluster (areas, mean of each index, mean and sd spectra) or per point
    of the run.
    """
    from hyperhpc.tools.export import export as export_run

    for path in export_run(out, dest, what, format, min_area, print_error):
        click.echo(path)


@click.command(epilog="Example: hyperhpc compare out2017 out2019 --figure changes.png")
@click.argument("first", type=AnyPath(), metavar="OUT1")
@click.argument("second", type=AnyPath(), metavar="OUT2")
@path_option(
    "--figure", "FILE", "Draw both maps and where they differ into this file (.png, .pdf or .svg)."
)
@path_option(
    "--transitions",
    "FILE",
    "Write the hectares that went from each class to each, of runs on one model (--apply-model), "
    "into this new file (.csv or .parquet).",
)
@path_option(
    "--difference",
    "FILE",
    "Write each index of OUT2 minus that of OUT1 into this new cloud-optimized GeoTIFF (.tif).",
)
@json_option
def compare(
    first: Path, second: Path, figure: Path | None, transitions: Path | None,
    difference: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Show how far the clusters of two runs of the same place agree, and where not.

    Each model of the one is compared with each of the other, in the pixels that both have.
    Clusters are matched one to one so that most pixels agree. Where both runs label by one model,
    the clusters are the same, and the hectares that went from one to another are shown.
    """
    from hyperhpc.tools import changes
    from hyperhpc.tools.compare import compare as compare_runs
    from hyperhpc.tools.compare import draw_comparison
    from hyperhpc.tools.inspect import check_figure

    checks = (check_figure, changes.check_table, changes.check_difference)
    for path, check in zip((figure, transitions, difference), checks, strict=True):
        if path:
            check(path)
    facts, overlap = compare_runs(first, second)
    facts["transitions"] = changes.list_transitions(overlap, facts["pairs"])
    if transitions:
        changes.write_transitions(transitions, facts["transitions"])
    if difference:
        changes.write_difference(difference, overlap)
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
    area = "the whole area" if facts["same_area"] else "what they have in common"
    yield f"compared: {rows} x {cols} pixels, {area}"
    yield (
        "pixels with a cluster: {both} in both, {only_first} only in the first, {only_second} only "
        "in the second"
    ).format(**facts["pixels"])
    for name, conditions in zip(("first", "second"), facts.get("where", []), strict=False):
        if conditions:
            yield f"clustered in the {name}: where " + " and ".join(f"({c})" for c in conditions)
    for pair in facts["pairs"]:
        models, share = " / ".join(pair["models"]), pair["share_agreeing"]
        agree = "no pixel to compare" if share is None else f"{share:.2%} of pixels agree"
        yield ""
        yield f"{models}: {agree}, adjusted Rand index {pair['adjusted_rand_index']:.4f}"
        yield "  matched: " + " ".join(f"C{a}=C{b}" for a, b in pair["matched"])
        for worst in pair["largest_disagreements"]:
            a, b = worst["clusters"]
            yield f"  C{a} / C{b}: {worst['pixels']} pixels ({worst['share']:.2%})"
    for change in facts["transitions"]:
        yield ""
        yield from _transition_lines(change)


def _transition_lines(change: dict[str, Any]) -> Iterator[str]:
    """The largest changes from a class to another, and what has stayed."""
    pixels, hectares = change["pixels"], change["hectares"]

    def amount(n: int, ha: float) -> str:
        return f"{n} pixels" if hectares is None else f"{ha:.4g} ha"

    cells = [
        (n, 0.0 if hectares is None else hectares[i][j], a, b, sum(pixels[i]))
        for i, a in enumerate(change["from"])
        for j, b in enumerate(change["to"])
        if (n := pixels[i][j])
    ]
    stayed = [cell for cell in cells if cell[2] == cell[3]]
    total = amount(sum(cell[0] for cell in cells), sum(cell[1] for cell in cells))
    same = amount(sum(cell[0] for cell in stayed), sum(cell[1] for cell in stayed))
    yield f"{change['model']}, one model in both runs: {same} of {total} have stayed in their class"
    moved = sorted((cell for cell in cells if cell[2] != cell[3]), key=lambda c: -c[0])
    for n, ha, a, b, of in moved[:_MOST_CHANGES]:
        yield f"  {a} to {b}: {amount(n, ha)} ({n / of:.2%} of {a})"
    if len(moved) > _MOST_CHANGES:
        yield f"  and {len(moved) - _MOST_CHANGES} more: --transitions FILE lists all"


COMMANDS = (status, report, view, verify, classes, export, compare)
