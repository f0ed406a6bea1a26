"""Reduced maps from ``overview.zarr``, at the size a picture can show."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

#: Longest side, in pixels, of an array handed to a drawing.
TARGET = 1300
# A level with a longer side below this is too coarse if there is a finer one.
_COARSE = 1000
# Mode by counting costs one pass per cluster; beyond this the nearest pixel is taken.
_MODE_CLUSTERS = 32

Extent = tuple[float, float, float, float]
FloatMap = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Overview:
    """The pyramid a run writes beside its results.

    Parameters
    ----------
    group
        Store with one group per level.
    levels
        Reduction factors, finest first.
    indices, models
        Names along the first dimension of ``indices`` and ``cluster``.
    """

    group: zarr.Group
    levels: tuple[int, ...]
    indices: tuple[str, ...]
    models: tuple[str, ...]
    bounds: Extent | None
    quicklook_nm: tuple[float, ...]

    @classmethod
    def of(cls, group: zarr.Group, run: dict[str, Any]) -> Overview | None:
        """The pyramid in a store, or None if it holds no level with coordinates."""
        levels = sorted(int(k) for k in group.group_keys() if k.isdigit())
        levels = [n for n in levels if f"{n}/x" in group and f"{n}/y" in group]
        if not levels:
            return None
        # Names come from the store, whose order they describe; run.json is the second source.
        level = group[str(levels[0])]
        assert isinstance(level, zarr.Group)
        asked = [str(i.get("name")) for i in (run.get("indices") or {}).get("computed") or []]
        indices = _names(level, "index", "indices", asked)
        models = _names(
            level, "model", "cluster", (run.get("options") or {}).get("models") or []
        )
        bounds = (run.get("area") or {}).get("bounds")
        wavelengths: Any = group.attrs.get("quicklook_wavelength_nm") or ()
        return cls(
            group,
            tuple(levels),
            tuple(indices),
            tuple(models),
            tuple(bounds) if bounds else None,
            tuple(float(w) for w in wavelengths if w is not None),
        )

    def names(self, kind: str) -> list[str]:
        """Names along the first dimension of ``indices`` or ``cluster``."""
        return list(self.indices if kind == "indices" else self.models)

    def _array(self, level: int, name: str) -> zarr.Array[Any] | None:
        group = self.group[str(level)]
        assert isinstance(group, zarr.Group)
        array = group.get(name)
        return array if isinstance(array, zarr.Array) else None

    def shape(self, level: int) -> tuple[int, int]:
        """Rows and columns of a level."""
        y, x = self._centres[level]
        return len(y), len(x)

    @cached_property
    def _centres(self) -> dict[int, tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
        found = {}
        for level in self.levels:
            y, x = self._array(level, "y"), self._array(level, "x")
            assert y is not None
            assert x is not None
            found[level] = np.asarray(y[:]), np.asarray(x[:])
        return found

    @cached_property
    def level(self) -> int:
        """The level to draw whole maps from: coarsest that still fills a picture."""
        fine = [n for n in self.levels if max(self.shape(n)) >= _COARSE]
        return fine[-1] if fine else self.levels[0]

    def extent(self, level: int) -> Extent:
        """Outer pixel edges (left, right, bottom, top) of a level's whole array."""
        rows, cols = self.shape(level)
        return self._extent(level, rows, cols)

    def drawn_extent(self, drawn: npt.NDArray[Any]) -> Extent:
        """Outer edges of an array reduced for drawing, whose last blocks may stick out."""
        k = _factor(self.shape(self.level))
        return self._extent(self.level, drawn.shape[0] * k, drawn.shape[1] * k)

    def _extent(self, level: int, rows: int, cols: int) -> Extent:
        y, x = self._centres[level]
        left, right = _edges(x[:2], cols, self.bounds and self.bounds[::2], level)
        # A north-up map falls from its first row, so the second bound comes first.
        known = self.bounds and (self.bounds[3], self.bounds[1])
        top, bottom = _edges(y[:2], rows, known, level)
        return left, right, bottom, top

    def quicklook(self, colours: Sequence[int], level: int | None = None) -> FloatMap | None:
        """Reflectance of some of red, green, blue, nir as (y, x, colour); NaN is no-data."""
        level = level or self.level
        array = self._array(level, "quicklook")
        if array is None or array.shape[0] <= max(colours):
            return None
        return np.stack([_mean(np.asarray(array[c])) for c in colours], axis=-1)

    def index(self, name: str) -> FloatMap | None:
        """One index as stored at the drawing level, not reduced further; NaN is missing."""
        array = self._array(self.level, "indices")
        if array is None or name not in self.indices:
            return None
        return np.asarray(array[self.indices.index(name)], dtype=np.float32)

    def cluster(self, model: str, n_clusters: int) -> npt.NDArray[np.uint8] | None:
        """Labels of one model (y, x); 255 is no cluster. Reduced by the most frequent label."""
        array = self._array(self.level, "cluster")
        if array is None or model not in self.models:
            return None
        labels = np.asarray(array[self.models.index(model)], dtype=np.uint8)
        return _mode(labels, n_clusters)

    def window(self, level: int, rows: slice, cols: slice) -> FloatMap | None:
        """Red, green, blue of a small window of one level as (y, x, colour)."""
        array = self._array(level, "quicklook")
        if array is None or array.shape[0] < 3:
            return None
        return np.moveaxis(np.asarray(array[0:3, rows, cols], dtype=np.float32), 0, -1)


