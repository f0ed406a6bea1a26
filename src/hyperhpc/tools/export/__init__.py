"""Results in the formats of other programs."""

from __future__ import annotations

from pathlib import Path

from hyperhpc.errors import ConfigError
from hyperhpc.files import atomic_outputs
from hyperhpc.results import RunResults, open_results
from hyperhpc.tools.export.geotiff import CLUSTERS, POINTS, choose_layers

#: Formats, and the endings of their files.
FORMATS = {"cog": (".tif", ".tiff"), "geotiff": (".tif", ".tiff"), "csv": (".csv",)}


def export(out: Path, dest: Path, what: str = CLUSTERS, kind: str | None = None) -> list[Path]:
    """Write maps or tables of a finished run into a file, whole or not at all.

    Parameters
    ----------
    out
        Folder of the run.
    dest
        File to write; it must not exist.
    what
        ``clusters``, ``indices``, the name of a model or an index, or ``points``.
    kind
        One of :data:`FORMATS`; None takes what the ending of ``dest`` says.

    Returns
    -------
    The files, the one asked for first; those beside a GeoTIFF carry names and colours.

    Raises
    ------
    ConfigError
        There is no run, or nothing of that name; or the file exists, or has another ending.
    IncompleteRunError
        The run has not come to its end.
    ResourceError
        The file cannot be written.
    """
    kind = kind or ("csv" if dest.suffix.lower() == ".csv" else "cog")
    if dest.suffix.lower() not in FORMATS[kind]:
        raise ConfigError(
            f"{dest} has no ending of {kind}", f"name a file that ends in {FORMATS[kind][0]}"
        )
    maps = open_results(out, complete=True)
    if kind == "csv":
        return _export_table(maps, dest, what)
    from hyperhpc.tools.export.geotiff import write_geotiff
    from hyperhpc.tools.export.sidecars import sidecar_names, write_sidecars

    layers = choose_layers(maps, what)
    beside = sidecar_names(dest.name, layers)
    with atomic_outputs(dest, beside) as folder:
        write_geotiff(folder / dest.name, maps, layers, cog=kind == "cog")
        write_sidecars(folder, dest.name, maps, layers)
    return [dest, *(dest.with_name(name) for name in beside)]


def _export_table(maps: RunResults, dest: Path, what: str) -> list[Path]:
    """Clusters of all models, those of one, or points."""
    from hyperhpc.tools.export.tables import write_clusters, write_points

    if what not in (CLUSTERS, POINTS, *maps.model_names):
        there = " ".join((CLUSTERS, POINTS, *maps.model_names))
        raise ConfigError(f"the run in {maps.folder.out} has no table {what!r}",
                          f"--format csv takes --what {there}")  # fmt: skip
    with atomic_outputs(dest) as folder:
        if what == POINTS:
            write_points(folder / dest.name, maps)
        else:
            models = maps.model_names if what == CLUSTERS else [what]
            write_clusters(folder / dest.name, maps, models)
    return [dest]
