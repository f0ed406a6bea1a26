"""Scenes in Zarr stores, versions 2 and 3, in any order of dimensions."""

from __future__ import annotations

import json
import lzma
import math
import os
import struct
import threading
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from zarr import Array

from hyperhpc.analysis.bands import in_windows
from hyperhpc.errors import SceneError
from hyperhpc.scene import georef, metadata
from hyperhpc.scene.cube import (
    DATE_ARRAY,
    LAYERS,
    LINE_ARRAY,
    SOURCE_ARRAY,
    ZENITH_LAYER,
    Grid,
    Layer,
    Source,
    to_zenith,
)
from hyperhpc.scene.files import FileScene, stamp, unreadable
from hyperhpc.scene.fingerprint import MOST_FILES
from hyperhpc.scene.formats import zarr_chunks
from hyperhpc.scene.formats import zarr_layout as layout
from hyperhpc.scene.formats.zarr_layout import Axes, Node
from hyperhpc.scene.formats.zarr_sums import find_store_sums
from hyperhpc.scene.metadata import Attributes, unpack
from hyperhpc.scene.origins import ORIGIN_KINDS, add_dates, to_dates, to_numbers
from hyperhpc.scene.thinned import THINNED_GROUP, thinned_grid, thinned_shape
from hyperhpc.scene.window import mirror

#: Reads the values of a coordinate.
Read = Callable[[Node], np.ndarray]
_opening = threading.Lock()  # warnings are switched off for all threads meanwhile
#: Entries of a group's folder among which coordinates are looked for.
_MOST_NEIGHBOURS = 256
_DAMAGED = "A chunk is damaged or incomplete; copy the store again"
#: What zarr, its codecs and the file system raise for a damaged store. zarr's own errors
#: are ValueErrors, KeyErrors or IndexErrors, and arithmetic with a chunk of no size;
#: Blosc and Zstandard raise RuntimeError, and for a damaged header Blosc a SystemError,
#: or both a MemoryError, as it may declare any size.
READ_ERRORS: tuple[type[Exception], ...] = (
    OSError, RuntimeError, ValueError, TypeError, KeyError, IndexError, EOFError, SystemError,
    BufferError, ArithmeticError, MemoryError, struct.error, zlib.error, lzma.LZMAError,
)  # fmt: skip


@lru_cache(maxsize=16)  # handles hold metadata, no open file: the oldest are simply dropped
def _open_unchanged(
    folder: str, version: int, metadata_stamp: tuple[int, int], absent_value: float | None
) -> Array:
    """Open an array whose metadata have this stamp, or return its handle."""
    return zarr_chunks.open_checked(folder, version, absent_value)


def open_array(root: str, path: str, version: int, absent_value: float | None = None) -> Array:
    """Open an array read-only; its handle is kept for this process.

    ``absent_value``: What chunks that were never written hold, instead of the fill value.

    Raises SceneError: damaged metadata, or a codec or dtype that is not there.
    """
    folder = os.path.join(root, path)
    watch = os.path.join(folder, "zarr.json" if version == 3 else ".zarray")
    try:
        with _opening:
            return _open_unchanged(folder, version, stamp(watch), absent_value)
    except READ_ERRORS as error:
        hint = "The store is damaged, uses a codec that is not installed, or needs larger chunks"
        raise unreadable(f"Zarr array {folder}", why=error, hint=hint) from error