def reduce_mean(values: FloatMap) -> FloatMap:
    """Mean of whole blocks so that the longer side is at most ``TARGET``; NaN is left out."""
    return _mean(values)


def _names(level: zarr.Group, coord: str, array: str, known: Sequence[str]) -> list[str]:
    if array not in level:
        return []
    data = level[array]
    assert isinstance(data, zarr.Array)
    stored = level.get(coord)
    names = [str(n) for n in np.asarray(stored[:])] if isinstance(stored, zarr.Array) else []
    for candidate in (names, [str(n) for n in known]):
        if len(candidate) == data.shape[0]:
            return candidate
    return [f"{coord} {i + 1}" for i in range(data.shape[0])]


def _edges(
    centres: npt.NDArray[Any], n: int, known: Sequence[float] | None, level: int
) -> tuple[float, float]:
    if len(centres) > 1:
        step = float(centres[1] - centres[0])
        first = float(centres[0]) - step / 2
        return first, first + n * step
    if known:  # one pixel only: its size is not in its centre
        return float(known[0]), float(known[1])
    return float(centres[0]) - level / 2, float(centres[0]) + level / 2


def _factor(shape: tuple[int, ...]) -> int:
    return -(-max(shape[:2]) // TARGET)


def _blocks(values: npt.NDArray[Any], k: int, fill: float) -> npt.NDArray[Any]:
    """View of (rows, k, cols, k) blocks, the last ones filled up."""
    rows, cols = (-(-n // k) * k for n in values.shape)
    if (rows, cols) != values.shape:
        pad = ((0, rows - values.shape[0]), (0, cols - values.shape[1]))
        values = np.pad(values, pad, constant_values=fill)
    return values.reshape(rows // k, k, cols // k, k)


def _mean(values: npt.NDArray[Any]) -> FloatMap:
    k = _factor(values.shape)
    values = values.astype(np.float32, copy=False)
    if k == 1:
        return values
    blocks = _blocks(values, k, np.nan)
    total = np.zeros((blocks.shape[0], blocks.shape[2]), np.float32)
    count = np.zeros_like(total)
    for i, j in itertools.product(range(k), repeat=2):  # strided passes beat a 4-d nanmean
        part = blocks[:, i, :, j]
        is_valid = np.isfinite(part)
        total += np.where(is_valid, part, 0)
        count += is_valid
    total[count == 0] = np.nan
    return np.divide(total, count, out=total, where=count > 0)


def _mode(labels: npt.NDArray[np.uint8], n_clusters: int) -> npt.NDArray[np.uint8]:
    k = _factor(labels.shape)
    if k == 1:
        return labels
    if n_clusters > _MODE_CLUSTERS:
        return np.ascontiguousarray(labels[k // 2 :: k, k // 2 :: k])
    blocks = _blocks(labels, k, 255)
    best = np.full((blocks.shape[0], blocks.shape[2]), 255, np.uint8)
    most = np.zeros(best.shape, np.uint16)
    for label in (255, *range(n_clusters)):  # a tie between data and no-data shows data
        count = np.zeros(best.shape, np.uint16)
        for i, j in itertools.product(range(k), repeat=2):  # as in _mean
            count += blocks[:, i, :, j] == label
        is_more = count >= most if label == 0 else count > most
        np.copyto(best, np.uint8(label), where=is_more & (count > 0))
        np.maximum(most, count, out=most)
    return best
