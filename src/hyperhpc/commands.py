"""Commands that take results and spectra elsewhere; :mod:`hyperhpc.cli` adds them."""

from __future__ import annotations

from pathlib import Path

import click

from hyperhpc.options import AnyPath


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
    from hyperhpc.pipeline.export import export as export_run

    for path in export_run(out, dest, what, kind):
        click.echo(path)


COMMANDS = (export,)
