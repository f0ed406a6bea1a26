"""Scenes in NEON's HDF5 files: tiles and flight lines of DP1 and DP3.30006."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import h5py
import numpy as np

from hyperhpc.errors import SceneError
from hyperhpc.scene import metadata
from hyperhpc.scene.cube import DATE_ARRAY, LINE_ARRAY, ZENITH_LAYER, Grid, Layer, to_zenith
from hyperhpc.scene.files import FileScene, netcdf_hint, unreadable
from hyperhpc.scene.fingerprint import MOST_FILES
from hyperhpc.scene.formats import hdf5, neon_layers
from hyperhpc.scene.formats.hdf5 import READ_ERRORS, open_file
from hyperhpc.scene.georef import find_first_crs, grid_from_map_info, grid_in_pixels
from hyperhpc.scene.metadata import Attributes
from hyperhpc.scene.origins import add_dates, to_dates, to_numbers
from hyperhpc.scene.window import intersect, length

#: Fill of the water bands in DP3.30006.002, not an ordinary no-data value.
BIDIRECTIONAL_WINDOW_NODATA = -100.0

#: A group of the file, or an empty mapping if there is none.
Members = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class NeonScene(FileScene):
    """A cube in a NEON HDF5 file.

    ``dataset``: Path of Reflectance_Data inside the file.
    ``zenith``, ``line_image``, ``date_image``: Paths of the to-sensor zenith angles, of the numbers
        of the flight lines and of the days, or None.
    ``absent_value``: No-data value that chunks hold which were never written; None if the fill
        value says so, or none is absent.
    ``virtual_sources``: Files that a virtual dataset is made of.
    """

    dataset: str
    zenith: str | None = None
    line_image: str | None = None
    date_image: str | None = None
    absent_value: float | None = None
    virtual_sources: tuple[str, ...] = ()

    @property
    def cube_name(self) -> str:
        """Dataset and file."""
        return f"{self.dataset} of {self.path}"

    def fetch(self, rows: slice, cols: slice, bands: slice) -> np.ndarray:
        """Values of a window as stored; only the chunks it touches are read."""
        try:
            with open_file(self.path) as file:
                data = file[self.dataset]
                hdf5.check_own(data, may_be_virtual=True)
                if reader := hdf5.chunk_reader(data, self.absent_value):
                    return reader.read(rows, cols, bands)
                found = self._fetch_rows(data, rows, cols, bands)
                if self.absent_value is not None:
                    hdf5.fill_absent(data, found, (rows, cols, bands), self.absent_value)
                return found
        except READ_ERRORS as error:
            raise unreadable(self.cube_name, rows, cols, bands, why=error) from error

    def fingerprint_files(self, most_files: int = MOST_FILES) -> dict[str, str]:
        """The file, and those that a virtual dataset is made of."""
        parts = {f"source/{n}": path for n, path in enumerate(self.virtual_sources)}
        return super().fingerprint_files(most_files) | parts

    def _fetch_rows(self, data: h5py.Dataset, rows: slice, cols: slice, bands: slice) -> np.ndarray:
        """By HDF5 itself, for layouts that :func:`hdf5.chunk_reader` does not know."""
        native = data.dtype.newbyteorder("=")
        out = np.empty((length(rows), length(cols), length(bands)), native)
        if rows.step == cols.step == 1:
            data.read_direct(out, np.s_[rows, cols, bands])
            return out
        # HDF5 is slow at strides: read whole rows of chunks and stride in memory.
        block = self.chunks[0] * max(1, 64 // self.chunks[0])
        for start in range(rows.start // block * block, rows.stop, block):
            if parts := intersect(rows, start, block):
                there, here = parts
                strip = slice(start + there.start, start + there.stop)
                part = data[strip, cols.start : cols.stop, bands]
                out[here] = part[:: rows.step, :: cols.step]
        return out

    def read_zenith(self, rows: slice, cols: slice) -> np.ndarray | None:
        """To-sensor zenith angle; see :meth:`Scene.read_zenith`."""
        if self.zenith is None:
            return None
        (angle,) = neon_layers.read_images(self.path, (self.zenith,), rows, cols)
        return to_zenith(angle)

    def read_origins(self, rows: slice, cols: slice) -> dict[str, np.ndarray]:
        """Flight lines and days that NEON gives; see :meth:`Scene.read_origins`."""
        known = ((LINE_ARRAY, self.line_image, to_numbers), (DATE_ARRAY, self.date_image, to_dates))
        there = [(name, image, turn) for name, image, turn in known if image]
        images = neon_layers.read_images(self.path, [image for _, image, _ in there], rows, cols)
        found = {name: turn(im) for (name, _, turn), im in zip(there, images, strict=True)}
        return add_dates(found, (), self.flight_lines)

    def layers(self) -> dict[str, Layer]:
        """NEON's quality layers and angles; see :meth:`Scene.layers`."""
        return neon_layers.find_layers(self.path, self.dataset, self.shape)

    def read_layers(
        self, rows: slice, cols: slice, names: Collection[str]
    ) -> dict[str, np.ndarray]:
        """See :meth:`Scene.read_layers`."""
        return neon_layers.read_layers(self.path, self.dataset, self.shape, rows, cols, names)


