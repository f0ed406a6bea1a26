"""The maps that can be shown, in the colours and limits of the report."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hyperhpc.report import style
from hyperhpc.report.plots.fractions import measure_fraction
from hyperhpc.report.plots.index_maps import IndexMap, coloured, measure_index
from hyperhpc.report.plots.maps import colour_labels
from hyperhpc.schema import CLUSTER, FRACTION, INDICES, QUICKLOOK
from hyperhpc.tools.export.bands import index_entry
from hyperhpc.view.levels import Level, MapWindow, Viewport, choose_level, list_levels
from hyperhpc.view.viewed_run import ViewedRun

#: Positions of the quicklook's colours: true colour, colour infrared.
RGB, CIR = (0, 1, 2), (3, 0, 1)


@dataclass(frozen=True)
class MapLayer:
    """One map that can be shown.

    ``key``: Unique: ``rgb``, ``cir``, ``index:NAME``, ``cluster:MODEL``,
        ``fraction:GROUP``.
    ``title``: Text in the list of layers.
    ``variable``, ``positions``: The stored array, and positions along its first dimension; those
        of fractions are summed.
    """

    key: str
    title: str
    variable: str
    positions: tuple[int, ...]

    @property
    def name(self) -> str:
        """Name of the index, the model or the group; empty for colours."""
        return self.key.partition(":")[2]


class MapLayers:
    """All maps of a run; reads and colours windows of them."""

    def __init__(self, viewed: ViewedRun) -> None:
        self.viewed = viewed
        self._levels: dict[str, list[Level]] = {
            v.name: list_levels(viewed, v.name) for v in (QUICKLOOK, INDICES, CLUSTER, FRACTION)
        }
        self._index_maps: dict[str, IndexMap] = {}

    @cached_property
    def all(self) -> dict[str, MapLayer]:
        """Maps by key, in the order of the list on the page."""
        overview = self.viewed.overview
        layers = []
        n_colours = len(overview.quicklook_nm)
        if self._levels[QUICKLOOK.name] and n_colours >= 3:
            layers.append(MapLayer("rgb", "True colour", QUICKLOOK.name, RGB))
            if n_colours > 3:
                layers.append(MapLayer("cir", "Colour infrared", QUICKLOOK.name, CIR))
        entries = {name: index_entry(self.viewed.results, name) for name in overview.indices}
        layers += [
            MapLayer(f"index:{name}", entry.get("title", name.upper()), INDICES.name, (i,))
            for i, (name, entry) in enumerate(entries.items())
        ]
        layers += [
            MapLayer(f"cluster:{name}", f"Clusters, {name}", CLUSTER.name, (i,))
            for i, name in enumerate(overview.models)
        ]
        layers += [
            MapLayer(f"fraction:{name}", f"Fraction, {name}", FRACTION.name, positions)
            for name, positions in self.viewed.results.fraction_groups.items()
        ]
        return {layer.key: layer for layer in layers}

    def read(
        self, layer: MapLayer, viewport: Viewport, *, skip_scene: bool = False
    ) -> MapWindow | None:
        """Values of a map inside a viewport, as stored; None where they do not overlap.

        ``skip_scene``: Read the overview even where the scene is finer: this is fast.
        """
        levels = self._levels[layer.variable]
        if skip_scene:
            levels = [level for level in levels if not level.is_scene]
        chosen = choose_level(levels, viewport)
        return chosen[0].read_window(layer.positions, *chosen[1:]) if chosen else None

    def is_slow(self, layer: MapLayer, viewport: Viewport) -> bool:
        """True if this viewport is read from the scene."""
        chosen = choose_level(self._levels[layer.variable], viewport)
        return chosen is not None and chosen[0].is_scene

    def paint(self, layer: MapLayer, values: np.ndarray) -> np.ndarray:
        """Colours of values (position, y, x): uint8 RGBA (y, x, 4), transparent if missing."""
        if layer.variable == QUICKLOOK.name:
            known = self.viewed.overview.colour_limits
            limits = [known[position] for position in layer.positions]
            return style.rgba(np.moveaxis(values, 0, -1), limits)
        if layer.variable == CLUSTER.name:
            return colour_labels(values[0], style.model_colours(self.viewed.results, layer.name))
        if layer.variable == FRACTION.name:
            shown = self.fraction_map(layer.name)
            return coloured(values.sum(axis=0), shown.limits, shown.colours)
        index_map = self.index_map(layer.name)
        return coloured(values[0], index_map.limits, index_map.colours)

    def index_map(self, name: str) -> IndexMap:
        """Limits and colours of an index, as in the report; kept after the first call."""
        if name not in self._index_maps:
            found = measure_index(self.viewed.results, index_entry(self.viewed.results, name))
            assert found is not None
            self._index_maps[name] = found
        return self._index_maps[name]

    def fraction_map(self, name: str) -> IndexMap:
        """Limits and colours of the fraction of a group, as in the report; kept likewise."""
        key = f"fraction:{name}"
        if key not in self._index_maps:
            found = measure_fraction(self.viewed.results, name)
            assert found is not None
            self._index_maps[key] = found
        return self._index_maps[key]
