"""The pixels that were clicked: marks on the map, lines, table and file."""

from __future__ import annotations

import asyncio

from hyperhpc.view import looks
from hyperhpc.view.controls import Controls
from hyperhpc.view.figures import Chart, Map
from hyperhpc.view.opened import UNREADABLE, Opened, explain
from hyperhpc.view.points import Point, line_of, mean_of, read_point, spectra_csv


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
        if len(self._points) == len(looks.point_colours()):
            self._controls.tell(f"{len(self._points)} points are compared at most; clear them")
            return
        try:
            point = await asyncio.to_thread(read_point, self._opened, x, y)
        except UNREADABLE as error:
            self._controls.tell(explain(error, self._opened.outputs.path))
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
        points, colours = self._points, looks.point_colours()
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
        self._controls.table.text = looks.points_table(self._opened.outputs, points)
        self._controls.offer(spectra_csv(points))
