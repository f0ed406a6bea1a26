"""Windows of ENVI files and GeoTIFFs; opened by :mod:`~hyperhpc.scene.formats.raster`."""

from __future__ import annotations

import os
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hyperhpc.errors import SceneError
from hyperhpc.reading import check_siblings
from hyperhpc.scene.cube import SOURCE_ARRAY
from hyperhpc.scene.files import FileScene, unreadable
from hyperhpc.scene.fingerprint import MOST_FILES
from hyperhpc.scene.formats.envi_header import as_gdal_reads_it, starts_as_header
from hyperhpc.scene.origins import add_dates
from hyperhpc.scene.window import intersect, length, mirror, normalise

#: MB of decoded blocks that GDAL keeps; by itself it takes 5 % of the machine.
_CACHE_MB = 64
#: They take precedence over variables of the user, also in a notebook (hyperhpc.environment).
_GDAL_OPTIONS = {
    "GDAL_CACHEMAX": _CACHE_MB,
    "GDAL_DISABLE_READDIR_ON_OPEN": False,  # ENVI needs its header, and a TIFF its .aux.xml
    "GDAL_PAM_ENABLED": True,
}


@dataclass(frozen=True)
class Layout:
    """Memory layout of uncompressed numbers in a file.

    ``order``: Which of y, x and band (0, 1, 2) are the dimensions on disk.
    ``dtype``: With its byte order.
    ``offset``, ``nbytes``: Where the numbers begin, and the size of the whole file.
    """

    order: tuple[int, int, int]
    dtype: str
    offset: int
    nbytes: int


@dataclass(frozen=True, kw_only=True, eq=False)
class RasterScene(FileScene):
    """A cube in an ENVI file or a GeoTIFF.

    ``header``: ENVI's header; None for a GeoTIFF.
    ``layout``: Layout of ENVI's data, which are mapped into memory; None if GDAL decodes blocks.
    ``is_south_up``: Rows are stored from south to north.
    ``mask_value``: No-data value, as stored, of the pixels that the file's mask or alpha band
        hides; None without a mask.
    ``alpha_band``: Number of the alpha band, from 1; None without one.
    """

    header: str | None
    layout: Layout | None
    is_south_up: bool = False
    mask_value: float | None = None
    alpha_band: int | None = None

    def fetch(self, rows: slice, cols: slice, bands: slice) -> np.ndarray:
        """Values of a window as stored; see :meth:`FileScene.fetch`."""
        if self.is_south_up:
            rows = mirror(rows, self.shape[0])
        try:
            block = (self._fetch_plain if self.layout else self._fetch_decoded)(rows, cols, bands)
            if self.mask_value is not None:
                block[self._is_masked(rows, cols)] = self.mask_value
        except read_errors() as error:
            why = error.__cause__ or error  # rasterio gives GDAL's message as the cause
            raise unreadable(self.path, rows, cols, bands, why=why) from error
        return block[::-1] if self.is_south_up else block

    def _is_masked(self, rows: slice, cols: slice) -> np.ndarray:
        """Bool (y, x): what GDAL's mask of the file hides."""
        window = ((rows.start, rows.stop), (cols.start, cols.stop))
        with open_dataset(self.path, self.header) as dataset:
            read = dataset.read if self.alpha_band else dataset.read_masks
            mask = read(self.alpha_band or 1, window=window)
        return np.asarray(mask[:: rows.step, :: cols.step] == 0)

    def _fetch_plain(self, rows: slice, cols: slice, bands: slice) -> np.ndarray:
        """Map the file and copy: GDAL needs ten times as long, and far more for BIP."""
        assert self.layout is not None
        found = os.path.getsize(self.path)
        if found != self.layout.nbytes:  # a mapping beyond the end would kill the process
            raise OSError(f"it has {found} bytes and had {self.layout.nbytes}")
        shape = tuple(self.shape[axis] for axis in self.layout.order)
        stored = np.memmap(self.path, self.layout.dtype, "r", self.layout.offset, shape)
        cube = stored.transpose(np.argsort(self.layout.order))
        native = np.dtype(self.layout.dtype).newbyteorder("=")
        return np.array(cube[rows, cols, bands], native, order="C")

    def _fetch_decoded(self, rows: slice, cols: slice, bands: slice) -> np.ndarray:
        """Let GDAL decode into the result in place, whole rows of blocks at a time."""
        numbers = list(range(bands.start + 1, bands.stop + 1, bands.step))
        across = (cols.start, cols.stop)
        out = np.empty((length(rows), length(cols), len(numbers)), self.stored_dtype)
        with open_dataset(self.path, self.header) as dataset:
            if rows.step == cols.step == 1:
                window = ((rows.start, rows.stop), across)
                dataset.read(numbers, window=window, out=out.transpose(2, 0, 1))
                return out
            # Rows that are skipped are decoded too, but not all kept at once.
            depth = max(64, self.chunks[0])
            for first in range(rows.start // depth * depth, rows.stop, depth):
                if parts := intersect(rows, first, depth):
                    there, here = parts
                    window = ((first + there.start, first + there.stop), across)
                    part = dataset.read(numbers, window=window)
                    out[here] = part[:, :: rows.step, :: cols.step].transpose(1, 2, 0)
        return out

    def read_origins(self, rows: slice, cols: slice) -> dict[str, np.ndarray]:
        """The one source everywhere, if its date is known; see :meth:`Scene.read_origins`."""
        if not self.sources:
            return {}
        rows, cols = normalise(rows, self.shape[0]), normalise(cols, self.shape[1])
        source = np.zeros((length(rows), length(cols)), np.uint16)
        return add_dates({SOURCE_ARRAY: source}, self.sources, ())

    def fingerprint_files(self, most_files: int = MOST_FILES) -> dict[str, str]:
        """The data, the header, and a mask and a world file next to them.

        GDAL's ``.aux.xml`` does not count: QGIS writes one when it shows the file.
        """
        stem = os.path.splitext(self.path)[0]
        found = {"file": self.path} | ({"header": self.header} if self.header else {})
        extra = {".msk": f"{self.path}.msk", ".tfw": f"{stem}.tfw", ".wld": f"{stem}.wld"}
        return found | {name: path for name, path in extra.items() if os.path.exists(path)}


def read_errors() -> tuple[type[Exception], ...]:
    """What reading a damaged file may raise."""
    from rasterio.errors import RasterioError

    return (OSError, ValueError, RasterioError)


class _Hook:
    """Drops messages of GDAL that quote bytes of damaged files, which rasterio cannot decode."""

    def __init__(self, hook: Callable[..., None]) -> None:
        self._hook = hook

    def __call__(self, *exception: Any) -> None:
        # Cython calls both: excepthook without a traceback, unraisablehook with its function
        if len(exception) == 3:
            kind, is_from_gdal = exception[0], exception[2] is None
        else:
            kind, is_from_gdal = exception[0].exc_type, "rasterio" in str(exception[0].object)
        if not (is_from_gdal and issubclass(kind, UnicodeDecodeError)):
            self._hook(*exception)


def _install_hooks() -> None:
    """For this process, once: rasterio has no such hook of its own."""
    if not isinstance(sys.excepthook, _Hook):
        sys.excepthook = _Hook(sys.excepthook)
    if not isinstance(sys.unraisablehook, _Hook):
        sys.unraisablehook = _Hook(sys.unraisablehook)


@contextmanager
def open_dataset(path: str, header: str | None) -> Iterator[Any]:
    """Open a file with rasterio, for this thread alone.

    A handle is never kept: GDAL's must not be shared between threads, and opening takes
    a few milliseconds.
    """
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning

    quiet = ("ignore", None, NotGeoreferencedWarning, None, 0)
    if quiet not in warnings.filters:  # not catch_warnings, which other threads would feel
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
    _install_hooks()
    driver = "GTiff" if header is None else "ENVI"
    with (
        rasterio.Env(**_GDAL_OPTIONS),
        as_gdal_reads_it(path, header) if header else nullcontext(path) as name,
        rasterio.open(Path(name), driver=driver, sharing=False) as dataset,
    ):
        yield dataset


# Which file GDAL opens: TIFF by its first bytes, ENVI by the header next to the data.

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
#: Extensions of ENVI data, best first, where several files have the header's name.
_DATA = ("", ".img", ".dat", ".bil", ".bip", ".bsq", ".raw", ".bin", ".envi", ".sli")
#: Extensions of files next to the data, which are never the data.
_SIDECARS = (".hdr", ".xml", ".ovr", ".txt", ".csv", ".prj", ".pdf", ".png", ".jpg", ".sta", ".enp")


def is_tiff(path: str) -> bool:
    """True for a TIFF file, by its first bytes."""
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        return file.read(4) in _TIFF


def is_envi(path: str) -> bool:
    """True for an ENVI header, and for any file that has one of its name."""
    return os.path.isfile(path) and (_is_header(path) or _find_header(path) is not None)


def find_raster(path: str) -> tuple[str, str | None]:
    """Data file of a raster, and its ENVI header; None for a TIFF.

    Raises SceneError: neither of both kinds, a header that is not ENVI's, or no single data file
    to it.
    """
    check_siblings(path)
    if is_tiff(path):
        return path, None
    header = path if _is_header(path) else _find_header(path)
    if header is None:
        raise SceneError(
            f"{path} is not a TIFF, and there is no ENVI header (.hdr) for it",
            "ENVI data need a header of the same name in the same folder",
        )
    if not starts_as_header(header):
        raise _no_envi_header(path, header)
    return (_find_data(header) if header == path else path), header


def _no_envi_header(path: str, header: str) -> SceneError:
    with open(header, "rb") as file:
        start = file.read(4)
    hint = "Save it as UTF-8"
    if b"\0" not in start:
        data = _find_data(header) if header == path else path
        name = f"{os.path.splitext(os.path.basename(data))[0]}_envi.img"
        words = ["gdal_translate", "-of", "ENVI", data, name]
        hint = f"If it is ESRI's, write it as ENVI: {shlex.join(words)}"
    return SceneError(
        f"{header} is not an ENVI header: it begins with {start!r}, not ENVI (headers of "
        "ESRI also end in .hdr)",
        hint,
    )


def _is_header(path: str) -> bool:
    return path.lower().endswith(".hdr")


def _find_header(path: str) -> str | None:
    """``scene.img.hdr`` or ``scene.hdr`` of ``scene.img``."""
    stems = (path, os.path.splitext(path)[0])
    names = (stem + ending for stem in stems for ending in (".hdr", ".HDR"))
    return next(filter(os.path.isfile, names), None)


def _find_data(header: str) -> str:
    folder, name = os.path.split(header)
    stem = name[: -len(".hdr")]
    there = [
        other
        for other in sorted(os.listdir(folder))
        if (other == stem or os.path.splitext(other)[0] == stem)
        and not other.lower().endswith(_SIDECARS)
        and os.path.isfile(os.path.join(folder, other))
    ]
    known = [stem + ending for ending in _DATA if stem + ending in there]
    if not known and len(there) > 1:
        raise SceneError(
            f"{header} may be the header of any of {', '.join(there[:8])}",
            "Name the data file instead",
        )
    if not there:
        raise SceneError(
            f"{header} has no data file: a file called {stem}, with any extension, in the same "
            "folder",
            "Copy the data file to the same folder",
        )
    return os.path.join(folder, (known or there)[0])
