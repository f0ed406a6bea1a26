"""Mini-batch k-means (Sculley 2010) on exact sums.

The learning rate is one over the count, so a centre is the mean of all pixels that were ever
nearest to it. Therefore sums and counts are kept instead of centres, and nothing is rounded
on the way. Centres of rare clusters are replaced as in scikit-learn's ``MiniBatchKMeans``.

Source: Sculley D. (2010), Web-scale k-means clustering, doi:10.1145/1772690.1772862.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from hyperhpc.analysis.kernel import ClusterSums, Scaler, Scorer, sum_clusters
from hyperhpc.analysis.kmeans import Step, compute_means

#: A cluster with less than this share of the pixels of the largest one gets a new centre.
RARE = 0.01


def fit_batches(
    batches: Iterable[np.ndarray], starts: np.ndarray, scaler: Scaler, rng: np.random.Generator
) -> Step:
    """Centres after all batches, each seen once, in their order; and how many there were.

    ``batches``: Valid pixels, good bands (pixel, band), DN, of each batch; at least one pixel.
    ``starts``: The first centres, float64 (cluster, band), DN. They have no weight of their own.
    ``rng``: Draws the pixels that become new centres of rare clusters.
    """
    dtype = np.int64 if scaler.is_integer else np.float64
    total = ClusterSums(np.zeros(len(starts), dtype=np.int64), np.zeros(starts.shape, dtype))
    centres, n_steps = starts, 0
    for dn in batches:
        total += sum_clusters(dn, Scorer(centres, scaler))
        _replace_rare(total, dn, scaler, rng)
        centres = compute_means(total, centres, scaler)
        n_steps += 1
    return Step(centres, n_steps, is_settled=True)


def _replace_rare(
    total: ClusterSums, dn: np.ndarray, scaler: Scaler, rng: np.random.Generator
) -> None:
    """Move rare clusters to pixels of the batch, with the weight of the rarest other one."""
    is_rare = total.counts < RARE * total.counts.max()
    most = len(dn) // 2
    if is_rare.sum() > most:
        is_rare[np.argsort(total.counts, kind="stable")[most:]] = False
    n_rare = int(is_rare.sum())
    if n_rare == 0:
        return
    picks = rng.choice(len(dn), size=n_rare, replace=False)
    weight = total.counts[~is_rare].min()
    total.counts[is_rare] = weight
    total.sums[is_rare] = weight * (dn[picks] - scaler.offset).astype(total.sums.dtype)
