"""Labels of the nearest centre, fast and exact.

For integer scenes the label of a pixel is *defined* by scores in integer arithmetic: weights
are rounded to integers of about 80 bits, held in three limbs (parts) so short that every
float64 product with pixels is exact, in any order, on any machine. A float32 product is used
first; only pixels whose two best scores differ by less than its error bound are scored
again. The labels are therefore the same bits for any tile, block, thread or processor.
(Fewer than 80 bits are not enough: a band that is constant except in a few pixels has
weights 1e11 times those of its neighbours, which must not be lost by rounding.)

Float scenes use float64 scores in the same way, and a sum in fixed order for the pixels near
a tie.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from hyperhpc.analysis.bands import band_runs, nodata_in_dtype

#: Pixels cast and multiplied at a time: they stay in the cache of one core, and
#: 256 * 65535 < 2**24, so that float32 sums are exact.
SLICE = 256
#: Products of pixels and centres held at a time: so many that calls of numpy cost little.
PRODUCTS = 2**18
#: The offset is not subtracted if its length is at most this many standard deviations.
_PLAIN_REACH = 8.0


@dataclass(frozen=True)
class Scaler:
    """Standard scaling, in digital numbers (DN).

    ``mean``, ``scale``: float64 (band): mean and population standard deviation of the sample.
    ``is_integer``: True if the DN are integers of 16 bits.
    """

    mean: np.ndarray
    scale: np.ndarray
    is_integer: bool

    @property
    def offset(self) -> np.ndarray:
        """The rounded mean (band); subtracting it from integer DN is exact."""
        return np.rint(self.mean) if self.is_integer else self.mean

    def transform(self, dn: np.ndarray) -> np.ndarray:
        """Scaled values, float64: (DN - mean) / scale, for estimators of other libraries."""
        scaled = dn.astype(np.float64)
        scaled -= self.mean
        scaled /= self.scale
        return scaled


@dataclass(frozen=True)
class _Limbs:
    """Weights and biases as whole multiples of one unit, cut into short parts.

    ``bits``: Length of the lower parts.
    ``weights``, ``biases``: Parts, most significant first, float64 (band, cluster) and
        (cluster). The number is the sum of the parts, where the unit of each is 2**-bits of the
        one before.
    """

    bits: int
    weights: list[np.ndarray]
    biases: list[np.ndarray]

    @classmethod
    def cut(cls, weights: np.ndarray, biases: np.ndarray) -> _Limbs:
        """Round weights (band, cluster) and biases (cluster) to whole numbers.

        With |x| < 2**16 every sum of products, in any order, stays below 2**52: in the
        first part by the choice of the unit, in the others by their length.
        """
        reach = 2.0**16 * np.abs(weights).sum(axis=0) + np.abs(biases)
        exponent = 51 - math.frexp(float(reach.max()))[1]
        bits = min(36 - math.ceil(math.log2(len(weights) + 1)), 31)
        limbs: list[list[np.ndarray]] = []
        for numbers in (np.ldexp(weights, exponent), np.ldexp(biases, exponent)):
            parts, rest = [], numbers
            for _ in range(3):
                parts.append(np.rint(rest))
                rest = (rest - parts[-1]) * 2.0**bits  # both operations are exact
            limbs.append(parts)
        return cls(bits, *limbs)

    def total(self, parts: list[np.ndarray]) -> np.ndarray:
        """The whole numbers, rounded to float64."""
        return parts[0] + (parts[1] + parts[2] * 2.0**-self.bits) * 2.0**-self.bits

    def label(self, centred: np.ndarray) -> np.ndarray:
        """Label pixels (pixel, band), whole numbers in float64; of a tie the lower label."""
        top, middle, low = (
            (centred @ w + b).astype(np.int64)
            for w, b in zip(self.weights, self.biases, strict=True)
        )
        mask = (1 << self.bits) - 1
        middle += low >> self.bits
        top += middle >> self.bits
        low = ((middle & mask) << self.bits) | (low & mask)
        low[top > top.min(axis=1, keepdims=True)] = np.iinfo(np.int64).max
        return np.argmin(low, axis=1).astype(np.uint8)


class Scorer:
    """Labels pixels by one set of at most 254 centres, float64 (cluster, band), DN."""

    def __init__(self, centres: np.ndarray, scaler: Scaler) -> None:
        self.n_clusters, n_bands = centres.shape
        self.scaler = scaler
        self.dtype = np.dtype(np.float32 if scaler.is_integer else np.float64)
        self.offset = scaler.offset.astype(self.dtype)
        # |x - c|^2 without |x|^2: x.W + b, with x and c relative to the offset
        centred = centres - scaler.offset
        weights = np.ascontiguousarray((-2.0 * centred / scaler.scale**2).T)
        biases = np.array([math.fsum(row) for row in (centred / scaler.scale) ** 2])
        self._limbs = _Limbs.cut(weights, biases) if scaler.is_integer else None
        if self._limbs:
            weights = self._limbs.total(self._limbs.weights)
            biases = self._limbs.total(self._limbs.biases)
        self._exact_weights, self._biases = weights, biases
        #: (band, cluster), of ``dtype``: what pixels are multiplied with.
        self.weights = weights.astype(self.dtype)
        # The error of x.W + b as computed, with unit roundoff u and n bands, is at most
        #   u |W| |x|       rounding of the weights (float32 only)
        #   n u |W| |x|     products and sums, in any order, fused or not
        #   u (|xW| + 2|b|) rounding of b, and its addition
        # to first order; |W| |x| is bounded by the product of the Euclidean lengths, with
        # the largest |W| of each band. 4 more units and 5 % cover the rounding of these
        # bounds themselves, and the higher orders (n u is below 1 % up to 1e5 bands).
        unit = 2.0**-24 if scaler.is_integer else 2.0**-53
        largest = np.abs(weights).max(axis=1)
        self._gamma = 1.05 * (n_bands + 6) * unit * math.sqrt(math.fsum(largest**2))
        self._bias_error = 2.1 * unit * float(np.abs(biases).max())
        # Without subtraction: (x - o).W + b = x.W + (b - o.W). Then |x| is longer, and more
        # pixels are near a tie, unless the pixels vary enough.
        shares = scaler.offset[:, None] * weights
        self._plain_biases = biases - [math.fsum(column) for column in shares.T]
        # b - o.W has errors too: a unit of float64 for products, weights, sum and difference
        reach = np.abs(shares).sum(axis=0) + np.abs(biases)
        self._plain_error = 6.3 * 2.0**-53 * float(reach.max())
        self._plain_error += 2.1 * unit * float(np.abs(self._plain_biases).max())
        #: True if pixels are multiplied without subtracting the offset.
        self.is_plain = scaler.is_integer and bool(
            np.linalg.norm(scaler.offset) <= _PLAIN_REACH * np.linalg.norm(scaler.scale)
        )
        # The error of the difference of two scores is twice that. A second score that has
        # errors of its own must not reverse a difference that was certain: twice as wide.
        self._widths = 2.0 if scaler.is_integer else 4.0

    def choose(
        self, products: np.ndarray, length: np.ndarray, centred: Callable[[np.ndarray], np.ndarray]
    ) -> np.ndarray:
        """Labels (pixel), uint8, of the nearest centres, from products computed before.

        ``products``: Pixels minus ``offset``, or without subtraction if ``is_plain``, times
            ``weights`` (pixel, cluster).
        ``length``: Squared Euclidean length (pixel) of the pixels that were multiplied.
        ``centred``: Returns the pixels at some positions, minus ``offset``, to score them
            again.
        """
        biases = self._plain_biases if self.is_plain else self._biases
        bias_error = self._plain_error if self.is_plain else self._bias_error
        shape = (self.n_clusters, len(products))
        scores = np.add(
            products.T, biases.astype(self.dtype)[:, None], out=np.empty(shape, self.dtype)
        )
        labels = np.zeros(len(products), dtype=np.uint8)
        best = scores[0].copy()
        second = np.full_like(best, np.inf)
        worse, is_better = np.empty_like(best), np.empty(len(best), dtype=bool)
        number = is_better.view(np.uint8)
        for k in range(1, self.n_clusters):
            np.less(scores[k], best, out=is_better)
            np.maximum(scores[k], best, out=worse)
            np.minimum(second, worse, out=second)
            np.minimum(best, scores[k], out=best)
            np.multiply(number, np.uint8(k), out=number)  # many times faster than a mask
            np.maximum(labels, number, out=labels)
        width = np.sqrt(length)
        width *= self._widths * self._gamma
        width += self._widths * bias_error
        near = np.flatnonzero(second - best <= width)
        if near.size:
            labels[near] = self._label_near(centred(near).astype(np.float64))
        return labels

    def _label_near(self, centred: np.ndarray) -> np.ndarray:
        if self._limbs:
            return self._limbs.label(centred)
        # Not exact, but in an order that does not depend on the other pixels
        scores = [
            (centred * w).sum(axis=1) + b
            for w, b in zip(np.ascontiguousarray(self._exact_weights.T), self._biases, strict=True)
        ]
        return np.argmin(scores, axis=0).astype(np.uint8)


def valid_pixels(
    dn: np.ndarray, nodata: Sequence[float], bands: np.ndarray | None = None
) -> np.ndarray:
    """Bool (pixel): True where no good band is no-data.

    ``dn``: DN (pixel, band).
    ``nodata``: DN that mark a missing value; in float scenes values that are not finite do too.
    ``bands``: Positions of the good bands in ``dn``; None if it holds good bands only.
    """
    is_float = np.issubdtype(dn.dtype, np.floating)
    marks = nodata_in_dtype(nodata, dn.dtype)
    is_valid = np.ones(len(dn), dtype=bool)
    if not is_float and dn.size and not _reaches(dn, marks):
        return is_valid
    for low, high in band_runs(np.arange(dn.shape[1]) if bands is None else bands):
        run = dn[:, low:high]
        if is_float:
            is_valid &= np.isfinite(run).all(axis=1)
        for mark in marks:
            # To find the extreme is many times faster than to compare all values, and a
            # no-data value is nearly always larger or smaller than all data
            reach = run.max(axis=1) >= mark if mark > 0 else run.min(axis=1) <= mark  # type: ignore[operator]
            suspects = np.flatnonzero(reach & is_valid)
            if suspects.size:
                is_valid[suspects[(run[suspects] == mark).any(axis=1)]] = False
    return is_valid


def _reaches(dn: np.ndarray, marks: Sequence[np.generic]) -> bool:
    """False if no value is as extreme as a no-data value: most blocks hold only data."""
    return any(dn.max() >= mark if mark > 0 else dn.min() <= mark for mark in marks)  # type: ignore[operator]


def centred_blocks(
    dn: np.ndarray, scaler: Scaler, bands: np.ndarray | None = None, *, is_plain: bool = False
) -> Iterator[tuple[slice, np.ndarray]]:
    """Blocks of pixels, cast and with the offset subtracted, in one reused buffer.

    ``scaler``: Has the offset and decides the dtype (float32 is exact for integers).
    ``bands``: Positions of the good bands in ``dn``; None if it holds good bands only.
    ``is_plain``: Subtract nothing.

    Yields: the slice of pixels, and the block (pixel, good band), valid until the next one.
    """
    n_bands = len(scaler.mean)
    runs = band_runs(np.arange(n_bands) if bands is None else bands)
    dtype = np.dtype(np.float32 if scaler.is_integer else np.float64)
    buffer = np.empty((min(SLICE, max(len(dn), 1)), n_bands), dtype=dtype)
    offset = scaler.offset.astype(dtype)
    for start in range(0, len(dn), SLICE):
        rows = slice(start, min(start + SLICE, len(dn)))
        block, column = buffer[: rows.stop - start], 0
        for low, high in runs:
            block[:, column : column + high - low] = dn[rows, low:high]
            column += high - low
        if not is_plain:
            block -= offset
        yield rows, block


def label_pixels(
    dn: np.ndarray, scorers: Sequence[Scorer], bands: np.ndarray | None = None
) -> np.ndarray:
    """Labels (model, pixel), uint8, of DN (pixel, band) for several models at once.

    All models share one matrix product, and must share their scaler. ``bands`` is as in
    :func:`centred_blocks`.
    """
    labels = np.empty((len(scorers), len(dn)), dtype=np.uint8)
    if not scorers:
        return labels
    first = scorers[0]
    weights = np.concatenate([scorer.weights for scorer in scorers], axis=1)
    edges = np.cumsum([0, *(scorer.n_clusters for scorer in scorers)])
    piece = max(PRODUCTS // weights.shape[1] // SLICE, 1) * SLICE  # pixels
    for start in range(0, len(dn), piece):
        part = dn[start : start + piece]
        products = np.empty((len(part), weights.shape[1]), dtype=first.dtype)
        length = np.empty(len(part), dtype=first.dtype)
        for rows, block in centred_blocks(part, first.scaler, bands, is_plain=first.is_plain):
            np.matmul(block, weights, out=products[rows])
            np.vecdot(block, block, out=length[rows])

        def centred(near: np.ndarray, part: np.ndarray = part) -> np.ndarray:
            chosen = part[near] if bands is None else part[near[:, None], bands]
            return chosen.astype(first.dtype) - first.offset

        for m, scorer in enumerate(scorers):
            own = products[:, edges[m] : edges[m + 1]]
            chosen = scorer.choose(own, length, centred)
            labels[m, start : start + len(part)] = chosen
    return labels


@dataclass
class ClusterSums:
    """Pixels and band sums of each cluster; exact for integer scenes in any order.

    ``counts``: int64 (cluster).
    ``sums``: Sums of DN minus offset (cluster, band): int64, or float64 for float scenes.
    """

    counts: np.ndarray
    sums: np.ndarray

    def __add__(self, other: ClusterSums) -> ClusterSums:
        return ClusterSums(self.counts + other.counts, self.sums + other.sums)


def sum_clusters(dn: np.ndarray, scorer: Scorer) -> ClusterSums:
    """Label valid pixels (pixel, good band) and add them up by cluster."""
    n_clusters, n_bands = scorer.n_clusters, len(scorer.offset)
    (labels,) = label_pixels(dn, [scorer])
    counts = np.bincount(labels, minlength=n_clusters)
    sums = np.zeros((n_clusters, n_bands), dtype=np.float64)
    one_hot = np.empty((n_clusters, SLICE), dtype=scorer.dtype)
    numbers = np.arange(n_clusters, dtype=np.uint8)[:, None]
    # Casting the pixels again is faster than keeping them: they do not fit a cache
    for rows, block in centred_blocks(dn, scorer.scaler, is_plain=scorer.is_plain):
        hot = one_hot[:, : len(block)]
        np.equal(labels[rows], numbers, out=hot)
        sums += hot @ block  # exact: whole numbers below 2**24, added below 2**53
    if not scorer.scaler.is_integer:
        return ClusterSums(counts, sums)
    whole = sums.astype(np.int64)
    if scorer.is_plain:
        whole -= counts[:, None] * scorer.offset.astype(np.int64)
    return ClusterSums(counts, whole)
