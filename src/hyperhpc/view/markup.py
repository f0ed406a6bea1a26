"""HTML and CSS of the page: texts, legends and the table of points."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from matplotlib.colors import Colormap, to_hex

from hyperhpc.report import style
from hyperhpc.report.formats import coordinate, percent, significant
from hyperhpc.report.index_maps import IndexMap
from hyperhpc.results import RunResults
from hyperhpc.view.points import Point

LINE = "#d9dde2"

#: Extends the page of Bokeh: no margin, one font, only the panel scrolls.
TEMPLATE = f"""
{{% block postamble %}}
<link rel="icon" href="data:,">
<style>
  html, body {{ height: 100%; overflow: hidden; background: #f5f6f8; }}
  body {{ font: 14px/1.45 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif;
         color: {style.INK}; }}
</style>
{{% endblock %}}
"""

CSS = f"""
:host {{ font: 13px/1.45 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif;
        color: {style.INK}; }}
.bk-clearfix {{ width: 100%; }}
.title {{ font-size: 16px; font-weight: 600; }}
.muted {{ color: {style.MUTED}; }}
.note {{ background: #fff4d6; border-left: 3px solid #e0a100; padding: 4px 9px;
        border-radius: 2px; margin-top: 4px; }}
.keys {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(88px, 1fr));
        gap: 2px 12px; max-height: 170px; overflow-y: auto; }}
.names {{ display: flex; flex-wrap: wrap; gap: 2px 14px; }}
.key {{ display: flex; align-items: center; gap: 6px; white-space: nowrap; }}
.swatch {{ width: 15px; height: 11px; border: 1px solid #00000040; display: inline-block;
          flex: none; border-radius: 1px; }}
.dot {{ width: 10px; height: 10px; border-radius: 50%; display: inline-block;
       margin-right: 5px; }}
.bar {{ height: 13px; border: 1px solid #8a939d; border-radius: 1px; margin-top: 3px; }}
.ends {{ display: flex; justify-content: space-between; font-variant-numeric: tabular-nums; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; width: 100%; }}
th, td {{ text-align: right; padding: 2px 4px 2px 10px; white-space: nowrap;
         border-bottom: 1px solid {LINE}; }}
th:first-child, td:first-child {{ text-align: left; padding-left: 0; font-weight: 400;
  color: {style.MUTED}; position: sticky; left: 0; background: #ffffff; }}
th {{ font-weight: 600; }}
"""


def point_colours() -> list[str]:
    """Colours of points and their spectra: cluster colours that show on white, ten."""
    return [to_hex(c) for c in style.cluster_colours(16) if not style.is_light(c)][:10]


def heading(results: RunResults, notes: Sequence[str]) -> str:
    """Name of the scene, size and CRS of the area, and notes on what is missing."""
    shape = results.area.get("shape")
    size = f"{shape[0]} &times; {shape[1]} pixels &middot; " if shape else ""
    items = "".join(
        f'<div class="note">{escape(note[:1].upper() + note[1:])}.</div>' for note in notes
    )
    return (
        f'<span class="title">{escape(results.scene_name)}</span> &ensp;'
        f'<span class="muted">{size}{escape(results.crs.label)}</span>{items}'
    )


def colour_legend(nm: Sequence[float], names: Sequence[str]) -> str:
    """Bands that are shown as red, green and blue."""
    parts = [
        f'<span class="key"><span class="swatch" style="background:{screen}"></span>'
        f"{escape(name)}, {value:.0f} nm</span>"
        for screen, name, value in zip(("#e00", "#0a0", "#22f"), names, nm, strict=True)
    ]
    words = "Each colour is stretched from the 2nd to the 98th percentile of the valid pixels."
    return f'<div class="names">{"".join(parts)}</div><div class="muted">{words}</div>'


def index_legend(index: IndexMap) -> str:
    """The colour bar with its limits, and the formula."""
    formula = escape(str(index.entry.get("formula") or ""))
    title = escape(str(index.entry.get("long_name") or index.title))
    if index.entry.get("unit"):
        title += f' <span class="muted">({escape(str(index.entry["unit"]))})</span>'
    if index.limits is None:
        return f"{title}: no pixel has a value"
    low, high = index.limits
    ends = {
        "low": ("\u2264 " if index.extend in ("both", "min") else "") + significant(low),
        "high": ("\u2265 " if index.extend in ("both", "max") else "") + significant(high),
    }
    return (
        f'{title}<div class="bar" style="background:{_gradient(index.colours)}"></div>'
        f'<div class="ends"><span>{ends["low"]}</span><span>{significant((low + high) / 2)}'
        f'</span><span>{ends["high"]}</span></div><div class="muted">{formula}</div>'
    )


def _gradient(colours: Colormap) -> str:
    stops = ", ".join(to_hex(colours(i / 12)) for i in range(13))
    return f"linear-gradient(to right, {stops})"


def cluster_legend(results: RunResults, model: str) -> str:
    """Colour, name and share of each cluster."""
    entry = (results.clusters.get("models") or {}).get(model) or {}
    pixels = entry.get("pixels") or []
    total = sum(p for p in pixels if p)
    parts = []
    for k, colour in enumerate(style.cluster_colours(results.n_clusters(model))):
        share = f'<span class="muted">{percent(pixels[k] / total)}</span>' if total else ""
        parts.append(f'<span class="key">{_swatch(to_hex(colour))}C{k} {share}</span>')
    return f'<div class="keys">{"".join(parts)}</div>'


def _swatch(colour: str) -> str:
    return f'<span class="swatch" style="background:{colour}"></span>'


def points_table(results: RunResults, points: Sequence[Point]) -> str:
    """Position, clusters and index values of the points, a column each."""
    if not points:
        words = "Click a pixel on the map to see its spectrum. Up to ten can be compared."
        return f'<span class="muted">{words}</span>'
    colours, is_degrees = point_colours(), results.crs.is_degrees
    rows: list[tuple[str, list[str]]] = [
        (name, [coordinate(getattr(p, key), is_degrees=is_degrees) for p in points])
        for name, key in (("x", "x"), ("y", "y"))
    ]
    rows.append(("row, column", [f"{p.row}, {p.col}" for p in points]))
    for model in points[0].labels:
        palette = style.cluster_colours(results.n_clusters(model))
        cells = [
            "\u2013" if (k := p.labels[model]) is None else f"{_swatch(to_hex(palette[k]))} C{k}"
            for p in points
        ]
        rows.append((model, cells))
    titles = {str(e["name"]): str(e.get("title") or e["name"]) for e in results.computed}
    for name in points[0].values:
        rows.append((titles.get(name, name), [significant(p.values[name], 4) for p in points]))
    head = "".join(
        f'<th><span class="dot" style="background:{colours[i]}"></span>P{i + 1}</th>'
        for i in range(len(points))
    )
    body = "".join(
        f"<tr><td>{escape(name)}</td>{''.join(f'<td>{c}</td>' for c in cells)}</tr>"
        for name, cells in rows
    )
    problems = "".join(
        f'<div class="note">P{i + 1}: {escape(p.problem)}</div>'
        for i, p in enumerate(points)
        if p.problem
    )
    return f"<table><tr><th></th>{head}</tr>{body}</table>{problems}"
