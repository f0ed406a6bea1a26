"""What lies in a Zarr store on disk: its nodes, their attributes, their dimensions.

Only the JSON metadata is read. Walking the folders here rather than through zarr keeps
the look bounded, and quiet about files that are no part of the store.
"""

from __future__ import annotations

import json
import os
from collections import deque
from dataclasses import dataclass
from typing import Any, TypeGuard

from hyperhpc.errors import SceneError, cause

#: How far the search for a cube goes.
MAX_DEPTH = 5
MAX_NODES = 2000

_MARKERS = {3: ("zarr.json",), 2: (".zarray", ".zgroup")}


@dataclass(frozen=True)
class Node:
    """A group or an array.

    Attributes
    ----------
    path
        Inside the store, with ``/``; empty for the root.
    is_array
        False for a group.
    shape
        Of an array; empty for a group.
    dimensions
        Names of the dimensions, None where there is none; None if no names are stored.
    attributes
        User attributes as in the file.
    """

    path: str
    is_array: bool
    shape: tuple[int, ...]
    dimensions: tuple[str | None, ...] | None
    attributes: dict[str, Any]

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


def metadata_files(folder: str, version: int) -> list[str]:
    """Metadata files of the node in ``folder`` that exist, sorted."""
    names = ("zarr.json",) if version == 3 else (".zarray", ".zattrs", ".zgroup")
    paths = (os.path.join(folder, name) for name in names)
    return sorted(path for path in paths if os.path.isfile(path))


def _load(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            document = json.load(file)
    except (OSError, ValueError, RecursionError) as error:
        raise SceneError(
            f"Zarr metadata {path} cannot be read: {cause(error)}.",
            "The store is damaged or incomplete; copy it again.",
        ) from error
    if not isinstance(document, dict):
        raise SceneError(f"Zarr metadata {path} is no JSON object.", "Copy the store again.")
    return document


def _name_or_none(name: Any) -> str | None:
    return name if isinstance(name, str) else None


def _is_shape(shape: Any) -> TypeGuard[list[int]]:
    """True for a list of whole numbers that can be the sides of an array."""
    return isinstance(shape, list | tuple) and all(
        type(size) is int and 0 <= size < 2**63 for size in shape
    )


def read_node(root: str, path: str, version: int) -> Node | None:
    """Read the node at ``path``, or None if that folder is none.

    Raises
    ------
    SceneError
        Its metadata is damaged.
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
        raise SceneError(
            f"Zarr metadata {file} is incomplete or damaged.", "Copy the store again."
        )
    names = names or attributes.get("_ARRAY_DIMENSIONS")
    if not isinstance(names, list) or len(names) != len(shape):
        names = None
    return Node(
        path=path,
        is_array=is_array,
        shape=tuple(shape),
        dimensions=None if names is None else tuple(map(_name_or_none, names)),
        attributes=attributes,
    )


def walk(root: str, version: int) -> dict[str, Node]:
    """All nodes by path, breadth first, at most :data:`MAX_NODES`.

    Raises
    ------
    SceneError
        Damaged metadata.
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
        folder = os.path.join(root, path)
        with os.scandir(folder) as entries:
            names = sorted(
                entry.name
                for entry in entries
                if not entry.name.startswith(".") and entry.is_dir()
            )
        queue.extend((f"{path}/{name}" if path else name, depth + 1) for name in names)
    return nodes


def ancestry(nodes: dict[str, Node], path: str) -> list[Node]:
    """Groups that hold ``path``, nearest first, up to the root."""
    groups = []
    while path:
        path = path.rpartition("/")[0]
        if path in nodes:
            groups.append(nodes[path])
    return groups
