"""Which dimension of a stored cube is y, which x, which the bands; and their coordinates."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

from hyperhpc.errors import SceneError
from hyperhpc.scene.formats.zarr_layout import Node, ancestry

#: Names of coordinates (and dimensions), best first, lower case.
NAMES: dict[str, tuple[str, ...]] = {
    "y": ("y", "northing", "northings", "lat", "latitude", "row", "rows", "line", "lines"),
    "x": ("x", "easting", "eastings", "lon", "longitude", "col", "cols", "column", "columns",
          "sample", "samples"),
    "band": ("wl", "wavelength", "wavelengths", "wavelength_nm", "wavelengths_nm",
             "band_center", "band_centers", "band_centre", "band_centres", "center_wavelength",
             "centre_wavelength", "wave", "lambda"),
}  # fmt: skip
#: A dimension may be called so; a coordinate of that name only counts bands.
_BAND_DIMENSIONS = ("band", "bands", "channel", "channels", "spectral", "z")


@dataclass(frozen=True)
class Axes:
    """How a stored cube lies.

    Attributes
    ----------
    order
        Positions of y, x and band among the stored dimensions.
    wavelength
        Array of band centres, or None where these were given.
    x, y
        Arrays of pixel centres, or None if there are none.
    """

    order: tuple[int, int, int]
    wavelength: Node | None
    x: Node | None
    y: Node | None


def _kind(name: str | None) -> str | None:
    lower = (name or "").lower()
    for kind, names in NAMES.items():
        if lower in names:
            return kind
    return "band" if lower in _BAND_DIMENSIONS else None


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
    """The 1-D array called as the dimension itself, whatever that name is."""
    name = cube.dimensions[axis] if cube.dimensions else None
    found = []
    for group in ancestry(nodes, cube.path):
        node = nodes.get(f"{group.path}/{name}" if group.path else str(name))
        if name is not None and node is not None and len(node.shape) == 1:
            found.append(node)
    return found


def identify(
    nodes: dict[str, Node], cube: Node, where: str, *, has_centres: bool = False
) -> Axes:
    """Find the order of a 3-D array's dimensions and its coordinates.

    By the names of the dimensions; where they say nothing, by the lengths of the
    coordinates if only one order fits. With ``has_centres`` the band centres are known
    from elsewhere, and are not looked for.

    Raises
    ------
    SceneError
        A coordinate that is not of the cube's length, no wavelengths, or an order that is
        not clear.
    """
    candidates = {kind: _coordinates(nodes, cube, kind) for kind in NAMES}
    if has_centres:
        candidates["band"] = []
    order = _order_by_name(cube)
    if order is None:
        order = _order_by_length(cube, candidates, where, has_centres)
    chosen: dict[str, Node | None] = {}
    for kind, axis in zip(("y", "x", "band"), order, strict=True):
        own = _own_coordinate(nodes, cube, axis)
        if kind == "band":
            # band = 1..426 is no wavelength, unless its units say so
            own = [] if has_centres else own
            own = [node for node in own if _has_length_unit(node) or node in candidates[kind]]
            options = candidates[kind] + own
        else:
            options = own + candidates[kind]
        fitting = [node for node in options if node.shape == (cube.shape[axis],)]
        if own and not fitting and kind != "band":  # not taken for a cube without coordinates
            raise SceneError(
                f"{where}: coordinate {own[0].path} has {own[0].shape[0]} values, the cube "
                f"{cube.shape[axis]} along {own[0].name}.",
                "One of the two is damaged or incomplete; copy the store again.",
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
            f"{where}: wavelength coordinate {found[0].path} has {found[0].shape[0]} values, "
            f"the cube {cube.shape[axis]} bands.",
            "Store one centre wavelength per band.",
        )
    return SceneError(
        f"{where} has no wavelength coordinate.",
        "Store the band centres (nm) beside the cube as a 1-D array called wl or wavelength, "
        "or give them in a file, one per line, as --wavelengths FILE.",
    )


def _order_by_length(
    cube: Node, candidates: dict[str, list[Node]], where: str, has_centres: bool
) -> tuple[int, int, int]:
    if not candidates["band"] and not has_centres:
        raise _no_wavelength([], cube, 0, where)
    lengths = {kind: {node.shape[0] for node in candidates[kind]} for kind in NAMES}
    orders = [
        order
        for order in permutations(range(3))
        if all(
            not lengths[kind] or cube.shape[axis] in lengths[kind]
            for kind, axis in zip(("y", "x", "band"), order, strict=True)
        )
    ]
    if len(orders) == 1:
        y, x, band = orders[0]
        return y, x, band
    found = ", ".join(
        f"{kind} {sorted(lengths[kind])}" for kind in ("y", "x", "band") if lengths[kind]
    )
    raise SceneError(
        f"{where} has shape {cube.shape} without known dimension names, and {len(orders)} "
        f"orders fit the coordinates found ({found}).",
        "Name the dimensions y, x, wl (_ARRAY_DIMENSIONS in Zarr v2, dimension_names in v3).",
    )
