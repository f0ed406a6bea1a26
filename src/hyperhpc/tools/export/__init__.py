"""Maps and tables of a run in the formats of other programs.

========  ============================================================================
bands     the maps of a run that can be exported, each a band of a GeoTIFF
geotiff   writes them as a GeoTIFF or COG
netcdf    writes them as NetCDF
sidecars  writes their names and colours for GDAL and QGIS
regions   connected regions of a map of classes, small ones merged
polygons  writes them as polygons of a GeoPackage
tables    writes one row per cluster, or per point of the run, as CSV or Parquet
========  ============================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hyperhpc.errors import ConfigError
from hyperhpc.files import atomic_outputs
from hyperhpc.results import RunResults, open_results
from hyperhpc.tools.export.bands import CLUSTERS, POINTS, Band, choose_bands, merge_regions

#: Formats, and the endings of their files.
FORMATS = {
    "cog": (".tif", ".tiff"), "geotiff": (".tif", ".tiff"), "netcdf": (".nc",),
    "gpkg": (".gpkg",), "csv": (".csv",), "parquet": (".parquet",),
}  # fmt: skip


def export(
    out: Path,
    dest: Path,
    what: str,
    kind: str | None,
    min_area_m2: float | None = None,
    notify: Callable[[str], object] = str,
) -> list[Path]:
    """Write maps or tables of a finished run into a file, whole or not at all.

    ``dest``: File to write; it must not exist.
    ``what``: ``clusters``, ``indices``, ``fractions``, the name of one of their maps,
        ``unmixing_rmse``, or ``points``.
    ``kind``: One of :data:`FORMATS`; None takes what the ending of ``dest`` says.
    ``min_area_m2``: In maps of clusters and their polygons, smaller regions are merged.
    ``notify``: Called with notes; by default they are lost.

    Returns: the files, ``dest`` first; the further files of a GeoTIFF hold names and colours.
    Raises ConfigError: there is no run, or nothing of that name; or the file exists, or has
    another ending; or --min-area cannot be used; IncompleteRunError: the run is not finished;
    ResourceError: the file cannot be written.
    """
    ending = dest.suffix.lower()
    kind = kind or next((k for k, known in FORMATS.items() if ending in known), "cog")
    if ending not in FORMATS[kind]:
        raise ConfigError(
            f"{dest} does not end in {' or '.join(FORMATS[kind])}, as format {kind} needs",
            f"Name a file that ends in {FORMATS[kind][0]}",
        )
    results = open_results(out, complete=True)
    if kind in ("csv", "parquet"):
        if min_area_m2 is not None:
            raise ConfigError(
                "--min-area is for maps and polygons of clusters, not for tables",
                "Leave out --min-area, or name a file that ends in .tif or .gpkg",
            )
        return _export_table(results, dest, what)
    if kind == "gpkg":
        return _export_polygons(results, dest, what, min_area_m2, notify)
    if kind == "netcdf":
        return _export_netcdf(results, dest, what, min_area_m2)
    from hyperhpc.tools.export.geotiff import colour_table, write_geotiff
    from hyperhpc.tools.export.sidecars import sidecar_names, write_sidecars

    bands = _choose(results, what, min_area_m2)
    extra_names = sidecar_names(dest.name, bands)
    is_one_map = bool(bands[0].classes) and len(bands) == 1
    colours = colour_table(results, bands[0].name) if is_one_map else None
    with atomic_outputs(dest, extra_names) as folder:
        write_geotiff(folder / dest.name, results, bands, colours, cog=kind == "cog")
        write_sidecars(folder, dest.name, results, bands)
    return [dest, *(dest.with_name(name) for name in extra_names)]


def _choose(results: RunResults, what: str, min_area_m2: float | None) -> list[Band]:
    bands = choose_bands(results, what)
    if min_area_m2 is None:
        return bands
    return [merge_regions(results, band, min_area_m2) for band in bands]


def _export_netcdf(
    results: RunResults, dest: Path, what: str, min_area_m2: float | None
) -> list[Path]:
    from hyperhpc.tools.export.netcdf import write_netcdf

    bands = _choose(results, what, min_area_m2)
    with atomic_outputs(dest) as folder:
        write_netcdf(folder / dest.name, results, bands)
    return [dest]


def _export_polygons(
    results: RunResults,
    dest: Path,
    what: str,
    min_area_m2: float | None,
    notify: Callable[[str], object],
) -> list[Path]:
    """Write the polygons of all models, or of one."""
    from hyperhpc.tools.export.polygons import write_polygons

    if what not in (CLUSTERS, *results.model_names):
        raise ConfigError(
            f"The run in {results.folder.out} has no map of clusters {what!r}",
            f"With --format gpkg, --what takes {' '.join((CLUSTERS, *results.model_names))}",
        )
    models = results.model_names if what == CLUSTERS else [what]
    with atomic_outputs(dest) as folder:
        write_polygons(folder / dest.name, results, models, min_area_m2, notify)
    return [dest]


def _export_table(results: RunResults, dest: Path, what: str) -> list[Path]:
    """Write the clusters of all models, the clusters of one, or the points."""
    from hyperhpc.tools.export.tables import write_clusters, write_points

    tables = (CLUSTERS, POINTS, *results.model_names)
    if what not in tables:
        raise ConfigError(
            f"The run in {results.folder.out} has no table {what!r}",
            f"Tables are named by --what: it takes {' '.join(tables)}",
        )
    with atomic_outputs(dest) as folder:
        if what == POINTS:
            write_points(folder / dest.name, results)
        else:
            models = results.model_names if what == CLUSTERS else [what]
            write_clusters(folder / dest.name, results, models)
    return [dest]
