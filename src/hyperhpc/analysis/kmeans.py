"""Full-batch k-means on exact sums.

:func:`run_lloyd` does not know where the pixels are: it calls a function that takes centres
and returns sums. The stopping rule and the most iterations are scikit-learn's. The first
centres come from :mod:`hyperhpc.analysis.starts`.

Source: Lloyd S. (1982), Least squares quantization in PCM, IEEE Transactions on Information
Theory 28, 129-137, doi:10.1109/TIT.1982.1056489.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from hyperhpc.analysis import kernel
from hyperhpc.analysis.bands import nir_bands
from hyperhpc.analysis.kernel import SLICE, ClusterSums, Scaler, Scorer

#: scikit-learn's defaults.
TOLERANCE = 1e-4
MAX_ITERATIONS = 300


@dataclass
class Moments:
    """Number, sum and sum of squares (band) of pixels minus a reference.

    Sums are int64 for integer scenes (exact), float64 otherwise.
    """

    count: int
    sums: np.ndarray
    squares: np.ndarray

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            self.count + other.count, self.sums + other.sums, self.squares + other.squares
        )


def measure_moments(dn: np.ndarray, reference: np.ndarray) -> Moments:
    """Moments of valid pixels (pixel, band) relative to a reference (band) of whole DN."""
    is_integer = np.issubdtype(dn.dtype, np.integer)
    kind = np.int64 if is_integer else np.float64
    sums, squares = np.zeros(dn.shape[1], kind), np.zeros(dn.shape[1], kind)
    for start in range(0, len(dn), SLICE):  # small enough for the caches
        part = dn[start : start + SLICE].astype(np.float64)
        part -= reference
        # Integers: the sum of 256 squares below 2**34 is exact in float64
        sums += part.sum(axis=0).astype(kind)
        squares += np.square(part, out=part).sum(axis=0).astype(kind)
    return Moments(len(dn), sums, squares)


def fit_scaler(
    moments: Moments, reference: np.ndarray, scale_factor: float, *, is_integer: bool
) -> Scaler:
    """Mean and population standard deviation from moments.

    For integer scenes mean and variance are exact rational numbers, correctly rounded, and
    the deviation is the square root of the rounded variance. The scale of a constant band
    is ``scale_factor``, that is 1 in units of reflectance.
    """
    n = moments.count
    if is_integer:
        mean = np.array(
            [
                float(int(r) + Fraction(int(s), n))
                for r, s in zip(reference, moments.sums, strict=True)
            ]
        )
    else:
        mean = reference + moments.sums / n
    scale = np.sqrt(compute_variance(moments))
    scale[scale == 0] = scale_factor
    return Scaler(mean, scale, is_integer)


def compute_variance(moments: Moments) -> np.ndarray:
    """Population variance (band), float64; exactly 0 for a constant band."""
    n = moments.count
    if np.issubdtype(moments.sums.dtype, np.integer):
        pairs = [(int(s), int(q)) for s, q in zip(moments.sums, moments.squares, strict=True)]
        return np.array([float(Fraction(n * q - s * s, n * n)) for s, q in pairs])
    variance = np.maximum(moments.squares / n - (moments.sums / n) ** 2, 0.0)
    # The variance of a constant band may not be 0 after rounding
    variance[variance <= 1e-12 * moments.squares / n] = 0.0
    return variance


def compute_inertia(
    sums: ClusterSums, squares: np.ndarray, centres: np.ndarray, scaler: Scaler
) -> float:
    """Sum of squared scaled distances to the centres (cluster, band; DN), from sums alone.

    ``squares``: (band) sum of squares of DN minus the scaler's offset over all pixels.
    """
    c = centres - scaler.offset
    parts = sums.counts[:, None] * c**2 - 2.0 * c * sums.sums
    per_band = [math.fsum([float(q), *parts[:, b]]) for b, q in enumerate(squares)]
    return max(math.fsum(np.array(per_band) / scaler.scale**2), 0.0)


@dataclass(frozen=True)
class Step:
    """The state after an iteration: all that is needed to resume from it.

    ``centres``: float64 (cluster, band), DN. ``n_iter``: Iterations so far.
    ``limit``: A move of the centres up to this ends the iterations; None before the first.
    ``is_settled``: True if no more iterations are needed.
    """

    centres: np.ndarray
    n_iter: int = 0
    limit: float | None = None
    is_settled: bool = False


@dataclass(frozen=True)
class Fit:
    """Result of a fit: centres float64 (cluster, band) in DN, iterations and inertia."""

    centres: np.ndarray
    n_iter: int
    inertia: float


def run_lloyd(
    sum_by: Callable[[np.ndarray], ClusterSums],
    farthest: Callable[[np.ndarray, int], np.ndarray],
    squares: np.ndarray,
    step: Step,
    scaler: Scaler,
    *,
    tolerance: float = TOLERANCE,
    max_iterations: int = MAX_ITERATIONS,
    on_step: Callable[[Step], None] | None = None,
) -> Step:
    """Refine centres until they move less than scikit-learn's tolerance (Lloyd 1982).

    ``sum_by``: Takes centres (cluster, band), labels every pixel and returns the sums.
    ``farthest``: Takes centres and a number n, returns at most n pixels (n, band; DN): those
        farthest from their centres, farthest first, without pixels that are on their centre. It
        is called only when clusters have lost all their pixels; these are moved there.
    ``squares``: (band) sum of squares of DN minus offset over all pixels.
    ``step``: The first centres, or a step to resume from.
    ``tolerance``: Largest summed squared move of the centres that ends the iterations, in units
        of the mean scaled variance of the pixels, as in scikit-learn.
    ``on_step``: Called with each step.

    Returns: the last step.
    """
    while not step.is_settled and step.n_iter < max_iterations:
        sums = sum_by(step.centres)
        limit = step.limit
        if limit is None:
            limit = tolerance * _mean_variance(sums, squares, scaler)
        moved = compute_means(sums, step.centres, scaler)
        lost = np.flatnonzero(sums.counts == 0)
        if lost.size:
            pixels = farthest(step.centres, lost.size)
            moved[lost[: len(pixels)]] = pixels
        shift = math.fsum((((moved - step.centres) / scaler.scale) ** 2).ravel())
        step = Step(moved, step.n_iter + 1, limit, is_settled=shift <= limit)
        if on_step:
            on_step(step)
    return step


def _mean_variance(sums: ClusterSums, squares: np.ndarray, scaler: Scaler) -> float:
    """Variance of the scaled pixels, mean over the bands."""
    n = int(sums.counts.sum())
    variance = squares / n - (sums.sums.sum(axis=0) / n) ** 2
    return max(math.fsum(variance / scaler.scale**2) / len(variance), 0.0)


def compute_means(sums: ClusterSums, centres: np.ndarray, scaler: Scaler) -> np.ndarray:
    """Mean of each cluster; an empty one stays where it is."""
    moved = centres.copy()
    full = sums.counts > 0
    moved[full] = scaler.offset + sums.sums[full] / sums.counts[full, None]
    return moved


def find_farthest_pixels(
    dn: np.ndarray, centres: np.ndarray, scaler: Scaler, n: int
) -> tuple[np.ndarray, np.ndarray]:
    """The n pixels farthest from their nearest centre.

    Returns: squared scaled distances (n), descending, and pixels (n, band) in DN. Pixels that
    are on their centre are left out; equal distances keep the order of the pixels.
    """
    scorer = Scorer(centres, scaler)
    distance = np.empty(len(dn))
    (labels,) = kernel.label_pixels(dn, [scorer])
    for rows, block in kernel.centred_blocks(dn, scaler):
        nearest = centres[labels[rows]] - scaler.offset
        distance[rows] = (((block - nearest) / scaler.scale) ** 2).sum(axis=1)
    order = np.argsort(-distance, kind="stable")[:n]
    order = order[distance[order] > 0]
    return distance[order], dn[order].astype(np.float64)


def fit_in_memory(
    dn: np.ndarray, centres: np.ndarray, scaler: Scaler, squares: np.ndarray | None = None
) -> Fit:
    """Run Lloyd's iterations on pixels in memory (pixel, band), from given centres in DN.

    ``squares``: (band) sum of squares of DN minus offset; measured if None. An estimate is
        enough to compare fits of the same pixels: it shifts the inertia of all of them equally.
    """
    if squares is None:
        squares = measure_moments(dn, scaler.offset).squares.astype(np.float64)

    def sum_by(centres: np.ndarray) -> ClusterSums:
        return kernel.sum_clusters(dn, Scorer(centres, scaler))

    last = run_lloyd(
        sum_by,
        lambda centres, n: find_farthest_pixels(dn, centres, scaler, n)[1],
        squares,
        Step(centres),
        scaler,
    )
    inertia = compute_inertia(sum_by(last.centres), squares, last.centres, scaler)
    return Fit(last.centres, last.n_iter, inertia)


def order_by_nir(centres: np.ndarray, wavelength_nm: np.ndarray) -> np.ndarray:
    """Order (int64, cluster) of ascending mean near-infrared value; ties keep their order.

    ``centres``: (cluster, band), good bands at ``wavelength_nm``; NaN sorts last.
    """
    nir = centres[:, nir_bands(wavelength_nm)].mean(axis=1)
    return np.argsort(nir, kind="stable")


@dataclass
class ClusterMoments:
    """Pixels, band sums and band sums of squares (of DN minus offset) of each cluster."""

    counts: np.ndarray
    sums: np.ndarray
    squares: np.ndarray

    def __add__(self, other: ClusterMoments) -> ClusterMoments:
        return ClusterMoments(
            self.counts + other.counts, self.sums + other.sums, self.squares + other.squares
        )

    def __getitem__(self, clusters: slice | np.ndarray) -> ClusterMoments:
        return ClusterMoments(self.counts[clusters], self.sums[clusters], self.squares[clusters])


def measure_clusters(
    dn: np.ndarray, labels: np.ndarray, sizes: Sequence[int], scaler: Scaler
) -> ClusterMoments:
    """Moments per cluster of valid pixels (pixel, good band); exact for integers.

    ``labels``: uint8 (model, pixel).
    ``sizes``: Number of clusters of each model; the models follow each other in the result.
    """
    shape = (sum(sizes), dn.shape[1])
    counts = np.concatenate(
        [np.bincount(row, minlength=size) for row, size in zip(labels, sizes, strict=True)]
    )
    sums, squares = np.zeros(shape), np.zeros(shape)
    model = np.repeat(np.arange(len(sizes)), sizes)
    number = np.concatenate([np.arange(size) for size in sizes])[:, None]
    for rows, block in kernel.centred_blocks(dn, scaler):
        # Whole numbers below 2**34, with sums below 2**53: exact in any order
        part = block.astype(np.float64)
        hot = (labels[model, rows] == number).astype(np.float64)
        sums += hot @ part
        squares += hot @ np.square(part, out=part)
    kind = np.int64 if scaler.is_integer else np.float64
    return ClusterMoments(counts.astype(np.int64), sums.astype(kind), squares.astype(kind))
