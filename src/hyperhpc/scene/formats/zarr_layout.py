"""The layout of a Zarr store: its groups and arrays, their dimensions, and which is the cube.

Only JSON metadata is read. docs/decisions/0024 says why zarr does not list the members.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any, TypeGuard

from hyperhpc.errors import SceneError, cause
from hyperhpc.reading import read_file
from hyperhpc.scene.formats.zarr_sums import DAMAGED_STORE, find_store_sums
from hyperhpc.scene.thinned import THINNED_ATTRIBUTE

#: Limits of the search for a cube.
MAX_DEPTH = 5
MAX_NODES = 2000

_MARKERS = {3: ("zarr.json",), 2: (".zarray", ".zgroup")}


@dataclass(frozen=True)
class Node:
    """A group or an array.

    ``path``: Inside the store, with ``/``; empty for the root.
    ``shape``: Of an array, without further dimensions of length 1, such as ``time``, if it has
        more than three; empty for a group.
    ``dimensions``: Their names, None where one has none; None if no names are stored.
    ``axes``: Positions of these dimensions among the stored ones.
    """

    path: str
    is_array: bool
    shape: tuple[int, ...]
    dimensions: tuple[str | None, ...] | None
    attributes: dict[str, Any]
    axes: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """Last part of the path."""
        return self.path.rpartition("/")[2]

    @property
    def parent(self) -> str:
        """Path of the group that holds it."""
        return self.path.rpartition("/")[0]


def zarr_format_of(folder: str) -> int | None:
    """3, 2, or None if the folder is no node of a Zarr store."""
    for version, names in _MARKERS.items():
        if any(os.path.isfile(os.path.join(folder, name)) for name in names):
            return version
    return None


def is_zarr(path: str) -> bool:
    """True for a folder that is a store, or a group or an array of one."""
    return zarr_format_of(path) is not None


def metadata_files(folder: str, version: int) -> list[str]:
    """Metadata files of the node in ``folder`` that exist, sorted."""
    names = ("zarr.json",) if version == 3 else (".zarray", ".zattrs", ".zgroup")
    return list(filter(os.path.isfile, (os.path.join(folder, name) for name in names)))


def _load(path: str) -> dict[str, Any]:
    try:
        data = read_file(path)
        if what := find_store_sums(os.path.dirname(path)).describe(path, data):
            raise SceneError(f"Zarr metadata {path} {what}", DAMAGED_STORE)
        document = json.loads(data.decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise SceneError(
            f"Zarr metadata {path} cannot be read: {cause(error)}",
            "The store is damaged or incomplete; copy it again",
        ) from error
    if not isinstance(document, dict):
        raise SceneError(f"Zarr metadata {path} is not a JSON object", "Copy the store again")
    return document


def _is_shape(shape: Any) -> TypeGuard[list[int]]:
    """True for a list of whole numbers that can be the sides of an array."""
    return isinstance(shape, list | tuple) and all(
        type(size) is int and 0 <= size < 2**63 for size in shape
    )


def read_node(root: str, path: str, version: int) -> Node | None:
    """Read the node at ``path``; None if that folder is not a node.

    Raises SceneError: its metadata is damaged.
    """
    folder = os.path.join(root, *path.split("/")) if path else root
    if version == 3:
        file = os.path.join(folder, "zarr.json")
        if not os.path.isfile(file):
            return None
        document = _load(file)
        is_array = document.get("node_type") == "array"
        attributes = document.get("attributes") or {}
        names = document.get("dimension_names")
    else:
        file = os.path.join(folder, ".zarray")
        is_array = os.path.isfile(file)
        if not is_array and not os.path.isfile(os.path.join(folder, ".zgroup")):
            return None
        document = _load(file) if is_array else {}
        attribute_file = os.path.join(folder, ".zattrs")
        attributes = _load(attribute_file) if os.path.isfile(attribute_file) else {}
        names = None
    shape = document.get("shape") if is_array else ()
    if not isinstance(attributes, dict) or not _is_shape(shape):
        raise SceneError(f"Zarr metadata {file} is incomplete or damaged", "Copy the store again")
    names = names or attributes.get("_ARRAY_DIMENSIONS")
    dimensions = None
    if isinstance(names, list) and len(names) == len(shape):
        dimensions = tuple(name if isinstance(name, str) else None for name in names)
    axes = _kept_axes(shape, dimensions)
    shape = tuple(shape[axis] for axis in axes)
    dimensions = dimensions and tuple(dimensions[axis] for axis in axes)
    return Node(path, is_array, shape, dimensions, attributes, axes)


def _kept_axes(shape: Sequence[int], dimensions: tuple[str | None, ...] | None) -> tuple[int, ...]:
    """Positions of the dimensions of a cube, if the others have length 1; else of all."""
    kept = list(range(len(shape)))
    names = dimensions or (None,) * len(shape)
    spare = [axis for axis in kept if shape[axis] == 1 and _kind(names[axis]) is None]
    for axis in spare[: max(len(shape) - 3, 0)]:
        kept.remove(axis)
    return tuple(kept) if len(kept) <= 3 else tuple(range(len(shape)))


def walk(root: str, version: int) -> dict[str, Node]:
    """All nodes by path, breadth first, at most :data:`MAX_NODES`.

    Raises SceneError: damaged metadata.
    """
    nodes: dict[str, Node] = {}
    queue = deque([("", 0)])
    while queue and len(nodes) < MAX_NODES:
        path, depth = queue.popleft()
        node = read_node(root, path, version)
        if node is None:
            continue
        nodes[path] = node
        if node.is_array or depth == MAX_DEPTH:
            continue
        with os.scandir(os.path.join(root, path)) as entries:
            names = sorted(e.name for e in entries if not e.name.startswith(".") and e.is_dir())
        queue.extend((f"{path}/{name}" if path else name, depth + 1) for name in names)
    return nodes


def ancestry(nodes: dict[str, Node], path: str) -> list[Node]:
    """Groups that hold ``path``, nearest first, up to the root."""
    parts = path.split("/") if path else []
    above = ("/".join(parts[:n]) for n in reversed(range(len(parts))))
    return [nodes[group] for group in above if group in nodes]


# Dimensions: which one is y, which x, which the bands; and their coordinates.

#: Names of coordinates (and dimensions), best first, lower case; in the order of a cube.
NAMES: dict[str, tuple[str, ...]] = {
    "y": ("y", "northing", "northings", "lat", "latitude", "row", "rows", "line", "lines"),
    "x": ("x", "easting", "eastings", "lon", "longitude", "col", "cols", "column", "columns",
          "sample", "samples"),
    "band": ("wl", "wavelength", "wavelengths", "wavelength_nm", "wavelengths_nm",
             "band_center", "band_centers", "band_centre", "band_centres", "center_wavelength",
             "centre_wavelength", "wave", "lambda"),
}  # fmt: skip
#: Names of dimensions of bands; coordinates with these names hold band numbers.
_BAND_DIMENSIONS = ("band", "bands", "channel", "channels", "spectral", "z")


@dataclass(frozen=True)
class Axes:
    """The positions of y, x and band among the stored dimensions of a cube, and its coordinates.

    ``wavelength`` is None where the band centres were given, ``x`` and ``y`` if there are none.
    """

    order: tuple[int, int, int]
    wavelength: Node | None
    x: Node | None
    y: Node | None


def _kind(name: str | None) -> str | None:
    lower = (name or "").lower()
    band = "band" if lower in _BAND_DIMENSIONS else None
    return next((kind for kind, names in NAMES.items() if lower in names), band)


def _order_by_name(cube: Node) -> tuple[int, int, int] | None:
    if cube.dimensions is None:
        return None
    kinds = [_kind(name) for name in cube.dimensions]
    missing = [kind for kind in NAMES if kind not in kinds]
    if len(missing) == 1 and kinds.count(None) == 1:
        kinds[kinds.index(None)] = missing[0]  # two of three known: the third is the rest
    if sorted(filter(None, kinds)) != sorted(NAMES):
        return None
    return kinds.index("y"), kinds.index("x"), kinds.index("band")


def _coordinates(nodes: dict[str, Node], cube: Node, kind: str) -> list[Node]:
    """1-D arrays that may be this coordinate: nearest group first, best name first."""
    found = []
    for group in ancestry(nodes, cube.path):
        members = {
            node.name.lower(): node
            for node in nodes.values()
            if node.is_array and node.parent == group.path and len(node.shape) == 1
        }
        found += [members[name] for name in NAMES[kind] if name in members]
    return found


def _own_coordinate(nodes: dict[str, Node], cube: Node, axis: int) -> list[Node]:
    """1-D arrays with the name of the dimension."""
    name = cube.dimensions[axis] if cube.dimensions else None
    paths = [f"{group.path}/{name}".lstrip("/") for group in ancestry(nodes, cube.path) if name]
    return [nodes[path] for path in paths if path in nodes and len(nodes[path].shape) == 1]


def find_axes(nodes: dict[str, Node], cube: Node, where: str, *, has_centres: bool = False) -> Axes:
    """Find the order of a 3-D array's dimensions and its coordinates.

    The names of the dimensions decide; if they are unknown, the lengths of the coordinates,
    provided that only one order fits. With ``has_centres`` the band centres are given, and
    no coordinate of bands is searched.

    Raises SceneError: a coordinate that is not of the cube's length, no wavelengths, or an
    order that is not clear.
    """
    candidates = {kind: _coordinates(nodes, cube, kind) for kind in NAMES}
    if has_centres:
        candidates["band"] = []
    order = _order_by_name(cube) or _order_by_length(cube, candidates, where, has_centres)
    chosen: dict[str, Node | None] = {}
    for kind, axis in zip(NAMES, order, strict=True):
        own = _own_coordinate(nodes, cube, axis)
        if kind == "band":
            # band = 1..426 is not a wavelength, unless its units say so
            own = [] if has_centres else own
            own = [node for node in own if _has_length_unit(node) or node in candidates[kind]]
            options = candidates[kind] + own
        else:
            options = own + candidates[kind]
        fitting = [node for node in options if node.shape == (cube.shape[axis],)]
        if own and not fitting and kind != "band":  # not taken for a cube without coordinates
            raise SceneError(
                f"{where}: coordinate {own[0].path} has {own[0].shape[0]} values; the cube has "
                f"{cube.shape[axis]} along {own[0].name}",
                "One of the two is damaged or incomplete; copy the store again",
            )
        chosen[kind] = fitting[0] if fitting else None
    if chosen["band"] is None and not has_centres:
        raise _no_wavelength(candidates["band"], cube, order[2], where)
    return Axes(order, chosen["band"], chosen["x"], chosen["y"])


def _has_length_unit(node: Node) -> bool:
    unit = str(node.attributes.get("units", node.attributes.get("Units", ""))).lower()
    return unit.startswith(("nm", "nanomet", "um", "µm", "μm", "micro"))


def _no_wavelength(found: list[Node], cube: Node, axis: int, where: str) -> SceneError:
    if found:
        return SceneError(
            f"{where}: wavelength coordinate {found[0].path} has {found[0].shape[0]} values; "
            f"the cube has {cube.shape[axis]} bands",
            "Store one centre wavelength per band",
        )
    return SceneError(
        f"{where} has no wavelength coordinate",
        "Store the band centres (nm) next to the cube as a 1-D array called wl or wavelength, "
        "or give them in a file, one per line, as --wavelengths FILE",
    )


def _order_by_length(
    cube: Node, candidates: dict[str, list[Node]], where: str, has_centres: bool
) -> tuple[int, int, int]:
    if not candidates["band"] and not has_centres:
        raise _no_wavelength([], cube, 0, where)
    lengths = {kind: {node.shape[0] for node in candidates[kind]} for kind in NAMES}
    orders = [
        (y, x, band)
        for y, x, band in permutations(range(3))
        if all(
            not lengths[kind] or cube.shape[axis] in lengths[kind]
            for kind, axis in zip(NAMES, (y, x, band), strict=True)
        )
    ]
    if len(orders) == 1:
        return orders[0]
    found = ", ".join(f"{kind} {sorted(lengths[kind])}" for kind in NAMES if lengths[kind])
    raise SceneError(
        f"{where} has shape {cube.shape} without known dimension names, and {len(orders)} "
        f"orders of the dimensions fit the coordinates found ({found})",
        "Name the dimensions y, x, wl (_ARRAY_DIMENSIONS in Zarr v2, dimension_names in v3)",
    )


# The cube: which arrays could be it, and which one is.


def suggest_stores(path: str) -> str:
    """Hint for a folder that is no store: the stores in it, if any."""
    with os.scandir(path) as entries:
        found = sorted(e.name for e in entries if e.is_dir() and zarr_format_of(e.path))
    if found:
        return f"It holds {', '.join(found[:5])}: give one of these"
    return "Give the folder of a Zarr store, or a NEON HDF5 file"


def find_cubes(nodes: dict[str, Node], group: str | None, path: str) -> list[Node]:
    """3-D arrays to choose from: all but thinned copies, or those of one group."""
    cubes = [node for node in nodes.values() if node.is_array and len(node.shape) == 3]
    groups = ", ".join(sorted({node.parent or "/" for node in cubes})) or "none"
    inside: list[Node] = []
    if group is not None:
        wanted = group.strip("/")
        if wanted not in nodes:
            raise SceneError(f"{path} has no group {group!r}", f"Groups with cubes: {groups}")
        inside = [node for node in cubes if wanted in (node.path, node.parent)]
        prefix = f"{wanted}/" if wanted else ""
        cubes = [node for node in cubes if node.path.startswith(prefix)]
    whole = [node for node in cubes if THINNED_ATTRIBUTE not in node.attributes]
    found = inside or whole or cubes
    if not found:
        arrays = [f"{n.path or '/'} {n.shape}" for n in nodes.values() if n.is_array]
        raise SceneError(
            f"{path} holds no cube: no array in {group or 'the store'} has three dimensions "
            f"(arrays: {', '.join(arrays[:8]) or 'none'})",
            f"Groups with cubes: {groups}",
        )
    return found


def choose_cube(
    nodes: dict[str, Node], cubes: list[Node], path: str, *, has_centres: bool = False
) -> tuple[Node, Axes]:
    """The only cube with wavelengths (or any, if these are given); of several, the reflectance."""
    usable: list[tuple[Node, Axes]] = []
    problems: dict[str, SceneError] = {}
    for cube in cubes:
        try:
            where = f"{cube.path or 'the array'} of {path}"
            usable.append((cube, find_axes(nodes, cube, where, has_centres=has_centres)))
        except SceneError as error:
            problems[cube.path] = error
    if not usable:
        called = [cube.path for cube in cubes if cube.name.lower() == "reflectance"]
        raise problems[called[0] if called else cubes[0].path]
    called_so = [item for item in usable if item[0].name.lower() == "reflectance"]
    choice = called_so or usable
    if len(choice) > 1:
        parents = [cube.parent for cube, _ in choice]
        names = parents if len(set(parents)) == len(parents) else [c.path for c, _ in choice]
        shown = ", ".join(f"{name or '/'}" for name in names)
        raise SceneError(
            f"{path} holds {len(choice)} cubes: {shown}", f"Choose one: --group {names[0] or '/'}"
        )
    return choice[0]
