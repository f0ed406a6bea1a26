"""What can be shown, in the colours and limits of the report."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from hyperhpc.report.index_maps import IndexMap, coloured, measure_index
from hyperhpc.report.maps import colour_labels
from hyperhpc.report.sheet import rgba, stretch
from hyperhpc.schema import CLUSTER, INDICES, QUICKLOOK
from hyperhpc.view.levels import Level, Piece, View, all_levels, choose_level
from hyperhpc.view.viewed_run import Opened

#: Positions of the quicklook's colours: true colour, colour infrared.
RGB, CIR = (0, 1, 2), (3, 0, 1)


@dataclass(frozen=True)
class Layer:
    """One thing that can be shown.

    Attributes
    ----------
    key
        Unique: ``rgb``, ``cir``, ``index:NAME``, ``cluster:MODEL``.
    title
        For people.
    variable, positions
        The map it is drawn from, and which of its layers.
    """

    key: str
    title: str
    variable: str
    positions: tuple[int, ...]

    @property
    def name(self) -> str:
        """Of the index or the model."""
        return self.key.partition(":")[2]


class Layers:
    """All layers of a run, and how a window of one is read and coloured.

    Attributes
    ----------
    opened
        The run.
    """

    def __init__(self, opened: Opened) -> None:
        self.opened = opened
        self._levels: dict[str, list[Level]] = all_levels(opened)
        self._measured: dict[str, IndexMap] = {}

    @cached_property
    def all(self) -> dict[str, Layer]:
        """By key, in the order they are offered."""
        overview = self.opened.outputs.pyramid
        assert overview is not None
        layers = []
        n_colours = len(overview.quicklook_nm)
        if self._levels[QUICKLOOK.name] and n_colours >= 3:
            layers.append(Layer("rgb", "True colour", QUICKLOOK.name, RGB))
            if n_colours > 3:
                layers.append(Layer("cir", "Colour infrared", QUICKLOOK.name, CIR))
        layers += [
            Layer(f"index:{name}", self._entry(name)["title"], INDICES.name, (i,))
            for i, name in enumerate(overview.indices)
        ]
        layers += [
            Layer(f"cluster:{name}", f"Clusters, {name}", CLUSTER.name, (i,))
            for i, name in enumerate(overview.models)
        ]
        return {layer.key: layer for layer in layers}

    def read(self, layer: Layer, view: View, *, quick: bool = False) -> Piece | None:
        """The part of a layer that a view shows, values as stored.

        Parameters
        ----------
        quick
            From the overview, where the scene would take its time.
        """
        levels = self._levels[layer.variable]
        if quick:
            levels = [level for level in levels if level.cost is None]
        chosen = choose_level(levels, view)
        return chosen[0].piece(layer.positions, *chosen[1:]) if chosen else None

    def is_slow(self, layer: Layer, view: View) -> bool:
        """True if this view is read from the scene."""
        chosen = choose_level(self._levels[layer.variable], view)
        return chosen is not None and chosen[0].cost is not None

    def paint(self, layer: Layer, values: np.ndarray) -> np.ndarray:
        """Colours of values (layer, y, x): RGBA, uint8 (y, x, 4), transparent where none."""
        if layer.variable == QUICKLOOK.name:
            limits = [self.colour_limits[position] for position in layer.positions]
            return rgba(np.moveaxis(values, 0, -1), limits)
        if layer.variable == CLUSTER.name:
            return colour_labels(values[0], self.opened.outputs.n_clusters(layer.name))
        measured = self.measured(layer.name)
        return coloured(values[0], measured.limits, measured.colours)

    @cached_property
    def colour_limits(self) -> list[tuple[float, float]]:
        """Reflectance that is black and full, of each colour of the quicklook."""
        overview = self.opened.outputs.pyramid
        assert overview is not None
        n_colours = min(4, len(overview.quicklook_nm))
        quicklook = overview.quicklook(tuple(range(n_colours)))
        assert quicklook is not None
        return stretch(quicklook)

    def measured(self, name: str) -> IndexMap:
        """Limits and colours of an index, as in the report; measured when first asked."""
        if name not in self._measured:
            found = measure_index(self.opened.outputs, self._entry(name))
            assert found is not None
            self._measured[name] = found
        return self._measured[name]

    def _entry(self, name: str) -> dict[str, Any]:
        known = {str(e["name"]): e for e in self.opened.outputs.computed}
        return {"name": name, "title": name.upper()} | known.get(name, {})