def open_neon_scene(
    path: str, group: str | None = None, wavelength_nm: np.ndarray | None = None
) -> NeonScene:
    """Open the reflectance cube of a NEON HDF5 file: its metadata, no pixel.

    ``path``: File of DP1.30006 (flight line) or DP3.30006 (tile), .001 or .002.
    ``group``: Site group, where a file holds several.

    Raises SceneError: a truncated file, no Reflectance_Data or several, metadata missing or wrong.
    """
    path = os.path.abspath(path)
    try:
        with open_file(path) as file:
            return _open(path, file, group, wavelength_nm)
    except READ_ERRORS as error:
        raise unreadable(f"HDF5 file {path}", why=error) from error


def _find(path: str, file: h5py.File, group: str | None) -> h5py.Dataset:
    """The dataset Reflectance_Data: in /<SITE>/Reflectance, or in the group asked for."""
    found = []
    for site in (file, *(file[name] for name in file)):
        if isinstance(site, h5py.Group):
            for name in ("Reflectance/Reflectance_Data", "Reflectance_Data"):
                item = site.get(name)
                if isinstance(item, h5py.Dataset) and item.name not in found:
                    found.append(item.name)
    if group is not None:
        wanted = "/" + group.strip("/")
        found = [name for name in found if f"{name}/".startswith(wanted.rstrip("/") + "/")]
    if not found:
        what = f"group {group!r} of {path}" if group is not None else path
        members = ", ".join(sorted(file)[:8]) or "nothing"
        hint = "Give a NEON reflectance file (DP1.30006 or DP3.30006)"
        if any("Radiance" in site for site in file.values() if hasattr(site, "keys")):
            hint = "This is a radiance file; reflectance is product DP1.30006 or DP3.30006"
        if "_NCProperties" in file.attrs or path.lower().endswith((".nc", ".nc4")):
            hint = netcdf_hint(path)
        raise SceneError(f"{what} holds no Reflectance_Data (in the file: {members})", hint)
    if len(found) > 1:
        sites = [name.split("/")[1] for name in found]
        raise SceneError(
            f"{path} holds {len(found)} cubes, in {', '.join(sites)}",
            f"Choose one: --group {sites[0]}",
        )
    return file[found[0]]


def _members(group: Members, name: str) -> Members:
    """The members of the group of this name; empty if there is no such group."""
    found = group.get(name)
    return found if isinstance(found, h5py.Group) else {}


def _dataset(group: Members, name: str) -> h5py.Dataset | None:
    """The dataset of this name, if there is one."""
    found = group.get(name)
    if not isinstance(found, h5py.Dataset):
        return None
    hdf5.check_own(found)
    return found


def _text(group: Members, name: str) -> str | None:
    """A string or number dataset, scalar or (1,), as text; None if absent or empty."""
    data = _dataset(group, name)
    if data is None or data.size != 1:
        return None
    hdf5.check_text(data)
    return str(metadata.plain(data[()])).strip() or None


def _is_bidirectional(path: str, about: Members) -> bool:
    """True for DP3.30006.002 (BRDF corrected), by file name or by content."""
    if "bidirectional" in os.path.basename(path).lower():
        return True
    if "Ancillary_Imagery/Acquisition_Date" in about:
        return True
    logs = _members(about, "Logs")
    return any(key.startswith("BRDF_") for name in logs for key in _members(logs, name))


