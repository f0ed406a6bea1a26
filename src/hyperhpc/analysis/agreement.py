"""How far two sets of labels agree, and how many clusters a scene has.

Sources
-------
Adjusted Rand index: Hubert and Arabie (1985), doi:10.1007/BF01908075. Matching of labels:
Kuhn (1955), doi:10.1002/nav.3800020109. Silhouette: Rousseeuw (1987),
doi:10.1016/0377-0427(87)90125-7. Davies-Bouldin index: Davies and Bouldin (1979),
doi:10.1109/TPAMI.1979.4766909. Elbow: Satopaa et al. (2011), doi:10.1109/ICDCSW.2011.20.
Stability under resampling: Ben-Hur, Elisseeff and Guyon (2002), Pacific Symposium on
Biocomputing 7, 6-17.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from math import comb

import numpy as np

#: Fits whose mean adjusted Rand index between seeds, or between subsamples, is lower are called
#: unstable.
MIN_STABILITY = 0.9


def confusion_table(a: np.ndarray, b: np.ndarray, n_a: int, n_b: int) -> np.ndarray:
    """Number of pixels with each pair of labels, int64 (label a, label b).

    ``a``, ``b``: Labels (pixel,) without no-data, integers below ``n_a`` and ``n_b``.
    """
    pairs = a.astype(np.int64) * n_b + b
    return np.bincount(pairs, minlength=n_a * n_b).reshape(n_a, n_b)


def match_labels(confusion: np.ndarray) -> list[tuple[int, int]]:
    """Pairs (label a, label b) with which most pixels agree, by ascending a (Kuhn 1955).

    Each label is used at most once; if one side has more clusters, some have no partner.

    ``confusion``: int64 (label a, label b), from :func:`confusion_table`.
    """
    from scipy.optimize import linear_sum_assignment

    first, second = linear_sum_assignment(confusion, maximize=True)
    return list(zip(first.tolist(), second.tolist(), strict=True))


def can_follow(n_labels: int, n_first: int) -> bool:
    """True if labels can be ordered as others are: each of the others may have a partner."""
    return n_labels >= n_first


def order_by_match(confusion: np.ndarray) -> np.ndarray:
    """Order (int64, label b) in which the labels b follow their partners among the labels a.

    Labels b without a partner come last, in their own order.

    ``confusion``: int64 (label a, label b), for which :func:`can_follow` holds.
    """
    partner = dict(match_labels(confusion))
    matched = [partner[a] for a in range(confusion.shape[0])]
    return np.array(matched + [b for b in range(confusion.shape[1]) if b not in matched])


def count_agreeing_pixels(confusion: np.ndarray, matched: list[tuple[int, int]]) -> int:
    """Number of pixels whose two labels are matched."""
    return sum(int(confusion[pair]) for pair in matched)


def adjusted_rand_index(confusion: np.ndarray) -> float:
    """Adjusted Rand index of two labellings (Hubert and Arabie 1985).

    It is computed in whole numbers, so that every digit is exact: 1 for the same partition,
    also where both have a single cluster, and about 0 for independent labellings.

    ``confusion``: int64 (label a, label b), from :func:`confusion_table`.
    """
    counts = (confusion, confusion.sum(axis=1), confusion.sum(axis=0), confusion.sum())
    pairs, pairs_a, pairs_b, total = (sum(comb(int(n), 2) for n in np.ravel(c)) for c in counts)
    if total == 0 or pairs_a == pairs_b == pairs == total or pairs_a == pairs_b == pairs == 0:
        return 1.0
    expected = Fraction(pairs_a * pairs_b, total)
    limit = Fraction(pairs_a + pairs_b, 2)
    return 1.0 if limit == expected else float((pairs - expected) / (limit - expected))


@dataclass(frozen=True)
class ClusterScores:
    """Scores of ``k`` clusters.

    ``inertia``: Sum of squared scaled distances to the centres, of the best fit.
    ``unexplained``: The inertia as a share of the scaled variance, 0-1.
    ``silhouette``: Mean over a few pixels, -1 to 1, higher is better.
    ``davies_bouldin``: At least 0, lower is better; None if all pixels are in one cluster.
    ``seed_stability``: Mean adjusted Rand index between fits of the same pixels from different
        seeds.
    ``resampling_stability``: The same between fits of different random subsamples, on the pixels
        that two of them have in common.
    """

    k: int
    inertia: float
    unexplained: float
    silhouette: float | None
    davies_bouldin: float | None
    seed_stability: float
    resampling_stability: float

    @property
    def stability(self) -> float:
        """The lower one of both."""
        return min(self.seed_stability, self.resampling_stability)


def measure_seed_stability(labels: Sequence[np.ndarray], k: int) -> float:
    """Mean adjusted Rand index of all pairs of labellings (pixel,) with labels below k."""
    scores = [adjusted_rand_index(confusion_table(a, b, k, k)) for a, b in combinations(labels, 2)]
    return float(np.mean(scores)) if scores else 1.0


def measure_resampling_stability(
    labels: Sequence[np.ndarray], picks: Sequence[np.ndarray]
) -> float:
    """Mean adjusted Rand index of all pairs of fits, on the pixels both were fitted to.

    A fit of a random part of the pixels finds the same clusters again if these are in the data,
    and others if chance has made them (Ben-Hur et al. 2002). Fits from different seeds may agree
    all the same: they see the same pixels.

    ``labels``: Of all pixels (pixel,), by each fit.
    ``picks``: Positions of the pixels that each fit was made of, ascending.
    """
    from sklearn.metrics import adjusted_rand_score

    scores = []
    for (a, pick_a), (b, pick_b) in combinations(zip(labels, picks, strict=True), 2):
        common = np.intersect1d(pick_a, pick_b, assume_unique=True)
        scores.append(adjusted_rand_score(a[common], b[common]))
    return float(np.mean(scores)) if scores else 1.0


def score_clustering(
    scaled: np.ndarray, labels: np.ndarray, few: np.ndarray
) -> tuple[float | None, ...]:
    """Silhouette (Rousseeuw 1987) and Davies-Bouldin index (1979) of labelled pixels.

    ``scaled``: Scaled values (pixel, band), float64.
    ``few``: Positions of the pixels for the silhouette, which needs all distances between them.

    Returns: both scores; None where the pixels have a single label.
    """
    from sklearn.metrics import davies_bouldin_score, silhouette_score

    n, n_few = len(np.unique(labels)), len(np.unique(labels[few]))
    return (
        float(silhouette_score(scaled[few], labels[few])) if 1 < n_few < len(few) else None,
        float(davies_bouldin_score(scaled, labels)) if 1 < n < len(labels) else None,
    )


def find_elbow(scores: Sequence[ClusterScores]) -> int:
    """The k farthest below the chord of the curve of inertia (Satopaa et al. 2011)."""
    k = np.array([s.k for s in scores], dtype=float)
    y = np.array([s.inertia for s in scores])
    if len(k) < 3 or y[0] <= y[-1]:
        return scores[0].k
    chord = (k - k[0]) / (k[-1] - k[0])
    drop = (y[0] - y) / (y[0] - y[-1])
    return scores[int(np.argmax(drop - chord))].k


def recommend_k(scores: Sequence[ClusterScores]) -> tuple[int, str]:
    """One k, and a sentence that says why.

    Numbers below the elbow of the inertia leave much unexplained. From the elbow on, among
    the numbers whose fits agree between seeds and between subsamples, the one with the highest
    silhouette is recommended. The silhouette alone would nearly always choose two: dark and bright.
    """
    elbow = find_elbow(scores)
    candidates = [s for s in scores if s.k >= elbow]
    stable = [s for s in candidates if s.stability >= MIN_STABILITY]
    if not stable:
        best = max(candidates, key=lambda s: s.stability)
        return best.k, (
            f"from the elbow of the inertia (k = {elbow}) on, no fits agree between seeds and "
            f"between subsamples with an adjusted Rand index of {MIN_STABILITY}; k = {best.k} "
            f"comes nearest with {best.seed_stability:.3f} and {best.resampling_stability:.3f}."
        )
    best = max(stable, key=lambda s: -1.0 if s.silhouette is None else s.silhouette)
    silhouette = "none" if best.silhouette is None else f"{best.silhouette:.3f}"
    return best.k, (
        f"of the numbers from the elbow of the inertia (k = {elbow}) on whose fits agree "
        f"between seeds and between subsamples ({len(stable)} of {len(candidates)}), k = {best.k} "
        f"has the highest silhouette ({silhouette}; stability {best.seed_stability:.3f} and "
        f"{best.resampling_stability:.3f})."
    )
