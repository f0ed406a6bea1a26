"""The page: a map to pan and zoom, what lies under a click, and how they are kept in step."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from html import escape
from typing import Any

import numpy as np
from bokeh.document import Document
from bokeh.document.locking import without_document_lock
from bokeh.events import ButtonClick, DoubleTap, RangesUpdate, Tap
from bokeh.layouts import column, row
from bokeh.models import (
    Button,
    ColumnDataSource,
    CustomJS,
    Div,
    InlineStyleSheet,
    LayoutDOM,
    Select,
    Slider,
)

from hyperhpc.errors import HyperhpcError
from hyperhpc.view import markup
from hyperhpc.view.figures import Chart, Map
from hyperhpc.view.layers import Layer, Layers
from hyperhpc.view.levels import Piece, View
from hyperhpc.view.markup import CSS, LINE
from hyperhpc.view.points import Point, line_of, mean_of, read_point, spectra_csv
from hyperhpc.view.viewed_run import UNREADABLE, Opened, explain

# Everything on the page beside the two figures, and where it stands.

PANEL_WIDTH = 430
_GROUPS = {"rgb": "Colour", "cir": "Colour", "index": "Indices", "cluster": "Clusters"}

_SAVE = """
const [text] = file.data.text;
const link = document.createElement("a");
link.href = URL.createObjectURL(new Blob([text], {type: "text/csv"}));
link.download = "spectra.csv";
link.click();
setTimeout(() => URL.revokeObjectURL(link.href), 1000);
"""
_WHERE = """
const digits = Math.max(0, Math.min(6, Math.ceil(-Math.log10(unit))));
place.text = `x ${cb_obj.x.toFixed(digits)} &ensp; y ${cb_obj.y.toFixed(digits)}`;
"""


class Controls:
    """Controls, texts and the layout of the page.

    Attributes
    ----------
    layer, opacity, whole, clear
        What the user turns.
    head, legend, table
        Texts, as HTML.
    layout
        All of the page.
    """

    def __init__(self, layers: Mapping[str, Layer], shown: Map, chart: Chart) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for key, layer in layers.items():
            groups.setdefault(_GROUPS[key.partition(":")[0]], []).append((key, layer.title))
        sheet = InlineStyleSheet(css=CSS)
        self.layer = Select(
            title="Layer", name="layer", options=groups, value=next(iter(layers)),
            sizing_mode="stretch_width", stylesheets=[sheet],
        )  # fmt: skip
        self.opacity = Slider(
            title="Opacity over true colour", name="opacity", start=0, end=1, step=0.05,
            value=1, sizing_mode="stretch_width", stylesheets=[sheet], format="0 %",
        )  # fmt: skip
        js = CustomJS(
            args={"glyph": shown.glyph}, code="glyph.global_alpha = {value: cb_obj.value}"
        )
        self.opacity.js_on_change("value", js)
        self.whole = _button("Whole area", "whole", 100)
        self.save = _button("Save spectra (CSV)", "save", 150)
        self.clear = _button("Clear", "clear", 80)
        self._file = ColumnDataSource({"text": [""]}, name="file")
        self.save.js_on_click(CustomJS(args={"file": self._file}, code=_SAVE))
        self.head, self.legend, self.table = (
            Div(name=name, sizing_mode="stretch_width", stylesheets=[sheet])
            for name in ("head", "legend", "table")
        )
        self._status = Div(name="status", stylesheets=[sheet], styles={"color": "#5b6570"})
        place = Div(name="place", stylesheets=[sheet], styles={"color": "#5b6570"})
        size = shown.figure.x_range.end - shown.figure.x_range.start
        where = CustomJS(args={"place": place, "unit": size / 1e4}, code=_WHERE)
        shown.figure.js_on_event("mousemove", where)
        self.layout = self._lay_out(shown, chart, place)

    def _lay_out(self, shown: Map, chart: Chart, place: Div) -> LayoutDOM:
        below = row(
            place, self._status,
            sizing_mode="stretch_width", styles={"justify-content": "space-between"},
        )  # fmt: skip
        left = column(
            shown.figure, below,
            sizing_mode="stretch_both",
            styles={"background": "white", "border": f"1px solid {LINE}", "padding": "8px"},
        )  # fmt: skip
        panel = column(
            row(self.layer, column(self.whole, styles={"justify-content": "flex-end"}),
                sizing_mode="stretch_width", styles={"align-items": "end"}),
            self.opacity,
            self.legend,
            chart.figure,
            row(self.save, self.clear, sizing_mode="stretch_width"),
            self.table,
            width=PANEL_WIDTH,
            sizing_mode="stretch_height",
            styles={"background": "white", "border": f"1px solid {LINE}", "padding": "10px",
                    "overflow-y": "auto", "gap": "8px"},
        )  # fmt: skip
        return column(
            self.head,
            row(left, panel, sizing_mode="stretch_both", styles={"gap": "10px"}),
            sizing_mode="stretch_both",
            styles={"height": "100vh", "padding": "10px", "gap": "8px",
                    "box-sizing": "border-box"},
        )  # fmt: skip

    def tell(self, words: str | HyperhpcError) -> None:
        """Say something in the line below the map."""
        if isinstance(words, HyperhpcError):
            words = f"{words.message}; {words.hint}" if words.hint else words.message
        self._status.text = escape(words)

    def offer(self, text: str) -> None:
        """What is saved as a file; nothing can be saved if it is empty."""
        self._file.data = {"text": [text]}
        self.save.disabled = not text


def _button(label: str, name: str, width: int) -> Button:
    return Button(label=label, name=name, width=width, button_type="default")


# The pixels that were clicked: marks on the map, lines, table and file.


class Picked:
    """The points of one browser's page.

    Parameters
    ----------
    opened
        The run.
    shown, chart, controls
        Where they are shown.
    """

    def __init__(self, opened: Opened, shown: Map, chart: Chart, controls: Controls) -> None:
        self._opened, self._map, self._chart = opened, shown, chart
        self._controls = controls
        self._points: list[Point] = []

    async def pick(self, x: float, y: float) -> None:
        """Add the pixel that holds a place, if it is in the area and there is room."""
        if len(self._points) == len(markup.point_colours()):
            self._controls.tell(f"{len(self._points)} points are compared at most; clear them")
            return
        try:
            point = await asyncio.to_thread(read_point, self._opened, x, y)
        except UNREADABLE as error:
            self._controls.tell(explain(error, self._opened.outputs.folder.out))
            return
        if point and (point.row, point.col) not in [(p.row, p.col) for p in self._points]:
            self._points.append(point)
            self.tell()

    def clear(self) -> None:
        """Forget them all."""
        self._points = []
        self.tell()

    def tell(self) -> None:
        """Marks, lines, table and file, all from the list of points."""
        points, colours = self._points, markup.point_colours()
        names = [f"P{i + 1}" for i in range(len(points))]
        drawn = {"color": colours[: len(points)], "name": names}
        self._map.points.data = {"x": [p.x for p in points], "y": [p.y for p in points]} | drawn
        # Means are of the model that is shown, else of the first
        model = self._controls.layer.value.partition("cluster:")[2]
        model = model or next(iter(self._opened.outputs.models), "")
        lines = [line_of(self._opened, point) for point in points]
        means = [mean_of(self._opened, model, point.labels.get(model)) for point in points]
        for source, curves in ((self._chart.spectra, lines), (self._chart.means, means)):
            nm, reflectance = ([curve[i] for curve in curves] for i in (0, 1))
            source.data = {"nm": nm, "reflectance": reflectance} | drawn
        self._chart.figure.title.text = f"Pale and wide: mean of the pixel's cluster ({model})"
        self._chart.figure.visible = bool(points)
        self._controls.table.text = markup.points_table(self._opened.outputs, points)
        self._controls.offer(spectra_csv(points))


#: Seconds between two pictures while somebody pans or zooms.
_PAUSE_S = 0.08
#: Room around the area when all of it is shown.
_MARGIN = 0.01
#: How much wider or higher than on the ground a pixel may be drawn before it is put right.
_SKEW = 0.01


#: What was read, and its colours.
Picture = tuple[Piece, np.ndarray]


class Page:
    """One browser's page.

    Parameters
    ----------
    document
        Of its session, to be filled.
    layers
        What can be shown; shared by all sessions.
    """

    def __init__(self, document: Document, layers: Layers) -> None:
        self._document, self._layers, self._opened = document, layers, layers.opened
        outputs = self._opened.outputs
        _, south, _, north = self._opened.bounds
        metres = outputs.crs.metres_per_unit((south + north) / 2)
        self._aspect = metres / 111_320.0 if outputs.crs.is_degrees and metres else 1.0
        self._map, self._chart = (
            Map(self._opened.bounds, self._opened.grid, outputs.crs),
            Chart(outputs.good_ranges or []),
        )
        self._controls = Controls(layers.all, self._map, self._chart)
        self._picked = Picked(self._opened, self._map, self._chart, self._controls)
        self._size, self._is_wanted, self._is_drawing = (0, 0), False, False

        figure, controls = self._map.figure, self._controls
        figure.on_event(RangesUpdate, lambda _: self._moved())
        for tap in (Tap, DoubleTap):  # two pixels clicked quickly are a double tap to Bokeh
            figure.on_event(tap, lambda e: self._later(partial(self._picked.pick, e.x, e.y)))
        for side in ("inner_width", "inner_height"):
            figure.on_change(side, self._sized)
        controls.layer.on_change("value", lambda attr, old, new: self._change_layer())
        controls.opacity.on_change("value_throttled", lambda attr, old, new: self._draw_soon())
        controls.whole.on_event(ButtonClick, lambda _: self._show_whole())
        controls.clear.on_event(ButtonClick, lambda _: self._picked.clear())

        controls.head.text = markup.heading(outputs, self._opened.notes)
        self._picked.tell()
        document.title = f"{outputs.scene_name} - hyperhpc"
        document.template = markup.TEMPLATE
        document.add_root(controls.layout)

    @property
    def _view(self) -> View:
        x, y = self._map.figure.x_range, self._map.figure.y_range
        return View(x.start, x.end, y.start, y.end, *self._size)

    def _set_view(self, view: View) -> None:
        self._map.figure.x_range.update(start=view.x0, end=view.x1)
        self._map.figure.y_range.update(start=view.y0, end=view.y1)
        self._draw_soon()

    def _show_whole(self) -> None:
        xmin, ymin, xmax, ymax = self._opened.bounds
        x, y = _MARGIN * (xmax - xmin), _MARGIN * (ymax - ymin)
        view = View(xmin - x, xmax + x, ymin - y, ymax + y, *self._size)
        self._set_view(view.fitted(self._aspect))

    def _sized(self, side: str, _: int, pixels: int) -> None:
        """The window of the browser has another size: as much is shown as there is room."""
        old = self._size
        size = (pixels, old[1]) if side == "inner_width" else (old[0], pixels)
        self._size = size
        if not all(size):
            return
        if not all(old):
            self._show_whole()
            return
        view = self._view
        half_x = (view.x1 - view.x0) * size[0] / old[0] / 2
        half_y = (view.y1 - view.y0) * size[1] / old[1] / 2
        x, y = (view.x0 + view.x1) / 2, (view.y0 + view.y1) / 2
        self._set_view(View(x - half_x, x + half_x, y - half_y, y + half_y, *size))

    def _moved(self) -> None:
        if not all(self._size):
            return
        view = self._view
        fitted = view.fitted(self._aspect)
        wider = (fitted.x1 - fitted.x0) / (view.x1 - view.x0)
        higher = (fitted.y1 - fitted.y0) / (view.y1 - view.y0)
        if max(wider, higher) > 1 + _SKEW:
            self._set_view(fitted)
        else:
            self._draw_soon()

    def _change_layer(self) -> None:
        self._draw_soon()
        self._picked.tell()  # the means are those of the model that is shown

    def _draw_soon(self) -> None:
        self._is_wanted = True
        if not self._is_drawing and all(self._size):
            self._is_drawing = True
            self._later(self._draw)

    @without_document_lock
    async def _draw(self) -> None:
        """Draw what is wanted, and again while that has changed meanwhile."""
        try:
            while self._is_wanted:
                self._is_wanted = False
                await self._draw_once()
                await asyncio.sleep(_PAUSE_S)
        finally:
            self._is_drawing = False

    async def _draw_once(self) -> None:
        view, layer = self._view, self._layers.all[self._controls.layer.value]
        shown = [layer]
        if layer.key != "rgb" and self._controls.opacity.value < 1:
            shown.insert(0, self._layers.all.get("rgb", layer))
        # The overview at once, then, where that is finer, the scene
        is_slow = any(self._layers.is_slow(item, view) for item in shown)
        for is_quick in (True, False) if is_slow else (True,):
            try:
                read = await asyncio.to_thread(self._read, shown, view, is_quick)
                legend = await asyncio.to_thread(self._legend, layer)
            except UNREADABLE as error:
                said = explain(error, self._opened.outputs.folder.out)
                self._later(partial(self._controls.tell, said))
                return
            self._later(partial(self._show, read, legend))
            if self._is_wanted:
                return

    def _read(
        self, shown: list[Layer], view: View, is_quick: bool
    ) -> dict[str, Picture | None]:
        """Pictures of layers by key."""
        pictures: dict[str, Picture | None] = {}
        for layer in shown:
            piece = self._layers.read(layer, view, quick=is_quick)
            pictures[layer.key] = (
                (piece, self._layers.paint(layer, piece.values)) if piece else None
            )
        return pictures

    def _show(self, pictures: dict[str, Picture | None], legend: str) -> None:
        below = pictures.get("rgb")
        above = next((p for key, p in pictures.items() if key != "rgb"), None)
        _fill(self._map.base, below)
        _fill(self._map.top, above)
        main = above or below
        self._controls.legend.text = legend
        self._controls.opacity.disabled = list(pictures) == ["rgb"]
        self._controls.tell(
            _source_words(main[0]) if main else "Nothing of the area is in sight"
        )

    def _legend(self, layer: Layer) -> str:
        outputs = self._opened.outputs
        assert outputs.pyramid is not None
        if layer.key.startswith("cluster:"):
            return markup.cluster_legend(outputs, layer.name)
        if layer.key.startswith("index:"):
            return markup.index_legend(self._layers.measured(layer.name))
        names = ("red", "green", "blue", "near infrared")
        nm = outputs.pyramid.quicklook_nm
        at = layer.positions
        return markup.colour_legend([nm[i] for i in at], [names[i] for i in at])

    def _later(self, callback: Any) -> None:
        self._document.add_next_tick_callback(callback)


def _fill(source: ColumnDataSource, picture: Picture | None) -> None:
    if picture is None:
        source.data = {name: [] for name in source.data}
        return
    piece, colours = picture
    left, bottom, width, height = piece.extent
    # Bokeh counts rows from below, and takes the four bytes of a pixel as one number
    image = np.ascontiguousarray(colours[::-1]).view(np.uint32)[..., 0]
    values = {"image": image, "x": left, "y": bottom, "dw": width, "dh": height}
    source.data = {name: [value] for name, value in values.items()}


def _source_words(piece: Piece) -> str:
    every = "every pixel" if piece.step == 1 else f"1/{piece.step} of the resolution"
    return f"Shown from {piece.source}, {every}"
