"""How far two sets of labels agree."""

from __future__ import annotations

from fractions import Fraction
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
