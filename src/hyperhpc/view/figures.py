"""The map and the chart of the page, as Bokeh figures without their data."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from bokeh.models import (
    BasicTickFormatter,
    BoxAnnotation,
    BoxZoomTool,
    ColumnDataSource,
    CrosshairTool,
    HoverTool,
    ImageRGBA,
    PanTool,
    Range1d,
    ResetTool,
    ScaleBar,
    WheelZoomTool,
)
from bokeh.plotting import figure
from bokeh.themes import Theme

from hyperhpc.report import style
from hyperhpc.scene import Grid
from hyperhpc.scene.georef import MapCrs

#: Bokeh draws a dotted frame around a figure that has been clicked.
_NO_OUTLINE = ".bk-Canvas { --highlight-color: transparent; }"
#: Fonts and colours of both figures.
THEME = Theme(Path(__file__).with_name("theme.yaml"))
#: Pixels along a side of the map at the closest zoom.
_MIN_PIXELS = 6


def _empty(name: str, columns: str) -> ColumnDataSource:
    return ColumnDataSource({column: [] for column in columns.split()}, name=name)


class MapFigure:
    """The map: a picture below, a layer above it, the points on top.

    ``figure``: The Bokeh figure.
    ``base``, ``top``: Pictures; columns image, x, y, dw, dh.
    ``glyph``: Glyph of the upper picture; its ``global_alpha`` is the opacity.
    ``points``: Marks of the clicked pixels; columns x, y, name, color.
    """

    def __init__(self, bounds: list[float], grid: Grid, crs: MapCrs) -> None:
        xmin, ymin, xmax, ymax = bounds
        wheel = WheelZoomTool(zoom_on_axis=False)
        pan = PanTool()
        self.figure = figure(
            name="map",
            x_range=Range1d(xmin, xmax, min_interval=_MIN_PIXELS * grid.px),
            y_range=Range1d(ymin, ymax, min_interval=_MIN_PIXELS * grid.py),
            tools=[pan, wheel, BoxZoomTool(match_aspect=True)],
            active_scroll=wheel,
            active_drag=pan,
            toolbar_location="right",
            sizing_mode="stretch_both",
            min_width=320,
            min_height=240,
            background_fill_color=style.NODATA,
            outline_line_color="#8a939d",
            lod_threshold=None,
        )
        self.figure.stylesheets = [_NO_OUTLINE]
        self.figure.grid.visible = False
        for axis, name in ((self.figure.xaxis, "x"), (self.figure.yaxis, "y")):
            axis.formatter = BasicTickFormatter(use_scientific=False)
            axis.ticker.desired_num_ticks = 4 if name == "x" else 3
            axis.axis_label = None if crs.kind == "unknown" else _axis_label(crs, name)
        self.figure.yaxis.major_label_orientation = "vertical"
        self.base, self.top = (_empty(name, "image x y dw dh") for name in ("base", "top"))
        self.figure.add_glyph(self.base, ImageRGBA(image="image"))
        self.glyph = ImageRGBA(image="image")
        self.figure.add_glyph(self.top, self.glyph)
        self.points = _empty("marks", "x y name color")
        self.figure.scatter(
            "x", "y", source=self.points, size=11, fill_color="color", line_color="white",
            line_width=1.8, level="overlay",
        )  # fmt: skip
        self.figure.text(
            "x", "y", "name", source=self.points, x_offset=9, y_offset=-7, level="overlay",
            text_color=style.INK, text_font_size="12px", text_font_style="bold",
            background_fill_color="white", background_fill_alpha=0.8, padding=2, border_radius=2,
        )  # fmt: skip
        if crs.kind == "projected" and crs.unit_m == 1:  # the scale bar of Bokeh counts metres
            bar = {"unit": "m", "bar_length": 0.16, "bar_length_units": "percent"}
            self.figure.add_layout(
                ScaleBar(range=self.figure.x_range, location="bottom_left", **bar)
            )


def _axis_label(crs: MapCrs, name: str) -> str:
    if crs.is_degrees:
        return {"x": "Longitude (\u00b0)", "y": "Latitude (\u00b0)"}[name]
    return {"x": "Easting (m)", "y": "Northing (m)"}[name] if crs.unit_m == 1 else name


class SpectrumChart:
    """Reflectance against wavelength: spectra, and behind them the means of their clusters.

    ``figure``: The Bokeh figure.
    ``spectra``, ``means``: Columns nm, reflectance (a list of numbers each), color, name.
    ``good_ranges``: Ranges (nm) of good bands; what lies between them is shaded.
    """

    def __init__(self, good_ranges: Sequence[Sequence[float]]) -> None:
        columns = "nm reflectance color name"
        self.spectra, self.means = (_empty(name, columns) for name in ("spectra", "means"))
        self.figure = figure(
            name="chart",
            height=250,
            sizing_mode="stretch_width",
            tools=[PanTool(), WheelZoomTool(), BoxZoomTool(), ResetTool()],
            toolbar_location="above",
            outline_line_color=None,
            x_axis_label="Wavelength (nm)",
            y_axis_label="Reflectance",
            title=" ",
        )
        self.figure.stylesheets = [_NO_OUTLINE]
        self.figure.toolbar.autohide = True
        self.figure.xgrid.visible = False
        self.figure.ygrid.grid_line_color = "#e4e7ea"
        for (_, left), (right, _) in pairwise(good_ranges):
            self.figure.add_layout(
                BoxAnnotation(left=left, right=right, fill_color=style.SHADE, line_color=None,
                              level="underlay", propagate_hover=True)
            )  # fmt: skip
        if good_ranges:  # the axis begins at zero or below
            ends = [good_ranges[0][0], good_ranges[-1][1]]
            self.figure.line(ends, [0, 0], color="#aab1b9", level="underlay")
        how = {"xs": "nm", "ys": "reflectance", "line_color": "color", "line_join": "round"}
        self.figure.multi_line(source=self.means, line_width=7, line_alpha=0.28, **how)
        lines = self.figure.multi_line(source=self.spectra, line_width=1.6, **how)
        self.figure.add_tools(
            HoverTool(
                renderers=[lines],
                tooltips=[("", "@name"), ("nm", "$x{0}"), ("reflectance", "$y{0.0000}")],
                line_policy="nearest",
            ),
            CrosshairTool(dimensions="height", line_color="#8a939d", line_alpha=0.6),
        )
