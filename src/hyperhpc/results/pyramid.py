"""The overviews of a run: its maps at reduced sizes, in ``overview.zarr``."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from hyperhpc.schema import FRACTION, NO_CLUSTER, NODATA_CAUSE, NOT_CLUSTERED, UNMIXING_RMSE

#: Longest side, in pixels, of an array that is drawn.
TARGET_PX = 1300
# A level whose longer side is below this is too coarse to draw if there is a finer one.
_COARSE_PX = 1000
# Counting the most frequent label takes one pass per cluster; with more clusters than this
# the central pixel of each block is taken.
_MAX_COUNTED_CLUSTERS = 32
#: Near-infrared reflectance that land in the sun has: water and deep shade have less.
LAND_NIR = 0.05
#: With a smaller share of land a scene is one of water, and its pictures are of water.
LAND_SHARE = 0.1

#: Edges on the map: left, right, bottom, top.
Extent = tuple[float, float, float, float]
FloatMap = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Pyramid:
    """Maps at several levels of reduction.

    ``levels``: Scene pixels on the side of one pixel of each level, finest first.
    ``indices``, ``models``, ``endmembers``: Names along the first dimension of ``indices``,
        ``cluster`` and ``fraction``.
    ``bounds``: Outer edges of the analysed area [xmin, ymin, xmax, ymax]; None if not recorded.
    ``quicklook_nm``: Band centres of the quicklook's colours, in nm.
    """

    group: zarr.Group
    levels: tuple[int, ...]
    indices: tuple[str, ...]
    models: tuple[str, ...]
    bounds: tuple[float, ...] | None
    quicklook_nm: tuple[float, ...]
    endmembers: tuple[str, ...] = ()

    @classmethod
    def from_group(cls, group: zarr.Group, run: dict[str, Any]) -> Pyramid | None:
        """The pyramid in a store; ``run`` (run.json) gives the names that it lacks.

        Returns: None if no level in the store has coordinates.
        """
        levels = sorted(int(k) for k in group.group_keys() if k.isdigit())
        levels = [n for n in levels if f"{n}/x" in group and f"{n}/y" in group]
        if not levels:
            return None
        finest: Any = group[str(levels[0])]
        computed = [str(i.get("name")) for i in (run.get("indices") or {}).get("computed") or []]
        models = (run.get("options") or {}).get("models") or []
        bounds = (run.get("area") or {}).get("bounds")
        wavelengths: Any = group.attrs.get("quicklook_wavelength_nm") or ()
        return cls(
            group,
            tuple(levels),
            tuple(_names(finest, "index", "indices", computed)),
            tuple(_names(finest, "model", "cluster", models)),
            tuple(bounds) if bounds else None,
            tuple(float(w) for w in wavelengths if w is not None),
            tuple(_names(finest, "endmember", FRACTION.name, ())),
        )

    def _array(self, level: int, name: str) -> zarr.Array[Any] | None:
        array = self.group.get(f"{level}/{name}")
        return array if isinstance(array, zarr.Array) else None

    def shape(self, level: int) -> tuple[int, int]:
        """Rows and columns of a level."""
        y, x = self._centres[level]
        return len(y), len(x)

    @cached_property
    def _centres(self) -> dict[int, list[npt.NDArray[Any]]]:
        """Coordinates (y, x) of the pixel centres of each level."""
        group: Any = self.group  # from_group has looked for them
        return {n: [np.asarray(group[f"{n}/{axis}"][:]) for axis in "yx"] for n in self.levels}

    @cached_property
    def level(self) -> int:
        """The level that whole maps are drawn from: the coarsest that fills a picture."""
        fills = (n for n in reversed(self.levels) if max(self.shape(n)) >= _COARSE_PX)
        return next(fills, self.levels[0])

    def extent(self, level: int) -> Extent:
        """Outer pixel edges of the whole array of a level."""
        return self._extent(level, *self.shape(level))

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

    def quicklook(self, colours: Sequence[int]) -> FloatMap | None:
        """Reflectance 0-1 (y, x, colour) at the drawing level, reduced to ``TARGET_PX``.

        ``colours``: Positions among red, green, blue and near infrared.

        Returns: float32, NaN where no-data; None if the store lacks one of these colours.
        """
        if len(self._colours) <= max(colours):
            return None
        return np.stack([self._colours[c] for c in colours], axis=-1)

    @cached_property
    def _colours(self) -> list[FloatMap]:
        """Every colour of the quicklook at the drawing level, reduced to ``TARGET_PX``."""
        array = self._array(self.level, "quicklook")
        if array is None:
            return []
        return [reduce_mean(np.asarray(array[c])) for c in range(array.shape[0])]

    @cached_property
    def colour_limits(self) -> list[tuple[float, float]]:
        """Reflectance drawn darkest and brightest for each colour of the quicklook.

        2 and 98 % of the valid values. Red, green and blue have the same limits, so that what
        reflects all three alike is grey and hues are kept; near infrared, in which leaves are
        several times brighter, has its own.
        """
        visible, infrared = _stretch(self._colours[:3]), self._colours[3:]
        return [visible] * min(3, len(self._colours)) + [_stretch([c]) for c in infrared]

    @cached_property
    def is_land(self) -> npt.NDArray[np.bool_] | None:
        """Pixels (y, x) of the quicklook that are neither water nor in deep shade.

        NDVI of at least 0 and near-infrared reflectance of at least ``LAND_NIR``. None if the
        store lacks a colour, or if less than ``LAND_SHARE`` of the valid pixels are land.
        """
        if len(self._colours) < 4:
            return None
        red, near = self._colours[0], self._colours[3]
        is_land = (near >= red) & (near >= LAND_NIR)
        n_valid = np.count_nonzero(np.isfinite(near))
        return is_land if np.count_nonzero(is_land) >= max(LAND_SHARE * n_valid, 1) else None

    def index(self, name: str) -> FloatMap | None:
        """One index (y, x) at the drawing level, not reduced further; NaN is missing."""
        array = self._array(self.level, "indices")
        if array is None or name not in self.indices:
            return None
        return np.asarray(array[self.indices.index(name)], dtype=np.float32)

    def fraction(self, layers: Sequence[int]) -> FloatMap | None:
        """Sum of fractions (y, x) at the drawing level, not reduced further; NaN is missing."""
        array = self._array(self.level, FRACTION.name)
        if array is None or not layers:
            return None
        parts = [np.asarray(array[layer], dtype=np.float32) for layer in layers]
        return np.sum(parts, axis=0, dtype=np.float32)

    def unmixing_rmse(self) -> FloatMap | None:
        """Residual of the fractions (y, x) at the drawing level; NaN is missing."""
        array = self._array(self.level, UNMIXING_RMSE.name)
        return None if array is None else np.asarray(array[:], dtype=np.float32)

    def cluster(self, model: str, n_clusters: int) -> npt.NDArray[np.uint8] | None:
        """Labels of one model (y, x), reduced by the most frequent label.

        255 is no-data, 254 a pixel that ``--where`` leaves out.
        """
        array = self._array(self.level, "cluster")
        if array is None or model not in self.models:
            return None
        labels = np.asarray(array[self.models.index(model)], dtype=np.uint8)
        return _reduce_mode(labels, n_clusters)

    @cached_property
    def nodata_causes(self) -> tuple[npt.NDArray[np.uint8], tuple[str, ...]] | None:
        """Why pixels have no data: codes (y, x), reduced by the most frequent, and their meanings.

        Code 0 means that there are data. None in overviews of an older version.
        """
        array = self._array(self.level, NODATA_CAUSE.name)
        meanings = tuple(str(array.attrs.get("flag_meanings") or "").split()) if array else ()
        if array is None or not meanings:
            return None
        return _reduce_mode(np.asarray(array[:], dtype=np.uint8), len(meanings)), meanings

    def window(self, level: int, rows: slice, cols: slice) -> FloatMap | None:
        """Red, green and blue of a small window of one level as (y, x, colour)."""
        array = self._array(level, "quicklook")
        if array is None or array.shape[0] < 3:
            return None
        return np.moveaxis(np.asarray(array[0:3, rows, cols], dtype=np.float32), 0, -1)


def _names(level: zarr.Group, coord: str, array: str, known: Sequence[str]) -> list[str]:
    """Names along the first dimension of an array, from its coordinate or else as known."""
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
    """Outer edges of ``n`` pixels along one axis, from the centres of the first two."""
    if len(centres) > 1:
        step = float(centres[1] - centres[0])
        first = float(centres[0]) - step / 2
        return first, first + n * step
    if known:  # the size of a single pixel does not follow from its centre
        return float(known[0]), float(known[1])
    return float(centres[0]) - level / 2, float(centres[0]) + level / 2


def _stretch(maps: Sequence[FloatMap]) -> tuple[float, float]:
    """2 and 98 % of the finite values of all maps together, never equal."""
    thin = [values.ravel()[:: max(1, values.size // 500_000)] for values in maps]
    together = np.concatenate(thin) if thin else np.empty(0, np.float32)
    finite = together[np.isfinite(together)]
    low, high = np.percentile(finite, (2, 98)) if finite.size else (0.0, 1.0)
    return widen_equal(float(low), float(high))


def widen_equal(low: float, high: float) -> tuple[float, float]:
    """Limits of colours, which must not be equal: by 5 % to both sides if they are."""
    pad = 0.0 if high > low else abs(low) * 0.05 or 0.05
    return low - pad, high + pad


def _factor(shape: tuple[int, ...]) -> int:
    """Pixels on the side of a block, so that an array of blocks has at most TARGET_PX."""
    return -(-max(shape[:2]) // TARGET_PX)


def _blocks(values: npt.NDArray[Any], k: int, fill: float) -> npt.NDArray[Any]:
    """View of (rows, k, cols, k) blocks, the last ones filled up."""
    pad = [(0, -n % k) for n in values.shape]
    if any(after for _, after in pad):
        values = np.pad(values, pad, constant_values=fill)
    return values.reshape(values.shape[0] // k, k, values.shape[1] // k, k)


def reduce_mean(values: npt.NDArray[Any]) -> FloatMap:
    """Mean over blocks so that the longer side is at most ``TARGET_PX``; NaN is left out."""
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


def _reduce_mode(labels: npt.NDArray[np.uint8], n_clusters: int) -> npt.NDArray[np.uint8]:
    """Most frequent label of each block; of equally frequent ones the lowest."""
    k = _factor(labels.shape)
    if k == 1:
        return labels
    if n_clusters > _MAX_COUNTED_CLUSTERS:
        return np.ascontiguousarray(labels[k // 2 :: k, k // 2 :: k])
    blocks = _blocks(labels, k, NO_CLUSTER)
    best = np.full((blocks.shape[0], blocks.shape[2]), NO_CLUSTER, np.uint8)
    most = np.zeros(best.shape, np.uint16)
    masked = (NOT_CLUSTERED,) if (labels == NOT_CLUSTERED).any() else ()
    for label in (NO_CLUSTER, *masked, *range(n_clusters)):
        count = np.zeros(best.shape, np.uint16)
        for i, j in itertools.product(range(k), repeat=2):  # as in reduce_mean
            count += blocks[:, i, :, j] == label
        is_more = (count > most) | ((count == most) & (best >= NOT_CLUSTERED))
        np.copyto(best, np.uint8(label), where=is_more & (count > 0))
        np.maximum(most, count, out=most)
    return best