def _open(
    path: str, file: h5py.File, group: str | None, wavelength_nm: np.ndarray | None
) -> NeonScene:
    data = _find(path, file, group)
    where = f"{data.name} of {path}"
    metadata.check_cube(data.dtype, data.shape, data.chunks, where)
    hdf5.check_own(data, may_be_virtual=True)
    hdf5.check_chunks(data)
    reflectance = data.parent
    about = _members(reflectance, "Metadata")
    spectral = _members(about, "Spectral_Data")
    attributes = Attributes(data.attrs, reflectance.attrs, reflectance.parent.attrs)
    attributes.forget("units", "unit")  # never per cent; HDF5 may read a damaged text for ever
    values = metadata.resolve_values(data.dtype, attributes, where)
    absent_value = None
    notes = list(values.notes)
    if sources := hdf5.virtual_sources(data):
        notes.append(_say_virtual(sources))
    if n_absent := hdf5.count_absent(data):
        values, absent_value = metadata.mark_hidden(values)
        notes.append(f"{n_absent} chunks were never written: they are no-data.")

    fwhm_nm = None
    if wavelength_nm is None:
        wavelength_nm, factor, more = _centres(spectral, data, where)
        fwhm_nm = _fwhm(spectral, wavelength_nm.size, factor, notes)
        notes += more
    windows = metadata.resolve_windows(attributes, where)
    is_bidirectional = _is_bidirectional(path, about)
    if is_bidirectional:
        notes.append("Bidirectional product (DP3.30006.002): -100 is no-data in water bands.")
    if not windows:
        notes.append("The file declares no Band_Window; NEON's own are left to the analysis.")
    grid = _grid(about, attributes, data.shape, where, notes)
    line_image, flight_lines = neon_layers.find_flight_lines(about, data.shape)
    date_image = neon_layers.find_image(about, neon_layers.DATES, data.shape, "iu")
    return NeonScene(
        path=path,
        format="neon-hdf5",
        shape=data.shape,
        wavelength_nm=wavelength_nm,
        window_nodata=(BIDIRECTIONAL_WINDOW_NODATA,) if is_bidirectional else (),
        bad_band_windows_nm=windows,
        grid=grid,
        chunks=tuple(map(min, data.chunks or (1, *data.shape[1:]), data.shape)),
        group=reflectance.parent.name.strip("/") or reflectance.name.strip("/"),
        fwhm_nm=fwhm_nm,
        dataset=data.name,
        zenith=neon_layers.find_image(about, ZENITH_LAYER, data.shape),
        flight_lines=flight_lines,
        has_dates=bool(date_image) or any(line.acquired for line in flight_lines),
        line_image=line_image,
        date_image=date_image,
        absent_value=absent_value,
        virtual_sources=sources,
        **vars(values) | {"notes": tuple(notes)},
    )


def _say_virtual(sources: tuple[str, ...]) -> str:
    names = ", ".join(map(os.path.basename, sources[:3]))
    more = f" and {len(sources) - 3} more" if len(sources) > 3 else ""
    return f"The cube is a virtual dataset: its values lie in other files: {names}{more}."


def _centres(
    spectral: Members, data: h5py.Dataset, where: str
) -> tuple[np.ndarray, float, tuple[str, ...]]:
    """Band centres of the file: see :func:`metadata.resolve_wavelengths`."""
    stored = _dataset(spectral, "Wavelength")
    if stored is None:
        raise SceneError(
            f"{where} has no wavelengths: Metadata/Spectral_Data/Wavelength is missing",
            f"Give a complete NEON file. {metadata.HINT}",
        )
    if stored.size != data.shape[2]:
        raise SceneError(
            f"{where} has {data.shape[2]} bands, {stored.name} {stored.size} values",
            "The cube must have the order (y, x, band) and one wavelength per band",
        )
    units = None  # free text in these files; the size of the values shows the unit
    where = f"{stored.name} of {data.file.filename}"
    return metadata.resolve_wavelengths(stored[()], units, where)


def _fwhm(spectral: Members, n_bands: int, factor: float, notes: list[str]) -> np.ndarray | None:
    widths = _dataset(spectral, "FWHM")
    if widths is None:
        return None
    if widths.size != n_bands:  # seen in NEON's own flight lines: 421 against 426
        notes.append(f"FWHM has {widths.size} values for {n_bands} bands and is ignored.")
        return None
    if widths.dtype.kind not in "iuf":
        notes.append(f"FWHM is {widths.dtype}, not numbers, and is ignored.")
        return None
    return np.ravel(widths[()]).astype(np.float64) * factor


def _grid(
    about: Members,
    attributes: Attributes,
    shape: tuple[int, int, int],
    where: str,
    notes: list[str],
) -> Grid:
    """Grid with CRS from Coordinate_System, else Spatial_Extent_meters, else pixels."""
    system = _members(about, "Coordinate_System")
    map_info = _text(system, "Map_Info")
    extent = attributes.get("spatial_extent_meters")
    utm_epsg = None
    if map_info is not None:
        grid, utm_epsg = grid_from_map_info(map_info, where)
    elif isinstance(extent, list) and len(extent) == 4:
        xmin, xmax, ymin, ymax = extent
        grid = Grid(xmin=xmin, ymax=ymax, px=(xmax - xmin) / shape[1], py=(ymax - ymin) / shape[0])
        notes.append("Map_Info is missing: positions are taken from Spatial_Extent_meters.")
    else:
        grid = grid_in_pixels(shape[0])
        notes.append("Map_Info is missing: positions are pixels.")
    crs = find_first_crs(
        _text(system, "EPSG Code"),
        _text(system, "Coordinate_System_String"),
        _text(system, "Proj4"),
        utm_epsg,
    )
    if crs is None:
        notes.append("No coordinate reference system is declared.")
        return grid
    return replace(grid, wkt=crs[0], epsg=crs[1])
