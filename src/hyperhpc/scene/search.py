"""Finding the cube in a Zarr store: which arrays could be it, and which one is."""

from __future__ import annotations

import os

from hyperhpc.errors import SceneError
from hyperhpc.scene.axes import Axes, identify
from hyperhpc.scene.formats.zarr_layout import Node, zarr_format_of
from hyperhpc.scene.thinned import MARK


def nearby(path: str) -> str:
    """Hint for a folder that is no store: the stores in it, if any."""
    with os.scandir(path) as entries:
        found = sorted(e.name for e in entries if e.is_dir() and zarr_format_of(e.path))
    if found:
        return f"It holds {', '.join(found[:5])}: give one of these."
    return "Give the folder of a Zarr store, or a NEON HDF5 file."


def _groups(nodes: dict[str, Node]) -> str:
    paths = sorted({node.parent for node in nodes.values() if len(node.shape) == 3})
    return ", ".join(path or "/" for path in paths) or "none"


def cubes_in(nodes: dict[str, Node], group: str | None, path: str) -> list[Node]:
    """3-D arrays to choose from: all but thinned copies, or those of the group asked for."""
    cubes = [node for node in nodes.values() if node.is_array and len(node.shape) == 3]
    if group is None:
        cubes = [node for node in cubes if MARK not in node.attributes] or cubes
    else:
        wanted = group.strip("/")
        if wanted not in nodes:
            raise SceneError(
                f"{path} has no group {group!r}.", f"Groups with cubes: {_groups(nodes)}."
            )
        inside = [n for n in cubes if n.path == wanted or n.parent == wanted]
        prefix = f"{wanted}/" if wanted else ""
        below = [node for node in cubes if node.path.startswith(prefix)]
        cubes = inside or [node for node in below if MARK not in node.attributes] or below
    if not cubes:
        arrays = [f"{n.path or '/'} {n.shape}" for n in nodes.values() if n.is_array]
        raise SceneError(
            f"{path} holds no cube: no array in {group or 'it'} has three dimensions "
            f"(arrays: {', '.join(arrays[:8]) or 'none'}).",
            f"Groups with cubes: {_groups(nodes)}.",
        )
    return cubes


def choose(
    nodes: dict[str, Node], cubes: list[Node], path: str, *, has_centres: bool = False
) -> tuple[Node, Axes]:
    """The one cube with wavelengths; of several the one called reflectance.

    With ``has_centres`` they are known from elsewhere.
    """
    usable: list[tuple[Node, Axes]] = []
    problems: dict[str, SceneError] = {}
    for cube in cubes:
        try:
            where = f"{cube.path or 'the array'} of {path}"
            usable.append((cube, identify(nodes, cube, where, has_centres=has_centres)))
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
            f"{path} holds {len(choice)} cubes: {shown}.",
            f"Choose one: --group {names[0] or '/'}",
        )
    return choice[0]
