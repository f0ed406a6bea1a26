"""Write a cube as the HDF5 file NEON delivers for a tile (DP3.30006.001 or .002).

The tree, names, types and attributes follow the files NEON published from 2017 to 2025,
including what differs between the directional and the bidirectional product.
"""

from __future__ import annotations

import tempfile
import zlib
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, Self

import h5py
import numpy as np

from hyperhpc.scene.cube import Grid
from hyperhpc.simulate import materials
from hyperhpc.simulate.land import Cover, Cut, Land
from hyperhpc.simulate.write_zarr import simulated_grid

_SITE, _DOMAIN, _ZONE = "CPER", "D10", 13
_GZIP: dict[str, Any] = {"compression": "gzip", "compression_opts": 3}
_CHUNK = (32, 63, 27)  # what h5py guesses for a tile of 1000 x 1000 x 426, as NEON let it
_BLOCK = (128, 16 * 63)
_THREADS = 2
_FILL_U1 = 241
#: What NEON's files say of the codes of their layers: names of classes, and texts.
_ABOUT: dict[str, dict[str, Any]] = {
    "Cast_Shadow": {"Units": "1 = shadow, 0 = no shadow", "Description": "Cast shadow map."},
    "Dark_Dense_Vegetation_Classification": {
        "Class_Names": [
            "geocoded background", "water", "DDV reference", "non-reference", "topogr. shadow",
        ],
    },
    "Haze_Cloud_Water_Map": {
        "Class_Names": [
            "geocoded background", "shadow", "thin cirrus (water)", "medium cirrus (water)",
            "thick cirrus (water)", "land (clear)", "saturated", "snow/ice", "thin cirrus (land)",
            "medium cirrus (land)", "thick cirrus (land)", "thin haze (land)", "medium haze (land)",
            "thin haze/glint (water)", "med. haze/glint (water)", "cloud (land)", "cloud (water)",
            "water", "cirrus cloud", "cirrus cloud (thick)", "bright", "topogr. shadow",
            "cloud shadow",
        ],
    },
    "Weather_Quality_Indicator": {
        "Description": "Cloud cover: green, or 1 = <10%; yellow, or 2 = 10-50%; red, or 3 = >50%",
    },
}  # fmt: skip
_CLOUDS = "For cloud conditions information see Weather Quality Index dataset."
_WINDOW_FILL = -100
_DATES = (20220617, 20220623)  # flight lines were flown on these days in turn
_TILT = 0.0431  # degrees between the views of two tiles; no whole columns make up for it


def tile_name(cut: Cut, bidirectional: bool) -> str:
    """NEON's name of a tile, with easting and northing of its lower-left corner."""
    rows, cols = (cut.row, cut.row + cut.height), (cut.col, cut.col + cut.width)
    xmin, ymin, _, _ = simulated_grid().bounds(rows, cols)
    product = "bidirectional_reflectance" if bidirectional else "reflectance"
    return f"NEON_{_DOMAIN}_{_SITE}_DP3_{xmin:.0f}_{ymin:.0f}_{product}.h5"


