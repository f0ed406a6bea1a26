"""The order of the four numbers of a bounding box, which programs do not agree on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hyperhpc.errors import ConfigError

Box = tuple[float, float, float, float]


def check_order(box: Box, bounds: Sequence[float]) -> None:
    """Refuse numbers that are not xmin, ymin, xmax, ymax.

    R's terra, and NEON's ``Spatial_Extent_meters``, give xmin, xmax, ymin, ymax, which often pass
    as a box too: one from inside the scene to far beyond it. A number that should be a y but lies
    nearer to the x of the scene, and the reverse, give them away.

    ``bounds``: xmin, ymin, xmax, ymax of the scene.
    Raises ConfigError: the numbers are in that order, or an edge is not below its opposite.
    """
    spans = f"the scene, which spans {box_text(bounds)}"
    x0, x1, y0, y1 = box
    if overlaps((x0, y0, x1, y1), bounds) and _is_x(x1, bounds) and _is_y(y0, bounds):
        raise ConfigError(
            f"The bounding box {box_text(box)} fits {spans}, only in the order xmin,xmax,ymin,ymax "
            "of R and of NEON's files",
            f"Give --bbox {box_text((x0, y0, x1, y1))}",
        )
    if box[0] < box[2] and box[1] < box[3]:
        return
    turned = (min(box[0], box[2]), min(box[1], box[3]), max(box[0], box[2]), max(box[1], box[3]))
    is_usable = turned[0] < turned[2] and turned[1] < turned[3] and overlaps(turned, bounds)
    raise ConfigError(
        f"The bounding box {box_text(box)} is reversed or empty: XMIN < XMAX and YMIN < YMAX are "
        "needed",
        f"Give --bbox {box_text(turned)}" if is_usable else f"Give a box that overlaps {spans}",
    )


def check_points(box: Box | None, places: Iterable[tuple[float, float] | None]) -> None:
    """Refuse points (x, y) outside of a box; None is a feature without coordinates."""
    for x, y in filter(None, places if box else ()):
        if box and not (box[0] <= x <= box[2] and box[1] <= y <= box[3]):
            raise ConfigError(
                f"Point {x:.10g},{y:.10g} lies outside --bbox "
                + ",".join(f"{edge:.10g}" for edge in box),
                "Choose a point inside it, or leave --bbox out",
            )


def overlaps(box: Sequence[float], bounds: Sequence[float]) -> bool:
    """True if two boxes (xmin, ymin, xmax, ymax) have an area in common."""
    return (
        max(box[0], bounds[0]) < min(box[2], bounds[2])
        and max(box[1], bounds[1]) < min(box[3], bounds[3])
    )  # fmt: skip


def box_text(box: Sequence[float]) -> str:
    """Numbers with commas between, as the command line takes them."""
    return ",".join(f"{value:.15g}" for value in box)


def _is_x(value: float, bounds: Sequence[float]) -> bool:
    """True if a number is nearer to the x than to the y of the scene."""
    return _distance(value, bounds[0], bounds[2]) < _distance(value, bounds[1], bounds[3])


def _is_y(value: float, bounds: Sequence[float]) -> bool:
    return _distance(value, bounds[1], bounds[3]) < _distance(value, bounds[0], bounds[2])


def _distance(value: float, low: float, high: float) -> float:
    return max(low - value, value - high, 0.0)
