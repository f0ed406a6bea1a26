"""Nearest centres, fast and exact.

For integer scenes the label of a pixel is *defined* by scores in integer arithmetic:
weights are rounded to integers small enough that every sum stays below 2**53, so a
float64 product gives the same value in any order, on any machine. A float32 product is
used first; only pixels whose two best scores lie closer than its error bound are scored
again. The labels are therefore the same bits for any tile, block, thread or processor.

Float scenes take the same road with float64 scores, and a sum of fixed order for the
pixels near a tie.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from hyperhpc.analysis.bands import band_runs

#: Pixels per block: centred DN and scores stay in the second-level cache.
BLOCK = 1024
#: Rows of one one-hot product: 256 * 65535 < 2**24, so float32 sums are exact.
SLICE = 256


@dataclass(frozen=True)
class Scaler:
    """Standard scaling, in digital numbers.

    Attributes
    ----------
    mean, scale
        float64 (band): mean and population standard deviation of the sample, in DN.
    is_integer
        True if the DN are integers.
    """

    mean: np.ndarray
    scale: np.ndarray
    is_integer: bool

    @property
    def offset(self) -> np.ndarray:
        """The rounded mean (band); subtracting it from integer DN is exact."""
        return np.rint(self.mean) if self.is_integer else self.mean

    def transform(self, dn: np.ndarray) -> np.ndarray:
        """Scaled values, float64: (DN - mean) / scale, for estimators not our own."""
        scaled = dn.astype(np.float64)
        scaled -= self.mean
        scaled /= self.scale
        return scaled


class Scorer:
    """Labels of pixels for one set of centres.

    Parameters
    ----------
    centres
        float64 (cluster, band), DN. At most 255 clusters.
    scaler
        The scaling under which distances are taken.
    """

    def __init__(self, centres: np.ndarray, scaler: Scaler) -> None:
        n_clusters, n_bands = centres.shape
        self.n_clusters, self.scaler = n_clusters, scaler
        self.dtype = np.dtype(np.float32 if scaler.is_integer else np.float64)
        self.offset = scaler.offset.astype(self.dtype)
        # |x - c|^2 without |x|^2: x.W + b, with x and c relative to the offset
        centred = centres - scaler.offset
        weights = -2.0 * centred / scaler.scale**2
        biases = np.array([math.fsum(row) for row in (centred / scaler.scale) ** 2])
        if scaler.is_integer:
            # |x| < 2**17, so that n_bands * 2**17 * 2**bits + bias stays below 2**53
            bits = 53 - 17 - 1 - math.ceil(math.log2(n_bands + 1))
            largest = float(np.abs(weights).max()) or 1.0
            factor = math.ldexp(1.0, bits - math.frexp(largest)[1])
            weights, biases = np.rint(weights * factor), np.rint(biases * factor)
        self._exact_weights, self._exact_biases = weights, biases
        self._weights = np.ascontiguousarray(weights, dtype=self.dtype)
        self._biases = biases
        self._bound_weights = np.abs(weights).max(axis=0).astype(self.dtype)
        # Rounding of n products and sums in any order, of the weights and of the bias
        unit = 2.0**-24 if scaler.is_integer else 2.0**-53
        self._gamma = 1.05 * (n_bands + 4) * unit
        self._bias_error = float(np.abs(biases).max()) * 4 * unit

    def label(self, centred: np.ndarray) -> np.ndarray:
        """Number of the nearest centre; the lower number wins a tie.

        Parameters
        ----------
        centred
            DN minus ``offset`` (pixel, band), of dtype ``self.dtype``, C-contiguous.

        Returns
        -------
        uint8 (pixel).
        """
        scores = (self._weights @ centred.T).astype(np.float64, copy=False)
        scores += self._biases[:, None]
        labels = np.zeros(len(centred), dtype=np.uint8)
        best = scores[0].copy()
        second = np.full(len(centred), np.inf)
        for k in range(1, self.n_clusters):
            is_better = scores[k] < best
            np.minimum(second, np.maximum(scores[k], best), out=second)
            np.minimum(best, scores[k], out=best)
            labels[is_better] = k
        bound = np.abs(centred) @ self._bound_weights
        near = np.flatnonzero(second - best <= 2 * self._gamma * bound + 2 * self._bias_error)
        if near.size:
            labels[near] = self._label_near(centred[near].astype(np.float64))
        return labels

    def _label_near(self, centred: np.ndarray) -> np.ndarray:
        if self.scaler.is_integer:  # exact whatever the order of the sum
            scores = centred @ self._exact_weights.T
        else:  # not exact, but of one order that does not depend on the neighbours
            scores = np.stack([(centred * w).sum(axis=1) for w in self._exact_weights], axis=1)
        return np.argmin(scores + self._exact_biases, axis=1).astype(np.uint8)


def valid_pixels(
    dn: np.ndarray, nodata: Sequence[float], bands: np.ndarray | None = None
) -> np.ndarray:
    """Bool (pixel): True where no good band is no-data.

    Parameters
    ----------
    dn
        DN (pixel, band).
    nodata
        DN that mark a missing value; in float scenes values that are not finite do too.
    bands
        Positions of the good bands in ``dn``; None if it holds good bands only.
    """
    is_float = np.issubdtype(dn.dtype, np.floating)
    marks = [v for v in nodata if is_float or _fits(v, dn.dtype)]
    is_valid = np.ones(len(dn), dtype=bool)
    for low, high in band_runs(np.arange(dn.shape[1]) if bands is None else bands):
        run = dn[:, low:high]
        if is_float:
            is_valid &= np.isfinite(run).all(axis=1)
        for value in marks:
            # The minimum is many times faster than a comparison of all, and the ignore
            # value is nearly always below everything else
            suspects = np.flatnonzero(~(run.min(axis=1) > value) & is_valid)
            if suspects.size:
                stored = dn.dtype.type(value)
                is_valid[suspects[(run[suspects] == stored).any(axis=1)]] = False
    return is_valid


def _fits(value: float, dtype: np.dtype) -> bool:
    info = np.iinfo(dtype)
    return float(value).is_integer() and info.min <= value <= info.max


def centred_blocks(
    dn: np.ndarray, scaler: Scaler, bands: np.ndarray | None = None
) -> Iterator[tuple[slice, np.ndarray]]:
    """Pixels in blocks, cast and with the offset subtracted, in one reused buffer.

    Parameters
    ----------
    dn
        DN (pixel, band).
    scaler
        Gives the offset and the dtype (float32 for integers, for which this is exact).
    bands
        Positions of the good bands in ``dn``; None if it holds good bands only.

    Yields
    ------
    The slice of pixels, and the block (pixel, good band): valid until the next one.
    """
    n_bands = len(scaler.mean)
    runs = band_runs(np.arange(n_bands) if bands is None else bands)
    dtype = np.dtype(np.float32 if scaler.is_integer else np.float64)
    buffer = np.empty((min(BLOCK, max(len(dn), 1)), n_bands), dtype=dtype)
    offset = scaler.offset.astype(dtype)
    for start in range(0, len(dn), BLOCK):
        rows = slice(start, min(start + BLOCK, len(dn)))
        block, column = buffer[: rows.stop - start], 0
        for low, high in runs:
            block[:, column : column + high - low] = dn[rows, low:high]
            column += high - low
        block -= offset
        yield rows, block


def label_pixels(
    dn: np.ndarray, scorers: Sequence[Scorer], bands: np.ndarray | None = None
) -> np.ndarray:
    """Labels (model, pixel), uint8, of DN (pixel, band) for several models at once."""
    labels = np.empty((len(scorers), len(dn)), dtype=np.uint8)
    if scorers:
        for rows, block in centred_blocks(dn, scorers[0].scaler, bands):
            for m, scorer in enumerate(scorers):
                labels[m, rows] = scorer.label(block)
    return labels


@dataclass
class ClusterSums:
    """Pixels and band sums of each cluster; exact for integer scenes, whatever the order.

    Attributes
    ----------
    counts
        int64 (cluster).
    sums
        Sums of DN minus offset (cluster, band): int64, or float64 for float scenes.
    """

    counts: np.ndarray
    sums: np.ndarray

    def __add__(self, other: ClusterSums) -> ClusterSums:
        return ClusterSums(self.counts + other.counts, self.sums + other.sums)


def sum_clusters(dn: np.ndarray, scorer: Scorer) -> ClusterSums:
    """Label pixels and add them up by cluster, in one sweep.

    Parameters
    ----------
    dn
        Valid pixels, good bands only (pixel, band).
    """
    n_clusters, n_bands = scorer.n_clusters, len(scorer.offset)
    counts = np.zeros(n_clusters, dtype=np.int64)
    sums = np.zeros((n_clusters, n_bands), dtype=np.float64)
    one_hot = np.empty((n_clusters, SLICE), dtype=scorer.dtype)
    numbers = np.arange(n_clusters, dtype=np.uint8)[:, None]
    for _, block in centred_blocks(dn, scorer.scaler):
        labels = scorer.label(block)
        counts += np.bincount(labels, minlength=n_clusters)
        for start in range(0, len(block), SLICE):
            part = block[start : start + SLICE]
            hot = one_hot[:, : len(part)]
            np.equal(labels[start : start + SLICE], numbers, out=hot)
            sums += hot @ part  # exact: whole numbers below 2**24, added below 2**53
    return ClusterSums(counts, sums.astype(np.int64) if scorer.scaler.is_integer else sums)
