"""The fractions of endmembers in each pixel.

A pixel is taken for a mixture of endmembers (spectra of pure materials): x = a1 e1 + ... + am em
plus a residual, with fractions a that are not negative and sum to one. By shape, x is that times
a brightness of its own, which may be any.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

#: The most endmembers: each set of them that a pixel may consist of is a bit pattern.
MAX_ENDMEMBERS = 16
#: The largest ratio of the longest to the shortest axis of the endmembers: noise of a spectrum
#: may be that many times larger in its fractions.
MAX_CONDITION = 1e4
#: By shape, endmembers have this peak (reflectance): no pixel is as bright.
_PEAK = 8.0
#: Pixels solved at a time.
_PIECE = 4096
#: Pixels cast and multiplied at a time: they stay in the cache of one core.
_SLICE = 256
#: A gradient is taken for zero below this share of the terms that it is the difference of.
_TOLERANCE = 1e-13


@dataclass(frozen=True)
class Dependence:
    """How nearly an endmember is a mixture of the others.

    ``condition``: Longest over shortest axis of the endmembers about their mean.
    ``pair``: The two endmembers that take most part in the shortest axis.
    """

    condition: float
    pair: tuple[int, int]


def measure_dependence(spectra: np.ndarray) -> Dependence:
    """Measure how well endmembers, float64 (endmember, band), differ from each other.

    Fractions sum to one, so that two spectra of one shape but different brightness are two
    endmembers: what counts are the differences of spectra, not the spectra.
    """
    axes, lengths, _ = np.linalg.svd(spectra - spectra.mean(axis=0), full_matrices=False)
    last = len(spectra) - 2  # the last axis of all is zero: the mean was subtracted
    longest, shortest = float(lengths[0]), float(lengths[last]) if last < len(lengths) else 0.0
    condition = longest / shortest if shortest > 0 else math.inf
    second, first = np.argsort(np.abs(axes[:, min(last, axes.shape[1] - 1)]), kind="stable")[-2:]
    low, high = sorted((int(first), int(second)))
    return Dependence(condition, (low, high))


class Unmixer:
    """Fractions of endmembers by fully constrained least squares, in float64.

    The fractions of a pixel depend on the pixel alone, and are the same bits in any block, tile
    or worker: products of pixels and endmembers are exact for integers of 16 bits, and
    are summed in a fixed order for other scenes; all that follows is arithmetic by element.

    Heinz and Chang (2001), IEEE Transactions on Geoscience and Remote Sensing 39, 529-545,
    doi:10.1109/36.911111, state the problem. It is solved by an active-set method for convex
    quadratic programs (Nocedal and Wright 2006, Numerical Optimization, section 16.5,
    doi:10.1007/978-0-387-40065-5), which ends at the minimum itself.
    """

    def __init__(
        self, spectra: np.ndarray, scale_factor: float, dtype: np.dtype, *, by_shape: bool = False
    ) -> None:
        """Prepare for pixels of DN of ``dtype``, which ``scale_factor`` divides to reflectance.

        ``spectra``: Reflectance 0-1 of the endmembers, float64 (endmember, band); with a
            condition of at most :data:`MAX_CONDITION`.
        ``by_shape``: The brightness of pixels and endmembers does not count: endmembers are
            scaled to one peak, and mixed with a dark one, whose fraction is divided away.
        """
        self.is_by_shape = by_shape
        if by_shape:
            spectra = add_shade(spectra)
        self._centre = sum_rows(spectra.T) / len(spectra)
        centred = spectra - self._centre
        self.gram = np.array([sum_rows(centred * one) for one in centred])
        #: (endmember + 1, band): the last one is the centre.
        self._weights = np.vstack([centred, self._centre]) / scale_factor
        self._offsets = sum_rows(np.vstack([centred, self._centre]) * self._centre)
        self._scale_factor = scale_factor
        is_exact = np.issubdtype(dtype, np.integer) and dtype.itemsize <= 2
        self._limbs = _cut(self._weights) if is_exact else None

    @property
    def n_endmembers(self) -> int:
        """Number of endmembers."""
        return len(self.gram) - self.is_by_shape

    def unmix(self, dn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Fractions, float64 (endmember, pixel), and the root mean square of the residual.

        ``dn``: DN (pixel, band) of valid pixels, in the bands of the endmembers.

        The second value is float64 (pixel), reflectance; it is rounded to about 1e-8 times the
        length of the spectrum, as the difference of sums of squares. By shape, a pixel without
        any light has no fractions: NaN.
        """
        fractions = np.empty((len(self.gram), len(dn)))
        rmse = np.empty(len(dn))
        for start in range(0, len(dn), _PIECE):
            rows = slice(start, start + _PIECE)
            products, squares = self._multiply(dn[rows])
            own, centre = products[:-1] - self._offsets[:-1, None], products[-1]
            solved = solve_fractions(self.gram, own)
            # |x - c|^2 - 2 a.b + a G a, where b are the products of x - c and the endmembers
            length = squares - 2 * centre + self._offsets[-1]
            fit = _sum_layers(solved * (2 * own - _apply(self.gram, solved)))
            fractions[:, rows] = solved
            rmse[rows] = np.sqrt(np.maximum(length - fit, 0) / dn.shape[1])
        if self.is_by_shape:
            fractions = fractions[:-1]
            with np.errstate(invalid="ignore"):
                fractions /= _sum_layers(fractions)
        return fractions, rmse

    def _multiply(self, dn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Products of reflectance with all weights (weight, pixel), and with itself (pixel)."""
        n_weights = len(self._weights)
        products, squares = np.empty((n_weights, len(dn))), np.empty(len(dn))
        block = np.empty((min(_SLICE, len(dn)), dn.shape[1]))
        for start in range(0, len(dn), _SLICE):
            rows = slice(start, min(start + _SLICE, len(dn)))
            x = block[: rows.stop - start]
            x[:] = dn[rows]
            if self._limbs:
                limbs, unit, finer = self._limbs
                parts = (x @ limbs).T
                products[:, rows] = (parts[:n_weights] + parts[n_weights:] * finer) * unit
                np.vecdot(x, x, out=squares[rows])  # whole numbers below 2**53
                continue
            for weight, row in zip(self._weights, products, strict=True):
                row[rows] = sum_rows(x * weight)
            squares[rows] = sum_rows(x * x)
        return products, squares / self._scale_factor**2


def add_shade(spectra: np.ndarray) -> np.ndarray:
    """Spectra (endmember, band) scaled to one peak, and a last one that is zero: no light."""
    scaled = spectra * (_PEAK / spectra.max(axis=1, keepdims=True))
    return np.vstack([scaled, np.zeros(spectra.shape[1])])


def sum_rows(values: np.ndarray) -> np.ndarray:
    """Sums along the last axis, each in an order that depends on its length alone."""
    total: np.ndarray = np.ascontiguousarray(values).sum(axis=-1)
    return total


def _cut(weights: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Weights (weight, band) as whole numbers in two parts, with which products are exact.

    With |x| < 2**16 every sum of products, in any order, stays below 2**53.

    Returns: float64 (band, 2 x weight), first the coarse parts; their unit; and the unit of the
    fine parts in units of the coarse ones.
    """
    largest = float(np.abs(weights).sum(axis=1).max()) or 1.0
    exponent = 36 - math.frexp(largest)[1]
    numbers = np.ldexp(weights, exponent)
    coarse = np.rint(numbers)
    bits = 36 - math.ceil(math.log2(weights.shape[1] + 1))
    fine = np.rint(np.ldexp(numbers - coarse, bits))
    return np.ascontiguousarray(np.vstack([coarse, fine]).T), 2.0**-exponent, 2.0**-bits


def solve_fractions(gram: np.ndarray, products: np.ndarray) -> np.ndarray:
    """Minimise a G a / 2 - a b over a >= 0 with sum 1, for each b, float64 (endmember, pixel).

    ``gram``: G, float64 (endmember, endmember): products of the endmembers' differences from
        one spectrum; positive definite for a that sum to zero.
    ``products``: b, float64 (endmember, pixel): products of the endmembers and the pixels, both
        less that spectrum.

    Each pixel begins as the mixture of all in equal parts and goes to the minimum over the sets
    of endmembers it may consist of: along the way one that would become negative leaves the
    set; at the minimum of a set the one that lowers the residual most enters it. The residual
    falls, so that no set comes twice. Sums are 1 within 1e-15.
    """
    m, n = products.shape
    # Adding a constant to G changes nothing for a that sum to one, and makes it invertible
    full = gram + np.trace(gram) / m
    bits = 1 << np.arange(m)
    found = np.full((m, n), 1 / m)
    is_free = np.ones((m, n), dtype=bool)
    entered = np.full(n, -1)
    left = np.arange(n)
    for _ in range(20 * m):
        if not left.size:
            break
        b, a, free = products[:, left], found[:, left], is_free[:, left]
        codes, which = np.unique(bits @ free, return_inverse=True)
        inverse, constant = _solve_sets(full, (bits[:, None] & codes) > 0)
        aim = constant[:, which]
        for j in range(m):
            aim += inverse[:, j, which] * b[j]
        aim[~free] = 0
        is_inside = (aim >= 0).all(axis=0)
        # Outside: go as far as no fraction becomes negative
        with np.errstate(divide="ignore", invalid="ignore"):
            steps = np.where(aim < 0, a / (a - aim), np.inf)
        out, columns = steps.argmin(axis=0), np.arange(len(left))
        step = np.where(is_inside, 1.0, steps[out, columns])
        a = np.where(is_inside, aim, np.maximum(a + step * (aim - a), 0))
        goes = columns[~is_inside]
        a[out[goes], goes] = 0
        free[out[goes], goes] = False
        # Inside: the gradients of those that are not in the set
        slope = b - _apply(full, a)
        gain = np.where(free, -np.inf, slope - _sum_layers(a * slope))
        best = gain.argmax(axis=0)
        scale = np.abs(full).max() + np.abs(b).max(axis=0)
        is_best = is_inside & ~(gain[best, columns] > _TOLERANCE * scale)
        # One that has entered and leaves without a step: its gradient was rounding
        is_best |= ~is_inside & (step == 0) & (out == entered[left])
        comes = columns[is_inside & ~is_best]
        free[best[comes], comes] = True
        entered[left] = np.where(is_inside, best, -1)
        found[:, left], is_free[:, left] = a, free
        left = left[~is_best]
    return found / _sum_layers(found)


def _sum_layers(values: np.ndarray) -> np.ndarray:
    """Sums along the first axis, one layer after the other."""
    total = values[0].copy()
    for layer in values[1:]:
        total += layer
    return total


def _apply(matrix: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Product of a matrix and vectors (column, pixel), summed in the order of the columns.

    A product of a library has another order on another machine, or for another number of pixels.
    """
    total = matrix[:, :1] * vectors[0]
    for j in range(1, len(vectors)):
        total += matrix[:, j, None] * vectors[j]
    return total


def _solve_sets(full: np.ndarray, is_free: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How the minimum over each set of endmembers, Bool (endmember, set), follows from b.

    Returns: K (endmember, endmember, set) and c (endmember, set), where K b + c minimises
    over the a of the set that sum to one, whatever their signs; rows outside the set are zero.
    """
    m = len(full)
    both = is_free[:, None] & is_free[None]
    inverse = np.where(both, full[..., None], np.eye(m)[..., None])
    for k in range(m):  # Gauss-Jordan, which needs no pivots for a positive definite matrix
        pivot = inverse[k, k].copy()
        row, column = inverse[k] / pivot, inverse[:, k].copy()
        inverse -= column[:, None] * row
        inverse[k] = row
        inverse[:, k] = -column / pivot
        inverse[k, k] = 1 / pivot
    inverse[~both] = 0
    sums = _sum_layers(inverse)
    share = sums / _sum_layers(sums)
    return inverse - sums[:, None] * share, share
