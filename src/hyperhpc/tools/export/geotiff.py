"""Maps as GeoTIFF: written in strips, then, for a COG, copied by GDAL's COG driver.

The COG driver wants the whole image before it writes, because overviews come first in
the file. So the plain GeoTIFF lies on disk beside it meanwhile; memory holds one strip.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hyperhpc.errors import ConfigError
from hyperhpc.results import STRIP_ROWS, RunResults
from hyperhpc.schema import CLUSTER, INDICES, Variable
from hyperhpc.version import __version__

# What of a run can be exported: its maps by name, each a band of a GeoTIFF.

#: All maps of a kind at once.
CLUSTERS, ALL_INDICES = "clusters", "indices"
#: A table only.
POINTS = "points"


@dataclass(frozen=True)
class Layer:
    """One map.

    Attributes
    ----------
    name
        Of the model or the index.
    variable
        Its entry in the data dictionary: dtype, missing value, unit.
    tags
        What a band says of itself.
    read
        Rows to values (y, x).
    n_clusters
        0 for an index.
    """

    name: str
    variable: Variable
    tags: dict[str, str]
    read: Callable[[slice], np.ndarray]
    n_clusters: int = 0

    @property
    def categories(self) -> list[str]:
        """Names of the values 0, 1, ..., as the report writes them."""
        return [f"C{k}" for k in range(self.n_clusters)]


def choose_layers(maps: RunResults, what: str) -> list[Layer]:
    """The maps of a kind, or the one of a name, in the order of the results.

    Raises
    ------
    ConfigError
        There is nothing of that name.
    """
    names = [*maps.model_names, *maps.index_names]
    if what == CLUSTERS:
        wanted = list(maps.model_names)
    elif what == ALL_INDICES:
        wanted = list(maps.index_names)
    else:
        wanted = [what] if what in names else []
    if not wanted:
        there = " ".join([CLUSTERS, ALL_INDICES, *names])
        raise ConfigError(
            f"the run in {maps.folder.out} has no map {what!r}",
            f"--what takes {there}, and {POINTS} with --format csv",
        )
    return [_cluster(maps, n) if n in maps.model_names else _index(maps, n) for n in wanted]


def _cluster(maps: RunResults, model: str) -> Layer:
    tags = {"long_name": f"Clusters, {model}", "description": CLUSTER.about}
    n = maps.n_clusters(model)
    return Layer(model, CLUSTER, tags, lambda rows: maps.labels(model, rows), n)


def _index(maps: RunResults, name: str) -> Layer:
    entry: dict[str, Any] = entry_of(maps, name)
    keys = ("title", "long_name", "formula", "citation", "doi")
    tags = {key: str(entry[key]) for key in keys if entry.get(key)}
    return Layer(name, INDICES, tags, lambda rows: maps.values(name, rows))


def entry_of(maps: RunResults, name: str) -> dict[str, Any]:
    """What run.json says of an index."""
    computed = maps.run["indices"]["computed"]
    return next((entry for entry in computed if entry["name"] == name), {"name": name})


#: MB of blocks that GDAL keeps.
_CACHE_MB = 128
#: Compression is what takes time; a login node has other users.
_MOST_THREADS = 4


def write_geotiff(path: Path, maps: RunResults, layers: Sequence[Layer], *, cog: bool) -> None:
    """Write layers as the bands of one tiled GeoTIFF, compressed without loss.

    Parameters
    ----------
    path
        File to write; a plain GeoTIFF lies beside it while a COG is made.
    layers
        All of one variable.
    cog
        Cloud-optimized, with overviews: the most frequent cluster, the mean of an index.

    Raises
    ------
    OSError
        The disk is full, or what can be read again is not what was written.
    """
    from rasterio.shutil import copy

    is_cluster = bool(layers[0].n_clusters)
    predictor = 1 if is_cluster else 3
    with _gdal():
        plain = path.with_name(f"plain-{path.name}") if cog else path
        level = 1 if cog else 6
        _write_plain(plain, maps, layers, predictor=predictor, zlevel=level)
        if cog:
            copy(
                str(plain), str(path), driver="COG", COMPRESS="DEFLATE",
                PREDICTOR="NO" if is_cluster else "FLOATING_POINT", BLOCKSIZE=STRIP_ROWS,
                BIGTIFF="IF_SAFER", NUM_THREADS=_threads(),
                OVERVIEW_RESAMPLING="MODE" if is_cluster else "AVERAGE",
            )  # fmt: skip
            plain.unlink()
        _check(path, maps, layers)


@contextmanager
def _gdal() -> Iterator[None]:
    """GDAL with bounded memory; whatever it cannot do becomes an OSError."""
    import rasterio
    from rasterio._err import CPLE_BaseError  # what copying raises is nowhere public
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    try:
        with (
            _quiet(),
            warnings.catch_warnings(),
            rasterio.Env(GDAL_CACHEMAX=_CACHE_MB, GDAL_PAM_ENABLED=False),
        ):
            warnings.simplefilter("ignore", NotGeoreferencedWarning)  # as the scene is
            yield
    except (RasterioError, CPLE_BaseError) as error:
        raise OSError(" ".join(str(error.__cause__ or error).split()).rstrip(".")) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Nothing on stderr: libtiff prints there, once per write, that a disk is full."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _threads() -> int:
    return min(_MOST_THREADS, len(os.sched_getaffinity(0)))


def _write_plain(path: Path, maps: RunResults, layers: Sequence[Layer], **options: Any) -> None:
    """A GeoTIFF of square blocks, each of which is written once."""
    import rasterio
    from rasterio.crs import CRS
    from rasterio.transform import Affine

    grid, (height, width) = maps.grid, maps.shape
    variable = layers[0].variable
    with rasterio.open(
        path, "w", driver="GTiff", height=height, width=width, count=len(layers),
        dtype=variable.dtype, nodata=variable.missing, interleave="band",
        crs=CRS.from_wkt(grid.wkt) if grid.wkt else None,
        transform=Affine(grid.px, 0, grid.xmin, 0, -grid.py, grid.ymax),
        tiled=True, blockxsize=STRIP_ROWS, blockysize=STRIP_ROWS, compress="deflate",
        bigtiff="if_safer", num_threads=_threads(), **options,
    ) as file:  # fmt: skip
        file.update_tags(TIFFTAG_SOFTWARE=f"hyperhpc {__version__}", units=variable.unit)
        file.units = [variable.unit] * len(layers)
        for band, layer in enumerate(layers, 1):
            file.set_band_description(band, layer.name)
            file.update_tags(band, **layer.tags)
        if layers[0].n_clusters and len(layers) == 1:  # TIFF has one colour table for a file
            file.write_colormap(1, colour_table(layers[0].n_clusters))
        for rows in maps.strips():
            for band, layer in enumerate(layers, 1):
                window = ((rows.start, rows.stop), (0, width))
                file.write(layer.read(rows), band, window=window)


def _check(path: Path, maps: RunResults, layers: Sequence[Layer]) -> None:
    """Read all of it again: GDAL does not tell of everything a full disk has lost."""
    import rasterio

    with rasterio.open(path) as file:
        for rows in maps.strips():
            for band, layer in enumerate(layers, 1):
                window = ((rows.start, rows.stop), (0, maps.shape[1]))
                found, true = file.read(band, window=window), layer.read(rows)
                if not np.array_equal(found, true, equal_nan=not layer.n_clusters):
                    raise OSError("what was written is not what can be read again")


def colour_table(n: int) -> dict[int, tuple[int, int, int, int]]:
    """RGBA (0-255) of clusters 0 to n-1, as in the report; no-data is transparent."""
    from hyperhpc.report.style import cluster_colours

    table = {255: (0, 0, 0, 0)}
    for k, (red, green, blue) in enumerate(cluster_colours(n)):
        table[k] = round(red * 255), round(green * 255), round(blue * 255), 255
    return table
