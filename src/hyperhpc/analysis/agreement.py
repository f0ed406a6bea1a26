"""How far two sets of labels agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from math import comb

import numpy as np


def confusion_table(a: np.ndarray, b: np.ndarray, n_a: int, n_b: int) -> np.ndarray:
    """Number of pixels with each pair of labels.

    Parameters
    ----------
    a, b
        Labels (pixel,), integers below ``n_a`` and ``n_b``; no-data left out.

    Returns
    -------
    int64 (label a, label b).
    """
    pairs = a.astype(np.int64) * n_b + b
    return np.bincount(pairs, minlength=n_a * n_b).reshape(n_a, n_b)


def match_labels(confusion: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of labels, each used once, that let most pixels agree (Kuhn 1955, Munkres 1957).

    Parameters
    ----------
    confusion
        int64 (label a, label b).

    Returns
    -------
    (label a, label b) by ascending a; of the side with more clusters some have no partner.
    """
    from scipy.optimize import linear_sum_assignment

    first, second = linear_sum_assignment(confusion, maximize=True)
    return list(zip(first.tolist(), second.tolist(), strict=True))


def agreeing_pixels(confusion: np.ndarray, matched: list[tuple[int, int]]) -> int:
    """Pixels whose two labels are matched."""
    return sum(int(confusion[pair]) for pair in matched)


def adjusted_rand_index(confusion: np.ndarray) -> float:
    """Adjusted Rand index of two labellings (Hubert and Arabie 1985, J. Classif. 2, 193).

    Parameters
    ----------
    confusion
        int64 (label a, label b): number of pixels with both labels.

    Returns
    -------
    1 for the same partition, about 0 for independent ones; computed in whole numbers,
    exact to the last digit. 1 where both have a single cluster.
    """
    pairs = sum(comb(int(n), 2) for n in confusion.ravel())
    pairs_a = sum(comb(int(n), 2) for n in confusion.sum(axis=1))
    pairs_b = sum(comb(int(n), 2) for n in confusion.sum(axis=0))
    total = comb(int(confusion.sum()), 2)
    if total == 0 or pairs_a == pairs_b == pairs == total or pairs_a == pairs_b == pairs == 0:
        return 1.0
    expected = Fraction(pairs_a * pairs_b, total)
    limit = Fraction(pairs_a + pairs_b, 2)
    return 1.0 if limit == expected else float((pairs - expected) / (limit - expected))


# How many clusters: what each number is judged by, and which one is recommended.

#: Fits that agree less than this from seed to seed are called unstable.
STABLE = 0.9


@dataclass(frozen=True)
class Judged:
    """One number of clusters.

    Attributes
    ----------
    k
        The number.
    inertia
        Sum of squared scaled distances to the centres, of the best fit.
    unexplained
        Share of the scaled variance that it is.
    silhouette
        Mean over a few pixels, -1 to 1, high is good; None where one cluster holds all.
    davies_bouldin
        At least 0, low is good; None likewise.
    stability
        Mean adjusted Rand index of the fits from different seeds, taken two by two.
    """

    k: int
    inertia: float
    unexplained: float
    silhouette: float | None
    davies_bouldin: float | None
    stability: float


def stability_of(labels: Sequence[np.ndarray], k: int) -> float:
    """Mean adjusted Rand index of all pairs of labellings (pixel,) with labels below k."""
    scores = [
        adjusted_rand_index(confusion_table(a, b, k, k)) for a, b in combinations(labels, 2)
    ]
    return float(np.mean(scores)) if scores else 1.0


def judge(scaled: np.ndarray, labels: np.ndarray, few: np.ndarray) -> tuple[float | None, ...]:
    """Silhouette (Rousseeuw 1987) and Davies-Bouldin index (1979) of labelled pixels.

    Parameters
    ----------
    scaled
        Scaled values (pixel, band), float64.
    labels
        (pixel,).
    few
        Positions of the pixels of the silhouette, which takes all distances between them.
    """
    from sklearn.metrics import davies_bouldin_score, silhouette_score

    n, n_few = len(np.unique(labels)), len(np.unique(labels[few]))
    return (
        float(silhouette_score(scaled[few], labels[few])) if 1 < n_few < len(few) else None,
        float(davies_bouldin_score(scaled, labels)) if 1 < n < len(labels) else None,
    )


def find_elbow(judged: Sequence[Judged]) -> int:
    """The k farthest below the chord of the curve of inertia (Satopaa et al. 2011)."""
    k = np.array([j.k for j in judged], dtype=float)
    y = np.array([j.inertia for j in judged])
    if len(k) < 3 or y[0] <= y[-1]:
        return judged[0].k
    chord = (k - k[0]) / (k[-1] - k[0])
    drop = (y[0] - y) / (y[0] - y[-1])
    return judged[int(np.argmax(drop - chord))].k


def recommend(judged: Sequence[Judged]) -> tuple[int, str]:
    """One k, and why in a sentence.

    From the elbow of the inertia on, below which much is left unexplained, and among the
    numbers whose fits agree from seed to seed: the one of the highest silhouette. The
    silhouette alone would nearly always choose two: dark and bright.
    """
    elbow = find_elbow(judged)
    beyond = [j for j in judged if j.k >= elbow]
    stable = [j for j in beyond if j.stability >= STABLE]
    if not stable:
        best = max(beyond, key=lambda j: j.stability)
        return best.k, (
            f"from the elbow of the inertia (k = {elbow}) on, no fit agrees from seed to seed "
            f"by an adjusted Rand index of {STABLE}; k = {best.k} comes nearest with "
            f"{best.stability:.3f}."
        )
    best = max(stable, key=lambda j: -1.0 if j.silhouette is None else j.silhouette)
    silhouette = "none" if best.silhouette is None else f"{best.silhouette:.3f}"
    return best.k, (
        f"of the numbers from the elbow of the inertia (k = {elbow}) on whose fits agree from "
        f"seed to seed ({len(stable)} of {len(beyond)}), k = {best.k} has the highest "
        f"silhouette ({silhouette}; stability {best.stability:.3f})."
    )