class NeonWriter:
    """One NEON tile, written block by block.

    ``cut``: The part of the land that the tile shows.
    ``chunks``: ``"old"``: (32, 63, 27); ``"band"``: one whole band. The latter needs a temporary
        file as large as the cube in the folder of ``path``.
    ``bidirectional``: DP3.30006.002 instead of .001: -100 inside the water windows, other types.
    ``own_flight``: The tile has its own flight above its middle, so that in overlaps one tile has
        the smaller to-sensor zenith angle.
    """

    block = _BLOCK

    def __init__(
        self,
        path: Path,
        cut: Cut,
        bands: int,
        land: Land,
        chunks: Literal["old", "band"],
        bidirectional: bool,
        own_flight: bool = False,
    ) -> None:
        rows, cols = cut.height, cut.width
        self._shape = shape = (rows, cols, bands)
        self._cut, self._land, self._is_new = cut, land, bidirectional
        self._own_flight = own_flight
        self._wavelength_nm = materials.band_centres(bands)
        self._window = materials.in_water_window(self._wavelength_nm)
        grid = simulated_grid().part(cut.row, cut.col)
        self._scratch = None
        if chunks == "band":
            self._scratch = tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115 - kept open
            self._scratch.truncate(rows * cols * bands * 2)
        self._pool = ThreadPoolExecutor(_THREADS)
        self._file = h5py.File(path, "w")
        root = self._file.create_group(f"{_SITE}/Reflectance")
        for k, window in enumerate(materials.WATER_WINDOWS_NM, start=1):
            root.attrs[f"Band_Window_{k}_Nanometers"] = np.array(window, dtype=np.int32)
        self._cube = root.create_dataset(
            "Reflectance_Data",
            shape,
            "<i2",
            chunks=(rows, cols, 1) if chunks == "band" else tuple(map(min, _CHUNK, shape)),
            fillvalue=materials.NODATA,
            **_GZIP,
        )
        self._cube.attrs.update(_cube_attributes(shape, grid))
        meta = root.create_group("Metadata")
        _coordinate_system(meta.create_group("Coordinate_System"), grid)
        _spectral_data(meta.create_group("Spectral_Data"), self._wavelength_nm, bidirectional)
        meta.create_group("Flight_Trajectory")
        lines = _line_names(land, bidirectional)
        _logs(meta.create_group("Logs"), [key for key, _ in lines], bidirectional)
        self._images: dict[str, h5py.Dataset] = {}
        for name, (sample, fill) in self._images_of(0, 0, 1, 1).items():
            size = (rows, cols, *sample.shape[2:])
            image = meta.create_dataset(name, size, sample.dtype, fillvalue=fill, **_GZIP)
            image.attrs.update(_ABOUT.get(name.rpartition("/")[2], {}))
            self._images[name] = image
        selection = self._images["Ancillary_Imagery/Data_Selection_Index"]
        selection.attrs["Data_Files"] = ",".join(file for _, file in lines)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        """Finish the file (after an error just close it)."""
        try:
            if kind is None and self._scratch is not None:
                self._gather_bands()
        finally:
            self._pool.shutdown(cancel_futures=True)
            self._file.close()
            if self._scratch is not None:
                self._scratch.close()

    def put(self, row: int, col: int, dn: np.ndarray) -> None:
        """Store one block of DN, and the ancillary images there; ``dn`` may be changed."""
        height, width, _ = dn.shape
        if self._is_new and self._window.any():
            valid = (dn[:, :, ~self._window] != materials.NODATA).any(axis=2)
            dn[:, :, self._window] = np.where(valid, _WINDOW_FILL, materials.NODATA)[..., None]
        place = (slice(row, row + height), slice(col, col + width))
        if self._scratch is None:
            self._compress(
                ((i, j, k), dn[i - row : i - row + n, j - col : j - col + m, k : k + b])
                for n, m, b in [self._cube.chunks]
                for i in range(row, row + height, n)
                for j in range(col, col + width, m)
                for k in range(0, dn.shape[2], b)
            )
        else:
            bands_first = self._shape[2], self._shape[0], self._shape[1]
            # Mapped again for each block, because mapped pages count as memory
            cube = np.memmap(self._scratch, np.int16, "r+", shape=bands_first)
            cube[:, place[0], place[1]] = dn.transpose(2, 0, 1)
            del cube
        for name, (picture, _) in self._images_of(row, col, height, width).items():
            self._images[name][place] = picture

    def _gather_bands(self) -> None:
        assert self._scratch is not None
        rows, cols, bands = self._shape
        self._scratch.seek(0)
        read = self._scratch.read
        self._compress(
            ((0, 0, k), np.frombuffer(read(rows * cols * 2), np.int16).reshape(rows, cols, 1))
            for k in range(bands)
        )

    def _compress(self, chunks: Iterable[tuple[tuple[int, int, int], np.ndarray]]) -> None:
        """Store whole chunks, deflated on all threads: HDF5 itself would use only one."""
        pending: deque[tuple[tuple[int, int, int], Future[bytes]]] = deque()
        for at, values in chunks:
            pending.append((at, self._pool.submit(_deflate, values, self._cube.chunks)))
            if len(pending) > 2 * _THREADS:
                at, packed = pending.popleft()
                self._cube.id.write_direct_chunk(at, packed.result())
        for at, packed in pending:
            self._cube.id.write_direct_chunk(at, packed.result())

    def _images_of(
        self, row: int, col: int, height: int, width: int
    ) -> dict[str, tuple[np.ndarray, float]]:
        """Ancillary images of a window, see :func:`_ancillary`, by name under Metadata."""
        y, x = row + self._cut.row, col + self._cut.col
        cover = self._land.window(y, x, height, width)
        ground = self._land.elevation(y - 1, x - 1, height + 2, width + 2)
        # Distance from the nadir of the flight line, -1..1, gives the view angles.
        if self._own_flight:
            off = (2 * np.arange(col, col + width) + 1) / self._cut.width - 1
            tilt = _TILT * (self._cut.number or 0)
        else:
            line_width = self._land.line_width
            off = 2 * (np.arange(x, x + width) - (cover.line + 0.5) * line_width) / line_width
            tilt = 0.0
        return _ancillary(cover, ground, off, tilt, self._is_new)


