"""Scenes in files: what all formats have in common, so that a format is little more than
:meth:`FileScene.fetch`.
"""

from __future__ import annotations

import codecs
import dataclasses
import json
import os
import shlex
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hyperhpc.errors import SceneError, cause
from hyperhpc.scene import metadata
from hyperhpc.scene.cube import Scene
from hyperhpc.scene.fingerprint import DESCRIBED, MOST_FILES, MOST_READ, stamp_files
from hyperhpc.scene.window import band_runs, describe_window, length, normalise
from hyperhpc.sealed import crc32c

#: What to do about a file that cannot be read.
DAMAGED_FILE = "The file is truncated or damaged; copy or download it again"


def unreadable(
    what: str, *window: slice, why: BaseException, hint: str = DAMAGED_FILE
) -> SceneError:
    """The error to raise for what could not be read, in a window (rows, columns, bands)."""
    where = f" at {describe_window(*window)}" if window else ""
    return SceneError(f"{what} cannot be read{where}: {cause(why)}", hint)


@dataclass(frozen=True, kw_only=True, eq=False)
class FileScene(Scene):
    """A cube in a file or a store; a format implements :meth:`fetch`.

    ``wide_nodata``: No-data values on disk that ``dtype`` cannot hold, replaced while reading.
    ``linear``, ``valid_range``: See :class:`hyperhpc.scene.metadata.Values`.
    ``geotransform``: Where rows do not run from north to south: GDAL's six numbers, which count
        instead of the corner and pixel size of ``grid``; None else.
    """

    wide_nodata: tuple[float, ...] = ()
    linear: tuple[float, float] | None = None
    valid_range: tuple[float, float] | None = None
    geotransform: tuple[float, ...] | None = None

    @property
    def cube_name(self) -> str:
        """What messages call the cube."""
        return self.path

    @abstractmethod
    def fetch(self, rows: slice, cols: slice, bands: slice) -> np.ndarray:
        """Values (y, x, band) as they are stored, in the byte order of this machine.

        The slices have a start, a stop and a positive step, are within the cube and not empty.

        Raises SceneError: from :func:`unreadable`: the file is missing, truncated or damaged.
        """

    def fingerprint_files(self, most_files: int = MOST_FILES) -> dict[str, str]:
        """Files whose size and time change with the scene: a name and a path for each.

        ``most_files``: About how many; of more of them, always the same are named.
        """
        return {"file": self.path}

    def fingerprint(self, most_files: int = MOST_FILES) -> dict[str, Any]:
        """With stamps of :meth:`fingerprint_files`, and what was read of small ones."""
        if not os.path.exists(self.path):
            raise SceneError(f"{self.path} no longer exists")
        most_read = min(MOST_READ, most_files)
        stamps = stamp_files(self.fingerprint_files(most_files), most_read)
        return super().fingerprint() | stamps | {DESCRIBED: self._describe()}

    def _describe(self) -> str:
        """Checksum of what files say of the numbers and their places."""
        grid, fwhm_nm = dataclasses.asdict(self.grid), self.fwhm_nm
        known = [
            self.wavelength_nm.tolist(),
            None if fwhm_nm is None else fwhm_nm.tolist(),
            [str(value) for value in grid.values()],
            [self.scale_factor, self.linear, self.valid_range, str(self.geotransform)],
            [str(self.nodata), str(self.wide_nodata), str(self.window_nodata)],
            self.bad_band_windows_nm,
        ]
        return crc32c(json.dumps(known).encode())

    def read(self, rows: slice, cols: slice, bands: slice | np.ndarray | None = None) -> np.ndarray:
        """Read one window; see :meth:`Scene.read`.

        Peak memory is the window, plus one run of bands as stored where only some bands
        are wanted or the dtype changes.

        Raises SceneError: from :meth:`fetch`, or for a value beyond int16; IndexError: band
        numbers that are not ascending or do not exist.
        """
        rows, cols = normalise(rows, self.shape[0]), normalise(cols, self.shape[1])
        n_bands = self.shape[2]
        bands = slice(None) if bands is None else bands
        if isinstance(bands, slice):
            window = normalise(bands, n_bands)
            if window.step == 1 and 0 not in (length(rows), length(cols), length(window)):
                return np.ascontiguousarray(self._canonicalise(self.fetch(rows, cols, window)))
            numbers = np.arange(window.start, window.stop, window.step)
        else:
            numbers = np.asarray(bands, dtype=np.intp)
            is_ascending = numbers.ndim == 1 and bool(np.all(np.diff(numbers) > 0))
            if not is_ascending or (numbers.size and not 0 <= numbers[0] <= numbers[-1] < n_bands):
                raise IndexError(f"band numbers must ascend within 0-{n_bands - 1}: {numbers}")
        out = np.empty((length(rows), length(cols), numbers.size), self.dtype)
        for source, target in band_runs(numbers, self.chunks[2]) if out.size else ():
            run = self.fetch(rows, cols, source)[..., numbers[target] - source.start]
            out[..., target] = self._canonicalise(run)
        return out

    def _canonicalise(self, block: np.ndarray) -> np.ndarray:
        rules = self.wide_nodata, self.cube_name, self.linear, self.valid_range
        return metadata.canonicalise(block, self.dtype, *rules)


def override(scene: FileScene, scale: float | None, nodata: Sequence[float]) -> FileScene:
    """The scene with a scale and no-data values that count more than what the file declares."""
    notes = [note for note in scene.notes if not note.startswith(metadata.ASSUMED)]
    changes: dict[str, Any] = {}
    if scale is not None:
        divisor = metadata.to_divisor(scale, "--scale", notes)
        linear = scene.linear and (1 / divisor, scene.linear[1])
        changes = {"linear": linear, "scale_factor": 1.0 if linear else divisor}
    if nodata:
        # pixels that a mask or an absent chunk hides stay hidden
        marks = [getattr(scene, name, None) for name in ("mask_value", "absent_value")]
        stored, dtype = np.dtype(scene.stored_dtype), np.dtype(scene.dtype)
        has_range = scene.valid_range is not None
        narrow, wide = metadata.resolve_nodata(
            stored, dtype, [*nodata, *marks], has_range, notes, is_given=True
        )
        changes |= {"nodata": () if scene.linear else narrow}
        changes |= {"wide_nodata": (*narrow, *wide) if scene.linear else wide}
    if scene.thinned is not None:
        changes["thinned"] = replace(scene.thinned, **changes)
    return replace(scene, **changes, notes=tuple(notes))


def decode_text(data: bytes) -> tuple[str, str]:
    """Text as programs save it, and its encoding: UTF-8, UTF-16 with its mark, else Latin-1.

    Raises UnicodeError: a mark of UTF-16, and something else after it.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16"), "utf-16"
    try:
        return data.decode("utf-8-sig"), "utf-8"
    except UnicodeDecodeError:
        return data.decode("latin-1"), "latin-1"


def netcdf_hint(path: str) -> str:
    """What to type about a NetCDF file: xarray keeps its coordinates and attributes."""
    store = f"{os.path.splitext(os.path.basename(path))[0]}.zarr"
    code = (
        f"import xarray; xarray.open_dataset({path!r}, mask_and_scale=False)"
        f".to_zarr({store!r}, zarr_format=2)"
    )
    return (
        "NetCDF is read as a Zarr store; write one, in a Python with xarray, zarr and netCDF4: "
        f"python -c {shlex.quote(code)}"
    )


def stamp(path: str) -> tuple[int, int]:
    """Size (bytes) and modification time (ns) of a file; OSError if it no longer exists."""
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns
