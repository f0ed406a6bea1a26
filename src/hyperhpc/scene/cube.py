"""The canonical scene, to which every format is converted.

A scene is a lazy cube (y, x, band): rows from north to south, columns from west to
east, bands in the order of the file (not always ascending). Values are the stored
digital numbers (DN); reflectance = DN / ``scale_factor``.
"""

from __future__ import annotations

import dataclasses
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from hyperhpc.config import CODED_LAYERS
from hyperhpc.errors import SceneError
from hyperhpc.scene.fingerprint import MOST_FILES
from hyperhpc.scene.window import length, normalise

#: Pixels of a piece of :meth:`Scene.blocks`, where the format defines none: caches hold it.
BLOCK_PIXELS = 4096
#: Step of the rows and columns in :attr:`Scene.thinned`.
THINNED_STEP = 4


@dataclass(frozen=True)
class Grid:
    """Where the pixels are: a regular grid, north up.

    ``xmin``, ``ymax``: Upper-left *corner* of the upper-left pixel, in units of the CRS.
    ``px``, ``py``: Width and height of a pixel, both positive.
    ``wkt``, ``epsg``: The coordinate reference system, and its code, or None.
    """

    xmin: float
    ymax: float
    px: float
    py: float
    wkt: str | None = None
    epsg: int | None = None

    def __post_init__(self) -> None:
        """Refuse a grid that is not finite or has no pixel size; all formats rely on it."""
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
        xmin, ymax = self.xmin + col * self.px, self.ymax - row * self.py
        return dataclasses.replace(self, xmin=xmin, ymax=ymax)

    def pixel_of(self, x: float, y: float) -> tuple[int, int]:
        """Row and column of the pixel that holds the point (may be outside the scene)."""
        return (int(np.floor((self.ymax - y) / self.py)), int(np.floor((x - self.xmin) / self.px)))


@dataclass(frozen=True)
class Source:
    """A file (without folders) or flight a scene was put together from, with its YYYY-MM-DD."""

    name: str
    acquired: str | None = None


@dataclass(frozen=True)
class Layer:
    """An image of a scene besides its cube, on the same grid.

    ``dtype``: Name of its dtype.
    ``planes``: Numbers per pixel: 3 for a picture, else 1.
    ``missing``: The number of pixels without a value.
    ``attributes``: What the file says of it: texts, numbers and lists of them.
    """

    dtype: str
    missing: float
    planes: int = 1
    attributes: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def depth(self) -> tuple[int, ...]:
        """What its shape has after rows and columns."""
        return () if self.planes == 1 else (self.planes,)


#: Angles (degrees) that NEON gives for each pixel, and for each flight line.
ZENITH_LAYER, AZIMUTH_LAYER = "to-sensor_Zenith_Angle", "to-sensor_Azimuth_Angle"
SUN_LAYERS = ("Solar_Zenith_Angle", "Solar_Azimuth_Angle")
ANGLE_LAYERS = (ZENITH_LAYER, AZIMUTH_LAYER, *SUN_LAYERS)
#: All layers that a store keeps.
LAYERS = (*CODED_LAYERS, *ANGLE_LAYERS)

#: Arrays in a store that say where pixels come from, see :meth:`Scene.read_origins`.
SOURCE_ARRAY, LINE_ARRAY, DATE_ARRAY = "source", "flight_line", "acquired"
#: Values of pixels without a known source or flight line, and without a known day.
NO_SOURCE, NO_DATE = 65535, 0


#: The cause of missing pixels that no mask hides; the first of all causes.
NO_DATA = "no data in the file"
#: The cause of missing pixels of a mosaic that no scene covers.
NO_FILE = "in no file of the mosaic"


class Mask(Protocol):
    """Says which pixels of a scene are left out. Small, and can be pickled."""

    @property
    def causes(self) -> tuple[str, ...]:
        """Why its pixels are left out, in a few words each."""

    def hides(self, rows: slice, cols: slice) -> np.ndarray:
        """Bool (y, x), True where a pixel is left out; slices as in :meth:`Scene.read`."""

    def hides_each(self, rows: slice, cols: slice) -> list[np.ndarray]:
        """As :meth:`hides`, for each of the causes."""

    def fingerprint(self) -> Any:
        """Identifies the mask, as plain JSON."""


