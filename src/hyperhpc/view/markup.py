"""HTML and CSS of the page: texts, legends and the table of points."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.colors import to_hex

from hyperhpc.report import style
from hyperhpc.report.formats import coordinate, jinja_environment
from hyperhpc.report.plots.index_maps import IndexMap
from hyperhpc.results import RunResults
from hyperhpc.schema import NOT_CLUSTERED, NOT_CLUSTERED_TITLE
from hyperhpc.view.points import Point

LINE = "#d9dde2"
_HERE = Path(__file__).parent
TEMPLATE = (_HERE / "page.html.j2").read_text("utf-8")
CSS = (_HERE / "panel.css").read_text("utf-8")
_PANEL: Any = jinja_environment(_HERE).get_template("panel.html.j2").module


def point_colours() -> list[str]:
    """Colours of points and their spectra: cluster colours that show on white, ten."""
    return [to_hex(c) for c in style.cluster_colours(16) if not style.is_light(c)][:10]


def heading(results: RunResults, notes: Sequence[str]) -> str:
    """Name of the scene, size and CRS of the area, and notes on what is missing."""
    shape, crs = results.area.get("shape"), results.crs.label
    return str(_PANEL.heading(results.scene_name, shape, crs, notes))


def colour_legend(nm: Sequence[float], names: Sequence[str]) -> str:
    """Bands that are shown as red, green and blue."""
    return str(_PANEL.colour_legend(zip(("#e00", "#0a0", "#22f"), names, nm, strict=True)))


def index_legend(index: IndexMap) -> str:
    """The colour bar with its limits, and the formula."""
    stops = [to_hex(index.colours(i / 12)) for i in range(13)]
    return str(_PANEL.index_legend(index, stops))


def cluster_legend(results: RunResults, model: str) -> str:
    """Colour, name and share of each class, and of what is not clustered."""
    pixels = results.cluster_entry(model).get("pixels") or []
    total, colours = sum(p for p in pixels if p), style.model_colours(results, model)
    keys: list[tuple[str, str, float | None]] = [
        (to_hex(colours[one.number]), one.name, one.sum_of(pixels) / total if total else None)
        for one in results.classes(model)
    ]
    if results.conditions:
        keys.append((style.NOT_CLUSTERED, NOT_CLUSTERED_TITLE, None))
    return str(_PANEL.cluster_legend(keys))


def points_table(results: RunResults, points: Sequence[Point]) -> str:
    """Position, clusters and index values of the points, a column each."""
    is_degrees = results.crs.is_degrees
    rows = [
        ("x", [coordinate(p.x, is_degrees=is_degrees) for p in points]),
        ("y", [coordinate(p.y, is_degrees=is_degrees) for p in points]),
        ("row, column", [f"{p.row}, {p.col}" for p in points]),
    ]
    clusters = {
        model: dict(
            enumerate(
                zip(
                    map(to_hex, style.model_colours(results, model)),
                    results.class_names(model),
                    strict=True,
                )
            )
        )
        | {NOT_CLUSTERED: (style.NOT_CLUSTERED, NOT_CLUSTERED_TITLE)}
        for model in (points[0].labels if points else ())
    }
    titles = {str(e["name"]): str(e.get("title") or e["name"]) for e in results.computed}
    values = {name: titles.get(name, name) for name in (points[0].values if points else ())}
    return str(_PANEL.points_table(points, point_colours(), rows, clusters, values))
