"""Maps as GeoTIFF: written in strips, then, for a COG, copied by GDAL's COG driver.

The COG driver needs the whole image before it writes, because overviews come first in the
file. So a plain GeoTIFF is written to disk first; memory holds one strip. GDAL also reduces
the overviews: the mean of an index, the most frequent cluster.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from hyperhpc.reading import check_name
from hyperhpc.results import STRIP_ROWS, RunResults
from hyperhpc.scene.cube import Grid
from hyperhpc.schema import NO_CLUSTER, NOT_CLUSTERED
from hyperhpc.tools.export.bands import Band
from hyperhpc.version import __version__

#: Memory of GDAL's cache of blocks, MB.
_CACHE_MB = 128
#: Compression takes most of the time; a login node has other users.
_MAX_THREADS = 4


#: RGBA (0-255) by value.
ColourTable = dict[int, tuple[int, int, int, int]]


class Place(Protocol):
    """Where maps lie, such as the area of a run."""

    @property
    def grid(self) -> Grid: ...  # noqa: D102
    @property
    def shape(self) -> tuple[int, int]: ...  # noqa: D102
    def strips(self) -> Iterator[slice]: ...  # noqa: D102


def write_geotiff(
    path: Path, place: Place, bands: Sequence[Band], colours: ColourTable | None = None, *,
    cog: bool,
) -> None:  # fmt: skip
    """Write maps as the bands of one tiled GeoTIFF, compressed without loss.

    ``bands``: Maps of one variable.
    ``colours``: Colours of the values; TIFF has one table for a file.
    ``cog``: Cloud-optimized, made from a plain GeoTIFF in the same folder.

    Raises OSError: the disk is full, or the file read back differs from the maps.
    """
    from rasterio.shutil import copy

    is_cluster = bool(bands[0].classes)
    with _gdal():
        plain = path.with_name(f"plain-{path.name}") if cog else path
        options = {"predictor": 1 if is_cluster else 3, "zlevel": 1 if cog else 6}
        _write_plain(plain, place, bands, colours, **options)
        if cog:
            copy(
                str(plain), str(path), driver="COG", COMPRESS="DEFLATE",
                PREDICTOR="NO" if is_cluster else "FLOATING_POINT", BLOCKSIZE=STRIP_ROWS,
                BIGTIFF="IF_SAFER", NUM_THREADS=_threads(),
                OVERVIEW_RESAMPLING="MODE" if is_cluster else "AVERAGE",
            )  # fmt: skip
            plain.unlink()
        _check_written(path, place, bands)


@contextmanager
def _gdal() -> Iterator[None]:
    """Set up GDAL with bounded memory, and turn its errors into OSError."""
    import rasterio
    from rasterio._err import CPLE_BaseError  # raised by copy(); not public
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    try:
        with (
            _silenced_stderr(),
            warnings.catch_warnings(),
            rasterio.Env(GDAL_CACHEMAX=_CACHE_MB, GDAL_PAM_ENABLED=False),
        ):
            warnings.simplefilter("ignore", NotGeoreferencedWarning)  # as is the scene
            yield
    except (RasterioError, CPLE_BaseError) as error:
        raise OSError(" ".join(str(error.__cause__ or error).split()).rstrip(".")) from None


@contextmanager
def _silenced_stderr() -> Iterator[None]:
    """Discard stderr: on a full disk libtiff prints a message there for each write."""
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
    return min(_MAX_THREADS, len(os.sched_getaffinity(0)))


def _write_plain(
    path: Path, place: Place, bands: Sequence[Band], colours: ColourTable | None, **options: Any
) -> None:
    """Write a GeoTIFF of square blocks, each of them once."""
    check_name(path)
    import rasterio
    from rasterio.crs import CRS
    from rasterio.transform import Affine

    grid, (height, width) = place.grid, place.shape
    variable = bands[0].variable
    with rasterio.open(
        path, "w", driver="GTiff", height=height, width=width, count=len(bands),
        dtype=variable.dtype, nodata=variable.missing, interleave="band",
        crs=CRS.from_wkt(grid.wkt) if grid.wkt else None,
        transform=Affine(grid.px, 0, grid.xmin, 0, -grid.py, grid.ymax),
        tiled=True, blockxsize=STRIP_ROWS, blockysize=STRIP_ROWS, compress="deflate",
        bigtiff="if_safer", num_threads=_threads(), **options,
    ) as file:  # fmt: skip
        file.update_tags(TIFFTAG_SOFTWARE=f"hyperhpc {__version__}", units=variable.unit)
        file.units = [variable.unit] * len(bands)
        for number, band in enumerate(bands, 1):
            file.set_band_description(number, band.name)
            file.update_tags(number, **band.tags)
        if colours:
            file.write_colormap(1, colours)
        for rows in place.strips():
            for number, band in enumerate(bands, 1):
                window = ((rows.start, rows.stop), (0, width))
                file.write(band.read(rows), number, window=window)


def _check_written(path: Path, place: Place, bands: Sequence[Band]) -> None:
    """Read the file back: GDAL does not report all that was lost on a full disk."""
    import rasterio

    with rasterio.open(path) as file:
        for rows in place.strips():
            for number, band in enumerate(bands, 1):
                window = ((rows.start, rows.stop), (0, place.shape[1]))
                found, true = file.read(number, window=window), band.read(rows)
                if not np.array_equal(found, true, equal_nan=not band.classes):
                    raise OSError("the file read back differs from the maps")


def colour_table(results: RunResults, model: str) -> ColourTable:
    """RGBA (0-255) of the classes of a model by number, as in the report; no-data is clear.

    Of a run with ``--where`` the pixels that are not clustered have a colour too.
    """
    from matplotlib.colors import to_rgb

    from hyperhpc.report import style

    of_clusters = style.model_colours(results, model)
    colours = {one.number: of_clusters[one.number] for one in results.classes(model)}
    if results.conditions:
        colours[NOT_CLUSTERED] = to_rgb(style.NOT_CLUSTERED)
    table = {NO_CLUSTER: (0, 0, 0, 0)}
    for k, (red, green, blue) in colours.items():
        table[k] = round(red * 255), round(green * 255), round(blue * 255), 255
    return table
