"""The page: a map to pan and zoom, its controls, and how they are kept in step."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import numpy as np
from bokeh.document import Document
from bokeh.document.locking import without_document_lock
from bokeh.events import ButtonClick, DoubleTap, RangesUpdate, Tap
from bokeh.models import ColumnDataSource

from hyperhpc.view import markup
from hyperhpc.view.controls import Controls
from hyperhpc.view.figures import THEME, MapFigure, SpectrumChart
from hyperhpc.view.layers import MapLayer, MapLayers
from hyperhpc.view.levels import MapWindow, Viewport
from hyperhpc.view.selected_points import SelectedPoints
from hyperhpc.view.viewed_run import READ_ERRORS, as_read_error

#: Seconds between two pictures while somebody pans or zooms.
_PAUSE_S = 0.08
#: Margin around the area when all of it is shown, as a share of its sides.
_MARGIN = 0.01
#: By this share a pixel may be drawn wider or higher than it is on the ground.
_MAX_SKEW = 0.01

#: Values of a window, and their colours.
Picture = tuple[MapWindow, np.ndarray]


class Page:
    """One browser's page, in the empty document of its session; sessions share the layers."""

    def __init__(self, document: Document, layers: MapLayers) -> None:
        self._document, self._layers, self._viewed = document, layers, layers.viewed
        results = self._viewed.results
        _, south, _, north = self._viewed.bounds
        metres = results.crs.metres_per_unit((south + north) / 2)
        self._aspect = metres / 111_320.0 if results.crs.is_degrees and metres else 1.0
        self._map = MapFigure(self._viewed.bounds, self._viewed.grid, results.crs)
        chart = SpectrumChart(results.good_ranges or [])
        self._controls = Controls(layers.all, self._map, chart)
        self._points = SelectedPoints(self._viewed, self._map, chart, self._controls)
        self._size, self._is_wanted, self._is_drawing = (0, 0), False, False

        figure, controls = self._map.figure, self._controls
        figure.on_event(RangesUpdate, lambda _: self._on_range_change())
        for tap in (Tap, DoubleTap):  # two pixels clicked quickly are a double tap to Bokeh
            figure.on_event(tap, lambda e: self._schedule(partial(self._points.add, e.x, e.y)))
        for side in ("inner_width", "inner_height"):
            figure.on_change(side, self._on_resize)
        controls.layer.on_change("value", lambda attr, old, new: self._on_layer_change())
        controls.opacity.on_change("value_throttled", lambda attr, old, new: self._redraw())
        controls.whole.on_event(ButtonClick, lambda _: self._show_whole_area())
        controls.clear.on_event(ButtonClick, lambda _: self._points.clear())

        controls.head.text = markup.heading(results, self._viewed.notes)
        self._points.update()
        document.title = f"{results.scene_name} - hyperhpc"
        document.template, document.theme = markup.TEMPLATE, THEME
        document.add_root(controls.layout)

    @property
    def _viewport(self) -> Viewport:
        x, y = self._map.figure.x_range, self._map.figure.y_range
        return Viewport(x.start, x.end, y.start, y.end, *self._size)

    def _set_viewport(self, viewport: Viewport) -> None:
        self._map.figure.x_range.update(start=viewport.x0, end=viewport.x1)
        self._map.figure.y_range.update(start=viewport.y0, end=viewport.y1)
        self._redraw()

    def _show_whole_area(self) -> None:
        xmin, ymin, xmax, ymax = self._viewed.bounds
        x, y = _MARGIN * (xmax - xmin), _MARGIN * (ymax - ymin)
        viewport = Viewport(xmin - x, xmax + x, ymin - y, ymax + y, *self._size)
        self._set_viewport(viewport.fitted(self._aspect))

    def _on_resize(self, side: str, _: int, pixels: int) -> None:
        """Keep centre and scale when the window of the browser gets another size."""
        old = self._size
        self._size = size = (pixels, old[1]) if side == "inner_width" else (old[0], pixels)
        if not all(size):
            return
        if not all(old):
            self._show_whole_area()
            return
        viewport = self._viewport
        half_x = (viewport.x1 - viewport.x0) * size[0] / old[0] / 2
        half_y = (viewport.y1 - viewport.y0) * size[1] / old[1] / 2
        self._set_viewport(viewport.resized(half_x, half_y, *size))

    def _on_range_change(self) -> None:
        if not all(self._size):
            return
        viewport = self._viewport
        fitted = viewport.fitted(self._aspect)
        wider = (fitted.x1 - fitted.x0) / (viewport.x1 - viewport.x0)
        higher = (fitted.y1 - fitted.y0) / (viewport.y1 - viewport.y0)
        if max(wider, higher) > 1 + _MAX_SKEW:
            self._set_viewport(fitted)
        else:
            self._redraw()

    def _on_layer_change(self) -> None:
        self._redraw()
        self._points.update()  # the means are those of the model on the map

    def _redraw(self) -> None:
        self._is_wanted = True
        if not self._is_drawing and all(self._size):
            self._is_drawing = True
            self._schedule(self._draw)

    @without_document_lock
    async def _draw(self) -> None:
        """Draw until nothing has changed since the last picture."""
        try:
            while self._is_wanted:
                self._is_wanted = False
                await self._draw_once()
                await asyncio.sleep(_PAUSE_S)
        finally:
            self._is_drawing = False

    async def _draw_once(self) -> None:
        viewport, layer = self._viewport, self._layers.all[self._controls.layer.value]
        layers = [layer]
        if layer.key != "rgb" and self._controls.opacity.value < 1:
            layers.insert(0, self._layers.all.get("rgb", layer))
        # First the overview, which is fast; then the scene, if it is finer
        is_slow = any(self._layers.is_slow(item, viewport) for item in layers)
        for skip_scene in (True, False) if is_slow else (True,):
            try:
                pictures = await asyncio.to_thread(self._read, layers, viewport, skip_scene)
                legend = await asyncio.to_thread(self._legend, layer)
            except READ_ERRORS as error:
                reason = as_read_error(error, self._viewed.results.folder.out)
                self._schedule(partial(self._controls.show_message, reason))
                return
            self._schedule(partial(self._show, pictures, legend))
            if self._is_wanted:
                return

    def _read(
        self, layers: list[MapLayer], viewport: Viewport, skip_scene: bool
    ) -> dict[str, Picture | None]:
        """Pictures of maps by key."""
        pictures: dict[str, Picture | None] = {}
        for layer in layers:
            window = self._layers.read(layer, viewport, skip_scene=skip_scene)
            pictures[layer.key] = (
                (window, self._layers.paint(layer, window.values)) if window else None
            )
        return pictures

    def _show(self, pictures: dict[str, Picture | None], legend: str) -> None:
        below = pictures.get("rgb")
        above = next((p for key, p in pictures.items() if key != "rgb"), None)
        _fill(self._map.base, below)
        _fill(self._map.top, above)
        self._controls.legend.text = legend
        self._controls.opacity.disabled = list(pictures) == ["rgb"]
        message = "The area is outside this window"
        if main := above or below:
            step = main[0].step
            every = "every pixel" if step == 1 else f"1/{step} of the resolution"
            message = f"Shown from {main[0].source}, {every}"
        self._controls.show_message(message)

    def _legend(self, layer: MapLayer) -> str:
        if layer.key.startswith("cluster:"):
            return markup.cluster_legend(self._viewed.results, layer.name)
        if layer.key.startswith("index:"):
            return markup.index_legend(self._layers.index_map(layer.name))
        if layer.key.startswith("fraction:"):
            return markup.index_legend(self._layers.fraction_map(layer.name))
        names = ("red", "green", "blue", "near infrared")
        nm = self._viewed.overview.quicklook_nm
        at = layer.positions
        return markup.colour_legend([nm[i] for i in at], [names[i] for i in at])

    def _schedule(self, callback: Any) -> None:
        self._document.add_next_tick_callback(callback)


def _fill(source: ColumnDataSource, picture: Picture | None) -> None:
    if picture is None:
        source.data = {name: [] for name in source.data}
        return
    window, colours = picture
    left, bottom, width, height = window.extent
    # Bokeh counts rows from below, and takes the four bytes of a pixel as one number
    image = np.ascontiguousarray(colours[::-1]).view(np.uint32)[..., 0]
    values = {"image": image, "x": left, "y": bottom, "dw": width, "dh": height}
    source.data = {name: [value] for name, value in values.items()}