def _deflate(values: np.ndarray, chunk: tuple[int, int, int]) -> bytes:
    """Return one chunk as HDF5's gzip filter stores it, filled up at the far edges."""
    whole = np.full(chunk, materials.NODATA, dtype="<i2")
    whole[tuple(slice(n) for n in values.shape)] = values
    return zlib.compress(whole.data, 3)


def _ancillary(
    cover: Cover, ground: np.ndarray, off: np.ndarray, tilt: float, is_new: bool
) -> dict[str, tuple[np.ndarray, float]]:
    """Plausible images with their missing values: NEON's names and types, values of the land."""
    south, east = np.gradient(ground)
    south, east = south[1:-1, 1:-1], east[1:-1, 1:-1]
    light, truth = cover.light, cover.true_class
    off = np.broadcast_to(np.clip(off, -1, 1), truth.shape)
    zenith = 2.0 + 15.0 * np.abs(off) + tilt
    shade = truth == materials.SHADOW
    green = (truth == materials.GREEN) | (truth == materials.SHRUB)
    water = truth == materials.WATER
    f4, u1, i4 = np.float32, np.uint8, np.int32
    small: Any = f4 if is_new else u1  # these became floats in the bidirectional product
    flat = np.ones(truth.shape)
    images: dict[str, tuple[Any, Any, float]] = {
        "Aspect": (np.degrees(np.arctan2(-east, south)) % 360, f4, -9999),
        "Slope": (np.degrees(np.arctan(np.hypot(south, east))), f4, -9999),
        "Smooth_Surface_Elevation": (ground[1:-1, 1:-1], f4, -9999),
        "Path_Length": (1000.0 / np.cos(np.radians(zenith)), f4, -9999),
        "Water_Vapor_Column": (1.1 + 0.1 * (ground[1:-1, 1:-1] - 1640) / 20, f4, -9999),
        "Cast_Shadow": (shade, small, _FILL_U1),
        "Illumination_Factor": (100 * np.clip(light - 0.15, 0, 1), small, _FILL_U1),
        "Sky_View_Factor": (98 - 30 * shade, small, _FILL_U1),
        "Visibility_Index_Map": (60 * flat, small, _FILL_U1),
        "Dark_Dense_Vegetation_Classification": (
            np.select([water, shade, green], [1, 4, 2], 3),
            u1,
            _FILL_U1,
        ),
        "Haze_Cloud_Water_Map": (np.select([water, shade], [17, 1], 5), u1, _FILL_U1),
        "Data_Selection_Index": (cover.line + 1, i4, -1),
    }
    if is_new:
        images["Aerosol_Optical_Thickness"] = (0.1 * flat, f4, -9999)
        images["Acquisition_Date"] = (np.take(_DATES, (cover.line + 1) % 2), i4, -9999)
        images["Weather_Quality_Indicator"] = (flat, i4, -9999)
    else:
        images["Aerosol_Optical_Depth"] = (100 * flat, np.int16, -9999)
        clear = np.broadcast_to(np.array([0, 255, 0]), (*truth.shape, 3))
        images["Weather_Quality_Indicator"] = (clear, u1, _FILL_U1)
    named = {f"Ancillary_Imagery/{name}": value for name, value in images.items()}
    for name, angle in (("Azimuth", np.where(off < 0, 90.0, 270.0)), ("Zenith", zenith)):
        name = f"to-sensor_{name}_Angle"
        named[name if is_new else name.lower()] = (angle, f4, -9999)
    found = {name: (image.astype(kind), fill) for name, (image, kind, fill) in named.items()}
    for picture, fill in found.values():
        picture[~cover.is_valid] = fill
    return found


