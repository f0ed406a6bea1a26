"""The pixels that were clicked: marks on the map, curves, table and CSV."""

from __future__ import annotations

import asyncio

from hyperhpc.view import markup
from hyperhpc.view.controls import Controls
from hyperhpc.view.figures import MapFigure, SpectrumChart
from hyperhpc.view.points import Point, cluster_mean_curve, read_point, spectra_csv, spectrum_curve
from hyperhpc.view.viewed_run import READ_ERRORS, ViewedRun, as_read_error


class SelectedPoints:
    """The clicked pixels of one browser's page, and where they are shown."""

    def __init__(
        self, viewed: ViewedRun, map_figure: MapFigure, chart: SpectrumChart, controls: Controls
    ) -> None:
        self._viewed, self._map, self._chart, self._controls = viewed, map_figure, chart, controls
        self._points: list[Point] = []

    async def add(self, x: float, y: float) -> None:
        """Add the pixel at a position in the CRS, if it is in the area and there is room."""
        most = len(markup.point_colours())
        if len(self._points) == most:
            self._controls.show_message(f"At most {most} points can be compared; clear them")
            return
        try:
            point = await asyncio.to_thread(read_point, self._viewed, x, y)
        except READ_ERRORS as error:
            self._controls.show_message(as_read_error(error, self._viewed.results.folder.out))
            return
        if point and (point.row, point.col) not in [(p.row, p.col) for p in self._points]:
            self._points.append(point)
            self.update()

    def clear(self) -> None:
        """Remove all points."""
        self._points = []
        self.update()

    def update(self) -> None:
        """Write marks, curves, table and CSV from the list of points."""
        points, colours = self._points, markup.point_colours()
        names = [f"P{i + 1}" for i in range(len(points))]
        drawn = {"color": colours[: len(points)], "name": names}
        self._map.points.data = {"x": [p.x for p in points], "y": [p.y for p in points]} | drawn
        # Means are those of the model on the map, or of the first model
        model = self._controls.layer.value.partition("cluster:")[2]
        model = model or next(iter(self._viewed.results.models), "")
        spectra = [spectrum_curve(self._viewed, point) for point in points]
        means = [
            cluster_mean_curve(self._viewed, model, point.labels.get(model)) for point in points
        ]
        for source, curves in ((self._chart.spectra, spectra), (self._chart.means, means)):
            nm, reflectance = ([curve[i] for curve in curves] for i in (0, 1))
            source.data = {"nm": nm, "reflectance": reflectance} | drawn
        self._chart.figure.title.text = f"Wide line: mean of the pixel's cluster ({model})"
        self._chart.figure.visible = bool(points)
        self._controls.table.text = markup.points_table(self._viewed.results, points)
        self._controls.set_csv(spectra_csv(points))
