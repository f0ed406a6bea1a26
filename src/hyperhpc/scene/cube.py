"""The canonical scene: what every format is turned into, and all the rest relies on.

A scene is a lazy cube (y, x, band): rows from north to south, columns from west to
east, bands in the order of the file (not always ascending). Values are the stored
digital numbers (DN); reflectance = DN / ``scale_factor``.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hyperhpc.errors import SceneError

#: Kinds of DN the analysis works on. Wider integers are read as int16 if they fit.
CANONICAL_DTYPES = ("int16", "uint16", "float32")
#: Pixels of a piece, where the format has none of its own: what caches hold.
BLOCK_PIXELS = 4096
#: Of :attr:`Scene.thinned`.
THINNED_STEP = 4


@dataclass(frozen=True)
class Grid:
    """Where the pixels are.

    Attributes
    ----------
    xmin, ymax
        Upper-left *corner* of the upper-left pixel, in units of the CRS.
    px, py
        Width and height of a pixel, both positive.
    wkt
        The coordinate reference system as WKT, or None.
    epsg
        Its EPSG code, or None.
    """

    xmin: float
    ymax: float
    px: float
    py: float
    wkt: str | None = None
    epsg: int | None = None

    def __post_init__(self) -> None:
        """Refuse what no pixel could lie on; every format comes by here."""
        numbers = (self.xmin, self.ymax, self.px, self.py)
        if not all(map(math.isfinite, numbers)) or self.px <= 0 or self.py <= 0:
            raise SceneError(
                f"The scene declares pixels of {self.px:g} x {self.py:g} with the upper-left "
                f"corner {self.xmin:g}, {self.ymax:g}, which is not a valid grid",
                "Correct its coordinates, GeoTransform, Map_Info or Spatial_Extent_meters",
            )

    def x_centres(self, start: int, stop: int) -> np.ndarray:
        """Eastings of the centres of columns start..stop-1 (float64)."""
        return self.xmin + (np.arange(start, stop) + 0.5) * self.px

    def y_centres(self, start: int, stop: int) -> np.ndarray:
        """Northings of the centres of rows start..stop-1 (float64, descending)."""
        return self.ymax - (np.arange(start, stop) + 0.5) * self.py

    def bounds(self, rows: tuple[int, int], cols: tuple[int, int]) -> list[float]:
        """[xmin, ymin, xmax, ymax]: outer edges of the pixels of this window."""
        return [
            self.xmin + cols[0] * self.px,
            self.ymax - rows[1] * self.py,
            self.xmin + cols[1] * self.px,
            self.ymax - rows[0] * self.py,
        ]

    def part(self, row: int, col: int) -> Grid:
        """The grid of the pixels from this row and column on."""
        return dataclasses.replace(
            self, xmin=self.xmin + col * self.px, ymax=self.ymax - row * self.py
        )

    def pixel_of(self, x: float, y: float) -> tuple[int, int]:
        """Row and column of the pixel that holds the point (may lie outside)."""
        return (
            int(np.floor((self.ymax - y) / self.py)),
            int(np.floor((x - self.xmin) / self.px)),
        )


@dataclass(frozen=True)
class Source:
    """One of the files or flights a scene was put together from.

    Attributes
    ----------
    name
        File name, without folders.
    acquired
        Date of acquisition as YYYY-MM-DD, or None.
    """

    name: str
    acquired: str | None = None


def source_from_name(name: str) -> Source:
    """A file as a source, with the date in its name (YYYYMMDD), if there is one."""
    name = os.path.basename(name)
    date = re.search(r"(?<!\d)(20\d\d)(0[1-9]|1[0-2])([0-2]\d|3[01])(?!\d)", name)
    return Source(name, "-".join(date.groups()) if date else None)


#: Arrays of a store beside the cube: what :meth:`Scene.read_origins` tells.
SOURCE_ARRAY, LINE_ARRAY, DATE_ARRAY = "source", "flight_line", "acquired"
#: A pixel that comes from none of the sources or flight lines; one of no known day.
NO_SOURCE, NO_DATE = 65535, 0


@dataclass(frozen=True, kw_only=True, eq=False)  # arrays inside: compared by identity
class Scene:
    """One scene, opened: its description, and a way to read windows of it.

    Subclasses implement :meth:`read`. A scene is small and can be pickled (it is sent to
    workers); files are opened in the process that reads.

    Attributes
    ----------
    path
        Absolute path of the file or store.
    format
        ``"zarr2"``, ``"zarr3"``, ``"neon-hdf5"``, ``"envi"`` or ``"geotiff"``.
    shape
        (rows, columns, bands).
    dtype
        Name of the dtype :meth:`read` returns, one of :data:`CANONICAL_DTYPES`.
    stored_dtype
        Name of the dtype on disk.
    wavelength_nm
        Band centres, float64, nm, in stored order.
    scale_factor
        Divisor from DN to reflectance 0-1.
    nodata
        DN that make a pixel no-data when seen in any good band. NaN always does.
    window_nodata
        DN that mean no-data only inside ``bad_band_windows_nm`` (-100 in DP3.30006.002).
    bad_band_windows_nm
        Closed intervals the file itself declares unusable; empty if it declares none.
    grid
        Georeference.
    chunks
        Stored chunk (rows, columns, bands), the smallest unit that can be read.
    shards
        Stored shard (rows, columns, bands), or None.
    group
        Group inside the file or store that holds the cube.
    notes
        What was resolved or assumed while opening, one sentence each.
    thinned
        Every 4th row and column of this scene (:data:`THINNED_STEP`), from the first on,
        stored once more for whoever needs no others; None if it is not.
    bad_bands
        Positions of bands that the file itself flags as bad (0 in ENVI's bbl).
    sources
        What the scene was put together from; empty if it does not say.
    flight_lines
        Those its files say their pixels are from; empty if they do not.
    has_dates
        True if it is known when its pixels, or some, were seen.
    interest
        [xmin, ymin, xmax, ymax] of what is asked for, in the scene's CRS; None for all of it.
    """

    path: str
    format: str
    shape: tuple[int, int, int]
    dtype: str
    stored_dtype: str
    wavelength_nm: np.ndarray
    scale_factor: float
    nodata: tuple[float, ...]
    window_nodata: tuple[float, ...] = ()
    bad_band_windows_nm: tuple[tuple[float, float], ...] = ()
    grid: Grid
    chunks: tuple[int, int, int]
    shards: tuple[int, int, int] | None = None
    group: str = ""
    notes: tuple[str, ...] = ()
    fwhm_nm: np.ndarray | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    thinned: Scene | None = None
    bad_bands: tuple[int, ...] = ()
    sources: tuple[Source, ...] = ()
    flight_lines: tuple[Source, ...] = ()
    has_dates: bool = False
    interest: tuple[float, float, float, float] | None = None

    def read(
        self, rows: slice, cols: slice, bands: slice | np.ndarray | None = None
    ) -> np.ndarray:
        """Read one window.

        Parameters
        ----------
        rows, cols
            Slices with start and stop, step None or a positive step.
        bands
            None for all, a slice, or ascending band numbers.

        Returns
        -------
        DN (y, x, band), C-contiguous, of ``self.dtype``, in memory.

        Raises
        ------
        SceneError
            A chunk cannot be read or decoded, or a wide integer does not fit int16.
        """
        raise NotImplementedError  # pragma: no cover - abstract

    def blocks(self, rows: slice, cols: slice) -> Iterator[tuple[int, int, np.ndarray]]:
        """Pixels of a window, piece by piece, in an order that is the same each time.

        Parameters
        ----------
        rows, cols
            Slices with start and stop.

        Yields
        ------
        Row and column of the first pixel of a piece, and its DN (y, x, band), of
        ``self.dtype``: valid until the next piece is asked for.

        Raises
        ------
        SceneError
            As :meth:`read`.
        """
        dn = self.read(rows, cols)
        depth = max(1, BLOCK_PIXELS // max(dn.shape[1], 1))
        for start in range(0, dn.shape[0], depth):
            yield rows.start + start, cols.start, dn[start : start + depth]

    def read_origins(self, rows: slice, cols: slice) -> dict[str, np.ndarray]:
        """Where the pixels of a window come from, as far as it is known.

        Returns
        -------
        By name: ``source`` and ``flight_line``, positions in ``sources`` and
        ``flight_lines``, uint16 (y, x), :data:`NO_SOURCE` where there is none; ``acquired``,
        the day as YYYYMMDD, int32 (y, x), :data:`NO_DATE` where it is not known.

        Raises
        ------
        SceneError
            As :meth:`read`.
        """
        return {}

    def read_sources(self, rows: slice, cols: slice) -> np.ndarray | None:
        """``source`` of :meth:`read_origins`; None if it is not known."""
        return self.read_origins(rows, cols).get(SOURCE_ARRAY)

    def file_names(self) -> tuple[str, ...]:
        """Names of the files the pixels are in, without folders."""
        return (os.path.basename(self.path),)

    def read_zenith(self, rows: slice, cols: slice) -> np.ndarray | None:
        """Angle between the view and the vertical, for the pixels of a window.

        Returns
        -------
        Degrees, float32 (y, x), NaN where it is not known; None if the scene has none.

        Raises
        ------
        SceneError
            As :meth:`read`.
        """
        return None

    def check_files(self) -> list[str]:
        """What can be said of the scene's files without reading them, one sentence each."""
        return []

    def fingerprint(self) -> dict[str, Any]:
        """What tells this scene from a changed one: size and time of its metadata file."""
        raise NotImplementedError  # pragma: no cover - abstract

    @property
    def is_integer(self) -> bool:
        """True if DN are integers, for which all statistics are exact."""
        return np.issubdtype(np.dtype(self.dtype), np.integer)

    @property
    def bounds(self) -> list[float]:
        """[xmin, ymin, xmax, ymax], outer edges of the scene."""
        return self.grid.bounds((0, self.shape[0]), (0, self.shape[1]))


def scene_fields(scene: Scene) -> dict[str, Any]:
    """What every scene says of itself, for another one that says the same."""
    return {field.name: getattr(scene, field.name) for field in dataclasses.fields(Scene)}