@dataclass(frozen=True, kw_only=True, eq=False)
class ZarrScene(FileScene):
    """A cube in a Zarr store.

    ``store``, ``array``: Folder of the store, and path of the cube inside it.
    ``order``: Positions of y, x and band among the stored dimensions.
    ``is_south_up``: True if stored rows run from south to north; they are flipped while reading.
    ``origin_arrays``: Name and path of the arrays of :meth:`read_origins`.
    ``layer_arrays``: Name and path of the arrays of :meth:`read_layers`.
    ``files``: Names of the files it was made from; empty if unknown.
    ``n_dimensions``: Of the stored array; those that are not in ``order`` have length 1.
    ``absent_value``: No-data value that chunks hold which were never written; None if the fill
        value says so, or none is absent.
    """

    store: str
    array: str
    zarr_format: int
    order: tuple[int, int, int]
    is_south_up: bool = False
    origin_arrays: tuple[tuple[str, str], ...] = ()
    layer_arrays: tuple[tuple[str, str], ...] = ()
    files: tuple[str, ...] = ()
    n_dimensions: int = 3
    absent_value: float | None = None

    @property
    def cube_name(self) -> str:
        """Array and store."""
        return f"{self.array} of {self.store}"

    def blocks(self, rows: slice, cols: slice) -> Iterator[tuple[int, int, np.ndarray]]:
        """Pixels chunk by chunk, where the layout is a known one; see :meth:`Scene.blocks`."""
        reader = None
        if self._is_plain:
            array = open_array(self.store, self.array, self.zarr_format, self.absent_value)
            reader = zarr_chunks.chunk_reader(array, os.path.join(self.store, self.array))
        if reader is None:
            yield from super().blocks(rows, cols)
            return
        try:
            yield from reader.blocks(range(rows.start, rows.stop), range(cols.start, cols.stop))
        except READ_ERRORS as error:
            raise unreadable(self.cube_name, rows, cols, why=error, hint=_DAMAGED) from error

    def read_origins(self, rows: slice, cols: slice) -> dict[str, np.ndarray]:
        """Values of the arrays of origins; see :meth:`Scene.read_origins`."""
        found = {}
        for name, path in self.origin_arrays:
            values = self._read_image(path, rows, cols)
            found[name] = to_dates(values) if name == DATE_ARRAY else to_numbers(values)
        return add_dates(found, self.sources, self.flight_lines)

    def layers(self) -> dict[str, Layer]:
        """The layers that ingest has kept; see :meth:`Scene.layers`."""
        found = {}
        for name, path in self.layer_arrays:
            array = open_array(self.store, path, self.zarr_format)
            planes = 1 if array.ndim == 2 else array.shape[2]
            attributes: dict[str, Any] = dict(array.attrs)
            missing = float(attributes["missing"])
            for ours in ("missing", "units", "_FillValue", "grid_mapping"):
                attributes.pop(ours, None)
            found[name] = Layer(array.dtype.name, missing, planes, attributes)
        return found

    def read_layers(
        self, rows: slice, cols: slice, names: Collection[str]
    ) -> dict[str, np.ndarray]:
        """See :meth:`Scene.read_layers`."""
        places = dict(self.layer_arrays)
        return {name: self._read_image(places[name], rows, cols) for name in names}

    def read_zenith(self, rows: slice, cols: slice) -> np.ndarray | None:
        """To-sensor zenith angle; see :meth:`Scene.read_zenith`."""
        place = dict(self.layer_arrays).get(ZENITH_LAYER)
        return None if place is None else to_zenith(self._read_image(place, rows, cols))

    def _read_image(self, path: str, rows: slice, cols: slice) -> np.ndarray:
        array = open_array(self.store, path, self.zarr_format)
        try:
            return np.asarray(array[rows, cols])
        except READ_ERRORS as error:
            what = f"{path} of {self.store}"
            raise unreadable(what, rows, cols, why=error, hint=_DAMAGED) from error

    def file_names(self) -> tuple[str, ...]:
        """The files it was made from; see :meth:`Scene.file_names`."""
        return self.files or super().file_names()

    @property
    def _is_plain(self) -> bool:
        """True if stored values are read as they are: not transposed, flipped or cast."""
        plain_order = self.order == (0, 1, 2) and self.n_dimensions == 3 and not self.is_south_up
        has_rules = self.wide_nodata or self.linear or self.valid_range
        return plain_order and self.dtype == self.stored_dtype and not has_rules

    def fetch(self, rows: slice, cols: slice, bands: slice) -> np.ndarray:
        """Values of a window as stored; only the chunks it touches are read."""
        array = open_array(self.store, self.array, self.zarr_format, self.absent_value)
        stored_rows = mirror(rows, self.shape[0]) if self.is_south_up else rows
        selection: list[int | slice] = [0] * self.n_dimensions
        for axis, part in zip(self.order, (stored_rows, cols, bands), strict=True):
            selection[axis] = part
        try:
            block = np.asarray(array[tuple(selection)])
        except READ_ERRORS as error:
            raise unreadable(self.cube_name, rows, cols, bands, why=error, hint=_DAMAGED) from error
        block = block.transpose(np.argsort(np.argsort(self.order)))
        return block[::-1] if self.is_south_up else block

    def check_files(self) -> list[str]:
        """How many chunk files are absent; see :meth:`Scene.check_files`."""
        array = open_array(self.store, self.array, self.zarr_format)
        absent = zarr_chunks.absent_files(array, os.path.join(self.store, self.array))
        known = zarr_chunks.known_empty(array)
        if gone := find_store_sums(self.store).lost_files():
            return [f"Lost: {len(gone)} files of the store, {gone[0]} for one."]
        if known is not None:
            lost = sorted(set(absent) - known)
            return [f"Lost: {len(lost)} chunk files, {lost[0]} for one."] if lost else []
        if not absent:
            return []
        n_files = len(zarr_chunks.file_names(array))
        return [
            f"{len(absent)} of {n_files} chunk files are absent ({absent[0]} for one): there is no "
            "data, or a copy has lost them."
        ]

    def fingerprint_files(self, most_files: int = MOST_FILES) -> dict[str, str]:
        """Metadata and chunk files, of the cube and of all that lies in its group.

        At most ``most_files`` of the cube, and an eighth as many of its thinned copy and of each
        image; of coordinates the first chunk, which is their only one.
        """
        group = os.path.dirname(os.path.join(self.store, self.array))
        few = max(1, most_files // 8)
        most = {self.array: most_files} | {path: few for _, path in self._images}
        if isinstance(self.thinned, ZarrScene):
            most[self.thinned.array] = few
        found = layout.metadata_files(group, self.zarr_format)
        for path in [*most, *(path for path in self._neighbours(group) if path not in most)]:
            folder = os.path.join(self.store, path)
            found += layout.metadata_files(folder, self.zarr_format)
            try:
                array = open_array(self.store, path, self.zarr_format)
            except SceneError:
                continue  # of another kind, and not read
            names = zarr_chunks.some_file_names(array, most.get(path, 1))
            found += [os.path.join(folder, name) for name in names]
        return {os.path.relpath(path, group): path for path in found}

    @property
    def _images(self) -> tuple[tuple[str, str], ...]:
        return (*self.origin_arrays, *self.layer_arrays)

    def _neighbours(self, group: str) -> list[str]:
        """Paths of the small arrays in the folder of a group: coordinates."""
        with os.scandir(group) as entries:
            names = sorted(entry.name for entry in islice(entries, _MOST_NEIGHBOURS))
        paths = [os.path.relpath(os.path.join(group, name), self.store) for name in names]
        nodes = ((path, layout.read_node(self.store, path, self.zarr_format)) for path in paths)
        return [path for path, node in nodes if node and node.is_array and len(node.shape) < 2]


def open_zarr_scene(
    path: str, group: str | None = None, wavelength_nm: np.ndarray | None = None
) -> ZarrScene:
    """Open the cube of a Zarr store: its JSON metadata and its coordinates, no pixel.

    ``path``: Folder of a store, or of a group or an array inside one.
    ``group``: Group that holds the cube, or the cube's own path; by default it is searched.

    Raises SceneError: no cube or several, no wavelengths, an irregular grid, damaged metadata.
    """
    path = os.path.abspath(path)
    version = layout.zarr_format_of(path)
    assert version is not None, path
    root, nodes, cubes = _find_cubes(path, version, group)
    cube, axes = layout.choose_cube(nodes, cubes, path, has_centres=wavelength_nm is not None)
    where = f"{cube.path or 'the array'} of {path}"
    array = open_array(root, cube.path, version)
    metadata.check_cube(array.dtype, cube.shape, _pick(array.chunks, cube.axes), where)
    groups = [group.attributes for group in layout.ancestry(nodes, cube.path)]
    attributes = Attributes(cube.attributes, *groups)
    values = metadata.resolve_values(array.dtype, attributes, where, array.fill_value)
    absent_value, absent_notes = None, []
    folder = os.path.join(root, cube.path)
    if not array.fill_value and (absent := zarr_chunks.absent_files(array, folder)):
        values, absent_value = metadata.mark_hidden(values)
        absent_notes = [f"{len(absent)} chunks were never written: they are no-data."]

    order = _pick(cube.axes, axes.order)

    def canonical(stored: tuple[int, ...]) -> tuple[int, int, int]:
        y, x, band = map(min, _pick(stored, order), _pick(array.shape, order))
        return y, x, band

    read = partial(_read_coordinate, root, version)
    fwhm_nm = None
    wavelength_notes: tuple[str, ...] = ()
    if wavelength_nm is None:
        assert axes.wavelength is not None
        wavelength_nm, factor, wavelength_notes = metadata.resolve_wavelengths(
            read(axes.wavelength),
            Attributes(axes.wavelength.attributes).get("units"),
            f"{axes.wavelength.path} of {path}",
        )
        fwhm_nm = _fwhm(read, nodes, cube, wavelength_nm.size, factor)
    bad_bands = _bad_bands(attributes, canonical(array.shape)[2], where)
    windows = metadata.resolve_windows(attributes, where)
    flagged = _flagged(read, nodes, cube, attributes, wavelength_nm.size)
    bad_bands |= flagged - set(np.flatnonzero(in_windows(wavelength_nm, windows)).tolist())
    mapping = _grid_mapping(nodes, cube, attributes)
    place = _place(
        read, axes, mapping, georef.find_crs(attributes, mapping), canonical(array.shape), where
    )
    scene = ZarrScene(
        path=path,
        format=f"zarr{version}",
        shape=canonical(array.shape),
        wavelength_nm=wavelength_nm,
        window_nodata=_window_nodata(attributes, where),
        bad_band_windows_nm=windows,
        grid=place.grid,
        geotransform=place.geotransform,
        chunks=canonical(array.chunks),
        shards=None if array.shards is None else canonical(array.shards),
        group=cube.parent,
        fwhm_nm=fwhm_nm,
        store=root,
        array=cube.path,
        zarr_format=version,
        order=order,
        n_dimensions=array.ndim,
        is_south_up=place.is_south_up,
        bad_bands=tuple(sorted(bad_bands)),
        absent_value=absent_value,
        **vars(values) | {"notes": (*values.notes, *wavelength_notes, *place.notes, *absent_notes)},
    )
    if scene._is_plain:
        scene = replace(scene, **_find_images(nodes, cube, scene.shape))
    return replace(scene, thinned=_thinned(scene))


def _find_cubes(
    path: str, version: int, group: str | None
) -> tuple[str, dict[str, Node], list[Node]]:
    """Root of the store, its nodes, and those that may be the cube."""
    nodes = layout.walk(path, version)
    if not nodes[""].is_array:
        return path, nodes, layout.find_cubes(nodes, group, path)
    root, name = os.path.split(path)  # the cube itself was named: its coordinates are in its group
    found = layout.walk(root, version) if layout.zarr_format_of(root) == version else {}
    nodes = {key: node for key, node in found.items() if not node.parent}
    node = layout.read_node(root, name, version)
    assert node is not None
    if len(node.shape) != 3:
        raise SceneError(
            f"{path} is an array of shape {node.shape}; a cube has three dimensions",
            f"Give the store or group instead: {root}",
        )
    nodes[name] = node
    nodes.setdefault("", Node("", False, (), None, {}))
    return root, nodes, [node]


def _read_coordinate(root: str, version: int, node: Node) -> np.ndarray:
    """Values of a coordinate, in memory."""
    array, what = open_array(root, node.path, version), f"Coordinate {node.path} of {root}"
    try:
        values = np.asarray(array[...])
    except READ_ERRORS as error:
        raise unreadable(what, why=error, hint=_DAMAGED) from error
    if values.dtype.kind == "b":
        values = values.astype(np.uint8)
    if values.dtype.kind in "OSTU":
        numbers = metadata.number_list(values.tolist())
        values = values if numbers is None else np.array(numbers)
    if values.dtype.kind not in "iuf":
        hint = f"Store it as numbers. {metadata.HINT}"
        raise SceneError(f"{what} has dtype {values.dtype}; it must hold numbers", hint)
    return unpack(values.astype(values.dtype.newbyteorder("="), copy=False), node.attributes, what)


def _grid_mapping(
    nodes: dict[str, Node], cube: Node, attributes: Attributes
) -> dict[str, Any] | None:
    """Attributes of the grid-mapping variable, if there is one."""
    named = attributes.get("grid_mapping")
    names = [named] if isinstance(named, str) else []
    for group in layout.ancestry(nodes, cube.path):
        for name in [*names, "spatial_ref", "crs"]:
            node = nodes.get(f"{group.path}/{name}" if group.path else name)
            if node is not None and node.attributes:
                return node.attributes
    return None


def _pick(values: Sequence[int], positions: Sequence[int]) -> tuple[int, int, int]:
    """The three values at these positions."""
    first, second, third = (values[position] for position in positions)
    return first, second, third


def _bad_bands(attributes: Attributes, n_bands: int, where: str) -> set[int]:
    """Positions in the attribute ``bad_bands``, or where its flags are 1, one for each band."""
    value = attributes.get("bad_bands")
    if value is None or value == []:
        return set()
    numbers = metadata.number_list(value) or [math.nan]
    if len(numbers) == n_bands > 2 and set(numbers) <= {0, 1}:  # positions are never twice the same
        return {number for number, flag in enumerate(numbers) if flag}
    if not all(number.is_integer() and 0 <= number < n_bands for number in numbers):
        raise SceneError(
            f"{where}: bad_bands {value!r:.60} is not a list of band numbers 0-{n_bands - 1}",
            "Correct the attribute",
        )
    return set(map(int, numbers))


#: Names of coordinates and attributes of one number per band, 0 for a bad one, as EMIT has them ...
_GOOD_FLAGS = ("good_wavelengths", "bbl", "good_bands", "is_good_band", "good_band")
#: ... and of coordinates with 1 for a bad one.
_BAD_FLAGS = ("bad_bands", "bad_band", "is_bad_band", "bad_wavelengths")


def _flagged(
    read: Read, nodes: dict[str, Node], cube: Node, attributes: Attributes, n: int
) -> set[int]:
    """Positions of the bands that a coordinate or a list flags as bad; -1 and NaN are not good."""
    for node in nodes.values():
        name = node.name.lower()
        if node.parent == cube.parent and node.shape == (n,):
            if name in _GOOD_FLAGS:
                return set(np.flatnonzero(~(read(node) > 0)).tolist())
            if name in _BAD_FLAGS:
                return set(np.flatnonzero(read(node) > 0).tolist())
    flags = metadata.number_list(attributes.get(*_GOOD_FLAGS)) or ()
    if len(flags) == n:
        return {number for number, flag in enumerate(flags) if not flag > 0}
    return set()


def _thinned(scene: ZarrScene) -> ZarrScene | None:
    """The thinned copy of a cube, if there is one that fits it."""
    folder, name = os.path.split(scene.array)
    path = os.path.join(folder, THINNED_GROUP, name)
    node = layout.read_node(scene.store, path, scene.zarr_format)
    shape = thinned_shape(scene.shape)
    if not scene._is_plain or node is None or node.shape != shape:
        return None
    array: Any = open_array(scene.store, path, scene.zarr_format)
    own = open_array(scene.store, scene.array, scene.zarr_format)
    fills = (array.fill_value, own.fill_value)
    is_same_fill = fills[0] == fills[1] or all(fill != fill for fill in fills)  # NaN
    if array.dtype != own.dtype or not is_same_fill:
        return None
    return replace(
        scene,
        path=os.path.join(scene.store, os.path.dirname(path)),
        array=path,
        shape=shape,
        grid=thinned_grid(scene.grid),
        chunks=array.chunks,
        shards=array.shards,
        notes=(),
    )


class _Place(NamedTuple):
    """Where pixels are: fields of :class:`ZarrScene`."""

    grid: Grid
    notes: list[str]
    is_south_up: bool = False
    geotransform: tuple[float, ...] | None = None


def _place(
    read: Read,
    axes: Axes,
    mapping: dict[str, Any] | None,
    crs: tuple[str | None, int | None],
    shape: tuple[int, int, int],
    where: str,
) -> _Place:
    """Grid from the coordinates, else from GeoTransform, else in pixels, which have no CRS."""
    wkt, epsg = crs
    lacking = [] if wkt else ["No coordinate reference system is declared."]
    six = georef.read_geotransform((mapping or {}).get("GeoTransform"))
    if axes.x is not None and axes.y is not None and not (shape[:2] == (1, 1) and six):
        x, y = (_in_crs_units(read, node, wkt) for node in (axes.x, axes.y))
        grid, is_south_up = georef.grid_from_centres(x.values, y.values, where)
        notes = ["Rows are stored from south to north and flipped."] if is_south_up else []
        if shape[:2] == (1, 1):
            notes.append("One pixel only: its size is taken as 1.")
        notes += dict.fromkeys((*x.notes, *y.notes))
        return _Place(replace(grid, wkt=wkt, epsg=epsg), [*notes, *lacking], is_south_up)
    if six is None:
        notes = ["No x and y coordinates: positions are pixels."]
        if wkt:
            notes.append("The reference system is left out, since nothing says where pixels are.")
        return _Place(georef.grid_in_pixels(shape[0]), [*notes, *lacking])
    notes = [] if axes.x and axes.y else ["Pixel positions are taken from GeoTransform."]
    found = georef.grid_from_geotransform(six, shape[0])
    grid, is_south_up = found or (georef.grid_in_pixels(shape[0]), False)
    if is_south_up:
        notes.append("Rows are stored from south to north and flipped.")
    grid = replace(grid, wkt=wkt, epsg=epsg)
    return _Place(grid, [*notes, *lacking], is_south_up, None if found else six)


class _Centres(NamedTuple):
    """Coordinates of pixels in the unit of the CRS."""

    values: np.ndarray
    notes: list[str]


def _in_crs_units(read: Read, node: Node, wkt: str | None) -> _Centres:
    values, unit = read(node), Attributes(node.attributes).get("units")
    factor = georef.unit_factor(unit, wkt, f"Coordinate {node.path}")
    if factor == 1:
        return _Centres(values, [])
    note = f"Coordinates are stored in {unit} and multiplied by {factor:g}."
    return _Centres(values.astype(np.float64) * factor, [note])


def _window_nodata(attributes: Attributes, where: str) -> tuple[float, ...]:
    value = attributes.get("window_nodata")
    if value is None:
        return ()
    try:
        return tuple(float(item) for item in np.ravel(metadata.plain(value)))
    except (TypeError, ValueError, OverflowError):
        raise SceneError(f"{where}: window_nodata {value!r:.60} is not a list of numbers") from None


def _fwhm(
    read: Read, nodes: dict[str, Node], cube: Node, n: int, factor: float
) -> np.ndarray | None:
    """Band widths (band,) in nm, if the group has a coordinate ``fwhm`` of that length."""
    for node in nodes.values():
        if node.parent == cube.parent and node.name.lower() == "fwhm" and node.shape == (n,):
            return read(node).astype(np.float64) * factor
    return None


def _find_images(
    nodes: Mapping[str, Node], cube: Node, shape: tuple[int, int, int]
) -> dict[str, Any]:
    """Fields of a scene in a store: where its pixels come from, and its layers."""
    found = {
        name: node
        for name in ORIGIN_KINDS
        if (node := nodes.get(f"{cube.parent}/{name}".lstrip("/"))) is not None
        and node.attributes.get("missing") == ORIGIN_KINDS[name][1]  # one of ours
        and node.shape == shape[:2]
    }
    sources, lines = _listed(found, SOURCE_ARRAY), _listed(found, LINE_ARRAY)
    files = cube.attributes.get("source_files")
    if isinstance(files, str):
        files = files.split("\n")
    is_known = isinstance(files, list) and all(isinstance(name, str) for name in files)
    layers = {
        name: node
        for name in LAYERS
        if (node := nodes.get(f"{cube.parent}/{name}".lstrip("/"))) is not None
        and isinstance(node.attributes.get("missing"), int | float)  # one of ours
        and node.shape in (shape[:2], (*shape[:2], 3))
    }
    return {
        "origin_arrays": tuple((name, node.path) for name, node in found.items()),
        "layer_arrays": tuple((name, node.path) for name, node in layers.items()),
        "sources": sources,
        "flight_lines": lines,
        "has_dates": DATE_ARRAY in found or any(one.acquired for one in (*sources, *lines)),
        "files": tuple(files or ()) if is_known else (),
    }


def _listed(found: Mapping[str, Node], name: str) -> tuple[Source, ...]:
    """The sources that an array of positions numbers; empty if it lists none."""
    listed = found[name].attributes.get("sources") if name in found else None
    try:
        if isinstance(listed, str):  # stores of version 0.1 have a list
            listed = json.loads(listed)
        return tuple(Source(str(item["name"]), item.get("acquired")) for item in listed or ())
    except (ValueError, TypeError, KeyError, AttributeError):
        return ()
