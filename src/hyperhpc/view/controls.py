"""Everything on the page beside the two figures, and where it stands."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

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
from hyperhpc.view.figures import Chart, Map
from hyperhpc.view.layers import Layer
from hyperhpc.view.looks import CSS, LINE

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
