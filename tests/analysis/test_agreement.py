"""The adjusted Rand index against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score
from sklearn.metrics.cluster import contingency_matrix

from hyperhpc.analysis.agreement import adjusted_rand_index


@pytest.mark.parametrize("seed", range(8))
def test_adjusted_rand_index__scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a = rng.integers(0, 6, 2000)
    b = np.where(rng.random(2000) < seed / 8, a, rng.integers(0, 9, 2000))
    confusion = contingency_matrix(a, b).astype(np.int64)
    found = adjusted_rand_index(confusion)
    np.testing.assert_allclose(found, adjusted_rand_score(a, b), rtol=1e-12, atol=1e-15)
    assert adjusted_rand_index(confusion.T) == found
    padded = np.pad(confusion[::-1], 2)  # other numbers and empty clusters change nothing
    assert adjusted_rand_index(padded) == found


@pytest.mark.parametrize(
    ("confusion", "expected"),
    [
        ([[5, 0], [0, 7]], 1.0),
        ([[0, 5], [7, 0]], 1.0),  # the same partition under other numbers
        ([[12]], 1.0),
        ([[12, 0], [0, 0]], 1.0),
        ([[1, 0], [0, 1]], 1.0),  # each pixel alone, in both
        ([[1]], 1.0),
        ([[0, 0], [0, 0]], 1.0),  # no pixel at all
        ([[6, 6]], 0.0),
        ([[1, 1]], 0.0),  # one cluster against each pixel alone
        ([[1, 1], [1, 1]], -0.5),
    ],
)
def test_adjusted_rand_index__limits(confusion: list[list[int]], expected: float) -> None:
    found = adjusted_rand_index(np.array(confusion, dtype=np.int64))
    assert found == expected
    assert isinstance(found, float)


def test_adjusted_rand_index__billions_of_pixels() -> None:
    """Pairs beyond int64; the value does not depend on the size of the scene."""
    small = np.array([[900, 80], [70, 950]], dtype=np.int64)
    found = adjusted_rand_index(small * 10**10)
    assert 0.7 < found < 0.73
    np.testing.assert_allclose(found, adjusted_rand_index(small * 10**6), rtol=1e-8)