@dataclass(frozen=True, kw_only=True, eq=False)  # arrays inside: compared by identity
class Scene(ABC):
    """One scene, opened: its description, and a way to read windows of it.

    A scene is small and can be pickled (it is sent to workers); files are opened in the
    process that reads. Formats subclass :class:`hyperhpc.scene.files.FileScene`.

    ``path``: Absolute path of the file or store.
    ``format``: ``"zarr2"``, ``"zarr3"``, ``"neon-hdf5"``, ``"envi"`` or ``"geotiff"``.
    ``shape``: (rows, columns, bands).
    ``dtype``: Name of the dtype :meth:`read` returns: int16, uint16 or float32. Wider integers
        are read as int16.
    ``stored_dtype``: Name of the dtype on disk.
    ``wavelength_nm``: Band centres, float64, nm, in stored order.
    ``scale_factor``: Divisor from DN to reflectance 0-1.
    ``nodata``: DN that make a pixel no-data when seen in any good band. NaN always does.
    ``window_nodata``: DN that mean no-data only inside ``bad_band_windows_nm`` (-100 in
        DP3.30006.002).
    ``bad_band_windows_nm``: Closed intervals the file itself declares unusable; empty if it
        declares none.
    ``grid``: Georeference.
    ``chunks``: Stored chunk (rows, columns, bands), the smallest unit that can be read.
    ``shards``: Stored shard (rows, columns, bands), or None.
    ``group``: Group inside the file or store that holds the cube.
    ``notes``: What was resolved or assumed while opening, one sentence each.
    ``warnings``: What may be wrong with it, one sentence each.
    ``thinned``: Copy of every 4th row and column of this scene (:data:`THINNED_STEP`), which
        saves time when only those are needed; None if there is none.
    ``fwhm_nm``: Full widths at half maximum (band,), float64, nm; None if unknown.
    ``bad_bands``: Positions of bands that the file itself flags as bad (0 in ENVI's bbl), or that
        hold no valid value.
    ``sources``: Files or flights the scene was put together from; empty if unknown.
    ``flight_lines``: Flight lines of its pixels; empty if unknown.
    ``has_dates``: True if the day of acquisition is known for at least some pixels.
    ``aoi_bounds``: (xmin, ymin, xmax, ymax) of the area of interest, in the scene's CRS, or None.
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
    warnings: tuple[str, ...] = ()
    fwhm_nm: np.ndarray | None = None
    thinned: Scene | None = None
    bad_bands: tuple[int, ...] = ()
    sources: tuple[Source, ...] = ()
    flight_lines: tuple[Source, ...] = ()
    has_dates: bool = False
    aoi_bounds: tuple[float, float, float, float] | None = None

    @abstractmethod
    def read(self, rows: slice, cols: slice, bands: slice | np.ndarray | None = None) -> np.ndarray:
        """Read one window.

        ``rows``, ``cols``: Slices with start and stop, step None or a positive step.
        ``bands``: None for all, a slice, or ascending band numbers.

        Returns: DN (y, x, band), C-contiguous, of ``self.dtype``, in memory.
        Raises SceneError: a chunk cannot be read or decoded, or a wide integer does not fit int16.
        """

    def blocks(self, rows: slice, cols: slice) -> Iterator[tuple[int, int, np.ndarray]]:
        """Pixels of a window without steps, piece by piece, in an order that is always the same.

        Yields: row and column of the first pixel of a piece, and its DN (y, x, band), of
        ``self.dtype``: valid until the next piece is requested.
        Raises SceneError: as :meth:`read`.
        """
        dn = self.read(rows, cols)
        depth = max(1, BLOCK_PIXELS // max(dn.shape[1], 1))
        for start in range(0, dn.shape[0], depth):
            yield rows.start + start, cols.start, dn[start : start + depth]

    def read_origins(self, rows: slice, cols: slice) -> dict[str, np.ndarray]:
        """Where the pixels of a window come from, as far as it is known.

        Returns: by name: ``source`` and ``flight_line``, positions in ``sources`` and
        ``flight_lines``, uint16 (y, x), :data:`NO_SOURCE` where unknown; ``acquired``, the day
        as YYYYMMDD, int32 (y, x), :data:`NO_DATE` where unknown.
        Raises SceneError: as :meth:`read`.
        """
        return {}

    def file_names(self) -> tuple[str, ...]:
        """Names of the files the pixels are in, without folders."""
        return (os.path.basename(self.path),)

    def read_zenith(self, rows: slice, cols: slice) -> np.ndarray | None:
        """Angle between the view and the vertical, for the pixels of a window.

        Returns: degrees, float32 (y, x), NaN where it is not known; None if the scene has none.
        Raises SceneError: as :meth:`read`.
        """
        return None

    def causes(self) -> tuple[str, ...]:
        """Why pixels may be missing, in a few words each; ``NO_DATA`` comes first."""
        return (NO_DATA,)

    def read_causes(self, rows: slice, cols: slice) -> np.ndarray:
        """Why the pixels of a window are missing, for those that are.

        ``rows``, ``cols``: As in :meth:`read`.

        Returns: positions in :meth:`causes`, uint8 (y, x). Where several masks hide a pixel, it is
        that of the outermost one; 0 where none does, also of pixels that have data.
        Raises SceneError: as :meth:`read`.
        """
        shape = normalise(rows, self.shape[0]), normalise(cols, self.shape[1])
        return np.zeros([length(part) for part in shape], np.uint8)

    def check_files(self) -> list[str]:
        """Findings about the scene's files that need no reading, one sentence each."""
        return []

    def fingerprint(self, most_files: int = MOST_FILES) -> dict[str, Any]:
        """Identifies the content of the scene, as plain JSON without paths.

        ``most_files``: How many files may be looked at; of more of them some count for all. See
            :mod:`hyperhpc.scene.fingerprint`, also for how two are compared.
        """
        return {"kind": self.format, "shape": list(self.shape), "dtype": self.stored_dtype}

    def layers(self) -> dict[str, Layer]:
        """Images besides the cube, by name: quality layers, and angles of view and sun.

        Raises SceneError: the file is damaged.
        """
        return {}

    def read_layers(
        self, rows: slice, cols: slice, names: Collection[str]
    ) -> dict[str, np.ndarray]:
        """Windows of some of the :meth:`layers`, by name.

        ``rows``, ``cols``: As in :meth:`read`.

        Returns: (y, x) or (y, x, plane), of the layer's dtype, with the numbers as they are stored.
        Raises SceneError: as :meth:`read`.
        """
        return {}

    @property
    def messages(self) -> list[str]:
        """Notes and warnings, as lines for the terminal."""
        notes = [f"note: {text}" for text in self.notes]
        return notes + [f"warning: {text}" for text in self.warnings]

    @property
    def is_integer(self) -> bool:
        """True if DN are integers, for which all statistics are exact."""
        return np.issubdtype(np.dtype(self.dtype), np.integer)

    @property
    def bounds(self) -> list[float]:
        """[xmin, ymin, xmax, ymax], outer edges of the scene."""
        return self.grid.bounds((0, self.shape[0]), (0, self.shape[1]))


def empty_layer(layer: Layer, shape: tuple[int, ...]) -> np.ndarray:
    """A window (y, x) or (y, x, plane) of a layer in which no pixel has a value."""
    return np.full((*shape, *layer.depth), layer.missing, layer.dtype)


def to_zenith(angle: np.ndarray) -> np.ndarray:
    """Angles of view (degrees, y, x) as float32, NaN where the number is none."""
    return np.where((angle >= 0) & (angle < 90), angle, np.nan).astype(np.float32)


def scene_fields(scene: Scene) -> dict[str, Any]:
    """The fields that all scenes have, to make another scene with the same ones."""
    return {field.name: getattr(scene, field.name) for field in dataclasses.fields(Scene)}