def _cube_attributes(shape: tuple[int, int, int], grid: Grid) -> dict[str, Any]:
    xmin, ymin, xmax, ymax = grid.bounds((0, shape[0]), (0, shape[1]))
    return {
        "Cloud_conditions": _CLOUDS,
        "Cloud_type": "Cloud type may have been selected from multiple flight trajectories.",
        "Data_Ignore_Value": np.int16(materials.NODATA),
        "Description": "Atmospherically corrected reflectance.",
        "Dimension_Labels": "Line, Sample, Wavelength",
        "Dimensions": np.array(shape, dtype=np.int32),
        "Interleave": "BSQ",  # untrue, as in NEON's own files: the array is (y, x, band)
        "Scale_Factor": np.float32(materials.SCALE_FACTOR),
        "Spatial_Extent_meters": np.array([xmin, xmax, ymin, ymax]),
        "Spatial_Resolution_X_Y": np.array([grid.px, grid.py]),
        "Units": "Unitless.",
        "Units_Valid_range": np.array([0, materials.SCALE_FACTOR], dtype=np.int32),
    }


def _coordinate_system(group: h5py.Group, grid: Grid) -> None:
    info = (
        f"UTM,  1.000,  1.000,       {grid.xmin:.2f},       {grid.ymax:.1f},       "
        f"{grid.px:.7f},       {grid.py:.7f},  {_ZONE},  North,  WGS-84,  units=Meters, 0"
    )
    for name, text in {
        "Coordinate_System_String": grid.wkt or "",
        "EPSG Code": str(grid.epsg),
        "Map_Info": info,
        "Proj4": f"+proj=UTM +zone={_ZONE} +ellps=WGS84 +datum=WGS84 +units=m +no_defs",
    }.items():
        _text(group, name, text)


def _spectral_data(group: h5py.Group, wavelength_nm: np.ndarray, is_new: bool) -> None:
    kind = "<f8" if is_new else "<f4"
    for name, values, about in (
        ("FWHM", materials.band_widths(wavelength_nm), "Full width at half maximum."),
        ("Wavelength", wavelength_nm, "Central wavelength of the reflectance bands."),
    ):
        dataset = group.create_dataset(name, data=values.astype(kind))
        dataset.attrs.update({"Units": "nanometers", "Description": about})


def _line_names(land: Land, is_new: bool) -> list[tuple[str, str]]:
    """Name of the log group and of the file of each flight line, in order of their index."""
    names = []
    for k in range(land.shape[1] // land.line_width + 3):
        minutes, date = 15 * 60 + 6 + 8 * k, _DATES[k % 2]
        key = f"{minutes // 60 % 24:02d}{minutes % 60:02d}49"
        stem = f"NEON_{_DOMAIN}_{_SITE}_DP1"
        if is_new:
            key = f"L{k + 1:03d}-1_{date}"
            names.append((key, f"{stem}_{key}_bidirectional_reflectance.h5"))
        else:
            names.append((key, f"{stem}_{date}_{key}_reflectance.h5"))
    return names


def _logs(group: h5py.Group, keys: list[str], is_new: bool) -> None:
    for k, key in enumerate(keys):
        log = group.create_group(key)
        for name in (
            "ATCOR_Input_file",
            "ATCOR_Processing_Log",
            "Shadow_Processing_Log",
            "Skyview_Processing_Log",
        ):
            _text(log, name, "Simulated: no processing took place.")
        log["Solar_Azimuth_Angle"] = np.float32(120 + 2 * k)
        log["Solar_Zenith_Angle"] = np.float32(max(20.0, 38 - k))
        if is_new:
            bad = "[[300, 400], [1337, 1430], [1800, 1960], [2450, 2600]]"
            for name in ("BRDF_COEFFS_JSON_for_Hytools", "BRDF_Config_JSON_for_Hytools"):
                _text(log, name, f'{{"type": "flex", "bad_bands": {bad}}}')


def _text(group: h5py.Group, name: str, text: str) -> None:
    group.create_dataset(name, data=text, dtype=h5py.string_dtype())
