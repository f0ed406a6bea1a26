"""Exact quantiles of float32 values in groups, which are given in parts of any size and order.

Three passes over the values find the bits of each order statistic, first those that weigh
most: a histogram of 2048 bins per group for the first 11 bits, then of the bins that hold a
wanted rank for the next 11, and for the last 10. So the memory is that of some histograms,
and the quantiles depend neither on the parts nor on their order.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

#: Shift and number of the bits that each pass looks at.
_PASSES = ((21, 11), (10, 11), (0, 10))
#: Values handled at a time: their keys and slots stay in the cache of a core.
_PIECE = 2**17
QUARTILES = (0.25, 0.5, 0.75)


class GroupQuantiles:
    """Quantiles of each group, by linear interpolation between order statistics.

    This is definition 7 of Hyndman and Fan (1996, The American Statistician 50, 361-365,
    doi:10.1080/00031305.1996.10473566), numpy's default. Give all values to :meth:`add`, call
    :meth:`end_pass`, and do both ``n_passes`` times.
    """

    n_passes = len(_PASSES)

    def __init__(self, n_groups: int, shares: Sequence[float] = QUARTILES) -> None:
        self._shares = np.array(shares)
        self._tables: list[np.ndarray] = []  # by pass: from slot and bits to the next slot, or -1
        self._ranks = np.zeros((n_groups, 2 * len(shares)), np.int64)
        self._keys = np.zeros(self._ranks.shape, np.uint32)
        self._slots = np.repeat(np.arange(n_groups)[:, None], self._ranks.shape[1], axis=1)
        self._counts = np.zeros((n_groups, 1 << _PASSES[0][1]), np.int64)
        #: Number of values in each group, int64, after the first pass.
        self.n = np.zeros(n_groups, np.int64)

    def add(self, values: np.ndarray, groups: np.ndarray) -> None:
        """Add values (pixel), float32 and finite, and the number of the group of each."""
        for start in range(0, len(values), _PIECE):
            piece = slice(start, start + _PIECE)
            self._add_piece(values[piece], groups[piece])

    def _add_piece(self, values: np.ndarray, groups: np.ndarray) -> None:
        keys, slots = _to_keys(values), groups.astype(np.int64)
        for (shift, bits), table in zip(_PASSES, self._tables, strict=False):
            slots = table[slots, _cut(keys, shift, bits)]
            is_wanted = slots >= 0
            keys, slots = keys[is_wanted], slots[is_wanted]
        n_bins = self._counts.shape[1]
        slots *= n_bins
        slots += _cut(keys, *_PASSES[len(self._tables)])
        counts = np.bincount(slots, minlength=self._counts.size)
        self._counts += counts.reshape(self._counts.shape)

    def end_pass(self) -> None:
        """Find the next bits of each order statistic."""
        n_bins = self._counts.shape[1]
        until = np.cumsum(self._counts, axis=1)
        if not self._tables:
            self.n = until[:, -1]
            below = np.floor(self._positions()).astype(np.int64)
            above = np.minimum(below + 1, np.maximum(self.n - 1, 0)[:, None])
            self._ranks = np.concatenate([below, above], axis=1)
        bins = np.array([
            [min(np.searchsorted(until[slot], rank, "right"), n_bins - 1) for slot, rank in pairs]
            for pairs in np.stack([self._slots, self._ranks], axis=-1)
        ]).reshape(self._ranks.shape)  # fmt: skip
        before = np.where(bins > 0, until[self._slots, np.maximum(bins - 1, 0)], 0)
        self._ranks = self._ranks - before
        bits = _PASSES[len(self._tables)][1]
        self._keys = (self._keys << np.uint32(bits)) | bins.astype(np.uint32)
        codes, places = np.unique(self._slots * n_bins + bins, return_inverse=True)
        table = np.full(self._counts.size, -1, np.int64)
        table[codes] = np.arange(len(codes))
        self._tables.append(table.reshape(self._counts.shape))
        self._slots = places.reshape(self._slots.shape)
        if len(self._tables) < self.n_passes:
            self._counts = np.zeros((len(codes), 1 << _PASSES[len(self._tables)][1]), np.int64)

    def values(self) -> np.ndarray:
        """Quantiles (share, group), float64; NaN where a group has no value."""
        below, above = np.split(_from_keys(self._keys).astype(np.float64), 2, axis=1)
        positions = self._positions()
        found = below + (above - below) * (positions - np.floor(positions))
        return np.where(self.n[:, None] > 0, found, np.nan).T

    def _positions(self) -> np.ndarray:
        """Position (group, share) of each quantile among the sorted values, from 0."""
        return np.maximum(self.n - 1, 0)[:, None] * self._shares


def _cut(keys: np.ndarray, shift: int, bits: int) -> np.ndarray:
    return ((keys >> np.uint32(shift)) & np.uint32((1 << bits) - 1)).astype(np.int64)


def _to_keys(values: np.ndarray) -> np.ndarray:
    """Whole numbers, uint32, in the order of float32 values."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return np.where(bits >> np.uint32(31), ~bits, bits | np.uint32(1 << 31))


def _from_keys(keys: np.ndarray) -> np.ndarray:
    is_positive = (keys >> np.uint32(31)).astype(bool)
    bits = np.where(is_positive, keys & np.uint32((1 << 31) - 1), ~keys)
    return bits.astype(np.uint32).view(np.float32)
