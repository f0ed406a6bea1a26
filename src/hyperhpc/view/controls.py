"""Buttons, lists and texts next to the map, and the layout of the page."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path

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
from hyperhpc.report import style
from hyperhpc.view.figures import MapFigure, SpectrumChart
from hyperhpc.view.layers import MapLayer
from hyperhpc.view.markup import CSS, LINE

PANEL_WIDTH = 430
_GROUPS = {"rgb": "Colour", "cir": "Colour", "index": "Indices", "cluster": "Clusters"}
_MUTED = {"color": style.MUTED}
_BOX = {"background": "white", "border": f"1px solid {LINE}"}

_SAVE_JS = Path(__file__).with_name("save.js").read_text("utf-8")
_POSITION_JS = """
const digits = Math.max(0, Math.min(6, Math.ceil(-Math.log10(unit))));
place.text = `x ${cb_obj.x.toFixed(digits)} &ensp; y ${cb_obj.y.toFixed(digits)}`;
"""


class Controls:
    """Controls, texts and the layout of the page.

    ``layer``, ``opacity``, ``whole``, ``clear``: Controls of the user: list of maps, slider,
        two buttons.
    ``head``, ``legend``, ``table``: Texts, as HTML.
    ``layout``: All of the page.
    """

    def __init__(
        self, layers: Mapping[str, MapLayer], map_figure: MapFigure, chart: SpectrumChart
    ) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for key, layer in layers.items():
            groups.setdefault(_GROUPS[key.partition(":")[0]], []).append((key, layer.title))
        sheet = InlineStyleSheet(css=CSS)
        wide = {"sizing_mode": "stretch_width", "stylesheets": [sheet]}
        self.layer = Select(
            title="Map", name="layer", options=groups, value=next(iter(layers)), **wide
        )
        self.opacity = Slider(
            title="Opacity over true colour", name="opacity", start=0, end=1, step=0.05,
            value=1, format="0 %", **wide,
        )  # fmt: skip
        js = CustomJS(
            args={"glyph": map_figure.glyph}, code="glyph.global_alpha = {value: cb_obj.value}"
        )
        self.opacity.js_on_change("value", js)
        self.whole = Button(label="Whole area", name="whole", width=100)
        self.clear = Button(label="Clear", name="clear", width=80)
        self._save = Button(label="Save spectra (CSV)", name="save", width=150)
        self._file = ColumnDataSource({"text": [""]}, name="file")
        self._save.js_on_click(CustomJS(args={"file": self._file}, code=_SAVE_JS))
        self.head, self.legend, self.table = (
            Div(name=name, **wide) for name in ("head", "legend", "table")
        )
        self._status, position = (
            Div(name=name, stylesheets=[sheet], styles=_MUTED) for name in ("status", "place")
        )
        size = map_figure.figure.x_range.end - map_figure.figure.x_range.start
        js = CustomJS(args={"place": position, "unit": size / 1e4}, code=_POSITION_JS)
        map_figure.figure.js_on_event("mousemove", js)
        self.layout = self._lay_out(map_figure, chart, position)

    def _lay_out(self, map_figure: MapFigure, chart: SpectrumChart, position: Div) -> LayoutDOM:
        below = row(
            position, self._status,
            sizing_mode="stretch_width", styles={"justify-content": "space-between"},
        )  # fmt: skip
        left = column(
            map_figure.figure, below,
            sizing_mode="stretch_both", styles=_BOX | {"padding": "8px"},
        )  # fmt: skip
        panel = column(
            row(self.layer, column(self.whole, styles={"justify-content": "flex-end"}),
                sizing_mode="stretch_width", styles={"align-items": "end"}),
            self.opacity,
            self.legend,
            chart.figure,
            row(self._save, self.clear, sizing_mode="stretch_width"),
            self.table,
            width=PANEL_WIDTH,
            sizing_mode="stretch_height",
            styles=_BOX | {"padding": "10px", "overflow-y": "auto", "gap": "8px"},
        )  # fmt: skip
        return column(
            self.head,
            row(left, panel, sizing_mode="stretch_both", styles={"gap": "10px"}),
            sizing_mode="stretch_both",
            styles={"height": "100vh", "padding": "10px", "gap": "8px",
                    "box-sizing": "border-box"},
        )  # fmt: skip

    def show_message(self, message: str | HyperhpcError) -> None:
        """Write a message into the line below the map."""
        if isinstance(message, HyperhpcError):
            message = "; ".join(filter(None, (message.message, message.hint)))
        self._status.text = escape(message)

    def set_csv(self, text: str) -> None:
        """Set the text that the button saves as a file; empty text disables the button."""
        self._file.data = {"text": [text]}
        self._save.disabled = not text
