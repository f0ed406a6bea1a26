"""The start of k-means: greedy k-means++ (Arthur and Vassilvitskii 2007, SODA).

Most iterations of a start use few bands. Neighbouring bands of a spectrum are nearly alike,
so the mean of seven or eight of them, scaled, separates clusters as well as all of them, at
an eighth of the work; then one or two iterations in all bands are enough. Values are rounded
to sixteenths of a standard deviation, which makes every distance an integer and every draw
the same on any machine.

Source: Arthur D., Vassilvitskii S. (2007), k-means++: the advantages of careful seeding,
Proc. 18th ACM-SIAM Symposium on Discrete Algorithms, 1027-1035.
"""

from __future__ import annotations

import math

import numpy as np

from hyperhpc.analysis.kernel import SLICE, Scaler, Scorer, label_pixels
from hyperhpc.analysis.kmeans import Fit, fit_in_memory

#: The most bands of the first iterations of a start.
MERGED = 48
#: Steps per standard deviation, and the largest value (7.9 standard deviations).
_STEPS, _LARGEST = 16, 127


def merge_bands(dn: np.ndarray, scaler: Scaler) -> np.ndarray:
    """Scaled values in sixteenths, int8 (pixel, merged band): means of neighbouring bands."""
    n_bands = dn.shape[1]
    n_merged = min(n_bands, MERGED)
    edges = np.arange(n_merged + 1) * n_bands // n_merged
    widths = np.diff(edges)
    merged = np.empty((len(dn), len(widths)), dtype=np.int8)
    for start in range(0, len(dn), SLICE):  # small enough for the caches
        rows = slice(start, start + SLICE)
        scaled = scaler.transform(dn[rows]) * float(_STEPS)
        steps = np.rint(np.clip(scaled, -1e6, 1e6, out=scaled), out=scaled).astype(np.int64)
        sums = np.add.reduceat(steps, edges[:-1], axis=1)
        merged[rows] = np.clip((sums + widths // 2) // widths, -_LARGEST, _LARGEST)
    return merged


def draw_seeds(merged: np.ndarray, n_clusters: int, rng: np.random.Generator) -> np.ndarray:
    """Greedy k-means++: positions (cluster) of the pixels that become the first centres.

    ``merged``: At least ``n_clusters`` pixels from :func:`merge_bands`.
    """
    squares = (merged.astype(np.int32) ** 2).sum(axis=1, dtype=np.int64)
    trials = 2 + int(math.log(n_clusters))
    chosen = [int(rng.integers(len(merged)))]
    closest = _distances(merged, squares, np.array(chosen))[0]
    while len(chosen) < n_clusters:
        total = int(closest.sum())
        if total == 0:  # fewer distinct pixels than clusters: any pixel will do
            chosen.append(int(rng.integers(len(merged))))
            continue
        draws = rng.integers(total, size=trials)
        candidates = np.searchsorted(np.cumsum(closest), draws, side="right")
        distances = np.minimum(_distances(merged, squares, candidates), closest)
        best = int(np.argmin(distances.sum(axis=1)))
        chosen.append(int(candidates[best]))
        closest = distances[best]
    return np.array(chosen)


def _distances(merged: np.ndarray, squares: np.ndarray, picks: np.ndarray) -> np.ndarray:
    """Exact squared distances (pick, pixel), int64, of all pixels to the picked ones."""
    targets = merged[picks].astype(np.float32)
    out = np.empty((len(picks), len(merged)), dtype=np.int64)
    for start in range(0, len(merged), 4096):
        rows = slice(start, start + 4096)
        # 48 products of less than 2**14: exact in float32
        products = targets @ merged[rows].astype(np.float32).T
        out[:, rows] = squares[picks][:, None] + squares[rows] - 2 * products.astype(np.int64)
    return out


def fit_start(
    dn: np.ndarray,
    merged: np.ndarray,
    n_clusters: int,
    scaler: Scaler,
    squares: np.ndarray,
    rng: np.random.Generator,
) -> Fit:
    """Run one start to convergence in merged bands, then in all bands.

    ``dn``, ``merged``: Valid pixels, and the same from :func:`merge_bands`.
    ``squares``: As in :func:`~hyperhpc.analysis.kmeans.fit_in_memory`.
    """
    seeds = draw_seeds(merged, n_clusters, rng)
    n_merged = merged.shape[1]
    coarse = Scaler(np.zeros(n_merged), np.full(n_merged, float(_STEPS)), is_integer=True)
    fit = fit_in_memory(merged, merged[seeds].astype(np.float64), coarse)
    labels = label_pixels(merged, [Scorer(fit.centres, coarse)])[0]
    centres = dn[seeds].astype(np.float64)  # where a cluster has no pixels
    for k in np.unique(labels):
        centres[k] = dn[labels == k].mean(axis=0, dtype=np.float64)
    return fit_in_memory(dn, centres, scaler, squares)
