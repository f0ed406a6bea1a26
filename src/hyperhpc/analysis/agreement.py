"""How far two sets of labels agree."""

from __future__ import annotations

from fractions import Fraction
from math import comb

import numpy as np


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
